"""Ends Python scripts that neither return nor call `nango`: after `max_duration`, a cancellation, or for their memory.

A script that calls `nango` is stopped there. One that loops without a call gets an exception from outside, as soon as
it executes Python code; a call into C code, such as a long sleep, ends first.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from .. import clock

GRACE_SECONDS: Final = 5.0
"""How long a script may go on after it should have ended."""
POLL_SECONDS: Final = 0.5
_PACKAGE: Final = str(Path(__file__).parent.parent)
_MEMORY: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = 4096


class Stopped(BaseException):
    """Raised inside a script that has to end; no `except Exception` catches it."""


@dataclass(eq=False)
class _Watch:
    """One running script."""

    thread_id: int
    file: str | None
    until: float | None
    is_stopped: Callable[[], bool]
    most_bytes: int | None
    stopped_at: float | None = None
    reason: str | None = field(default=None)


_watches: list[_Watch] = []
_lock = threading.Lock()
_thread: threading.Thread | None = None


@contextlib.contextmanager
def watched(
    file: str | None, max_duration: float | None, is_stopped: Callable[[], bool], most_bytes: int | None
) -> Iterator[Callable[[], str | None]]:
    """Watch the script that this thread runs; the function gives the reason why it was stopped, None where it was not.

    `most_bytes` is the limit of the process: where it is exceeded, the script that runs for the longest time ends.
    """
    global _thread
    until = None if max_duration is None else clock.monotonic() + max_duration + GRACE_SECONDS
    watch = _Watch(threading.get_ident(), file, until, is_stopped, most_bytes)
    with _lock:
        _watches.append(watch)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="nango-script-watchdog", daemon=True)
            _thread.start()
    try:
        yield lambda: watch.reason
    finally:
        with _lock:
            _watches.remove(watch)
            _raise_in(watch.thread_id, None)


def _run() -> None:
    global _thread
    pause = threading.Event()
    while True:
        pause.wait(POLL_SECONDS)
        with _lock:
            if not _watches:
                _thread = None
                return
            for watch in _watches:
                if (reason := _reason(watch)) and _is_in_script(watch):
                    watch.reason = reason
                    _raise_in(watch.thread_id, Stopped)


def _reason(watch: _Watch) -> str | None:
    now = clock.monotonic()
    if watch.until is not None and now >= watch.until:
        return "it was stopped after max_duration, as it called nothing of nango"
    if watch.is_stopped():
        watch.stopped_at = watch.stopped_at or now
        if now - watch.stopped_at >= GRACE_SECONDS:
            return "it was stopped after the cancellation, as it called nothing of nango"
    size = _memory() if watch.most_bytes is not None and watch is _watches[0] else 0
    if watch.most_bytes is not None and size > watch.most_bytes:
        return (
            f"it was stopped, as the process uses {size / 1e9:.1f} GB of memory, more than NANGO_SCRIPT_MEMORY_MB "
            f"({watch.most_bytes / 1e6:.0f}), and of its scripts this one runs for the longest time"
        )
    return None


def _memory() -> int:
    """The bytes of memory that this process has; 0 where the system does not tell."""
    try:
        return int(_MEMORY.read_text().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def _is_in_script(watch: _Watch) -> bool:
    """Whether the thread executes code of the script, and not of this package on its behalf."""
    frame: FrameType | None = sys._current_frames().get(watch.thread_id)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == watch.file:
            return True
        if name.startswith(_PACKAGE):
            return False
        frame = frame.f_back
    return False


def _raise_in(thread_id: int, kind: type[BaseException] | None) -> None:
    """Raise an exception in a thread, or take one back that was not raised yet."""
    exception = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), exception)
