"""The columns of a mapped table: those that the database has, and those that were noted when they were made."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from ... import mapping
from .. import schema
from ..database import Database


def actual_columns(connection: Connection, database: Database, name: str) -> list[str] | None:
    """The columns that the table really has, in their order, or None when there is no table."""
    return database.rows.columns_of(connection, name) or None


def registered(connection: Connection, name: str) -> list[mapping.Column] | None:
    """The columns we made in a table, oldest first, or None when the table is not one of ours."""
    ours = schema.mapped_tables
    if connection.execute(select(ours.c.table_name).where(ours.c.table_name == name)).first() is None:
        return None
    of = schema.columns
    rows = connection.execute(
        select(of.c.column_name, of.c.type, of.c.path)
        .where(of.c.table_name == name)
        .order_by(of.c.created_at, of.c.column_name)
    )
    return [mapping.Column(column, mapping.Type(type_), path) for column, type_, path in rows]


def added_since(connection: Connection, name: str, layout: mapping.Layout) -> list[mapping.Column]:
    """Columns that another sync of the same table has added since the layout was read."""
    return [column for column in registered(connection, name) or [] if not layout.has(column)]


def forget_columns(connection: Connection, name: str, gone: Sequence[mapping.Column]) -> None:
    """Note that the table does not have these columns any more."""
    of = schema.columns
    for column in gone:
        connection.execute(delete(of).where(of.c.table_name == name, of.c.column_name == column.name))


def ask_for_rebuild(connection: Connection, name: str) -> None:
    """Have each dataset of the table mapped again by its next execution."""
    of = schema.datasets
    connection.execute(update(of).where(of.c.mapped_table == name).values(mapping_version=None))
