"""Find columns of a mapped table whose type does not fit their records, and change the type.

The first batch of records decides a column's type; when it had only `false` or `""`, later values do not fit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, update

from ... import mapping, records
from ...errors import RecordRejected
from .. import schema
from ..database import Database
from ..datasets import Dataset
from ..rows import driver
from ..system_columns import quote
from .columns import ask_for_rebuild
from .rebuilding import raw_batches
from .table import MappedTable


@dataclass(frozen=True)
class TypeChange:
    """A column, a better type for it, and the numbers of values that fit now and would fit with that type."""

    column: mapping.Column
    type: mapping.Type
    fitting: int
    would_fit: int


def type_changes(database: Database, table: MappedTable, datasets: Iterable[Dataset]) -> list[TypeChange]:
    """The changes that the record model demands, and those that the stored records of these datasets suggest.

    The types of columns that are declared by hand stay.
    """
    counts: dict[str, Counter[mapping.Type]] = defaultdict(Counter)
    for dataset in datasets:
        for batch in raw_batches(database, dataset.id):
            _count(counts, table, [row.data.encode() for row in batch if row.data is not None])
    demanded = {column.path: type_ for column, type_ in table.layout.mistyped()}
    of_model = {field.path for field in table.layout.plan.fields}
    changes: list[TypeChange] = []
    for column in table.layout.columns:
        types = counts[column.path]
        if column.path in of_model:
            if type_ := demanded.get(column.path):
                changes.append(TypeChange(column, type_, types[column.type], types[type_]))
        elif types and (change := _change(column, types)):
            changes.append(change)
    return changes


def _count(counts: dict[str, Counter[mapping.Type]], table: MappedTable, texts: Sequence[bytes]) -> None:
    layout = mapping.Layout(table.database.rows.converters, table.layout.plan)
    for _, place, value in layout.flatten(filter(None, map(_decoded, texts))).unplaced:
        if value is not False and value != "":
            counts[mapping.path_text(place.steps)][mapping.infer([value])] += 1


def _decoded(text: bytes) -> Any:
    try:
        return records.decode(text)
    except RecordRejected:  # too deep to be mapped
        return None


def _change(column: mapping.Column, types: Counter[mapping.Type]) -> TypeChange | None:
    """The change to the type of most values, None where the column has it; text columns also hold timestamps."""
    texts = types[mapping.Type.STRING] + types[mapping.Type.TIMESTAMP]
    fitting = {**types, mapping.Type.STRING: texts}
    if types[mapping.Type.STRING]:
        fitting[mapping.Type.TIMESTAMP] = 0
    best = max(fitting, key=lambda type_: (fitting[type_], type_ is mapping.Type.TIMESTAMP))
    current = types[column.type] if column.type is not mapping.Type.STRING else texts
    return TypeChange(column, best, current, fitting[best]) if fitting[best] > current else None


def change_types(connection: Connection, table: MappedTable, changes: Sequence[TypeChange]) -> None:
    """Replace columns by empty ones of other types, and mark the table's datasets to be mapped again."""
    types = table.database.rows.types
    for change in changes:
        name = quote(change.column.name)
        driver(connection).execute(f"ALTER TABLE {table.quoted} DROP COLUMN {name}")
        driver(connection).execute(f"ALTER TABLE {table.quoted} ADD COLUMN {name} {types[change.type]}")
        of = schema.columns
        noted = update(of).where(of.c.table_name == table.name, of.c.column_name == change.column.name)
        connection.execute(noted.values(type=change.type.value))
    ask_for_rebuild(connection, table.name)
