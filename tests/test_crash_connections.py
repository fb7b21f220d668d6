"""Runs with many connections that die, stop, are told to stop, or lose their database: each connection is done once."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, schema, syncs
from nango_dagster.store.jobs import Job
from nango_dagster.store.sync_row import SyncRow
from tests.crash_worker import Result, Workers
from tests.crashing import MODES, UPSERT, Server, bury, everything, nobody_is_writing, take_for_dead
from tests.executions import PAGING, Record, assert_exact, assert_nothing_runs, until
from tests.fake_api import FakeApi, Received, Reply
from tests.materializing import dagster_process

pytestmark = pytest.mark.acceptance

CRM = "crm"
SLOT = datetime.now(timezone.utc).isoformat()
"""The one slot there is: what has begun since is not due again."""


@dataclass(frozen=True)
class Asked:
    """One page of a customer's list: when it was asked for, and when the answer left."""

    who: str
    page: int
    began: float
    ended: float


class Customers:
    """An API with a list of two pages for each customer; it waits where a test says so, and keeps what it was asked."""

    def __init__(self, api: FakeApi, count: int, *, path: str = "/contacts") -> None:
        self.names = [f"c{number:03}" for number in range(count)]
        self.generation = 0
        self.deadly: set[str] = set()
        """A list whose second record kills the process that maps it."""
        self.holds: Callable[[str, int], bool] = lambda who, page: False
        """Which pages wait, when they are asked for the first time, until `open` is set."""
        self.open = threading.Event()
        self.held: set[str] = set()
        """The customers for whom somebody waits, or has waited."""
        self.asked: list[Asked] = []
        self._api = api
        self._path = path
        api.route(path, self._answer)

    def registered(self, db: Database, name: str = "contacts", **fields: Any) -> SyncRow:
        """A sync of these lists, with a connection for each customer."""
        config = {
            "name": name,
            "url": f"{self._api.url}{self._path}",
            "integration": CRM,
            "query_params": {"who": "${connection_id}"},
            "retries": 0,
            "timeout": 120,
            **PAGING,
            **fields,
        }
        row = syncs.register(db, [Sync.model_validate(config)])[name]
        for one in self.names:
            connections.add(db, None, connections.NewConnection(CRM, one))
        return row

    def of(self, who: str) -> list[Record]:
        """The list of one customer."""
        records: list[Record] = [{"id": f"{who}-{at}", "who": who, "at": self.generation} for at in range(4)]
        if who in self.deadly:
            records[1]["deadly"] = True
        return records

    def records(self, *without: str) -> list[Record]:
        """Those of all others."""
        return [record for who in self.names if who not in without for record in self.of(who)]

    def _answer(self, request: Received) -> Reply:
        who, page = request.params["who"], int(request.params.get("page", 1))
        if who not in self.held and self.holds(who, page):
            self.held.add(who)
            assert self.open.wait(110)
        self.asked.append(Asked(who, page, request.at, time.monotonic()))
        return {"results": self.of(who)[2 * page - 2 : 2 * page], "next": 2 if page == 1 else None}


@pytest.fixture
def customers(api: FakeApi) -> Iterator[Callable[..., Customers]]:
    """A function that makes them; nobody waits for ever."""
    made: list[Customers] = []

    def make(*args: Any, **more: Any) -> Customers:
        made.append(Customers(api, *args, **more))
        return made[-1]

    yield make
    for one in made:
        one.open.set()


def drain(workers: Workers, sync: str = "contacts", run_id: str = "recovery") -> Result:
    """All that is due, in a process of its own."""
    return workers.run(sync, run_id=run_id, slot=SLOT)


def jobs_of(db: Database) -> dict[str, list[Job]]:
    """The jobs of each connection, the oldest first."""
    found: dict[str, list[Job]] = {}
    for job in reversed(jobs.list_jobs(db, limit=10_000)):
        found.setdefault(job.connection_id, []).append(job)
    return found


def succeeded(db: Database) -> set[str]:
    return {job.connection_id for job in jobs.list_jobs(db, limit=10_000) if job.status == "succeeded"}


def assert_rows(db: Database, row: SyncRow, records: list[Record]) -> None:
    """Every record is there once, in both tables, under the connection that it came from."""
    assert_exact(db, row, records)
    raw, datasets = schema.raw.c, schema.datasets.c
    query = sa.select(sa.cast(raw.data, sa.Text), datasets.connection_id).where(raw.dataset_id == datasets.id)
    with db.connect() as connection:
        found = [(json.loads(text)["who"], owner) for text, owner in connection.execute(query)]
    assert all(who == owner for who, owner in found)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_run_killed_with_fifty_connections_in_flight_is_made_up_for_and_no_other_runs_again(
    db: Database, workers: Workers, customers: Callable[..., Customers], mode: str
) -> None:
    crm = customers(80)
    row = crm.registered(db, concurrency=50, **MODES[mode])
    done = set(crm.names[:20])
    crm.holds = lambda who, page: page == 2 and who not in done
    child = workers.start("contacts", run_id="killed", slot=SLOT)
    until(lambda: len(crm.held) == 50 and succeeded(db) == done, 60, "twenty are done and fifty wait for a page")
    child.send(signal.SIGKILL)
    assert workers.end(child).killed_by == signal.SIGKILL
    killed_at, in_flight = time.monotonic(), set(crm.held)
    bury(db)
    crm.open.set()
    assert drain(workers).counts == {"succeeded": 60}
    assert_rows(db, row, crm.records())
    assert_nothing_runs(db)
    for who, found in jobs_of(db).items():
        *lost, last = found
        assert (last.status, last.run_id) == ("succeeded", "killed" if who in done else "recovery")
        assert [job.status for job in lost] == ["failed"] * (who in in_flight)
        assert all((job.error_message or "").startswith("run lost: run killed ") for job in lost)
    again = {asked.who for asked in crm.asked if asked.began > killed_at}
    assert again == set(crm.names) - done
    assert drain(workers).counts == {}


# --- two at the same time ---------------------------------------------------------------------------------------------


def test_two_runs_of_one_sync_at_the_same_time_never_work_on_the_same_connection(
    db: Database, workers: Workers, customers: Callable[..., Customers]
) -> None:
    crm = customers(200)
    row = crm.registered(db, concurrency=8, max_runs=2, **UPSERT)
    crm.holds = lambda who, page: len(crm.held) < 16  # as many as both have threads
    workers.hold()
    children = [workers.start("contacts", run_id=run_id, slot=SLOT) for run_id in ("one", "two")]
    workers.let_go()
    until(lambda: len(crm.held) == 16, 60, "both are at work")
    crm.open.set()
    results = [workers.end(child) for child in children]
    assert sum((Counter(result.counts) for result in results), Counter()) == {"succeeded": 200}, results
    assert_shared(db, row, crm)


def test_two_dagster_runs_of_one_sync_at_the_same_time_never_work_on_the_same_connection(
    db: Database, settings_env: dict[str, str], customers: Callable[..., Customers], tmp_path: Path
) -> None:
    """As two ticks ask for them, each in a process of its own."""
    crm = customers(150)  # more than one of them claims at a time
    row = crm.registered(db, concurrency=8, max_runs=2, **UPSERT)
    crm.holds = lambda who, page: len(crm.held) < 16
    (tmp_path / "sync_configs").mkdir()
    (tmp_path / "sync_configs" / "contacts.json").write_text(json.dumps(row.sync.document()))
    execute = ["job", "execute", "-m", "nango_dagster.definitions", "-j", names.job_name(row.sync)]
    as_scheduled = ["--tags", json.dumps({"dagster/schedule_name": names.schedule_name(row.sync)})]
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        assert instance.get_runs() == []  # its tables are there: two that make them at once get in each other's way
    runs = [dagster_process([*execute, *as_scheduled], tmp_path, settings_env) for _ in range(2)]
    until(lambda: len(crm.held) == 16 or any(run.returncode for run in runs), 120, "both are at work")
    crm.open.set()
    for run in runs:
        said = run.communicate(timeout=120)
        assert run.returncode == 0, said
    assert_shared(db, row, crm)


def assert_shared(db: Database, row: SyncRow, crm: Customers) -> None:
    """Two runs have done each connection once, and were at work at the same time."""
    assert_rows(db, row, crm.records())
    assert_nothing_runs(db)
    found = jobs_of(db)
    assert {who: len(its) for who, its in found.items()} == dict.fromkeys(crm.names, 1)
    spans = spans_of(crm)
    run_ids = {its[0].run_id for its in found.values()}
    one, two = ([spans[who] for who in crm.names if found[who][0].run_id == run_id] for run_id in run_ids)
    assert any(a[0] < b[1] and b[0] < a[1] for a in one for b in two), "they were at work at the same time"


def spans_of(crm: Customers) -> dict[str, tuple[float, float]]:
    """From when to when each customer's list was read; each page was asked for once, one after the other."""
    spans: dict[str, tuple[float, float]] = {}
    for who in crm.names:
        first, second = sorted((asked for asked in crm.asked if asked.who == who), key=lambda asked: asked.began)
        assert (first.page, second.page) == (1, 2) and first.ended <= second.began
        spans[who] = (first.began, second.ended)
    return spans


# --- stopped, and awake again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes_up(
    db: Database, workers: Workers, customers: Callable[..., Customers], mode: str
) -> None:
    crm = customers(20)
    row = crm.registered(db, concurrency=8, **MODES[mode])
    done = set(crm.names[:4])
    crm.holds = lambda who, page: page == 2 and who not in done
    sleeper = workers.start("contacts", run_id="sleeper", slot=SLOT, small=2)
    until(lambda: len(crm.held) == 8 and succeeded(db) == done and nobody_is_writing(db), 60, "eight wait")
    sleeper.send(signal.SIGSTOP)
    take_for_dead(db)
    stale = [record for who in crm.names if who in done for record in crm.of(who)]
    crm.generation, crm.holds = 1, lambda who, page: False
    assert drain(workers, run_id="other").counts == {"succeeded": 16}
    assert_rows(db, row, stale + crm.records(*done))
    before = everything(db, row)
    crm.open.set()
    sleeper.send(signal.SIGCONT)
    result = workers.end(sleeper)
    assert (result.killed_by, result.counts) == (None, {"succeeded": 4, "lost": 16, "LeaseLost": 1}), result
    assert everything(db, row) == before
    assert_nothing_runs(db)


# --- records that kill ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3], ids=["one record that kills", "several"])
def test_a_record_that_kills_takes_its_connection_down_twice_and_any_other_once(
    db: Database, workers: Workers, customers: Callable[..., Customers], count: int
) -> None:
    """The syncs run side by side in one process, as the dispatcher runs them."""
    contacts, deals = customers(30), customers(30, path="/deals")
    contacts.deadly = set(contacts.names[5 : 5 + 12 * count : 12])
    deals.deadly = set(deals.names[20 : 20 + count - 1])
    config = {"transform": "tests.crash_worker:deadly", "concurrency": 8, **UPSERT}
    rows = [contacts.registered(db, "contacts", **config), deals.registered(db, "deals", **config)]
    kills = 0
    while drain(workers, "contacts,deals", f"run-{kills}").killed_by is not None:
        kills += 1
        bury(db)
        assert kills <= 2 * (2 * count - 1)  # fewer where two died together
    for row, crm in zip(rows, (contacts, deals), strict=True):
        losses = Counter(job.connection_id for job in jobs.list_jobs(db, row.id, limit=500) if job.status == "failed")
        assert {who: losses[who] for who in crm.deadly} == dict.fromkeys(crm.deadly, 2)
        assert max([0, *(losses[who] for who in crm.names if who not in crm.deadly)]) <= 1
        done = Counter(job.connection_id for job in jobs.list_jobs(db, row.id, limit=500) if job.status == "succeeded")
        assert done == dict.fromkeys(set(crm.names) - crm.deadly, 1)
        assert_exact(db, row, crm.records(*crm.deadly))
    assert_nothing_runs(db)


# --- the database dies ------------------------------------------------------------------------------------------------


@pytest.mark.postgresql
@pytest.mark.parametrize("returns", ["later", "at once"])
def test_what_a_database_that_died_left_undone_is_done_once_it_is_back(
    durable: tuple[Settings, Database],
    durable_env: dict[str, str],
    tmp_path: Path,
    customers: Callable[..., Customers],
    returns: str,
) -> None:
    """The server dies before some statement of a run, and is back while the run still tries, or after its end."""
    _, db = durable
    server = Server(db)
    crm = customers(70)
    row = crm.registered(db, concurrency=8, **UPSERT)
    kill_at = random.randrange(300, 2000)
    with Workers(tmp_path, durable_env) as workers:
        before = server.pid
        child = workers.start("contacts", run_id="unlucky", slot=SLOT, kill_at=kill_at, server=before)
        if returns == "at once":
            server.wait(before)
            server.start()
        unlucky = workers.end(child)
        server.start()
        bury(db)
        recovery = drain(workers)
        told = f"the server died before statement {kill_at}: {unlucky}, then {recovery}\n{workers.log}"
    print(told)
    assert unlucky.status == "drained" and (unlucky.error or returns == "at once"), told
    assert set(recovery.counts) <= {"succeeded"}, told
    assert "s3cr3t" not in told
    assert_rows(db, row, crm.records())
    assert_nothing_runs(db)
    for found in jobs_of(db).values():
        *lost, last = found
        assert last.status == "succeeded" and len(lost) <= 1, told
