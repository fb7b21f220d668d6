"""A PostgreSQL role that has only the rights of the page on operations can do its work, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import open_database
from tests.conftest import ROOT
from tests.executions import Source, assert_exact, execute, items
from tests.fake_api import FakeApi

PAGE = (ROOT / "docs" / "how-to" / "operations.md").read_text()


@pytest.fixture
def database(pg_server: str) -> Iterator[sa.URL]:
    """A database of its own in which PUBLIC has no rights; dropped afterwards with the page's roles."""
    url = sa.make_url(pg_server)
    server = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE granted")
        admin.execute("REVOKE ALL ON DATABASE granted FROM PUBLIC")
        try:
            yield url.set(database="granted")
        finally:
            admin.execute("DROP DATABASE granted WITH (FORCE)")
            admin.execute("DROP ROLE IF EXISTS nango_writer, app_reader")


@pytest.mark.postgresql
def test_the_granted_rights_are_enough_for_syncs_and_for_a_reader_that_sees_no_credentials(
    database: sa.URL, settings_of_role: Settings, api: FakeApi
) -> None:
    db = open_database(settings_of_role)
    try:
        upserted, replaced = Source(api, items(1, 2, 3)), Source(api, items(4, 5), path="/replaced")
        contacts = upserted.registered(
            db, name="contacts", unique_key="id", mapped_table="contacts", track_deletes=True
        )
        execute(db, settings_of_role, contacts)
        upserted.records = items(2, 3, 4, city="Paris")
        execute(db, settings_of_role, contacts)
        assert_exact(db, contacts, upserted.records)
        lists = replaced.registered(db, name="lists", mapped_table="lists")
        execute(db, settings_of_role, lists)
        replaced.records = items(6)
        execute(db, settings_of_role, lists)
        assert_exact(db, lists, replaced.records)
    finally:
        db.close()
    _, reader = _statements()
    _as_admin(database, reader)
    login = database.set(drivername="postgresql", username="app_reader").render_as_string(hide_password=False)
    with psycopg.connect(login, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM nango.contacts WHERE _nango_deleted_at IS NULL").fetchone() == (
            3,
        )
        for forbidden in ("SELECT * FROM nango._nango_connections", "DELETE FROM nango.contacts"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


@pytest.fixture
def settings_of_role(database: sa.URL, tmp_path: Path) -> Settings:
    """The settings of the page's first role."""
    writer, _ = _statements()
    _as_admin(database, writer)
    url = database.set(username="nango_writer").render_as_string(hide_password=False)
    environment = {"NANGO_DB_URL": url, "NANGO_HOME": str(tmp_path), "NANGO_DB_SCHEMA": "nango"}
    return Settings.from_env(environment, dotenv=None)


def _statements() -> list[str]:
    """The two blocks of the page, for the database of this test."""
    blocks = re.findall(r"^```sql\n(.*?)^```$", PAGE.partition("## Rights in PostgreSQL")[2], re.M | re.S)
    return [block.replace("DATABASE app", "DATABASE granted") for block in blocks[:2]]


def _as_admin(database: sa.URL, statements: str) -> None:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(statements.encode())
