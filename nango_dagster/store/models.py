"""What is known of the records that syncs store: the fields that a config declares, and those that were seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import mapping
from ..mapping.plan import BY_HAND
from ..paths import Step
from . import schema, syncs, tables
from .database import Database
from .syncs import SyncRow

Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Model:
    """The records of a sync: where their fields stand, and what type each was when it was first seen."""

    row: SyncRow
    fields: tuple[tuple[Steps, mapping.Type], ...]


def version(database: Database) -> tuple[Any, ...]:
    """What changes when a sync or a field comes, changes or goes."""
    of, known = schema.columns.c, schema.syncs.c
    count = sa.func.count()
    queries = [
        sa.select(count).select_from(schema.syncs),
        sa.select(sa.func.max(known.updated_at)),
        sa.select(count).select_from(schema.columns),
        sa.select(sa.func.max(of.created_at)),
    ]
    with database.ask() as connection:
        return tuple(connection.execute(sa.select(*(query.scalar_subquery() for query in queries))).one())


def models(database: Database, most: int) -> tuple[list[Model], int]:
    """The models of the syncs, in the order they became known, and how many there are beyond so many."""
    rows = [row for row in syncs.all(database) if row.origin != "asset"]
    shown = rows[:most]
    columns = _columns(database, {tables.table_name(row.sync, row.id) for row in shown})
    found = [Model(row, tuple(_fields(row, columns.get(tables.table_name(row.sync, row.id), ())))) for row in shown]
    return found, len(rows) - len(shown)


def _fields(row: SyncRow, columns: Sequence[tuple[str, str]]) -> list[tuple[Steps, mapping.Type]]:
    """The fields of the records as the API sends them; a transform's are others, and what a config adds is none."""
    if row.sync.transform is not None:
        return []
    declared = [(one.steps, one.type) for one in tables.plan_of(row.sync).declared]
    seen = [(mapping.path_steps(path), mapping.Type(type_)) for path, type_ in columns if not path.startswith(BY_HAND)]
    added = {(name,) for name in row.sync.metadata}
    return [*declared, *((steps, type_) for steps, type_ in seen if steps not in added)]


def _columns(database: Database, names: set[str]) -> dict[str, list[tuple[str, str]]]:
    of = schema.columns.c
    query = sa.select(of.table_name, of.path, of.type).order_by(of.table_name, of.created_at, of.column_name)
    found: dict[str, list[tuple[str, str]]] = {}
    with database.ask() as connection:
        for row in connection.execute(query.where(of.table_name.in_(names))):
            found.setdefault(row.table_name, []).append((row.path, row.type))
    return found
