"""Every answer to "when does it run next?" is the same: API, command line, dispatcher, schedule and claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nango_dagster import clock
from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.defs.dispatch import Dispatcher
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, credential_state, jobs, queue, schema, status, syncs
from nango_dagster.store.status import Status
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.target import Target
from tests.apis import URL, calling
from tests.commands import Cli, write_sync
from tests.materializing import Project, making_projects, tick
from tests.test_defs_schedules import stop_schedule

HOUR = timedelta(hours=1)
EVERY_DAY = {"frequency": "every day"}
CRON = {"cron": "0 4 * * *", "timezone": "Asia/Kolkata"}


# --- one table of states ----------------------------------------------------------------------------------------------


def executed(db: Database, row: SyncRow, ago: timedelta = 50 * HOUR) -> None:
    """Let the last execution have begun and succeeded this long ago."""
    worker = queue.start_worker(db, row.id, "run-1")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[("acme", "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run-1")
        jobs.finish(connection, db, job_id, jobs.Counts(), jobs.End("succeeded"))
        queue.release(connection, db, claim, succeeded=True)
    queue.end_worker(db, worker)
    change(db, row, last_started_at=clock.now() - ago)


def running(db: Database, row: SyncRow) -> None:
    worker = queue.start_worker(db, row.id, "run-1")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[("acme", "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        jobs.start(connection, db, claim, row, "run-1")


def postponed(db: Database, row: SyncRow) -> None:
    """A quota is spent until tomorrow."""
    executed(db, row)
    worker = queue.start_worker(db, row.id, "run-1")
    queue.put_off(db, worker, clock.now() + 24 * HOUR, row.sync.latest_slot(clock.now()))
    queue.end_worker(db, worker)


def lost(times: int) -> Callable[[Database, SyncRow], None]:
    def arrange(db: Database, row: SyncRow) -> None:
        executed(db, row, timedelta(0))
        change(db, row, losses=times)

    return arrange


def own_frequency(ago: timedelta) -> Callable[[Database, SyncRow], None]:
    """A frequency of its own whose slot has come, or comes."""

    def arrange(db: Database, row: SyncRow) -> None:
        executed(db, row)
        queue.set_frequency(db, row.id, "acme", None, "every 12 hours")
        change(db, row, due_at=clock.now() - ago)

    return arrange


def refused(db: Database, row: SyncRow) -> None:
    assert row.sync.integration is not None
    executed(db, row)
    for _ in range(queue.REAUTHORISE_AFTER):
        credential_state.note_auth_failure(db, row.sync.integration, "acme")


def paused(db: Database, row: SyncRow) -> None:
    executed(db, row)
    queue.set_state(db, row.id, "PAUSED")


def triggered(db: Database, row: SyncRow) -> None:
    paused(db, row)
    queue.trigger(db, row.id)


def variant(db: Database, row: SyncRow) -> None:
    """The base is not due; a variant has never run."""
    executed(db, row, timedelta(0))
    connections.add_variant(db, row.id, "acme", "eu")


def change(db: Database, row: SyncRow, **values: Any) -> None:
    schedules = schema.schedules
    with db.begin() as connection:
        connection.execute(sa.update(schedules).where(schedules.c.sync_id == row.id).values(**values))


@dataclass(frozen=True)
class Case:
    """A state of a sync's schedules, and whether one of them is due."""

    arrange: Callable[[Database, SyncRow], None]
    is_due: bool
    has_next: bool = True
    hold: queue.Hold | None = None
    stopped: bool = False


STATES = {
    "never-run": Case(lambda db, row: None, True),
    "behind": Case(executed, True),
    "up-to-date": Case(lambda db, row: executed(db, row, timedelta(0)), False),
    "running": Case(running, False),
    "postponed": Case(postponed, False),
    "lost-once": Case(lost(1), True),
    "lost-twice": Case(lost(2), False),
    "own-frequency-due": Case(own_frequency(HOUR), True),
    "own-frequency-later": Case(own_frequency(-HOUR), False),
    "refused": Case(refused, False, has_next=False, hold="credentials"),
    "paused": Case(paused, False, has_next=False, hold="paused"),
    "paused-and-triggered": Case(triggered, True, hold="paused"),
    "stopped": Case(executed, False, has_next=False, hold="stopped", stopped=True),
    "variant": Case(variant, True),
}


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    with making_projects(settings, home=tmp_path / "dagster") as make:
        yield make


@pytest.mark.parametrize("schedule", [EVERY_DAY, CRON], ids=["interval", "cron"])
def test_all_answers_agree_in_every_state(
    schedule: dict[str, str],
    db: Database,
    settings: Settings,
    settings_env: dict[str, str],
    make: Callable[..., Project],
) -> None:
    """One sync for each state, named after it, with an integration of its own; the answers are by these names."""
    common: dict[str, Any] = {"url": URL, "unique_key": "id", **schedule}
    each = {name: Sync(name=name, integration=name, **common) for name in STATES}
    for name in STATES:
        write_sync(name, integration=name, **common)
        connections.add(db, None, connections.NewConnection(name, "acme"))
    rows = syncs.register(db, list(each.values()))
    for name, case in STATES.items():
        case.arrange(db, rows[name])
    project = make(*each.values())
    for name, case in STATES.items():
        if case.stopped:
            stop_schedule(project, names.schedule_name(each[name]))
    waiting = Dispatcher().waiting(project.nango, project.instance)  # it records which schedules are stopped
    rows = {row.name: row for row in syncs.all(db)}

    due = {name for name, case in STATES.items() if case.is_due}
    statuses = {name: read(db, row) for name, row in rows.items()}
    firsts = {name: first(answers) for name, answers in statuses.items()}
    next_runs = {name: answer.next_run_at for name, answer in firsts.items()}
    assert {name for name, answer in firsts.items() if answer.is_due} == due
    assert {name for name, at in next_runs.items() if at} == {name for name, case in STATES.items() if case.has_next}
    holds = {name: {one.hold for one in answers} for name, answers in statuses.items() if STATES[name].hold}
    assert holds == {name: {case.hold} for name, case in STATES.items() if case.hold}

    assert {one.row.name: one.since for one in waiting} == {name: next_runs[name] for name in due}
    slots = {name: row.sync.latest_slot(clock.now()) for name, row in rows.items()}
    counts = {name: queue.count_due(db, row.id, slots[name]) for name, row in rows.items()}
    assert counts == {name: sum(one.is_due for one in answers) for name, answers in statuses.items()}
    started = [name for name, case in STATES.items() if not case.stopped]
    assert {name for name in started if isinstance(tick(project, each[name]), dg.RunRequest)} == due
    assert by_api(settings, db) == next_runs
    assert by_nangos_api(settings, db) == {
        (name, one.variant, to_milliseconds(one.next_run_at)) for name, answers in statuses.items() for one in answers
    }
    assert by_command_line(settings_env) == {
        (name, one.variant, one.is_due, one.next_run_at) for name, answers in statuses.items() for one in answers
    }
    workers = {name: queue.start_worker(db, row.id, "claims") for name, row in rows.items()}
    assert {name for name, one in workers.items() if queue.claim(db, one, limit=9, slot=slots[name])} == due


def read(db: Database, row: SyncRow) -> list[Status]:
    (fresh,) = [one for one in syncs.all(db) if one.id == row.id]
    return status.read(db, [fresh])


def first(answers: list[Status]) -> Status:
    """The schedule of the sync that runs first."""
    far = datetime.max.replace(tzinfo=timezone.utc)
    return min(answers, key=lambda one: (not one.is_due, one.next_run_at or far))


def by_api(settings: Settings, db: Database) -> dict[str, datetime | None]:
    with calling(settings, db) as http:
        return {one["name"]: moment(one["next_run_at"]) for one in http.get("/v1/syncs").json()["syncs"]}


def by_nangos_api(settings: Settings, db: Database) -> set[tuple[str, str, datetime | None]]:
    with calling(settings, db) as http:
        answers = {
            name: http.get("/sync/status", params={"provider_config_key": name, "syncs": "*"}).json() for name in STATES
        }
    return {
        (name, one["variant"], moment(one["nextScheduledSyncAt"]))
        for name, answer in answers.items()
        for one in answer["syncs"]
    }


def by_command_line(env: dict[str, str]) -> set[tuple[str, str, bool, datetime | None]]:
    return {
        (name, one["variant"], one["due"], moment(one["next_run_at"]))
        for name in STATES
        for one in Cli(env).good("status", name, "--json").json["statuses"]
    }


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def to_milliseconds(at: datetime | None) -> datetime | None:
    return at and at.replace(microsecond=at.microsecond // 1000 * 1000)


# --- Python and SQL say the same --------------------------------------------------------------------------------------

MOMENTS = st.none() | st.integers(-300, 300).map(lambda minutes: timedelta(minutes=minutes))
ROWS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["STARTED", "PAUSED"]),
        "triggered_at": MOMENTS,
        "last_started_at": MOMENTS,
        "not_before": MOMENTS,
        "due_at": MOMENTS,
        "losses": st.integers(0, 3),
        "worker_id": st.sampled_from([None, None, 77]),
        "refused": st.booleans(),
    }
)


@examples(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=6), stopped=st.booleans())
def test_claims_and_the_dispatcher_follow_the_rule_that_people_are_shown(
    db: Database, rows: list[dict[str, Any]], stopped: bool
) -> None:
    sync = Sync(name="issues", url=URL, integration="github", frequency="every hour")
    row = syncs.register(db, [sync])["issues"]
    arrange(db, row, rows, stopped)
    statuses = read(db, row)
    slot = statuses[0].slots.latest
    due_since = [one.due_since for one in statuses if one.due_since is not None]

    reasons = queue.waiting(db).get(row.id)
    assert (reasons.since(slot) if reasons else None) == min(due_since, default=None)
    assert queue.count_due(db, row.id, slot) == len(due_since)
    worker = queue.start_worker(db, row.id, "claims")
    first = queue.claim(db, worker, limit=9, slot=slot)
    due = {one.connection_id: one.losses for one in statuses if one.is_due}
    well = {name for name, losses in due.items() if losses == 0}
    if well:
        assert {claim.connection_id for claim in first} == well
    else:  # a lost execution is claimed alone
        assert len(first) == min(1, len(due)) and {claim.connection_id for claim in first} <= due.keys()
    queue.end_worker(db, worker)


def arrange(db: Database, row: SyncRow, rows: list[dict[str, Any]], stopped: bool) -> None:
    """Let the sync have exactly these schedules, each of a connection of its own; moments are relative to now."""
    with db.begin() as connection:
        now = db.now(connection)
        connection.execute(sa.delete(schema.schedules))
        connection.execute(sa.delete(schema.connections))
        for number, values in enumerate(rows):
            name = f"c{number}"
            moments = {key: now + value for key, value in values.items() if isinstance(value, timedelta)}
            schedule = {key: moments.get(key, value) for key, value in values.items() if key != "refused"}
            schedule |= {"sync_id": row.id, "connection_id": name, "variant": "base", "created_at": now - 9 * HOUR}
            schedule["frequency"] = None if schedule["due_at"] is None else "every 7 minutes"
            account = {"integration": "github", "connection_id": name, "created_at": now, "updated_at": now}
            connection.execute(sa.insert(schema.schedules).values(**schedule))
            failures = queue.REAUTHORISE_AFTER if values["refused"] else 0
            connection.execute(sa.insert(schema.connections).values(**account, auth_failures=failures))
    syncs.set_stopped(db, {row.id: stopped})


def test_an_execution_that_outlasts_its_own_frequency_has_its_next_slot_ahead(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme"))
    sync = Sync(name="issues", url=URL, integration="github", frequency="every day")
    row = syncs.register(db, [sync])["issues"]
    queue.set_frequency(db, row.id, "acme", None, "every 5 minutes")
    running(db, row)
    change(db, row, due_at=clock.now() - HOUR)
    (answer,) = read(db, row)
    assert answer.next_run_at is not None
    assert timedelta(0) < answer.next_run_at - answer.slots.now <= timedelta(minutes=5)


# --- when the clock moves on ------------------------------------------------------------------------------------------


def test_a_schedule_that_a_quota_postponed_is_due_when_its_time_has_come(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme"))
    row = syncs.register(db, [Sync(name="issues", url=URL, integration="github", frequency="every day")])["issues"]
    postponed(db, row)
    slot = row.sync.latest_slot(clock.now())
    assert (read(db, row)[0].is_due, queue.count_due(db, row.id, slot)) == (False, 0)
    with clock.moved(25 * HOUR):
        assert (read(db, row)[0].is_due, queue.count_due(db, row.id, slot)) == (True, 1)


def test_a_run_that_fell_silent_loses_its_lease_when_the_clock_says_so(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme"))
    row = syncs.register(db, [Sync(name="issues", url=URL, integration="github")])["issues"]
    running(db, row)
    with clock.moved(timedelta(seconds=queue.LEASE_SECONDS - 10)):
        assert queue.reap(db) == [] and not read(db, row)[0].is_due
    with clock.moved(timedelta(seconds=queue.LEASE_SECONDS + 10)):
        (loss,) = queue.reap(db)
        assert loss.target == Target(row.id, "acme", "base")
        (status_now,) = read(db, row)
        assert (status_now.is_due, status_now.losses) == (True, 1)
