"""Helpers of the tests of the command line: call it in this process or in a new one, and write its configs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner

COMMAND = [sys.executable, "-m", "nango_dagster.cli"]


@dataclass(frozen=True)
class Said:
    """The output of a command, and its exit status."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)


class Cli:
    """The command line with some environment variables."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = {"COLUMNS": "160", **env}  # as wide as what goes into a pipe, whatever terminal runs the tests

    def __call__(self, *arguments: str, answer: str | None = None, **env: str) -> Said:
        """Call it in this process; `answer` is what somebody types."""
        from nango_dagster.cli import main

        result = CliRunner(env={**self.env, **env}).invoke(main, arguments, input=answer, prog_name="nango-dagster")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    def good(self, *arguments: str, **env: str) -> Said:
        """Call it, and expect that it works and has nothing to complain about."""
        said = self(*arguments, **env)
        assert (said.status, said.stderr) == (0, ""), said
        return said

    def process(self, *arguments: str, **env: str) -> Said:
        """Call it as a process of its own."""
        command = [*COMMAND, *arguments]
        ended = subprocess.run(command, env=self.environment(**env), capture_output=True, text=True, timeout=120)
        return Said(ended.returncode, ended.stdout, ended.stderr)

    def start(
        self,
        *arguments: str,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.PIPE,
        **env: str,
    ) -> subprocess.Popen[str]:
        """Start it as a process of its own, and do not wait."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
        )

    def environment(self, **env: str) -> dict[str, str]:
        """The environment of a process."""
        return {**os.environ, **self.env, **env}


def write_sync(name: str, folder: str | Path = "sync_configs", **fields: Any) -> Path:
    """A config file; JSON is YAML, too."""
    path = Path(folder) / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields, indent=2))
    return path
