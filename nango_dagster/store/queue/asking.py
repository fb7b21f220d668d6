"""What people ask of schedules; nobody waits for a batch to ask it.

On PostgreSQL it is an update of rows that no batch locks. SQLite has one writer at a time, and the closing transaction
of an overwrite may take a minute. What cannot be written within a moment waits there in a small file beside the
database. Whoever writes next to the schedules does it first (`take_in`), that very overwrite before it commits, too;
and whoever reads them meanwhile sees them as they will be (`up_to_date`). Each request is done once and in order: the
database's `user_version`, which is part of the transaction, says up to which one. Its `application_id`, a number that
no other database has, says whose requests these are: a new database in an old one's place has nothing to do with them.
What is done is removed by whoever looks next, so that a backup that is put back does not do it again.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

from sqlalchemy import Connection

from ...config.frequency import minutes
from ..database import BUSY_TIMEOUT, Busy, Database, switch_to_wal
from .asked import Asked
from .values import State

PATIENCE = 0.01  # seconds that somebody who asks waits for SQLite's write lock

_FILE = """
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, database INTEGER NOT NULL, at TEXT NOT NULL, request TEXT NOT NULL
)
"""
# Never a number twice, and none that is done already, should one of the two files be lost and made anew.
_PUT = """
INSERT INTO requests (id, database, at, request)
SELECT max(:done, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'requests'), 0)) + 1, :database, :at, :request
"""
_TOOK_IN = "nango: took in"


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
        database, done = _known(connection)
        # What else waits changes no count.
        _shadow(connection, [asked.sync_id], asked.connection_id, asked.variant)
        count = asked.do(connection, at)
    _kept_open(_path(db))
    request = json.dumps(asdict(asked))
    with contextlib.closing(_open(_path(db))) as file:
        file.execute(_PUT, {"database": database, "done": done, "at": at.isoformat(), "request": request})
    return count


def take_in(connection: Connection, db: Database) -> None:
    """Do what waits beside the database, in a transaction that writes."""
    took_in_before = connection.info.get(_TOOK_IN) is connection.get_transaction()
    waiting = _waiting(connection, db, committed=not took_in_before)
    for id_, at, asked in waiting:
        asked.do(connection, at)
        connection.exec_driver_sql(f"PRAGMA user_version = {id_}")
    if waiting:
        connection.info[_TOOK_IN] = connection.get_transaction()


@contextlib.contextmanager
def up_to_date(
    db: Database,
    sync_ids: Collection[int] | None = None,
    connection_id: str | None = None,
    variant: str | None = None,
) -> Iterator[Connection]:
    """A connection for a question or two, as `Database.ask`; schedules look as if what waits had been done.

    The question is about those of these syncs, or of all, and of one connection and variant where they are named.
    """
    with db.ask() as connection:
        waiting = _waiting(connection, db, committed=True)
        if concerned := [one for one in waiting if one[2].concerns(sync_ids, connection_id, variant)]:
            _shadow(connection, sync_ids, connection_id, variant)
            for _, at, asked in concerned:
                asked.do(connection, at)
        yield connection


_Waiting = list[tuple[int, datetime, Asked]]


def _waiting(connection: Connection, db: Database, *, committed: bool) -> _Waiting:
    """What waits, as this transaction sees it: the number, the moment, the request.

    The rest is removed, if what the transaction sees of it is `committed`. The file is read before the database: what
    somebody removes in between, the database has done.
    """
    if db.is_postgresql or not _path(db).exists():
        return []
    with contextlib.closing(_open(_path(db))) as file:
        found = file.execute("SELECT id, database, at, request FROM requests ORDER BY id").fetchall()
        if not found:
            return []
        database, done = _known(connection)
        waiting = [row for row in found if row[0] > done and row[1] == database]
        if committed and len(waiting) < len(found):
            file.execute("DELETE FROM requests WHERE id <= ? OR database <> ?", (done, database))
    return [(id_, datetime.fromisoformat(at), Asked(**json.loads(request))) for id_, _, at, request in waiting]


def _known(connection: Connection) -> tuple[int, int]:
    """The database's own number, and that of what was done last."""
    database: int = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    done: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return database, done


def _shadow(
    connection: Connection, sync_ids: Collection[int] | None, connection_id: str | None, variant: str | None
) -> None:
    """Put a temporary copy in front of the table, with the rows that are asked about; it goes with the transaction."""
    those, values = ["true"], []
    if sync_ids is not None:
        those.append(f"sync_id IN ({', '.join(map(str, sync_ids))})")
    for column, name in (("connection_id", connection_id), ("variant", variant)):
        if name is not None:
            those.append(f"{column} = ?")
            values.append(name)
    copied = f"SELECT * FROM main._nango_schedules WHERE {' AND '.join(those)}"
    connection.exec_driver_sql(f"CREATE TEMP TABLE _nango_schedules AS {copied}", tuple(values))
    for number, columns in enumerate(("id", "sync_id, connection_id, variant")):
        connection.exec_driver_sql(f"CREATE INDEX temp._nango_shadow_{number} ON _nango_schedules ({columns})")


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
