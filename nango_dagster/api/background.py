"""What a request asks for but does not wait for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .. import clock
from .gate.guard import frames

log = logging.getLogger(__name__)


class Joined:
    """Does something in the background soon after it was asked for; what is asked meanwhile is done in one go.

    Never twice at a time, and never again within `pause` seconds. `work` says whether it did it; what it did not do
    is tried again after the pause.
    """

    def __init__(self, work: Callable[[], bool], *, settle: float, pause: float) -> None:
        self._attempt = work
        self._settle = settle
        self._pause = pause
        self._lock = threading.Lock()
        self._wanted = False
        self._not_before = float("-inf")
        self._thread: threading.Thread | None = None
        self.closed = threading.Event()

    def ask(self) -> None:
        """Have it done; returns at once."""
        with self._lock:
            self._wanted = True
            if self._thread is None and not self.closed.is_set():
                self._thread = threading.Thread(target=self._run, name="nango-api-background", daemon=True)
                self._thread.start()

    def close(self, *, finish: bool = False) -> None:
        """Stop; with `finish`, what was asked for is done first."""
        self.closed.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(5)
        if finish and self._wanted:
            self._work()

    def _run(self) -> None:
        while self._turn():
            done = self._work()
            with self._lock:
                self._wanted = self._wanted or not done

    def _work(self) -> bool:
        try:
            return self._attempt()
        except Exception as error:
            log.error("in the background: %s", "".join(frames(error)))
            return False

    def _turn(self) -> bool:
        """Wait for the next turn; whether there is something to do in it."""
        self.closed.wait(max(self._settle, self._not_before - clock.monotonic()))
        with self._lock:
            if self.closed.is_set() or not self._wanted:
                self._thread = None
                return False
            self._wanted = False
            self._not_before = clock.monotonic() + self._pause
            return True
