"""Dagster's own database revisions, read once in a test process.

Each storage of a Dagster instance, and the event log of each run on SQLite, imports the same hundred files of Dagster
to learn its newest revision. That took a third of the time of the tests that execute in Dagster.
"""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

_from_config = ScriptDirectory.from_config
_known: dict[str, ScriptDirectory] = {}


def keep() -> None:
    """Let alembic keep the revisions of Dagster's storages for the life of this process."""
    ScriptDirectory.from_config = staticmethod(_kept)  # type: ignore[method-assign]  # a function in place of a class method


def _kept(config: Config) -> ScriptDirectory:
    location = config.get_main_option("script_location") or ""
    if not location.startswith("dagster:"):
        return _from_config(config)
    if location not in _known:
        _known[location] = _from_config(config)
    return _known[location]
