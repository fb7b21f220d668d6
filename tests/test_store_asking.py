"""People start, pause, trigger and cancel syncs while somebody else writes; they never wait for a batch."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import event

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, jobs, open_database, queue, status, syncs
from nango_dagster.store.queue import Claim, Schedule, State
from nango_dagster.store.syncs import SyncRow
from tests.apis import URL, calling

GITHUB = {"provider_config_key": "github", "syncs": ["issues"]}
ACME = {**GITHUB, "connection_id": "acme"}
HOURLY = {"provider_config_key": "github", "connection_id": "acme", "sync_name": "issues", "frequency": "every hour"}


@pytest.fixture
def row(db: Database) -> SyncRow:
    """A sync of two connections that have been executed."""
    for connection_id in ("acme", "beta"):
        connections.add(db, None, "github", connection_id)
    return syncs.register(db, [Sync(name="issues", url=URL, integration="github")])["issues"]


def only(db: Database, row: SyncRow, connection_id: str = "acme") -> Schedule:
    (found,) = [one for one in queue.schedules(db, [row.id]) if one.connection_id == connection_id]
    return found


@contextlib.contextmanager
def writing(db: Database, row: SyncRow) -> Iterator[Claim]:
    """Acme is being executed, and a batch of it is written and not yet committed; it is released in the same step."""
    dataset = datasets.find_or_make(db, row.id, row.integration, "acme", "base", row.sync.model)
    worker = queue.start_worker(db, row.id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True, only=[("acme", "base")])
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run")
    with db.begin() as connection:
        queue.lock_dataset(connection, db, row.id, "acme", "base")
        queue.check(connection, db, claim)
        datasets.identify(connection, dataset.id, "id")
        yield claim
        jobs.finish(connection, db, job_id, "succeeded", jobs.Counts(), "no_cursor")
        queue.release(connection, db, claim, succeeded=True)
    queue.end_worker(db, worker)


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "pause", ACME),
        ("POST", "pause", GITHUB),
        ("POST", "start", ACME),
        ("POST", "trigger", ACME),
        ("POST", "trigger", {**ACME, "opts": {"reset": True}}),
        ("POST", "cancel", ACME),
        ("PUT", "update-connection-frequency", HOURLY),
    ],
)
def test_a_call_is_answered_while_a_batch_is_not_yet_committed(
    method: str, path: str, body: dict[str, Any], settings: Settings, db: Database, row: SyncRow
) -> None:
    """The batch waits for the answer, so an answer that waited for the batch would never come."""
    with calling(settings, db) as http, ThreadPoolExecutor(1) as pool:
        with writing(db, row):
            answer = pool.submit(http.request, method, f"/sync/{path}", json=body).result(20)
            assert answer.status_code == 200, answer.text
        assert pool.submit(http.request, method, f"/sync/{path}", json=body).result(20).status_code == 200


def test_who_looks_sees_what_was_asked_before_the_batch_is_committed(
    settings: Settings, db: Database, row: SyncRow
) -> None:
    of_beta = {**GITHUB, "connection_id": "beta"}
    with calling(settings, db) as http, writing(db, row):
        assert http.post("/sync/pause", json=of_beta).status_code == 200
        found = http.get("/sync/status", params={"provider_config_key": "github", "syncs": "issues"}).json()["syncs"]
        assert [(one["connection_id"], one["status"]) for one in found] == [("acme", "RUNNING"), ("beta", "PAUSED")]
        assert queue.count_states(db, row.id) == {"STARTED": 1, "PAUSED": 1}
        assert http.post("/sync/trigger", json=of_beta).status_code == 200
        assert queue.waiting(db)[row.id].asked is not None
    assert (only(db, row, "beta").state, only(db, row, "beta").triggered_at is None) == ("PAUSED", False)


# --- what becomes of it ---------------------------------------------------------------------------------------------


def test_a_trigger_during_an_execution_is_ignored_also_where_it_has_to_wait(db: Database, row: SyncRow) -> None:
    with writing(db, row):
        assert queue.trigger(db, row.id, "acme") == 0
        assert queue.trigger(db, row.id) == 1
    assert (only(db, row).triggered_at, only(db, row, "beta").triggered_at is None) == (None, False)


def test_a_reset_during_the_last_batch_is_answered_by_the_next_execution(db: Database, row: SyncRow) -> None:
    with writing(db, row):
        assert queue.trigger(db, row.id, "acme", reset=True, empty_cache=True) == 1
    worker = queue.start_worker(db, row.id, "next")
    (claim,) = queue.claim(db, worker, limit=9, slot=None)
    assert (claim.connection_id, claim.reset, claim.empty_cache) == ("acme", True, True)


def test_a_cancel_is_seen_by_what_is_being_executed_before_the_others_batch_is_committed(
    db: Database, row: SyncRow
) -> None:
    worker = queue.start_worker(db, row.id, "another")
    (beta,) = queue.claim(db, worker, limit=1, slot=None, force=True, only=[("beta", "base")])
    with writing(db, row):
        assert not queue.is_cancelled(db, beta)
        assert queue.cancel(db, row.id, "beta") == 1
        assert queue.is_cancelled(db, beta)
    assert queue.is_cancelled(db, beta)


def test_a_pause_is_in_force_before_anybody_claims(db: Database, row: SyncRow) -> None:
    """The batch is rolled back, as when its process dies; what was asked meanwhile is not."""
    with contextlib.suppress(InterruptedError), writing(db, row):
        assert queue.set_state(db, row.id, "PAUSED", "beta") == 1
        raise InterruptedError
    worker = queue.start_worker(db, row.id, "next")
    slot = status.read(db, [row])[0].slots.latest
    assert queue.claim(db, worker, limit=9, slot=slot, only=[("beta", "base")]) == []
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
    with db.begin():
        assert queue.cancel(db, row.id, "acme") == 1
    if given_up:
        queue.give_up(db, worker, claim, "It could not be ended.")
    queue.end_worker(db, worker)
    assert (only(db, row).losses, only(db, row).cancelled_at) == (0, None)


def test_a_new_variant_is_paused_as_its_base_was_a_moment_before(db: Database, row: SyncRow) -> None:
    with db.begin():
        assert queue.set_state(db, row.id, "PAUSED", "acme", "base") == 1
    assert connections.add_variant(db, row.id, "acme", "second")
    assert [one.state for one in queue.schedules(db, [row.id]) if one.variant == "second"] == ["PAUSED"]


def test_a_connection_that_is_made_anew_is_not_paused_as_the_deleted_one_was(db: Database, row: SyncRow) -> None:
    with db.begin():
        assert queue.set_state(db, row.id, "PAUSED", "acme") == 1
    assert connections.remove(db, "github", "acme")
    connections.add(db, None, "github", "acme")
    assert only(db, row).state == "STARTED"


def test_what_was_triggered_is_put_off_with_the_rest(db: Database, row: SyncRow) -> None:
    worker, until = queue.start_worker(db, row.id, "run"), datetime.now(timezone.utc) + timedelta(hours=1)
    with db.begin():
        assert queue.trigger(db, row.id, "acme") == 1
    queue.put_off(db, worker, until, None)
    assert queue.claim(db, worker, limit=9, slot=None) == []


# --- SQLite's file of what waits --------------------------------------------------------------------------------------

ASKS = st.lists(
    st.sampled_from(["start", "pause", "trigger", "reset", "empty", "cancel", "hourly", "as before"]), max_size=6
)


def ask(db: Database, row: SyncRow, what: str) -> int:
    if what in ("start", "pause"):
        return queue.set_state(db, row.id, "STARTED" if what == "start" else "PAUSED", "acme")
    if what in ("hourly", "as before"):
        return queue.set_frequency(db, row.id, "acme", None, "every hour" if what == "hourly" else None)
    if what == "cancel":
        return queue.cancel(db, row.id, "acme")
    return queue.trigger(db, row.id, "acme", reset=what != "trigger", empty_cache=what == "empty")


def seen(db: Database, row: SyncRow) -> dict[str, Any]:
    """The schedule, but for what is another one's, and with moments as whether there is one."""
    found = vars(only(db, row))
    moments = {name: value is not None for name, value in found.items() if name.endswith("_at")}
    return {**found, **moments, "id": 0, "sync_id": 0, "worker_id": 0, "run_id": ""}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("asking")
    database = open_database(Settings(home=folder, db_url=f"sqlite:///{folder / 'nango.db'}"))
    connections.add(database, None, "github", "acme")
    yield database
    database.close()


def fresh(db: Database) -> SyncRow:
    """A sync that no example before has asked anything of."""
    name = f"sync{os.urandom(6).hex()}"
    return syncs.register(db, [Sync(name=name, url=URL, integration="github")])[name]


@examples(deadline=None, max_examples=30)
@given(asks=ASKS, held=st.booleans())
def test_what_has_to_wait_comes_out_as_what_is_done_at_once(sqlite: Database, asks: list[str], held: bool) -> None:
    at_once, later = fresh(sqlite), fresh(sqlite)
    if held:
        for row in (at_once, later):
            assert queue.claim(sqlite, queue.start_worker(sqlite, row.id, None), limit=1, slot=None, force=True)
    counts = [ask(sqlite, at_once, what) for what in asks]
    with sqlite.begin():
        assert [ask(sqlite, later, what) for what in asks] == counts
        assert seen(sqlite, later) == seen(sqlite, at_once)
    assert seen(sqlite, later) == seen(sqlite, at_once)
    queue.set_state(sqlite, at_once.id, "STARTED", "nobody")  # whoever writes does what waits
    with sqlite.connect() as connection:
        plain = connection.exec_driver_sql("SELECT state FROM _nango_schedules WHERE sync_id = ?", (later.id,))
        assert plain.scalar_one() == only(sqlite, at_once).state


def test_each_request_is_done_once_whichever_file_is_lost(sqlite: Database) -> None:
    row = fresh(sqlite)
    file = Path(f"{sqlite.engine.url.database}-asked")
    states: list[State] = ["PAUSED", "STARTED", "PAUSED"]
    for number, state in enumerate(states):
        with sqlite.begin():
            assert queue.set_state(sqlite, row.id, state) == 1
        queue.trigger(sqlite, row.id, "nobody")
        assert only(sqlite, row).state == state
        if number == 1:
            for one in file.parent.glob(f"{file.name}*"):
                one.unlink()
    # Nothing that was done is done again.
    queue.set_state(sqlite, row.id, "STARTED")
    queue.trigger(sqlite, row.id, "nobody")
    assert only(sqlite, row).state == "STARTED"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[tuple[Database, SyncRow]]:
    """The SQLite database in a folder, with a sync of acme; nobody has it open afterwards."""
    database = open_database(Settings(home=folder, db_url=f"sqlite:///{folder / 'nango.db'}"))
    with contextlib.closing(database):
        connections.add(database, None, "github", "acme")
        yield database, syncs.register(database, [Sync(name="issues", url=URL, integration="github")])["issues"]


def remove_database(folder: Path) -> None:
    """As people do, who do not know of the file beside it."""
    for name in ("nango.db", "nango.db-wal", "nango.db-shm"):
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("done", [False, True])
def test_nobody_has_asked_anything_of_a_new_database_in_the_place_of_another(folder: Path, done: bool) -> None:
    with opened(folder) as (db, row):
        with db.begin():
            assert queue.set_state(db, row.id, "PAUSED") == 1
        if done:
            queue.trigger(db, row.id, "nobody")
    remove_database(folder)
    with opened(folder) as (db, new):
        assert (new.id, only(db, new).state) == (row.id, "STARTED")
        with db.begin():
            assert queue.set_state(db, row.id, "PAUSED") == 1
        assert only(db, new).state == "PAUSED"


@pytest.mark.parametrize("seen", [False, True])
def test_a_backup_is_as_it_was_whatever_was_asked_and_done_since(folder: Path, tmp_path: Path, seen: bool) -> None:
    with opened(folder) as (db, row):
        with contextlib.closing(sqlite3.connect(folder / "nango.db")) as file:
            file.execute("VACUUM INTO ?", (str(tmp_path / "backup"),))
        with db.begin():
            assert queue.trigger(db, row.id, reset=True, empty_cache=True) == 1
            assert queue.set_state(db, row.id, "PAUSED") == 1
        queue.trigger(db, row.id, "nobody")
        if seen:
            assert only(db, row).state == "PAUSED"
        else:
            queue.end_worker(db, queue.start_worker(db, row.id, None))
    remove_database(folder)
    shutil.copy(tmp_path / "backup", folder / "nango.db")
    with opened(folder) as (db, row):
        for _ in range(2):
            assert (only(db, row).state, only(db, row).reset, only(db, row).empty_cache) == ("STARTED", False, False)
            queue.trigger(db, row.id, "nobody")


def test_what_waits_is_in_a_backup_of_both_files(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as (db, row):
        with db.begin():
            assert queue.set_state(db, row.id, "PAUSED") == 1
        shutil.copytree(folder, tmp_path / "backup")
        queue.trigger(db, row.id, "nobody")
        assert queue.set_state(db, row.id, "STARTED") == 1
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with opened(folder) as (db, row):
        assert only(db, row).state == "PAUSED"


def test_what_waits_for_others_costs_a_look_at_one_of_them_nothing(sqlite: Database) -> None:
    """Each execution looks every two seconds whether it was cancelled."""
    mine, other = fresh(sqlite), fresh(sqlite)
    (claim,) = queue.claim(sqlite, queue.start_worker(sqlite, mine.id, None), limit=1, slot=None, force=True)
    said: list[str] = []
    with sqlite.begin():
        queue.cancel(sqlite, other.id)
        queue.cancel(sqlite, mine.id, "beta")
        event.listen(sqlite.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
        assert not queue.is_cancelled(sqlite, claim)
        assert not [one for one in said if "TEMP" in one]
        queue.cancel(sqlite, mine.id)
        assert queue.is_cancelled(sqlite, claim)
