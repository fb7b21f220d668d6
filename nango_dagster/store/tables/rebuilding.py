"""Rebuild a mapped table from the raw records, and delete rows from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, func, or_, select

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
_ANY_ROW = select(schema.raw.c.external_id).where(schema.raw.c.dataset_id == bindparam("dataset"), _HAS_ROW).limit(1)
ALL_KEYS = KeyRange()
T = TypeVar("T")


def rebuild(database: Database, table: MappedTable, dataset: Dataset, guard: Guard) -> int:
    """Map a dataset's raw records again, in repeatable batches; return the number of rows written.

    Each batch replaces its rows. The rows of pruned records stay until an execution reads the records again, also in
    the table that had them before. `guard` is called first in each transaction and raises where this process may no
    longer write.
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
    found_problems = Problems.of(table.misfits - misfits_before, table.without_column)
    write(lambda connection: _finish_rebuild(connection, table, dataset, after, found_problems))
    return count


def count_pruned(database: Database, datasets_: Collection[int]) -> int:
    """The number of records without a payload; a rebuild leaves their rows as they are."""
    of = schema.raw.c
    query = select(func.count()).where(of.dataset_id.in_(datasets_), of.pruned_at.is_not(None))
    with database.ask() as connection:
        return int(connection.execute(query).scalar_one())


def _begin_rebuild(connection: Connection, table: MappedTable, dataset: Dataset) -> bool:
    """Whether the dataset has records to map; without any, the rebuild is finished here."""
    if dataset.mapped_table != table.name:
        forget_dataset(connection, table.database, dataset, but_pruned=True)
    if connection.execute(_ANY_ROW, {"dataset": dataset.id}).first() is None:
        _finish_rebuild(connection, table, dataset, "", Problems())
        return False
    # Until the end the rows are incomplete, also when the rebuild breaks off or the config changes meanwhile.
    datasets.mark_mapped(connection, dataset.id, table.name, None)
    return True


@dataclass(frozen=True)
class _Batch:
    """The prepared rows of the records with keys in a range, and the keys of pruned records."""

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


def _finish_rebuild(
    connection: Connection, table: MappedTable, dataset: Dataset, after: str, found_problems: Problems
) -> None:
    _rows_of(connection, table.database, table.name, dataset).delete_range(KeyRange(after))
    datasets.mark_mapped(connection, dataset.id, table.name, None if table.incomplete else table.version)
    problems.note(connection, dataset.id, found_problems)


def forget_dataset(
    connection: Connection,
    database: Database,
    dataset: Dataset,
    keys: KeyRange = ALL_KEYS,
    *,
    but_pruned: bool = False,
) -> None:
    """Delete a dataset's rows with keys in a range, by default all, from the mapped table that has them."""
    name = _mapped_table(connection, database, dataset)
    if name is not None:
        _rows_of(connection, database, name, dataset).delete_range(keys, _not_pruned(dataset) if but_pruned else "")


def rename_rows(connection: Connection, database: Database, dataset: Dataset, integration: str, model: str) -> None:
    """Write the names of another integration and model into a dataset's rows in the mapped table that has them."""
    name = _mapped_table(connection, database, dataset)
    if name is not None:
        literals = ["'" + text.replace("'", "''") + "'" for text in (integration, model)]
        assignments = "_nango_integration = {}, _nango_model = {}".format(*literals)
        _rows_of(connection, database, name, dataset).update_range(assignments, ALL_KEYS)


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
    """The records with a mapped row in the order of their keys, in batches of about BATCH_BYTES."""
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
