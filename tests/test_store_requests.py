"""People start, pause, trigger and cancel syncs while a batch is being written; no request is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, jobs, open_database, queue, syncs
from nango_dagster.store.queue import Claim, Schedule
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.target import Target
from tests.apis import URL, calling

GITHUB = {"provider_config_key": "github", "syncs": ["issues"]}
ACME = {**GITHUB, "connection_id": "acme"}
HOURLY = {"provider_config_key": "github", "connection_id": "acme", "sync_name": "issues", "frequency": "every hour"}


@pytest.fixture
def row(db: Database) -> SyncRow:
    """A sync of two connections that have been executed."""
    for connection_id in ("acme", "beta"):
        connections.add(db, None, connections.NewConnection("github", connection_id))
    return syncs.register(db, [Sync(name="issues", url=URL, integration="github")])["issues"]


def only(db: Database, row: SyncRow, connection_id: str = "acme") -> Schedule:
    (schedule,) = [one for one in queue.schedules(db, [row.id]) if one.connection_id == connection_id]
    return schedule


@contextlib.contextmanager
def writing(db: Database, row: SyncRow) -> Iterator[Claim]:
    """While the block runs, acme is executed and its last batch is written but not committed."""
    dataset = datasets.find_or_make(db, row.id, row.integration, "acme", "base", row.sync.model)
    worker = queue.start_worker(db, row.id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True, only=[("acme", "base")])
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run")
    with db.begin() as connection:
        queue.lock_dataset(connection, db, Target(row.id, "acme", "base"))
        queue.check(connection, db, claim)
        datasets.identify(connection, dataset.id, "id")
        yield claim
        jobs.finish(connection, db, job_id, jobs.Counts(), jobs.End("succeeded", "no_cursor"))
        queue.release(connection, db, claim, succeeded=True)
    queue.end_worker(db, worker)


REQUESTS = [
    ("POST", "pause", ACME),
    ("POST", "pause", GITHUB),
    ("POST", "start", ACME),
    ("POST", "trigger", ACME),
    ("POST", "trigger", {**ACME, "opts": {"reset": True}}),
    ("POST", "cancel", ACME),
    ("PUT", "update-connection-frequency", HOURLY),
]


def during_the_last_batch(db: Database, row: SyncRow, request: Callable[[], int]) -> int:
    """Make a request while the last batch is written; on SQLite it waits until that is committed."""
    with ThreadPoolExecutor(1) as pool:
        with writing(db, row):
            answer = pool.submit(request)
            with contextlib.suppress(TimeoutError):
                answer.result(0.5)
        return answer.result(30)


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.postgresql
@pytest.mark.parametrize("settings_env", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_on_postgresql_a_call_does_not_wait_for_a_batch(
    method: str, path: str, body: dict[str, Any], settings: Settings, db: Database, row: SyncRow
) -> None:
    """The batch waits for the answer, so an answer that waited for the batch would never come."""
    with calling(settings, db) as http, ThreadPoolExecutor(1) as pool:
        with writing(db, row):
            answer = pool.submit(http.request, method, f"/sync/{path}", json=body).result(20)
            assert answer.status_code == 200, answer.text
        assert pool.submit(http.request, method, f"/sync/{path}", json=body).result(20).status_code == 200


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_on_sqlite_a_call_during_a_long_batch_is_told_to_try_again(
    settings: Settings, db: Database, row: SyncRow
) -> None:
    """It changes nothing, says so within seconds, and the next try succeeds."""
    with contextlib.closing(open_database(settings, serving=True)) as serving, calling(settings, serving) as http:
        with writing(db, row):
            answer = http.post("/sync/pause", json=ACME)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
            assert "try again" in answer.json()["error"]["message"]
        assert only(db, row).state == "STARTED"
        assert http.post("/sync/pause", json=ACME).status_code == 200
    assert only(db, row).state == "PAUSED"


# --- what becomes of it ---------------------------------------------------------------------------------------------


def test_a_trigger_during_an_execution_is_ignored(db: Database, row: SyncRow) -> None:
    worker = queue.start_worker(db, row.id, "run")
    assert queue.claim(db, worker, limit=1, slot=None, force=True, only=[("acme", "base")])
    assert queue.trigger(db, row.id, "acme") == 0
    assert queue.trigger(db, row.id) == 1
    assert (only(db, row).triggered_at, only(db, row, "beta").triggered_at is None) == (None, False)


def test_a_reset_during_the_last_batch_is_answered_by_the_next_execution(db: Database, row: SyncRow) -> None:
    count = during_the_last_batch(db, row, lambda: queue.trigger(db, row.id, "acme", reset=True, empty_cache=True))
    assert count == 1
    worker = queue.start_worker(db, row.id, "next")
    (claim,) = queue.claim(db, worker, limit=9, slot=None)
    assert (claim.connection_id, claim.reset, claim.empty_cache) == ("acme", True, True)


def test_a_pause_during_the_last_batch_keeps_the_next_execution_from_beginning(db: Database, row: SyncRow) -> None:
    assert during_the_last_batch(db, row, lambda: queue.set_state(db, row.id, "PAUSED")) == 2
    worker = queue.start_worker(db, row.id, "next")
    slot = row.sync.latest_slot(datetime.now(timezone.utc))
    assert queue.claim(db, worker, limit=9, slot=slot) == []


def test_a_pause_survives_the_batch_that_is_rolled_back_meanwhile(db: Database, row: SyncRow) -> None:
    with ThreadPoolExecutor(1) as pool:
        with contextlib.suppress(InterruptedError), writing(db, row):
            answer = pool.submit(queue.set_state, db, row.id, "PAUSED", "beta")
            raise InterruptedError
        assert answer.result(30) == 1
    assert only(db, row, "beta").state == "PAUSED"


@pytest.mark.parametrize("given_up", [False, True])
def test_a_cancelled_execution_is_not_begun_again_though_its_run_dies(
    db: Database, row: SyncRow, given_up: bool
) -> None:
    worker = queue.start_worker(db, row.id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True, only=[("acme", "base")])
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        jobs.start(connection, db, claim, row, "run")
    assert queue.cancel(db, row.id, "acme") == 1
    if given_up:
        queue.give_up(db, worker, claim, "It could not be ended.")
    queue.end_worker(db, worker)
    assert (only(db, row).losses, only(db, row).cancelled_at) == (0, None)


def test_a_triggered_schedule_is_postponed_with_the_others(db: Database, row: SyncRow) -> None:
    worker, until = queue.start_worker(db, row.id, "run"), datetime.now(timezone.utc) + timedelta(hours=1)
    assert queue.trigger(db, row.id, "acme") == 1
    queue.put_off(db, worker, until, None)
    assert queue.claim(db, worker, limit=9, slot=None) == []
