"""Datasets: the records of one integration, connection, variant and model, with their number and last change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, delete, not_, select, text, update

from . import schema
from .database import Database
from .target import Target

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Dataset:
    """A dataset at the time of reading."""

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
    key_types: str
    """The JSON types of keys that are numbers or look like one; such as `number,text`."""
    mapped_table: str | None
    """The mapped table with its rows; None where there is none."""
    mapping_version: str | None
    """The version of the mapping of these rows; None where they have to be mapped again."""
    etag: str | None
    payloads_wanted: bool
    """Whether payloads were pruned since an execution last began; the next one has to read the API's whole list.

    A running execution may have looked the records up before they were pruned.
    """
    is_emptied: bool
    """Whether all its records were deleted and no whole list was read since."""
    announced_until: datetime | None
    window_opened_at: datetime | None
    """When the deletion window was opened that is open now; None where there is none."""
    window_is_doubtful: bool
    """Whether a record was rejected since then whose key is not known."""
    problems: str
    """The values that the mapped rows lack, as JSON; `problems.read` reads it."""

    @property
    def has_problems(self) -> bool:
        """Whether mapped rows lack values."""
        return self.problems != "{}"

    @property
    def has_news(self) -> bool:
        """Whether it has changes that no notification has announced."""
        if self.last_modified_at is None:
            return False
        return self.announced_until is None or self.announced_until < self.last_modified_at


_table = schema.datasets
_read = select(*(_table.c[name] for name in Dataset.__dataclass_fields__))
_NAMES = ("integration", "connection_id", "variant", "model")
# Built once, as each batch sends them: building a statement costs more than sending it.
_mine = _table.c.id == bindparam("dataset_id")
_READ = _read.where(_mine)
_OF_TARGET = _read.where(*(_table.c[name] == bindparam(name) for name in Target._fields))
_FIND = _read.where(*(_table.c[name] == bindparam(name) for name in _NAMES))
_CHANGED = (
    update(_table)
    .where(_mine)
    .values(
        last_modified_at=bindparam("moment"),
        live_count=_table.c.live_count + bindparam("growth"),
        etag=None,
        pending_added=_table.c.pending_added + bindparam("added"),
        pending_updated=_table.c.pending_updated + bindparam("updated"),
        pending_deleted=_table.c.pending_deleted + bindparam("deleted"),
    )
)
_IDENTIFIED = update(_table).where(_mine).values(unique_key=bindparam("field"), has_mixed_keys=bindparam("mixed"))
_MAKE = text(
    "INSERT INTO _nango_datasets (sync_id, integration, connection_id, variant, model) "
    "VALUES (:sync_id, :integration, :connection_id, :variant, :model) ON CONFLICT DO NOTHING"
)


def find_or_make(
    database: Database, sync_id: int, integration: str, connection_id: str, variant: str, model: str
) -> Dataset:
    """Return the dataset of these names, and create it empty where it is missing."""
    names = dict(zip(_NAMES, (integration, connection_id, variant, model), strict=True))
    with database.ask() as connection:
        row = connection.execute(_FIND, names).one_or_none()

    def make(connection: Connection) -> Row[Any]:
        connection.execute(_MAKE, {"sync_id": sync_id, **names})
        return connection.execute(_FIND, names).one()

    return Dataset(*(row or database.transact(make)))


def find(database: Database, integration: str, connection_id: str, variant: str, model: str) -> Dataset | None:
    """The dataset of these names; None when there is none."""
    names = dict(zip(_NAMES, (integration, connection_id, variant, model), strict=True))
    with database.ask() as connection:
        row = connection.execute(_FIND, names).one_or_none()
    return None if row is None else Dataset(*row)


def of_one(connection: Connection, target: Target) -> list[Dataset]:
    """The datasets of a target."""
    return [Dataset(*row) for row in connection.execute(_OF_TARGET, target._asdict())]


def of_sync(connection: Connection, sync_id: int) -> list[Dataset]:
    """The datasets of a sync."""
    return [Dataset(*row) for row in connection.execute(_read.where(_table.c.sync_id == sync_id))]


def written(connection: Connection) -> list[Dataset]:
    """The datasets that have ever had a record."""
    return [Dataset(*row) for row in connection.execute(_read.where(_table.c.last_modified_at.is_not(None)))]


def read_or_none(connection: Connection, dataset_id: int) -> Dataset | None:
    """The current state of a dataset; None when it was deleted."""
    row = connection.execute(_READ, {"dataset_id": dataset_id}).one_or_none()
    return None if row is None else Dataset(*row)


def read(connection: Connection, dataset_id: int) -> Dataset:
    """The current state of a dataset."""
    return Dataset(*connection.execute(_READ, {"dataset_id": dataset_id}).one())


def next_moment(connection: Connection, database: Database, dataset_id: int) -> datetime:
    """The time of this transaction's changes, later than the changes of every earlier transaction.

    The caller holds the dataset's lock. So no two transactions share a time, and a reader who has read all changes up
    to one of them misses none.
    """
    return last_and_next_moment(connection, database, dataset_id)[1]


def last_and_next_moment(
    connection: Connection, database: Database, dataset_id: int
) -> tuple[datetime | None, datetime]:
    """The time of the dataset's last change, None for never, and `next_moment`."""
    last, now = connection.execute(_last_and_now(database.clock()), {"dataset_id": dataset_id}).one()
    return last, now if last is None else max(now, last + _TICK)


@lru_cache(maxsize=8)
def _last_and_now(now: ColumnElement[datetime]) -> Select[tuple[datetime | None, datetime]]:
    return select(_table.c.last_modified_at, now).where(_mine)


def changed(
    connection: Connection, dataset_id: int, moment: datetime, *, added: int = 0, updated: int = 0, deleted: int = 0
) -> None:
    """Record the numbers of rows that changed at `moment`.

    This deletes the ETag: the records are no known version of the API's list until the execution ends.
    """
    counts = {"growth": added - deleted, "added": added, "updated": updated, "deleted": deleted}
    connection.execute(_CHANGED, {"dataset_id": dataset_id, "moment": moment, **counts})


def identify(connection: Connection, dataset_id: int, unique_key: str | None, *, mixed: bool = False) -> None:
    """Record the field of the records' ids, None for none; `mixed` where some records have ids of other fields."""
    field = None if mixed else unique_key
    connection.execute(_IDENTIFIED, {"dataset_id": dataset_id, "field": field, "mixed": mixed})


def note_key_types(connection: Connection, dataset_id: int, types: str) -> None:
    """Record the JSON types of keys that are numbers or look like one; such as `number,text`."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(key_types=types))


def mark_mapped(connection: Connection, dataset_id: int, table: str, version: str | None) -> None:
    """Record the mapped table of the dataset's rows and the version of their mapping.

    Without a version, the next execution maps them again.
    """
    mapped = update(_table).where(_table.c.id == dataset_id)
    connection.execute(mapped.values(mapped_table=table, mapping_version=version))


def shrunk(connection: Connection, dataset_id: int, by: int) -> None:
    """Subtract `by` live records that were deleted for good; readers do not get these deletions."""
    less = update(_table).where(_table.c.id == dataset_id)
    connection.execute(less.values(live_count=_table.c.live_count - by, etag=None))


def restored(connection: Connection, dataset_id: int) -> None:
    """Record that payloads were restored, so that the next prune starts at the first record again."""
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(pruned_until=None))


def remember_etag(connection: Connection, dataset_id: int, etag: str | None, *, whole: bool) -> None:
    """Store the ETag of the API's list; `whole` when the list was read to its end.

    It is not stored while a pruned payload has to be restored, or until an emptied dataset has a whole list.
    """
    here = update(_table).where(_table.c.id == dataset_id)
    if whole:
        connection.execute(here.values(is_emptied=False))
    connection.execute(here.where(not_(_table.c.payloads_wanted), not_(_table.c.is_emptied)).values(etag=etag))


def ask_for_all(connection: Connection, dataset_id: int) -> None:
    """Record that an execution begins which restores the payloads pruned before it."""
    pending = update(_table).where(_table.c.id == dataset_id, _table.c.payloads_wanted)
    connection.execute(pending.values(payloads_wanted=False, etag=None))


def rename(connection: Connection, dataset: Dataset, integration: str, model: str) -> None:
    """Move a dataset to another integration and model; its records have to be mapped again."""
    renamed = update(_table).where(_table.c.id == dataset.id)
    connection.execute(renamed.values(integration=integration, model=model, mapping_version=None))


def empty(connection: Connection, dataset_id: int) -> None:
    """Delete every record of a dataset; `last_modified_at` stays, so that readers' cursors stay valid."""
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
    """Delete the other rows of a dataset whose records were deleted, and reset its counts."""
    for table in schema.OF_DATASET:
        if table is not schema.raw:
            connection.execute(delete(table).where(table.c.dataset_id == dataset_id))
    counts = {"live_count": 0, "pending_added": 0, "pending_updated": 0, "pending_deleted": 0}
    unmapped = {"mapped_table": None, "mapping_version": None, "etag": None, "is_emptied": True}
    history = {"earlier_counts": "[]", "problems": "{}", "window_opened_at": None, "window_is_doubtful": False}
    values = {**counts, **unmapped, **history, "key_types": ""}
    connection.execute(update(_table).where(_table.c.id == dataset_id).values(values))
