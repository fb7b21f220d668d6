"""Dagster's daemon with its code server and runs, and what each of them takes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import psutil

from . import databases
from .measure import BenchmarkFailed

_LOOK_SECONDS = 0.1
_LINES_SHOWN = 20


@dataclass(frozen=True)
class Taken:
    """CPU seconds, by who used them."""

    runs: float = 0.0
    daemon: float = 0.0
    code_server: float = 0.0
    server: float = 0.0
    """PostgreSQL; 0 where there is none."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.runs + self.daemon + self.code_server + self.server


@dataclass(frozen=True)
class _Times:
    """CPU seconds of a process, and of those that it started."""

    own: float = 0.0
    children: float = 0.0


class Deployment:
    """A daemon, which starts a code server, which starts runs; all of them end with it."""

    def __init__(self, folder: Path, env: Mapping[str, str], server: databases.Database) -> None:
        self._server = server
        self._log = (folder / "dagster.log").open("w+")
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "nango_dagster.definitions"]
        with contextlib.ExitStack() as clean:
            clean.callback(self._log.close)
            self._process = subprocess.Popen(
                [*command, "--log-level", "warning"],
                cwd=folder,
                env={**_inherited(), **env},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
            clean.pop_all()
        self._daemon = psutil.Process(self._process.pid)
        self._used: dict[psutil.Process, _Times] = {}
        self._before = self._used
        self._server_before = 0.0
        self._memory: list[tuple[datetime, int]] = []
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Deployment:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watch.join()
        children = self._daemon.children(recursive=True) if self._daemon.is_running() else []
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in [*children, self._daemon]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        self._log.close()

    def check(self) -> None:
        """Raise BenchmarkFailed if it has ended."""
        if self._process.poll() is not None:
            raise BenchmarkFailed(f"the daemon ended with {self._process.returncode}:\n{self.said()}")

    def said(self) -> str:
        """The end of what it logged."""
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-_LINES_SHOWN:])

    def begin(self) -> None:
        """Begin to count CPU seconds."""
        self._look_at_all()
        self._before = dict(self._used)
        self._server_before = self._server.cpu_seconds() or 0.0
        self._memory.clear()

    def taken(self) -> Taken:
        """The CPU seconds since `begin`."""
        self._look_at_all()
        daemon = own = of_runs = 0.0
        for process, times in list(self._used.items()):
            before = self._before.get(process, _Times())
            if process == self._daemon:
                daemon = times.own - before.own
            else:
                own += times.own - before.own
                of_runs += times.children - before.children
        return Taken(of_runs, daemon, own, (self._server.cpu_seconds() or 0.0) - self._server_before)

    def peak(self, until: datetime | None = None) -> float:
        """The most megabytes that a run used, up to a moment."""
        return max((bytes_ for at, bytes_ in self._memory if until is None or at <= until), default=0) / 1e6

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._look_at_all()

    def _look_at_all(self) -> None:
        """Note the CPU seconds of the daemon and of every code server, which comes and goes, and the runs' memory."""
        largest = 0
        for process in [self._daemon, *self._code_servers()]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                children = times.children_user + times.children_system  # runs that have ended: it waited for them
                if process != self._daemon:
                    for run in process.children():
                        largest = max(largest, run.memory_info().rss)
                        children += sum(run.cpu_times()[:4])
                self._used[process] = _Times(times.user + times.system, children)
        self._memory.append((datetime.now(timezone.utc), largest))

    def _code_servers(self) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.Error):
            for child in self._daemon.children():
                if "grpc" in child.cmdline():
                    found.append(child)
        return found


def _inherited() -> dict[str, str]:
    """This process's environment, without a Dagster or Nango of the developer's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NANGO_", "DAGSTER_"))}
