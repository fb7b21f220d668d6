"""An execution belongs to one run at a time, whatever dies, stops or wakes up again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection as Pipe
from multiprocessing.queues import Queue
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, strategies
from hypothesis import settings as examples

from nango_dagster.config import Sync
from nango_dagster.errors import LeaseLost
from nango_dagster.settings import Settings
from nango_dagster.store import Connection, Database, connections, jobs, open_database, queue, schema, syncs
from nango_dagster.store.queue import Claim, Schedule, Worker
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.target import Target
from tests.executions import until
from tests.processes import PROCESSES

MINUTE = timedelta(minutes=1)
LONG_DEAD = timedelta(seconds=queue.LEASE_SECONDS + 1)


def sync_with(db: Database, *connections: str, name: str = "items") -> SyncRow:
    """A sync with a schedule for each connection, and none besides."""
    row = syncs.register(db, [Sync(name=name, url="https://api.example.com")])[name]
    with db.begin() as connection:
        now = db.now(connection)
        connection.execute(sa.delete(schema.schedules).where(schema.schedules.c.sync_id == row.id))
        for one in connections:
            key = {"sync_id": row.id, "connection_id": one, "variant": "base"}
            connection.execute(sa.insert(schema.schedules).values(**key, created_at=now))
    return row


def change(db: Database, row: SyncRow, name: str = "c1", **values: Any) -> None:
    of = schema.schedules.c
    with db.begin() as connection:
        found = sa.update(schema.schedules).where(of.sync_id == row.id, of.connection_id == name)
        connection.execute(found.values(**values))


def now(db: Database) -> datetime:
    with db.connect() as connection:
        return db.now(connection)


def schedule(db: Database, row: SyncRow, name: str = "c1") -> Schedule:
    (found,) = [one for one in queue.schedules(db, [row.id]) if one.connection_id == name]
    return found


def fences(db: Database) -> dict[int, int]:
    of = schema.schedules.c
    with db.connect() as connection:
        return {row.id: row.fence for row in connection.execute(sa.select(of.id, of.fence))}


def work(db: Database, row: SyncRow, run_id: str | None = "run1") -> Worker:
    return queue.start_worker(db, row.id, run_id)


def claim_one(db: Database, worker: Worker, name: str = "c1") -> Claim:
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[(name, "base")], force=True)
    return claim


def names(claims: Sequence[Claim]) -> list[str]:
    return [claim.connection_id for claim in claims]


def guard(connection: Connection, db: Database, claim: Claim) -> None:
    """How every transaction of an execution begins."""
    queue.lock_dataset(connection, db, claim.target)
    queue.check(connection, db, claim)


def begin(db: Database, row: SyncRow, claim: Claim, run_id: str | None = "run1") -> int:
    with db.begin() as connection:
        guard(connection, db, claim)
        queue.begin_execution(connection, db, claim)
        return jobs.start(connection, db, claim, row, run_id)


def end(db: Database, claim: Claim, *, succeeded: bool | None = True) -> None:
    with db.begin() as connection:
        guard(connection, db, claim)
        queue.release(connection, db, claim, succeeded=succeeded)


def fall_silent(db: Database, *workers: Worker) -> None:
    """As if nothing had been heard from them since before the lease ended."""
    ids = [worker.id for worker in workers]
    with db.begin() as connection:
        found = sa.update(schema.workers).where(schema.workers.c.id.in_(ids))
        connection.execute(found.values(heartbeat_at=db.clock(LONG_DEAD)))


def lose(db: Database, row: SyncRow, name: str = "c1") -> None:
    """Begin an execution whose run dies, and have it found."""
    worker = work(db, row)
    begin(db, row, claim_one(db, worker, name))
    fall_silent(db, worker)
    assert names_of(queue.reap(db)) == [name]


def names_of(lost: Sequence[queue.Lost]) -> list[str]:
    return [loss.target.connection_id for loss in lost]


def side_by_side(*works: Callable[[], None]) -> None:
    """Do things in threads that begin together; an error in one of them is raised here."""
    errors: list[BaseException] = []
    together = threading.Barrier(len(works))

    def run(one: Callable[[], None]) -> None:
        try:
            together.wait(10)
            one()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- when due -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_due", "values", "slots"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"last_started_at": -2 * MINUTE}, True),
        (False, {"last_started_at": MINUTE}, True),
        (False, {"last_started_at": -2 * MINUTE}, False),
        (False, {"state": "PAUSED"}, True),
        (False, {"state": "PAUSED", "last_started_at": -2 * MINUTE}, True),
        (True, {"state": "PAUSED", "triggered_at": timedelta(0)}, True),
        (True, {"triggered_at": timedelta(0), "last_started_at": MINUTE}, True),
        (True, {"triggered_at": timedelta(0)}, False),
        (True, {"losses": 1, "last_started_at": MINUTE}, True),
        (False, {"losses": 1, "last_started_at": MINUTE}, False),
        (False, {"losses": 1, "last_started_at": MINUTE, "state": "PAUSED"}, True),
        (False, {"losses": 2, "last_started_at": MINUTE}, True),
        (True, {"losses": 2, "last_started_at": -2 * MINUTE}, True),
    ],
)
def test_a_schedule_is_due_when_it_was_asked_for_or_missed_its_slot(
    db: Database, is_due: bool, values: dict[str, Any], slots: bool
) -> None:
    """Times are told from the latest slot; without slots, the schedule is stopped in Dagster."""
    row = sync_with(db, "c1")
    slot = now(db) - MINUTE
    set_: dict[str, Any] = {name: slot + at if isinstance(at, timedelta) else at for name, at in values.items()}
    change(db, row, "c1", **{"losses": 0, **set_})
    assert queue.count_due(db, row.id, slot if slots else None) == is_due
    worker = work(db, row)
    assert names(queue.claim(db, worker, limit=10, slot=slot if slots else None)) == ["c1"] * is_due
    assert queue.count_due(db, row.id, slot if slots else None) == 0


def test_what_was_asked_for_comes_first_then_what_waits_longest(db: Database) -> None:
    row = sync_with(db, "late", "early", "never", "asked")
    change(db, row, "late", last_started_at=now(db) - MINUTE)
    change(db, row, "early", last_started_at=now(db) - 2 * MINUTE)
    queue.trigger(db, row.id, "asked")
    worker = work(db, row)
    claims = [queue.claim(db, worker, limit=1, slot=now(db)) for _ in range(5)]
    assert [names(claim) for claim in claims] == [["asked"], ["never"], ["early"], ["late"], []]


def test_a_worker_claims_as_many_as_it_wants_of_its_own_sync(db: Database) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(7)))
    sync_with(db, "other", name="others")
    worker = work(db, row)
    assert queue.claim(db, worker, limit=0, slot=now(db)) == []
    assert [len(queue.claim(db, worker, limit=3, slot=now(db))) for _ in range(4)] == [3, 3, 1, 0]


def test_only_those_named_are_claimed(db: Database) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(600)))
    change(db, row, "c7", state="PAUSED")
    wanted = [(f"c{number}", "base") for number in range(5, 600, 2)]
    assert len(queue.claim(db, work(db, row), limit=500, slot=now(db), only=wanted)) == len(wanted) - 1
    assert queue.claim(db, work(db, row), limit=500, slot=now(db), only=[("c8", "v"), ("nobody", "base")]) == []
    assert names(queue.claim(db, work(db, row), limit=2, slot=now(db), only=wanted, force=True)) == ["c7"]


def test_force_takes_what_is_paused_or_not_due_but_nothing_that_somebody_holds(db: Database) -> None:
    row = sync_with(db, "paused", "done", "held")
    change(db, row, "paused", state="PAUSED")
    change(db, row, "done", last_started_at=now(db))
    claim_one(db, work(db, row), "held")
    only = [(name, "base") for name in ("paused", "done", "held", "unknown")]
    claims = queue.claim(db, work(db, row), limit=9, slot=None, only=only, force=True)
    assert sorted(names(claims)) == ["done", "paused"]


def test_a_claim_tells_what_was_asked_for_and_where_to_go_on(db: Database) -> None:
    row = sync_with(db, "c1", "c2")
    change(db, row, "c1", checkpoint='{"page": 3}')
    change(db, row, "c2", checkpoint='{"page": 3}')
    queue.trigger(db, row.id, "c2", reset=True, empty_cache=True)
    worker = work(db, row)
    going_on, anew = claim_one(db, worker, "c1"), claim_one(db, worker, "c2")
    assert (going_on.checkpoint, going_on.reset, going_on.empty_cache) == ('{"page": 3}', False, False)
    assert (anew.checkpoint, anew.reset, anew.empty_cache) == (None, True, True)
    begin(db, row, going_on)
    begin(db, row, anew)
    assert schedule(db, row, "c1").checkpoint == '{"page": 3}'
    assert schedule(db, row, "c2").checkpoint is None


# --- two at once ----------------------------------------------------------------------------------------------------


def test_threads_that_claim_at_once_never_share_a_schedule(db: Database) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(200)))
    slot = now(db)
    taken: list[list[Claim]] = [[] for _ in range(4)]

    def drain(mine: list[Claim]) -> None:
        worker = work(db, row)
        while claims := queue.claim(db, worker, limit=7, slot=slot):
            mine += claims

    side_by_side(*(lambda mine=mine: drain(mine) for mine in taken))
    claims = [claim for mine in taken for claim in mine]
    assert sorted(claim.schedule_id for claim in claims) == sorted(fences(db))
    assert {claim.fence for claim in claims} == {1}
    assert {one.worker_id for one in queue.schedules(db)} == {claim.worker_id for claim in claims}


def drain_in_process(env: dict[str, str], sync_id: int, slot: datetime, told: Queue[list[int]]) -> None:
    db = open_database(Settings.from_env(env, dotenv=None))
    worker = queue.start_worker(db, sync_id, None)
    taken: list[int] = []
    while claims := queue.claim(db, worker, limit=3, slot=slot):
        taken += [claim.schedule_id for claim in claims]
    db.close()
    told.put(taken)


def test_processes_that_claim_at_once_never_share_a_schedule(db: Database, settings_env: dict[str, str]) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(200)))
    told: Queue[list[int]] = PROCESSES.Queue()
    args = (settings_env, row.id, now(db), told)
    processes = [PROCESSES.Process(target=drain_in_process, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    taken = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(id for mine in taken for id in mine) == sorted(fences(db))


# --- the fence ------------------------------------------------------------------------------------------------------


def test_an_execution_that_is_ours_may_write(db: Database) -> None:
    row = sync_with(db, "c1")
    claim = claim_one(db, work(db, row))
    with db.begin() as connection:
        guard(connection, db, claim)


def test_who_was_taken_over_is_told_by_whom(db: Database) -> None:
    row = sync_with(db, "c1")
    first = work(db, row)
    claim = claim_one(db, first)
    fall_silent(db, first)
    queue.reap(db)
    with (
        pytest.raises(LeaseLost, match="not heard from for 90 seconds and was taken for dead"),
        db.begin() as connection,
    ):
        guard(connection, db, claim)
    second = claim_one(db, work(db, row, "0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77"))
    assert second.fence == claim.fence + 1
    with pytest.raises(LeaseLost, match=r"^lease lost to run 0f6e3c1a\.$"), db.begin() as connection:
        guard(connection, db, claim)
    with db.begin() as connection:
        guard(connection, db, second)


def test_an_older_claim_of_the_same_worker_is_no_claim(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    older = claim_one(db, worker)
    end(db, older)
    newer = claim_one(db, worker)
    with pytest.raises(LeaseLost), db.begin() as connection:
        guard(connection, db, older)
    with db.begin() as connection:
        guard(connection, db, newer)


@pytest.mark.postgresql
def test_who_waited_for_the_lock_sees_what_happened_meanwhile(pg_db: Database) -> None:
    db = pg_db
    row = sync_with(db, "c1")
    claim = claim_one(db, work(db, row))
    outcome: list[str] = []

    def batch() -> None:
        try:
            with db.begin() as connection:
                guard(connection, db, claim)
                outcome.append("wrote")
        except LeaseLost:
            outcome.append("lost")

    thread = threading.Thread(target=batch)
    with db.begin() as reaper:
        queue.lock_dataset(reaper, db, Target(row.id, "c1", "base"))
        thread.start()
        until(lambda: _waits_for_a_lock(db))
        reaper.execute(sa.update(schema.schedules).values(worker_id=None))
    thread.join()
    assert outcome == ["lost"]


def _waits_for_a_lock(db: Database) -> bool:
    query = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with db.connect() as connection:
        return bool(connection.execute(query).scalar_one())


@contextlib.contextmanager
def impatient(db: Database) -> Iterator[Database]:
    """The PostgreSQL store with a statement timeout of one second."""
    url = db.engine.url.render_as_string(hide_password=False)
    mark = "&" if "?" in url else "?"
    options = f"options={quote('-c statement_timeout=1000')}"
    env = {"NANGO_DB_URL": f"{url}{mark}{options}", "NANGO_DB_SCHEMA": db.schema}
    database = open_database(Settings.from_env(env, dotenv=None), migrate=False)
    try:
        yield database
    finally:
        database.close()


@pytest.mark.postgresql
def test_nobody_waits_for_a_batch_that_is_being_written(pg_db: Database) -> None:
    db = pg_db
    row = sync_with(db, "c1", "c2")
    worker = work(db, row)
    claim = claim_one(db, worker)
    begin(db, row, claim)
    with impatient(db) as other, db.begin() as batch:
        guard(batch, db, claim)
        batch.execute(sa.update(schema.jobs).values(added_count=7))
        assert queue.set_state(other, row.id, "PAUSED") == 2
        assert queue.set_state(other, row.id, "STARTED") == 2
        assert queue.trigger(other, row.id, reset=True) == 2
        assert queue.cancel(other, row.id) == 1
        assert queue.beat(other, worker)
        assert names(queue.claim(other, work(other, row), limit=9, slot=now(db))) == ["c2"]
        assert queue.holder(other, Target(row.id, "c1", "base")) is not None
        assert queue.is_cancelled(other, claim)
        assert [job.added for job in jobs.list_jobs(other)] == [0]


@pytest.mark.postgresql
def test_the_reaper_passes_over_what_is_being_written(pg_db: Database) -> None:
    db = pg_db
    row = sync_with(db, "c1", "c2")
    worker = work(db, row)
    claims = {name: claim_one(db, worker, name) for name in ("c1", "c2")}
    for claim in claims.values():
        begin(db, row, claim)
    fall_silent(db, worker)
    with impatient(db) as other, db.begin() as batch:
        guard(batch, db, claims["c1"])
        assert names_of(queue.reap(other)) == ["c2"]
        queue.check(batch, db, claims["c1"])
    assert names_of(queue.reap(db)) == ["c1"]
    assert queue.reap(db) == []


@pytest.mark.postgresql
def test_a_transaction_in_which_nothing_happens_does_not_hold_the_lock_for_ever(pg_db: Database) -> None:
    timeout = sa.text("SHOW idle_in_transaction_session_timeout")
    with pg_db.begin() as connection:
        queue.lock_dataset(connection, pg_db, Target(1, "c1", "base"))
        assert connection.execute(timeout).scalar_one() == f"{queue.STUCK_SECONDS // 60}min"
    with pg_db.connect() as connection:
        assert connection.execute(timeout).scalar_one() == "0"


# --- a run that dies, or stops --------------------------------------------------------------------------------------


def execute_in_process(env: dict[str, str], sync_id: int, told: Pipe) -> None:
    """Begin an execution, say so; when asked, try to write, and say what came of it."""
    db = open_database(Settings.from_env(env, dotenv=None))
    row = syncs.get(db, sync_id)
    assert row is not None
    worker = work(db, row, "doomed")
    with queue.heartbeat(db, worker, lambda: None):
        claim = claim_one(db, worker)
        begin(db, row, claim, "doomed")
        told.send(worker)
        told.recv()
        try:
            with db.begin() as connection:
                guard(connection, db, claim)
            told.send("wrote")
        except LeaseLost as error:
            told.send(str(error))
    db.close()


@contextlib.contextmanager
def a_run(env: dict[str, str], row: SyncRow) -> Iterator[tuple[Any, Pipe, Worker]]:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=execute_in_process, args=(env, row.id, there))
    process.start()
    try:
        assert here.poll(60)
        yield process, here, here.recv()
    finally:
        process.kill()
        process.join()
        process.close()


def test_a_killed_run_on_this_machine_is_found_at_once(db: Database, settings_env: dict[str, str]) -> None:
    row = sync_with(db, "c1")
    with a_run(settings_env, row) as (process, _, worker):
        assert queue.reap(db) == []
        process.kill()
        process.join()
        holder = queue.holder(db, Target(row.id, "c1", "base"))
        assert holder is not None and holder.has_ended
        (lost,) = queue.reap(db)
    (job,) = jobs.list_jobs(db)
    where = f"run doomed (process {worker.pid} on {worker.host})"
    assert (job.id, job.error_message) == (lost.job_id, f"run lost: {where} was ended from outside, as by kill -9.")
    assert claim_one(db, work(db, row)).losses == 1


def test_a_killed_run_that_nobody_has_waited_for_is_found_too(db: Database, settings_env: dict[str, str]) -> None:
    row = sync_with(db, "c1")
    with a_run(settings_env, row) as (process, _, _):
        process.kill()
        until(lambda: len(queue.reap(db)) == 1)


def test_a_process_id_that_another_process_got_is_not_the_worker(db: Database) -> None:
    row = sync_with(db, "c1")
    begin(db, row, claim_one(db, work(db, row)))
    with db.begin() as connection:
        earlier = sa.func.replace(schema.workers.c.process, f" {os.getpid()} ", f" {os.getpid()} 1")
        connection.execute(sa.update(schema.workers).values(process=earlier))
    assert len(queue.reap(db)) == 1


def test_a_killed_run_of_another_machine_is_found_when_its_lease_is_over(
    db: Database, settings_env: dict[str, str]
) -> None:
    row = sync_with(db, "c1")
    slot = now(db)
    with a_run(settings_env, row) as (process, _, worker):
        process.kill()
        process.join()
        with db.begin() as connection:
            connection.execute(sa.update(schema.workers).values(process=f"another machine {worker.pid} 12345"))
        assert queue.reap(db) == []  # it was heard from a moment ago
        fall_silent(db, worker)
        (lost,) = queue.reap(db)
    assert (lost.target, lost.worker) == (Target(row.id, "c1", "base"), worker)
    (job,) = jobs.list_jobs(db)
    assert (job.id, job.status) == (lost.job_id, "failed")
    assert job.error_message is not None
    where = f"run doomed (process {worker.pid} on {worker.host})"
    heard = f"{lost.last_heard_at:%Y-%m-%d %H:%M:%S} UTC"
    assert job.error_message == f"run lost: {where} was last heard from at {heard}."
    assert job.ended_at is not None
    assert queue.live_workers(db, row.id) == []
    assert queue.count_due(db, row.id, slot) == 1
    again = claim_one(db, work(db, row))
    assert again.losses == 1
    begin(db, row, again)
    assert jobs.list_jobs(db)[0].attempt == 2


def test_a_stopped_run_that_wakes_up_writes_nothing(db: Database, settings_env: dict[str, str]) -> None:
    row = sync_with(db, "c1")
    with a_run(settings_env, row) as (process, said, worker):
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        fall_silent(db, worker)
        assert names_of(queue.reap(db)) == ["c1"]
        claim = claim_one(db, work(db, row, "heir"))
        begin(db, row, claim, "heir")
        os.kill(process.pid, signal.SIGCONT)
        said.send("write")
        assert said.poll(60)
        assert said.recv() == "lease lost to run heir."
        process.join(60)
    with db.begin() as connection:
        guard(connection, db, claim)


def test_a_first_loss_is_due_at_once_and_a_second_waits_for_the_next_slot(db: Database) -> None:
    row = sync_with(db, "c1")
    slot = now(db)
    lose(db, row)
    assert queue.count_due(db, row.id, slot) == 1
    lose(db, row)
    assert queue.count_due(db, row.id, slot) == 0
    assert queue.count_due(db, row.id, now(db)) == 1
    assert (schedule(db, row).losses, schedule(db, row).failures) == (2, 2)


def test_what_was_lost_is_claimed_alone(db: Database) -> None:
    row = sync_with(db, "c1", "c2", "c3", "c4")
    for name in ("c1", "c3"):
        lose(db, row, name)
    worker = work(db, row)
    healthy = queue.claim(db, worker, limit=9, slot=now(db))
    assert names(healthy) == ["c2", "c4"]
    assert queue.claim(db, worker, limit=9, slot=now(db)) == []  # not beside others
    slot = now(db)
    for claim in healthy:
        begin(db, row, claim)
        end(db, claim)
    (alone,) = queue.claim(db, worker, limit=9, slot=slot)
    assert alone.connection_id == "c1"
    queue.trigger(db, row.id, "c2")
    assert queue.claim(db, worker, limit=9, slot=now(db)) == []  # nor others beside it
    end(db, alone)
    assert schedule(db, row, "c1").losses == 0
    assert names(queue.claim(db, worker, limit=9, slot=None)) == ["c2"]


def test_claims_that_were_not_begun_are_no_losses(db: Database) -> None:
    row = sync_with(db, "c1", "c2")
    slot = now(db)
    worker = work(db, row)
    begin(db, row, claim_one(db, worker, "c1"))
    claim_one(db, worker, "c2")
    fall_silent(db, worker)
    assert names_of(queue.reap(db)) == ["c1"]
    assert [one.losses for one in queue.schedules(db)] == [1, 0]
    assert queue.count_due(db, row.id, slot) == 2


def test_a_request_is_not_lost_with_the_run_that_was_to_answer_it(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.set_state(db, row.id, "PAUSED")
    queue.trigger(db, row.id, reset=True, empty_cache=True)
    lose(db, row)
    again = queue.claim(db, work(db, row), limit=1, slot=None)
    assert [(claim.reset, claim.empty_cache) for claim in again] == [(True, True)]


def test_a_request_whose_run_was_lost_twice_waits(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.trigger(db, row.id)
    lose(db, row)
    lose(db, row)
    assert queue.count_due(db, row.id, None) == 0


def test_who_cancels_an_execution_and_kills_its_run_does_not_see_it_again_at_once(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.trigger(db, row.id)
    worker = work(db, row)
    begin(db, row, claim_one(db, worker))
    slot = now(db) - MINUTE
    queue.cancel(db, row.id)
    fall_silent(db, worker)
    assert names_of(queue.reap(db)) == ["c1"]
    assert queue.count_due(db, row.id, slot) == 0
    assert schedule(db, row).cancelled_at is None


def test_living_workers_are_left_alone(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    claim = claim_one(db, worker)
    fall_silent(db, worker)
    assert queue.live_workers(db, row.id) == []
    assert queue.beat(db, worker)
    assert queue.live_workers(db, row.id) == [worker]
    assert queue.reap(db) == []
    end(db, claim)


def test_two_reapers_at_once_count_a_loss_once(db: Database) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(60)))
    for number in range(0, 60, 20):
        worker = work(db, row)
        for one in range(number, number + 20):
            begin(db, row, claim_one(db, worker, f"c{one}"))
        fall_silent(db, worker)
    lost: list[queue.Lost] = []
    side_by_side(*[lambda: lost.extend(queue.reap(db))] * 4)
    queue.reap(db)
    assert sorted(one.job_id for one in lost) == sorted(job.id for job in jobs.list_jobs(db))
    assert {(one.losses, one.failures, one.worker_id) for one in queue.schedules(db)} == {(1, 1, None)}
    assert {job.status for job in jobs.list_jobs(db)} == {"failed"}


def test_the_reaper_frees_any_number_of_claims(db: Database) -> None:
    row = sync_with(db, *(f"c{number}" for number in range(1100)))
    worker = work(db, row)
    while queue.claim(db, worker, limit=9999, slot=now(db)):
        pass
    fall_silent(db, worker)
    assert queue.reap(db) == []
    assert {one.worker_id for one in queue.schedules(db)} == {None}


# --- workers --------------------------------------------------------------------------------------------------------


def test_a_worker_that_ends_frees_what_it_holds(db: Database) -> None:
    row = sync_with(db, "begun", "waiting")
    worker = work(db, row)
    begin(db, row, claim_one(db, worker, "begun"))
    claim_one(db, worker, "waiting")
    queue.end_worker(db, worker)
    assert {one.worker_id for one in queue.schedules(db)} == {None}
    assert [one.losses for one in queue.schedules(db)] == [1, 0]
    (job,) = jobs.list_jobs(db)
    assert (job.status, job.error_message) == ("failed", "run run1 ended before this execution did.")
    assert queue.live_workers(db, row.id) == []
    queue.end_worker(db, worker)  # a second time does nothing


def test_a_worker_that_was_taken_for_dead_claims_nothing_more(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    fall_silent(db, worker)
    queue.reap(db)
    assert not queue.beat(db, worker)
    with pytest.raises(LeaseLost, match="run run1 was not heard from for 90 seconds"):
        queue.claim(db, worker, limit=1, slot=now(db))


def heard_from(db: Database, worker: Worker) -> datetime | None:
    with db.connect() as connection:
        found: datetime | None = connection.execute(
            sa.select(schema.workers.c.heartbeat_at).where(schema.workers.c.id == worker.id)
        ).scalar()
        return found


def test_a_heartbeat_keeps_a_worker_alive(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    with queue.heartbeat(db, worker, lambda: pytest.fail("it is alive"), interval=0.01):
        fall_silent(db, worker)
        until(lambda: queue.live_workers(db, row.id) == [worker])
        first = heard_from(db, worker)
        until(lambda: heard_from(db, worker) != first)
    last = heard_from(db, worker)
    assert heard_from(db, worker) == last


def test_a_worker_is_told_once_that_it_was_taken_for_dead(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    lost = threading.Semaphore(0)
    with queue.heartbeat(db, worker, lambda: lost.release(), interval=0.01):
        queue.end_worker(db, worker)
        assert lost.acquire(timeout=10)
    assert not lost.acquire(blocking=False)


def test_a_heartbeat_survives_a_database_that_does_not_answer(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    first = heard_from(db, worker)
    rename = 'ALTER TABLE "{}" RENAME TO "{}"'
    with db.begin() as connection:
        connection.execute(sa.text(rename.format("_nango_workers", "away")))
    with queue.heartbeat(db, worker, lambda: pytest.fail("it is alive"), interval=0.01):
        until(lambda: "run run1: no heartbeat: " in caplog.text)
        with db.begin() as connection:
            connection.execute(sa.text(rename.format("away", "_nango_workers")))
        until(lambda: heard_from(db, worker) != first)


def test_a_worker_is_called_by_its_run_or_its_process() -> None:
    assert Worker(1, 1, "0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77", "web1", 42).name == "run 0f6e3c1a"
    assert Worker(1, 1, "abc12", "web1", 42).name == "run abc12"
    assert Worker(1, 1, None, "web1", 42).name == "process 42 on web1"


# --- what people ask for --------------------------------------------------------------------------------------------


def test_an_execution_that_ends_well_answers_what_was_asked_for(db: Database) -> None:
    row = sync_with(db, "c1")
    slot = now(db)
    queue.trigger(db, row.id, reset=True, empty_cache=True)
    claim = claim_one(db, work(db, row))
    begin(db, row, claim)
    end(db, claim)
    found = schedule(db, row)
    assert (found.triggered_at, found.reset, found.empty_cache) == (None, False, False)
    assert (found.worker_id, found.claimed_at, found.failures, found.losses) == (None, None, 0, 0)
    assert found.last_started_at is not None
    assert found.last_ended_at is not None
    assert found.last_started_at <= found.last_ended_at
    assert queue.count_due(db, row.id, slot) == 0
    assert queue.count_due(db, row.id, now(db)) == 1


def test_failures_are_counted_until_a_success(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    counted = []
    for succeeded in (False, False, None, True, None, False):
        end(db, claim_one(db, worker), succeeded=succeeded)
        counted.append(schedule(db, row).failures)
    assert counted == [1, 2, 2, 0, 0, 1]


def test_a_trigger_while_running_is_ignored(db: Database) -> None:
    row = sync_with(db, "c1", "c2")
    claim = claim_one(db, work(db, row))
    assert queue.trigger(db, row.id) == 1
    assert not queue.is_cancelled(db, claim)
    end(db, claim)
    assert schedule(db, row, "c1").triggered_at is None
    assert schedule(db, row, "c2").triggered_at is not None


def test_a_reset_while_running_cancels_that_execution_and_is_answered_by_the_next(db: Database) -> None:
    row = sync_with(db, "c1")
    worker = work(db, row)
    claim = claim_one(db, worker)
    begin(db, row, claim)
    assert queue.trigger(db, row.id, reset=True) == 1
    assert queue.is_cancelled(db, claim)
    end(db, claim, succeeded=None)
    (again,) = queue.claim(db, worker, limit=1, slot=None)
    assert again.reset
    assert not again.empty_cache
    assert not queue.is_cancelled(db, again)


def test_a_cancel_after_a_reset_means_both(db: Database) -> None:
    row = sync_with(db, "c1")
    claim = claim_one(db, work(db, row))
    queue.trigger(db, row.id, reset=True)
    assert queue.cancel(db, row.id) == 1
    end(db, claim, succeeded=None)
    assert queue.count_due(db, row.id, None) == 0
    assert not schedule(db, row).reset


def test_empty_cache_alone_does_nothing(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.trigger(db, row.id, empty_cache=True)
    assert not schedule(db, row).empty_cache


def test_a_second_trigger_does_not_move_the_first_and_may_add_a_reset(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.trigger(db, row.id)
    first = schedule(db, row)
    queue.trigger(db, row.id)
    assert schedule(db, row) == first
    queue.trigger(db, row.id, reset=True)
    queue.trigger(db, row.id)
    assert schedule(db, row).reset


def test_a_pause_lets_the_execution_end_and_no_other_begin(db: Database) -> None:
    row = sync_with(db, "c1")
    claim = claim_one(db, work(db, row))
    assert queue.set_state(db, row.id, "PAUSED") == 1
    assert not queue.is_cancelled(db, claim)
    end(db, claim)
    assert schedule(db, row).state == "PAUSED"
    assert queue.count_due(db, row.id, now(db)) == 0


def test_a_pause_drops_what_was_asked_for_and_has_not_begun(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.trigger(db, row.id, reset=True, empty_cache=True)
    queue.set_state(db, row.id, "PAUSED")
    found = schedule(db, row)
    assert (found.triggered_at, found.reset, found.empty_cache) == (None, False, False)


def test_a_start_executes_at_once_and_only_what_was_paused(db: Database) -> None:
    row = sync_with(db, "c1", "c2")
    slot = now(db)
    for name in ("c1", "c2"):
        change(db, row, name, last_started_at=slot)
    queue.set_state(db, row.id, "PAUSED", "c1")
    assert queue.set_state(db, row.id, "STARTED") == 2
    assert names(queue.claim(db, work(db, row), limit=9, slot=slot)) == ["c1"]


def test_a_start_during_an_execution_asks_for_no_other(db: Database) -> None:
    row = sync_with(db, "c1")
    queue.set_state(db, row.id, "PAUSED")
    claim = claim_one(db, work(db, row))
    begin(db, row, claim)
    slot = now(db) - MINUTE
    queue.set_state(db, row.id, "STARTED")
    end(db, claim)
    assert queue.count_due(db, row.id, slot) == 0


def test_a_cancel_asks_the_execution_to_stop_and_drops_what_has_not_begun(db: Database) -> None:
    row = sync_with(db, "c1", "c2")
    slot = now(db)
    change(db, row, "c2", last_started_at=slot)
    queue.trigger(db, row.id, "c2")
    worker = work(db, row)
    claim = claim_one(db, worker, "c1")
    assert not queue.is_cancelled(db, claim)
    assert queue.cancel(db, row.id) == 1
    assert queue.is_cancelled(db, claim)
    assert schedule(db, row, "c2").triggered_at is None
    end(db, claim, succeeded=None)
    assert not queue.is_cancelled(db, claim_one(db, worker, "c1"))


def test_only_what_is_named_is_changed(db: Database) -> None:
    row, other = sync_with(db, "c1", "c2"), sync_with(db, "c1", name="others")
    assert queue.set_state(db, row.id, "PAUSED", "c1", "base") == 1
    assert queue.set_state(db, row.id, "PAUSED", "c1", "variant") == 0
    assert queue.trigger(db, row.id, "c9") == 0
    assert [schedule(db, row, name).state for name in ("c1", "c2")] == ["PAUSED", "STARTED"]
    assert schedule(db, other).state == "STARTED"


# --- what people want to know ---------------------------------------------------------------------------------------


def test_the_holder_is_known_while_there_is_one(db: Database) -> None:
    row = sync_with(db, "c1")
    assert queue.holder(db, Target(row.id, "c1", "base")) is None
    worker = work(db, row)
    before = now(db)
    claim = claim_one(db, worker)
    holder = queue.holder(db, Target(row.id, "c1", "base"))
    assert holder is not None
    assert holder.worker == worker
    assert before <= holder.since <= now(db)
    assert schedule(db, row).run_id == "run1"
    end(db, claim)
    assert queue.holder(db, Target(row.id, "c1", "base")) is None
    assert schedule(db, row).run_id is None


def test_schedules_are_listed_for_some_syncs_or_for_all(db: Database) -> None:
    row, other = sync_with(db, "c1", "c2"), sync_with(db, "c1", name="others")
    assert [one.connection_id for one in queue.schedules(db, [row.id])] == ["c1", "c2"]
    assert [one.sync_id for one in queue.schedules(db)] == [row.id, row.id, other.id]
    assert queue.schedules(db, []) == []


# --- whatever happens -----------------------------------------------------------------------------------------------

NAMES = ("c1", "c2", "c3")
_which = strategies.integers(0, 2)
STEPS = strategies.one_of(
    strategies.tuples(strategies.just("claim"), _which, strategies.integers(1, 3), strategies.booleans()),
    strategies.tuples(strategies.just("begin"), strategies.integers(0, 9)),
    strategies.tuples(
        strategies.just("release"), strategies.integers(0, 9), strategies.sampled_from([True, False, None])
    ),
    strategies.tuples(strategies.sampled_from(["fall_silent", "beat", "end_worker"]), _which),
    strategies.tuples(strategies.just("trigger"), _which, strategies.booleans()),
    strategies.tuples(strategies.sampled_from(["cancel", "pause", "start"]), _which),
    strategies.tuples(strategies.just("reap")),
)


class Story:
    """A sequence of steps with the truth kept beside it: who holds what, told by the answers alone."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.row = sync_with(db, *NAMES, name=f"story{time.monotonic_ns()}")
        self.workers = [work(db, self.row, f"run{number}") for number in range(3)]
        self.silent: set[int] = set()
        self.gone: set[int] = set()
        self.claims: list[Claim] = []
        self.held: dict[str, Claim] = {}
        self.begun: set[Claim] = set()
        self.fences = {id: 0 for id in fences(db)}

    def claim(self, which: int, limit: int, force: bool) -> None:
        worker = self.workers[which]
        try:
            claims = queue.claim(self.db, worker, limit=limit, slot=now(self.db), force=force)
        except LeaseLost:
            assert worker.id in self.gone
            return
        assert worker.id not in self.gone
        self.silent.discard(worker.id)
        for claim in claims:
            assert claim.connection_id not in self.held
            assert claim.fence > self.fences[claim.schedule_id]
            self.fences[claim.schedule_id] = claim.fence
            self.held[claim.connection_id] = claim
        self.claims += claims

    def _write(self, number: int, what: Callable[[Connection, Claim], object]) -> Claim | None:
        """The holder of a claim may write; only a holder that has lost it is stopped."""
        if not self.claims:
            return None
        claim = self.claims[number % len(self.claims)]
        is_ours = self.held.get(claim.connection_id) == claim
        try:
            with self.db.begin() as connection:
                guard(connection, self.db, claim)
                what(connection, claim)
        except LeaseLost:
            assert not is_ours
            return None
        assert is_ours
        if self.db.engine.single_writer:  # there a write tells that its run is alive, as a heartbeat does
            self.silent.discard(claim.worker_id)
        return claim

    def begin(self, number: int) -> None:
        def do(connection: Connection, claim: Claim) -> None:
            queue.begin_execution(connection, self.db, claim)
            if claim not in self.begun:
                jobs.start(connection, self.db, claim, self.row, None)

        if claim := self._write(number, do):
            self.begun.add(claim)

    def release(self, number: int, succeeded: bool | None) -> None:
        def do(connection: Connection, claim: Claim) -> None:
            queue.release(connection, self.db, claim, succeeded=succeeded)
            connection.execute(
                sa.update(schema.jobs)
                .where(schema.jobs.c.worker_id == claim.worker_id, schema.jobs.c.fence == claim.fence)
                .where(schema.jobs.c.connection_id == claim.connection_id)
                .values(status="succeeded")
            )

        if claim := self._write(number, do):
            del self.held[claim.connection_id]

    def fall_silent(self, which: int) -> None:
        fall_silent(self.db, self.workers[which])
        self.silent.add(self.workers[which].id)

    def beat(self, which: int) -> None:
        worker = self.workers[which]
        assert queue.beat(self.db, worker) == (worker.id not in self.gone)
        self.silent.discard(worker.id)

    def end_worker(self, which: int) -> None:
        queue.end_worker(self.db, self.workers[which])
        self._bury({self.workers[which].id})

    def reap(self) -> None:
        dead = self.silent - self.gone
        expected = {claim for claim in self.held.values() if claim.worker_id in dead and claim in self.begun}
        assert sorted(names_of(queue.reap(self.db))) == sorted(claim.connection_id for claim in expected)
        self._bury(dead)

    def _bury(self, ids: set[int]) -> None:
        self.gone |= ids
        self.held = {name: claim for name, claim in self.held.items() if claim.worker_id not in ids}

    def trigger(self, which: int, reset: bool) -> None:
        queue.trigger(self.db, self.row.id, NAMES[which], reset=reset)

    def cancel(self, which: int) -> None:
        queue.cancel(self.db, self.row.id, NAMES[which])

    def pause(self, which: int) -> None:
        queue.set_state(self.db, self.row.id, "PAUSED", NAMES[which])

    def start(self, which: int) -> None:
        queue.set_state(self.db, self.row.id, "STARTED", NAMES[which])

    def holds_together(self) -> None:
        """The state of the store is that of the answers."""
        found = queue.schedules(self.db, [self.row.id])
        assert {one.connection_id: one.worker_id for one in found if one.worker_id is not None} == {
            name: claim.worker_id for name, claim in self.held.items()
        }
        running = {job.connection_id for job in jobs.list_jobs(self.db, self.row.id) if job.status == "running"}
        assert running == {name for name, claim in self.held.items() if claim in self.begun}
        for one in found:
            assert one.run_id is None or one.worker_id is not None
            assert one.cancelled_at is None or one.worker_id is not None
            assert one.triggered_at is not None or one.worker_id is not None or one.losses >= 2 or not one.reset


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=strategies.lists(STEPS, min_size=5, max_size=30))
def test_whatever_happens_a_schedule_has_one_holder_and_its_fence_only_rises(
    db: Database, steps: list[tuple[Any, ...]]
) -> None:
    story = Story(db)
    for name, *arguments in steps:
        getattr(story, name)(*arguments)
        story.holds_together()
    for which in range(3):
        story.end_worker(which)
    story.holds_together()
    assert not story.held


# --- long transactions on SQLite, which has one writer at a time ------------------------------------------------------


def silent_for(db: Database, **seconds: float) -> None:
    """As if each of these runs had been heard from so many seconds ago for the last time."""
    of = schema.workers
    with db.engine.begin() as connection:  # without what the store does at the end of a transaction
        for run_id, ago in seconds.items():
            heard = db.clock(timedelta(seconds=ago))
            connection.execute(of.update().where(of.c.run_id == run_id).values(heartbeat_at=heard))


def silence(db: Database, worker: Worker) -> float:
    heard = heard_from(db, worker)
    assert heard is not None
    return (now(db) - heard).total_seconds()


@pytest.fixture
def five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction holds SQLite's write lock for so long, as an overwrite of a million records does."""
    monkeypatch.setattr(Database, "held_since", lambda *_: datetime.now(timezone.utc) - timedelta(minutes=5))


@pytest.mark.usefixtures("five_minutes")
@pytest.mark.parametrize("what", ["the end of an execution", "the removal of a sync", "the removal of a connection"])
def test_who_could_not_say_that_it_lives_while_somebody_held_the_write_lock_is_not_taken_for_dead(
    db: Database, what: str
) -> None:
    """On PostgreSQL a long transaction is in nobody's way."""
    row, other = sync_with(db, "c1"), sync_with(db, "c1", name="other")
    connections.add(db, None, connections.NewConnection("api.example.com", "acme"))
    writer, waits, dead = (work(db, row, run_id) for run_id in ("writer", "waits", "dead"))
    claim = claim_one(db, writer)
    silent_for(db, writer=300, waits=310, dead=300 + queue.LEASE_SECONDS + 10)
    if what == "the end of an execution":
        db.transact(lambda connection: queue.release(connection, db, claim, succeeded=True))
    elif what == "the removal of a sync":
        syncs.delete(db, other.id)
    else:
        connections.remove(db, "api.example.com", "acme")
    assert queue.live_workers(db, row.id) == ([] if db.engine.name == "postgresql" else [writer, waits])
    assert silence(db, dead) > queue.LEASE_SECONDS


@pytest.mark.usefixtures("five_minutes")
def test_one_long_transaction_after_another_keeps_no_dead_runs_claims(db: Database) -> None:
    """The silence of a run before the restart counts after it, too."""
    row = sync_with(db, "c1")
    worker = work(db, row, "dying")
    silent_for(db, dying=360)
    db.transact(lambda connection: None)
    assert silence(db, worker) == pytest.approx(360 if db.engine.name == "postgresql" else 60, abs=5)


@pytest.mark.parametrize(("before", "says_it"), [(80, True), (5, False)])
def test_an_execution_that_writes_to_sqlite_says_that_its_run_is_alive_where_the_heartbeat_did_not(
    db: Database, before: float, says_it: bool
) -> None:
    """Many that end with some seconds of writing each, one after the other, keep the heartbeat waiting.

    On PostgreSQL it waits for nobody, and the executions of a run would wait for one another at its row.
    """
    row = sync_with(db, "c1")
    worker = work(db, row)
    claim = claim_one(db, worker)
    silent_for(db, run1=before)
    with db.begin() as connection:
        guard(connection, db, claim)
    assert silence(db, worker) == pytest.approx(0 if says_it and db.engine.single_writer else before, abs=4)
