"""Processes and servers that die, stop and wake up again, at any moment: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import mapping
from nango_dagster.config import Sync
from nango_dagster.errors import StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, queue, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.crash_worker import Workers, stop_at_once
from tests.crashing import MODES, UPSERT, Server, bury, everything, nobody_is_writing, take_for_dead
from tests.executions import (
    Record,
    Source,
    assert_exact,
    assert_nothing_runs,
    execute,
    items,
    last_job,
    ordered,
    stored,
    until,
)
from tests.fake_api import Answer, FakeApi, Received

pytestmark = pytest.mark.acceptance

KILLS = 24
"""The number of kills at random moments, over both databases and both modes."""
DEATHS = 6
"""The number of random statements before which the server dies, in each mode."""


@dataclass
class History:
    """A list that is another one in each generation: some records change, some go, some come, one has a new field."""

    source: Source
    fields: dict[str, Any]
    constant: int = 5
    fleeting: int = 2
    remaps: bool = False
    generation: int = 0

    def advance(self, db: Database) -> SyncRow:
        """Go on to the next generation; the sync as it is then."""
        self.generation += 1
        self.source.records = self.records
        return self.source.registered(db, **self.fields, **self._mapping)

    @property
    def records(self) -> list[Record]:
        """The current list of the API."""
        now = self.generation
        constant = [{"id": id_, "name": f"g{now if id_ % 3 == 0 else 0}"} for id_ in range(self.constant)]
        fleeting = [{"id": now * 1000 + id_, "name": "new"} for id_ in range(self.fleeting)]
        if not self.remaps:
            fleeting[0][f"field_{now}"] = now
        return [*constant, *fleeting]

    @property
    def _mapping(self) -> dict[str, Any]:
        """In every generation another table, and other metadata, where that is what is tried."""
        return {"mapped_table": f"t{self.generation % 2}", "metadata": self.metadata} if self.remaps else {}

    @property
    def metadata(self) -> dict[str, Any]:
        return {"generation": self.generation} if self.remaps else {}

    def assert_exact(self, db: Database, row: SyncRow) -> None:
        assert_exact(db, row, self.records, **self.metadata)


@pytest.fixture
def kill_every(request: pytest.FixtureRequest) -> int:
    """The distance between two statements before which a process is killed."""
    return int(request.config.getoption("--kill-every"))


def every(step: int, first: int, last: int) -> range:
    """Every `step`-th statement up to `last`; it begins at a random one, so that many runs reach each."""
    return range(first + random.randrange(step), last + 1, step)


def assert_never_half(db: Database, row: SyncRow, before: list[Record], after: list[Record]) -> None:
    """The committed state is consistent; an overwrite is complete or has changed nothing."""
    found = stored(db, row)
    assert found.live_count == len(found.live)
    if row.sync.mode == "overwrite":
        assert found.live in (ordered(before), ordered(after))
    else:
        assert all(record in before or record in after for record in found.live)
    if "mapped_table" not in row.sync.model_fields_set:
        assert found.mapped == ordered(map(mapping.flatten, found.live))


def assert_recovers(db: Database, settings: Settings, row: SyncRow, history: History, killed: str) -> None:
    """The next run needs no help; the job of the killed one has failed, unless it was over already."""
    bury(db)
    outcome = execute(db, settings, row, run_id="recovery")
    assert (outcome.status, outcome.complete) == ("succeeded", True)
    history.assert_exact(db, row)
    assert_nothing_runs(db)
    recovery, *others = jobs.list_jobs(db, row.id, limit=5)
    assert recovery.run_id == "recovery"
    for job in others:
        if job.run_id == killed:
            assert job.status == "succeeded" or (job.error_message or "").startswith(f"run lost: run {killed} ")
            assert recovery.attempt == (1 if job.status == "succeeded" else 2)


# --- kill -9 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["upsert", "overwrite", "rebuild"])
def test_a_process_killed_between_any_two_statements_costs_nothing(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str, kill_every: int
) -> None:
    history = History(Source(api), MODES.get(mode, UPSERT), remaps=mode == "rebuild")
    row = history.advance(db)
    assert workers.run("items", small=4).status == "succeeded"
    row = history.advance(db)
    undisturbed = workers.run("items", small=4)
    assert undisturbed.status == "succeeded"
    history.assert_exact(db, row)
    killed = 0
    moments = every(kill_every, 1, undisturbed.statements)
    for at in moments:
        try:
            before = history.records
            row = history.advance(db)
            result = workers.run("items", small=4, kill_at=at, run_id=f"killed-{at}")
            killed += result.killed_by == signal.SIGKILL
            assert_never_half(db, row, before, history.records)
            assert_recovers(db, settings, row, history, f"killed-{at}")
        except BaseException:
            print(f"killed before statement {at} of {undisturbed.statements}\n{workers.log}")
            raise
    # Threads may send a statement more or less than in the run that was counted.
    assert killed >= len(moments) - 5


@pytest.mark.parametrize("mode", MODES)
def test_a_process_killed_in_its_first_execution_costs_nothing(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str, kill_every: int
) -> None:
    """Its dataset, its table and its columns do not exist yet."""
    source = Source(api, items(*range(7)))
    source.registered(db, name="counted", **MODES[mode])
    statements = workers.run("counted", small=4).statements
    for at in every(2 * kill_every, 1, statements):
        row = source.registered(db, name=f"first{at}", **MODES[mode])
        workers.run(row.name, small=4, kill_at=at)
        bury(db)
        assert execute(db, settings, row).status == "succeeded", f"killed before statement {at} of {statements}"
        assert_exact(db, row, source.records)
        assert_nothing_runs(db)


@pytest.mark.parametrize("mode", MODES)
def test_a_list_that_is_again_as_it_was_before_a_killed_run_is_exact(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str, kill_every: int
) -> None:
    """The API says "not modified" about a list of which the killed run has changed a part."""
    lists = [items(*range(8), name="old"), items(*range(3, 10), name="new")]
    now = lists[0]

    def answer(request: Received) -> Answer:
        etag = f'"{now[0]["name"]}"'
        if request.headers["If-None-Match"] == etag:
            return Answer(304)
        return Answer(headers={"ETag": etag}, body=now)

    api.route("/items", answer)
    sync = Sync.model_validate({"name": "items", "url": f"{api.url}/items", **MODES[mode]})
    row = syncs.register(db, [sync])["items"]
    statements = workers.run("items", small=4).statements
    for at in every(2 * kill_every, 4, statements - 1):
        now = lists[1]
        workers.run("items", small=4, kill_at=at)
        now = lists[0]
        bury(db)
        outcome = execute(db, settings, row)
        assert outcome.status == "succeeded"
        found = stored(db, row)
        told = f"killed before statement {at} of {statements}, then {outcome.stop_reason}"
        assert (found.live, found.live_count) == (ordered(now), len(now)), told
        assert found.mapped == ordered(map(mapping.flatten, now)), told


@pytest.mark.parametrize("mode", MODES)
def test_a_process_killed_at_a_random_moment_costs_nothing(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str
) -> None:
    seed = random.randrange(10**9)
    dice = random.Random(seed)
    history = History(Source(api, size=50), MODES[mode], constant=900, fleeting=50)
    history.advance(db)
    assert workers.run("items", small=100).status == "succeeded"
    history.advance(db)
    began = time.monotonic()
    assert workers.run("items", small=100).status == "succeeded"
    whole = time.monotonic() - began
    for number in range(-(-KILLS // 4)):
        delay = dice.uniform(0, whole)
        try:
            before = history.records
            row = history.advance(db)
            child = workers.start("items", small=100, run_id=f"killed-{number}")
            threading.Event().wait(delay)
            child.send(signal.SIGKILL)
            workers.end(child)
            until(lambda: nobody_is_writing(db))
            assert_never_half(db, row, before, history.records)
            assert_recovers(db, settings, row, history, f"killed-{number}")
        except BaseException:
            print(f"seed {seed}, kill {number} after {delay:.3f} of {whole:.3f} s\n{workers.log}")
            raise


# --- stopped, and awake again ---------------------------------------------------------------------------------------


class Gate:
    """A page that is answered only when the test lets it through."""

    def __init__(self, source: Source, page: int) -> None:
        self.asked = threading.Event()
        self.open = threading.Event()
        self._source = source
        self._page = page
        source.broken[page] = self._answer

    def _answer(self, request: object) -> Any:
        answer = self._source.page(self._page)
        if self.asked.is_set():  # only the first to ask has to wait
            return answer
        self.asked.set()
        assert self.open.wait(60)
        return answer


@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes_up(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str
) -> None:
    source = Source(api, items(*range(12), name="stale"))
    row = source.registered(db, **MODES[mode])
    gate = Gate(source, page=4)
    sleeper = workers.start("items", run_id="sleeper", small=3)
    assert gate.asked.wait(30)
    if mode == "upsert":  # two pages are written, the third one waits for more
        until(lambda: len(stored(db, row).live) == 6 and nobody_is_writing(db))
    sleeper.send(signal.SIGSTOP)
    take_for_dead(db)
    source.records = items(*range(5, 20), name="fresh")
    assert execute(db, settings, row, run_id="other").status == "succeeded"
    assert_exact(db, row, source.records)
    before = everything(db, row)
    gate.open.set()
    sleeper.send(signal.SIGCONT)
    result = workers.end(sleeper)
    assert (result.killed_by, result.status) == (None, "lost")
    assert result.error == "lease lost: this run was not heard from for 90 seconds and was taken for dead."
    assert everything(db, row) == before
    assert_nothing_runs(db)


@pytest.mark.parametrize("settings_env", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
@pytest.mark.parametrize("change", ["known records", "new records"])
def test_a_process_stopped_inside_a_transaction_does_not_hold_others_up_for_ever(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a statement (a DELETE), or within one (a COPY, which waits for more to come)."""
    monkeypatch.setattr("nango_dagster.store.queue.workers.STUCK_SECONDS", 1)
    source = Source(api, items(*range(9), name="stale"))
    row = source.registered(db, **UPSERT)
    if change == "known records":
        assert execute(db, settings, row).status == "succeeded"
    source.records = items(*range(9), name="fresh")
    with db.begin() as connection:
        # A writer of raw rows has to wait for this transaction, in the middle of its own.
        connection.exec_driver_sql("LOCK TABLE _nango_raw IN SHARE ROW EXCLUSIVE MODE")
        sleeper = workers.start("items", run_id="sleeper", stuck=1)
        until(lambda: _somebody_waits(db), what="the child waits for the table")
        sleeper.send(signal.SIGSTOP)
    take_for_dead(db)
    until(lambda: queue.reap(db), what="the server has ended the transaction, or the reaper has")
    assert execute(db, settings, row, run_id="other").status == "succeeded"
    assert_exact(db, row, source.records)
    before = everything(db, row)
    sleeper.send(signal.SIGCONT)
    result = workers.end(sleeper)
    assert result.killed_by is None and result.status in ("lost", "StoreUnreachable"), result
    assert everything(db, row) == before
    assert_nothing_runs(db)


def _somebody_waits(db: Database) -> bool:
    with db.connect() as connection:
        return bool(connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one())


# --- two at the same time -------------------------------------------------------------------------------------------


def test_of_two_runs_that_start_at_the_same_moment_one_does_it_and_one_says_who_does(
    db: Database, settings: Settings, workers: Workers, api: FakeApi
) -> None:
    source = Source(api, items(*range(9)))
    row = source.registered(db, **UPSERT)
    for number in range(8):
        source.records = items(*range(number, 9 + number), name=f"round {number}")
        gate = Gate(source, page=2)
        workers.hold()
        children = [workers.start("items", run_id=f"run-{number}-{one}") for one in "ab"]
        workers.let_go()
        assert gate.asked.wait(30)
        until(lambda: any(child.answer.exists() for child in children))  # noqa: B023
        refused = [child for child in children if child.answer.exists()]
        gate.open.set()
        results = {child: workers.end(child) for child in children}
        said = [result.error for result in results.values() if result.status == "Refused"]
        assert [result.status for child, result in results.items() if child not in refused] == ["succeeded"], results
        assert len(said) == 1 and re.fullmatch(
            rf"items: default is being synced by run run-{number}-[ab] since \d\d:\d\d; nothing was done\.",
            said[0] or "",
        ), said
        assert_exact(db, row, source.records)
        assert_nothing_runs(db)
    assert len(jobs.list_jobs(db, row.id)) == 8


# --- told to stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_ends_the_job_as_cancelled_and_frees_the_claim(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str
) -> None:
    source = Source(api, items(*range(12)))
    row = source.registered(db, **MODES[mode])
    gate = Gate(source, page=3)
    child = workers.start("items", run_id="told to stop")
    assert gate.asked.wait(30)
    began = time.monotonic()
    child.send(signal.SIGTERM)
    result = workers.end(child)
    assert time.monotonic() - began < 10
    assert result.status == "interrupted"
    job = last_job(db, row)
    assert job.status == "cancelled"
    assert job.error_message is not None and "the run was ended from outside" in job.error_message
    assert job.ended_at is not None
    assert_nothing_runs(db)
    gate.open.set()
    assert execute(db, settings, row).status == "succeeded"
    assert_exact(db, row, source.records)


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_at_a_random_moment_leaves_nothing_half_done_and_nobody_waiting(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str
) -> None:
    seed = random.randrange(10**9)
    dice = random.Random(seed)
    history = History(Source(api, size=50), MODES[mode], constant=900, fleeting=50)
    row = history.advance(db)
    began = time.monotonic()
    assert workers.run("items", small=100).status == "succeeded"
    whole = time.monotonic() - began
    for number in range(3):
        delay = dice.uniform(0, whole)
        before = history.records
        row = history.advance(db)
        child = workers.start("items", small=100, run_id=f"stopped-{number}")
        threading.Event().wait(delay)
        began = time.monotonic()
        child.send(signal.SIGTERM)
        result = workers.end(child)
        told = f"seed {seed}, stop {number} after {delay:.3f} of {whole:.3f} s: {result}\n{workers.log}"
        assert time.monotonic() - began < 10, told
        assert_never_half(db, row, before, history.records)
        if result.killed_by is None:  # else it had not even begun to listen
            assert [job.status for job in jobs.list_jobs(db, row.id) if job.status == "running"] == [], told
            held = [schedule for schedule in queue.schedules(db) if schedule.worker_id is not None]
            assert held == [], told
        bury(db)
        assert execute(db, settings, row).status == "succeeded", told
        history.assert_exact(db, row)
        assert_nothing_runs(db)


# --- the database dies ----------------------------------------------------------------------------------------------


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", MODES)
def test_a_database_that_dies_is_a_sentence_and_the_next_run_is_exact(
    durable: tuple[Settings, Database], api: FakeApi, mode: str
) -> None:
    settings, db = durable
    server = Server(db)
    source = Source(api, items(*range(2000)), size=500)
    row = source.registered(db, **MODES[mode])
    assert execute(db, settings, row).status == "succeeded"
    source.records = items(*range(300, 4300), name="new")

    def die(request: object) -> Any:
        stop_at_once(server.pid)
        return source.page(5)

    source.broken[5] = die
    with pytest.raises(StoreUnavailable) as info:
        execute(db, settings, row, run_id="unlucky")
    assert str(info.value).startswith("cannot reach the database postgresql+psycopg://")
    assert len(str(info.value).splitlines()) == 1
    assert "s3cr3t" not in "".join(traceback.format_exception(info.value))
    server.start()
    source.broken.clear()
    bury(db)
    assert execute(db, settings, row, run_id="lucky").status == "succeeded"
    assert_exact(db, row, source.records)
    assert_nothing_runs(db)
    lucky, unlucky = jobs.list_jobs(db, row.id, limit=2)
    assert (lucky.status, lucky.attempt) == ("succeeded", 2)
    assert (unlucky.status, unlucky.run_id) == ("failed", "unlucky")
    assert (unlucky.error_message or "").startswith("run lost: ")


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", MODES)
def test_a_database_that_dies_before_any_statement_is_a_sentence_and_the_next_run_is_exact(
    durable: tuple[Settings, Database], durable_env: dict[str, str], tmp_path: Path, api: FakeApi, mode: str
) -> None:
    settings, db = durable
    server = Server(db)
    seed = random.randrange(10**9)
    history = History(Source(api), MODES[mode])
    with Workers(tmp_path, durable_env) as workers:
        history.advance(db)
        assert workers.run("items", small=4).status == "succeeded"
        history.advance(db)
        statements = workers.run("items", small=4).statements
        for at in sorted(random.Random(seed).sample(range(1, statements), DEATHS)):
            row = history.advance(db)
            result = workers.run("items", small=4, kill_at=at, server=server.pid, run_id=f"unlucky-{at}")
            told = f"seed {seed}: the server died before statement {at} of {statements}: {result}\n{workers.log}"
            print(told)
            server.start()
            if result.status == "succeeded":  # what was left to say was not worth an answer
                assert result.statements <= at, told
                continue
            assert result.status == "StoreUnreachable", told
            assert (result.error or "").startswith("cannot reach the database postgresql+psycopg://"), told
            assert len((result.error or "").splitlines()) == 1 and "s3cr3t" not in told
            assert_recovers(db, settings, row, history, f"unlucky-{at}")
