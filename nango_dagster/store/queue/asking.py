"""What people ask of schedules; nobody waits for a batch to ask it.

On PostgreSQL it is an update of rows that no batch locks. SQLite has one writer at a time, and the closing transaction
of an overwrite may take a minute. What cannot be written within a moment waits there in a small file beside the
database. Whoever writes next to the schedules does it first (`take_in`), that very overwrite before it commits, too;
and whoever reads them meanwhile sees them as they will be (`up_to_date`). Each request is done once and in order: the
database's `user_version`, which is part of the transaction, says up to which one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path

from sqlalchemy import Connection

from ...config.frequency import minutes
from ..database import BUSY_TIMEOUT, Busy, Database, switch_to_wal
from .asked import Asked
from .values import State

PATIENCE = 0.01  # seconds that somebody who asks waits for SQLite's write lock
_STAYS = timedelta(hours=1)  # what is done stays for readers that began before

_FILE = """
CREATE TABLE IF NOT EXISTS asked (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, request TEXT NOT NULL)
"""
# Never a number twice, and none that is done already, should one of the two files be lost and made anew.
_PUT = """
INSERT INTO asked (id, at, request)
SELECT max(:done, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'asked'), 0)) + 1, :at, :request
"""
_SHADOW = "CREATE TEMP TABLE _nango_schedules AS SELECT * FROM main._nango_schedules"


def set_state(
    db: Database, sync_id: int, state: State, connection_id: str | None = None, variant: str | None = None
) -> int:
    """Start or pause a sync's schedules, all of them unless named; how many there are.

    What is being executed goes on to its end. A pause drops what was asked for and has not begun; a start executes at
    once what was paused.
    """
    return _ask(db, Asked("start" if state == "STARTED" else "pause", sync_id, connection_id, variant))


def trigger(
    db: Database,
    sync_id: int,
    connection_id: str | None = None,
    variant: str | None = None,
    *,
    reset: bool = False,
    empty_cache: bool = False,
) -> int:
    """Ask for an execution now, also of paused schedules; of how many it was asked.

    One that is being executed is left alone, except by a `reset`, which cancels it and then begins from the start.
    `empty_cache` has the records deleted before that; alone it does nothing.
    """
    return _ask(db, Asked("reset" if reset else "trigger", sync_id, connection_id, variant, empty_cache=empty_cache))


def cancel(db: Database, sync_id: int, connection_id: str | None = None, variant: str | None = None) -> int:
    """Ask executions to stop, and drop what was asked for and has not begun; how many are being executed."""
    return _ask(db, Asked("cancel", sync_id, connection_id, variant))


def set_frequency(
    db: Database, sync_id: int, connection_id: str | None, variant: str | None, frequency: str | None
) -> int:
    """Give schedules of a sync a frequency of their own, such as "every 5 minutes", or None for the sync's again.

    Of how many; what is being executed goes on. Raises ConfigError when it is no frequency.
    """
    if frequency is not None:
        minutes(frequency)
    return _ask(db, Asked("frequency", sync_id, connection_id, variant, frequency=frequency))


def _ask(db: Database, asked: Asked) -> int:
    if db.is_postgresql:
        return db.transact(lambda connection: asked.do(connection, db.now(connection)))
    at = datetime.now(timezone.utc)
    try:
        with db.begin_soon(PATIENCE) as connection:
            take_in(connection, db)
            return asked.do(connection, at)
    except Busy:
        return _ask_later(db, asked, at)


def _ask_later(db: Database, asked: Asked, at: datetime) -> int:
    """Put it beside the database; of how many it will have been asked."""
    with db.connect() as connection:
        done = _done(connection)
        # What else waits changes no count.
        connection.exec_driver_sql(f"{_SHADOW} WHERE sync_id = {asked.sync_id:d}")
        count = asked.do(connection, at)
    _kept_open(_path(db))
    with contextlib.closing(_open(_path(db))) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute(_PUT, {"done": done, "at": at.isoformat(), "request": json.dumps(asdict(asked))})
        file.execute("DELETE FROM asked WHERE id <= ? AND at < ?", (done, (at - _STAYS).isoformat()))
        file.execute("COMMIT")
    return count


def take_in(connection: Connection, db: Database) -> None:
    """Do what waits beside the database, in a transaction that writes."""
    for id_, at, asked in _waiting(connection, db):
        asked.do(connection, at)
        connection.exec_driver_sql(f"PRAGMA user_version = {id_}")


@contextlib.contextmanager
def up_to_date(db: Database) -> Iterator[Connection]:
    """A connection for a question or two, as `Database.ask`; schedules look as if what waits had been done."""
    with db.ask() as connection:
        if waiting := _waiting(connection, db):
            _shade(connection, waiting)
        yield connection


_Waiting = list[tuple[int, datetime, Asked]]


def _waiting(connection: Connection, db: Database) -> _Waiting:
    """What waits, as this transaction sees it: the number, the moment, the request."""
    if db.is_postgresql or not _path(db).exists():
        return []
    done = _done(connection)
    with contextlib.closing(_open(_path(db))) as file:
        found = file.execute("SELECT id, at, request FROM asked WHERE id > ? ORDER BY id", (done,)).fetchall()
    return [(id_, datetime.fromisoformat(at), Asked(**json.loads(request))) for id_, at, request in found]


def _done(connection: Connection) -> int:
    """The number of what was done last."""
    found: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return found


def _shade(connection: Connection, waiting: _Waiting) -> None:
    """Put a temporary copy in front of the table, and do what waits there; it goes with the transaction."""
    connection.exec_driver_sql(_SHADOW)
    for _, at, asked in waiting:
        asked.do(connection, at)


def _path(db: Database) -> Path:
    return Path(f"{db.engine.url.database}-asked")


def _open(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    switch_to_wal(file)
    file.execute("PRAGMA synchronous = NORMAL")  # as the database itself
    file.execute(_FILE)
    return file


@cache
def _kept_open(path: Path) -> sqlite3.Connection:
    """A connection that nobody uses: whoever closes the last one waits until the disk has everything."""
    file = _open(path)
    atexit.register(file.close)
    return file
