"""The Dagster UI on a sync of many customers, in a real browser: each is a partition, and one run carries many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dagster_ui import ILL, PATIENCE, Browser, DemoApi, Stack, of_customers
from tests.executions import until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("ui")]  # they share a Dagster
CUSTOMERS = 100
JOB = "crm__contacts_job"


@pytest.fixture(scope="module")
def api() -> Iterator[DemoApi]:
    api = DemoApi()
    with api:
        yield api


@pytest.fixture(scope="module")
def stack(api: DemoApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A project whose connections were imported, and read for the first time."""
    with Stack(tmp_path_factory.mktemp("project"), of_customers(api)) as stack:
        stack.add_customers(CUSTOMERS)
        until(lambda: stack.runs("nango_dispatch", "SUCCESS", "FAILURE"), PATIENCE, "the dispatcher's run has ended")
        yield stack


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def test_one_run_reads_all_customers_and_shows_those_that_failed(stack: Stack, browser: Browser) -> None:
    (run,) = stack.runs("nango_dispatch")
    said = stack.sentence_of(run["id"])
    assert f"contacts: {len(ILL)} of {CUSTOMERS} connections failed:" in said
    assert "401" in said and "sent nothing for 10 s" in said and "This account is being moved." in said
    shown = (f"Failed ({len(ILL)})", f"Materialized ({CUSTOMERS - len(ILL)})", "Missing (0)")
    browser.open(f"{stack.url}/assets/crm/contacts?view=partitions", *shown, within=5)


def test_a_click_on_one_partition_runs_that_customer(stack: Stack, browser: Browser) -> None:
    before = stack.materializations("crm/contacts")
    assert stack.finished(stack.launch(JOB, partition="customer-003")) == "SUCCESS"
    assert stack.materializations("crm/contacts") == before + 1
    browser.open(f"{stack.url}/assets/crm/contacts?view=partitions&partition=customer-003", "unchanged", JOB)


def test_a_backfill_of_neighbours_is_one_run_that_leaves_out_whom_another_run_has(stack: Stack, api: DemoApi) -> None:
    """Dagster makes a run for each range without gaps."""
    api.held = 1
    try:
        holder = stack.launch(JOB, partition="customer-001")
        assert api.waits.wait(PATIENCE)
        shown = stack.materializations("crm/contacts")
        backfill = stack.backfill("crm/contacts", "customer-001", "customer-002", "customer-003")
        until(lambda: stack.backfill_status(backfill) == "COMPLETED_FAILED", PATIENCE, "the backfill has ended")
        (run,) = [run for run in stack.runs("__ASSET_JOB") if run["dagster/backfill"] == backfill]
        said = f"customer-001 is being synced by run {holder[:8]} since "
        assert said in stack.sentence_of(run["id"])
        assert stack.materializations("crm/contacts") == shown + 2
    finally:
        api.goes_on.set()
    assert stack.finished(holder) == "SUCCESS"
