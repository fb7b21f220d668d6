"""A store that a release has made opens in every later one, and keeps its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, is_current, jobs, listing, open_database, outbox, queue
from nango_dagster.store.listing import RecordSelection
from nango_dagster.vault import Vault
from tests import released_store
from tests.conftest import fresh_schema
from tests.released_store import CREDENTIALS, LATER, target


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database that holds the released store, not upgraded yet."""
    if request.param == "sqlite":
        found = released_store.settings(tmp_path)
        released_store.load("sqlite", found)
        yield found
        return
    url: str = request.getfixturevalue("pg_server")
    with fresh_schema(url) as name:
        found = released_store.settings(tmp_path, url, name)
        released_store.load("postgresql", found)
        yield found


@pytest.fixture
def counts(settings: Settings) -> dict[str, int]:
    """The number of rows of each table before the upgrade."""
    database = open_database(settings, migrate=False)
    try:
        return count_rows(database)
    finally:
        database.close()


@pytest.fixture
def db(settings: Settings, counts: dict[str, int]) -> Iterator[Database]:
    """The released store, opened and upgraded."""
    database = open_database(settings)
    try:
        yield database
    finally:
        database.close()


def count_rows(db: Database) -> dict[str, int]:
    with db.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        return {table: connection.execute(sa.text(f'SELECT count(*) FROM "{table}"')).scalar_one() for table in tables}


def test_a_released_store_is_upgraded_and_keeps_every_row(db: Database, counts: dict[str, int]) -> None:
    assert is_current(db)
    now = count_rows(db)
    assert {table: now[table] for table in counts} == counts
    assert all(counts[f"_nango_{table}"] for table in ("syncs", "connections", "schedules", "datasets", "jobs", "raw"))


def test_its_records_are_listed_with_their_changes(db: Database) -> None:
    page = listing.page(db, target(db).dataset.id, RecordSelection(), 10)
    changes = {record.external_id: (record.action, record.text) for record in page.records}
    assert changes["1"] == ("updated", '{"id":1,"name":"Anna","price":2}')
    assert changes["2"] == ("added", '{"id":2,"name":"Bob","tags":["a","b"]}')
    assert changes["3"][0] == "deleted"


def test_its_records_are_recognized_as_unchanged(db: Database) -> None:
    written = target(db).write(LATER)
    assert (written.counts, written.new_columns) == ((0, 0, 0, 2), ())


def test_its_mapped_rows_are_there(db: Database) -> None:
    target(db).assert_exact()


def test_its_credentials_can_be_read(db: Database, settings: Settings) -> None:
    assert connections.credentials(db, Vault.open(settings), "crm", "acme") == CREDENTIALS
    connection = connections.get(db, "crm", "acme")
    assert connection is not None and connection.metadata == {"region": "eu"}


def test_its_job_its_request_and_its_notification_are_there(db: Database) -> None:
    sync_id = target(db).row.id
    (job,) = jobs.list_jobs(db, sync_id)
    assert job.status == "failed"
    assert queue.count_due(db, sync_id, None) == 1
    assert {notification.delivery.kind for notification in outbox.listed(db)} == {"changes", "failure"}
