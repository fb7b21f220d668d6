"""The mapped tables, for people: their columns, their numbers of rows, and the syncs that fill them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from .. import mapping
from . import datasets, schema
from .database import Database
from .tables import registered


@dataclass(frozen=True)
class TableInfo:
    """One mapped table."""

    name: str
    rows: int
    syncs: tuple[str, ...]
    columns: tuple[mapping.Column, ...]


def mapped_tables(database: Database) -> list[TableInfo]:
    """Every mapped table, the oldest first; the numbers of rows come from the datasets, without a scan."""
    of = schema.mapped_tables.c
    names = select(schema.syncs.c.id, schema.syncs.c.name).order_by(schema.syncs.c.id)
    tables_ = []
    with database.connect() as connection:
        filled = [
            (dataset, sync.name)
            for sync in connection.execute(names)
            for dataset in datasets.of_sync(connection, sync.id)
        ]
        for name in connection.execute(select(of.table_name).order_by(of.created_at, of.table_name)).scalars():
            sources = [(dataset.live_count, sync) for dataset, sync in filled if dataset.mapped_table == name]
            rows = sum(count for count, _ in sources)
            syncs = tuple(dict.fromkeys(sync for _, sync in sources))
            tables_.append(TableInfo(name, rows, syncs, tuple(registered(connection, name) or ())))
    return tables_
