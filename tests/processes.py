"""Processes that a test starts: forked from one that has imported what they need."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias

Main: TypeAlias = Callable[[], None]

(DAGSTER,) = entry_points(group="console_scripts", name="dagster")
"""The command `dagster`, as pip installs it."""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([DAGSTER.module, "nango_dagster.defs", "tests.executions"])


class Command:
    """A command with its arguments in a process of its own, used as `subprocess.Popen` is."""

    def __init__(self, main: Main, arguments: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        """Start it in this folder with these environment variables."""
        self._output = folder / f"output-{len(list(folder.glob('output-*')))}"
        self._output.touch()
        self._arguments = arguments
        target = (main, ["command", *arguments], folder, dict(env), self._output)
        self._process = PROCESSES.Process(target=_run, args=target)
        self._process.start()
        atexit.register(self._process.kill)  # it may have children, so that multiprocessing would wait for it

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> str:
        """Wait for its end, and return its output."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired([*self._arguments], timeout, self._output.read_bytes())
        return self._output.read_text()


def _run(main: Main, argv: Sequence[str], folder: Path, env: Mapping[str, str], output: Path) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [*argv]
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    main()
