"""Whether the process of a worker has ended, where that is certain: on this machine.

After `kill -9`, or when the machine's memory is used up, a process writes nothing more, and its lease would block its
syncs for LEASE_SECONDS. A process on this machine that is gone has lost its lease at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


def identity_of(pid: int) -> str | None:
    """A text that no other process has, now or later: machine, process id, and when the process started.

    None where the system does not say it, or the process has ended.
    """
    machine, started_at = _machine(), _started_at(pid)
    return None if machine is None or started_at is None else f"{machine} {pid} {started_at}"


def has_ended(identity: str | None) -> bool:
    """Whether the process of an identity has certainly ended; False for a process of another machine or container."""
    machine = _machine()
    if identity is None or machine is None or not identity.startswith(f"{machine} "):
        return False
    pid = int(identity.removeprefix(f"{machine} ").split(" ", 1)[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # another user's process: not ours to judge
    return identity_of(pid) != identity


@cache
def _machine() -> str | None:
    """An id of this boot and of this namespace of process ids (each container has one); None where it is unknown."""
    if not _PROC.is_dir():
        return socket.gethostname()
    try:
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot_id} {os.stat(_PROC / 'self/ns/pid').st_ino}"
    except OSError:
        return None


def _started_at(pid: int) -> str | None:
    """When a process started, as the system counts it; None for one that has ended, also if nobody has waited for it.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: after the name in parentheses comes the state, and 19
    fields later the start time in clock ticks since the boot.
    """
    if not _PROC.is_dir():
        question = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip() or None
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
