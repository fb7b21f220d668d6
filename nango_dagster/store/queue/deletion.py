"""The locks of what somebody wants to delete.

Who deletes holds the lock on all syncs, which every new sync, connection and run waits for; and an execution that
replaces its records may hold a dataset's lock for a minute. So who deletes gives up soon.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ... import clock
from ...errors import StoreUnavailable
from ..database import Database
from ..engine import Busy
from .claims import lock_dataset

SECONDS = 5.0  # that it waits for all the datasets together
_LOCKED = "55P03"
_PATIENCE = text("SELECT set_config('lock_timeout', :patience, true)")


@contextlib.contextmanager
def deleting(connection: Connection, db: Database, names: Iterable[tuple[int, str, str]]) -> Iterator[None]:
    """Hold the locks of these datasets, each a sync's id, a connection and a variant; no lock is waited for long.

    They stay until the transaction ends. Raises StoreUnavailable when one is not to be had in time. SQLite has one lock
    for all.
    """
    if not db.is_postgresql:
        yield
        return
    deadline = clock.monotonic() + SECONDS
    try:
        for sync_id, connection_id, variant in sorted(names):
            lock_dataset(connection, db, sync_id, connection_id, variant, deadline - clock.monotonic())
        _wait_at_most(connection, SECONDS)
        yield
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    except (Busy, DBAPIError) as error:
        if isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) != _LOCKED:
            raise
        raise StoreUnavailable(
            "nothing was deleted: an execution is writing what is to be deleted; try again when it has ended."
        ) from None


def _wait_at_most(connection: Connection, seconds: float) -> None:
    connection.execute(_PATIENCE, {"patience": f"{max(1, round(1000 * seconds))}ms"})  # 0 would be for ever
