"""Each step of the tutorial works as the page says, in the order of the page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.apis import free_port
from tests.conftest import ROOT
from tests.executions import until
from tests.test_docs import Block, blocks_of

PAGE = ROOT / "docs" / "tutorial" / "first-sync.md"
PORTS = ("3000", "3003", "8000", "8800")
INSTALLATION = "pip install ../nango_dagster"
STATUS = "nango-dagster status contacts"
STATES = iter((r"acme +ok.*\n(.*\n)*globex +ok", r"acme +ok +succeeded .* 3 +\S*\d\d:\d\d"))
"""The states that the reader waits for, in the order of the page: both are ok; acme has three records, not four.

The last execution is not looked at: where the hour begins in between, another one that finds no change follows.
"""
READY = {
    "nango-dagster dev": "Ready",
    "python -m nango_dagster.sample_api --port 8800": "/crm",
    "python receiver.py": "",
}
"""The programs that run until Ctrl-C, and the text that each prints when it is ready."""


class Reader:
    """A person who types the page into terminals, with other ports than the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("NANGO_", "DAGSTER_HOME"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**ours, "PATH": path, "NANGO_PORT": self.ports["3003"], "PYTHONUNBUFFERED": "1"}

    def follow(self, block: Block) -> None:
        """Do what a block of the page says."""
        text = re.sub("|".join(PORTS), lambda port: self.ports[port[0]], block.text)
        if block.language == "bash":
            self.type(block.text.splitlines())
        elif block.title in READY:
            until(lambda: self.printed(block.title) == text, 300, str(block))
        elif block.title:
            (self.folder / block.title).write_text(text)
        elif block.language == "text":
            assert self.answer == text, str(block)

    def type(self, commands: list[str]) -> None:
        for command in commands:
            typed = re.sub("|".join(PORTS), lambda port: self.ports[port[0]], command)
            if command in READY:
                self.start(command, f"{typed} --port {self.ports['3000']}" if command.endswith("dev") else typed)
            elif command == STATUS:
                state = next(STATES)
                self.wait_for(typed, state)
            else:
                self.answer = self.run(typed)

    def wait_for(self, command: str, state: str) -> None:
        """Repeat a command until it prints a text that matches `state`."""
        try:
            until(partial(self.shows, command, state), 300, state)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.answer}\n{self.printed('nango-dagster dev')[-8000:]}") from None

    def shows(self, command: str, pattern: str) -> bool:
        self.answer = self.run(command)
        return re.search(pattern, self.answer) is not None

    def run(self, command: str) -> str:
        """Run a command to its end; its standard output."""
        shell = ["bash", "-c", command]
        done = subprocess.run(shell, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str, typed: str) -> None:
        with self.log(command).open("wb") as log:
            shell = ["bash", "-c", f"exec {typed}"]
            self.programs[command] = subprocess.Popen(
                shell, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: READY[command] in self.printed(command), 300, f"{command} is ready")

    def log(self, command: str) -> Path:
        return self.folder / f"{command.split()[-1]}.log"

    def printed(self, command: str) -> str:
        """The output of a program, without the lines that Python's server logs."""
        text = self.log(command).read_text()
        assert self.programs[command].poll() is None, text
        return re.sub(r".*\"POST /hook .*\n", "", text)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    for program in reader.programs.values():
        program.terminate()
    for program in reader.programs.values():
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=60)
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)


@pytest.mark.acceptance
@pytest.mark.long
@pytest.mark.timeout(900)  # on a busy machine
def test_the_tutorial_typed_as_written_ends_with_a_change_that_reaches_the_application(reader: Reader) -> None:
    installation, *steps = blocks_of(PAGE)
    assert INSTALLATION in installation.text  # the tests run where it was done
    for block in steps:
        lines = [line for line in block.text.splitlines() if line != ". .venv/bin/activate"]
        if block.language == "bash":
            reader.type(lines)
        else:
            reader.follow(block)
