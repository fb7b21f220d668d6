"""Make the store's tables, or bring them up to date: one process at a time, and only when the version differs."""

from __future__ import annotations

import zlib
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from .database import Database

HEAD = "0001"
VERSION_TABLE = "_nango_migrations"


def upgrade(database: Database) -> None:
    """Run the migrations that this store has not seen."""
    if _version(database) == HEAD:
        return
    with database.begin() as connection:
        if database.is_postgresql:
            quoted = connection.dialect.identifier_preparer.quote_identifier(database.schema)
            lock = zlib.crc32(f"nango migrations {database.schema}".encode())
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted}"))
        _run_alembic(connection)


def _version(database: Database) -> str | None:
    try:
        with database.connect() as connection:
            found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            return found
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return None  # no such table: nothing was ever made here


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
