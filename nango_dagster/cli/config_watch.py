"""The config files while `dev` runs: when one is added, changed or removed, Dagster loads them again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .. import clock
from .command import Session

if TYPE_CHECKING:
    from ..api import CombinedWork

LOOK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 1.0
"""An editor, or a checkout of git, writes several files one after another."""
PAUSE_SECONDS: Final = 5.0
"""The shortest time between two reloads, each of which costs Dagster 6 to 15 seconds of CPU."""
_SUFFIXES: Final = (".yaml", ".yml", ".json", ".py", ".ts")
_FOREIGN_FOLDERS: Final = {"node_modules", "__pycache__"}

File = tuple[str, int, int]
"""The path of a file, its time of change in ns, and its size in bytes."""


class ConfigWatch:
    """Looks at the folder of configs and at the Nango project; the reload happens in a thread of its own."""

    def __init__(self, session: Session, dagster_url: str) -> None:
        self._session = session
        self._dagster_url = dagster_url
        self._problems = set(map(str, session.problems))
        self._files = self._read()
        self._looked_at = clock.monotonic()
        self._reloads: CombinedWork | None = None

    def look(self) -> None:
        """Request a reload if a file has changed; looks at most once in LOOK_SECONDS, and never waits."""
        if clock.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = clock.monotonic()
        files = self._read()
        if files != self._files:
            self._files = files
            self._reloads = self._reloads or self._background()
            self._reloads.request()

    def close(self) -> None:
        """End the thread; a request that it has sent is left."""
        if self._reloads is not None:
            self._reloads.close()

    def _read(self) -> frozenset[File]:
        settings = self._session.settings
        return frozenset([*_files_of(settings.configs), *_files_of(settings.scripts)])

    def _background(self) -> CombinedWork:
        from ..api import CombinedWork, Reloader

        def work() -> bool:
            self._warn_of_new_problems()
            return reload()

        reloads = CombinedWork(work, settle=SETTLE_SECONDS, pause=PAUSE_SECONDS)
        lock_file = self._session.settings.home / ".reload.lock"
        reload = Reloader(self._dagster_url, lock_file, PAUSE_SECONDS, cancelled=reloads.closed.is_set)
        return reloads

    def _warn_of_new_problems(self) -> None:
        """Describe changed scripts, and print the problems that the files did not have before."""
        session = replace(self._session)  # the copy reads the files again
        session.describe_scripts()
        problems = list(map(str, session.problems))
        for problem in problems:
            if problem not in self._problems:
                session.warn(problem)
        self._problems = set(problems)


def _files_of(folder: Path) -> Iterator[File]:
    """The files that can declare a sync, also those in folders inside this one that are not hidden."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _FOREIGN_FOLDERS and not name.startswith(".")]
        for name in names:
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):  # it was removed meanwhile
                    status = os.stat(path)
                    yield path, status.st_mtime_ns, status.st_size
