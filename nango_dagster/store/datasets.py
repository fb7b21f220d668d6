"""The records of one (integration, connection, variant, model): their number and the clock their changes follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, case, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from . import schema
from .database import Database

PRUNED = "pruned"
"""In place of an ETag: payloads are wanted back, so that the API has to send its whole list.

It stays until an execution begins: one that is under way may have looked the records up before they were pruned.
"""
EMPTIED = "emptied"
"""In place of an ETag: all records were deleted, to be read again. It stays until a whole list was read."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Dataset:
    """One dataset as it was when it was read."""

    id: int
    sync_id: int
    integration: str
    connection_id: str
    variant: str
    model: str
    live_count: int
    last_modified_at: datetime | None
    unique_key: str | None
    mapping_version: str | None
    etag: str | None
    announced_until: datetime | None

    @property
    def has_news(self) -> bool:
        """Whether it has changed since that was last announced."""
        if self.last_modified_at is None:
            return False
        return self.announced_until is None or self.announced_until < self.last_modified_at

    @property
    def mapped_table(self) -> str | None:
        """The mapped table that has rows of it, if one has."""
        return (self.mapping_version or "").rpartition("#")[0] or None


_table = schema.datasets
# NULL, but what an execution under way has not brought back is still wanted.
_NO_ETAG = case((_table.c.etag.in_((PRUNED, EMPTIED)), _table.c.etag))
_read = select(
    _table.c.id,
    _table.c.sync_id,
    _table.c.integration,
    _table.c.connection_id,
    _table.c.variant,
    _table.c.model,
    _table.c.live_count,
    _table.c.last_modified_at,
    _table.c.unique_key,
    _table.c.mapping_version,
    _table.c.etag,
    _table.c.announced_until,
)


def find_or_make(
    database: Database, sync_id: int, integration: str, connection_id: str, variant: str, model: str
) -> Dataset:
    """The dataset of these names, made empty when there is none."""
    names = {"integration": integration, "connection_id": connection_id, "variant": variant, "model": model}
    insert = postgresql_insert if database.is_postgresql else sqlite_insert
    wanted = [_table.c[column] == value for column, value in names.items()]
    with database.ask() as connection:
        row = connection.execute(_read.where(*wanted)).one_or_none()

    def make(connection: Connection) -> Row[Any]:
        connection.execute(insert(_table).values(sync_id=sync_id, **names).on_conflict_do_nothing())
        return connection.execute(_read.where(*wanted)).one()

    return Dataset(*(row or database.transact(make)))


def find(database: Database, integration: str, connection_id: str, variant: str, model: str) -> Dataset | None:
    """The dataset of these names; None when nothing was ever stored under them."""
    names = {"integration": integration, "connection_id": connection_id, "variant": variant, "model": model}
    with database.ask() as connection:
        row = connection.execute(_read.where(*(_table.c[column] == value for column, value in names.items())))
        found = row.one_or_none()
    return None if found is None else Dataset(*found)


def of_one(connection: Connection, sync_id: int, connection_id: str, variant: str) -> list[Dataset]:
    """The datasets that a sync writes for one connection and variant."""
    of = _table.c
    wanted = [of.sync_id == sync_id, of.connection_id == connection_id, of.variant == variant]
    return [Dataset(*row) for row in connection.execute(_read.where(*wanted))]


def of_sync(connection: Connection, sync_id: int) -> list[Dataset]:
    """Every dataset that a sync writes."""
    return [Dataset(*row) for row in connection.execute(_read.where(_table.c.sync_id == sync_id))]


def written(connection: Connection) -> list[Dataset]:
    """Every dataset that has ever had a record."""
    return [Dataset(*row) for row in connection.execute(_read.where(_table.c.last_modified_at.is_not(None)))]


def read_or_none(connection: Connection, dataset_id: int) -> Dataset | None:
    """The dataset as it is now; None when it was removed."""
    row = connection.execute(_read.where(_table.c.id == dataset_id)).one_or_none()
    return None if row is None else Dataset(*row)


def read(connection: Connection, dataset_id: int) -> Dataset:
    """The dataset as it is now."""
    return Dataset(*connection.execute(_read.where(_table.c.id == dataset_id)).one())


def next_moment(connection: Connection, database: Database, dataset_id: int) -> datetime:
    """The time of this transaction's changes: later than those of every transaction before it.

    The caller holds the dataset's lock. So no two transactions share a time, and a reader who has followed the
    changes up to one of them misses none.
    """
    return last_and_next_moment(connection, database, dataset_id)[1]


def last_and_next_moment(
    connection: Connection, database: Database, dataset_id: int
) -> tuple[datetime | None, datetime]:
    """When the dataset last changed, None for never, and `next_moment`."""
    query = select(_table.c.last_modified_at, database.clock()).where(_table.c.id == dataset_id)
    last, now = connection.execute(query).one()
    return last, now if last is None else max(now, last + _TICK)


def changed(
    connection: Connection, dataset_id: int, moment: datetime, *, added: int = 0, updated: int = 0, deleted: int = 0
) -> None:
    """Note that so many rows changed at `moment`.

    The records are no known version of the API's list any more, unless the execution gets to its end and says so.
    """
    of = _table.c
    connection.execute(
        update(_table)
        .where(of.id == dataset_id)
        .values(
            last_modified_at=moment,
            live_count=of.live_count + (added - deleted),
            etag=_NO_ETAG,
            pending_added=of.pending_added + added,
            pending_updated=of.pending_updated + updated,
            pending_deleted=of.pending_deleted + deleted,
        )
    )


def identify(connection: Connection, dataset_id: int, unique_key: str | None) -> None:
    """Note what the records' ids are made of: the field of this path, or their content."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(unique_key=unique_key))


def mapped(connection: Connection, dataset_id: int, version: str) -> None:
    """Note which mapping the dataset's rows in the mapped table follow."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(mapping_version=version))


def stale(table: str) -> str:
    """The mapping version of rows that are in that table and have to be made again."""
    return f"{table}#"


def shrunk(connection: Connection, dataset_id: int, by: int) -> None:
    """Note that so many live records were deleted for good, which is no change that a reader is told of."""
    less = update(_table).where(_table.c.id == dataset_id)
    connection.execute(less.values(live_count=_table.c.live_count - by, etag=None))


def restored(connection: Connection, dataset_id: int) -> None:
    """Note that records got their payloads back, which can be pruned again, wherever they stand."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(pruned_until=None))


def remember_etag(connection: Connection, dataset_id: int, etag: str | None, *, whole: bool) -> None:
    """Note which version of the API's list the records are, where that is known and no payload is wanted back.

    Records that were deleted before are wanted until the list was read as a `whole`.
    """
    kept = (PRUNED,) if whole else (PRUNED, EMPTIED)
    free = or_(_table.c.etag.is_(None), _table.c.etag.not_in(kept))
    connection.execute(update(_table).where(_table.c.id == dataset_id, free).values(etag=etag))


def ask_for_all(connection: Connection, dataset_id: int) -> None:
    """Note that an execution begins that brings back what was pruned before it."""
    connection.execute(update(_table).where(_table.c.id == dataset_id, _table.c.etag == PRUNED).values(etag=None))


def rename(connection: Connection, dataset: Dataset, integration: str, model: str) -> None:
    """Keep a dataset's records under another integration and model; they have to be mapped again."""
    version = stale(dataset.mapped_table) if dataset.mapped_table else None
    renamed = update(_table).where(_table.c.id == dataset.id)
    connection.execute(renamed.values(integration=integration, model=model, mapping_version=version))


def empty(connection: Connection, dataset_id: int) -> None:
    """Delete every record of a dataset; its clock goes on, so that readers' cursors stay valid."""
    connection.execute(delete(schema.raw).where(schema.raw.c.dataset_id == dataset_id))
    connection.execute(
        update(_table)
        .where(_table.c.id == dataset_id)
        .values(live_count=0, mapping_version=None, etag=EMPTIED, pending_added=0, pending_updated=0, pending_deleted=0)
    )
