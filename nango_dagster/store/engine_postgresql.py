"""PostgreSQL: advisory locks, the server's clock, and its error codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import ColumnElement, Connection, Interval, Table, create_engine, event, func, literal, text
from sqlalchemy import type_coerce as typed
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError

from .. import clock
from . import engine
from .engine import MAX_POOL, POOL_SECONDS, Busy, Engine, Insert, driver_cause
from .rows_postgresql import POSTGRESQL_ROWS
from .types import UtcTime

LOCK_SECONDS = 10
"""Seconds that a connection waits for a lock; after that another thread can have it before the next try."""
_PAUSE = 5.0  # seconds without use after which a pooled connection is tested
_NOW = typed(func.clock_timestamp(), UtcTime)
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK = (
    "SELECT set_config('lock_timeout', :patience, true), pg_advisory_xact_lock(:key), "
    "set_config('lock_timeout', '0', true)"
)
# One statement, because an execution takes this lock several times; `text` once, because building costs as much as
# sending.
_LOCKS = {
    False: text(_LOCK),
    True: text(f"{_LOCK}, set_config('idle_in_transaction_session_timeout', :idle_limit, true)"),
}
_TRY_LOCKS = text("SELECT key FROM unnest(CAST(:keys AS bigint[])) AS key WHERE pg_try_advisory_xact_lock(key)")
_END_STUCK_HOLDERS = text(
    "SELECT pg_terminate_backend(lock.pid) FROM pg_locks lock JOIN pg_stat_activity session USING (pid) "
    "WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1 "
    "AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (lock.classid::bigint << 32) | lock.objid::bigint = ANY(CAST(:keys AS bigint[])) "
    "AND session.usename = current_user AND session.wait_event = 'ClientRead' "
    "AND session.query_start < clock_timestamp() - :after"
)
# A server that is gone without a word is noticed within a minute.
_KEEP_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class PostgresqlEngine(Engine):
    """The connections to one schema of a PostgreSQL database."""

    name = "postgresql"
    rows = POSTGRESQL_ROWS
    single_writer = False

    def __init__(self, url: URL, schema: str, serving: bool, connections: int | None = None) -> None:
        """`connections` is the size of the pool, where it is not the usual one."""
        super().__init__(_sqlalchemy_engine(url, schema, serving, connections), serving)
        self._schema = schema
        self._separate: PostgresqlEngine | None = None

    @contextlib.contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """Without BEGIN and COMMIT, which cost as much as a small question."""
        with self.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def driver(self) -> Iterator[Any]:
        with self.sentences():
            pooled = self.sqlalchemy.raw_connection()
            try:
                connection: Any = pooled.driver_connection
                connection.autocommit = True
                try:
                    yield connection
                finally:
                    if not connection.closed:
                        connection.autocommit = False
            finally:
                pooled.close()

    @contextlib.contextmanager
    def begin(self, patience: float | None = None) -> Iterator[Connection]:
        with self.sentences(), self.sqlalchemy.begin() as connection:
            yield connection

    def separate(self) -> Engine:
        if self._separate is None:
            self._separate = PostgresqlEngine(self.url, self._schema, self.serving, connections=1)
        return self._separate

    def close(self) -> None:
        super().close()
        if self._separate is not None:
            self._separate.close()

    def now(self, connection: Connection) -> datetime:
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment.astimezone(timezone.utc) + clock.offset()

    def clock(self, ago: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        ago -= clock.offset()
        return typed(func.clock_timestamp() - literal(ago, Interval), UtcTime) if ago else _NOW

    def lock(
        self, connection: Connection, key: int, patience: float | None = None, idle_limit: float | None = None
    ) -> None:
        if patience is None:
            patience = engine.SERVING_SECONDS / 2 if self.serving else LOCK_SECONDS
        values = {"key": key, "patience": _milliseconds(patience)}
        if idle_limit is not None:
            values["idle_limit"] = _milliseconds(idle_limit)
        with _busy_after_a_wait():
            connection.execute(_LOCKS[idle_limit is not None], values)

    def try_locks(self, connection: Connection, keys: Sequence[int]) -> set[int]:
        return set(connection.execute(_TRY_LOCKS, {"keys": list(keys)}).scalars())

    def end_stuck_holders(self, connection: Connection, keys: Sequence[int], after: float) -> None:
        connection.execute(_END_STUCK_HOLDERS, {"keys": list(keys), "after": timedelta(seconds=after)})

    @contextlib.contextmanager
    def waiting_at_most(self, connection: Connection, seconds: float) -> Iterator[None]:
        limit = {"patience": _milliseconds(seconds)}
        connection.execute(text("SELECT set_config('lock_timeout', :patience, true)"), limit)
        with _busy_after_a_wait():
            yield
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))

    def insert(self, table: Table) -> Insert:
        return postgresql.insert(table)

    def create_schema(self, connection: Connection, schema: str) -> None:
        # CREATE SCHEMA IF NOT EXISTS needs the right to create one also where it exists.
        query = text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema")
        if connection.execute(query, {"schema": schema}).first() is None:
            connection.execute(text(f"CREATE SCHEMA {_quoted(self.sqlalchemy, schema)}"))

    def full_name(self, schema: str, table: str) -> str:
        return f"{self.url.database}.{schema}.{table}"

    def is_busy(self, error: Exception) -> bool:
        return isinstance(error, Busy)

    def is_conflict(self, error: Exception) -> bool:
        return _sqlstate(error) in {"40001", "40P01"}  # serialization failure, deadlock

    def refuses(self, error: Exception) -> bool:
        # 22: a value that the type does not have; 54: more than a row, a table or a page holds.
        return _sqlstate(error)[:2] in {"22", "54"} or isinstance(driver_cause(error), (UnicodeError, OverflowError))

    def is_unreachable(self, error: Exception) -> bool:
        if isinstance(error, OperationalError) and (error.connection_invalidated or error.statement is None):
            return True
        state = _sqlstate(error)
        # 08: connection lost; 57P: the server is shutting down, or has crashed and is starting again.
        if state[:2] == "08" or state[:3] == "57P":
            return True
        # Every error of the server has a code; one without a code is the driver's, about the connection.
        return not state and isinstance(driver_cause(error), psycopg.OperationalError)


def _sqlalchemy_engine(url: URL, schema: str, serving: bool, connections: int | None) -> sqlalchemy.Engine:
    created = create_engine(
        url,
        pool_size=connections or MAX_POOL,
        max_overflow=0 if connections else MAX_POOL if serving else 2,
        pool_timeout=engine.SERVING_SECONDS if serving else POOL_SECONDS,
        use_native_hstore=False,  # no column is one, and the first connection would ask the server for the type
        connect_args={**_KEEP_ALIVE, "application_name": "nango-dagster"},
    )
    quoted = _quoted(created, schema)

    @event.listens_for(created, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # The search path is our schema alone, so that an unqualified name never means a table of another one.
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('TimeZone', 'UTC', false)", (quoted,)
        )
        connection.commit()

    _ping_after_a_pause(created)
    return created


def _ping_after_a_pause(created: sqlalchemy.Engine) -> None:
    """Test a pooled connection before its use, unless it was used a moment ago: the test costs a round trip."""

    @event.listens_for(created, "checkin")
    def returned(_connection: Any, record: Any) -> None:
        record.info["returned_at"] = clock.monotonic()

    @event.listens_for(created, "checkout")
    def taken(connection: Any, record: Any, _proxy: Any) -> None:
        now = clock.monotonic()
        if now - record.info.get("returned_at", now) < _PAUSE:
            return
        try:
            created.dialect.do_ping(connection)
        except created.dialect.loaded_dbapi.Error:
            raise DisconnectionError from None  # the pool makes a new one


@contextlib.contextmanager
def _busy_after_a_wait() -> Iterator[None]:
    """Raise Busy in place of the server's error about `lock_timeout`."""
    try:
        yield
    except DBAPIError as error:
        if _sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise Busy("another transaction holds the lock.") from None


def _milliseconds(seconds: float) -> str:
    """A value for a setting of the server, where 0 would mean "without a limit".

    >>> _milliseconds(2.5), _milliseconds(0)
    ('2500ms', '1ms')
    """
    return f"{max(1, round(1000 * seconds))}ms"


def _quoted(created: sqlalchemy.Engine, schema: str) -> str:
    return created.dialect.identifier_preparer.quote_identifier(schema)


def _sqlstate(error: Exception) -> str:
    """The five-character code of the SQL standard; empty where the error comes from the driver."""
    return getattr(driver_cause(error), "sqlstate", None) or ""
