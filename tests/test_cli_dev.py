"""`nango-dagster dev`: the UI, the daemon and the API start, new syncs run, and nothing is left when it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from nango_dagster.config import Sync
from nango_dagster.store import Database, connections, jobs, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.commands import Cli, write_sync
from tests.crashing import bury
from tests.executions import PAGING, Source, assert_exact, assert_nothing_runs, items, last_job, until
from tests.fake_api import FakeApi, Received, Reply

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

SLOW = 120  # seconds that a loaded machine may need


@pytest.fixture
def source(api: FakeApi) -> Source:
    """A list of ten records on four pages, with a config of it."""
    source = Source(api, items(*range(1, 11)))
    write_sync("items", url=api.url + source.path, unique_key="id", retries=0, **PAGING)
    return source


class Dev:
    """A running `dev`, and every process that it has had."""

    def __init__(self, process: subprocess.Popen[str], ui: int, api: int, stdout: Path, stderr: Path) -> None:
        self.process = process
        self.ui = f"http://127.0.0.1:{ui}"
        self.api = f"http://127.0.0.1:{api}"
        self.seen: dict[int, psutil.Process] = {}
        self._stdout = stdout
        self._stderr = stderr

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def look(self) -> list[psutil.Process]:
        """The processes below it right now."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self.seen.update({process.pid: process for process in found})
        return found

    def until(self, condition: Any, what: str) -> Any:
        """Wait for it, for as long as `dev` lives."""

        def met() -> Any:
            self.look()
            assert self.process.poll() is None, self.stderr
            return condition()

        return until(met, SLOW, what)

    def ended(self) -> int:
        """Wait for its end; its status."""
        deadline = time.monotonic() + SLOW
        while self.process.poll() is None and time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGABRT)  # it says where it is, see `started`
            self.process.wait(SLOW)
            raise AssertionError(f"it did not end within {SLOW} s: {self.stderr}")
        return self.process.returncode

    def kill(self) -> None:
        """End it and all its processes at once, as a power cut does."""
        for one in [psutil.Process(self.process.pid), *self.look()]:
            one.kill()
        until(lambda: not self.left(), what="all are dead")

    def left(self) -> list[str]:
        """The processes that outlived it; one that nobody has waited for is dead all the same."""
        return [name for process in self.seen.values() if (name := _alive(process))]


def _alive(process: psutil.Process) -> str | None:
    try:
        alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return " ".join(process.cmdline()) if alive else None
    except psutil.NoSuchProcess:
        return None


@contextmanager
def started(cli: Cli, *arguments: str, **env: str) -> Iterator[Dev]:
    """A `dev` on free ports; whatever the test finds, nothing of it stays."""
    ui, api = free_ports()
    output, errors = Path("dev.out"), Path("dev.err")
    with output.open("w") as stdout, errors.open("w") as stderr:
        process = cli.start(
            "dev",
            "--port",
            str(ui),
            "--api-port",
            str(api),
            *arguments,
            stdout=stdout,
            stderr=stderr,
            PYTHONFAULTHANDLER="1",
            **env,
        )
    dev = Dev(process, ui, api, output.absolute(), errors.absolute())
    try:
        yield dev
    finally:
        dev.look()
        for one in [psutil.Process(process.pid)] if process.poll() is None else []:
            one.kill()
        for one in dev.seen.values():
            if _alive(one):
                one.kill()
        process.wait()


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def get(url: str) -> Any:
    """The JSON that a URL answers, or None while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def test_dev_runs_new_syncs_serves_both_and_ctrl_c_cancels_a_run_and_ends_all_its_children(
    settings_env: dict[str, str], db: Database, source: Source
) -> None:
    source.api.route("/hook", {})
    slow = Source(source.api, items(*range(1, 11)), path="/slow")
    asked = Path("asked").absolute()

    def hang(request: Received) -> Reply:
        asked.touch()
        slow.api.stopped.wait(SLOW)
        return slow.page(3)

    slow.broken[3] = hang
    with started(Cli(settings_env), NANGO_WEBHOOK_URL=source.api.url + "/hook") as dev:
        dev.until(lambda: "Ready: " in dev.stdout, "it says that it is ready")
        assert f"{dev.ui} (Dagster UI), {dev.api}/docs (HTTP API)" in dev.stdout
        dev.until(lambda: "dagster_version" in (get(f"{dev.ui}/server_info") or {}), "the UI answers")
        (listed,) = dev.until(lambda: get(f"{dev.api}/v1/syncs"), "the API answers")["syncs"]
        row = syncs.get(db, listed["id"])
        assert row is not None and row.name == "items"
        # A file that is added while the first sync runs.
        write_sync("slow", url=slow.api.url + slow.path, unique_key="id", retries=0, frequency="every day", **PAGING)
        dev.until(lambda: [job for job in jobs.list_jobs(db, row.id) if job.status == "succeeded"], "its first run")
        assert_exact(db, row, source.records)
        told = dev.until(lambda: [one.json for one in source.api.requests if one.path == "/hook"], "its webhook")
        assert [(one["syncName"], one["responseResults"]["added"]) for one in told] == [("items", 10)]
        dev.until(asked.exists, "the third page of the sync that was added is asked for")
        dev.process.send_signal(signal.SIGINT)
        assert dev.ended() == 0, dev.stderr
        assert dev.left() == []
        assert len(dev.seen) >= 4, "the UI, the daemon, a code server and the API were seen"
        assert "Traceback" not in dev.stderr and "Aborted" not in dev.stderr
    assert_nothing_runs(db)
    added = syncs.by_name(db, "slow")
    assert added is not None and last_job(db, added).status == "cancelled"
    assert_exact(db, added, slow.records[:6])


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_what_a_machine_that_died_left_undone_is_done_when_it_is_up_again_and_the_rest_is_not_repeated(
    settings_env: dict[str, str], db: Database, source: Source
) -> None:
    path = write_sync(
        "items",
        url=source.api.url + source.path,
        integration="crm",
        query_params={"who": "${connection_id}"},
        unique_key="id",
        frequency="every day",
        timeout=600,
        **PAGING,
    )
    row = syncs.register(db, [Sync.model_validate({"name": "items", **json.loads(path.read_text())})])["items"]
    names = [f"c{number:02}" for number in range(30)]
    for name in names:
        connections.add(db, None, connections.NewConnection("crm", name))
    died = threading.Event()
    done = set(names[:10])

    def second_page(request: Received) -> Reply:
        if request.params["who"] not in done:
            assert died.wait(SLOW)
        return source.page(2)

    source.broken[2] = second_page
    home = Path(settings_env["NANGO_HOME"], "dagster").absolute()
    with started(Cli(settings_env)) as dev:
        dev.until(lambda: (ended(db, row, "succeeded"), len(ended(db, row, "running"))) == (done, 8), "ten are done")
        dev.kill()
    killed_at = time.monotonic()
    died.set()
    bury(db)
    make_old(home)
    with started(Cli(settings_env), "--json") as dev:
        dev.until(lambda: dev.stdout, "it says that it is ready")
        assert json.loads(dev.stdout) == {"ui": dev.ui, "api": dev.api}
        dev.until(lambda: ended(db, row, "succeeded") == set(names), "all are done")
        dev.until(lambda: statuses(home).keys() <= {"SUCCESS", "FAILURE"}, "Dagster sees an end of every run")
        dev.process.send_signal(signal.SIGINT)
        assert dev.ended() == 0, dev.stderr
        assert dev.left() == []
    assert statuses(home)["FAILURE"] == 1
    assert_exact(db, row, source.records * 30)
    assert_nothing_runs(db)
    assert Counter(job.status for job in jobs.list_jobs(db, row.id)) == {"succeeded": 30, "failed": 8}
    assert {request.params["who"] for request in source.api.requests if request.at > killed_at} == set(names) - done


def ended(db: Database, row: SyncRow, status: str) -> set[str]:
    """The connections that have a job of this status."""
    return {job.connection_id for job in jobs.list_jobs(db, row.id) if job.status == status}


def make_old(home: Path) -> None:
    """Let all that Dagster knows of its runs have been long ago."""
    with sqlite3.connect(home / "history" / "runs.db") as known:
        known.execute("UPDATE runs SET start_time = start_time - 1e8, update_timestamp = '2020-01-01 00:00:00.000000'")
        run_ids = [run_id for (run_id,) in known.execute("SELECT run_id FROM runs")]
    for run_id in run_ids:
        with sqlite3.connect(home / "history" / "runs" / f"{run_id}.db") as events:
            events.execute("""UPDATE event_logs SET event = replace(event, '"timestamp": 1', '"timestamp": 0')""")


def statuses(home: Path) -> Counter[str]:
    """How many runs Dagster shows in each status."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return Counter(run.status.value for run in instance.get_runs())


def test_dev_starts_beside_a_broken_config_and_ends_with_the_status_of_a_child_that_dies(
    tmp_path: Path, source: Source
) -> None:
    """The API stands for every child; tests/test_cli_processes.py ends each of several."""
    write_sync("broken", url=5)
    Path("workspace.yaml").write_text("load_from:\n  - python_module: nango_dagster.definitions\n")
    with started(Cli({"NANGO_HOME": str(tmp_path / "home")}), "--configs", "sync_configs") as dev:
        dev.until(lambda: "Ready: " in dev.stdout, "it says that it is ready")
        assert re.search(r"^sync_configs/broken\.yaml:2:3: url ", dev.stderr, re.M)
        assert [one["name"] for one in get(f"{dev.api}/v1/syncs")["syncs"]] == ["items"]
        (api,) = [one for one in dev.look() if "nango_dagster.cli api" in " ".join(one.cmdline())]
        api.send_signal(signal.SIGKILL)
        assert dev.ended() == 128 + signal.SIGKILL, dev.stderr
        assert "the HTTP API ended by itself (signal SIGKILL); the other processes were stopped.\n" in dev.stderr
        assert dev.left() == []


def test_the_api_alone_answers_and_ends_at_ctrl_c(settings_env: dict[str, str], db: Database) -> None:
    syncs.register(db, [Sync(name="items", url="https://api.example.com/items")])
    port, _ = free_ports()
    process = Cli(settings_env).start("api", "--port", str(port))
    try:
        found = until(lambda: get(f"http://127.0.0.1:{port}/v1/syncs") or process.poll() is not None, SLOW)
        assert [one["name"] for one in found["syncs"]] == ["items"]
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=SLOW)
    finally:
        process.kill()
    assert (process.returncode, stdout) == (0, ""), stderr
    assert "Traceback" not in stderr and "Aborted" not in stderr
