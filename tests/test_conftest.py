"""The ground the other tests stand on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import nango_dagster
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, upgrade
from tests.one_connection import Watch
from tests.prepared_store import PreparedSchemas, PreparedStore
from tests.writing import Target


def test_the_postgresql_server_answers(pg_server: str) -> None:
    with psycopg.connect(pg_server.replace("+psycopg", "")) as connection:
        (version,) = connection.execute("SHOW server_version_num").fetchone() or ("0",)
    assert int(version) >= 120000


def test_the_developers_own_settings_do_not_reach_a_test() -> None:
    assert "DAGSTER_HOME" not in os.environ
    assert not [name for name in os.environ if name.startswith(("NANGO_", "PIZZLY_"))]


def test_a_test_runs_in_a_directory_of_its_own() -> None:
    assert os.listdir() == []


def test_who_asks_for_a_second_connection_to_the_store_is_found_out(db: Database, _pools: Watch) -> None:
    package = Path(nango_dagster.__file__).parent
    code = """def twice(db):
    with db.connect(), db.connect():
        pass"""
    found: dict[str, Any] = {}
    exec(compile(code, str(package / "made_up.py"), "exec"), found)
    found["twice"](db)
    nested, _pools.nested[:] = list(_pools.nested), []
    assert nested == ["made_up.py:2, while made_up.py:2 held one"]


def test_a_prepared_store_has_the_schema_of_a_migrated_one(settings: Settings, prepared_store: PreparedStore) -> None:
    open_database(settings).close()
    migrated = schema_of(settings)
    assert "raw_deleted" in migrated  # the name of an index
    remove_store(settings)
    prepared_store.create(settings)  # the first store of a process is migrated, later ones are copies
    remove_store(settings)
    prepared_store.create(settings)
    assert schema_of(settings) == migrated


def test_the_next_test_gets_the_tables_of_the_last_one_empty_and_as_migrated(
    pg_server: str, prepared_schemas: PreparedSchemas
) -> None:
    with store(pg_server, prepared_schemas) as (settings, db):
        before = schema_of(settings), first_table(db)
        Target(db, unique_key="id").write([{"id": 1, "name": "a"}])
        with db.begin() as connection:
            connection.execute(sa.text("UPDATE _nango_migrations SET version_num = '0000'"))
    with store(pg_server, prepared_schemas) as (settings, db):
        assert (schema_of(settings), first_table(db)) == before
        assert upgrade.is_current(db)
        target = Target(db, unique_key="id")
        assert (target.row.id, target.dataset.id, target.raw()) == (1, 1, {})


@pytest.mark.parametrize("change", ["CREATE INDEX slow ON _nango_syncs (url)", "ALTER TABLE _nango_syncs DROP url"])
def test_a_table_that_a_test_has_altered_is_not_used_again(
    pg_server: str, prepared_schemas: PreparedSchemas, change: str
) -> None:
    with store(pg_server, prepared_schemas) as (settings, db):
        before, table = schema_of(settings), first_table(db)
        with db.begin() as connection:
            connection.execute(sa.text(change))
    with store(pg_server, prepared_schemas) as (settings, db):
        assert schema_of(settings) == before
        assert first_table(db) != table


@contextmanager
def store(url: str, schemas: PreparedSchemas) -> Iterator[tuple[Settings, Database]]:
    """A store on PostgreSQL, as one test gets it."""
    with schemas.fresh() as name:
        settings = Settings.from_env({"NANGO_DB_URL": url, "NANGO_DB_SCHEMA": name}, dotenv=None)
        schemas.create(settings)
        with closing(open_database(settings, migrate=False)) as db:
            yield settings, db


def first_table(db: Database) -> int:
    """The database's own number of a table."""
    with db.connect() as connection:
        oid: int = connection.execute(sa.text("SELECT CAST('_nango_syncs'::regclass AS bigint)")).scalar_one()
    return oid


def schema_of(settings: Settings) -> str:
    """The tables, views, columns and indexes of the store, without the name of its schema."""
    database = open_database(settings, migrate=False)
    try:
        with database.connect() as connection:
            if database.engine.name == "sqlite":
                statement = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
            else:
                statement = f"""
                    SELECT c.relname, a.attname, a.attnotnull, format_type(a.atttypid, a.atttypmod), a.attcompression,
                        pg_get_expr(d.adbin, d.adrelid), pg_get_indexdef(c.oid), pg_get_viewdef(c.oid), c.reloptions
                    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
                    WHERE c.relnamespace = '"{settings.db_schema}"'::regnamespace
                    ORDER BY c.relname, a.attnum"""
            rows = connection.execute(sa.text(statement)).all()
    finally:
        database.close()
    return "\n".join(map(str, rows)).replace(settings.db_schema, "schema")


def remove_store(settings: Settings) -> None:
    url = sa.make_url(settings.db_url)
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").unlink()
    else:
        with psycopg.connect(settings.db_url.replace("+psycopg", "")) as connection:
            connection.execute(f'DROP SCHEMA "{settings.db_schema}" CASCADE'.encode())
