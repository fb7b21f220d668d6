"""The columns of a mapped table: those in the database, and those registered in `_nango_columns`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, select, update

from ... import mapping
from .. import schema
from ..database import Database

_of, _tables = schema.columns.c, schema.mapped_tables.c
# Built once, as each execution sends them.
_IS_MAPPED = select(_tables.table_name).where(_tables.table_name == bindparam("table"))
_REGISTERED = (
    select(_of.column_name, _of.type, _of.path)
    .where(_of.table_name == bindparam("table"))
    .order_by(_of.created_at, _of.column_name)
)


def actual_columns(connection: Connection, database: Database, name: str) -> list[str] | None:
    """The names of the columns in the database, in their order; None when the table does not exist."""
    return database.rows.columns_of(connection, name) or None


def registered(connection: Connection, name: str) -> list[mapping.Column] | None:
    """The registered columns of a table, oldest first; None when the table is not a mapped table."""
    if connection.execute(_IS_MAPPED, {"table": name}).first() is None:
        return None
    rows = connection.execute(_REGISTERED, {"table": name})
    return [mapping.Column(column, mapping.Type(type_), path) for column, type_, path in rows]


def added_since(connection: Connection, name: str, layout: mapping.Layout) -> list[mapping.Column]:
    """The columns that another sync of the same table has added since the layout was read."""
    return [column for column in registered(connection, name) or [] if not layout.has(column)]


def changed_comments(database: Database, name: str, layout: mapping.Layout) -> dict[str, str | None]:
    """The comments of the model that the columns of a table lack; none where the database has no comments."""
    comments = {column.name: column.comment for column in layout.model_columns}
    if not database.rows.comments(name, comments):
        return {}
    with database.ask() as connection:
        stored = database.rows.stored_comments(connection, name)
    return {column: comment for column, comment in comments.items() if comment != stored.get(column)}


def forget_columns(connection: Connection, name: str, columns: Sequence[mapping.Column]) -> None:
    """Delete dropped columns from the register."""
    of = schema.columns
    for column in columns:
        connection.execute(delete(of).where(of.c.table_name == name, of.c.column_name == column.name))


def ask_for_rebuild(connection: Connection, name: str) -> None:
    """Mark each dataset of the table, so that its next execution maps its records again."""
    of = schema.datasets
    connection.execute(update(of).where(of.c.mapped_table == name).values(mapping_version=None))
