"""When Dagster runs a sync: its schedule's ticks, and the dispatcher for whatever cannot wait for one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.defs import dispatch, names, schedules
from nango_dagster.errors import StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, assert_nothing_runs, items, until
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, Project, kinds, look, making_projects, repository_origin, sentence, tick


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Iterator[MakeProject]:
    with making_projects(settings, home=tmp_path / "dagster") as make:
        yield make


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, items(*range(1, 8)))


@pytest.fixture
def sync(source: Source) -> Sync:
    return source.sync(unique_key="id", frequency="every 2 hours")


@pytest.fixture
def project(make: MakeProject, sync: Sync) -> Project:
    return make(sync)


@pytest.fixture
def row(db: Database, sync: Sync) -> SyncRow:
    return syncs.register(db, [sync])[sync.name]


def began(db: Database, row: SyncRow, ago: timedelta) -> None:
    """Let the sync's last execution have begun this long ago."""
    of = schema.schedules
    with db.begin() as connection:
        connection.execute(
            of.update().where(of.c.sync_id == row.id).values(last_started_at=datetime.now(timezone.utc) - ago)
        )


def asked(instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus, **tags: str) -> str:
    """A run in Dagster's list that nobody executes; its id."""
    run = instance.create_run_for_job(dg.job(name=job)(lambda: None), status=status, tags=tags)
    return run.run_id


# --- the schedule -----------------------------------------------------------------------------------------------------


def test_every_sync_has_a_schedule_that_runs_from_the_start(project: Project, sync: Sync) -> None:
    schedule = project.defs.resolve_schedule_def("items_schedule")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == (sync.cron_schedule, "UTC")
    assert schedule.job_name == "items_job"


def test_a_cron_expression_is_the_schedule_in_its_time_zone(make: MakeProject, source: Source) -> None:
    project = make(source.sync(cron="0 6 * * 1-5", timezone="Europe/Berlin"))
    schedule = project.defs.resolve_schedule_def("items_schedule")
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * 1-5", "Europe/Berlin")


def test_a_tick_asks_for_a_run_that_is_not_retried(project: Project, sync: Sync) -> None:
    request = tick(project, sync)
    assert isinstance(request, dg.RunRequest)
    assert request.tags["nango/sync"] == "items" and request.tags["dagster/max_retries"] == "0"


def test_what_a_tick_asks_for_is_executed(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    assert isinstance(tick(project, sync), dg.RunRequest)
    assert project.scheduled(sync).success
    assert len(jobs.list_jobs(db, row.id)) == 1


def test_a_tick_between_two_slots_asks_for_nothing(project: Project, sync: Sync) -> None:
    project.sync()
    now = datetime.now(timezone.utc)
    assert tick(project, sync) == f"not due; the next slot is {sync.next_slot(now):%Y-%m-%d %H:%M} UTC."


def test_the_next_slot_is_due_also_after_a_failure(project: Project, source: Source, sync: Sync) -> None:
    source.broken[1] = (500, {}, "down")
    assert not project.sync().success
    now = datetime.now(timezone.utc)
    assert isinstance(tick(project, sync), str)
    assert isinstance(tick(project, sync, sync.next_slot(now)), dg.RunRequest)


def test_a_tick_asks_for_no_second_run_while_one_is_about_to_start(project: Project, sync: Sync) -> None:
    run_id = asked(project.instance, "items_job", dg.DagsterRunStatus.NOT_STARTED, **names.run_tag([sync]))
    assert tick(project, sync) == f"run {run_id[:8]} is about to start."


def test_a_tick_asks_for_no_run_while_one_is_at_it(
    project: Project, db: Database, settings: Settings, sync: Sync, row: SyncRow
) -> None:
    with runs.claimed(db, settings, row, run_id="0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77"):
        assert tick(project, sync) == "run 0f6e3c1a is at it."
    assert isinstance(tick(project, sync), dg.RunRequest)


def test_a_paused_sync_is_not_run_by_its_schedule(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    queue.set_state(db, row.id, "PAUSED")
    assert tick(project, sync) == "it is paused."


def test_a_tick_while_the_database_is_down_says_so(make: MakeProject, sync: Sync) -> None:
    settings = Settings.from_env({"NANGO_DB_URL": "postgresql://nobody:secret@127.0.0.1:1/none"}, dotenv=None)
    project = make(sync, settings=settings)
    for said in (tick(project, sync), look(project)):
        assert isinstance(said, str)
        assert said.startswith("cannot reach the database postgresql+psycopg://nobody:***@127.0.0.1:1/none")


# --- the dispatcher: what waits ---------------------------------------------------------------------------------------


def dispatched(project: Project) -> dg.ExecuteInProcessResult:
    """Execute the run requests of the dispatcher."""
    assert isinstance(look(project), dg.RunRequest)
    return project.run(names.DISPATCH_JOB)


def test_a_new_sync_runs_at_once_without_waiting_for_a_tick(project: Project, db: Database) -> None:
    request = look(project)
    assert isinstance(request, dg.RunRequest) and request.tags["nango/sync"] == "items"
    result = project.run(names.DISPATCH_JOB)
    assert result.success
    found = project.metadata("items")
    assert (found["dagster/row_count"], found["added"]) == (7, 7)
    assert found["dagster/column_lineage"].deps_by_column
    assert project.check(result).passed
    assert look(project) == "nothing waits."
    assert_nothing_runs(db)


def test_a_trigger_runs_a_sync_at_once_also_a_paused_one(project: Project, db: Database, row: SyncRow) -> None:
    project.sync()
    queue.set_state(db, row.id, "PAUSED")
    assert look(project) == "nothing waits."
    queue.trigger(db, row.id)
    assert dispatched(project).success
    assert len(jobs.list_jobs(db, row.id)) == 2
    assert look(project) == "nothing waits."


def test_a_trigger_runs_a_sync_whose_schedule_is_stopped_but_nothing_else_does(
    project: Project, db: Database, row: SyncRow
) -> None:
    stop_schedule(project, "items_schedule")
    assert look(project) == "nothing waits."
    queue.trigger(db, row.id)
    assert dispatched(project).success
    assert project.metadata("items")["added"] == 7


def stop_schedule(project: Project, name: str) -> None:
    """Stop it as the UI does, which needs a webserver; so with Dagster's own values, by hand."""
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData

    origin = repository_origin().get_instigator_origin(name)
    data = ScheduleInstigatorData("0 * * * *")
    state = InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, data)
    project.instance.add_instigator_state(state)


def test_a_sync_whose_run_was_lost_runs_again_at_once(
    project: Project, db: Database, settings: Settings, row: SyncRow
) -> None:
    project.sync()
    lose_a_run(db, row)
    assert dispatched(project).success
    assert [job.status for job in jobs.list_jobs(db, row.id)] == ["succeeded", "failed", "succeeded"]


def lose_a_run(db: Database, row: SyncRow, run_id: str = "gone") -> None:
    """A run that died in the middle of the sync, an hour ago."""
    worker = queue.start_worker(db, row.id, run_id)
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        jobs.start(connection, db, claim, row, run_id)
        long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
        connection.execute(schema.workers.update().values(heartbeat_at=long_ago))


def test_a_slot_whose_run_never_came_is_made_up_for(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    project.sync()
    began(db, row, timedelta(days=1))
    assert dispatched(project).success
    assert look(project) == "nothing waits."


def test_a_slot_of_this_minute_is_left_to_the_syncs_own_schedule(
    make: MakeProject, db: Database, source: Source
) -> None:
    sync = source.sync(frequency=1)
    project = make(sync)
    project.sync()
    row = syncs.register(db, [sync])[sync.name]
    began(db, row, timedelta(minutes=5))
    assert look(project) == "nothing waits."
    assert isinstance(tick(project, sync), dg.RunRequest)


def test_a_sync_whose_own_run_is_about_to_start_is_left_to_it(project: Project, sync: Sync) -> None:
    asked(project.instance, "items_job", dg.DagsterRunStatus.NOT_STARTED, **names.run_tag([sync]))
    assert look(project) == "nothing waits."


def test_a_sync_that_is_configured_no_more_is_not_run(make: MakeProject, db: Database, source: Source) -> None:
    gone = syncs.register(db, [source.sync(name="gone")])["gone"]
    project = make()
    assert look(project) == "nothing waits."
    queue.trigger(db, gone.id)
    assert look(project) == "nothing waits."


def test_a_sync_that_changed_runs_as_it_is_configured_now(
    make: MakeProject, db: Database, settings: Settings, source: Source
) -> None:
    syncs.register(db, [source.sync(unique_key="name")])
    assert dispatched(make(source.sync(unique_key="id"))).success
    row = syncs.by_name(db, "items")
    assert row is not None and row.sync.unique_key == "id"


def posted(db: Database, settings: Settings, source: Source) -> SyncRow:
    """A sync that arrived over HTTP."""
    return syncs.post(db, source.sync(name="posted", unique_key="id"), named=True)


@pytest.fixture
def private(settings_env: dict[str, str]) -> Settings:
    """Settings that let a posted sync reach the tests' API."""
    return Settings.from_env({**settings_env, "NANGO_ALLOW_PRIVATE_HOSTS": "1"}, dotenv=None)


def test_a_posted_sync_runs_on_time_before_any_reload_has_loaded_it(
    make: MakeProject, db: Database, private: Settings, source: Source
) -> None:
    row = posted(db, private, source)
    project = make(settings=private)
    assert dispatched(project).success
    assert project.metadata("posted")["added"] == 7
    assert look(project) == "nothing waits."
    began(db, row, timedelta(hours=2))
    assert dispatched(project).success
    assert len(jobs.list_jobs(db, row.id)) == 2


# --- the dispatcher: one run for all ----------------------------------------------------------------------------------


@pytest.fixture
def several(api: FakeApi) -> list[Source]:
    return [Source(api, items(*range(1, 4)), path=f"/items{number}") for number in range(3)]


def of(sources: list[Source]) -> list[Sync]:
    return [source.sync(name=f"items{number}", unique_key="id") for number, source in enumerate(sources)]


def test_one_run_executes_all_that_waits(make: MakeProject, db: Database, several: list[Source]) -> None:
    project = make(*of(several))
    request = look(project)
    assert isinstance(request, dg.RunRequest) and request.tags["nango/sync"] == "items0,items1,items2"
    result = project.run(names.DISPATCH_JOB)
    assert kinds(result).count("ASSET_MATERIALIZATION") == 3
    assert {job.run_id for job in jobs.list_jobs(db)} == {result.run_id}


def test_a_sync_that_fails_takes_no_other_down_and_is_shown_as_failed(
    make: MakeProject, db: Database, several: list[Source]
) -> None:
    several[1].broken[1] = (500, {}, "down")
    project = make(*of(several))
    result = project.run(names.DISPATCH_JOB)
    assert not result.success
    assert sentence(result).startswith("items1: ")
    assert kinds(result).count("ASSET_MATERIALIZATION") == 2
    planned = project.instance.get_records_for_run(
        result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    ).records
    assert [record.asset_key for record in planned] == [dg.AssetKey("items1")]
    assert look(project) == "nothing waits."


def test_a_dispatch_run_sees_what_is_triggered_while_it_runs(
    make: MakeProject, db: Database, several: list[Source]
) -> None:
    project = make(*of(several))
    for sync in project.syncs:
        project.sync(sync)
    rows = syncs.register(db, project.syncs)
    queue.trigger(db, rows["items0"].id)

    def slow(request: Any) -> Any:
        queue.trigger(db, rows["items2"].id)
        until(lambda: len(jobs.list_jobs(db, rows["items2"].id)) == 2)
        return several[0].page(1)

    several[0].broken[1] = slow
    assert project.run(names.DISPATCH_JOB).success
    assert [len(jobs.list_jobs(db, row.id)) for row in rows.values()] == [2, 1, 2]


def test_what_is_executed_goes_on_while_the_database_does_not_say_what_else_is_due(
    make: MakeProject, db: Database, several: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make(*of(several))
    for sync in project.syncs:
        project.sync(sync)
    rows = syncs.register(db, project.syncs)
    queue.trigger(db, rows["items0"].id)
    looked: list[float] = []

    def waiting(*args: Any) -> Any:
        looked.append(time.monotonic())
        if len(looked) in (2, 3):
            raise StoreUnavailable("there is no connection free.")
        return ask(*args)

    ask = queue.waiting
    monkeypatch.setattr(queue, "waiting", waiting)
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0)

    def slow(request: Any) -> Any:
        until(lambda: len(looked) > 3)
        return several[0].page(1)

    several[0].broken[1] = slow
    assert project.run(names.DISPATCH_JOB).success
    last = jobs.list_jobs(db, rows["items0"].id)[0]
    assert (last.status, len(jobs.list_jobs(db, rows["items0"].id))) == ("succeeded", 2)


def test_no_second_dispatch_run_is_asked_for_while_one_is_about_to_start(project: Project) -> None:
    run_id = asked(project.instance, names.DISPATCH_JOB, dg.DagsterRunStatus.STARTING)
    assert look(project) == f"run {run_id[:8]} is about to start."


def test_a_run_that_was_launched_long_ago_and_never_started_keeps_no_work_from_others(
    project: Project, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may have been killed; Dagster's monitoring waits for minutes until it says so."""
    asked(project.instance, names.DISPATCH_JOB, dg.DagsterRunStatus.STARTING)
    asked(project.instance, "items_job", dg.DagsterRunStatus.NOT_STARTED, **names.run_tag([sync]))
    monkeypatch.setattr(schedules, "LAUNCH", timedelta(minutes=-1))
    assert isinstance(look(project), dg.RunRequest)
    assert isinstance(tick(project, sync), dg.RunRequest)


def test_a_run_in_dagsters_own_queue_waits_for_as_long_as_the_queue(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project.instance.create_run_for_job(
        dg.job(name=names.DISPATCH_JOB)(lambda: None),
        status=dg.DagsterRunStatus.QUEUED,
        remote_job_origin=repository_origin().get_job_origin(names.DISPATCH_JOB),
    )
    monkeypatch.setattr(schedules, "LAUNCH", timedelta(minutes=-1))
    assert look(project) == f"run {run.run_id[:8]} is about to start."


def test_a_busy_dispatch_run_gets_help_after_a_while(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = asked(project.instance, names.DISPATCH_JOB, dg.DagsterRunStatus.STARTED)
    assert look(project) == f"run {run_id[:8]} is at it."
    monkeypatch.setattr(dispatch, "PATIENCE", timedelta(0))
    assert isinstance(look(project), dg.RunRequest)
    for _ in range(dispatch.MOST_RUNS - 1):
        asked(project.instance, names.DISPATCH_JOB, dg.DagsterRunStatus.STARTED)
    assert "is at it" in str(look(project))


def test_a_run_that_died_with_its_machine_is_reported_as_failed(
    project: Project, db: Database, row: SyncRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = asked(project.instance, "items_job", dg.DagsterRunStatus.STARTED, **names.run_tag(project.syncs))
    others = asked(project.instance, "theirs", dg.DagsterRunStatus.STARTED)
    monkeypatch.setattr(dispatch, "LEASE_SECONDS", 0)
    lose_a_run(db, row, run_id)
    look(project)
    run, other = project.instance.get_run_by_id(run_id), project.instance.get_run_by_id(others)
    assert run is not None and run.status == dg.DagsterRunStatus.FAILURE
    assert other is not None and other.status == dg.DagsterRunStatus.STARTED


def test_a_run_that_was_launched_and_never_came_is_reported_as_failed(
    project: Project, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine died while it started; without a report, the schedule would wait for it for ever."""
    run_id = asked(project.instance, "items_job", dg.DagsterRunStatus.STARTING, **names.run_tag([sync]))
    look(project)
    assert status_of(project, run_id) == dg.DagsterRunStatus.STARTING
    monkeypatch.setattr(dispatch, "OVERDUE", timedelta(0))
    look(project)
    assert status_of(project, run_id) == dg.DagsterRunStatus.FAILURE


def status_of(project: Project, run_id: str) -> dg.DagsterRunStatus:
    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_that_is_about_to_end_is_not_reported(
    project: Project, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executions are over, and their claims free, some time before Dagster calls it ended."""
    run_id = asked(project.instance, "items_job", dg.DagsterRunStatus.STARTED, **names.run_tag([sync]))
    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    project.instance.report_engine_event("it sums up", run)
    monkeypatch.setattr(dispatch, "_started", lambda record: datetime.now(timezone.utc) - timedelta(hours=1))
    look(project)
    assert status_of(project, run_id) == dg.DagsterRunStatus.STARTED
    monkeypatch.setattr(dispatch, "LEASE_SECONDS", 0)
    look(project)
    assert status_of(project, run_id) == dg.DagsterRunStatus.FAILURE


def test_a_run_that_is_at_work_is_not_reported(
    project: Project, db: Database, row: SyncRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = asked(project.instance, "items_job", dg.DagsterRunStatus.STARTED, **names.run_tag(project.syncs))
    queue.start_worker(db, row.id, run_id)
    monkeypatch.setattr(dispatch, "LEASE_SECONDS", 0)
    look(project)
    run = project.instance.get_run_by_id(run_id)
    assert run is not None and run.status == dg.DagsterRunStatus.STARTED
