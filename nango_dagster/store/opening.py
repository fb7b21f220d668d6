"""Open the store that the settings name: its engine, its vault, its hooks, and its tables."""

from __future__ import annotations

from functools import cache, partial

from sqlalchemy import make_url

from ..settings import Settings
from ..vault import Vault
from .database import Database
from .engine import Engine
from .queue import forgive_silence
from .upgrade import upgrade
from .webhook_settings import WebhookSettings


def open_database(settings: Settings, *, migrate: bool = True, serving: bool = False) -> Database:
    """Open the store of these settings, and create or upgrade its tables where `migrate` is true.

    `serving` is whether HTTP requests wait for it. Raises StoreUnavailable when the database cannot be reached, and
    ConfigError when a newer release has upgraded it.
    """
    database = Database(
        _engine(settings, serving),
        settings.db_schema,
        vault=cache(partial(Vault.open, settings)),
        project=settings.project,
        webhooks=WebhookSettings.of(settings),
        before_commit=(forgive_silence,),
    )
    if migrate:
        try:
            upgrade(database)
        except BaseException:
            database.close()
            raise
    return database


def _engine(settings: Settings, serving: bool) -> Engine:
    """The engine of this URL; a process imports the driver and the dialect of its own database alone."""
    url = make_url(settings.db_url)
    if url.get_backend_name() == "sqlite":
        from .engine_sqlite import SqliteEngine

        return SqliteEngine(url, serving)
    from .engine_postgresql import PostgresqlEngine

    return PostgresqlEngine(url, settings.db_schema, serving)
