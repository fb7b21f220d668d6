"""One Node process that runs scripts, and the messages between it and the threads of their executions."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final

from .. import clock
from .frames import Broken, Reader, Writer
from .program import node

log = logging.getLogger(__name__)

_FILES: Final = Path(__file__).parent / "js"
_POLL: Final = 0.25
Message = tuple[dict[str, Any], bytes]


@dataclass(frozen=True)
class Limits:
    """The bounds of a process."""

    heap_megabytes: int = 512
    """More ends the process."""
    silence: float = 30.0
    """Seconds without a sign of life after which the process is killed: a script blocks it."""
    start: float = 60.0
    """Seconds until it has to be ready."""
    executions: int = 500
    """A process that has begun so many executions gets no new ones."""
    megabytes: int = 400
    """A process that has more memory gets no new executions."""
    flags: tuple[str, ...] = ()
    """Further options of Node."""


class HostLost(Exception):
    """The process is gone; the text says why, as the end of a sentence that begins with `the script`."""


class Host:
    """A process and its executions; for several threads. It ends with this process, or with `close`."""

    def __init__(self, project: Path, limits: Limits | None = None) -> None:
        """`project` is the folder whose `node_modules` scripts may import from."""
        self.limits = limits or Limits()
        self.users = 0
        """How many executions the pool has given it and not taken back."""
        self.started = 0
        """How many executions it has begun."""
        self.rss = 0
        """Its memory in bytes, by its last sign of life."""
        self._bundles: set[str] = set()
        self._sessions: dict[int, Session] = {}
        self._ids = count(1)
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._heard_at = clock.monotonic()
        self._output: deque[str] = deque(maxlen=40)
        self._start(project)

    @property
    def is_lost(self) -> bool:
        """Whether the process is gone."""
        return self._lost is not None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def run(self, bundle: str, content: bytes, facts: Mapping[str, Any]) -> Session:
        """Begin an execution of a bundle, given by its hash and its content. Raises HostLost."""
        session = self._session()
        with self._lock:
            is_known = bundle in self._bundles
            self._bundles.add(bundle)
            self.started += 1
            if not is_known:
                self.send({"t": "load", "hash": bundle}, content)
        self.send({"t": "run", "x": session.id, "bundle": bundle, "facts": facts})
        return session

    def describe(self, content: bytes) -> Session:
        """Begin to describe a script. Raises HostLost."""
        session = self._session()
        self.send({"t": "describe", "x": session.id}, content)
        return session

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message. Raises HostLost."""
        try:
            self._writer.send(header, body)
        except Broken:
            self._ended.wait(5)
            raise HostLost(self._lost or "ended its process") from None

    def forget(self, session: Session) -> None:
        """End an execution on this side."""
        self._sessions.pop(session.id, None)

    def kill(self, reason: str) -> None:
        """End the process at once; its executions raise HostLost."""
        self._lost = self._lost or reason
        self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self._closed.set()
        self.kill("was stopped with its process")
        self._process.wait()
        self._reading.join(5)
        with contextlib.suppress(OSError):
            os.close(self._input)
        with contextlib.suppress(OSError):
            os.close(self._lifeline)

    # --- the process --------------------------------------------------------------------------------------------------

    def _start(self, project: Path) -> None:
        (to_read, self._input), (output, to_write), (life, self._lifeline) = os.pipe(), os.pipe(), os.pipe()
        theirs = (to_read, to_write, life)
        arguments = [node(), *_flags(project, self.limits), str(_FILES / "host.mjs"), *map(str, theirs)]
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"TZ": "UTC", "NODE_ENV": "production"},
                cwd="/" if os.name == "posix" else None,
                pass_fds=theirs,
                start_new_session=True,
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._writer, self._reader = Writer(self._input), Reader(output)
        self._ended = threading.Event()
        self._reading = threading.Thread(target=self._read, name="node host", daemon=True)
        self._reading.start()
        threading.Thread(target=self._keep_output, name="node output", daemon=True).start()
        threading.Thread(target=self._watch, name="node watchdog", daemon=True).start()
        if not self._ready.wait(self.limits.start) or self.is_lost:
            self.kill("did not start in time")
            self._ended.wait(5)
            output_text = " ".join(self._output)[-500:]
            raise HostLost(f"{self._lost}: {output_text}" if output_text else str(self._lost))

    def _read(self) -> None:
        """Hand each message to its execution."""
        with contextlib.suppress(Broken):
            while True:
                header, body = self._reader.next()
                self._heard_at = clock.monotonic()
                self._take(header, body)
        self._process.kill()
        code = self._process.wait()
        self._lost = self._lost or self._end_sentence(code)
        self._ended.set()
        self._ready.set()
        for session in list(self._sessions.values()):
            session.messages.put(({"t": "lost"}, b""))
        self._reader.close()

    def _take(self, header: dict[str, Any], body: bytes) -> None:
        kind = header.get("t")
        if kind in ("ready", "pong"):
            self.rss = int(header["rss"])
            self._ready.set()
        elif (session := self._sessions.get(header.get("x", 0))) is not None:
            session.messages.put((header, body))
        elif kind == "log":
            log.warning("%s", header.get("text"))

    def _end_sentence(self, code: int) -> str:
        output = " ".join(self._output)
        if "heap" in output and "memory" in output:
            return f"used more than {self.limits.heap_megabytes} MB of memory"
        return f"ended its process ({code}): {output[-300:]}" if output else f"ended its process ({code})"

    def _keep_output(self) -> None:
        """Keep the last lines that Node itself wrote, which say why it ended."""
        assert self._process.stdout is not None
        with self._process.stdout as lines, contextlib.suppress(ValueError, OSError):
            while line := lines.readline(2000):
                self._output.append(line.decode(errors="replace").strip())

    def _watch(self) -> None:
        """Ask for signs of life, and kill a process that gives none."""
        pause = min(5.0, self.limits.silence / 4)
        for number in count():
            if self._ended.wait(pause):
                return
            if self._ready.is_set() and clock.monotonic() - self._heard_at > self.limits.silence:
                self.kill(f"blocked its process for {self.limits.silence:g} s without a call")
                return
            with contextlib.suppress(Broken):
                self._writer.send({"t": "ping", "n": number})

    def _session(self) -> Session:
        if self._lost is not None:
            raise HostLost(self._lost)
        session = Session(self, next(self._ids))
        self._sessions[session.id] = session
        return session

    @cached_property
    def lost_sentence(self) -> str:
        """Why the process is gone."""
        self._ended.wait(5)
        return self._lost or "ended its process"


class Session:
    """One execution in a host; for one thread."""

    def __init__(self, host: Host, id: int) -> None:
        self.host = host
        self.id = id
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def next(self) -> Message | None:
        """The next message, or None after a quarter of a second. Raises HostLost."""
        try:
            message = self.messages.get(timeout=_POLL)
        except queue.Empty:
            return None
        if message[0]["t"] == "lost":
            raise HostLost(self.host.lost_sentence)
        return message

    def reply(self, call: int, value: Any, body: bytes = b"") -> None:
        """Answer a call."""
        self.host.send({"t": "reply", "x": self.id, "i": call, "value": value}, body)

    def refuse(self, call: int, error: Mapping[str, Any]) -> None:
        """Let a call fail in the script."""
        self.host.send({"t": "refuse", "x": self.id, "i": call, "error": error})

    def stop(self) -> None:
        """End the execution in the process, whatever the script does."""
        with contextlib.suppress(HostLost):
            self.host.send({"t": "stop", "x": self.id})

    def close(self) -> None:
        """Forget the execution."""
        self.host.forget(self)


def _flags(project: Path, limits: Limits) -> Iterator[str]:
    """Node's permission model, its memory, and the interfaces that the host needs."""
    yield from ("--permission", "--allow-worker", f"--allow-fs-read={_FILES}{os.sep}*")
    for folder in (project, *project.parents):
        for packages in _package_folders(folder / "node_modules"):
            yield f"--allow-fs-read={packages}{os.sep}*"
        if (folder / "package.json").is_file():
            yield f"--allow-fs-read={folder / 'package.json'}"
    yield f"--max-old-space-size={limits.heap_megabytes}"
    yield from limits.flags
    yield from ("--experimental-vm-modules", "--experimental-import-meta-resolve", "--no-warnings")


def _package_folders(packages: Path) -> Iterator[Path]:
    """The folder `node_modules`, its real path, and the packages outside of it that it links to.

    Node's permission model asks for the real path. Workspaces and `npm link` make links to packages.
    """
    if not packages.is_dir():
        return
    yield packages
    real = packages.resolve()
    if real != packages:
        yield real
    for entry in (*real.iterdir(), *real.glob("@*/*")):
        if entry.is_symlink() and not (target := entry.resolve()).is_relative_to(real):
            yield target
