"""The Node processes of this process: one for many executions, and one for each that has lost one."""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .host import Host, Limits

_ALONE_AT_ONCE: Final = 2


@dataclass
class _Project:
    """The processes of one project."""

    shared: Host | None = None
    blamed: set[str] = field(default_factory=set)
    """The bundles whose executions have ended a process of their own."""


class Pool:
    """Gives executions a process, and recycles processes; for several threads."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._projects: dict[Path, _Project] = {}
        self._lock = threading.Lock()
        self._alone = threading.Semaphore(_ALONE_AT_ONCE)
        self._retired: list[Host] = []

    @contextlib.contextmanager
    def shared(self, root: Path) -> Iterator[Host]:
        """The process that executions of a project share. Raises HostLost where it does not start."""
        with self._lock:
            project = self._projects.setdefault(root, _Project())
            host = project.shared
            if host is None or not self._takes_more(host):
                if host is not None:
                    self._retired.append(host)
                host = project.shared = Host(root, self.limits)
            host.users += 1
        try:
            yield host
        finally:
            self._close_retired(after=host)

    def _takes_more(self, host: Host) -> bool:
        limits = self.limits
        return not (host.is_lost or host.started >= limits.executions or host.rss > limits.megabytes * 1_000_000)

    @contextlib.contextmanager
    def alone(self, root: Path) -> Iterator[Host]:
        """A process for one execution."""
        with self._alone:
            host = Host(root, self.limits)
            try:
                yield host
            finally:
                host.close()

    def blame(self, root: Path, bundle: str) -> None:
        """Note that an execution has ended its own process: others of the same script get their own from now on."""
        with self._lock:
            self._projects.setdefault(root, _Project()).blamed.add(bundle)

    def is_blamed(self, root: Path, bundle: str) -> bool:
        """Whether an execution of a bundle has ended its own process."""
        with self._lock:
            project = self._projects.get(root)
            return project is not None and bundle in project.blamed

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            hosts = [project.shared for project in self._projects.values() if project.shared is not None]
            hosts += self._retired
            self._projects.clear()
            self._retired.clear()
        for host in hosts:
            host.close()

    def _close_retired(self, after: Host) -> None:
        """Take a process back from an execution, and end the retired ones that have none left."""
        with self._lock:
            after.users -= 1
            idle = [host for host in self._retired if host.users == 0]
            self._retired = [host for host in self._retired if host.users > 0]
        for host in idle:
            host.close()


POOL: Final = Pool()
"""The processes of this process."""
atexit.register(POOL.close)
