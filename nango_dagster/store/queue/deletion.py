"""The locks that a deletion takes.

A deletion holds the lock on all syncs, which every new sync, connection and run waits for, and an execution may hold a
dataset's lock for a minute. So a deletion waits for its locks for some seconds only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection

from ... import clock
from ...errors import StoreUnavailable
from ..database import Database
from ..engine import Busy
from ..target import Target
from .claims import lock_dataset

SECONDS = 5.0  # for all the datasets together


@contextlib.contextmanager
def deleting(connection: Connection, db: Database, targets: Iterable[Target]) -> Iterator[None]:
    """Hold the locks on these targets' datasets until the transaction ends.

    Raises StoreUnavailable when they are not free within some seconds. SQLite has one lock for all.
    """
    deadline = clock.monotonic() + SECONDS
    try:
        for target in sorted(targets):
            lock_dataset(connection, db, target, deadline - clock.monotonic())
        with db.engine.waiting_at_most(connection, SECONDS):
            yield
    except Busy:
        raise StoreUnavailable(
            "nothing was deleted: an execution is writing what is to be deleted; try again when it has ended."
        ) from None
