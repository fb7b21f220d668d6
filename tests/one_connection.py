"""Finds the code that asks the pool for a connection while its thread holds one.

With as many such threads as the pool has connections, each would wait for the others.
"""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster
from sqlalchemy import event
from sqlalchemy.pool import Pool

import nango_dagster

_PACKAGE = str(Path(nango_dagster.__file__).parent)
_TESTS = str(Path(__file__).parent)
_KNOWN = (_PACKAGE, _TESTS, str(Path(dagster.__file__).parent))  # Dagster has pools of its own
_PASSED_ON = {
    *map(str, Path(_PACKAGE, "store").glob("engine*.py")),
    str(Path(_PACKAGE, "store", "database.py")),
    __file__,
}


@dataclass
class Watch:
    """The connections that each thread holds; nested ones are in `nested`."""

    nested: list[str] = field(default_factory=list)
    _held: dict[int, tuple[int, str]] = field(default_factory=dict)

    def start(self) -> None:
        """Look at every pool of this process from now on."""
        event.listen(Pool, "checkout", self._goes_out)
        event.listen(Pool, "checkin", self._comes_back)

    def _goes_out(self, _connection: Any, record: Any, _proxy: Any) -> None:
        if (who := _asking()) is None:
            return
        thread = threading.get_ident()
        self.nested += [f"{who}, while {other} held one" for owner, other in [*self._held.values()] if owner == thread]
        self._held[id(record)] = thread, who

    def _comes_back(self, _connection: Any, record: Any) -> None:
        self._held.pop(id(record), None)


def _asking() -> str | None:
    """The line of the package that asks for a connection; None where a test does, Dagster, or what a test hands in."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_stack(sys._getframe(1))]
    known = [(file, line) for file, line in frames if file.startswith(_KNOWN) and file not in _PASSED_ON]
    if not known or not known[0][0].startswith(_PACKAGE):
        return None
    is_test = [file.startswith(_TESTS) for file, _ in known]
    if True in is_test and False in is_test[is_test.index(True) :]:
        return None  # the package calls the test, which calls the package
    return f"{known[0][0][len(_PACKAGE) + 1 :]}:{known[0][1]}"
