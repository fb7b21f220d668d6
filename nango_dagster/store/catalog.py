"""The mapped tables there are, for people who look: their columns, how many rows they have, and whose."""

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
    """Every table that syncs have made, the oldest first; nothing is scanned for the number of rows."""
    of = schema.mapped_tables.c
    names = select(schema.syncs.c.id, schema.syncs.c.name).order_by(schema.syncs.c.id)
    found = []
    with database.connect() as connection:
        filled = [
            (dataset, sync.name)
            for sync in connection.execute(names)
            for dataset in datasets.of_sync(connection, sync.id)
        ]
        for name in connection.execute(select(of.table_name).order_by(of.created_at, of.table_name)).scalars():
            mine = [(dataset.live_count, sync) for dataset, sync in filled if dataset.mapped_table == name]
            rows = sum(count for count, _ in mine)
            syncs = tuple(dict.fromkeys(sync for _, sync in mine))
            found.append(TableInfo(name, rows, syncs, tuple(registered(connection, name) or ())))
    return found
