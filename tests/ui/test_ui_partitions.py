"""The Dagster UI on a sync of many customers, in a real browser: each is a partition, and one run carries many."""

from __future__ import annotations

from time import monotonic

import pytest

from tests.dagster_ui import ILL, PATIENCE, Browser, DemoApi, Stack
from tests.executions import until

pytestmark = pytest.mark.acceptance
CUSTOMERS = 100
JOB = "crm__contacts_job"
ASSET = "crm/contacts"


@pytest.fixture
def api(ui_api: DemoApi) -> DemoApi:
    return ui_api


@pytest.fixture(scope="module")
def stack(ui_stack: Stack) -> Stack:
    """A project whose connections were imported, and read for the first time."""
    ended = ("SUCCESS", "FAILURE")
    until(lambda: ui_stack.runs("nango_dispatch", *ended), PATIENCE, "the first run of the other syncs has ended")
    ui_stack.add_customers(CUSTOMERS)
    until(lambda: dispatched(ui_stack, "SUCCESS"), PATIENCE, "the dispatcher's run has succeeded")
    return ui_stack


@pytest.fixture
def browser(ui_browser: Browser) -> Browser:
    return ui_browser


def dispatched(stack: Stack, status: str) -> list[dict[str, str]]:
    """The dispatcher's runs of this sync with a status."""
    return [run for run in stack.runs("nango_dispatch", status) if run.get("nango/sync") == ASSET]


def test_one_run_reads_all_customers_and_shows_those_that_failed(stack: Stack, browser: Browser) -> None:
    (run,) = dispatched(stack, "SUCCESS")
    (beside,) = dispatched(stack, "FAILURE")
    assert (beside["nango/run"], beside["nango/failed_partitions"]) == (run["id"], str(len(ILL)))
    began = monotonic()
    totals = ("Row count", f"{5 * (CUSTOMERS - len(ILL))}", "failing_connections", "The token was revoked.")
    browser.open(f"{stack.url}/assets/{ASSET}", *totals)
    overview_seconds = monotonic() - began
    shown = (f"Failed ({len(ILL)})", f"Materialized ({CUSTOMERS - len(ILL)})", "Missing (0)")
    browser.open(f"{stack.url}/assets/{ASSET}?view=partitions", *shown, within=10 + 5 * overview_seconds)


def test_a_failed_partition_and_the_check_say_why(stack: Stack, browser: Browser) -> None:
    red = f"customer-{ILL[0]:03}"
    browser.open(f"{stack.url}/assets/{ASSET}?view=partitions&partition={red}", "failed, and did not materialize")
    browser.click("View all historical events (1)")
    browser.find("//tr[contains(., 'Observation')]/td[1]").click()
    browser.see("The token was revoked.", "failed_request", "next_try")
    browser.open(f"{stack.url}/assets/{ASSET}?view=checks", f"{len(ILL)} of {CUSTOMERS} connections failed: {red}")


def test_a_click_on_one_partition_runs_that_customer(stack: Stack, browser: Browser) -> None:
    before = stack.materializations(ASSET)
    assert stack.finished(stack.launch(JOB, partition="customer-003")) == "SUCCESS"
    assert stack.materializations(ASSET) == before + 1
    browser.open(f"{stack.url}/assets/{ASSET}?view=partitions&partition=customer-003", "unchanged", JOB)


def test_a_backfill_of_neighbours_is_one_run_that_leaves_out_whom_another_run_has(stack: Stack, api: DemoApi) -> None:
    """Dagster makes a run for each range without gaps."""
    api.held = 1
    try:
        holder = stack.launch(JOB, partition="customer-001")
        assert api.waits.wait(PATIENCE)
        shown = stack.materializations(ASSET)
        backfill = stack.backfill(ASSET, "customer-001", "customer-002", "customer-003")
        until(lambda: stack.backfill_status(backfill) == "COMPLETED_FAILED", PATIENCE, "the backfill has ended")
        (run,) = [run for run in stack.runs("__ASSET_JOB") if run.get("dagster/backfill") == backfill]
        said = f"customer-001 is being synced by run {holder[:8]} since "
        assert said in stack.sentence_of(run["id"])
        assert stack.materializations(ASSET) == shown + 2
    finally:
        api.goes_on.set()
    assert stack.finished(holder) == "SUCCESS"
