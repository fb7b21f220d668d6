"""No frequent question of the store reads a whole table, on 50,000 rows of each large one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, listing, open_database, outbox, pruning, queue, schema, syncs
from nango_dagster.store.changes import ACTIONS, Cursor
from nango_dagster.store.listing import Names, RecordSelection
from tests.conftest import fresh_schema
from tests.plans import full_scans
from tests.writing import Target

ROWS = 50_000
SYNCS = 50
DATASETS = 10
LARGE = frozenset({"_nango_raw", "_nango_schedules", "_nango_webhooks"})
NOW = datetime.now(timezone.utc)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A sync that shares its database with 50,000 records, schedules and notifications."""
    folder = tmp_path_factory.mktemp("large")
    if request.param == "sqlite":
        yield from _filled(folder, {})
        return
    url: str = request.getfixturevalue("pg_server")
    with fresh_schema(url) as name:
        yield from _filled(folder, {"NANGO_DB_URL": url, "NANGO_DB_SCHEMA": name})


def _filled(folder: Path, env: dict[str, str]) -> Iterator[Target]:
    db = open_database(Settings.from_env({"NANGO_HOME": str(folder), **env}, dotenv=None))
    try:
        target = Target(db, unique_key="id", auto_mapping=False)
        target.write([{"id": "0"}])
        configs = [Sync(name=f"sync-{n}", url="https://api.example.com/", unique_key="id") for n in range(SYNCS - 1)]
        syncs.register(db, configs)
        with db.begin() as connection:
            _multiply(connection, db, target.dataset.id)
        yield target
    finally:
        db.close()


def _multiply(connection: sa.Connection, db: Database, dataset_id: int) -> None:
    """Copy one row of each large table until there are 50,000, spread over keys, times, datasets and syncs."""
    notification = {name: "" for name in ("delivery_id", "kind", "target", "circuit", "integration", "variant")}
    names = {name: "" for name in ("connection_id", "sync_name", "model", "sync_type")}
    counts = dict.fromkeys(("added", "updated", "deleted"), 0)
    times = {"created_at": NOW, "next_try_at": NOW}
    connection.execute(sa.insert(schema.webhooks).values(**notification, **names, **counts, **times))
    moment = (
        "timestamptz '2026-01-01' + n.i * interval '1 second'"
        if db.engine.name == "postgresql"
        else "strftime('%Y-%m-%d %H:%M:%f000+00:00', '2026-01-01', n.i || ' seconds')"
    )
    _copy(
        connection,
        schema.raw,
        dataset_id=f"{dataset_id} + n.i % {DATASETS}",
        external_id="CAST(n.i AS text)",
        first_seen_at=f"CASE n.i % 3 WHEN 0 THEN t.first_seen_at ELSE {moment} END",
        last_modified_at=moment,
        deleted_at=f"CASE n.i % 7 WHEN 0 THEN {moment} END",
    )
    _copy(connection, schema.schedules, sync_id=f"1 + n.i % {SYNCS}", connection_id="'c' || n.i")
    _copy(connection, schema.webhooks, next_try_at=moment, circuit="'circuit' || (n.i % 20)")
    for table in LARGE:
        connection.execute(sa.text(f"ANALYZE {table}"))


def _copy(connection: sa.Connection, table: sa.Table, **expressions: str) -> None:
    columns = [column.name for column in table.columns if column.name != "id"]
    values = ", ".join(expressions.get(name, f"t.{name}") for name in columns)
    connection.execute(
        sa.text(
            f"INSERT INTO {table.name} ({', '.join(columns)}) "
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) "
            f"SELECT {values} FROM (SELECT * FROM {table.name} LIMIT 1) t, n"
        )
    )


def claim(target: Target) -> None:
    worker = queue.start_worker(target.db, target.row.id, "run")
    assert len(queue.claim(target.db, worker, limit=5, slot=NOW)) == 5
    queue.end_worker(target.db, worker)


def look_up(target: Target) -> None:
    written = target.write([{"id": str(n)} for n in range(0, 5000, 10)])
    assert written.updated > 300


def deliver(target: Target) -> None:
    deliveries = outbox.claim(target.db, 8, timedelta(minutes=1))
    assert len(deliveries) == 8
    outbox.record(target.db, [outbox.Result(delivery) for delivery in deliveries])


def list_records(target: Target) -> None:
    names = Names(target.sync.integration_key, target.connection, "base", target.sync.model)
    for selection in (
        RecordSelection(),
        RecordSelection(actions=frozenset({"deleted"})),
        RecordSelection(ids=["10", "20"]),
    ):
        assert listing.page(target.db, target.dataset.id, selection, 2).records
        assert listing.page_of(target.db, names, selection, 2) is not None
    assert len(listing.latest(target.db, target.dataset.id, ACTIONS, 3)) == 3


def prune(target: Target) -> None:
    until = Cursor(NOW + timedelta(days=1), "")
    assert pruning.has_payloads(target.db, target.dataset, until)
    assert pruning.prune(target.db, target.dataset, until, limit=50).count == 50


@pytest.mark.parametrize("question", [claim, look_up, deliver, list_records, prune], ids=lambda it: it.__name__)
def test_a_frequent_question_reads_no_whole_table(large: Target, question: object) -> None:
    assert callable(question)
    with full_scans(large.db, LARGE) as scans:
        question(large)
    assert scans == []


def test_a_question_that_reads_a_whole_table_is_found(large: Target) -> None:
    with full_scans(large.db, LARGE) as scans, large.db.connect() as connection:
        connection.execute(sa.select(sa.func.count()).select_from(schema.raw).where(schema.raw.c.sync_id == 7))
    assert [scan.table for scan in scans] == ["_nango_raw"]
