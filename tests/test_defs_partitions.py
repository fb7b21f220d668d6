"""A sync of an integration in Dagster: its connections and variants are partitions, and one run carries many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.defs import checks, names, partitions
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, items
from tests.fake_api import FakeApi, Received, Reply
from tests.materializing import (
    MakeProject,
    Project,
    kinds,
    look,
    making_projects,
    repository_origin,
    sentence,
    tick,
    ticks,
)

CRM = "crm"


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Iterator[MakeProject]:
    with making_projects(settings, home=tmp_path / "dagster") as make:
        yield make


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, items(1, 2, 3), path="/contacts")


@pytest.fixture
def sync(source: Source) -> Sync:
    return source.sync(name="contacts", integration=CRM, unique_key="id", query_params={"who": "${connection_id}"})


@pytest.fixture
def project(make: MakeProject, sync: Sync) -> Project:
    return make(sync)


@pytest.fixture
def row(db: Database, sync: Sync) -> SyncRow:
    return syncs.register(db, [sync])[sync.name]


def add(db: Database, *names: str) -> None:
    for name in names:
        connections.add(db, None, connections.NewConnection(CRM, name))


def fail_for(source: Source, *who: str) -> None:
    """Let the API refuse these connections."""
    source.broken[1] = lambda request: (500, {}, "down") if request.params["who"] in who else source.page(1)


def statuses(project: Project, sync: Sync) -> dict[str, str]:
    """How Dagster shows the partitions, as the UI's asset page asks for it."""
    from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

    definition = partitions.definition(sync)
    value = get_and_update_asset_status_cache_value(
        project.instance, names.asset_key(sync), definition, project.instance
    )
    assert value is not None
    found: dict[str, str] = {}
    for state, subset in (
        ("MATERIALIZED", value.deserialize_materialized_partition_subsets(definition)),
        ("FAILED", value.deserialize_failed_partition_subsets(definition)),
    ):
        found.update(dict.fromkeys(subset.get_partition_keys(), state))
    return found


def keys(project: Project, sync: Sync) -> list[str]:
    return list(project.instance.get_dynamic_partitions(names.partitions_name(names.asset_key(sync))))


def rows_of(db: Database, row: SyncRow) -> dict[str, int]:
    """How many live records each connection has."""
    raw, datasets = schema.raw, schema.datasets
    query = (
        sa.select(datasets.c.connection_id, sa.func.count())
        .join(raw, raw.c.dataset_id == datasets.c.id)
        .where(datasets.c.sync_id == row.id, raw.c.deleted_at.is_(None))
        .group_by(datasets.c.connection_id)
    )
    with db.connect() as connection:
        return {name: count for name, count in connection.execute(query)}


# --- what is due ------------------------------------------------------------------------------------------------------


def test_one_scheduled_run_executes_every_connection(project: Project, db: Database, row: SyncRow, sync: Sync) -> None:
    add(db, "ann", "bob", "cyd")
    result = project.scheduled(sync)
    assert result.success
    assert rows_of(db, row) == {"ann": 3, "bob": 3, "cyd": 3}
    assert {job.run_id for job in jobs.list_jobs(db)} == {result.run_id}
    assert statuses(project, sync) == dict.fromkeys(("ann", "bob", "cyd"), "MATERIALIZED")
    assert not queue.live_workers(db, row.id)


def test_each_materialization_has_the_numbers_of_its_connection(
    project: Project, db: Database, source: Source, sync: Sync
) -> None:
    add(db, "ann", "bob")
    source.broken[1] = lambda request: {"results": items(*range(2 if request.params["who"] == "ann" else 5))}
    project.scheduled(sync)
    found = project.instance.fetch_materializations(names.asset_key(sync), limit=9).records
    counts = {
        record.partition_key: record.asset_materialization.metadata["dagster/partition_row_count"].value
        for record in found
        if record.asset_materialization
    }
    assert counts == {"ann": 2, "bob": 5}


def test_an_unchanged_connection_is_executed_and_not_told_of_again(
    project: Project, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")
    project.scheduled(sync)
    source.broken[1] = lambda request: (
        {"results": items(1, 2, 3, 4)} if request.params["who"] == "bob" else source.page(1)
    )
    queue.trigger(db, row.id)
    result = project.scheduled(sync)
    told = [event.partition for event in result.all_events if event.is_step_materialization]
    assert told == ["bob"]
    assert len(jobs.list_jobs(db)) == 4


def test_events_all_tells_of_every_execution(make: MakeProject, db: Database, sync: Sync) -> None:
    sync = sync.model_copy(update={"events": "all"})
    project = make(sync)
    row = syncs.register(db, [sync])[sync.name]
    add(db, "ann", "bob")
    project.scheduled(sync)
    queue.trigger(db, row.id)
    assert kinds(project.scheduled(sync)).count("ASSET_MATERIALIZATION") == 2


def test_what_was_not_shown_for_a_day_is_shown_again(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    add(db, "ann", "bob")
    project.scheduled(sync)
    of = schema.schedules
    with db.begin() as connection:
        long_ago = datetime.now(timezone.utc) - timedelta(hours=25)
        connection.execute(of.update().where(of.c.connection_id == "ann").values(shown_at=long_ago))
    queue.trigger(db, row.id)
    result = project.scheduled(sync)
    assert [event.partition for event in result.all_events if event.is_step_materialization] == ["ann"]


def test_those_that_fail_are_shown_as_failed_and_the_others_are_kept(
    project: Project, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    add(db, *(f"c{number}" for number in range(10)))
    fail_for(source, "c3", "c7")
    result = project.scheduled(sync)
    assert not result.success
    said = sentence(result)
    assert said.startswith("contacts: 2 of 10 connections failed:\n")
    assert "contacts for c3: GET " in said and "500 Internal Server Error" in said
    found = statuses(project, sync)
    assert [name for name, state in sorted(found.items()) if state == "FAILED"] == ["c3", "c7"]
    assert sum(state == "MATERIALIZED" for state in found.values()) == 8
    assert rows_of(db, row).keys() == {f"c{number}" for number in range(10)} - {"c3", "c7"}


def test_a_connection_that_works_again_is_shown_as_materialized_though_nothing_changed(
    project: Project, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann")
    project.scheduled(sync)
    fail_for(source, "ann")
    queue.trigger(db, row.id)
    project.scheduled(sync)
    assert statuses(project, sync) == {"ann": "FAILED"}
    source.broken.clear()
    queue.trigger(db, row.id)
    assert project.scheduled(sync).success
    assert statuses(project, sync) == {"ann": "MATERIALIZED"}


def test_a_failed_connection_waits_for_its_next_slot(
    project: Project, db: Database, source: Source, sync: Sync
) -> None:
    add(db, "ann", "bob")
    fail_for(source, "bob")
    project.scheduled(sync)
    assert "not due; the next slot is" in str(tick(project, sync))


def test_a_tick_asks_for_as_many_runs_as_are_needed_and_allowed(make: MakeProject, db: Database, sync: Sync) -> None:
    sync = sync.model_copy(update={"connections_per_run": 2, "max_runs": 2})
    project = make(sync)
    row = syncs.register(db, [sync])[sync.name]
    assert "has no connections yet" in str(tick(project, sync))
    add(db, "ann", "bob", "cyd", "dan", "eve")
    assert isinstance(tick(project, sync), dg.RunRequest)
    assert len(ticks(project, sync)) == 2
    worker = queue.start_worker(db, row.id, "some-run", drains=True)
    assert len(ticks(project, sync)) == 1
    queue.start_worker(db, row.id, "another-run", drains=True)
    assert tick(project, sync) == "run some-run and run another-run drains what is due, 0 connections right now."
    queue.end_worker(db, worker)


def test_while_a_run_takes_its_time_to_start_and_drains_over_three_ticks_no_other_is_asked_for(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob", "cyd")
    assert isinstance(tick(project, sync), dg.RunRequest)
    run_id = asked_for(project, sync)
    for status, event in (
        (dg.DagsterRunStatus.NOT_STARTED, None),
        (dg.DagsterRunStatus.QUEUED, "PIPELINE_ENQUEUED"),
        (dg.DagsterRunStatus.STARTING, "PIPELINE_STARTING"),
        (dg.DagsterRunStatus.STARTED, "PIPELINE_START"),  # as Dagster calls it before it has opened the store
    ):
        advance(project, run_id, event)
        assert status_of(project, run_id) == status
        assert tick(project, sync) == f"run {run_id[:8]} is about to start."
        assert look(project) == "nothing waits."
    worker = queue.start_worker(db, row.id, run_id, drains=True)
    for left in (3, 2, 1):
        assert tick(project, sync) == f"run {run_id[:8]} drains what is due, {3 - left} connections right now."
        assert look(project) == "nothing waits."
        queue.claim(db, worker, limit=1, slot=datetime.now(timezone.utc))
    queue.end_worker(db, worker)
    advance(project, run_id, "PIPELINE_SUCCESS")
    assert isinstance(tick(project, sync), dg.RunRequest)


def test_runs_that_wait_in_dagsters_queue_count_as_asked_for(make: MakeProject, db: Database, sync: Sync) -> None:
    sync = sync.model_copy(update={"connections_per_run": 1, "max_runs": 3})
    project = make(sync)
    add(db, "ann", "bob", "cyd", "dan")
    run_ids = [asked_for(project, sync) for _ in ticks(project, sync)]
    assert len(run_ids) == 3
    for run_id in run_ids:
        assert "is about to start" in str(tick(project, sync))
        advance(project, run_id, "PIPELINE_ENQUEUED")
    assert "is about to start" in str(tick(project, sync))
    advance(project, run_ids[0], "PIPELINE_CANCELED")
    assert len(ticks(project, sync)) == 1


def asked_for(project: Project, sync: Sync) -> str:
    """A run as a tick asks for it, which nobody has started; its id."""
    name = names.job_name(sync)
    run = project.instance.create_run_for_job(
        dg.job(name=name)(lambda: None),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags=names.run_tag([sync]),
        remote_job_origin=repository_origin().get_job_origin(name),
    )
    return run.run_id


def status_of(project: Project, run_id: str) -> dg.DagsterRunStatus:
    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def advance(project: Project, run_id: str, event: str | None) -> None:
    """Let Dagster hear of the next step in a run's life, as its daemon and its run worker do, by its own names."""
    from dagster._core.events import DagsterEvent, DagsterEventType

    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    if event is not None:
        told = DagsterEvent(event_type_value=DagsterEventType[event].value, job_name=run.job_name)
        project.instance.report_dagster_event(told, run_id)


def test_a_run_that_has_just_started_is_no_reason_for_the_dispatcher_to_wait_for_itself(
    project: Project, db: Database, row: SyncRow
) -> None:
    add(db, "ann")
    result = project.run(names.DISPATCH_JOB, tags={names.RUN_TAG: "crm/contacts"})
    assert result.success
    assert rows_of(db, row) == {"ann": 3}


def test_a_run_whose_lease_was_lost_shows_no_connection_as_failed(
    project: Project, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")

    def taken_for_dead(request: Received) -> Reply:
        with db.begin() as connection:
            long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
            connection.execute(schema.workers.update().values(heartbeat_at=long_ago))
        queue.reap(db)
        return source.page(1)

    source.broken[1] = taken_for_dead
    result = project.scheduled(sync)
    assert "was taken for dead." in sentence(result)
    assert "connections failed" not in sentence(result)
    assert statuses(project, sync) == {}
    source.broken.clear()
    assert project.scheduled(sync).success
    assert statuses(project, sync) == {"ann": "MATERIALIZED", "bob": "MATERIALIZED"}
    assert rows_of(db, row) == {"ann": 3, "bob": 3}


def test_a_new_connection_is_executed_at_once_by_the_dispatcher(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    assert look(project) == "nothing waits."
    add(db, "ann")
    assert isinstance(look(project), dg.RunRequest)
    assert keys(project, sync) == ["ann"]
    result = project.run(names.DISPATCH_JOB)
    assert result.success
    assert kinds(result).count("ASSET_MATERIALIZATION") == 1
    assert kinds(result).count("ASSET_CHECK_EVALUATION") == 1
    assert rows_of(db, row) == {"ann": 3}
    assert look(project) == "nothing waits."


def test_the_dispatcher_leaves_to_a_run_that_drains_what_it_will_get_round_to(
    project: Project, db: Database, row: SyncRow
) -> None:
    add(db, "ann")
    worker = queue.start_worker(db, row.id, "some-run", drains=True)
    assert look(project) == "nothing waits."
    queue.end_worker(db, worker)
    queue.start_worker(db, row.id, "a-click", drains=False)
    assert isinstance(look(project), dg.RunRequest)


# --- what somebody launched -------------------------------------------------------------------------------------------


def test_a_click_executes_one_partition_though_it_is_paused_and_not_due(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")
    queue.set_state(db, row.id, "PAUSED")
    look(project)
    result = project.materialize("crm/contacts", partition="bob")
    assert result.success
    assert rows_of(db, row) == {"bob": 3}
    assert statuses(project, sync) == {"bob": "MATERIALIZED"}
    assert project.materialize("crm/contacts", partition="bob").success  # unchanged, and told of, since somebody asked
    assert project.instance.get_latest_materialization_event(names.asset_key(sync)) is not None


def test_a_range_of_partitions_is_one_run(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    add(db, "ann", "bob", "cyd", "dan")
    look(project)
    result = project.run(
        names.job_name(sync),
        tags={"dagster/asset_partition_range_start": "bob", "dagster/asset_partition_range_end": "dan"},
    )
    assert result.success
    assert rows_of(db, row).keys() == {"bob", "cyd", "dan"}
    assert statuses(project, sync) == dict.fromkeys(("bob", "cyd", "dan"), "MATERIALIZED")


def test_a_partition_that_another_run_has_is_named_after_the_rest_is_done(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")
    look(project)
    worker = queue.start_worker(db, row.id, "some-run")
    queue.claim(db, worker, limit=1, slot=None, only=[("ann", "base")], force=True)
    result = project.run(
        names.job_name(sync),
        tags={"dagster/asset_partition_range_start": "ann", "dagster/asset_partition_range_end": "bob"},
    )
    assert "ann is being synced by run some-run since" in sentence(result)
    assert sentence(result).endswith("nothing was done.")
    assert rows_of(db, row) == {"bob": 3}


def test_a_partition_that_somebody_made_up_in_dagster_says_how_to_add_a_connection(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann")
    look(project)
    project.instance.add_dynamic_partitions(names.partitions_name(names.asset_key(sync)), ["zoe", "ann|eu"])
    result = project.materialize("crm/contacts", partition="ann")
    assert result.success  # which also takes the made-up keys away
    assert keys(project, sync) == ["ann"]


def test_a_variant_is_a_partition_of_its_own(project: Project, db: Database, sync: Sync, row: SyncRow) -> None:
    add(db, "a|b")
    connections.add_variant(db, row.id, "a|b", "eu%")
    look(project)
    assert keys(project, sync) == ["a%7Cb", "a%7Cb|eu%25"]
    result = project.materialize("crm/contacts", partition="a%7Cb|eu%25")
    assert result.success
    (job,) = jobs.list_jobs(db)
    assert (job.connection_id, job.variant) == ("a|b", "eu%")


def test_partitions_go_with_their_connections(project: Project, db: Database, sync: Sync) -> None:
    add(db, "ann", "bob")
    look(project)
    connections.remove(db, CRM, "ann")
    look(project)
    assert keys(project, sync) == ["bob"]


# --- when some of many fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["60%", 3, "never"])
def test_below_its_limit_a_run_succeeds_and_only_the_failed_partitions_are_red(
    limit: str | int, make: MakeProject, db: Database, source: Source, sync: Sync
) -> None:
    sync = sync.model_copy(update={"fail_run_when": limit})
    project = make(sync)
    add(db, "ann", "bob", "cyd", "dan")
    fail_for(source, "bob", "dan")
    result = project.scheduled(sync)
    assert result.success
    assert statuses(project, sync) == {
        "ann": "MATERIALIZED",
        "bob": "FAILED",
        "cyd": "MATERIALIZED",
        "dan": "FAILED",
    }
    check = project.check(result)
    assert not check.passed and check.severity is dg.AssetCheckSeverity.WARN
    assert check.description is not None and check.description.startswith(
        "2 of 4 connections failed: bob, dan. 2 connections, such as bob: GET "
    )
    (beside,) = project.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert beside.tags["nango/failed_partitions"] == "2" and beside.tags["nango/run"] == result.run_id
    log = [event.message for event in project.instance.all_logs(beside.run_id)]
    assert any(line.startswith("dan: contacts for dan: GET ") for line in log)
    failures = [event for event in project.instance.all_logs(beside.run_id) if event.dagster_event_type]
    assert "PIPELINE_FAILURE" not in [event.get_dagster_event().event_type_value for event in failures]


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("limit", "success"), [("any", False), ("50%", False), (2, False), (3, True)])
def test_at_its_limit_a_run_fails(
    limit: str | int, success: bool, make: MakeProject, db: Database, source: Source, sync: Sync
) -> None:
    sync = sync.model_copy(update={"fail_run_when": limit})
    project = make(sync)
    add(db, "ann", "bob", "cyd", "dan")
    fail_for(source, "bob", "dan")
    assert project.scheduled(sync).success == success


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_failed_partition_says_why_in_which_job_at_which_request_and_what_follows(
    make: MakeProject, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    sync = sync.model_copy(update={"fail_run_when": "never"})
    project = make(sync)
    add(db, "ann", "bob")
    assert project.scheduled(sync).success
    due_again(db, row)
    fail_for(source, "bob")
    result = project.scheduled(sync)
    (record,) = project.instance.fetch_observations(names.asset_key(sync), limit=9).records
    observation = record.event_log_entry.asset_observation
    assert observation is not None and observation.partition == "bob"
    found = {name: str(value.value) for name, value in observation.metadata.items()}
    (failed,) = [job for job in jobs.list_jobs(db) if job.status == "failed"]
    assert found["failure"].startswith("contacts for bob: GET http://") and "500" in found["failure"]
    assert (found["failed_job_id"], found["failed_run"]) == (str(failed.id), result.run_id)
    assert found["failed_request"].startswith("GET http://")
    assert "then every hour; at once: nango-dagster trigger contacts --connection bob" in found["next_try"]


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_run_of_selected_partitions_fails_if_one_of_them_does(
    make: MakeProject, db: Database, source: Source, sync: Sync
) -> None:
    project = make(sync.model_copy(update={"fail_run_when": "never"}))
    add(db, "ann")
    look(project)
    fail_for(source, "ann")
    assert not project.materialize("crm/contacts", partition="ann").success


def test_the_overview_shows_the_totals_of_all_connections(
    project: Project, db: Database, source: Source, sync: Sync
) -> None:
    add(db, "ann", "bob", "cyd")
    fail_for(source, "cyd")
    project.scheduled(sync)
    found = project.metadata("crm/contacts")
    assert (found["dagster/row_count"], found["all_connections"], found["failing_connections"]) == (6, 3, 1)
    assert found["dagster/partition_row_count"] == 3 and "dagster/column_schema" in found
    assert found["failure_reasons"].startswith("- cyd: GET http")


def test_the_overview_says_how_many_fail_and_why_also_after_a_run_without_changes(
    make: MakeProject, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    sync = sync.model_copy(update={"fail_run_when": "never"})
    project = make(sync)
    add(db, "ann", "bob", "cyd", "dan")
    project.scheduled(sync)
    assert "failure_reasons" not in project.metadata("crm/contacts")
    due_again(db, row)
    fail_for(source, "bob", "dan")
    result = project.scheduled(sync)
    (again,) = [event.partition for event in result.all_events if event.is_step_materialization]
    assert again in ("ann", "cyd")
    found = project.metadata("crm/contacts")
    assert (found["dagster/row_count"], found["failing_connections"]) == (12, 2)
    assert found["failure_reasons"].startswith("- 2 connections, such as bob: GET http")
    due_again(db, row)
    result = project.scheduled(sync)  # they are shown as failed already
    assert "ASSET_MATERIALIZATION" not in kinds(result)


def test_the_check_lists_each_reason_with_the_number_of_connections() -> None:
    key, summary = dg.AssetKey("contacts"), checks.Summary(rejected=3)
    failed = {"ann": "contacts for ann: GET http://a answered 401", "bob": "contacts for bob: it is no JSON."}
    failed["cyd"] = failed["ann"].replace("ann", "cyd")
    check = checks.evaluate_many(key, summary, failed, executed=9, fails=True)
    assert check.description == (
        "3 of 9 connections failed: ann, bob, cyd.\n\n"
        "- 2 connections, such as ann: GET http://a answered 401.\n- bob: it is no JSON.\n\n"
        "3 records could not be stored."
    )


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_an_asset_that_was_never_materialized_says_in_its_last_observation_why(
    project: Project, db: Database, source: Source, sync: Sync
) -> None:
    add(db, "ann", "bob")
    fail_for(source, "ann", "bob")
    assert not project.scheduled(sync).success
    last = project.instance.fetch_observations(names.asset_key(sync), limit=9).records[0]
    observation = last.event_log_entry.asset_observation
    assert observation is not None and observation.metadata["failing_connections"].value == 2
    reasons = str(observation.metadata["failure_reasons"].value)
    assert reasons.startswith("- 2 connections, such as ann: GET http")


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_run_without_changes_materializes_an_asset_that_would_be_overdue(
    project: Project, db: Database, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")
    assert kinds(project.scheduled(sync)).count("ASSET_MATERIALIZATION") == 2
    due_again(db, row)
    assert kinds(project.scheduled(sync)).count("ASSET_MATERIALIZATION") == 0
    due_again(db, row)
    project.instance.wipe_assets([names.asset_key(sync)])
    assert kinds(project.scheduled(sync)).count("ASSET_MATERIALIZATION") == 1


# --- credentials that do not work -------------------------------------------------------------------------------------


def test_a_connection_refused_three_times_is_left_alone_until_it_is_triggered(
    project: Project, db: Database, source: Source, sync: Sync, row: SyncRow
) -> None:
    add(db, "ann", "bob")
    source.broken[1] = lambda request: (401, {}, "who?") if request.params["who"] == "ann" else source.page(1)
    for _ in range(3):
        assert not project.scheduled(sync).success
        due_again(db, row)
    found = connections.get(db, CRM, "ann")
    assert found is not None and found.needs_reauthorisation
    assert project.scheduled(sync).success
    assert [job.connection_id for job in jobs.list_jobs(db, limit=1)] == ["bob"]
    source.broken.clear()
    queue.trigger(db, row.id, "ann")
    assert project.scheduled(sync).success
    found = connections.get(db, CRM, "ann")
    assert found is not None and not found.needs_reauthorisation


def due_again(db: Database, row: SyncRow) -> None:
    of = schema.schedules
    with db.begin() as connection:
        long_ago = datetime.now(timezone.utc) - timedelta(days=1)
        connection.execute(of.update().where(of.c.sync_id == row.id).values(last_started_at=long_ago))


# --- downstream -------------------------------------------------------------------------------------------------------


def test_an_asset_downstream_of_two_syncs_reads_the_rows_of_one_customer(
    settings: Settings, make: MakeProject, db: Database, source: Source, api: FakeApi, sync: Sync
) -> None:
    deals = Source(api, items(7, 8), path="/deals").sync(name="deals", integration=CRM, unique_key="id")

    @dg.asset(**partitions.same_connection(contacts="crm/contacts", deals="crm/deals"))  # type: ignore[untyped-decorator]  # Dagster types its decorators so
    def pipeline(contacts: list[Any], deals: list[Any]) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"contacts": len(contacts), "deals": len(deals)})

    source.broken[1] = lambda request: {"results": items(*range(2 if request.params["who"] == "ann" else 5))}
    project = make(sync, deals, own=dg.Definitions(assets=[pipeline]))
    syncs.register(db, [sync, deals])
    add(db, "ann", "bob")
    look(project)
    assert project.scheduled(sync).success and project.scheduled(deals).success
    for name, count in (("ann", 2), ("bob", 5)):
        assert project.materialize("pipeline", partition=name).success
        found = {key: value.value for key, value in project.materialization("pipeline").metadata.items()}
        assert (found["contacts"], found["deals"]) == (count, 2)


def test_a_connections_requests_are_its_own(project: Project, db: Database, api: FakeApi, sync: Sync) -> None:
    add(db, "ann", "bob")
    project.scheduled(sync)
    asked: list[Received] = api.requests
    assert sorted(request.params["who"] for request in asked) == ["ann", "bob"]
