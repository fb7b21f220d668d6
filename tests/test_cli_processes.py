"""Processes that run together: when one of them ends, the others end too, and its end becomes the status."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from nango_dagster.cli.processes import Child, run_together

WAITS = "import time; time.sleep(600)"
PARENT = f"""
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
open("grandchild", "w").write(str(grandchild.pid))
time.sleep(600)
"""


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
    file = Path("grandchild")
    dies_once_it_is_there = """
import os, time
while not (os.path.exists("grandchild") and open("grandchild").read()): time.sleep(0.01)
"""
    run_together([child("parent", PARENT), child("dies", dies_once_it_is_there)], lambda: None)
    assert not alive(int(file.read_text()))


def test_the_parent_has_a_turn_again_and_again_while_they_run() -> None:
    turns: list[int] = []
    ends_after_three_turns = """
import os, time
while not os.path.exists("three"): time.sleep(0.01)
"""

    def tick() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            Path("three").touch()

    run_together([child("server", ends_after_three_turns)], tick)
    assert len(turns) >= 3


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
