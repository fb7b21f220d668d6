"""A sync as an asset: what a run writes, shows, checks and says, and how it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.defs import io_manager, names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, queue, schema, syncs
from tests.executions import Source, assert_exact, assert_nothing_runs, items, last_job
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, Project, kinds, making_projects, sentence


@pytest.fixture
def source(api: FakeApi) -> Source:
    """Seven items on three pages."""
    return Source(api, items(*range(1, 8), note="nested", parent={"child": 15}))


@pytest.fixture
def sync(source: Source) -> Sync:
    return source.sync(unique_key="id", mapped_table="things")


@pytest.fixture
def make(settings: Settings) -> Iterator[MakeProject]:
    with making_projects(settings) as make:
        yield make


@pytest.fixture
def project(make: MakeProject, sync: Sync) -> Project:
    return make(sync)


def test_materializing_a_sync_fills_its_tables(project: Project, db: Database, source: Source, sync: Sync) -> None:
    assert project.sync().success
    row = syncs.by_name(db, "items")
    assert row is not None
    assert_exact(db, row, source.records)
    assert_nothing_runs(db)
    job = last_job(db, row)
    run = project.instance.get_runs()[0]
    assert (job.status, job.run_id, job.added) == ("succeeded", run.run_id, 7)


# --- what the UI shows ------------------------------------------------------------------------------------------------


def test_a_materialization_shows_what_was_done_and_what_the_table_is(
    project: Project, db: Database, source: Source
) -> None:
    project.sync()
    found = project.metadata("items")
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    assert numbers.pop("seconds") > 0 and numbers.pop("records_per_second") > 0
    assert numbers == {
        "dagster/row_count": 7,
        "added": 7,
        "updated": 0,
        "deleted": 0,
        "unchanged": 0,
        "rejected": 0,
        "fetched": 7,
        "pages": 3,
        "requests": 3,
        "retries": 0,
    }
    table = f"{db.engine.url.database}.{db.schema}.things" if db.engine.name == "postgresql" else "things"
    assert found["dagster/table_name"] == table
    assert found["dagster/storage_kind"] == db.engine.name
    assert found["stop_reason"] == "no_cursor"
    assert found["job_id"] == "1"


def test_numbers_of_the_next_execution_are_its_own(project: Project, source: Source) -> None:
    project.sync()
    source.records[0]["note"] = "changed"
    source.records += items(8)
    project.sync()
    found = project.metadata("items")
    assert [found[name] for name in ("dagster/row_count", "added", "updated", "unchanged")] == [8, 1, 1, 6]


def test_columns_are_shown_with_their_types_and_the_fields_they_come_from(project: Project) -> None:
    project.sync()
    metadata = project.materialization("items").metadata
    schema, lineage = metadata["dagster/column_schema"].value, metadata["dagster/column_lineage"].value
    assert isinstance(schema, dg.TableSchema) and isinstance(lineage, dg.TableColumnLineage)
    columns = {column.name: (column.type, column.description) for column in schema.columns}
    assert columns == {
        "id": ("number", None),
        "name": ("string", None),
        "note": ("string", None),
        "parent_child": ("number", "from parent.child"),
    }
    assert lineage.deps_by_column["parent_child"] == [
        dg.TableColumnDep(asset_key=dg.AssetKey(["api", "items-api"]), column_name="parent.child")
    ]


def test_a_few_changed_records_are_shown_as_a_table(project: Project, source: Source) -> None:
    source.records[0]["name"] = "a | pipe,\na line and a `tick`"
    project.sync()
    lines = project.metadata("items")["changed_records"].splitlines()
    assert lines[0] == "| id | name | note | parent\\_child |"
    assert lines[2] == "| 1 | a \\| pipe, a line and a \\`tick\\` | nested | 15 |"
    assert len(lines) == 7


def test_an_execution_that_changes_nothing_shows_no_records(project: Project) -> None:
    project.sync()
    project.sync()
    assert "changed_records" not in project.metadata("items")


def test_the_asset_says_what_its_config_says(make: MakeProject, settings: Settings, source: Source) -> None:
    sync = source.sync(
        unique_key="id",
        description="All items.",
        owners=["team:data", "a@example.com"],
        tags={"tier": "gold"},
        group="sales",
        frequency="every 2 hours",
    )
    (spec,) = (spec for spec in make(sync).defs.resolve_all_asset_specs() if spec.key.path == ["items"])
    assert spec.description == "All items."
    assert list(spec.owners) == ["team:data", "a@example.com"]
    assert spec.group_name == "sales"
    assert spec.tags["tier"] == "gold"
    assert spec.kinds == {"nango", "sqlite" if settings.db_url.startswith("sqlite") else "postgresql"}
    assert spec.code_version == sync.fingerprint()
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=6), timedelta(hours=4))
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["api", "items-api"])]
    assert spec.metadata["nango/unique_key"] == "id"


def test_a_weekday_schedule_is_not_late_on_a_monday(make: MakeProject, source: Source) -> None:
    sync = source.sync(cron="0 6 * * 1-5", timezone="Europe/Berlin")
    (spec,) = (spec for spec in make(sync).defs.resolve_all_asset_specs() if spec.key.path == ["items"])
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(days=9), timedelta(days=6))


def test_no_secret_of_a_config_is_shown(make: MakeProject, source: Source) -> None:
    secret = "very-secret"
    sync = source.sync(headers={"Authorization": f"Bearer {secret}"}, url=f"{source.api.url}/items?api_key={secret}")
    project = make(sync)
    shown = repr([(spec.description, spec.metadata) for spec in project.defs.resolve_all_asset_specs()])
    result = project.sync()
    assert secret not in shown + repr(result.all_events) + repr(project.metadata("items"))


# --- the check --------------------------------------------------------------------------------------------------------


def test_the_check_of_a_good_execution_passes(project: Project) -> None:
    evaluation = project.check(project.sync())
    assert (evaluation.passed, evaluation.description) == (True, "All records were stored.")


def test_the_check_names_rejected_records_and_the_run_still_succeeds(project: Project, source: Source) -> None:
    source.records.append({"name": "no id"})
    result = project.sync()
    evaluation = project.check(result)
    assert result.success
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert evaluation.description == "1 records could not be stored."


def test_the_check_warns_of_values_that_do_not_fit_and_of_new_fields(project: Project, source: Source) -> None:
    project.sync()
    source.records[0]["parent"] = {"child": "text"}
    source.records[1]["colour"] = "red"
    evaluation = project.check(project.sync())
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert evaluation.description == (
        "1 values did not fit their column and are NULL there: parent_child. the API sends new fields: colour."
    )
    assert evaluation.metadata["misfits"].value == 1
    unchanged = project.check(project.sync())
    assert (unchanged.passed, unchanged.description) == (False, "1 value did not fit column parent_child.")


def test_the_check_is_an_error_when_most_rows_are_gone(make: MakeProject, source: Source) -> None:
    project = make(source.sync())
    project.sync()
    del source.records[2:]
    evaluation = project.check(project.sync())
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert evaluation.description == "the number of rows fell from 7 to 2."


def test_the_check_warns_of_a_list_that_was_not_read_to_its_end(make: MakeProject, source: Source) -> None:
    project = make(source.sync(unique_key="id", max_pages=2))
    assert project.check(project.sync()).description == "the list was not read to its end (max_pages)."


def test_the_check_alone_judges_the_last_execution_without_another(project: Project, source: Source) -> None:
    check = dg.AssetCheckKey(dg.AssetKey("items"), names.CHECK)
    alone = project.defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={check}
    )

    def evaluate() -> dg.AssetCheckEvaluation:
        return project.check(alone.execute_in_process(instance=project.instance, raise_on_error=False))

    assert evaluate().description == "the sync has not been executed yet."
    project.sync()
    requests = len(source.api.requests)
    assert evaluate().passed
    assert len(source.api.requests) == requests
    source.broken[1] = (500, {}, "down")
    project.sync()
    assert "the last execution failed: items: " in (evaluate().description or "")


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_failed_sync_fails_its_run_with_the_sentence_that_says_why(
    project: Project, db: Database, source: Source
) -> None:
    source.broken[2] = (503, {}, "maintenance")
    result = project.sync()
    row = syncs.by_name(db, "items")
    assert row is not None and not result.success
    job = last_job(db, row)
    assert sentence(result) == job.error_message
    assert sentence(result).startswith("items: ") and "503" in sentence(result) and "maintenance" in sentence(result)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    data = failed.step_failure_data.user_failure_data
    assert data is not None
    assert (data.metadata["job_id"].value, data.metadata["added"].value) == (str(job.id), 3)
    assert "ASSET_MATERIALIZATION" not in kinds(result)
    assert_nothing_runs(db)


def test_a_failed_sync_is_not_tried_again_by_dagster(project: Project, source: Source) -> None:
    source.broken[1] = (500, {}, "down")
    result = project.sync()
    assert kinds(result).count("STEP_START") == 1 and "STEP_UP_FOR_RETRY" not in kinds(result)
    assert project.instance.get_runs()[0].tags["dagster/max_retries"] == "0"


def test_a_run_lasts_no_longer_than_the_sync_may_and_a_little(make: MakeProject, source: Source) -> None:
    project = make(source.sync(max_duration="1 hour"))
    project.sync()
    assert project.instance.get_runs()[0].tags["dagster/max_runtime"] == "4200"


def test_a_database_that_is_down_fails_the_run_with_a_sentence(make: MakeProject, source: Source, sync: Sync) -> None:
    settings = Settings.from_env({"NANGO_DB_URL": "postgresql://nobody:secret@127.0.0.1:1/none"}, dotenv=None)
    result = make(sync, settings=settings).sync()
    assert not result.success
    assert sentence(result).startswith("cannot reach the database postgresql+psycopg://nobody:***@127.0.0.1:1/none")


# --- one at a time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def held(db: Database, settings: Settings, sync: Sync) -> Iterator[str]:
    """The sync while another run executes it: that run's id."""
    run_id = "0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77"
    row = syncs.register(db, [sync])[sync.name]
    with runs.claimed(db, settings, row, run_id=run_id):
        yield run_id


@pytest.mark.usefixtures("held")
def test_the_second_of_two_clicks_fails_and_says_who_is_at_it(project: Project) -> None:
    result = project.materialize("items")
    since = datetime.now().astimezone()
    assert not result.success
    assert sentence(result) in {
        f"items: default is being synced by run 0f6e3c1a since {at:%H:%M}; nothing was done."
        for at in (since, since - timedelta(minutes=1))
    }


@pytest.mark.usefixtures("held")
def test_a_scheduled_run_that_finds_another_at_work_just_ends(project: Project, source: Source, sync: Sync) -> None:
    result = project.scheduled(sync)
    assert result.success
    assert not source.api.requests
    assert not {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"} & set(kinds(result))


def test_a_scheduled_run_does_nothing_when_its_slot_was_served_while_it_waited(
    project: Project, source: Source, sync: Sync
) -> None:
    project.sync()
    requests = len(source.api.requests)
    assert project.scheduled(sync).success
    assert len(source.api.requests) == requests


def test_a_click_runs_a_sync_that_is_paused_and_not_due(project: Project, db: Database, sync: Sync) -> None:
    project.sync()
    row = syncs.register(db, [sync])[sync.name]
    queue.set_state(db, row.id, "PAUSED")
    assert project.materialize("items").success
    assert len(jobs.list_jobs(db, row.id)) == 2


def test_a_run_whose_worker_died_leaves_the_claim_to_the_next(project: Project, db: Database, sync: Sync) -> None:
    row = syncs.register(db, [sync])[sync.name]
    worker = queue.start_worker(db, row.id, "gone")
    queue.claim(db, worker, limit=1, slot=None, force=True)
    with db.begin() as connection:
        long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
        connection.execute(schema.workers.update().values(heartbeat_at=long_ago))
    assert project.sync().success


# --- what a run may be asked ------------------------------------------------------------------------------------------


def test_a_tag_of_the_run_lifts_the_guard_of_track_deletes(make: MakeProject, api: FakeApi, db: Database) -> None:
    source = Source(api, items(*range(1, 41)), size=50)
    project = make(source.sync(unique_key="id", track_deletes={}))
    project.sync()
    del source.records[10:]
    result = project.sync()
    assert not result.success and "--accept-deletes" in sentence(result)
    assert project.sync(accept_deletes="true").success
    assert project.metadata("items")["deleted"] == 30


def test_a_tag_of_the_run_empties_the_cache(project: Project) -> None:
    project.sync()
    project.sync(empty_cache="true")
    assert project.metadata("items")["added"] == 7


# --- logs -------------------------------------------------------------------------------------------------------------


def logged(project: Project, result: dg.ExecuteInProcessResult) -> list[tuple[str, str]]:
    """The lines of the run's log besides Dagster's own events."""
    entries = project.instance.all_logs(result.run_id)
    return [(logging.getLevelName(entry.level), entry.user_message) for entry in entries if not entry.is_dagster_event]


def test_a_runs_log_says_what_was_done_under_the_syncs_name(make: MakeProject, source: Source) -> None:
    source.records.append({"name": "no id"})
    project = make(source.sync(unique_key="id", friendly_name="Our items"))
    found = logged(project, project.sync())
    assert found[0] == ("WARNING", 'Our items: record 7: unique_key "id" is missing')
    level, line = found[-1]
    assert level == "INFO" and line.startswith("Our items: succeeded in ")
    assert line.endswith("s: 8 records on 3 pages (no_cursor); 7 added, 0 updated, 0 deleted, 0 unchanged, 1 rejected.")


def test_a_runs_log_follows_log_level(make: MakeProject, settings_env: dict[str, str], source: Source) -> None:
    settings = Settings.from_env({**settings_env, "LOG_LEVEL": "warning"}, dotenv=None)
    project = make(source.sync(unique_key="id"), settings=settings)
    assert logged(project, project.sync()) == []


def test_long_syncs_tell_how_far_they_are(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_manager, "PROGRESS_SECONDS", 0)
    found = [line for _, line in logged(project, project.sync())]
    assert [line.split(", ")[:2] for line in found[:3]] == [
        ["items: 1 pages", "3 records"],
        ["items: 2 pages", "6 records"],
        ["items: 3 pages", "7 records"],
    ]


def test_whoever_listens_hears_of_every_page(project: Project) -> None:
    heard: list[int] = []
    listening = io_manager.on_progress.set(lambda progress: heard.append(progress.records))
    try:
        project.sync()
    finally:
        io_manager.on_progress.reset(listening)
    assert heard == [3, 6, 7]


def test_nothing_listens_any_more_when_a_run_is_over(project: Project, source: Source) -> None:
    before = logging.getLogger("nango_dagster").handlers[:]
    source.broken[2] = (500, {}, "down")
    project.sync()
    assert logging.getLogger("nango_dagster").handlers == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nango heartbeat")]
