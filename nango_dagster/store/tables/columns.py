"""The columns of a mapped table: those in the database, and those registered in `_nango_columns`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, update

from ... import mapping
from .. import schema
from ..database import Database


def actual_columns(connection: Connection, database: Database, name: str) -> list[str] | None:
    """The names of the columns in the database, in their order; None when the table does not exist."""
    return database.rows.columns_of(connection, name) or None


def registered(connection: Connection, name: str) -> list[mapping.Column] | None:
    """The registered columns of a table, oldest first; None when the table is not a mapped table."""
    tables = schema.mapped_tables
    if connection.execute(select(tables.c.table_name).where(tables.c.table_name == name)).first() is None:
        return None
    of = schema.columns
    rows = connection.execute(
        select(of.c.column_name, of.c.type, of.c.path)
        .where(of.c.table_name == name)
        .order_by(of.c.created_at, of.c.column_name)
    )
    return [mapping.Column(column, mapping.Type(type_), path) for column, type_, path in rows]


def added_since(connection: Connection, name: str, layout: mapping.Layout) -> list[mapping.Column]:
    """The columns that another sync of the same table has added since the layout was read."""
    return [column for column in registered(connection, name) or [] if not layout.has(column)]


def forget_columns(connection: Connection, name: str, columns: Sequence[mapping.Column]) -> None:
    """Delete dropped columns from the register."""
    of = schema.columns
    for column in columns:
        connection.execute(delete(of).where(of.c.table_name == name, of.c.column_name == column.name))


def ask_for_rebuild(connection: Connection, name: str) -> None:
    """Mark each dataset of the table, so that its next execution maps its records again."""
    of = schema.datasets
    connection.execute(update(of).where(of.c.mapped_table == name).values(mapping_version=None))
