"""Work that requests start and do not wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .. import clock
from .gate.guard import frames

log = logging.getLogger(__name__)


class CombinedWork:
    """Calls `work` in a background thread, once for all requests of the last `settle` seconds.

    There is one call at a time, and at least `pause` seconds between two. `work` returns whether it succeeded; if not,
    it is called again after the pause.
    """

    def __init__(self, work: Callable[[], bool], *, settle: float, pause: float) -> None:
        self._attempt = work
        self._settle = settle
        self._pause = pause
        self._lock = threading.Lock()
        self._requested = False
        self._not_before = float("-inf")
        self._thread: threading.Thread | None = None
        self.closed = threading.Event()

    def request(self) -> None:
        """Request a call of `work`; returns at once."""
        with self._lock:
            self._requested = True
            if self._thread is None and not self.closed.is_set():
                self._thread = threading.Thread(target=self._run, name="nango-api-background", daemon=True)
                self._thread.start()

    def close(self, *, finish: bool = False) -> None:
        """Stop the thread; with `finish`, do the requested work first."""
        self.closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(5)
        if finish and self._requested:
            self._work()

    def _run(self) -> None:
        while self._wait_for_request():
            is_done = self._work()
            with self._lock:
                self._requested = self._requested or not is_done

    def _work(self) -> bool:
        try:
            return self._attempt()
        except Exception as error:
            log.error("in the background: %s", "".join(frames(error)))
            return False

    def _wait_for_request(self) -> bool:
        """Wait until the next call is allowed; return whether it was requested."""
        self.closed.wait(max(self._settle, self._not_before - clock.monotonic()))
        with self._lock:
            if self.closed.is_set() or not self._requested:
                self._thread = None
                return False
            self._requested = False
            self._not_before = clock.monotonic() + self._pause
            return True
