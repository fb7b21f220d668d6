"""The output of a script: it goes to the log of the run, without secrets, and not to the output of the process."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TextIO

Write = Callable[[str], object]
_write: ContextVar[Write | None] = ContextVar("nango_script_output", default=None)
_lock = threading.Lock()
_users = 0


class _Output(io.TextIOBase):
    """Standard output or error, except for threads that run a script."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write to the log of the thread's script, else to the stream."""
        write = _write.get()
        if write is None:
            return self.stream.write(text)
        token = _write.set(None)  # the log may write to this stream
        try:
            for line in text.splitlines():
                if line.strip():
                    write(line)
        finally:
            _write.reset(token)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """The stream's descriptor, for child processes."""
        return self.stream.fileno()


@contextlib.contextmanager
def printing_to(write: Write) -> Iterator[None]:
    """Hand each line that this thread prints to a function."""
    global _users
    with _lock:
        _users += 1
        if not isinstance(sys.stdout, _Output):
            sys.stdout = _Output(sys.stdout)
        if not isinstance(sys.stderr, _Output):
            sys.stderr = _Output(sys.stderr)
    token = _write.set(write)
    try:
        yield
    finally:
        _write.reset(token)
        with _lock:
            _users -= 1
            if not _users and isinstance(sys.stdout, _Output):
                sys.stdout = sys.stdout.stream
            if not _users and isinstance(sys.stderr, _Output):
                sys.stderr = sys.stderr.stream
