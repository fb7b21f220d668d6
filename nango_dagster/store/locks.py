"""A lock for the threads of one process that shares a resource with other processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from .. import clock
from .engine import Busy

_STREAK_SECONDS = 1.0
"""Seconds after which threads that follow one another without a break leave a gap for other processes."""
_GAP_SECONDS = 0.1
"""The longest time between two looks of SQLite at its lock."""


class FairLock:
    """Lets one thread in at a time, and gives other processes a chance every second.

    Another process only looks at SQLite's lock from time to time. Between two writers of this process the lock is free
    for microseconds, so a busy process would keep all others out.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streak_began = 0.0

    @contextlib.contextmanager
    def held(self, patience: float) -> Iterator[None]:
        """Hold the lock inside the block. Raises Busy when it is not free within `patience` seconds."""
        was_free = not self._lock.locked()
        if not self._lock.acquire(timeout=patience):
            raise Busy("another thread of this process is writing to the database.")
        try:
            if was_free:
                self._streak_began = clock.monotonic()
            elif clock.monotonic() - self._streak_began > _STREAK_SECONDS:
                time.sleep(_GAP_SECONDS)
                self._streak_began = clock.monotonic()
            yield
        finally:
            self._lock.release()
