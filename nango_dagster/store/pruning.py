"""Payloads leave the store before their records do: what a reader has taken over, or what is too old to be kept.

The records stay, with their times, hashes and mapped rows; only `data` goes, and `pruned_at` says when. What a reader
has pruned comes back as soon as an execution sees the same content again (`payload_wanted`). What is too old stays away
until the source changes it.

A dataset's lock is taken for each batch, as an execution takes it for each of its own: PostgreSQL finds the rows that
are written by their place, which must not change meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update

from .. import clock
from ..errors import StoreUnavailable
from ..sentences import number_of
from . import listing, queue, schema
from .changes import Cursor
from .database import Database
from .datasets import Dataset
from .engine import Busy
from .rows import PayloadQuestion, driver
from .target import Target

T = TypeVar("T")

LOCK_SECONDS = 10  # an execution's batch takes less; only the end of a large overwrite takes longer
_FIRST, _MOST = 100, 5000  # records of a batch
_BATCH_SECONDS = 0.3
_of = schema.datasets.c


@dataclass(frozen=True)
class Pruned:
    """How many records have lost their payload, and whether there are more."""

    count: int
    has_more: bool


def prune(
    database: Database,
    dataset: Dataset,
    until: Cursor,
    limit: int | None = None,
    *,
    restorable: bool = True,
    lock_seconds: int = LOCK_SECONDS,
) -> Pruned:
    """Remove the payloads of the records up to a place, that record included; of the first so many, or of all.

    With `restorable` they come back with the next execution that sees the same content. Raises ConfigError for a place
    in another dataset, and StoreUnavailable when an execution keeps the dataset locked; what was pruned before that
    stays so.
    """
    until.check_dataset(dataset.id)
    count, size = 0, _FIRST
    while True:
        most = size if limit is None else min(size, limit - count)
        began = clock.monotonic()
        work = partial(_prune, database, dataset, until, most, restorable)
        done = under_lock(database, dataset, work, lock_seconds)
        count += done.count
        if not done.has_more or count == limit:
            return Pruned(count, done.has_more)
        size = paced(size, clock.monotonic() - began)


def has_payloads(database: Database, dataset: Dataset, until: Cursor) -> bool:
    """Whether a record up to a place has a payload to prune; nobody is kept waiting for the answer."""
    with database.ask() as connection:
        begin = _pruned_until(connection, dataset)
        return bool(_with_payload(connection, database, dataset.id, begin, until, 1))


def paced(size: int, seconds: float) -> int:
    """How much the next batch takes, when one of this size took so long: no transaction lasts long."""
    return max(1, min(_MOST, 2 * size, int(size * _BATCH_SECONDS / max(seconds, 0.001))))


def under_lock(
    database: Database, dataset: Dataset, work: Callable[[Connection], T], lock_seconds: int = LOCK_SECONDS
) -> T:
    """Return the result of `work`, called in one transaction under the dataset's lock.

    Raises StoreUnavailable when the lock is not free within `lock_seconds`.
    """

    def locked(connection: Connection) -> T:
        try:
            queue.lock_dataset(connection, database, Target.of(dataset), patience=lock_seconds)
        except Busy:
            raise StoreUnavailable(
                f"{dataset.model} of {dataset.connection_id} has been locked for {number_of(lock_seconds, 'second')} "
                "by an execution that replaces its records; ask again when that has ended."
            ) from None
        return work(connection)

    return database.transact(locked)


def _prune(
    database: Database, dataset: Dataset, until: Cursor, most: int, restorable: bool, connection: Connection
) -> Pruned:
    """Remove the first so many payloads."""
    begin = _pruned_until(connection, dataset)
    rows = _with_payload(connection, database, dataset.id, begin, until, most + 1)
    keys = [key for key, _ in rows[:most]]
    if not keys:
        return Pruned(0, has_more=False)
    now = database.now(connection)
    own_id = dataset.unique_key == "id"
    database.rows.raw(connection, dataset.id).prune(keys, now, wanted=restorable, own_id=own_id)
    values: dict[str, Any] = {"pruned_until": str(Cursor(rows[len(keys) - 1][1], keys[-1]))}
    if restorable:
        values["payloads_wanted"] = True
    connection.execute(update(schema.datasets).where(_of.id == dataset.id).values(values))
    return Pruned(len(keys), has_more=len(rows) > most)


def _pruned_until(connection: Connection, dataset: Dataset) -> Cursor:
    """A place up to which no record has a payload that could be pruned."""
    place = connection.execute(select(_of.pruned_until).where(_of.id == dataset.id)).scalar()
    return listing.RecordSelection(after=Cursor.read(place) if place else None).begin


def _with_payload(
    connection: Connection, database: Database, dataset_id: int, begin: Cursor, until: Cursor, most: int
) -> list[tuple[str, datetime]]:
    """The keys and times of the first records behind one place and up to another that have a payload."""
    places = (begin.moment, begin.external_id), (until.moment, until.external_id)
    return database.rows.with_payload(driver(connection), PayloadQuestion(dataset_id, *places, most))
