"""Revisions and SQLAlchemy engines of Dagster's storages, made once in a test process instead of for each question.

Each storage of a Dagster instance, and the event log of each run on SQLite, imports the same hundred files of Dagster
to learn its newest revision, and each question to a storage on SQLite makes an engine. Both took half of the time of
the tests that execute in Dagster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory

# Private: Dagster has no setting for the engines of its storages, and no product code depends on this.
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

_from_config = ScriptDirectory.from_config
_revisions: dict[str, ScriptDirectory] = {}


def keep() -> None:
    """Keep the revisions of Dagster's storages, and the engines of its SQLite files, for the life of this process."""
    patch = pytest.MonkeyPatch()
    patch.setattr(ScriptDirectory, "from_config", _kept)
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        patch.setattr(module, "create_engine", _engine)


def _kept(config: Config) -> ScriptDirectory:
    location = config.get_main_option("script_location") or ""
    if not location.startswith("dagster:"):
        return _from_config(config)
    if location not in _revisions:
        _revisions[location] = _from_config(config)
    return _revisions[location]


def _engine(url: str, *, poolclass: type[sqlalchemy.Pool], connect_args: dict[str, Any] | None = None) -> Any:
    """The engine of a file; it keeps no connection."""
    assert poolclass is sqlalchemy.NullPool
    return _engine_of(url, **(connect_args or {}))


@lru_cache(maxsize=100)
def _engine_of(url: str, **connect_args: Any) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=connect_args)
