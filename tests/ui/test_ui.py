"""The Dagster UI on real syncs, in a real browser: what a data engineer sees and can do there."""

from __future__ import annotations

from time import monotonic

import pytest

from nango_dagster.settings import Settings
from nango_dagster.store import jobs, open_database, syncs
from nango_dagster.store.jobs import Job
from tests.dagster_ui import PATIENCE, Browser, DemoApi, Stack
from tests.executions import until

pytestmark = pytest.mark.acceptance


@pytest.fixture
def api(ui_api: DemoApi) -> DemoApi:
    return ui_api


@pytest.fixture
def stack(ui_stack: Stack) -> Stack:
    return ui_stack


@pytest.fixture
def browser(ui_browser: Browser) -> Browser:
    return ui_browser


def last_job(stack: Stack, name: str) -> Job:
    """The last execution of a sync, as its database has it."""
    database = open_database(Settings.from_env({"NANGO_HOME": str(stack.folder / ".nango")}, dotenv=None))
    try:
        row = syncs.by_name(database, name)
        assert row is not None
        return jobs.list_jobs(database, row.id, limit=1)[0]
    finally:
        database.close()


def test_new_syncs_run_at_once_and_the_graph_shows_lists_and_tables(stack: Stack, browser: Browser) -> None:
    names = ("pokemon", "github-issues")
    until(lambda: all(map(stack.materializations, names)), PATIENCE, "both are materialized")
    graph = f"{stack.url}/locations/nango_dagster.definitions/asset-groups/syncs/lineage"
    browser.open(graph, "pokemon-api", "github-issues-api", "Materialized", "1 / 1 Passed")
    assert "Failed" in browser.text  # team-members


def test_a_click_on_materialize_runs_a_sync_and_shows_its_numbers_and_columns(
    stack: Stack, browser: Browser, api: DemoApi
) -> None:
    before = until(lambda: stack.materializations("pokemon"), PATIENCE)
    api.shown = 181
    browser.open(f"{stack.url}/assets/pokemon", "Latest materialization", "Row count", "151")
    browser.click("Materialize")
    until(lambda: stack.materializations("pokemon") > before, PATIENCE, "the click materializes")
    browser.open(f"{stack.url}/assets/pokemon", "Row count", "181", "generation", "number", "seen")
    browser.see("pokemon_job", "tier: gold", "Fails if more than 3 hours since last materialization")
    browser.see("changed_records", "unchanged", "stop_reason", "no_next_url")
    browser.click("Plots")
    browser.find("//canvas")


def test_a_schedule_runs_its_sync_on_time(stack: Stack, browser: Browser) -> None:
    def scheduled() -> list[str]:
        runs = stack.runs("service_status_job", "SUCCESS")
        return [run["id"] for run in runs if run.get("dagster/schedule_name") == "service_status_schedule"]

    until(scheduled, PATIENCE, "a tick's run has succeeded")
    assert last_job(stack, "service-status").status == "succeeded"
    where = f"{stack.url}/locations/nango_dagster.definitions/schedules/service_status_schedule"
    browser.open(where, "Runs the sync service-status when it is due.", "Every minute", "service_status_job")
    browser.find("//input[@type='checkbox' and @checked]")


def test_a_failed_run_shows_the_sentence_that_says_why(stack: Stack, browser: Browser, api: DemoApi) -> None:
    run_id = stack.launch("team_members_job")
    assert stack.finished(run_id) == "FAILURE"
    sentence = last_job(stack, "team-members").error_message
    assert sentence is not None and "The members are having a break." in sentence
    browser.open(f"{stack.url}/runs/{run_id}", "STEP_FAILURE", sentence)
    assert not [run for run in stack.runs("team_members_job") if run.get("dagster/parent_run_id")]


def test_a_second_click_is_refused_and_terminate_cancels_the_first(stack: Stack, api: DemoApi) -> None:
    until(lambda: stack.materializations("service-status"), PATIENCE)
    api.slow = True
    try:
        run_id = stack.launch("service_status_job")
        assert api.waits.wait(PATIENCE)
        holder = last_job(stack, "service-status").run_id or ""
        second = stack.launch("service_status_job")
        assert stack.finished(second) == "FAILURE"
        assert f"service-status: default is being synced by run {holder[:8]} since " in stack.sentence_of(second)
        began = monotonic()
        stack.terminate(holder)
        until(lambda: last_job(stack, "service-status").status == "cancelled", 10)
        assert monotonic() - began < 10
        assert stack.finished(holder) == "CANCELED"
        if holder != run_id:  # the schedule was faster
            assert stack.finished(run_id) == "FAILURE"
    finally:
        api.slow = False
