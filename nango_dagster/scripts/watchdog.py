"""Runs Python scripts in threads of their own, and ends those that neither return nor call `nango`.

A script that calls `nango` is stopped there. One that loops without a call gets an exception from outside, as soon as
it executes Python code. A call into C code, such as `socket.recv` without a timeout, cannot be interrupted: its thread
is abandoned. The fence of its sink is closed first, so that it can store nothing whenever it returns; it ends with the
process. C code that keeps Python's lock, such as a regular expression that explodes, stops every thread of the process:
then `faulthandler`, which needs no lock, writes the lines of all threads to standard error and ends the process.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Generic, TypeVar

from .. import clock
from ..errors import ScriptError
from .fence import FencedSink

GRACE_SECONDS: Final = 5.0
"""How long a script may go on after it should have ended, and again before its thread is abandoned."""
POLL_SECONDS: Final = 0.5
FROZEN_SECONDS: Final = 60.0
"""How long C code may keep Python's lock: shorter than a lease, as no heartbeat is sent meanwhile."""
MOST_ABANDONED: Final = 100
"""So many abandoned threads may be in a process; then its scripts fail at once."""
_PACKAGE: Final = str(Path(__file__).parent.parent)
_MEMORY: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096
_STANDARD_ERROR: Final = 2

Result = TypeVar("Result")
_lock = threading.Lock()
_running: list[_Watchdog[Any]] = []
"""The scripts of this process, the one that runs for the longest time first."""
_abandoned: list[threading.Thread] = []


class Stopped(BaseException):
    """Raised inside a script that has to end; no `except Exception` catches it."""


@dataclass(frozen=True)
class Limits:
    """When a script has to end, and where its code is."""

    name: str
    """The name of the sync, for sentences."""
    file: str | None
    max_duration: float | None
    is_stopped: Callable[[], bool]
    most_bytes: int | None
    """The limit of the process: where it is exceeded, the script that runs for the longest time ends."""


def run_watched(script: Callable[[], Result], limits: Limits, fence: FencedSink) -> Result:
    """Run a script in a thread of its own, and return or raise what it does.

    Raises ScriptError with the line of the script and the reason where it had to be stopped. An interrupt of this
    thread, such as KeyboardInterrupt, stops the script, too.
    """
    with _lock:
        _abandoned[:] = [thread for thread in _abandoned if thread.is_alive()]
        count = len(_abandoned)
    if count >= MOST_ABANDONED:
        raise ScriptError(
            f"{limits.name}: it was not started: {count} scripts of this process do not return from C code."
        )
    return _Watchdog(_Thread(script), limits, fence).run()


class _Thread(threading.Thread, Generic[Result]):
    """Runs one script."""

    def __init__(self, script: Callable[[], Result]) -> None:
        super().__init__(name="nango-script", daemon=True)
        self.is_over = threading.Event()
        self.result: Result
        self.error: BaseException | None = None
        self._script = script
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Run the script in the context of the thread that made this one."""
        try:
            self.result = self._context.run(self._script)
        except BaseException as error:  # raised again by the thread that waits
            self.error = error
        finally:
            self.is_over.set()


class _Watchdog(Generic[Result]):
    """Waits for one script."""

    def __init__(self, thread: _Thread[Result], limits: Limits, fence: FencedSink) -> None:
        self._thread = thread
        self._limits = limits
        self._fence = fence
        self._until = None if limits.max_duration is None else clock.monotonic() + limits.max_duration + GRACE_SECONDS
        self._cancelled_at: float | None = None
        self._stopped_at: float | None = None
        self._reason: str | None = None

    def run(self) -> Result:
        """Wait for the end of the script, and return or raise what it does."""
        with self._registered():
            try:
                self._thread.start()
                while not self._thread.is_over.wait(POLL_SECONDS):
                    self._look()
            except BaseException as interrupt:  # also the decision to abandon the script
                self._fence.close(interrupt)
                self._stop()
                raise
        error = self._thread.error
        if isinstance(error, Stopped):
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == self._limits.file]
            raise self._error(lines[-1] if lines else None) from None
        if error is not None:
            raise error
        return self._thread.result

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        with _lock:
            _running.append(self)
            _expect_progress()
        try:
            yield
        finally:
            with _lock:
                _running.remove(self)
                if not _running:
                    faulthandler.cancel_dump_traceback_later()

    def _look(self) -> None:
        """Stop the script where it has to end, and abandon its thread where that has no effect."""
        with _lock:
            is_oldest = _running[0] is self
            if is_oldest:
                _expect_progress()
        now = clock.monotonic()
        self._reason = self._reason or self._reason_to_end(now, is_oldest=is_oldest)
        frame = self._script_frame()
        if self._reason is None or frame is None:  # a call of nango has limits of its own
            return
        self._stopped_at = self._stopped_at or now
        if now - self._stopped_at < GRACE_SECONDS:
            self._stop()
        elif self._fence.try_to_close(error := self._error(frame.f_lineno, is_abandoned=True)):
            with _lock:
                _abandoned.append(self._thread)
            raise error

    def _reason_to_end(self, now: float, *, is_oldest: bool) -> str | None:
        if self._until is not None and now >= self._until:
            return "it was stopped after max_duration, as it called nothing of nango"
        if self._limits.is_stopped():
            self._cancelled_at = self._cancelled_at or now
            if now - self._cancelled_at >= GRACE_SECONDS:
                return "it was stopped after the cancellation, as it called nothing of nango"
        most_bytes = self._limits.most_bytes
        if most_bytes is not None and is_oldest and (size := _memory()) > most_bytes:
            return (
                f"it was stopped, as the process uses {size / 1e9:.1f} GB of memory, more than NANGO_SCRIPT_MEMORY_MB "
                f"({most_bytes / 1e6:.0f}), and of its scripts this one runs for the longest time"
            )
        return None

    def _stop(self) -> None:
        """Raise Stopped in the script, where it executes its own code."""
        with self._fence.between_calls() as is_free:
            if is_free and self._thread.ident is not None and self._script_frame() is not None:
                thread_id, kind = ctypes.c_ulong(self._thread.ident), ctypes.py_object(Stopped)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, kind)

    def _script_frame(self) -> FrameType | None:
        """The script's frame where the thread executes its code, and not code of this package on its behalf."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        while frame is not None and frame.f_code.co_filename != self._limits.file:
            if frame.f_code.co_filename.startswith(_PACKAGE):
                return None
            frame = frame.f_back
        return frame

    def _error(self, line: int | None, *, is_abandoned: bool = False) -> ScriptError:
        place = f"{os.path.basename(self._limits.file)}, line {line}" if self._limits.file and line else "the script"
        sentence = f"{self._limits.name}: {place}: {self._reason}."
        if is_abandoned:
            sentence += " The call does not return; its thread stores nothing any more, and ends with the process."
        return ScriptError(sentence)


def _expect_progress() -> None:
    """End the process where no Python code is executed for FROZEN_SECONDS from now on."""
    faulthandler.dump_traceback_later(FROZEN_SECONDS, exit=True, file=_STANDARD_ERROR)


def _memory() -> int:
    """The bytes of memory that this process has; 0 where the system does not tell."""
    try:
        return int(_MEMORY.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
