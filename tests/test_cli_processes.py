"""Processes that run together: when one of them ends, the others end too, and its end becomes the status."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from nango_dagster.cli.processes import Child, run_together

WAITS = "import signal; signal.pause()"
PARENT = f"""
import signal, subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
with open("grandchild", "w") as file: file.write(str(grandchild.pid))
open("go", "w").close()
signal.pause()
"""
READS_GO = "open('go').close()"
"""It ends as soon as somebody opens the pipe `go` to write."""


def child(name: str, code: str) -> Child:
    return Child(name, [sys.executable, "-c", code], os.environ)


@pytest.mark.parametrize(
    ("end", "ending", "status"),
    [
        ("import os; os.kill(os.getpid(), 9)", "signal SIGKILL", 137),
        ("import os; os.kill(os.getpid(), 15)", "signal SIGTERM", 143),
        ("raise SystemExit(3)", "status 3", 3),
        ("pass", "status 0", 1),
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_the_child_that_ended_by_itself_is_named_and_the_others_end(
    end: str, ending: str, status: int, position: int
) -> None:
    """`dev` fails also when a server ends with status 0: it should have gone on."""
    children = [child("the other", WAITS)]
    children.insert(position, child("the dead", end))
    dead = run_together(children, lambda: None)
    assert dead is not None
    assert (dead.name, dead.ending, dead.status) == ("the dead", ending, status)
    assert [one.returncode is None for one in children] == [False, False]


def test_the_processes_of_a_child_end_with_it() -> None:
    os.mkfifo("go")
    run_together([child("parent", PARENT), child("dies", READS_GO)], lambda: None)
    assert not alive(int(Path("grandchild").read_text()))


def test_the_parent_has_a_turn_again_and_again_while_they_run() -> None:
    os.mkfifo("go")
    turns: list[int] = []

    def tick() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            Path("go").open("w").close()

    run_together([child("server", READS_GO)], tick)
    assert len(turns) >= 3


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
