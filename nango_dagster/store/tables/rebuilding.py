"""A mapped table is made from the raw records again, and rows are taken out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from .. import bulk, datasets, schema
from ..database import Database
from ..datasets import Dataset
from ..tally import Guard
from .names import KEY_COLUMNS, quote
from .table import MappedTable, Prepared
from .there import columns_there, registered

BATCH_RECORDS = 1000
BATCH_BYTES = 4_000_000


def rebuild(database: Database, table: MappedTable, dataset: Dataset, guard: Guard) -> int:
    """Map a dataset's raw records again, in repeatable batches; the number of rows written.

    Rows that are in this very table stay until theirs is the turn. `guard` is called first in each transaction and
    raises where this process may no longer write.
    """
    if not database.transact(lambda connection: _begin_rebuild(connection, table, dataset, guard)):
        return 0
    count, after = 0, ""
    for batch in _raw_batches(database, dataset.id):
        prepared = table.prepare([row.external_id for row in batch], [row.data.encode() for row in batch])
        last = batch[-1].external_id
        database.transact(
            lambda connection, a=after, z=last, p=prepared: _replace(connection, table, dataset, guard, a, z, p)  # type: ignore[misc]
        )
        table.misfits += prepared.misfits
        count, after = count + len(prepared.keys), last
    database.transact(lambda connection: _end_rebuild(connection, table, dataset, guard, after))
    return count


def _begin_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard) -> bool:
    """Whether there is anything to map; where there is not, as in each new dataset, that is all."""
    guard(connection)
    if dataset.mapped_table != table.name:
        forget_dataset(connection, table.database, dataset)
    of = schema.raw.c
    some = select(of.external_id).where(of.dataset_id == dataset.id, of.data.is_not(None)).limit(1)
    if connection.execute(some).first() is None:
        _finish_rebuild(connection, table, dataset, after="")
        return False
    # Whatever happens on the way, also to the config: the rows to come are not complete before the end.
    datasets.mapped(connection, dataset.id, datasets.stale(table.name))
    return True


def _replace(
    connection: Connection,
    table: MappedTable,
    dataset: Dataset,
    guard: Guard,
    after: str,
    last: str,
    prepared: Prepared,
) -> None:
    """Put these rows in the place of all those with a key after `after` and up to `last`."""
    guard(connection)
    forget_rows(connection, table.database, table.name, dataset, after, last)
    table.write(connection, dataset, prepared, [], table.database.now(connection))
    times = "SELECT r.last_modified_at, r.deleted_at FROM _nango_raw r"
    _to_rows(
        connection,
        table.database,
        f"UPDATE {table.quoted} SET (_nango_emitted_at, _nango_deleted_at) = "
        f"({times} WHERE r.dataset_id = {dataset.id} AND r.external_id = _nango_unique_key)",
        dataset,
        after,
        last,
    )


def _end_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard, after: str) -> None:
    guard(connection)
    _finish_rebuild(connection, table, dataset, after)


def _finish_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, after: str) -> None:
    forget_rows(connection, table.database, table.name, dataset, after)
    datasets.mapped(connection, dataset.id, datasets.stale(table.name) if table.incomplete else table.version)


def forget_rows(
    connection: Connection, database: Database, name: str, dataset: Dataset, after: str = "", last: str | None = None
) -> None:
    """Delete a dataset's rows from a mapped table: all, or those with keys after `after` and up to `last`."""
    _to_rows(connection, database, f"DELETE FROM {quote(name)}", dataset, after, last)


def _to_rows(
    connection: Connection, database: Database, verb: str, dataset: Dataset, after: str, last: str | None
) -> None:
    """Do `verb` to those rows."""
    mark = "%s" if database.is_postgresql else "?"
    conditions = [f"{column} = {mark}" for column in KEY_COLUMNS[:4]] + [f"_nango_unique_key > {mark}"]
    values = [dataset.sync_id, dataset.model, dataset.connection_id, dataset.variant, after]
    if last is not None:
        conditions.append(f"_nango_unique_key <= {mark}")
        values.append(last)
    verb = verb.replace("%", "%%") if database.is_postgresql else verb
    bulk.driver(connection).execute(f"{verb} WHERE {' AND '.join(conditions)}", values)


def forget_dataset(connection: Connection, database: Database, dataset: Dataset) -> None:
    """Delete a dataset's rows from the mapped table they are in."""
    name = dataset.mapped_table
    if name is not None and registered(connection, name) is not None and columns_there(connection, name):
        forget_rows(connection, database, name, dataset)


def _raw_batches(database: Database, dataset_id: int) -> Iterator[Sequence[Any]]:
    """The records with a payload in the order of their keys, as many at a time as fit into some megabytes."""
    of = schema.raw
    after, size = "", 100
    while True:
        query = select(of.c.external_id, bulk.DATA_TEXT).where(
            of.c.dataset_id == dataset_id, of.c.data.is_not(None), of.c.external_id > after
        )
        with database.connect() as connection:
            batch = connection.execute(query.order_by(of.c.external_id).limit(size)).all()
        if not batch:
            return
        yield batch
        after = batch[-1].external_id
        size = min(BATCH_RECORDS, max(1, len(batch) * BATCH_BYTES // sum(len(row.data) + 1 for row in batch)))


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
