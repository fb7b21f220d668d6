"""A mapped table is made from the raw records again, and rows are deleted from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, func, or_, select

from .. import datasets, problems, schema
from ..database import Database
from ..datasets import Dataset
from ..problems import Problems
from ..rows import DATA_TEXT, KeyRange, MappedRows, Prepared, driver
from ..system_columns import quote
from ..tally import Guard
from .columns import actual_columns, registered
from .table import MappedTable, owner_of, times_of_raw

BATCH_RECORDS = 1000
BATCH_BYTES = 4_000_000
# Mapped rows outlive their records' payloads.
_HAS_ROW = or_(schema.raw.c.data.is_not(None), schema.raw.c.pruned_at.is_not(None))
ALL_KEYS = KeyRange()
T = TypeVar("T")


def rebuild(database: Database, table: MappedTable, dataset: Dataset, guard: Guard) -> int:
    """Map a dataset's raw records again, in repeatable batches; the number of rows written.

    Rows that are in this very table stay until theirs is the turn; those of records whose payload was pruned stay until
    an execution sees it again, also in the table that they were in before. `guard` is called first in each transaction
    and raises where this process may no longer write.
    """

    def write(work: Callable[[Connection], T]) -> T:
        def guarded(connection: Connection) -> T:
            guard(connection)
            return work(connection)

        return database.transact(guarded)

    if not write(lambda connection: _begin_rebuild(connection, table, dataset)):
        return 0
    count, after = 0, ""
    misfits_before = table.misfits.copy()
    for records in raw_batches(database, dataset.id):
        last = records[-1].external_id
        kept = [record for record in records if record.data is not None]
        prepared = table.prepare([record.external_id for record in kept], [record.data.encode() for record in kept])
        pruned = [record.external_id for record in records if record.data is None]
        batch = _Batch(KeyRange(after, last), prepared, pruned)
        write(partial(_replace, table=table, dataset=dataset, batch=batch))
        table.count_misfits(prepared)
        count, after = count + len(prepared.keys), last
    found = Problems.of(table.misfits - misfits_before, table.without_column)
    write(lambda connection: _finish_rebuild(connection, table, dataset, after, found))
    return count


def count_pruned(database: Database, datasets_: Collection[int]) -> int:
    """How many records of these datasets have no payload to map; their rows stay as they are."""
    of = schema.raw.c
    query = select(func.count()).where(of.dataset_id.in_(datasets_), of.pruned_at.is_not(None))
    with database.ask() as connection:
        return int(connection.execute(query).scalar_one())


def _begin_rebuild(connection: Connection, table: MappedTable, dataset: Dataset) -> bool:
    """Whether there is anything to map; in a new dataset there is nothing, and the rebuild ends here."""
    if dataset.mapped_table != table.name:
        forget_dataset(connection, table.database, dataset, but_pruned=True)
    of = schema.raw.c
    some = select(of.external_id).where(of.dataset_id == dataset.id, _HAS_ROW).limit(1)
    if connection.execute(some).first() is None:
        _finish_rebuild(connection, table, dataset, "", Problems())
        return False
    # Whatever happens on the way, also to the config: the rows to come are not complete before the end.
    datasets.mark_mapped(connection, dataset.id, table.name, None)
    return True


@dataclass(frozen=True)
class _Batch:
    """The records with keys in a range: rows ready to be written, and the keys of those without a payload."""

    keys: KeyRange
    prepared: Prepared
    pruned: Sequence[str]


def _replace(connection: Connection, table: MappedTable, dataset: Dataset, batch: _Batch) -> None:
    """Replace all rows with keys in the batch's range, except those of pruned records."""
    database, pruned = table.database, batch.pruned
    rows = _rows_of(connection, database, table.name, dataset)
    rows.delete_range(batch.keys, _not_pruned(dataset) if pruned else "")
    table.write(connection, dataset, batch.prepared, batch.prepared.keys if pruned else [], database.now(connection))
    rows.update_range(times_of_raw(dataset), batch.keys)
    if pruned:
        database.rows.raw(connection, dataset.id).want_payloads(pruned)
        datasets.remember_etag(connection, dataset.id, None, whole=False)


def _finish_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, after: str, found: Problems) -> None:
    _rows_of(connection, table.database, table.name, dataset).delete_range(KeyRange(after))
    datasets.mark_mapped(connection, dataset.id, table.name, None if table.incomplete else table.version)
    problems.note(connection, dataset.id, found)


def forget_dataset(
    connection: Connection,
    database: Database,
    dataset: Dataset,
    keys: KeyRange = ALL_KEYS,
    *,
    but_pruned: bool = False,
) -> None:
    """Delete a dataset's rows from the mapped table that has them: all, or those with keys in a range."""
    name = _mapped_table(connection, database, dataset)
    if name is not None:
        _rows_of(connection, database, name, dataset).delete_range(keys, _not_pruned(dataset) if but_pruned else "")


def rename_rows(connection: Connection, database: Database, dataset: Dataset, model: str) -> None:
    """Write another model's name into a dataset's rows in the mapped table that has them."""
    name = _mapped_table(connection, database, dataset)
    if name is not None:
        literal = "'" + model.replace("'", "''") + "'"
        _rows_of(connection, database, name, dataset).update_range(f"_nango_model = {literal}", ALL_KEYS)


def _not_pruned(dataset: Dataset) -> str:
    return (
        f" AND NOT EXISTS (SELECT 1 FROM _nango_raw r WHERE r.dataset_id = {dataset.id:d} "
        "AND r.external_id = _nango_unique_key AND r.pruned_at IS NOT NULL)"
    )


def _rows_of(connection: Connection, database: Database, name: str, dataset: Dataset) -> MappedRows:
    return database.rows.mapped(connection, quote(name), owner_of(dataset))


def _mapped_table(connection: Connection, database: Database, dataset: Dataset) -> str | None:
    """The mapped table that has a dataset's rows; None when it was dropped."""
    name = dataset.mapped_table
    if name is None or registered(connection, name) is None or not actual_columns(connection, database, name):
        return None
    return name


def raw_batches(database: Database, dataset_id: int) -> Iterator[Sequence[Any]]:
    """The records that have a row in the order of their keys, as many at a time as fit into some megabytes."""
    of = schema.raw
    after, size = "", 100
    while True:
        query = select(of.c.external_id, DATA_TEXT).where(
            of.c.dataset_id == dataset_id, _HAS_ROW, of.c.external_id > after
        )
        with database.connect() as connection:
            batch = connection.execute(query.order_by(of.c.external_id).limit(size)).all()
        if not batch:
            return
        yield batch
        after = batch[-1].external_id
        size = min(BATCH_RECORDS, max(1, len(batch) * BATCH_BYTES // sum(len(row.data or "") + 1 for row in batch)))


def forget(connection: Connection, database: Database, sync_id: int) -> None:
    """Delete a sync's rows from every mapped table, and drop its own table."""
    own = f"_nango_sync_{sync_id}"
    for (name,) in connection.execute(select(schema.mapped_tables.c.table_name)).all():
        if actual_columns(connection, database, name) is None:
            continue
        if name == own:
            driver(connection).execute(f"DROP TABLE {quote(name)}")
            connection.execute(delete(schema.columns).where(schema.columns.c.table_name == name))
            connection.execute(delete(schema.mapped_tables).where(schema.mapped_tables.c.table_name == name))
        else:
            driver(connection).execute(f"DELETE FROM {quote(name)} WHERE _nango_sync_id = {sync_id}")
