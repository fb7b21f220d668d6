"""Create the store's tables, or upgrade them: one process at a time, and only when the version differs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..errors import ConfigError
from .database import Database

HEAD = "0001"
"""The version of the last migration."""
VERSION_TABLE = "_nango_migrations"
_PATIENCE = 600  # seconds, for another process that upgrades the store


def upgrade(database: Database) -> None:
    """Run the migrations that this store has not had yet. Raises ConfigError when a newer release has upgraded it."""
    version = _version(database)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise ConfigError(
            f"the store is of version {version}, made by a newer release of nango-dagster; this one knows versions "
            f"up to {HEAD}. Upgrade nango-dagster here too."
        )

    def work(connection: Connection) -> None:
        database.lock(connection, "migrations", patience=_PATIENCE)
        database.engine.create_schema(connection, database.schema)
        _run_alembic(connection)

    database.transact(work)


def is_current(database: Database) -> bool:
    """Whether the store has the tables of this release."""
    return _version(database) == HEAD


def _version(database: Database) -> str | None:
    """The version of the store's tables; None where there are none."""
    try:
        with database.connect() as connection:
            version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
            return version
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return None


def _run_alembic(connection: Connection) -> None:
    # Imported here because it is slow, and hardly any process needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
