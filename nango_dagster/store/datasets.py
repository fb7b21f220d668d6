"""The records of one (integration, connection, variant, model): their number and the clock their changes follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, not_, select, text, update

from . import schema
from .database import Database
from .target import Target

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
    has_mixed_keys: bool
    """Whether it has records under several unique keys."""
    mapped_table: str | None
    """The mapped table that has rows of it, if one has."""
    mapping_version: str | None
    """The mapping that these rows follow; None where they have to be made again."""
    etag: str | None
    payloads_wanted: bool
    """Whether payloads were pruned since an execution last began: the next one needs the API's whole list.

    An execution that is under way may have looked the records up before they were pruned.
    """
    is_emptied: bool
    """Whether all its records were deleted, and no whole list was read since."""
    announced_until: datetime | None

    @property
    def has_news(self) -> bool:
        """Whether it has changed since that was last announced."""
        if self.last_modified_at is None:
            return False
        return self.announced_until is None or self.announced_until < self.last_modified_at


_table = schema.datasets
_read = select(*(_table.c[name] for name in Dataset.__dataclass_fields__))
_MAKE = text(
    "INSERT INTO _nango_datasets (sync_id, integration, connection_id, variant, model) "
    "VALUES (:sync_id, :integration, :connection_id, :variant, :model) ON CONFLICT DO NOTHING"
)


def find_or_make(
    database: Database, sync_id: int, integration: str, connection_id: str, variant: str, model: str
) -> Dataset:
    """The dataset of these names, made empty when there is none."""
    names = {"integration": integration, "connection_id": connection_id, "variant": variant, "model": model}
    wanted = [_table.c[column] == value for column, value in names.items()]
    with database.ask() as connection:
        row = connection.execute(_read.where(*wanted)).one_or_none()

    def make(connection: Connection) -> Row[Any]:
        connection.execute(_MAKE, {"sync_id": sync_id, **names})
        return connection.execute(_read.where(*wanted)).one()

    return Dataset(*(row or database.transact(make)))


def find(database: Database, integration: str, connection_id: str, variant: str, model: str) -> Dataset | None:
    """The dataset of these names; None when nothing was ever stored under them."""
    names = {"integration": integration, "connection_id": connection_id, "variant": variant, "model": model}
    with database.ask() as connection:
        row = connection.execute(_read.where(*(_table.c[column] == value for column, value in names.items())))
        found = row.one_or_none()
    return None if found is None else Dataset(*found)


def of_one(connection: Connection, target: Target) -> list[Dataset]:
    """The datasets of a target."""
    return [Dataset(*row) for row in connection.execute(_read.where(target.condition(_table.c)))]


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
            etag=None,
            pending_added=of.pending_added + added,
            pending_updated=of.pending_updated + updated,
            pending_deleted=of.pending_deleted + deleted,
        )
    )


def identify(connection: Connection, dataset_id: int, unique_key: str | None, *, mixed: bool = False) -> None:
    """Note which field the records' ids are, None for none; `mixed` when there are records under other keys as well."""
    identified = update(_table).where(_table.c.id == dataset_id)
    connection.execute(identified.values(unique_key=None if mixed else unique_key, has_mixed_keys=mixed))


def mark_mapped(connection: Connection, dataset_id: int, table: str, version: str | None) -> None:
    """Note which mapped table has the dataset's rows, and the mapping that they follow.

    Without a version, the next execution makes them again.
    """
    mapped = update(_table).where(_table.c.id == dataset_id)
    connection.execute(mapped.values(mapped_table=table, mapping_version=version))


def shrunk(connection: Connection, dataset_id: int, by: int) -> None:
    """Note that so many live records were deleted for good, which is no change that a reader is told of."""
    less = update(_table).where(_table.c.id == dataset_id)
    connection.execute(less.values(live_count=_table.c.live_count - by, etag=None))


def restored(connection: Connection, dataset_id: int) -> None:
    """Note that records got their payloads back, which can be pruned again, wherever they stand."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(pruned_until=None))


def remember_etag(connection: Connection, dataset_id: int, etag: str | None, *, whole: bool) -> None:
    """Note which version of the API's list the records are; `whole` when the list was read to its end.

    No version is noted while a payload is wanted back, or until an emptied dataset was filled from a whole list.
    """
    here = update(_table).where(_table.c.id == dataset_id)
    if whole:
        connection.execute(here.values(is_emptied=False))
    connection.execute(here.where(not_(_table.c.payloads_wanted), not_(_table.c.is_emptied)).values(etag=etag))


def ask_for_all(connection: Connection, dataset_id: int) -> None:
    """Note that an execution begins that brings back the payloads that were pruned before it."""
    wanted = update(_table).where(_table.c.id == dataset_id, _table.c.payloads_wanted)
    connection.execute(wanted.values(payloads_wanted=False, etag=None))


def rename(connection: Connection, dataset: Dataset, integration: str, model: str) -> None:
    """Keep a dataset's records under another integration and model; they have to be mapped again."""
    renamed = update(_table).where(_table.c.id == dataset.id)
    connection.execute(renamed.values(integration=integration, model=model, mapping_version=None))


def empty(connection: Connection, dataset_id: int) -> None:
    """Delete every record of a dataset; its clock goes on, so that readers' cursors stay valid."""
    connection.execute(delete(schema.raw).where(schema.raw.c.dataset_id == dataset_id))
    _forget(connection, dataset_id)


def mark_emptied(connection: Connection, database: Database, dataset: Dataset) -> None:
    """Mark every record of a dataset as deleted and remove its payload.

    Readers with a cursor get the deletions, and those records that come back as added.
    """
    moment = next_moment(connection, database, dataset.id)
    database.rows.raw(connection, dataset.id).mark_all_deleted(moment, own_id=dataset.unique_key == "id")
    count = read(connection, dataset.id).live_count
    _forget(connection, dataset.id)
    if count:
        connection.execute(update(_table).where(_table.c.id == dataset.id).values(last_modified_at=moment))


def _forget(connection: Connection, dataset_id: int) -> None:
    """Delete what is known of a dataset besides its records, which are gone."""
    for table in schema.OF_DATASET:
        if table is not schema.raw:
            connection.execute(delete(table).where(table.c.dataset_id == dataset_id))
    nothing = {"live_count": 0, "pending_added": 0, "pending_updated": 0, "pending_deleted": 0}
    unmapped = {"mapped_table": None, "mapping_version": None, "etag": None, "is_emptied": True}
    nothing_known = {"earlier_counts": "[]", "problems": "{}"}
    connection.execute(update(_table).where(_table.c.id == dataset_id).values({**nothing, **unmapped, **nothing_known}))
