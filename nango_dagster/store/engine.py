"""The protocol of a database engine. Each kind of database is one subclass of `Engine` in a module of its own.

tests/test_conformance_engine.py holds what every subclass promises; CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import sqlalchemy
from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import StoreUnavailable, StoreUnreachable
from .rows import Rows

if TYPE_CHECKING:  # a process imports the dialect of its own database alone
    from sqlalchemy.dialects import postgresql, sqlite

BUSY_TIMEOUT = 30
"""Seconds that one try to write waits for another writer of a SQLite file."""
SERVING_SECONDS = 5
"""Seconds that an HTTP request waits for another writer, or for a free connection."""
MAX_POOL = 8
"""Connections of one process, where no HTTP requests need more."""
POOL_SECONDS = 300
"""Seconds that an execution waits for another thread of its process to return a connection."""

Insert: TypeAlias = "postgresql.Insert | sqlite.Insert"


class Busy(Exception):
    """A lock was not free in time; the transaction can be tried again."""


class Engine(ABC):
    """The connections to one database, and everything in which one kind of database differs from another.

    Every method that uses a connection raises StoreUnreachable when the database cannot be reached, and
    StoreUnavailable when the pool has no free connection in time.
    """

    name: ClassVar[Literal["sqlite", "postgresql"]]
    rows: ClassVar[Rows]
    """How this database stores and finds many rows at once."""
    single_writer: ClassVar[bool]
    """Whether a writing transaction locks the whole database, so that all others wait until it ends."""

    def __init__(self, engine: sqlalchemy.Engine, serving: bool) -> None:
        """`serving` is whether HTTP requests wait for this database, so that all waits are short."""
        self.sqlalchemy = engine
        self.serving = serving

    @property
    def url(self) -> URL:
        """The database's URL; its text has stars in place of the password."""
        return self.sqlalchemy.url

    # --- connections ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to read with; what it writes is rolled back."""
        with self.sentences(), self.sqlalchemy.connect() as connection:
            yield connection

    @abstractmethod
    def autocommit(self) -> contextlib.AbstractContextManager[Connection]:
        """A connection for one or two short questions; each is answered from the state when it is asked."""

    @abstractmethod
    def driver(self) -> contextlib.AbstractContextManager[Any]:
        """The driver's own connection in autocommit mode, for the queries that are called most often."""

    @abstractmethod
    def begin(self, patience: float | None = None) -> contextlib.AbstractContextManager[Connection]:
        """A writing transaction that is committed at the end of the block.

        With a single writer it holds the write lock from the start, and raises Busy when that is not free within
        `patience` seconds (default: BUSY_TIMEOUT, or SERVING_SECONDS where requests wait).
        """

    @abstractmethod
    def separate(self) -> Engine:
        """An engine with one connection of its own, for heartbeats, which must not wait for the pool.

        With a single writer it is this engine: a heartbeat waits for the write lock anyway.
        """

    def close(self) -> None:
        """Close every connection."""
        self.sqlalchemy.dispose()

    # --- time and locks ---------------------------------------------------------------------------------------------

    @abstractmethod
    def now(self, connection: Connection) -> datetime:
        """The database's clock, in UTC."""

    @abstractmethod
    def clock(self, ago: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        """The database's clock in an SQL statement, or the time `ago` before it."""

    @abstractmethod
    def lock(
        self, connection: Connection, key: int, patience: float | None = None, idle_limit: float | None = None
    ) -> None:
        """Wait for the lock of a 64-bit key and hold it until the transaction ends; nothing with a single writer.

        Raises Busy after `patience` seconds. The server ends the transaction when nothing happens in it for
        `idle_limit` seconds, so that a process that was stopped does not keep the lock.
        """

    @abstractmethod
    def try_locks(self, connection: Connection, keys: Sequence[int]) -> set[int]:
        """Take those of these locks that are free, without waiting; all of them with a single writer."""

    @abstractmethod
    def end_stuck_holders(self, connection: Connection, keys: Sequence[int], after: float) -> None:
        """End the sessions that hold one of these locks and have waited for their client for `after` seconds.

        `idle_limit` does not see a COPY whose client was stopped before it had sent all rows.
        """

    @abstractmethod
    def waiting_at_most(self, connection: Connection, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Let no statement of the block wait longer than this for a row's lock. Raises Busy after that."""

    # --- statements -------------------------------------------------------------------------------------------------

    @abstractmethod
    def insert(self, table: Table) -> Insert:
        """An INSERT that can have an ON CONFLICT clause."""

    @abstractmethod
    def create_schema(self, connection: Connection, schema: str) -> None:
        """Create the schema of the tables where there is none yet."""

    @abstractmethod
    def full_name(self, schema: str, table: str) -> str:
        """The name of a table as people write it who connect to this database's server."""

    # --- errors -----------------------------------------------------------------------------------------------------

    @property
    def driver_error(self) -> type[Exception]:
        """The base class of the driver's errors."""
        error: type[Exception] = self.sqlalchemy.dialect.loaded_dbapi.Error
        return error

    @abstractmethod
    def is_busy(self, error: Exception) -> bool:
        """Whether somebody else held a lock for too long."""

    @abstractmethod
    def is_conflict(self, error: Exception) -> bool:
        """Whether the transaction was ended in favour of another one, and can be repeated."""

    @abstractmethod
    def refuses(self, error: Exception) -> bool:
        """Whether the database will never store these values, however often it is asked."""

    @abstractmethod
    def is_unreachable(self, error: Exception) -> bool:
        """Whether the connection failed, not a statement on it."""

    @contextlib.contextmanager
    def sentences(self) -> Iterator[None]:
        """Raise StoreUnreachable, without the password, in place of the driver's error about a connection."""
        try:
            yield
        except PoolTimeout:
            raise StoreUnavailable("all connections of this process to the database are in use; try again.") from None
        except (OperationalError, self.sqlalchemy.dialect.loaded_dbapi.OperationalError) as error:
            if not self.is_unreachable(error):
                raise
            url = self.url.render_as_string(hide_password=True)
            reason = str(driver_cause(error)).strip().splitlines()[0].rstrip(".")
            raise StoreUnreachable(f"cannot reach the database {url}: {reason}.") from None


def driver_cause(error: Exception) -> BaseException:
    """The driver's error that SQLAlchemy has wrapped, or the error itself."""
    return (error.orig or error) if isinstance(error, DBAPIError) else error
