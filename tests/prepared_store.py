"""Empty stores, made as copies of one that was migrated: a migration for each test would take most of their time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import open_database
from nango_dagster.store.upgrade import upgrade


class PreparedStores:
    """Makes the tables of new stores from what the migrations did once in this test process.

    `tests/test_upgrade.py` opens stores without it, and compares both.
    """

    def __init__(self, directory: Path) -> None:
        """Keep the copied SQLite file in this directory."""
        self._file = directory / "prepared.db"
        self._scripts: dict[str, str] = {}
        """The statements of the migrations for each PostgreSQL server, with `{schema}` for the schema."""

    def create(self, settings: Settings) -> None:
        """Create the tables in the new and empty database of these settings."""
        url = sa.make_url(settings.db_url)
        if url.get_backend_name() == "sqlite":
            assert url.database is not None
            self._copy_file(settings, Path(url.database))
        else:
            self._run_script(settings)

    def _copy_file(self, settings: Settings, path: Path) -> None:
        if not self._file.exists():
            open_database(settings).close()
            shutil.copyfile(path, self._file)
        elif not path.exists():
            shutil.copyfile(self._file, path)

    def _run_script(self, settings: Settings) -> None:
        import psycopg

        script = self._scripts.get(settings.db_url)
        if script is None:
            self._scripts[settings.db_url] = _migrate(settings)
            return
        url = settings.db_url.replace("postgresql+psycopg://", "postgresql://")
        with psycopg.connect(url) as connection:
            connection.execute(script.replace("{schema}", settings.db_schema).encode())


def _migrate(settings: Settings) -> str:
    """Migrate the store; the statements that did it, with `{schema}` for its schema."""
    database = open_database(settings, migrate=False)
    statements: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().startswith("SELECT"):
            assert not parameters, statement
            statements.append(statement)

    sa.event.listen(database.engine.sqlalchemy, "before_cursor_execute", keep)
    try:
        upgrade(database)
    finally:
        database.close()
    create_schema, *others = statements
    script = [create_schema, f'SET search_path TO "{settings.db_schema}"', *others]
    return ";\n".join(script).replace(settings.db_schema, "{schema}")
