"""Empty stores that were migrated before: a migration for each test would take most of their time."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import open_database, schema
from nango_dagster.store.upgrade import VERSION_TABLE, upgrade

_LARGE = 4 << 20
"""Bytes of a schema that is not used again; a new one has a sixth of them."""
_STATE = """
    SELECT md5(string_agg(entry, ' ' ORDER BY entry)), sum(bytes)
    FROM (
        SELECT concat_ws('-', oid, xmin), pg_table_size(oid) FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
        UNION ALL
        SELECT concat_ws('-', attrelid, attnum, a.xmin), 0
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = %(schema)s::regnamespace
        UNION ALL
        SELECT concat_ws('-', oid, xmin), 0 FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
    ) AS catalog (entry, bytes)"""
"""The rows of the catalog, each with the transaction that wrote it: whatever alters a table changes one of them."""
_TABLES = "SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"


class PreparedStore(Protocol):
    """Makes the tables of new stores from what the migrations did once in this test process.

    `tests/test_upgrade.py` opens stores without it; `tests/test_conftest.py` compares both.
    """

    def create(self, settings: Settings) -> None:
        """Create the tables in the new and empty database of these settings."""


class PreparedFile:
    """A migrated SQLite file, to be copied."""

    def __init__(self, directory: Path) -> None:
        """Keep the file in this directory."""
        self._file = directory / "prepared.db"

    def create(self, settings: Settings) -> None:
        path = Path(sa.make_url(settings.db_url).database or "")
        if not self._file.exists():
            open_database(settings).close()
            shutil.copyfile(path, self._file)
        elif not path.exists():
            shutil.copyfile(self._file, path)


class PreparedSchemas:
    """The schemas of the tests on one PostgreSQL server.

    The tables of one test are emptied for the next one: to drop and create them takes ten times as long. A schema
    whose tables a test has altered, or filled with much, is dropped.
    """

    def __init__(self, url: str) -> None:
        self._admin = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self._migrations: list[str] = []
        """Their statements, with `{schema}` for the schema."""
        self._in_use: dict[str, str] = {}
        """The schemas that have the tables, with their state in the catalog just after the migrations."""
        self._free: dict[str, str] = {}
        """The same of schemas that no test uses any more."""

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The name of a schema that does not exist yet; after the test nothing has this name.

        It is not called `nango`, so that a name written into the code is found out.
        """
        name = f"nango_test_{uuid.uuid4().hex[:12]}"
        try:
            yield name
        finally:
            state = self._in_use.pop(name, None)
            if state is not None and self._renamed(name, f"{name}_free"):
                self._free[f"{name}_free"] = state
            else:
                self._drop(name)

    def create(self, settings: Settings) -> None:
        name = settings.db_schema
        self._in_use.pop(name, None)
        while self._free and name not in self._in_use:
            used, state = self._free.popitem()
            if self._emptied(used, state) and self._renamed(used, name):
                self._in_use[name] = state
            else:
                self._drop(used)
        if name not in self._in_use:
            self._run_migrations(settings)
            self._in_use[name], _ = self._state(name)

    def close(self) -> None:
        """Drop the schemas that no test uses any more."""
        for name in self._free:
            self._drop(name)
        self._admin.close()

    def _emptied(self, name: str, state: str) -> bool:
        """Remove the mapped tables and all rows; False where what remains is not what the migrations made."""
        kept = [VERSION_TABLE, *(table.name for table in schema.metadata.sorted_tables)]
        for (table,) in self._admin.execute(_TABLES, [name]).fetchall():
            if table not in kept:
                self._execute(f'DROP TABLE "{name}".{table} CASCADE')
        found, size = self._state(name)
        if found != state or size > _LARGE:
            return False
        self._execute(
            f'SET search_path TO "{name}"',
            *(f"DELETE FROM {table}" for table in reversed(kept)),
            "SELECT setval(seqrelid::regclass, 1, false) FROM pg_sequence JOIN pg_class c ON c.oid = seqrelid "
            f"WHERE relnamespace = '{name}'::regnamespace",
            *(statement for statement in self._migrations if statement.startswith("INSERT")),
        )
        return True

    def _run_migrations(self, settings: Settings) -> None:
        if self._migrations:
            self._execute(*(statement.replace("{schema}", settings.db_schema) for statement in self._migrations))
        else:
            self._migrations = _migrate(settings)

    def _state(self, name: str) -> tuple[str, int]:
        """A digest of the catalog's rows of this schema, and the size of its tables and indexes in bytes."""
        ((digest, size),) = self._admin.execute(_STATE, {"schema": name})
        return digest, size

    def _renamed(self, name: str, new_name: str) -> bool:
        """Give the schema another name, so that nothing reaches it any more that a test has left; False without one."""
        try:
            self._execute(f'ALTER SCHEMA "{name}" RENAME TO "{new_name}"')
        except psycopg.errors.InvalidSchemaName:
            return False
        return True

    def _drop(self, name: str) -> None:
        self._execute(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')

    def _execute(self, *statements: str) -> None:
        self._admin.execute(";\n".join(statements).encode())


def _migrate(settings: Settings) -> list[str]:
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
    return [statement.strip().replace(settings.db_schema, "{schema}") for statement in script]
