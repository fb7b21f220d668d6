"""`nango-dagster run` as people and machines call it: a process of its own, a real Dagster instance, both databases."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from nango_dagster.config import from_body, read_file
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, queue, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.commands import COMMAND, Cli, Said, write_sync
from tests.executions import PAGING, Source, assert_exact, assert_nothing_runs, items, last_job, until
from tests.fake_api import FakeApi, Received, Reply

pytestmark = pytest.mark.acceptance


@pytest.fixture
def cli(settings_env: dict[str, str], db: Database) -> Cli:
    """The command line on a database that is there, quick to time out."""
    return Cli(settings_env)


@pytest.fixture
def source(api: FakeApi) -> Source:
    """A list of ten records on four pages, with a config of it."""
    source = Source(api, items(*range(1, 11)))
    configure(source)
    return source


def configure(source: Source, **fields: Any) -> None:
    write_sync("items", url=source.api.url + source.path, **{"unique_key": "id", "retries": 0, **PAGING, **fields})


def row_of(db: Database) -> SyncRow:
    row = syncs.by_name(db, "items")
    assert row is not None
    return row


def test_a_run_stores_the_records_and_is_a_run_in_dagster(
    cli: Cli, db: Database, settings: Settings, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster import DagsterInstance, DagsterRunStatus

    said = cli.process("run", "items")
    assert (said.status, said.stderr) == (0, ""), said
    assert said.stdout.startswith("items: 10 added, 0 updated, 0 deleted, 0 unchanged; 4 pages in ")
    assert_exact(db, row_of(db), source.records)
    source.records[0]["name"] = "changed"
    again = cli.process("run", "items", "--json")
    assert (again.status, again.stderr) == (0, ""), again
    assert (again.json["sync"], again.json["status"], again.json["error"]) == ("items", "succeeded", None)
    job = again.json["job"]
    assert (job["updated"], job["unchanged"], job["stop_reason"], job["attempt"]) == (1, 9, "no_cursor", 1)
    assert job["run_id"] == again.json["run_id"]
    assert_nothing_runs(db)
    monkeypatch.setenv("DAGSTER_HOME", str(settings.home / "dagster"))
    with DagsterInstance.get() as instance:
        run = instance.get_run_by_id(again.json["run_id"])
        assert run is not None and (run.job_name, run.status) == ("items_job", DagsterRunStatus.SUCCESS)


def test_a_run_of_an_api_that_fails_is_a_sentence_and_keeps_the_pages_before(
    cli: Cli, db: Database, source: Source
) -> None:
    source.broken[3] = (500, {}, {"error": "boom"})
    said = cli("run", "items")
    assert (said.status, said.stdout) == (1, ""), said
    assert said.stderr.startswith(f"items: GET {source.api.url}/items?page=3 answered 500")
    assert said.stderr.count("\n") == 1, "one sentence and no stack"
    assert_exact(db, row_of(db), source.records[:6])
    document = cli("run", "items", "--json").json
    assert (document["status"], document["job"]["status"], document["job"]["attempt"]) == ("failed", "failed", 2)
    assert document["error"] == said.stderr.strip()


def test_a_run_that_ends_before_it_has_a_job_is_a_sentence(cli: Cli, db: Database, source: Source) -> None:
    row = syncs.register(db, read_file("sync_configs/items.yaml"))["items"]
    worker = queue.start_worker(db, row.id, "somebody-else")
    assert queue.claim(db, worker, limit=1, slot=None, force=True)
    said = cli("run", "items", "--json")
    assert said.status == 1
    assert "is being synced by run somebody-else since" in said.stderr and said.stderr.count("\n") == 1, said
    assert (said.json["status"], said.json["job"]) == ("failed", None)
    assert source.api.requests == []


def test_wishes_reach_the_execution(cli: Cli, db: Database, source: Source) -> None:
    configure(source, track_deletes={"max_fraction": 0.1, "min_rows": 5})
    assert cli("run", "items").status == 0
    kept = source.records[:4]
    source.records = kept.copy()
    refused = cli("run", "items")
    assert refused.status == 1 and "10" in refused.stderr, refused
    accepted = cli("run", "items", "--accept-deletes", "--json")
    assert accepted.status == 0 and accepted.json["job"]["deleted"] == 6, accepted
    emptied = cli("run", "items", "--empty-cache", "--reset", "--json")
    assert emptied.status == 0 and emptied.json["job"]["added"] == 4, emptied
    assert_exact(db, row_of(db), kept)


def test_warnings_of_a_run_are_said_once_and_do_not_fail_it(cli: Cli, db: Database, source: Source) -> None:
    source.records[4] = {"name": "no id"}
    said = cli("run", "items")
    assert said.status == 0 and "9 added" in said.stdout and "1 rejected" in said.stdout, said
    assert said.stderr.count("unique_key") == 1, said


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_children_that_run_before_their_parents_are_a_warning(cli: Cli, source: Source) -> None:
    """Also in a new folder, where nothing has stored the sync of the parents yet."""
    for_each = {"sync": "items", "path": "id"}
    write_sync("notes", url=source.api.url + "/${parent.id}/notes", unique_key="id", for_each=for_each)
    said = cli("run", "notes")
    assert said.status == 0 and "items, has read nothing yet" in said.stderr, said


def test_a_posted_sync_is_run_and_stays_posted(cli: Cli, db: Database, source: Source) -> None:
    Path("sync_configs/items.yaml").unlink()
    body = {"name": "items", "url": source.api.url + source.path, "unique_key": "id", **PAGING}
    syncs.post(db, from_body(body), named=True)
    said = cli("run", "items", NANGO_ALLOW_PRIVATE_HOSTS="1")
    assert said.status == 0, said
    assert row_of(db).origin == "http"
    assert_exact(db, row_of(db), source.records)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_ends_as_cancelled_and_keeps_its_pages(
    number: signal.Signals, cli: Cli, db: Database, source: Source
) -> None:
    waiting = hang_at(source, 3)
    process = cli.start("run", "items", "--json")
    until(lambda: waiting.exists() or process.poll() is not None, 60, "the third page is asked for")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    said = Said(process.returncode, stdout, stderr)
    assert (said.status, said.stderr) == (1, "items: cancelled after 2 pages.\n"), said
    assert said.json["status"] == "cancelled"
    assert last_job(db, row_of(db)).status == "cancelled"
    assert_nothing_runs(db)
    assert_exact(db, row_of(db), source.records[:6])


def hang_at(source: Source, number: int) -> Path:
    """Let a page not come before the server ends; the path exists once it was asked for."""
    asked = Path("asked").absolute()

    def hang(request: Received) -> Reply:
        asked.touch()
        source.api.stopped.wait(60)
        return source.page(number)

    source.broken[number] = hang
    return asked


def test_the_progress_is_seen_on_a_terminal_and_nowhere_else(cli: Cli, source: Source) -> None:
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(ours, shown))
    reader.start()
    try:
        env = cli.environment(TERM="xterm-256color", COLUMNS="160")
        ended = subprocess.run([*COMMAND, "run", "items"], env=env, stdout=subprocess.PIPE, stderr=theirs, timeout=120)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    text = b"".join(shown)
    assert ended.returncode == 0 and ended.stdout.startswith(b"items: 10 added"), (ended, text)
    assert b"items: Dagster is starting" in text and b"10 records" in text


def _read_all(terminal: int, into: list[bytes]) -> None:
    """Read until the other side is closed, which Linux says with an error."""
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65536):
            into.append(piece)


def test_a_debug_log_shows_dagsters_own_lines_on_stderr_only(cli: Cli, source: Source) -> None:
    said = cli.process("run", "items", "--json", LOG_LEVEL="debug")
    assert said.status == 0 and said.json["status"] == "succeeded"
    assert "RUN_START" in said.stderr


def test_a_home_of_dagster_that_is_none_is_a_sentence(cli: Cli, source: Source, tmp_path: Path) -> None:
    said = cli("run", "items", DAGSTER_HOME=str(tmp_path / "nowhere"))
    assert (said.status, said.stdout) == (1, "")
    assert said.stderr == (
        f"DAGSTER_HOME is {tmp_path / 'nowhere'}, which is no folder; make it, or leave the variable unset.\n"
    )
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "dagster.yaml").write_text("nonsense: true\n")
    said = cli("run", "items", DAGSTER_HOME=str(tmp_path / "nowhere"))
    assert said.status == 1 and said.stderr.startswith("Dagster cannot start with DAGSTER_HOME"), said
    assert '"nonsense"' in said.stderr and said.stderr.count("\n") == 1


def test_a_name_that_dagster_does_not_take_is_a_sentence(tmp_path: Path) -> None:
    write_sync("input", url="https://api.example.com/items")
    said = Cli({"NANGO_HOME": str(tmp_path / "home")})("run", "input")
    assert (said.status, said.stdout) == (1, "")
    assert "input is a word that Python and Dagster keep for themselves" in said.stderr, said
    assert "Traceback" not in said.stderr


def test_a_broken_neighbour_does_not_stop_a_run(cli: Cli, db: Database, source: Source) -> None:
    write_sync("broken", url=5)
    said = cli("run", "items")
    assert (said.status, said.stderr) == (0, ""), said
    assert [job.status for job in jobs.list_jobs(db, row_of(db).id)] == ["succeeded"]


# --- one connection of many -----------------------------------------------------------------------------------------


def with_connections(db: Database, source: Source, *names: str) -> SyncRow:
    configure(source, integration="crm", query_params={"who": "${connection_id}"})
    row = syncs.register(db, [read_file(Path("sync_configs/items.yaml"))[0]])["items"]
    for name in names:
        connections.add(db, None, connections.NewConnection("crm", name))
    return row


def test_a_run_of_one_connection_leaves_the_others_alone(cli: Cli, db: Database, source: Source) -> None:
    row = with_connections(db, source, "ann", "bob")
    said = cli("run", "items", "--connection", "bob", "--json")
    assert (said.status, said.json["status"], said.json["error"]) == (0, "succeeded", None)
    assert said.json["job"]["added"] == 10
    assert [job.connection_id for job in jobs.list_jobs(db, row.id)] == ["bob"]
    assert {request.params["who"] for request in source.api.requests} == {"bob"}


def test_a_run_of_a_variant_is_its_own(cli: Cli, db: Database, source: Source) -> None:
    row = with_connections(db, source, "ann")
    connections.add_variant(db, row.id, "ann", "eu")
    assert cli("run", "items", "--variant", "eu").status == 0  # of the only connection there is
    assert [(job.connection_id, job.variant) for job in jobs.list_jobs(db, row.id)] == [("ann", "eu")]


def test_a_run_of_a_failing_connection_ends_with_its_sentence(cli: Cli, db: Database, source: Source) -> None:
    with_connections(db, source, "ann")
    source.broken[1] = (500, {}, "down")
    said = cli("run", "items", "--connection", "ann")
    assert said.status == 1
    assert 'answered 500 Internal Server Error: "down".' in said.stderr


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        ((), (), "integration crm has no connections yet; add one with: nango-dagster connections add"),
        (("ann", "bob"), (), "items runs for 2 connections; say which with --connection"),
        (("ann", "bob"), ("--connection", "anne"), 'crm has no connection "anne"; did you mean ann?'),
        (("ann",), ("--variant", "eu"), 'ann has no variant "eu" of items; there are base.'),
    ],
)
def test_a_connection_that_is_not_there_is_said(
    cli: Cli, db: Database, source: Source, names: tuple[str, ...], options: tuple[str, ...], sentence: str
) -> None:
    with_connections(db, source, *names)
    said = cli("run", "items", *options)
    assert said.status == 1 and sentence in said.stderr
    assert jobs.list_jobs(db) == []


def test_a_sync_of_one_account_has_no_connections_to_choose(cli: Cli, source: Source) -> None:
    said = cli("run", "items", "--connection", "ann")
    assert said.status == 1 and "items has no integration, so it has no connections" in said.stderr
