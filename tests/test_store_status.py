"""How syncs are doing, connection by connection: states, what comes next, and numbers, without reading a record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.errors import AuthenticationFailed
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, credential_state, jobs, queue, schema, status, syncs
from nango_dagster.store.jobs import Counts
from nango_dagster.store.status import Status
from nango_dagster.store.sync_row import SyncRow
from tests.executions import PAGING, Source, items
from tests.fake_api import FakeApi

HOUR = timedelta(hours=1)


@pytest.fixture
def row(db: Database) -> SyncRow:
    """An hourly sync of an integration with one connection."""
    row = register(db)
    connections.add(db, None, connections.NewConnection("github", "acme"))
    return row


def register(db: Database, name: str = "issues", **fields: Any) -> SyncRow:
    given: dict[str, Any] = {"integration": "github", "frequency": "every hour", **fields}
    given = {"url": "https://api.example.com/items", **given}
    return syncs.register(db, [Sync(name=name, **given)])[name]


@contextmanager
def executing(db: Database, row: SyncRow, connection_id: str = "acme", run_id: str = "run-1") -> Iterator[int]:
    """An execution that has begun; its job's id."""
    worker = queue.start_worker(db, row.id, run_id)
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[(connection_id, "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, run_id)
    yield job_id
    with db.begin() as connection:
        queue.release(connection, db, claim, succeeded=True)
    queue.end_worker(db, worker)


def execute(db: Database, row: SyncRow, ended: str = "succeeded", connection_id: str = "acme", **more: Any) -> None:
    with executing(db, row, connection_id) as job_id, db.begin() as connection:
        jobs.finish(connection, db, job_id, Counts(added=3), jobs.End(ended, **more))


def change(db: Database, **values: Any) -> None:
    """Let all schedules be like this."""
    with db.begin() as connection:
        connection.execute(sa.update(schema.schedules).values(**values))


def only(db: Database, row: SyncRow) -> Status:
    (one,) = status.read(db, [row])
    return one


def now() -> datetime:
    return datetime.now(timezone.utc)


# --- states -----------------------------------------------------------------------------------------------------------


def test_what_never_ran_is_due_since_it_was_made(db: Database, row: SyncRow) -> None:
    one = only(db, row)
    assert (one.state, one.is_due, one.job, one.live_count) == ("SUCCESS", True, None, 0)
    assert one.next_run_at == one.created_at


def test_what_is_being_executed_is_running_and_its_next_run_is_the_next_slot(db: Database, row: SyncRow) -> None:
    with executing(db, row) as job_id:
        one = only(db, row)
    assert (one.state, one.is_due, one.is_held) == ("RUNNING", False, True)
    assert one.job is not None and (one.job.id, one.job.run_id, one.job.attempt) == (job_id, "run-1", 1)
    assert one.next_run_at is not None and now() < one.next_run_at <= now() + HOUR


@pytest.mark.parametrize(("ended", "state"), [("succeeded", "SUCCESS"), ("failed", "ERROR"), ("cancelled", "ERROR")])
def test_the_last_job_says_how_it_went(db: Database, row: SyncRow, ended: str, state: str) -> None:
    execute(db, row)
    execute(db, row, ended, error=None if ended == "succeeded" else "it broke", stack="a long story")
    one = only(db, row)
    assert (one.state, one.is_due) == (state, False)
    assert one.job is not None and (one.job.status, one.job.added, one.job.error_stack) == (ended, 3, None)


def test_a_paused_one_has_no_next_run_and_is_due_only_when_somebody_asks(db: Database, row: SyncRow) -> None:
    queue.set_state(db, row.id, "PAUSED")
    one = only(db, row)
    assert (one.state, one.is_due, one.next_run_at) == ("PAUSED", False, None)
    queue.trigger(db, row.id)
    one = only(db, row)
    assert (one.state, one.is_due, one.next_run_at) == ("PAUSED", True, one.triggered_at)


def test_a_disabled_sync_is_stopped(db: Database, row: SyncRow) -> None:
    one = only(db, register(db, enabled=False))
    assert (one.state, one.is_due, one.next_run_at) == ("STOPPED", False, None)


def test_what_needs_reauthorisation_waits_for_it_unless_it_is_triggered(db: Database, row: SyncRow) -> None:
    for _ in range(queue.REAUTHORISE_AFTER):
        credential_state.note_auth_failure(db, "github", "acme")
    one = only(db, row)
    assert (one.needs_reauthorisation, one.is_due, one.next_run_at) == (True, False, None)
    queue.trigger(db, row.id)
    assert only(db, row).is_due


# --- what comes next ----------------------------------------------------------------------------------------------


def test_the_next_run_is_the_syncs_next_slot(db: Database, row: SyncRow) -> None:
    execute(db, row)
    one = only(db, row)
    assert (one.frequency, one.next_run_at) == ("every hour", row.sync.next_slot(now()))


def test_a_slot_that_nobody_took_is_due(db: Database, row: SyncRow) -> None:
    execute(db, row)
    change(db, last_started_at=now() - 2 * HOUR)
    one = only(db, row)
    assert (one.is_due, one.next_run_at) == (True, row.sync.latest_slot(now()))


def test_a_frequency_of_its_own_has_its_own_slots(db: Database, row: SyncRow) -> None:
    execute(db, row)
    assert queue.set_frequency(db, row.id, "acme", None, "every 5 minutes") == 1
    one = only(db, row)
    assert (one.frequency, one.is_due) == ("every 5 minutes", False)
    assert one.next_run_at is not None and now() < one.next_run_at <= now() + timedelta(minutes=5)
    past = now() - timedelta(minutes=1)
    change(db, due_at=past)
    assert (only(db, row).is_due, only(db, row).next_run_at) == (True, past)


def test_what_was_put_off_waits_until_then(db: Database, row: SyncRow) -> None:
    later = now() + 3 * HOUR
    change(db, not_before=later)
    assert (only(db, row).is_due, only(db, row).next_run_at) == (False, later)
    change(db, not_before=now() - HOUR)
    assert only(db, row).is_due


def test_a_lost_run_is_counted_and_due_at_once(db: Database, row: SyncRow) -> None:
    execute(db, row)
    change(db, losses=1)
    one = only(db, row)
    assert (one.losses, one.is_due) == (1, True)
    change(db, losses=2)
    assert not only(db, row).is_due


LONG_AGO = datetime(2024, 1, 1, tzinfo=timezone.utc)
FAR_OFF = datetime(2999, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "values",
    [
        {"losses": 0},
        {"last_started_at": LONG_AGO},
        {"last_started_at": FAR_OFF},
        {"state": "PAUSED"},
        {"state": "PAUSED", "triggered_at": LONG_AGO},
        {"not_before": FAR_OFF},
        {"not_before": LONG_AGO},
        {"triggered_at": LONG_AGO, "not_before": FAR_OFF},
        {"last_started_at": FAR_OFF, "losses": 1},
        {"last_started_at": FAR_OFF, "losses": 2},
        {"last_started_at": LONG_AGO, "due_at": FAR_OFF},
        {"last_started_at": FAR_OFF, "due_at": LONG_AGO},
    ],
)
def test_due_is_what_the_queue_takes_for_due(db: Database, row: SyncRow, values: dict[str, Any]) -> None:
    change(db, **values)
    assert only(db, row).is_due == (queue.count_due(db, row.id, row.sync.latest_slot(now())) == 1)


# --- all connections --------------------------------------------------------------------------------------------------


def test_the_numbers_of_a_sync(db: Database, settings: Settings, api: FakeApi) -> None:
    source = Source(api, items(1, 2, 3))
    row = register(db, url=api.url + source.path, unique_key="id", retries=0, **PAGING)
    for name in ("a", "b", "c", "d", "e"):
        connections.add(db, None, connections.NewConnection("github", name))
    connections.add_variant(db, row.id, "a", "eu")
    for name in ("a", "b"):
        with runs.claimed(db, settings, row, connection_id=name) as execution:
            execution.run()
    execute(db, row, "failed", "c", error=str(AuthenticationFailed()))
    queue.set_state(db, row.id, "PAUSED", "d")
    for _ in range(queue.REAUTHORISE_AFTER):
        credential_state.note_auth_failure(db, "github", "e")
    found = status.read(db, [row])
    assert [(one.connection_id, one.variant) for one in found] == [
        ("a", "base"), ("b", "base"), ("c", "base"), ("d", "base"), ("e", "base"), ("a", "eu"),
    ]  # fmt: skip
    assert status.summaries(found) == {
        row.id: status.Summary(
            total=6, succeeded=2, failed=1, never_run=3, paused=1, due=1, needs_reauthorisation=1, records=6
        )
    }
    (variant,) = status.read(db, [row], "a", "eu")
    assert (variant.variant, variant.live_count) == ("eu", 0)
    assert [one.variant for one in status.read(db, [row], "a")] == ["base", "eu"]
    assert status.read(db, [row], "nobody") == [] and status.read(db, []) == []


def test_each_sync_has_its_own_numbers_also_without_connections(db: Database, row: SyncRow) -> None:
    single = register(db, "single", integration=None, cron="0 6 * * *", frequency=None, timezone="Europe/Berlin")
    execute(db, row)
    found = status.summaries(status.read(db, [row, single]))
    assert (found[row.id].succeeded, found[single.id].never_run) == (1, 1)
    assert only(db, single).frequency == "0 6 * * * Europe/Berlin"


def test_many_connections_cost_two_statements(db: Database, row: SyncRow) -> None:
    made = now()
    with db.begin() as connection:
        names = [f"c{number}" for number in range(300)]
        common = {"created_at": made, "sync_id": row.id, "variant": "base"}
        connection.execute(sa.insert(schema.schedules), [{**common, "connection_id": name} for name in names])
    said: list[str] = []
    sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", lambda *args: said.append(args[2]))
    assert status.summary(status.read(db, [row])).total == 301
    assert len(said) <= 2, said
