"""Take the pictures of the Dagster UI in docs/img anew: `python -m tests.take_screenshots`, a few minutes.

It starts what tests/ui starts: `nango-dagster dev` in a temporary folder, on a small API whose list of Pokémon
grows, and a headless Chromium that is 1,400 pixels wide.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.conftest import ROOT
from tests.dagster_ui import PATIENCE, Browser, DemoApi, Stack, configs, of_customers
from tests.executions import until

PICTURES = ROOT / "docs" / "img"
FOUR_OF_A_HUNDRED = (17, 42, 67, 92)
GROWTH = (153, 160, 164, 180, 190, 205, 222, 251)


def main() -> None:
    """Take all of them."""
    with tempfile.TemporaryDirectory() as folder, DemoApi() as api:
        project, profile = Path(folder, "project"), Path(folder, "chromium")
        project.mkdir()
        assert isinstance(api, DemoApi)
        with Stack(project, configs(api)) as stack, Browser(profile) as browser:
            take(stack, browser, api)
    with tempfile.TemporaryDirectory() as folder, DemoApi() as api:
        project, profile = Path(folder, "project"), Path(folder, "chromium")
        project.mkdir()
        assert isinstance(api, DemoApi)
        with Stack(project, of_customers(api)) as stack, Browser(profile) as browser:
            take_partitions(stack, browser, api)


def take(stack: Stack, browser: Browser, api: DemoApi) -> None:
    """Let a few runs happen, and take a picture of each page."""
    until(lambda: stack.materializations("pokemon"), PATIENCE)
    for shown in GROWTH:
        api.shown = shown
        assert stack.finished(stack.launch("pokemon_job")) == "SUCCESS"
    failed = stack.launch("team_members_job")
    stack.finished(failed)
    assert stack.finished(stack.launch("github_issues_job")) == "SUCCESS"

    browser.resize(1050)
    browser.open(f"{stack.url}/asset-groups", "1 / 1 Passed", "Failed")
    browser.picture(PICTURES / "asset-graph.png")
    browser.resize(1600)
    browser.open(f"{stack.url}/assets/pokemon", "Row count", str(GROWTH[-1]), "generation", "changed_records")
    browser.click("Plots")
    browser.find("(//canvas)[3]")
    browser.picture(PICTURES / "asset.png")
    browser.resize(1000)
    browser.open(f"{stack.url}/runs/{failed}?logs=type:STEP_FAILURE", "STEP_FAILURE", "The members are having a break.")
    browser.picture(PICTURES / "failed-run.png", above="Stack Trace:")

    def ticks() -> int:
        runs = stack.runs("service_status_job", "SUCCESS")
        return sum(run.get("dagster/schedule_name") == "service_status_schedule" for run in runs)

    until(lambda: ticks() >= 4, 300, "four ticks")
    browser.resize(900)
    browser.open(f"{stack.url}/locations/nango_dagster.definitions/schedules/service_status_schedule")
    browser.wait(lambda: browser.text.count("1 run requested") > 3, "the ticks are shown")
    browser.find("//input[@type='checkbox' and @checked]")
    browser.picture(PICTURES / "schedule.png")


def take_partitions(stack: Stack, browser: Browser, api: DemoApi) -> None:
    """Five hundred customers, twenty of which fail in the second run."""
    api.ill = ()
    stack.add_customers(500)
    until(lambda: stack.runs("nango_dispatch", "SUCCESS"), 600, "the first run has ended")
    api.ill = FOUR_OF_A_HUNDRED
    stack.command("trigger", "contacts")
    until(lambda: len(stack.runs("nango_dispatch", "SUCCESS")) > 1, 600, "the second run has ended")
    run = stack.runs("nango_dispatch", "SUCCESS")[0]["id"]
    asset = f"{stack.url}/assets/crm/contacts"
    browser.resize(1000)
    browser.open(asset, "2,500", "failing_connections", "connections, such as customer-017")
    browser.picture(PICTURES / "overview.png")
    browser.resize(900)
    browser.open(f"{asset}?view=partitions&partition=customer-117", "Failed (20)", "Materialized (480)", "next_try")
    browser.picture(PICTURES / "partitions.png")
    browser.resize(800)
    browser.open(f"{asset}?view=checks", "20 of 500 connections failed", "failed_connections")
    browser.picture(PICTURES / "check.png")
    browser.open(f"{stack.url}/runs/{run}?logs=connections%20failed", "20 of 500 connections failed")
    browser.picture(PICTURES / "run-with-failures.png")


if __name__ == "__main__":
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    main()
