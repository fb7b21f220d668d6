"""A mapped table is made from the raw records again, and rows are taken out of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select

from .. import bulk, datasets, schema
from ..database import Database
from ..datasets import Dataset
from ..tally import Guard
from .names import KEY_COLUMNS, quote
from .table import MappedTable, Prepared, times_of_raw
from .there import columns_there, registered

BATCH_RECORDS = 1000
BATCH_BYTES = 4_000_000
# Mapped rows outlive their records' payloads.
_HAS_ROW = or_(schema.raw.c.data.is_not(None), schema.raw.c.pruned_at.is_not(None))
_NOT_PRUNED = (
    " AND NOT EXISTS (SELECT 1 FROM _nango_raw r WHERE r.dataset_id = {:d} "
    "AND r.external_id = _nango_unique_key AND r.pruned_at IS NOT NULL)"
)


def rebuild(database: Database, table: MappedTable, dataset: Dataset, guard: Guard) -> int:
    """Map a dataset's raw records again, in repeatable batches; the number of rows written.

    Rows that are in this very table stay until theirs is the turn; those of records whose payload was pruned stay until
    an execution sees it again, also in the table that they were in before. `guard` is called first in each transaction
    and raises where this process may no longer write.
    """
    if not database.transact(lambda connection: _begin_rebuild(connection, table, dataset, guard)):
        return 0
    count, after = 0, ""
    for batch in _raw_batches(database, dataset.id):
        there = [row for row in batch if row.data is not None]
        prepared = table.prepare([row.external_id for row in there], [row.data.encode() for row in there])
        last, pruned = batch[-1].external_id, [row.external_id for row in batch if row.data is None]
        database.transact(partial(_replace, table, dataset, guard, after, last, prepared, pruned))
        table.misfits += prepared.misfits
        count, after = count + len(prepared.keys), last
    database.transact(lambda connection: _end_rebuild(connection, table, dataset, guard, after))
    return count


def count_pruned(database: Database, datasets_: Collection[int]) -> int:
    """How many records of these datasets have no payload to map; their rows stay as they are."""
    of = schema.raw.c
    query = select(func.count()).where(of.dataset_id.in_(datasets_), of.pruned_at.is_not(None))
    with database.ask() as connection:
        return int(connection.execute(query).scalar_one())


def _begin_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard) -> bool:
    """Whether there is anything to map; where there is not, as in each new dataset, that is all."""
    guard(connection)
    if dataset.mapped_table != table.name:
        forget_dataset(connection, table.database, dataset, but_pruned=True)
    of = schema.raw.c
    some = select(of.external_id).where(of.dataset_id == dataset.id, _HAS_ROW).limit(1)
    if connection.execute(some).first() is None:
        _finish_rebuild(connection, table, dataset, after="")
        return False
    # Whatever happens on the way, also to the config: the rows to come are not complete before the end.
    datasets.mapped(connection, dataset.id, datasets.stale(table.name))
    return True


def _replace(
    table: MappedTable,
    dataset: Dataset,
    guard: Guard,
    after: str,
    last: str,
    prepared: Prepared,
    pruned: Sequence[str],
    connection: Connection,
) -> None:
    """Put these rows in the place of all those with a key after `after` and up to `last` but the pruned ones."""
    guard(connection)
    database = table.database
    forget_rows(connection, database, table.name, dataset, after, last, but_pruned=bool(pruned))
    table.write(connection, dataset, prepared, prepared.keys if pruned else [], database.now(connection))
    set_ = f"UPDATE {table.quoted} SET {times_of_raw(dataset)}"
    _to_rows(connection, database, set_, dataset, after, last)
    if pruned:
        bulk.want_back(connection, database, dataset.id, pruned)
        datasets.remember_etag(connection, dataset.id, None, whole=False)


def _end_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard, after: str) -> None:
    guard(connection)
    _finish_rebuild(connection, table, dataset, after)


def _finish_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, after: str) -> None:
    forget_rows(connection, table.database, table.name, dataset, after)
    datasets.mapped(connection, dataset.id, datasets.stale(table.name) if table.incomplete else table.version)


def forget_rows(
    connection: Connection,
    database: Database,
    name: str,
    dataset: Dataset,
    after: str = "",
    last: str | None = None,
    *,
    but_pruned: bool = False,
) -> None:
    """Delete a dataset's rows from a mapped table: all, or those with keys after `after` and up to `last`."""
    also = _NOT_PRUNED.format(dataset.id) if but_pruned else ""
    _to_rows(connection, database, f"DELETE FROM {quote(name)}", dataset, after, last, also)


def _to_rows(
    connection: Connection,
    database: Database,
    verb: str,
    dataset: Dataset,
    after: str = "",
    last: str | None = None,
    also: str = "",
) -> None:
    """Do `verb` to those rows."""
    mark = "%s" if database.is_postgresql else "?"
    conditions = [f"{column} = {mark}" for column in KEY_COLUMNS[:4]] + [f"_nango_unique_key > {mark}"]
    values = [dataset.sync_id, dataset.model, dataset.connection_id, dataset.variant, after]
    if last is not None:
        conditions.append(f"_nango_unique_key <= {mark}")
        values.append(last)
    verb = verb.replace("%", "%%") if database.is_postgresql else verb
    bulk.driver(connection).execute(f"{verb} WHERE {' AND '.join(conditions)}{also}", values)


def forget_dataset(
    connection: Connection,
    database: Database,
    dataset: Dataset,
    after: str = "",
    last: str | None = None,
    *,
    but_pruned: bool = False,
) -> None:
    """Delete a dataset's rows from the mapped table they are in: all, or those with keys in such a range."""
    name = _table_there(connection, dataset)
    if name is not None:
        forget_rows(connection, database, name, dataset, after, last, but_pruned=but_pruned)


def rename_rows(connection: Connection, database: Database, dataset: Dataset, model: str) -> None:
    """Have a dataset's rows in the mapped table they are in say that they are of this model."""
    name = _table_there(connection, dataset)
    if name is not None:
        literal = "'" + model.replace("'", "''") + "'"
        _to_rows(connection, database, f"UPDATE {quote(name)} SET _nango_model = {literal}", dataset)


def _table_there(connection: Connection, dataset: Dataset) -> str | None:
    """The mapped table that a dataset's rows are in, if it still is there."""
    name = dataset.mapped_table
    if name is None or registered(connection, name) is None or not columns_there(connection, name):
        return None
    return name


def _raw_batches(database: Database, dataset_id: int) -> Iterator[Sequence[Any]]:
    """The records that have a row in the order of their keys, as many at a time as fit into some megabytes."""
    of = schema.raw
    after, size = "", 100
    while True:
        query = select(of.c.external_id, bulk.DATA_TEXT).where(
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
        if columns_there(connection, name) is None:
            continue
        if name == own:
            bulk.driver(connection).execute(f"DROP TABLE {quote(name)}")
            connection.execute(delete(schema.columns).where(schema.columns.c.table_name == name))
            connection.execute(delete(schema.mapped_tables).where(schema.mapped_tables.c.table_name == name))
        else:
            bulk.driver(connection).execute(f"DELETE FROM {quote(name)} WHERE _nango_sync_id = {sync_id}")
