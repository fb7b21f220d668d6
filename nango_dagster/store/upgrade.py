"""Make the store's tables, or bring them up to date: one process at a time, and only when the version differs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigError
from .database import Database

HEAD = "0001"
VERSION_TABLE = "_nango_migrations"
_PATIENCE = 600  # seconds, for another process that migrates


def upgrade(database: Database) -> None:
    """Run the migrations that this store has not seen.

    Raises ConfigError when a newer release has migrated it.
    """
    version = _version(database)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise ConfigError(
            f"the store is of version {version}, made by a newer release of nango-dagster; this one knows versions "
            f"up to {HEAD}. Upgrade nango-dagster here too."
        )
    with database.begin() as connection:
        database.lock(connection, "migrations", patience=_PATIENCE)
        if database.is_postgresql and not _schema_exists(connection, database.schema):
            quoted = connection.dialect.identifier_preparer.quote_identifier(database.schema)
            connection.execute(text(f"CREATE SCHEMA {quoted}"))
        _run_alembic(connection)


def is_current(database: Database) -> bool:
    """Whether the store has the tables that this release works with."""
    return _version(database) == HEAD


def _schema_exists(connection: Connection, schema: str) -> bool:
    """Whether it is there already: CREATE SCHEMA IF NOT EXISTS asks for the right to make one even then."""
    query = text("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = :schema")
    return connection.execute(query, {"schema": schema}).first() is not None


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
