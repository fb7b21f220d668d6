"""Child processes that run together until Ctrl-C, SIGTERM, or the death of one; none outlives this process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from .. import clock

POLL_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 20
"""The time for a child to end after an interrupt: a run ends its job as cancelled meanwhile."""
LAST_SECONDS: Final = 5
"""The time for the rest of its session to end, before it is killed."""


class Child:
    """A process in a session of its own: a Ctrl-C on the terminal reaches it only through its parent."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output goes to stderr."""
        self._process = subprocess.Popen(
            self._arguments,
            env=dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def ending(self) -> str:
        """The end of the process as text, such as `status 1` or `signal SIGKILL`."""
        code = self.returncode or 0
        return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    @property
    def status(self) -> int:
        """The exit status for a parent that ends because of this child: never 0; 128 + n for signal n."""
        code = self.returncode or 1
        return code if code > 0 else 128 - code

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does; the process ends its own children."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def wait_until(self, deadline: float) -> None:
        """Wait for the end of the process until `deadline`, a time of `clock.monotonic()`."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, deadline - clock.monotonic()))

    def end_session(self) -> None:
        """End the rest of its session: SIGTERM, then SIGKILL after LAST_SECONDS."""
        if self._process is None:
            return
        deadline = clock.monotonic() + LAST_SECONDS
        self._signal_all(signal.SIGTERM)
        while self._is_left() and clock.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_all(signal.SIGKILL)
        self._process.wait()

    def _is_left(self) -> bool:
        self.returncode  # noqa: B018 - reaps the child, which would count as left otherwise
        return self._signal_all(0)

    def _signal_all(self, number: int) -> bool:
        """Send a signal to the whole session; False if it has no process."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of zombies
            return False
        return True


def run_together(children: Sequence[Child], tick: Callable[[], None]) -> Child | None:
    """Run the children until Ctrl-C or SIGTERM, or until one dies; returns the dead child.

    `tick` is called every POLL_SECONDS; it must not wait for anything.
    """
    with _signals_to_end() as signals:
        try:
            for child in children:
                child.start()
            return _watch(children, tick, signals)
        finally:
            _end(children)


def _watch(children: Sequence[Child], tick: Callable[[], None], signals: list[int]) -> Child | None:
    while not signals:
        dead = next((child for child in children if child.returncode is not None), None)
        if dead is not None:
            return dead
        tick()
        time.sleep(POLL_SECONDS)
    return None


def _end(children: Sequence[Child]) -> None:
    for child in children:
        child.interrupt()
    deadline = clock.monotonic() + PATIENCE_SECONDS
    for child in children:
        child.wait_until(deadline)
    for child in children:
        child.end_session()


@contextlib.contextmanager
def _signals_to_end() -> Iterator[list[int]]:
    """A list to which Ctrl-C, SIGTERM and the end of the terminal append their signal numbers.

    Not an Event: a signal handler that runs while this thread waits for the Event would wait for its lock forever.
    Signals that this process ignores (because of nohup, or a shell's `&`) stay ignored. But children must not inherit
    an ignored SIGINT, because `interrupt` sends it. A second Ctrl-C while the children end has no effect.
    """
    signals: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: signals.append(received))
        elif number == signal.SIGINT:
            signal.signal(number, lambda *_: None)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
