"""The connection to the store: one engine, its transactions, and what to do when it cannot be reached."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Interval,
    create_engine,
    event,
    func,
    literal,
    make_url,
    text,
    type_coerce,
)
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .. import clock
from ..errors import ConfigError, StoreUnavailable, StoreUnreachable
from ..settings import Settings
from ..vault import Vault
from .types import UtcTime

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_TIMEOUT = 30  # seconds a SQLite writer waits for another
SERVING_SECONDS = 5
"""So long whoever answers requests waits for another writer, or for a connection, before it says to come back."""
MAX_POOL = 8
_TRIES = 5
_LOCK_SECONDS = 10  # that a connection is kept while it waits for a lock of PostgreSQL; then others get it first
_POOL_SECONDS = 300  # that an execution waits for others of its process to give a connection back
_STREAK_SECONDS = 1.0  # of a process's writers, one after the other
_GAP_SECONDS = 0.1  # the longest pause between two looks of who waits for SQLite's lock
_SERVING_POOL = 40  # connections to SQLite, as many as an API has threads; on PostgreSQL each costs a process
_PAUSE = 5.0  # seconds
_POSTGRESQL_NOW = type_coerce(func.clock_timestamp(), UtcTime)
_BEGAN = "nango: began"
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


_LOCK_NOT_AVAILABLE = "55P03"
LOCK = text(
    "SELECT set_config('lock_timeout', :patience, true), pg_advisory_xact_lock(:key), "
    "set_config('lock_timeout', '0', true)"
)
# A server that is gone without a word is noticed within a minute.
_KEPT_ALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class Busy(Exception):
    """Somebody else writes."""


class _Turn:
    """Lets one thread in at a time, and every second somebody from another process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = 0.0

    @contextlib.contextmanager
    def taken(self, patience: float) -> Iterator[None]:
        """Wait so many seconds for the turn, and have it. Raises Busy after that."""
        was_free = not self._lock.locked()
        if not self._lock.acquire(timeout=patience):
            raise Busy("this process is writing.")
        try:
            if was_free:
                self._since = clock.monotonic()
            elif clock.monotonic() - self._since > _STREAK_SECONDS:
                # Other processes look at SQLite's lock from time to time; between two of ours it is hardly ever free.
                time.sleep(_GAP_SECONDS)
                self._since = clock.monotonic()
            yield
        finally:
            self._lock.release()


def _no_vault() -> Vault:
    raise ConfigError("this database was opened without a key.")


@dataclass(frozen=True)
class Announcing:
    """Which of the settings' webhook URLs there are, and what is announced."""

    targets: tuple[Literal["primary", "secondary"], ...] = ()
    on: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, settings: Settings) -> Announcing:
        """What the settings say."""
        urls: dict[Literal["primary", "secondary"], str | None] = {
            "primary": settings.webhook_url,
            "secondary": settings.webhook_url_secondary,
        }
        return cls(tuple(target for target, url in urls.items() if url), settings.webhook_on)


@dataclass(frozen=True)
class Database:
    """The store of one deployment: a PostgreSQL schema or a SQLite file."""

    engine: Engine
    schema: str
    vault: Callable[[], Vault] = field(default=_no_vault, repr=False, compare=False)
    """Opens the vault for what is kept encrypted, once."""
    announcing: Announcing = Announcing()
    serving: bool = False
    """Whether requests wait for it, so that who cannot write soon is told to try again."""
    _turn: _Turn = field(default_factory=lambda: _Turn(), repr=False, compare=False)
    """Whose turn it is to write to SQLite, among the threads of this process."""
    _apart: dict[str, Engine] = field(default_factory=dict, repr=False, compare=False)

    @property
    def dialect(self) -> str:
        """`postgresql` or `sqlite`."""
        return self.engine.dialect.name

    @property
    def is_postgresql(self) -> bool:
        """Whether this is PostgreSQL; everything that differs between the two asks this."""
        return self.dialect == "postgresql"

    @property
    def driver_error(self) -> type[Exception]:
        """What the driver raises where it is used without SQLAlchemy around it."""
        found: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        return found

    def refuses(self, error: Exception) -> bool:
        """Whether the database will not store this very data, however often it is asked."""
        cause = _cause(error)
        state = getattr(cause, "sqlstate", None) or ""
        # 22: a value it does not take; 54: more than a row, a table or a page holds.
        return state[:2] in {"22", "54"} or "too big" in str(cause) or isinstance(cause, (UnicodeError, OverflowError))

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to read with; nothing it does is kept.

        Raises StoreUnavailable when the database cannot be reached.
        """
        with _sentences(self.engine), self.engine.connect() as connection, self._cleared(connection):
            yield connection

    @contextlib.contextmanager
    def _cleared(self, connection: Connection) -> Iterator[None]:
        """Keep a connection that somebody left in the middle of an answer out of the pool.

        SQLite would show the next one what the database was like then, and let him write nothing.
        """
        try:
            yield
        except BaseException:
            if not self.is_postgresql:
                connection.invalidate()
            raise

    @contextlib.contextmanager
    def ask(self) -> Iterator[Connection]:
        """A connection for a question or two, each answered as of when it is asked; nothing is streamed.

        On PostgreSQL that saves what begins and ends a transaction, which is as much as a small question.
        """
        with self.connect() as connection:
            if self.is_postgresql:
                connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextlib.contextmanager
    def driver(self) -> Iterator[Any]:
        """The driver's own connection, for a question or two in its own words: what the busiest route asks with."""
        with _sentences(self.engine):
            pooled = self.engine.raw_connection()
            try:
                if not self.is_postgresql:
                    yield pooled.driver_connection
                    return
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
    def begin(self) -> Iterator[Connection]:
        """A transaction to write with, committed at the end; on SQLite it holds the write lock from the start.

        Raises Busy on SQLite when this process is writing for too long.
        """
        with self._my_turn(self._busy_timeout), _sentences(self.engine), self.engine.connect() as connection:
            connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            with self._cleared(connection), connection.begin():
                connection.info[_BEGAN] = clock.now()
                yield connection

    @contextlib.contextmanager
    def _my_turn(self, patience: float) -> Iterator[None]:
        """Wait for this process's other writers on SQLite, with no connection in hand.

        SQLite's own lock is asked for again and again, ever more seldom: it would stay free while many wait for it,
        each with a connection that readers need.
        """
        if self.is_postgresql:
            yield
            return
        with self._turn.taken(patience):
            yield

    @contextlib.contextmanager
    def begin_soon(self, patience: float) -> Iterator[Connection]:
        """The same on SQLite, for who waits at most so many seconds for the write lock. Raises Busy after that."""
        with self._my_turn(patience), _sentences(self.engine), self.engine.connect() as connection:
            connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA busy_timeout = {1000 * patience:.0f}")
            try:
                transaction = connection.begin()
            except OperationalError as error:
                if not _is_locked(error):
                    raise
                raise Busy from None
            finally:
                driver.execute(f"PRAGMA busy_timeout = {1000 * self._busy_timeout}")
            with self._cleared(connection), transaction:
                yield connection

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns after its transaction was committed; one that was dead-locked is repeated whole."""
        late = clock.monotonic() + BUSY_TIMEOUT * _TRIES
        for attempt in count():
            try:
                with self.begin() as connection:
                    result = work(connection)
                    self._excuse_the_others(connection)
                    return result
            except (DBAPIError, self.driver_error, Busy) as error:
                if self.serving and _is_locked(error):
                    raise StoreUnavailable(
                        f"the database is being written to for longer than {SERVING_SECONDS} seconds; try again."
                    ) from None
                if _is_locked(error) and clock.monotonic() > late:
                    raise StoreUnavailable(
                        f"the database {self.engine.url.render_as_string()} is locked: another process has held its "
                        f"write lock for {BUSY_TIMEOUT * _TRIES:g} seconds. Has that been stopped?"
                    ) from None
                if not _is_locked(error) and (attempt == _TRIES - 1 or not _may_be_repeated(error)):
                    raise
                time.sleep(random.uniform(0.05, 0.2) * 2 ** min(attempt, _TRIES))
        raise AssertionError("each try returns or raises, or is followed by another")

    def _excuse_the_others(self, connection: Connection) -> None:
        """At the end of a long transaction: on SQLite nobody else could say meanwhile that he was alive."""
        if not self.is_postgresql:
            from .queue.workers import excuse

            excuse(connection, self)

    @property
    def _busy_timeout(self) -> float:
        return SERVING_SECONDS if self.serving else BUSY_TIMEOUT

    def held_since(self, connection: Connection) -> datetime:
        """Since when this transaction of `begin` holds what it holds; on SQLite the one write lock."""
        began: datetime = connection.info[_BEGAN]
        return began

    def now(self, connection: Connection) -> datetime:
        """The database's clock, in UTC; on SQLite, which lives on this machine, the machine's."""
        if not self.is_postgresql:
            return clock.now()
        found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return found.astimezone(timezone.utc) + clock.offset()

    def clock(self, ago: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        """The same clock inside a statement, or the time this long ago."""
        if not self.is_postgresql:
            return literal(clock.now() - ago, UtcTime)
        ago -= clock.offset()
        return type_coerce(func.clock_timestamp() - literal(ago, Interval), UtcTime) if ago else _POSTGRESQL_NOW

    def lock(self, connection: Connection, *names: str | int, patience: float | None = None) -> None:
        """Wait for the lock of these names, and hold it until the transaction ends.

        SQLite has one lock for all, and `begin` already holds it. Raises Busy after some seconds, so that the
        transaction begins anew, and its connection is there for others meanwhile; `transact` does that.
        """
        if self.is_postgresql:
            self.wait_for_lock(connection, LOCK, {"key": self.lock_key(*names)}, patience)

    def wait_for_lock(
        self, connection: Connection, statement: Executable, values: Mapping[str, Any], patience: float | None = None
    ) -> None:
        """Execute a statement of PostgreSQL that waits for a lock, as `LOCK` does. Raises Busy after some seconds."""
        seconds = (SERVING_SECONDS / 2 if self.serving else _LOCK_SECONDS) if patience is None else patience
        # 0 would be for ever.
        milliseconds = f"{max(1, round(1000 * seconds))}ms"
        try:
            connection.execute(statement, {**values, "patience": milliseconds})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise Busy("somebody else holds the lock.") from None

    @property
    def apart(self) -> Database:
        """The same store by a connection of its own, for what must not wait until others give theirs back.

        On SQLite, where to write is to wait for one lock anyway, it is this very one.
        """
        if not self.is_postgresql:
            return self
        if "engine" not in self._apart:
            self._apart.setdefault("engine", _postgresql_engine(self.engine.url, self.schema, self.serving, size=1))
        return replace(self, engine=self._apart["engine"])

    def lock_key(self, *names: str | int) -> int:
        """The 64-bit number that PostgreSQL knows the lock of these names by; each schema has its own."""
        text_ = json.dumps(["nango", self.schema, *names])
        digest = hashlib.blake2b(text_.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    def close(self) -> None:
        """Close every connection."""
        for engine in (self.engine, *self._apart.values()):
            engine.dispose()


def open_database(settings: Settings, *, migrate: bool = True, serving: bool = False) -> Database:
    """The store that the settings name, its tables made or brought up to date; `serving` where requests wait for it.

    Raises StoreUnavailable when the database cannot be reached.
    """
    url = make_url(settings.db_url)
    vault = cache(partial(Vault.open, settings))
    announcing = Announcing.from_settings(settings)
    engine = _engine(url, settings.db_schema, serving)
    database = Database(engine, settings.db_schema, vault, announcing, serving)
    if migrate:
        from .upgrade import upgrade

        try:
            with _sentences(database.engine):
                upgrade(database)
        except BaseException:
            database.close()
            raise
    return database


def _engine(url: URL, schema: str, serving: bool) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, serving)
    return _postgresql_engine(url, schema, serving)


def _postgresql_engine(url: URL, schema: str, serving: bool, size: int | None = None) -> Engine:
    engine = create_engine(
        url,
        pool_size=size or MAX_POOL,
        max_overflow=0 if size else MAX_POOL if serving else 2,
        pool_timeout=SERVING_SECONDS if serving else _POOL_SECONDS,
        connect_args={**_KEPT_ALIVE, "application_name": "nango-dagster"},
    )
    quoted = engine.dialect.identifier_preparer.quote_identifier(schema)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # Only our schema: an unqualified name never means somebody else's table.
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('TimeZone', 'UTC', false)", (quoted,)
        )
        connection.commit()

    _ping_after_a_pause(engine)
    return engine


def _ping_after_a_pause(engine: Engine) -> None:
    """Have a pooled connection looked at before it is used, unless it was used a moment ago: a look costs a trip."""

    @event.listens_for(engine, "checkin")
    def came_back(_connection: Any, record: Any) -> None:
        record.info["at"] = clock.monotonic()

    @event.listens_for(engine, "checkout")
    def goes_out(connection: Any, record: Any, _proxy: Any) -> None:
        if clock.monotonic() - record.info.get("at", clock.monotonic()) < _PAUSE:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            raise DisconnectionError from None  # the pool makes a new one


def _sqlite_engine(url: URL, serving: bool) -> Engine:
    if url.database and url.database != ":memory:":
        _prepare_folder(Path(url.database))
    # Last in, first out: as few connections as possible are in use, for each has a cache of its own. Of statements it
    # keeps few: those with hundreds of parameters take as much memory as their rows.
    patience = SERVING_SECONDS if serving else BUSY_TIMEOUT
    connect_args = {"timeout": patience, "cached_statements": 30}
    engine = create_engine(
        url,
        pool_use_lifo=True,
        pool_size=_SERVING_POOL if serving else MAX_POOL,
        pool_timeout=SERVING_SECONDS if serving else _POOL_SECONDS,
        connect_args=connect_args,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see `begin`
        connection.execute(f"PRAGMA busy_timeout = {1000 * patience}")
        # For a new file. A record of 2 to 4 kB fits no page of the usual 4 kB well: loading takes twice the time.
        connection.execute("PRAGMA page_size = 16384")
        switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Another connection's commit empties a cache anyway, and a large one costs each of our connections its size.
        connection.execute("PRAGMA cache_size = -1200")
        # A checkpoint each 16 MB instead of 4: a batch of a first load writes more than 4.
        connection.execute("PRAGMA wal_autocheckpoint = 1000")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def switch_to_wal(connection: Any) -> None:
    """WAL lets readers go on while a run writes; the switch itself does not wait for locks, so we do."""
    deadline = clock.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except Exception as error:
            if "locked" not in str(error) or clock.monotonic() > deadline:
                raise
            time.sleep(0.05)


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
    """The type of the file system `folder` is on, where the system says so."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return None
    here = folder.resolve()
    holding = [mount for mount in mounts if here == Path(mount[1]) or Path(mount[1]) in here.parents]
    return max(holding, key=lambda mount: len(mount[1]), default=["", "", None])[2]


@contextlib.contextmanager
def _sentences(engine: Engine) -> Iterator[None]:
    """Turn "no connection" into a sentence without the password."""
    try:
        yield
    except PoolTimeout:
        raise StoreUnavailable("this process asks more of the database than it answers in time; try again.") from None
    except (OperationalError, engine.dialect.loaded_dbapi.OperationalError) as error:
        if not _is_unreachable(error):
            raise
        url = engine.url.render_as_string(hide_password=True)
        reason = str(_cause(error)).strip().splitlines()[0].rstrip(".")
        raise StoreUnreachable(f"cannot reach the database {url}: {reason}.") from None


def _is_unreachable(error: Exception) -> bool:
    """Whether the connection itself failed, not a statement on it."""
    cause = _cause(error)
    state = getattr(cause, "sqlstate", None) or ""
    if isinstance(error, OperationalError) and (error.connection_invalidated or error.statement is None):
        return "locked" not in str(cause)
    # 08: connection lost; 57P: the server is shutting down, or has crashed and is starting again.
    return state[:2] == "08" or state[:3] == "57P" or "unable to open" in str(cause) or "is lost" in str(cause)


def _may_be_repeated(error: Exception) -> bool:
    cause = _cause(error)
    return getattr(cause, "sqlstate", None) in {"40001", "40P01"} or _is_locked(error)


def _is_locked(error: Exception) -> bool:
    """Whether SQLite, or we before it, have waited in vain for another writer."""
    return isinstance(error, Busy) or "database is locked" in str(_cause(error))


def _cause(error: Exception) -> BaseException:
    """The driver's own error."""
    return (error.orig or error) if isinstance(error, DBAPIError) else error
