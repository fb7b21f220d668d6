"""One process, measured from its start to its end: seconds, CPU of its tree, peak memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOOK_SECONDS = 0.02
_LINES_SHOWN = 20


class BenchmarkFailed(Exception):
    """A contestant failed, so its figures have no meaning."""


@dataclass(frozen=True)
class Usage:
    """The time, CPU and memory of a process."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Usage:
    """Run a program to its end. Raises BenchmarkFailed, with the end of its output, when it says that it failed."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        with _Watch(process.pid) as watch:
            # Unlike RUSAGE_CHILDREN this is of this child alone, with those that it has waited for.
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = "\n".join(output.read().splitlines()[-_LINES_SHOWN:])
            raise BenchmarkFailed(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
        return Usage(seconds, usage.ru_utime + usage.ru_stime, watch.peak / 1e6)


class _Watch(threading.Thread):
    """Looks at the memory of a process now and then.

    The kernel's own maximum (`ru_maxrss`) begins with the memory of whoever started the process, here more than some
    contestants use.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.peak = max(self.peak, self._process.memory_info().rss)
            except psutil.Error:
                return  # it has just ended
            self._over.wait(_LOOK_SECONDS)

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
