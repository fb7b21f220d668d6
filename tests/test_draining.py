"""A drain executes all that is due of a sync, side by side, and leaves nothing held behind."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.errors import StoreUnavailable
from nango_dagster.runs import Done, Execution, Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import PAGING, Source, assert_nothing_runs, items
from tests.fake_api import FakeApi, Received, Reply

CRM = "crm"
SLOT = datetime.now(timezone.utc)
"""The one slot that there is; what is new has not begun since."""


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, items(1, 2))


def registered(db: Database, source: Source, names: Sequence[str], **fields: object) -> SyncRow:
    sync = source.sync(integration=CRM, unique_key="id", query_params={"who": "${connection_id}"}, **fields)
    row = syncs.register(db, [sync])[sync.name]
    for name in names:
        connections.add(db, None, connections.NewConnection(CRM, name))
    return row


def drain(
    db: Database, settings: Settings, row: SyncRow, only: Sequence[tuple[str, str]] | None = None
) -> dict[str, Done]:
    """One drain to its end; what became of each connection."""
    found: dict[str, Done] = {}
    with runs.Drain(db, settings, run_id="r") as work:
        work.add(row, lambda: SLOT, only=only)
        while not work.is_over:
            found.update({done.connection_id: done for done in work.next(0.2)})
    return found


def statuses(found: dict[str, Done]) -> Counter[str]:
    return Counter(done.outcome.status if done.outcome else repr(done.error) for done in found.values())


def test_an_execution_that_ends_its_thread_is_a_failure_of_that_connection_alone(
    db: Database, settings: Settings, source: Source
) -> None:
    row = registered(db, source, ["ann", "bob", "eve"])

    def save(execution: Execution) -> Outcome:
        if execution.claim.connection_id == "bob":
            raise SystemExit(3)
        return execution.run()

    found: dict[str, Done] = {}
    with runs.Drain(db, settings, run_id="r", save=save) as work:
        work.add(row, lambda: SLOT)
        while not work.is_over:
            found.update({done.connection_id: done for done in work.next(0.2)})
    assert statuses(found) == {"succeeded": 2, "NangoError('ended by SystemExit.')": 1}


def test_more_executions_than_database_connections_do_not_wait_for_each_other(
    db: Database, settings: Settings, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks at every turn whether it is cancelled, and none with one connection in its hand."""
    monkeypatch.setattr("nango_dagster.runs.lease.CANCEL_SECONDS", 0)
    row = registered(db, source, [f"c{number}" for number in range(50)], concurrency=50)
    assert statuses(drain(db, settings, row)) == {"succeeded": 50}


def test_every_connection_is_executed_once(db: Database, settings: Settings, source: Source) -> None:
    row = registered(db, source, [f"c{number}" for number in range(250)])
    found = drain(db, settings, row)
    assert statuses(found) == {"succeeded": 250}
    assert Counter(request.params["who"] for request in source.api.requests) == dict.fromkeys(found, 1)
    assert_nothing_runs(db)
    assert drain(db, settings, row) == {}


def test_no_more_than_its_concurrency_are_executed_side_by_side(
    db: Database, settings: Settings, source: Source
) -> None:
    inside, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def answer(request: Received) -> Reply:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(30)  # so it takes three at once to go on
        with lock:
            inside -= 1
        return source.page(1)

    source.broken[1] = answer
    row = registered(db, source, [f"c{number}" for number in range(9)], concurrency=3)
    assert statuses(drain(db, settings, row)) == {"succeeded": 9}
    assert most == 3


def test_an_error_of_one_leaves_the_others_alone(db: Database, settings: Settings, source: Source) -> None:
    source.broken[1] = lambda request: (500, {}, "down") if request.params["who"] == "c3" else source.page(1)
    row = registered(db, source, [f"c{number}" for number in range(6)])
    found = drain(db, settings, row)
    assert statuses(found) == {"succeeded": 5, "failed": 1}
    assert found["c3"].partition == "c3"


def test_what_becomes_due_meanwhile_is_executed_too(db: Database, settings: Settings, source: Source) -> None:
    row = registered(db, source, ["ann"])

    def answer(request: Received) -> Reply:
        if request.params["who"] == "ann":
            connections.add(db, None, connections.NewConnection(CRM, "bob"))
        return source.page(1)

    source.broken[1] = answer
    assert drain(db, settings, row).keys() == {"ann", "bob"}


def test_those_that_were_named_are_executed_though_they_are_paused(
    db: Database, settings: Settings, source: Source
) -> None:
    row = registered(db, source, ["ann", "bob", "cyd"])
    queue.set_state(db, row.id, "PAUSED")
    assert drain(db, settings, row) == {}
    assert drain(db, settings, row, [("bob", "base"), ("cyd", "base")]).keys() == {"bob", "cyd"}


def test_one_that_was_named_and_that_another_run_has_is_told_after_the_others(
    db: Database, settings: Settings, source: Source
) -> None:
    row = registered(db, source, ["ann", "bob"])
    worker = queue.start_worker(db, row.id, "another")
    queue.claim(db, worker, limit=1, slot=None, only=[("ann", "base")], force=True)
    found = drain(db, settings, row, [("ann", "base"), ("bob", "base")])
    assert list(found) == ["bob", "ann"]
    assert str(found["ann"].error).startswith("items: ann is being synced by run another since ")


def test_a_drain_that_is_stopped_cancels_what_it_executes_and_frees_the_rest(
    db: Database, settings: Settings, source: Source
) -> None:
    row = registered(db, source, [f"c{number}" for number in range(20)], concurrency=2)
    asked = threading.Event()

    def answer(request: Received) -> Reply:
        asked.set()
        work.stopping.wait(30)
        return source.page(1)

    source.broken[1] = answer
    slot = datetime.now(timezone.utc)
    with runs.Drain(db, settings, run_id="r") as work:
        work.add(row, lambda: slot)
        assert asked.wait(30)
        work.stop()
    assert {job.status for job in jobs.list_jobs(db)} == {"cancelled"}
    assert len(jobs.list_jobs(db)) <= 2
    assert_nothing_runs(db)
    assert queue.count_due(db, row.id, slot) >= 18


def test_what_was_lost_is_executed_with_the_process_to_itself(
    db: Database, settings: Settings, source: Source, api: FakeApi
) -> None:
    other = Source(api, items(1), path="/others")
    row = registered(db, source, ["ann", "bob", "cyd"])
    sync = other.sync(name="others", integration=CRM, unique_key="id", query_params={"who": "${connection_id}"})
    second = syncs.register(db, [sync])["others"]
    of = schema.schedules
    with db.begin() as connection:
        lost = of.c.connection_id.in_(["ann", "bob"])
        connection.execute(of.update().where(lost).values(losses=1, last_started_at=datetime.now(timezone.utc)))
    inside: list[str] = []
    beside: list[set[str]] = []
    lock = threading.Lock()

    def answer(request: Received, given: Source) -> Reply:
        me = f"{given.path} {request.params['who']}"
        with lock:
            inside.append(me)
            beside.append(set(inside))
        with lock:
            inside.remove(me)
        return given.page(1)

    source.broken[1] = lambda request: answer(request, source)
    other.broken[1] = lambda request: answer(request, other)
    slot = datetime.now(timezone.utc)
    with runs.Drain(db, settings, run_id="r") as work:
        work.add(row, lambda: slot)
        work.add(second, lambda: slot)
        while not work.is_over:
            work.next(0.2)
    for found in beside:
        assert len(found) == 1 or not any(name.endswith(("ann", "bob")) for name in found), found


def test_what_could_not_record_its_own_end_is_executed_again_while_the_others_go_on(
    db: Database, settings: Settings, source: Source
) -> None:
    row = registered(db, source, ["ann", "bob", "cyd"])
    broken: list[Execution] = []

    def save(execution: Execution) -> Outcome:
        if execution.claim.connection_id != "ann" or broken:
            return execution.run()
        broken.append(execution)
        with db.begin() as connection:
            queue.begin_execution(connection, db, execution.claim)
            jobs.start(connection, db, execution.claim, row, execution.run_id)
        raise StoreUnavailable("the database was away for a moment.")

    ended: list[str] = []
    with runs.Drain(db, settings, run_id="r", save=save) as work:
        work.add(row, lambda: SLOT)
        while not work.is_over:
            ended += [
                f"{done.connection_id} {done.error or (done.outcome and done.outcome.status)}" for done in work.next(1)
            ]
    assert sorted(ended) == [
        "ann succeeded",
        "ann the database was away for a moment.",
        "bob succeeded",
        "cyd succeeded",
    ]
    second, first = [job for job in jobs.list_jobs(db) if job.connection_id == "ann"]
    assert (first.status, first.error_message) == ("failed", "the database was away for a moment.")
    assert (second.status, second.attempt) == ("succeeded", 2)
    assert_nothing_runs(db)


# --- a daily quota ----------------------------------------------------------------------------------------------------


def test_a_spent_quota_puts_the_rest_off_until_midnight(db: Database, settings: Settings, source: Source) -> None:
    row = registered(db, source, [f"c{number}" for number in range(20)], daily_quota=5, concurrency=2)
    found = drain(db, settings, row)
    assert statuses(found)["succeeded"] == 5
    assert statuses(found).keys() == {"succeeded", "cancelled"}
    assert len(source.api.requests) == 5
    assert len(jobs.list_jobs(db)) <= 5 + 2  # the others have not begun
    waiting = [one for one in queue.schedules(db) if one.not_before]
    assert len(waiting) == 15
    midnight = (datetime.now(timezone.utc) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert {one.not_before for one in waiting} <= {midnight, midnight + timedelta(days=1)}
    assert drain(db, settings, row) == {}


def test_after_midnight_those_that_were_put_off_go_on(db: Database, settings: Settings, source: Source) -> None:
    row = registered(db, source, [f"c{number}" for number in range(8)], daily_quota=5)
    drain(db, settings, row)
    a_day_passes(db)
    found = drain(db, settings, row)
    assert statuses(found) == {"succeeded": 3}
    assert not any(one.not_before for one in queue.schedules(db))


def test_with_a_spent_quota_nothing_begins(db: Database, settings: Settings, source: Source) -> None:
    row = registered(db, source, ["ann"], daily_quota=1)
    drain(db, settings, row)
    queue.trigger(db, row.id)
    assert drain(db, settings, row) == {}
    assert len(jobs.list_jobs(db)) == 1
    a_day_passes(db)
    assert statuses(drain(db, settings, row)) == {"succeeded": 1}


def test_a_connections_own_quota_puts_off_nobody_else(db: Database, settings: Settings, source: Source) -> None:
    limit = {"requests": 1000, "per": 1, "scope": "connection"}
    pages = {**PAGING, "daily_quota": 2, "rate_limit": limit}
    source.records = items(*range(9))
    source.broken[1] = lambda request: (
        {"results": items(1), "next": None} if request.params["who"] != "ann" else source.page(1)
    )
    row = registered(db, source, ["ann", "bob", "cyd"], **pages)
    found = drain(db, settings, row)
    assert found["ann"].outcome is not None and found["ann"].outcome.status == "cancelled"
    assert statuses(found)["succeeded"] == 2
    assert [one.connection_id for one in queue.schedules(db) if one.not_before] == ["ann"]


def a_day_passes(db: Database) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    with db.begin() as connection:
        connection.execute(sa.update(schema.budgets).values(day=yesterday.strftime("%Y-%m-%d")))
        of = schema.schedules
        connection.execute(sa.update(of).where(of.c.not_before.is_not(None)).values(not_before=yesterday))
    from nango_dagster.runs import limits

    limits._budgets.clear()  # another process, a day later
