"""Stop an execution at its next page on SIGTERM, Ctrl-C and "Terminate", and not in the middle of a statement.

Dagster stops a run with a signal whose handler raises in the main thread, wherever that is. Inside a database driver
this would leave an open transaction with its locks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

PATIENCE_SECONDS = 5.0
"""A run that has not stopped after this time is interrupted."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While the context is open, a signal calls `stop`; when it closes, the signal goes to the former handler.

    The second signal goes there at once, and so does the first one in a block of `at_once`: that is for user code,
    which may sleep for long. Signals arrive in the main thread only; in other threads the context does nothing.
    """

    def __init__(self, stop: Callable[[], None], patience: float = PATIENCE_SECONDS) -> None:
        self._stop = stop
        self._patience = patience
        self._before: dict[int, Any] = {}
        self._received: int | None = None
        self._at_once = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._received is not None:
            number, self._received = self._received, None
            self._pass_on(number, None)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal in this block goes to the former handler at once."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        if self._at_once or self._received is not None:
            self._received = None
            self._pass_on(number, frame)
            return
        self._received = number
        self._timer = threading.Timer(self._patience, os.kill, (os.getpid(), number))
        self._timer.daemon = True
        self._timer.start()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        handler = self._before.get(number)
        if callable(handler):
            handler(number, frame)
        elif handler is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
