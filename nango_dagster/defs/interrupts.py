"""SIGTERM, Ctrl-C and the UI's "Terminate" stop an execution at its next page, not in the middle of a statement.

Dagster tells a run to stop with a signal whose handler raises wherever the main thread happens to be. Inside a
database driver that leaves a transaction behind that nobody ends, with the locks it holds.
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
"""Who has not stopped by himself after this long is interrupted where he is."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While this is open a signal calls `stop`; at the end, it does what it would have done before.

    The second signal does so at once, and so does the first in a block of `at_once`, which is for code that is not
    ours and may sleep for long. Outside the main thread no signals arrive and nothing happens.
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
        """A signal in this block raises, as it would without us."""
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
