"""Processes that execute a sync and may be killed: `python -m tests.crash_worker`, and `Workers`, which drives it.

The process reads orders from its standard input, one JSON object a line, and forks a child for each. It has imported
all that a child needs and opened nothing, so that a child starts at once; a child takes the environment variables of
the test at that moment. A child that is given a `kill_at` counts the
statements it sends to the database, commits and rollbacks included, and kills itself just before that one.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from fcntl import LOCK_EX, LOCK_SH, flock
from functools import cache, partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

import psutil
from sqlalchemy import Engine, event

from nango_dagster import runs
from nango_dagster.errors import NangoError
from nango_dagster.runs.delivering import DeliveryPool
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, overwrite, queue, syncs, upsert
from nango_dagster.store.queue import claims
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.tables import rebuilding
from tests import statements

# --- in the test's process ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """How a child ended: by which signal, or with what outcome."""

    killed_by: int | None
    status: str | None = None
    error: str | None = None
    statements: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    peak: int = 0
    """The most memory it has used, in bytes."""


@dataclass(frozen=True)
class Child:
    """An execution in a process of its own."""

    pid: int
    answer: Path

    def send(self, signal_number: int) -> None:
        os.kill(self.pid, signal_number)


class ForkServer:
    """The process that forks the children of this test process; it answers one order after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_worker"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.terminate)

    def order(self, **order: Any) -> int:
        """The pid of a new child, or the exit code of one that has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks has ended"
        return int(answer)


@cache
def fork_server() -> ForkServer:
    """One for all tests of this process, because its imports cost more than most of its children."""
    return ForkServer()


class Workers:
    """Starts children, lets them begin together, and tells how they ended."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = dict(env)
        self._log = folder / "children.log"
        self._log.touch()
        self._gate = (folder / "gate").open("w")
        self._started = 0
        self._living: set[int] = set()
        self._server = fork_server()

    def start(self, sync: str, *, run_id: str | None = None, **order: Any) -> Child:
        """A child that executes a sync; `kill_at`, `server`, `small` and `stuck` say how, see `execute`.

        With a `slot` it drains what is due then, of a sync or several, with commas between their names; with `deliver`
        it executes nothing and takes what waits in the outbox to its receivers.
        """
        self._started += 1
        answer = self._folder / f"answer-{self._started}.json"
        whole = {"sync": sync, "run_id": run_id, "env": self._env, "gate": self._gate.name, "answer": str(answer)}
        around = {"log": str(self._log), "environ": dict(os.environ)}
        child = Child(self._server.order(do="start", **whole, **around, **order), answer)
        self._living.add(child.pid)
        return child

    def hold(self) -> None:
        """Let children that are started from now on wait just before they claim."""
        flock(self._gate, LOCK_EX)

    def let_go(self) -> None:
        """Let them all go on at the same moment."""
        flock(self._gate, LOCK_SH)

    def end(self, child: Child) -> Result:
        """Wait until it has ended."""
        code = self._server.order(do="wait", pid=child.pid)
        self._living.discard(child.pid)
        if code < 0:
            return Result(-code)
        assert child.answer.exists(), f"a child ended with {code}: {self.log}"
        return Result(None, **json.loads(child.answer.read_text()))

    def run(self, sync: str, **order: Any) -> Result:
        """A child from start to end."""
        return self.end(self.start(sync, **order))

    @property
    def log(self) -> str:
        """The standard error of the children."""
        return self._log.read_text()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._living:  # where a test has failed, one may be stopped and hold locks
            os.kill(pid, signal.SIGKILL)
            self._server.order(do="wait", pid=pid)
        self._gate.close()


# --- in the process that forks --------------------------------------------------------------------------------------


def serve(orders: IO[str], answers: IO[str]) -> None:
    """Fork a child for each order to start one; wait for one when told so."""
    for line in orders:
        order = json.loads(line)
        if order["do"] == "wait":
            _, status = os.waitpid(order["pid"], 0)
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _be_child(order)
        print(pid, file=answers, flush=True)


def _be_child(order: Mapping[str, Any]) -> None:
    """Execute and end, without going back into the process that forked."""
    code = 1
    try:
        # The parent's pipes belong to the parent.
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.dup2(os.open(order["log"], os.O_WRONLY | os.O_APPEND), 2)
        os.environ.clear()
        os.environ.update(order["environ"])
        answer = execute(order)
        Path(order["answer"]).write_text(json.dumps(answer))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def execute(order: Mapping[str, Any]) -> dict[str, Any]:
    """Execute the order. `small`: records in a batch; `stuck`: seconds that a transaction may stand still."""
    answer: dict[str, Any] = {}
    try:
        try:
            signal.signal(signal.SIGTERM, _interrupt)  # as Dagster's run worker does
            _prepare(order)
            answer = _work(order)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is over, and says so whoever wants it to stop
    except NangoError as error:
        answer = {"status": type(error).__name__, "error": str(error)}
    except KeyboardInterrupt:
        answer = {"status": "interrupted"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**answer, "statements": failpoint.count, "peak": peak}


def _prepare(order: Mapping[str, Any]) -> None:
    failpoint.kill_at, failpoint.server = order.get("kill_at"), order.get("server")
    event.listen(Engine, "do_connect", partial(statements.connect, before=failpoint.step))
    if small := order.get("small"):
        upsert.BATCH_RECORDS = overwrite.BATCH_RECORDS = rebuilding.BATCH_RECORDS = small
    vars(claims)["STUCK_SECONDS"] = order.get("stuck", queue.STUCK_SECONDS)


def _work(order: Mapping[str, Any]) -> dict[str, Any]:
    """One execution, or a drain of all that is due at a `slot`."""
    settings = Settings.from_env(order["env"], dotenv=None)
    database = open_database(settings)
    rows = [row for row in syncs.all(database) if row.name in order["sync"].split(",")]
    with open(order["gate"]) as gate:
        flock(gate, LOCK_SH)
    answer: dict[str, Any]
    if order.get("deliver"):
        pool = DeliveryPool(database, settings)
        answer = {"status": "delivered", "counts": {"arrived": pool.deliver().arrived}}
        pool.finish(20)
    elif slot := order.get("slot"):
        answer = _drain(database, settings, rows, order["run_id"], datetime.fromisoformat(slot))
    else:
        with runs.claimed(database, settings, rows[0], run_id=order["run_id"]) as execution:
            outcome = execution.run()
        answer = {"status": outcome.status, "error": outcome.error, "counts": asdict(outcome.counts)}
    database.close()
    return answer


def _drain(
    database: Database, settings: Settings, rows: Sequence[SyncRow], run_id: str | None, slot: datetime
) -> dict[str, Any]:
    """All that is due of the syncs, side by side, as a run does it; how the executions ended, and what went wrong."""
    queue.reap(database)
    ended: Counter[str] = Counter()
    errors: list[str] = []
    with runs.Drain(database, settings, run_id=run_id) as drain:
        for row in rows:
            drain.add(row, lambda: slot)
        while not drain.is_over:
            for done in drain.next(0.2):
                ended[done.outcome.status if done.outcome else type(done.error).__name__] += 1
                error = done.outcome.error if done.outcome else done.error
                errors += [str(error)] if error else []
    return {"status": "drained", "error": "\n".join(errors) or None, "counts": dict(ended)}


def deadly(record: dict[str, Any]) -> dict[str, Any]:
    """A `transform` that some records kill the process with."""
    if record.get("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    return record


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# --- the failpoint --------------------------------------------------------------------------------------------------


class Failpoint:
    """Counts what is sent to the database, by any thread and through any layer, and kills in between.

    It kills this process, or the `server` whose postmaster has that process id.
    """

    def __init__(self) -> None:
        self.count = 0
        self.kill_at: int | None = None
        self.server: int | None = None
        self._lock = threading.Lock()

    def step(self, connection: Any, statement: str) -> None:
        """A statement is about to be sent."""
        with self._lock:
            self.count += 1
            if self.count != self.kill_at:
                return
            if self.server is None:
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                stop_at_once(self.server)


def stop_at_once(server: int) -> None:
    """Stop PostgreSQL as `pg_ctl stop -m immediate` does, without a checkpoint."""
    postmaster = psutil.Process(server)
    postmaster.send_signal(signal.SIGQUIT)
    postmaster.wait(30)


failpoint = Failpoint()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
