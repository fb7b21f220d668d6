"""Helpers of tests of the Dagster UI: `nango-dagster dev` on an API that changes, GraphQL, and a real browser."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

import psutil
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from nango_dagster.sample_api.server import answer
from tests.executions import until
from tests.fake_api import Answer, FakeApi, Received, Reply

ILL = (17, 50, 83)
"""The customers of a hundred whose API does not answer as it should."""
LOCATION = "nango_dagster.definitions"
PATIENCE = 240  # seconds; two cores may be busy with other tests


class DemoApi(FakeApi):
    """The demo's lists, that grow and stumble as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 151
        """So many Pokémon are known by now."""
        self.waits = threading.Event()
        """Set once somebody waits for /status, which does not answer while `slow` is set."""
        self.slow = False
        self.ill: tuple[int, ...] = ILL
        """The customers of each hundred whose contacts cannot be read."""
        self.held = 0
        """The customer whose contacts are not all there before `goes_on` is set."""
        self.goes_on = threading.Event()
        self.route("/api/v2/pokemon", self._pokemon)
        self.route("/repos/*", self._demo)
        self.route("/status", self._status)
        self.route("/contacts", self._contacts)
        self.route("/members", (503, {}, {"message": "The members are having a break."}))

    def _demo(self, request: Received) -> Reply:
        found = answer(self.url, request.target)
        return Answer(found.status, found.headers, found.body)

    def _pokemon(self, request: Received) -> Reply:
        """The first of them; the last ten get another URL each time their number changes."""
        page = dict(answer(self.url, request.target).body)
        start = int(request.params.get("offset", 0))
        numbered = list(enumerate(page["results"], start))
        page["results"] = [
            {**row, "generation": 1 if at < 151 else 2, "seen": self.shown if at > self.shown - 30 else None}
            for at, row in numbered
            if at < self.shown
        ]
        return {**page, "next": page["next"] if start + len(numbered) < self.shown else None}

    def _contacts(self, request: Received) -> Reply:
        """The contacts of one customer; those of some in a hundred cannot be read, each for its own reason."""
        number = int(request.params["customer"].removeprefix("customer-"))
        if number % 100 not in self.ill:
            contacts = [{"id": f"{number}-{at}", "name": f"Contact {at} of customer {number}"} for at in range(5)]
            return Answer(body=self._slowly(contacts)) if number == self.held else contacts
        replies: list[Reply] = [
            (401, {}, {"message": "The token was revoked."}),
            None,
            (500, {}, {"message": "This account is being moved."}),
            Answer(body='{"contacts": ['),
        ]
        reply = replies[(number // 100 * len(self.ill) + self.ill.index(number % 100)) % len(replies)]
        if reply is None:
            self.stopped.wait(60)
        return reply

    def _slowly(self, value: Any) -> Iterator[bytes]:
        self.waits.set()
        while not (self.goes_on.wait(1) or self.stopped.is_set()):
            yield b" "
        yield json.dumps(value).encode()

    def _status(self, request: Received) -> Reply:
        if self.slow:
            self.waits.set()
            self.stopped.wait(60)
        return [{"service": name, "up": True} for name in ("api", "server", "jobs")]


def configs(api: FakeApi) -> dict[str, Mapping[str, Any]]:
    """The syncs of the UI's tests and of the docs' pictures, by name."""
    return {
        "pokemon": {
            "url": f"{api.url}/api/v2/pokemon",
            "description": "The Pokémon of the first two generations, by name.",
            "query_params": {"limit": 100},
            "response_path": "results",
            "unique_key": "name",
            "paging_url_path": "next",
            "mapped_table": "pokemon",
            "owners": ["team:data"],
            "tags": {"tier": "gold"},
        },
        "github-issues": {
            "url": f"{api.url}/repos/NangoHQ/nango/issues",
            "description": "Issues and pull requests of NangoHQ/nango; nested fields become columns.",
            "query_params": {"state": "all", "per_page": 20},
            "unique_key": "number",
            "paging_header_link_rel": "next",
            "frequency": 30,
            "mapped_table": "github_issues",
        },
        "team-members": {
            "url": f"{api.url}/members",
            "description": "Who takes care of them.",
            "retries": 0,
            "frequency": "every day",
        },
        "service-status": {
            "url": f"{api.url}/status",
            "description": "Which services are up, read every minute.",
            "unique_key": "service",
            "frequency": 1,
        },
    }


def of_customers(api: FakeApi) -> dict[str, Mapping[str, Any]]:
    """A sync that is run for each customer."""
    return {
        "contacts": {
            "url": f"{api.url}/contacts",
            "description": "The contacts in each customer's CRM.",
            "integration": "crm",
            "query_params": {"customer": "${connection_id}"},
            "unique_key": "id",
            "timeout": 10,
            "retries": 0,
            "mapped_table": "contacts",
        }
    }


class Stack:
    """A running `nango-dagster dev` in a folder of its own; every process of it is gone when it is closed."""

    def __init__(self, folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder = folder
        self.port, api_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "sync_configs").mkdir()
        for name, config in configs.items():
            (folder / "sync_configs" / f"{name}.yaml").write_text(yaml.safe_dump(dict(config), allow_unicode=True))
        self._log = folder / "dev.log"
        ports = ["--port", str(self.port), "--api-port", str(api_port)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nango_dagster.cli", "dev", *ports],
                cwd=folder,
                env={**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Stack:
        with self._closing_on_error():
            until(self._is_ready, PATIENCE, "dev is ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = [self._process.pid, *(child.pid for child in self._children())]
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        for pid in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        self._process.wait()

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log
        return "Ready: " in self.log and not isinstance(self.try_ask("{ version }"), Exception)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def add_customers(self, count: int) -> None:
        """Make so many connections, as `connections import` does from a file."""
        file = self.folder / "customers.jsonl"
        documents = [{"integration": "crm", "connection_id": f"customer-{number:03}"} for number in range(1, count + 1)]
        file.write_text("\n".join(map(json.dumps, documents)))
        self.command("connections", "import", file.name)

    def command(self, *arguments: str) -> str:
        """The output of a command of `nango-dagster` in the project's folder."""
        command = [sys.executable, "-m", "nango_dagster.cli", *arguments]
        done = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    # --- GraphQL ------------------------------------------------------------------------------------------------------

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that a query or mutation gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            found = json.load(response)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def try_ask(self, query: str) -> Any:
        try:
            return self.ask(query)
        except OSError as error:
            return error

    def launch(self, job: str, **tags: str) -> str:
        """Ask for a run of a job, as the launchpad does; its id."""
        shown = [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()]
        found = self.ask(_LAUNCH, job=job, location=LOCATION, tags=shown)["launchRun"]
        assert found["__typename"] == "LaunchRunSuccess", found
        return str(found["run"]["id"])

    def backfill(self, asset: str, *partitions: str) -> str:
        """Ask for several partitions of an asset, as its dialog does; the backfill's id."""
        asked = {"assetSelection": [{"path": asset.split("/")}], "partitionNames": partitions}
        found = self.ask(_BACKFILL, asked=asked)["launchPartitionBackfill"]
        assert found["__typename"] == "LaunchBackfillSuccess", found
        return str(found["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        return str(self.ask(_BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def terminate(self, run_id: str) -> None:
        """Press "Terminate"."""
        found = self.ask("mutation ($run: String!) { terminateRun(runId: $run) { __typename } }", run=run_id)
        assert found["terminateRun"]["__typename"] == "TerminateRunSuccess", found

    def status(self, run_id: str) -> str:
        return str(self.ask("query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }", run=run_id)
                   ["runOrError"]["status"])  # fmt: skip

    def finished(self, run_id: str) -> str:
        """The status that a run ends with."""
        ends = ("SUCCESS", "FAILURE", "CANCELED")
        until(lambda: self.status(run_id) in ends, PATIENCE, f"run {run_id} ends")
        return self.status(run_id)

    def sentence_of(self, run_id: str) -> str:
        """Why a run failed, as its log says."""
        events = self.ask(_FAILURES, run=run_id)["logsForRun"]["events"]
        return " ".join(event["error"]["message"] for event in events if event.get("error"))

    def runs(self, job: str, *statuses: str) -> list[dict[str, Any]]:
        """The runs of a job, the newest first, with their tags."""
        found = self.ask(_RUNS, filter={"pipelineName": job, **({"statuses": statuses} if statuses else {})})
        return [
            {"id": run["id"], **{tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in found["runsOrError"]["results"]
        ]

    def materializations(self, asset: str) -> int:
        """How often an asset was materialized."""
        found = self.ask(_MATERIALIZATIONS, key={"path": asset.split("/")})
        return len(found["assetOrError"].get("assetMaterializations", ()))


_LAUNCH = """
mutation ($job: String!, $location: String!, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: $location, jobName: $job}
    runConfigData: "{}", executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } }
}
"""
_BACKFILL = """
mutation ($asked: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $asked) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
_BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
_FAILURES = """
query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
  ... on ExecutionStepFailureEvent { error { message } } } } } }
"""
_RUNS = """
query ($filter: RunsFilter) {
  runsOrError(filter: $filter, limit: 50) { ... on Runs { results { id tags { key value } } } }
}
"""
_MATERIALIZATIONS = """
query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset { assetMaterializations { runId } } } }
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the browser ------------------------------------------------------------------------------------------------------

_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--lang=en-US",
)


class Browser:
    """A headless Chromium that waits for what it shall see."""

    def __init__(self, profile: Path) -> None:
        chromium = first_of("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        driver = first_of("chromedriver", "/usr/lib/chromium-browser/chromedriver")
        if chromium is None or driver is None:
            pytest.skip("Chromium and its driver are not installed; .ci/run installs them")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in (*_QUIET, f"--user-data-dir={profile}", "--window-size=1400,1000"):
            options.add_argument(argument)
        self.driver: WebDriver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def open(self, url: str, *texts: str, within: float = PATIENCE) -> None:
        """Open a page and wait until it shows these texts."""
        deadline = monotonic() + within
        self.driver.get(url)
        self.see(*texts, within=deadline - monotonic())

    def see(self, *texts: str, within: float = PATIENCE) -> None:
        """Wait until the page shows these texts."""
        self.wait(lambda: all(text in self.text for text in texts), f"the page shows {texts}", within)

    @property
    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    def wait(self, condition: Callable[[], Any], what: str = "", within: float = PATIENCE) -> Any:
        try:
            return WebDriverWait(self.driver, within, 0.1).until(lambda _: condition())
        except Exception as error:
            raise AssertionError(f"{what}; it shows:\n{self.text}") from error

    def find(self, xpath: str) -> WebElement:
        """The element there, once it is."""
        found: WebElement = self.wait(lambda: next(iter(self.driver.find_elements(By.XPATH, xpath)), None), xpath)
        return found

    def click(self, text: str) -> None:
        """Click the button, tab or link that says so."""
        said = f"normalize-space()={json.dumps(text)}"
        xpath = f"//button[{said}] | //a[{said}] | //*[@role='tab' or @role='radio'][{said}] | //label[{said}]"

        def click() -> bool:
            element = self.find(xpath)
            if not (element.is_displayed() and element.is_enabled()):
                return False
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            return True

        self.wait(click, f"click on {text}")

    def resize(self, height: int) -> None:
        """A page of 1,400 pixels by so many, whatever the window is."""
        size = {"width": 1400, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def picture(self, file: Path, *, above: str | None = None) -> None:
        """Keep what the page shows, or the part of it that stands above a text."""
        file.parent.mkdir(parents=True, exist_ok=True)
        size: dict[str, float] = self.driver.execute_script(_SIZE, above)
        clip = {"x": 0, "y": 0, "scale": 1, **size}
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
        file.write_bytes(base64.b64decode(found["data"]))


_SIZE = """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const range = document.createRange();
let height = window.innerHeight;
while (arguments[0] && texts.nextNode()) {
  const at = texts.currentNode.data.indexOf(arguments[0]);
  if (at < 0) continue;
  range.setStart(texts.currentNode, at);
  range.setEnd(texts.currentNode, at + arguments[0].length);
  height = Math.min(height, range.getBoundingClientRect().top);
}
return {width: window.innerWidth, height};
"""


def first_of(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)
