"""The store of one deployment: the value that every function of the store takes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.exc import DBAPIError

from .. import clock
from ..errors import ConfigError, StoreUnavailable
from ..vault import Vault
from . import engine as limits
from .engine import Busy, Engine, Insert
from .rows import Rows
from .webhook_settings import WebhookSettings

T = TypeVar("T")

_TRIES = 5  # of a transaction; with a single writer it waits for the write lock as often
_BEGAN = "nango: began"


def _no_vault() -> Vault:
    raise ConfigError("this database was opened without a key.")


@dataclass(frozen=True)
class Database:
    """A PostgreSQL schema or a SQLite file, with what the functions of the store need beside it."""

    engine: Engine
    schema: str
    vault: Callable[[], Vault] = field(default=_no_vault, repr=False, compare=False)
    """Opens, once, the vault that secrets are encrypted with."""
    project: str = ""
    """The project that this process works for; the owner of the syncs that it registers."""
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    before_commit: tuple[Callable[[Connection, Database], None], ...] = field(default=(), repr=False, compare=False)
    """Called at the end of every writing transaction, inside it."""

    @property
    def rows(self) -> Rows:
        """How this database stores and finds many rows at once."""
        return self.engine.rows

    # --- connections ------------------------------------------------------------------------------------------------

    def connect(self) -> contextlib.AbstractContextManager[Connection]:
        """A connection to read with; see `Engine.connect`."""
        return self.engine.connect()

    def ask(self) -> contextlib.AbstractContextManager[Connection]:
        """A connection for one or two short questions; see `Engine.autocommit`."""
        return self.engine.autocommit()

    def driver(self) -> contextlib.AbstractContextManager[Any]:
        """The driver's own connection; see `Engine.driver`."""
        return self.engine.driver()

    @contextlib.contextmanager
    def begin(self, patience: float | None = None) -> Iterator[Connection]:
        """A writing transaction that is committed at the end of the block.

        On SQLite it holds the write lock from the start, and raises Busy when that is not free within `patience`
        seconds (default: 30, or 5 where HTTP requests wait). Most callers use `transact`, which tries again.
        """
        with self.engine.begin(patience) as connection:
            connection.info[_BEGAN] = clock.now()
            yield connection
            for hook in self.before_commit:
                hook(connection, self)

    def transact(self, work: Callable[[Connection], T], patience: float | None = None) -> T:
        """Commit the transaction of `work` and return its result; a transaction that was dead-locked is repeated.

        With `patience`, SQLite's write lock is waited for only so many seconds, and Busy is raised after that.
        Raises StoreUnavailable when the write lock is not free in time, or the database cannot be reached.
        """
        deadline = clock.monotonic() + limits.BUSY_TIMEOUT * _TRIES
        for attempt in count():
            try:
                with self.begin(patience) as connection:
                    return work(connection)
            except (DBAPIError, self.engine.driver_error, Busy) as error:
                if self.engine.is_busy(error):
                    if patience is not None and self.engine.single_writer:
                        raise
                    self._give_up_after(deadline)
                elif attempt == _TRIES - 1 or not self.engine.is_conflict(error):
                    raise
                time.sleep(random.uniform(0.05, 0.2) * 2 ** min(attempt, _TRIES))
        raise AssertionError("each try returns or raises, or is followed by another")

    def _give_up_after(self, deadline: float) -> None:
        """Raise StoreUnavailable where another try to get a lock would come too late."""
        if self.engine.serving:
            raise StoreUnavailable(
                f"the database is being written to for longer than {limits.SERVING_SECONDS} seconds; try again."
            ) from None
        if clock.monotonic() > deadline:
            raise StoreUnavailable(
                f"the database {self.engine.url.render_as_string()} is locked: another process has held its "
                f"write lock for {limits.BUSY_TIMEOUT * _TRIES:g} seconds. Has that been stopped?"
            ) from None

    @property
    def separate(self) -> Database:
        """A Database of the same store with a connection of its own, for heartbeats; see `Engine.separate`."""
        return replace(self, engine=self.engine.separate())

    def close(self) -> None:
        """Close every connection."""
        self.engine.close()

    # --- time and locks ---------------------------------------------------------------------------------------------

    def now(self, connection: Connection) -> datetime:
        """The database's clock, in UTC; on SQLite, whose file is on this machine, the machine's clock."""
        return self.engine.now(connection)

    def clock(self, ago: timedelta = timedelta(0)) -> ColumnElement[datetime]:
        """The database's clock in an SQL statement, or the time `ago` before it."""
        return self.engine.clock(ago)

    def held_since(self, connection: Connection) -> datetime:
        """When the transaction of `begin` began; on SQLite it has held the write lock since then."""
        began: datetime = connection.info[_BEGAN]
        return began

    def lock(
        self,
        connection: Connection,
        *names: str | int,
        patience: float | None = None,
        idle_limit: float | None = None,
    ) -> None:
        """Wait for the lock of these names, and hold it until the transaction ends; see `Engine.lock`.

        Raises Busy after some seconds, or after `patience`, so that other threads can have the connection before the
        next try of `transact`.
        """
        self.engine.lock(connection, self.lock_key(*names), patience, idle_limit)

    def try_locks(self, connection: Connection, names: Iterable[tuple[str | int, ...]]) -> set[tuple[str | int, ...]]:
        """Take those of these locks that are free, without waiting, and return their names."""
        keys = {self.lock_key(*lock): lock for lock in names}
        return {keys[key] for key in self.engine.try_locks(connection, list(keys))}

    def end_stuck_holders(self, connection: Connection, names: Iterable[tuple[str | int, ...]], after: float) -> None:
        """End the sessions that hold one of these locks and wait for a stopped client; see the engine."""
        self.engine.end_stuck_holders(connection, [self.lock_key(*lock) for lock in names], after)

    def lock_key(self, *names: str | int) -> int:
        """The 64-bit number of the lock of these names; each schema has locks of its own."""
        document = json.dumps(["nango", self.schema, *names])
        digest = hashlib.blake2b(document.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    # --- statements and errors --------------------------------------------------------------------------------------

    def insert(self, table: Table) -> Insert:
        """An INSERT that can have an ON CONFLICT clause."""
        return self.engine.insert(table)

    @property
    def driver_error(self) -> type[Exception]:
        """The base class of the errors that `driver` raises."""
        return self.engine.driver_error

    def refuses(self, error: Exception) -> bool:
        """Whether the database will never store these values, however often it is asked."""
        return self.engine.refuses(error)
