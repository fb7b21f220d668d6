"""The models of syncs: the fields that a config declares, and those that records were seen to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .. import mapping
from ..paths import Step
from . import schema, syncs, tables
from .database import Database
from .sync_row import SyncRow

Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Model:
    """The records of a sync: the path of each field, and the type that it had when it was first seen."""

    row: SyncRow
    name: str
    fields: tuple[tuple[Steps, mapping.Type], ...] = ()
    json_schema: Mapping[str, Any] | None = None
    """The schema that the sync's config declares; None where the fields are those that were seen."""


def version(database: Database) -> tuple[Any, ...]:
    """A value that differs after a sync or a field was added, changed or removed."""
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
    """The models of the first `most` syncs, in the order of their registration, and the number of the others."""
    rows = [row for row in syncs.all(database) if row.origin != "asset"]
    shown = rows[:most]
    columns = _columns(database, {tables.table_name(row.sync, row.id) for row in shown})
    models: list[Model] = []
    for row in shown:
        if row.sync.models:
            models += [Model(row, name, json_schema=schema) for name, schema in row.sync.models.items()]
        else:
            seen = columns.get(tables.table_name(row.sync, row.id), ())
            models.append(Model(row, row.sync.model, tuple(_fields(row, seen))))
    return models, len(rows) - len(shown)


def _fields(row: SyncRow, columns: Sequence[tuple[str, str]]) -> list[tuple[Steps, mapping.Type]]:
    """The fields of the records as the API sends them, without those that the config adds; none with a transform."""
    if row.sync.transform is not None:
        return []
    declared = [(field.steps, field.type) for field in tables.plan_of(row.sync).declared]
    seen = [
        (mapping.path_steps(path), mapping.Type(type_))
        for path, type_ in columns
        if not path.startswith(mapping.DECLARED)
    ]
    added = {(name,) for name in row.sync.metadata}
    return [*declared, *((steps, type_) for steps, type_ in seen if steps not in added)]


def _columns(database: Database, names: set[str]) -> dict[str, list[tuple[str, str]]]:
    of = schema.columns.c
    query = sa.select(of.table_name, of.path, of.type).order_by(of.table_name, of.created_at, of.column_name)
    columns: dict[str, list[tuple[str, str]]] = {}
    with database.ask() as connection:
        for row in connection.execute(query.where(of.table_name.in_(names))):
            columns.setdefault(row.table_name, []).append((row.path, row.type))
    return columns
