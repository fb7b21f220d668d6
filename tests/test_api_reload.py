"""A new sync gets its asset soon: Dagster is asked to load again, now and then, and never waited for."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from nango_dagster.api import service
from nango_dagster.api.background import CombinedWork
from nango_dagster.api.reload import JOB, Reloader
from nango_dagster.cli import config_watch
from nango_dagster.cli.command import Session
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.apis import URL, calling, free_port
from tests.commands import write_sync
from tests.executions import until
from tests.fake_api import FakeApi, Received

LOADED = {"__typename": "WorkspaceLocationEntry", "locationOrLoadError": {"__typename": "RepositoryLocation"}}


class FakeDagster:
    """The answers of a webserver about its code locations, and the locations that it was asked to reload."""

    def __init__(self, api: FakeApi) -> None:
        self.url = api.url
        self.locations: list[dict[str, Any]] = [
            entry("others", ["their_job"]),
            entry("ours", ["pokemon_job", JOB]),
            {"name": "broken", "locationOrLoadError": {}},
            {"name": "loading", "locationOrLoadError": None},
        ]
        self.result: Any = LOADED
        self.reloaded: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        api.route("/graphql", self._answer)

    def _answer(self, received: Received) -> Any:
        asked = received.json
        if "workspaceOrError" in asked["query"]:
            return {"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": self.locations}}}
        self.reloaded.append(asked["variables"]["location"])
        assert self.go_on.wait(10)
        return {"data": {"reloadRepositoryLocation": self.result}}


def entry(name: str, jobs: list[str]) -> dict[str, Any]:
    return {"name": name, "locationOrLoadError": {"repositories": [{"jobs": [{"name": job} for job in jobs]}]}}


@pytest.fixture
def dagster(api: FakeApi) -> Iterator[FakeDagster]:
    fake = FakeDagster(api)
    yield fake
    fake.go_on.set()


def reloader(url: str, tmp_path: Path, pause: float = 0.0) -> Reloader:
    return Reloader(url, tmp_path / "home" / ".reload.lock", pause, cancelled=lambda: False)


# --- one reload -----------------------------------------------------------------------------------------------------


def test_the_code_location_that_holds_us_is_loaded_again(dagster: FakeDagster, tmp_path: Path) -> None:
    assert reloader(dagster.url, tmp_path)()
    assert dagster.reloaded == ["ours"]


def test_our_job_is_called_as_definitions_call_it() -> None:
    from nango_dagster.defs import names

    assert JOB == names.DISPATCH_JOB


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (
            {
                "__typename": "WorkspaceLocationEntry",
                "locationOrLoadError": {"__typename": "PythonError", "message": "ImportError: no pokemon\n  stack"},
            },
            "Dagster could not load ours again: ImportError: no pokemon",
        ),
        ({"__typename": "ReloadNotSupported", "message": "It is in-process."}, "load ours again: It is in-process."),
        ({"__typename": "UnauthorizedError", "message": ""}, "could not load ours again: no reason given"),
    ],
)
def test_a_location_that_cannot_be_loaded_is_said(
    result: Any, said: str, dagster: FakeDagster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dagster.result = result
    assert reloader(dagster.url, tmp_path)()
    (record,) = caplog.records
    assert said in record.message
    assert "stack" not in record.message


def test_a_dagster_without_us_is_said(dagster: FakeDagster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dagster.locations = [entry("others", ["their_job"])]
    assert reloader(dagster.url, tmp_path)()
    assert f"no code location of {dagster.url} has the job nango_dispatch" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, {"errors": [{"message": "no such field"}]}),
        (200, {}, {"data": None}),
        (200, {}, {"data": {}}),
        (200, {}, {"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": [None]}}}),
        (200, {}, {"data": {"workspaceOrError": {"__typename": "PythonError", "message": "it is broken"}}}),
        (200, {}, "<html>Sign in</html>"),
        (404, {}, "no such page"),
        (500, {}, "broken"),
    ],
)
def test_an_answer_that_is_not_dagster_s_is_said_once_and_asked_again(
    answer: Any, api: FakeApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.route("/graphql", lambda received: answer)
    work = reloader(api.url, tmp_path)
    assert not work()
    assert not work()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("new syncs have no asset of their own yet; the next try follows: ")


def test_a_dagster_that_is_not_there_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not reloader(f"http://127.0.0.1:{free_port()}", tmp_path)()
    assert "the next try follows: Dagster: " in caplog.text


def test_a_home_that_cannot_be_written_is_said(
    dagster: FakeDagster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("a file")
    assert not reloader(dagster.url, tmp_path)()
    assert "cannot be written" in caplog.text
    assert dagster.reloaded == []


def test_several_processes_reload_one_after_another_and_not_twice_a_minute(
    dagster: FakeDagster, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: reloader(dagster.url, tmp_path, pause=60)(), range(4)))
    assert sorted(done) == [False, False, False, True]
    assert dagster.reloaded == ["ours"]


def test_a_clock_that_was_set_back_does_not_stop_reloads(dagster: FakeDagster, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".reload.lock").write_text("99999999999")
    assert reloader(dagster.url, tmp_path, pause=60)()


# --- in the background ----------------------------------------------------------------------------------------------


class Work:
    """Counts how often it is done, and how often at the same time."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.begun = 0
        self.at_once = 0
        self.most_at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self) -> bool:
        self.begun += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go_on.wait(10)
        self.at_once -= 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)


def test_what_is_asked_for_together_is_done_once() -> None:
    work = Work()
    combined = CombinedWork(work, settle=0.05, pause=0)
    for _ in range(20):
        combined.request()
    until(lambda: work.begun == 1)
    combined.close()
    assert work.begun == 1


def test_what_is_asked_for_meanwhile_is_done_afterwards_and_never_at_the_same_time() -> None:
    work = Work()
    combined = CombinedWork(work, settle=0, pause=0)
    work.go_on.clear()
    combined.request()
    until(lambda: work.begun == 1)
    for _ in range(5):
        combined.request()
    work.go_on.set()
    until(lambda: work.begun == 2)
    combined.close()
    assert (work.begun, work.most_at_once) == (2, 1)


def test_there_is_a_pause_between_two() -> None:
    work = Work()
    combined = CombinedWork(work, settle=0, pause=0.3)
    combined.request()
    until(lambda: work.begun == 1)
    began = monotonic()
    combined.request()
    until(lambda: work.begun == 2)
    assert monotonic() - began > 0.2
    combined.close()


def test_what_could_not_be_done_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(False, RuntimeError("s3cret"), True)
    combined = CombinedWork(work, settle=0, pause=0.01)
    combined.request()
    until(lambda: work.begun == 3)
    combined.close()
    assert work.begun == 3
    assert "in the background: builtins.RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text


def _has_ended(work: Work, combined: CombinedWork, times: int) -> bool:
    return work.begun == times and combined._thread is None


def test_it_can_be_asked_again_after_a_rest() -> None:
    work = Work()
    combined = CombinedWork(work, settle=0, pause=0)
    for done in (1, 2, 3):
        combined.request()
        until(partial(_has_ended, work, combined, done))
    combined.close()


@pytest.mark.parametrize("finish", [True, False])
def test_closing_waits_for_nothing_and_finishes_what_has_to_be(finish: bool) -> None:
    work = Work()
    combined = CombinedWork(work, settle=60, pause=60)
    combined.request()
    combined.close(finish=finish)
    assert work.begun == int(finish)
    combined.request()
    assert work.begun == int(finish)


# --- after a request ------------------------------------------------------------------------------------------------


def test_each_change_reloads_dagster_and_no_request_waits_for_it(
    settings: Settings, db: Database, dagster: FakeDagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(service, "RELOAD_SECONDS", 0.0)
    dagster.go_on.clear()
    with calling(settings, db, dagster_url=dagster.url) as http:
        assert http.post("/v1/syncs", json={"url": URL}).status_code == 200
        until(lambda: len(dagster.reloaded) == 1)
        assert http.put("/v1/syncs/1", json={"url": URL, "unique_key": "id"}).status_code == 200
        assert http.delete("/v1/syncs/1").status_code == 200
        assert len(dagster.reloaded) == 1
        dagster.go_on.set()
        until(lambda: len(dagster.reloaded) == 2)


def test_what_changes_nothing_reloads_nothing(
    settings: Settings, db: Database, dagster: FakeDagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with calling(settings, db) as http:
        http.post("/v1/syncs", json={"url": URL})
    monkeypatch.setattr(service, "SETTLE_SECONDS", 0.0)
    with calling(settings, db, dagster_url=dagster.url) as http:
        http.post("/v1/syncs", json={"url": URL})
        http.post("/v1/syncs", json={"url": "no url"})
        http.get("/v1/syncs")
        assert http.app.state.service._reload._thread is None  # type: ignore[attr-defined]
    assert dagster.reloaded == []


def test_the_api_stops_at_once_while_dagster_loads(
    settings: Settings, db: Database, dagster: FakeDagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SETTLE_SECONDS", 0.0)
    dagster.go_on.clear()
    with calling(settings, db, dagster_url=dagster.url) as http:
        http.post("/v1/syncs", json={"url": URL})
        until(lambda: len(dagster.reloaded) == 1)
        began = monotonic()
    assert monotonic() - began < 3


# --- a real Dagster -------------------------------------------------------------------------------------------------

_DEFINITIONS = f"""
from pathlib import Path
from dagster import Definitions, job, op

with (Path(__file__).parent / "loads").open("a") as loads:
    loads.write("x")

@op
def nothing(): ...

@job(name="{JOB}")
def ours():
    nothing()

defs = Definitions(jobs=[ours])
"""


@pytest.mark.acceptance
def test_a_real_dagster_loads_our_location_again(tmp_path: Path) -> None:
    file = tmp_path / "our_definitions.py"
    file.write_text(_DEFINITIONS)
    port = free_port()
    home = tmp_path / "dagster"
    home.mkdir()
    webserver = subprocess.Popen(
        [str(Path(sys.executable).parent / "dagster-webserver"), "-f", str(file), "-p", str(port)],
        env={"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/server_info", webserver), 120)
        loads = len((tmp_path / "loads").read_text())
        assert reloader(f"http://127.0.0.1:{port}", tmp_path)()
        assert len((tmp_path / "loads").read_text()) > loads
    finally:
        webserver.terminate()
        webserver.communicate(timeout=30)


def _answers(url: str, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()[0]
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


# --- config files while `dev` runs ----------------------------------------------------------------------------------


def test_a_config_file_that_is_added_is_loaded_and_its_problems_are_printed_once(
    dagster: FakeDagster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config_watch, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(config_watch, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(config_watch, "PAUSE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    write_sync("old", url=5)
    session = Session(Settings.from_env({"NANGO_HOME": str(tmp_path / "home")}, dotenv=None), as_json=False)
    with contextlib.closing(config_watch.ConfigWatch(session, dagster.url)) as watch:
        watch.look()
        Path("sync_configs/notes.txt").write_text("no config")
        watch.look()
        assert dagster.reloaded == []
        write_sync("new", url=5)
        watch.look()
        until(lambda: len(dagster.reloaded) == 1, what="Dagster is asked to load the new file")
        write_sync("other", url="http://127.0.0.1:1/")
        watch.look()
        until(lambda: len(dagster.reloaded) == 2, what="Dagster is asked again")
    assert capsys.readouterr().err.count("sync_configs/new.yaml:2:3: url") == 1
