"""What the database has of a mapped table, and what we noted about it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, text, update

from ... import mapping
from .. import datasets, schema
from ..database import Database
from .names import SYSTEM_COLUMNS, quote

# Asked for at each execution, so in one short query; SQLAlchemy's inspector takes several.
_COLUMNS_THERE = {
    "postgresql": text(
        "SELECT a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = current_schema() AND c.relname = :name "
        "AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ),
    "sqlite": text(
        "SELECT c.name FROM sqlite_master t, pragma_table_info(t.name) c "
        "WHERE t.type = 'table' AND t.name = :name ORDER BY c.cid"
    ),
}
_IS_TAKEN = {
    "postgresql": text(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = current_schema() AND c.relname = :name"
    ),
    "sqlite": text("SELECT 1 FROM sqlite_master WHERE name = :name COLLATE NOCASE OR lower(:name) GLOB 'sqlite_*'"),
}

_IS_HUNG_WITH = text(
    "SELECT 1 FROM sqlite_master WHERE tbl_name = :name COLLATE NOCASE AND type <> 'table' "
    "AND name NOT GLOB 'sqlite_autoindex_*'"
)


def columns_there(connection: Connection, name: str) -> list[str] | None:
    """The columns that the table really has, in their order, or None when there is no table."""
    return list(connection.execute(_COLUMNS_THERE[connection.dialect.name], {"name": name}).scalars()) or None


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
    """Columns that another sync of the same table has added in the meantime."""
    return [column for column in registered(connection, name) or [] if not layout.has(column)]


def is_taken(connection: Connection, name: str) -> bool:
    """Whether a view, an index or the like has this name, or on SQLite one in other letters."""
    return connection.execute(_IS_TAKEN[connection.dialect.name], {"name": name}).first() is not None


def is_bare(connection: Connection, name: str) -> bool:
    """Whether a SQLite table is as it was made: no rows and no other columns, and nobody's index or trigger on it."""
    if set(columns_there(connection, name) or ()) != {*SYSTEM_COLUMNS}:
        return False
    has_rows = connection.exec_driver_sql(f"SELECT 1 FROM {quote(name)} LIMIT 1").first()
    return has_rows is None and connection.execute(_IS_HUNG_WITH, {"name": name}).first() is None


def hold(connection: Connection, database: Database, name: str) -> None:
    """Let no other transaction change this table's columns until this one ends."""
    if database.is_postgresql:
        key = f"{database.schema} {name}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def forget_columns(connection: Connection, name: str, gone: Sequence[mapping.Column]) -> None:
    """Note that the table has these columns no more."""
    of = schema.columns
    for column in gone:
        connection.execute(delete(of).where(of.c.table_name == name, of.c.column_name == column.name))


def ask_for_rebuild(connection: Connection, name: str) -> None:
    """Have each dataset of the table mapped again by its next execution."""
    of = schema.datasets
    connection.execute(
        update(of)
        .where(of.c.mapping_version.startswith(f"{name}#", autoescape=True))
        .values(mapping_version=datasets.stale(name))
    )
