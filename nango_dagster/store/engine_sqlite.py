"""SQLite: one write lock for the whole file, the machine's clock, and pragmas."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, Table, bindparam, create_engine, event, literal
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import OperationalError

from .. import clock
from ..errors import StoreUnreachable
from . import engine
from .engine import MAX_POOL, POOL_SECONDS, Busy, Engine, Insert, driver_cause
from .locks import FairLock
from .rows_sqlite import SQLITE_ROWS
from .types import UtcTime

log = logging.getLogger(__name__)

# Its value is that of the moment of the execution, so that statements with it can be built once.
_NOW: ColumnElement[datetime] = bindparam("now", callable_=lambda: clock.now(), type_=UtcTime, unique=True)
_SERVING_POOL = 40  # an API has as many threads, and a connection to a file is cheap
_NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "afs",
    "ceph",
    "glusterfs",
}


class SqliteEngine(Engine):
    """The connections to one SQLite file."""

    name = "sqlite"
    rows = SQLITE_ROWS
    single_writer = True

    def __init__(self, url: URL, serving: bool) -> None:
        """Make the file's folder where there is none. Raises StoreUnreachable when that is not possible."""
        if url.database:
            _prepare_folder(Path(url.database))
        super().__init__(_sqlalchemy_engine(url, serving), serving)
        self._write_lock = FairLock()

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        with super().connect() as connection, _discarded_after_an_error(connection):
            yield connection

    def autocommit(self) -> contextlib.AbstractContextManager[Connection]:
        return self.connect()

    @contextlib.contextmanager
    def driver(self) -> Iterator[Any]:
        with self.sentences():
            pooled = self.sqlalchemy.raw_connection()
            try:
                yield pooled.driver_connection
            finally:
                pooled.close()

    @contextlib.contextmanager
    def begin(self, patience: float | None = None) -> Iterator[Connection]:
        # The threads of this process wait for each other here, without a connection: SQLite only looks at its lock
        # from time to time, more and more seldom, and readers need the connections.
        usual = _patience(self.serving)
        with (
            self._write_lock.held(usual if patience is None else patience),
            self.sentences(),
            self.sqlalchemy.connect() as connection,
        ):
            connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            with _busy_timeout(connection, patience, usual):
                transaction = _begun(connection)
            with _discarded_after_an_error(connection), transaction:
                yield connection

    def separate(self) -> Engine:
        return self

    def now(self, connection: Connection) -> datetime:
        return clock.now()

    def clock(self, ago: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        return literal(clock.now() - ago, UtcTime) if ago else _NOW

    def lock(
        self, connection: Connection, key: int, patience: float | None = None, idle_limit: float | None = None
    ) -> None:
        """Nothing: `begin` holds the one lock of the file."""

    def try_locks(self, connection: Connection, keys: Sequence[int]) -> set[int]:
        return set(keys)

    def end_stuck_holders(self, connection: Connection, keys: Sequence[int], after: float) -> None:
        """Nothing: this transaction holds the one lock of the file."""

    def waiting_at_most(self, connection: Connection, seconds: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def insert(self, table: Table) -> Insert:
        return sqlite.insert(table)

    def create_schema(self, connection: Connection, schema: str) -> None:
        """Nothing: a file has no schemas."""

    def full_name(self, schema: str, table: str) -> str:
        return table

    def is_busy(self, error: Exception) -> bool:
        return isinstance(error, Busy) or "database is locked" in str(driver_cause(error))

    def is_conflict(self, error: Exception) -> bool:
        return False

    def refuses(self, error: Exception) -> bool:
        cause = driver_cause(error)
        return "too big" in str(cause) or isinstance(cause, (UnicodeError, OverflowError))

    def is_unreachable(self, error: Exception) -> bool:
        cause = str(driver_cause(error))
        if isinstance(error, OperationalError) and (error.connection_invalidated or error.statement is None):
            return "locked" not in cause
        return "unable to open" in cause


def _patience(serving: bool) -> float:
    return engine.SERVING_SECONDS if serving else engine.BUSY_TIMEOUT


def _sqlalchemy_engine(url: URL, serving: bool) -> sqlalchemy.Engine:
    # Last in, first out: as few connections as possible are in use, because each has a cache. A connection keeps few
    # statements: those with hundreds of parameters take as much memory as their rows.
    patience = _patience(serving)
    created = create_engine(
        url,
        pool_use_lifo=True,
        pool_size=_SERVING_POOL if serving else MAX_POOL,
        pool_timeout=engine.SERVING_SECONDS if serving else POOL_SECONDS,
        connect_args={"timeout": patience, "cached_statements": 30},
    )

    @event.listens_for(created, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver sends no BEGIN; `begin` below does
        connection.execute(f"PRAGMA busy_timeout = {1000 * patience:.0f}")
        # For a new file. A record of 2 to 4 kB does not fit well into a page of the usual 4 kB: a load takes twice as
        # long.
        connection.execute("PRAGMA page_size = 16384")
        switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Another connection's commit empties a cache anyway, and each connection would pay for a large one.
        connection.execute("PRAGMA cache_size = -1200")
        # A checkpoint each 16 MB instead of 4: a batch of a first load writes more than 4.
        connection.execute("PRAGMA wal_autocheckpoint = 1000")

    @event.listens_for(created, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return created


def switch_to_wal(connection: Any) -> None:
    """Let readers go on while somebody writes. The switch to WAL does not wait for locks itself, so this does."""
    deadline = time.monotonic() + engine.BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def _busy_timeout(connection: Connection, patience: float | None, usual: float) -> Iterator[None]:
    """Have SQLite wait `patience` seconds for its lock inside the block; None changes nothing."""
    if patience is None:
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA busy_timeout = {1000 * patience:.0f}")
    try:
        yield
    finally:
        driver.execute(f"PRAGMA busy_timeout = {1000 * usual:.0f}")


def _begun(connection: Connection) -> sqlalchemy.RootTransaction:
    try:
        return connection.begin()
    except OperationalError as error:
        if "database is locked" not in str(driver_cause(error)):
            raise
        raise Busy("another process writes to the database.") from None


@contextlib.contextmanager
def _discarded_after_an_error(connection: Connection) -> Iterator[None]:
    """Keep a connection out of the pool that an error left in the middle of an answer.

    Its next user would read the old state of the file, and could not write.
    """
    try:
        yield
    except BaseException:
        connection.invalidate()
        raise


def _prepare_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnreachable(f"cannot create the folder {file.parent} of the SQLite database: {error}.") from None
    kind = _file_system_of(file.parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        log.warning(
            "%s lies on a network file system (%s); SQLite needs a local disk and one machine. Use PostgreSQL here.",
            file,
            kind,
        )


def _file_system_of(folder: Path) -> str | None:
    """The type of the file system that holds `folder`; None where the operating system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    absolute = folder.resolve()
    holding = [mount for mount in mounts if absolute == Path(mount[1]) or Path(mount[1]) in absolute.parents]
    return max(holding, key=lambda mount: len(mount[1]), default=["", "", None])[2]
