"""Processes that run together: until Ctrl-C, or until one of them dies; none outlives this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

POLL_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 20
"""So long may a child take to end what it does: a run that is told to stop ends its job as cancelled."""
LAST_SECONDS: Final = 5
"""So long may what it has left behind take, before it is killed."""


class Child:
    """A process with a session of its own, so that a Ctrl-C on the terminal reaches it only through us."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints goes to stderr."""
        self._process = subprocess.Popen(
            self._arguments,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    @property
    def returncode(self) -> int | None:
        """What it ended with, None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self.returncode or 0
        return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    @property
    def status(self) -> int:
        """The status for who ends because this child did: its own, but never 0, and as a shell says signals."""
        code = self.returncode or 1
        return code if code > 0 else 128 - code

    def ask_to_end(self) -> None:
        """Tell it to end, as Ctrl-C would; it tells its own children."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait_until(self, deadline: float) -> None:
        """Wait for its end until `deadline`."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - time.monotonic()))

    def end_all_of_it(self) -> None:
        """End whatever is left of it and of what it started: politely, then for certain."""
        if self._process is None:
            return
        deadline = time.monotonic() + LAST_SECONDS
        self._signal_all(signal.SIGTERM)
        while self._is_left() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_all(signal.SIGKILL)
        self._process.wait()

    def _is_left(self) -> bool:
        self.returncode  # noqa: B018 - a child that is not waited for counts as left
        return self._signal_all(0)

    def _signal_all(self, number: int) -> bool:
        """Signal the whole session; whether there was anybody."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of zombies
            return False
        return True


def run_together(children: Sequence[Child], when_ready: Callable[[], bool]) -> Child | None:
    """Run the children until Ctrl-C or SIGTERM, or until one dies: that one is returned.

    `when_ready` is asked again and again, until it says that it has done what it waits for.
    """
    with _told_to_end() as told:
        try:
            for child in children:
                child.start()
            return _watch(children, when_ready, told)
        finally:
            _end(children)


def _watch(children: Sequence[Child], when_ready: Callable[[], bool], told: list[int]) -> Child | None:
    ready = False
    while not told:
        dead = next((child for child in children if child.returncode is not None), None)
        if dead is not None:
            return dead
        ready = ready or when_ready()
        time.sleep(POLL_SECONDS)
    return None


def _end(children: Sequence[Child]) -> None:
    for child in children:
        child.ask_to_end()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for child in children:
        child.wait_until(deadline)
    for child in children:
        child.end_all_of_it()


@contextlib.contextmanager
def _told_to_end() -> Iterator[list[int]]:
    """A list that Ctrl-C, SIGTERM and the end of the terminal put their numbers in.

    Not an Event: a signal that arrives while this thread waits for one would wait for its lock for ever.
    Signals that this process was told to ignore (by nohup, or a shell's `&`) stay ignored; but no child inherits an
    ignored SIGINT, for it would not hear us. A second Ctrl-C while the children end changes nothing.
    """
    told: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: told.append(received))
        elif number == signal.SIGINT:
            signal.signal(number, lambda *_: None)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
