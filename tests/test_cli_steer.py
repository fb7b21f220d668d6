"""`trigger`, `start`, `pause`, `cancel`, `frequency`, and `status` of syncs with many connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import runs
from nango_dagster.config import from_body, read_file
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, credential_state, jobs, queue, syncs
from nango_dagster.store.jobs import Counts
from nango_dagster.store.queue import Schedule
from nango_dagster.store.sync_row import SyncRow
from tests.commands import Cli, Said, write_sync
from tests.executions import PAGING, Source, items
from tests.fake_api import FakeApi

pytestmark = pytest.mark.usefixtures("same_logging")
URL = "https://api.example.com/items"
SOON = "within seconds where `nango-dagster dev` or a Dagster daemon is up."


@pytest.fixture
def cli(settings_env: dict[str, str], db: Database) -> Cli:
    """The command line with an hourly sync of two connections, one of them in two variants."""
    write_sync("issues", url=URL, integration="github", unique_key="id", frequency="every hour")
    row = syncs.register(db, read_file("sync_configs/issues.yaml"))["issues"]
    for name in ("acme", "bolt"):
        connections.add(db, None, connections.NewConnection("github", name))
    connections.add_variant(db, row.id, "bolt", "eu")
    return Cli(settings_env)


def row_of(db: Database, name: str = "issues") -> SyncRow:
    row = syncs.by_name(db, name)
    assert row is not None
    return row


def schedules(db: Database, name: str = "issues") -> dict[str, Schedule]:
    found = queue.schedules(db, [row_of(db, name).id])
    return {one.connection_id if one.variant == "base" else f"{one.connection_id}|{one.variant}": one for one in found}


def triggered(db: Database) -> list[str]:
    return [name for name, one in schedules(db).items() if one.triggered_at is not None]


@contextmanager
def executing(db: Database, connection_id: str = "acme", ended: str = "succeeded", **more: Any) -> Iterator[None]:
    """An execution that has begun, and ends with the block."""
    row = row_of(db)
    worker = queue.start_worker(db, row.id, "run-1")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[(connection_id, "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run-1")
    yield
    with db.begin() as connection:
        jobs.finish(connection, db, job_id, Counts(added=3), jobs.End(ended, **more))
        queue.release(connection, db, claim, succeeded=ended == "succeeded")
    queue.end_worker(db, worker)


def refused(said: Said, sentence: str) -> None:
    assert (said.status, said.stdout) == (1, ""), said
    assert sentence in said.stderr, said.stderr


# --- trigger --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "who", "names"),
    [
        ([], "issues for 2 connections in 3 variants", ["acme", "bolt", "bolt|eu"]),
        (["--connection", "acme"], "issues for acme", ["acme"]),
        (["--connection", "bolt"], "issues for bolt in 2 variants", ["bolt", "bolt|eu"]),
        (["--connection", "bolt", "--variant", "eu"], "issues for bolt, variant eu", ["bolt|eu"]),
        (["--variant", "base"], "issues for 2 connections", ["acme", "bolt"]),
    ],
)
def test_a_trigger_says_whom_it_asked_and_what_follows(
    cli: Cli, db: Database, options: list[str], who: str, names: list[str]
) -> None:
    said = cli.good("trigger", "issues", *options)
    assert said.stdout.splitlines() == [f"Triggered {who}.", f"It begins {SOON}"]
    assert triggered(db) == names


def test_a_paused_sync_is_triggered_and_stays_paused(cli: Cli, db: Database) -> None:
    cli.good("pause", "issues")
    assert cli.good("trigger", "issues", "--json").json == {
        "sync": "issues", "integration": "github", "connection_id": None, "variant": None,
        "triggered": 3, "reset": False, "empty_cache": False,
    }  # fmt: skip
    assert {one.state for one in schedules(db).values()} == {"PAUSED"} and len(triggered(db)) == 3


def test_what_is_being_executed_is_left_alone_by_a_trigger_and_cancelled_by_a_reset(cli: Cli, db: Database) -> None:
    with executing(db):
        said = cli.good("trigger", "issues", "--connection", "acme")
        assert said.stdout == "issues for acme is being executed right now; nothing was asked for.\n"
        assert "right now (1) was left alone." in cli.good("trigger", "issues").stdout
        assert triggered(db) == ["bolt", "bolt|eu"]
        said = cli.good("trigger", "issues", "--connection", "acme", "--reset", "--empty-cache")
        assert said.stdout.startswith("Triggered issues for acme from the first record on, its records deleted before.")
        assert "right now (1) is cancelled first." in said.stdout
        one = schedules(db)["acme"]
        assert (one.reset, one.empty_cache, one.cancelled_at is not None) == (True, True, True)


def test_the_cache_is_emptied_with_a_reset_only(cli: Cli, db: Database) -> None:
    refused(cli("trigger", "issues", "--empty-cache"), "the cache is emptied with a reset only")
    assert triggered(db) == []


@pytest.mark.parametrize(
    ("options", "who", "names"),
    [
        (["--match", "b*"], "issues for bolt in 2 variants", ["bolt", "bolt|eu"]),
        (["--match", "b*", "--variant", "eu"], "issues for bolt, variant eu", ["bolt|eu"]),
        (["--match", "*[!x]"], "issues for 2 connections in 3 variants", ["acme", "bolt", "bolt|eu"]),
        (["--failed"], "issues for acme", ["acme"]),
        (["--failed", "--match", "a??e"], "issues for acme", ["acme"]),
    ],
)
def test_a_trigger_selects_connections_by_pattern_and_failure(
    cli: Cli, db: Database, options: list[str], who: str, names: list[str]
) -> None:
    with executing(db, "acme", "failed", error="down"):
        pass
    with executing(db, "bolt"):
        pass
    assert cli.good("trigger", "issues", *options).stdout.startswith(f"Triggered {who}.\n")
    assert triggered(db) == names


def test_connections_that_match_are_paused_started_and_cancelled(cli: Cli, db: Database) -> None:
    assert cli.good("pause", "issues", "--match", "b*", "--json").json == {
        "sync": "issues", "integration": "github", "connection_id": None, "variant": None,
        "match": "b*", "failed": False, "paused": 2, "executing": 0,
    }  # fmt: skip
    assert {name: one.state for name, one in schedules(db).items()} == {
        "acme": "STARTED", "bolt": "PAUSED", "bolt|eu": "PAUSED",
    }  # fmt: skip
    assert "were" not in cli.good("start", "issues", "--match", "b*").stdout
    assert triggered(db) == ["bolt", "bolt|eu"]
    cli.good("cancel", "issues", "--match", "b*")
    assert triggered(db) == []


def test_a_pattern_or_failure_that_selects_nothing_is_refused(cli: Cli, db: Database) -> None:
    refused(
        cli("trigger", "issues", "--match", "x*"), 'issues has no connection that matches "x*"; there are acme, bolt.'
    )
    refused(cli("trigger", "issues", "--failed"), "no selected connection of issues failed in its last execution.")
    assert triggered(db) == []


def test_a_sync_of_one_account_is_steered_by_its_name_alone(cli: Cli, db: Database) -> None:
    write_sync("pokemon", url=URL)
    assert cli.good("trigger", "pokemon").stdout.startswith("Triggered pokemon.\n")
    assert cli.good("pause", "pokemon").stdout.startswith("Paused pokemon.\n")
    assert schedules(db, "pokemon")["default"].state == "PAUSED"
    refused(
        cli("trigger", "pokemon", "--connection", "acme"), "pokemon has no connections, for it names no integration"
    )


# --- who is not there -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["trigger", "start", "pause", "cancel"])
def test_whom_nobody_knows_is_answered_with_those_there_are(cli: Cli, command: str) -> None:
    refused(cli(command, "isues"), 'there is no sync "isues"; did you mean issues?')
    refused(cli(command, "issues", "--connection", "amce"), 'does not run for a connection "amce"; did you mean acme?')
    refused(cli(command, "issues", "--connection", "xyz"), 'a connection "xyz"; there are acme, bolt.')
    refused(
        cli(command, "issues", "--connection", "acme", "--variant", "eu"), 'no variant "eu" for acme; there are base.'
    )
    refused(cli(command, "issues", "--variant", "us"), 'issues has no variant "us"; did you mean')
    refused(
        cli(command, "issues", "--integration", "gitlab"), 'no sync "issues" of integration "gitlab"; there is none.'
    )


def test_a_sync_without_connections_says_how_to_make_one(cli: Cli) -> None:
    write_sync("deals", url=URL, integration="hubspot")
    said = "deals runs for no connection: hubspot has no connections yet; make one with: nango-dagster connections add"
    refused(cli("trigger", "deals"), said)


def test_what_nothing_runs_is_not_triggered_but_can_be_cancelled(cli: Cli, db: Database) -> None:
    write_sync("issues", url=URL, integration="github", enabled=False)
    for command in (["trigger", "issues"], ["start", "issues"], ["frequency", "issues", "every hour"]):
        refused(cli(*command), "issues has enabled: false")
    Path("sync_configs/issues.yaml").unlink()
    refused(cli("trigger", "issues"), "no config in sync_configs has issues any more, so nothing runs it.")
    assert cli("cancel", "issues").status == 0 and cli("pause", "issues").status == 0


def test_a_sync_whose_file_is_broken_says_what_is_wrong(cli: Cli) -> None:
    write_sync("issues", url=URL, integration="github", methd="GET")
    refused(cli("trigger", "issues"), "did you mean method?")


def test_an_asset_of_somebodys_own_is_left_to_dagster(cli: Cli, db: Database) -> None:
    syncs.register_asset(db, from_body({"name": "mine", "url": URL}), "default")
    refused(cli("trigger", "mine"), "mine is an asset of your own; it runs when Dagster materializes it.")


def test_a_name_of_several_integrations_needs_the_integration(cli: Cli, db: Database) -> None:
    syncs.post(db, from_body({"name": "issues", "url": URL}), named=True)
    refused(cli("trigger", "issues"), "several integrations have a sync issues: default, github; name the integration")
    refused(cli("status", "issues"), "several integrations have a sync issues: default, github")
    assert cli.good("trigger", "issues", "--integration", "github", "--json").json["triggered"] == 3


# --- start, pause, cancel -------------------------------------------------------------------------------------------


def test_pause_and_start(cli: Cli, db: Database) -> None:
    with executing(db):
        said = cli.good("pause", "issues")
    assert said.stdout.splitlines() == [
        "Paused issues for 2 connections in 3 variants.",
        "What is being executed (1) goes on to its end. Nothing more begins until a start or a trigger.",
    ]
    assert {one.state for one in schedules(db).values()} == {"PAUSED"}
    said = cli.good("start", "issues", "--connection", "bolt")
    assert said.stdout.splitlines() == ["Started issues for bolt in 2 variants.", f"What was paused (2) begins {SOON}"]
    assert triggered(db) == ["bolt", "bolt|eu"]
    assert cli.good("start", "issues", "--connection", "bolt").stdout.endswith("Nothing was paused.\n")
    assert cli.good("start", "issues", "--json").json["were_paused"] == 1


def test_cancel_stops_what_is_being_executed_and_drops_what_was_asked_for(cli: Cli, db: Database) -> None:
    cli.good("trigger", "issues")
    with executing(db):
        said = cli.good("cancel", "issues")
        assert said.stdout.startswith("Cancelled 1 execution of issues for 2 connections in 3 variants.\nWithin ")
        assert schedules(db)["acme"].cancelled_at is not None
    assert [name for name in triggered(db) if name != "acme"] == []
    again = cli.good("cancel", "issues", "--connection", "bolt", "--json").json
    assert again["cancelled"] == 0
    said = cli.good("cancel", "issues", "--connection", "bolt", "--variant", "eu")
    assert said.stdout == "Nothing of issues for bolt, variant eu is being executed; what was asked for is dropped.\n"


# --- frequency ------------------------------------------------------------------------------------------------------


def test_a_connection_gets_a_frequency_of_its_own_and_gives_it_back(cli: Cli, db: Database) -> None:
    with executing(db):
        pass
    said = cli.good("frequency", "issues", "--connection", "acme", "every 5 minutes")
    assert said.stdout.startswith("issues for acme has a frequency of its own, every 5 minutes.\nIts next run is at 20")
    assert {name: one.frequency for name, one in schedules(db).items()} == {
        "acme": "every 5 minutes", "bolt": None, "bolt|eu": None,
    }  # fmt: skip
    text = cli.good("status", "issues").stdout
    assert "frequency" in text and "every 5 minutes" in text
    answer = cli.good("frequency", "issues", "--connection", "acme", "--default", "--json").json
    assert (answer["changed"], answer["frequency"]) == (1, None)
    coming = datetime.fromisoformat(answer["next_run_at"])
    assert coming == row_of(db).sync.next_slot(datetime.now(timezone.utc))
    said = cli.good("frequency", "issues", "--connection", "bolt", "5")
    assert said.stdout.startswith("issues for bolt in 2 variants has a frequency of its own, every 5 minutes.\n")
    said = cli.good("frequency", "issues", "--connection", "bolt", "--variant", "eu", "every day")
    assert said.stdout.endswith(f"It is due, and begins {SOON}\n")


def test_what_is_no_frequency_is_a_sentence(cli: Cli) -> None:
    acme = ("frequency", "issues", "--connection", "acme")
    refused(cli(*acme, "every 20s"), "frequency is 'every 20s'; wanted whole seconds")
    refused(cli(*acme, "sometimes"), "frequency is 'sometimes'; wanted a number of minutes, or text")
    refused(cli(*acme), "wanted either a frequency such as")
    refused(cli(*acme, "every day", "--default"), "wanted either a frequency such as")
    refused(cli("frequency", "issues", "every day"), "the frequency of all is that of the config of issues")
    refused(cli("frequency", "issues", "--connection", "amce", "every day"), "did you mean acme?")


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_shows_a_sync_of_an_integration_in_numbers(cli: Cli, db: Database) -> None:
    write_sync("single", url=URL)
    with executing(db):
        pass
    with executing(db, "bolt", "failed", error="bolt: the API answered 500."):
        pass
    text = cli.good("status").stdout
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(("issues ", "single "))] == [
        ["single", "not"],
        ["issues", "scheduled"],
        ["single", "has"],
    ]
    assert "single has no next run: no process has loaded its file yet;" in text
    assert "succeeded" in text and "refused" not in text
    assert text.endswith("issues: 1 of 3 failed; see nango-dagster status issues\n")
    (issues, single) = sorted(cli.good("status", "--json").json, key=lambda one: one["name"])
    assert issues["connections"] == {
        "total": 3, "succeeded": 1, "failed": 1, "never_run": 1, "running": 0, "paused": 0, "due": 1,
        "needs_reauthorisation": 0, "lost": 0, "records": 0,
    }  # fmt: skip
    assert "connections" not in single and "statuses" not in issues


def test_status_of_one_sync_has_a_line_for_each_connection_those_that_failed_first(cli: Cli, db: Database) -> None:
    with executing(db):
        pass
    with executing(db, "bolt", "failed", error="issues: GET https://api.example.com/items answered 500."):
        pass
    for _ in range(queue.REAUTHORISE_AFTER):
        credential_state.note_auth_failure(db, "github", "acme")
    lines = cli.good("status", "issues").stdout.splitlines()
    of_connections = [line for line in lines if line.startswith(("acme", "bolt"))]
    assert [line.split()[0].rstrip(",") for line in of_connections] == ["bolt", "acme", "bolt", "bolt:"]
    assert "ok, needs other credentials" in of_connections[1] and "due now" in of_connections[2]
    assert lines[-1] == "bolt: GET https://api.example.com/items answered 500."
    document = cli.good("status", "issues", "--json").json
    assert document["connections"]["needs_reauthorisation"] == 1
    found = {(one["connection_id"], one["variant"]): one for one in document["statuses"]}
    assert list(found) == [("acme", "base"), ("bolt", "base"), ("bolt", "eu")]
    failed = found["bolt", "base"]
    assert (failed["state"], failed["error"]) == ("ERROR", "issues: GET https://api.example.com/items answered 500.")
    assert (failed["last_job"]["added"], failed["lost_runs"], failed["frequency"]) == (3, 0, "every hour")
    assert (found["acme", "base"]["next_run_at"], found["bolt", "eu"]["due"]) == (None, True)


def test_status_shows_so_many_connections_as_are_wanted_and_machines_all(cli: Cli, db: Database) -> None:
    text = cli.good("status", "issues", "--limit", "2").stdout
    assert text.endswith("and 1 more; --limit shows more, --json all.\n")
    assert len(cli.good("status", "issues", "--limit", "2", "--json").json["statuses"]) == 3


def test_status_of_one_connection(cli: Cli, db: Database) -> None:
    write_sync("pulls", url=URL, integration="github")
    syncs.register(db, read_file("sync_configs/pulls.yaml"))
    text = cli.good("status", "--connection", "acme").stdout
    assert [line.split()[:2] for line in text.splitlines()[1:]] == [["issues", "acme"], ["pulls", "acme"]]
    (one,) = cli.good("status", "issues", "--connection", "bolt", "--variant", "eu", "--json").json["statuses"]
    assert (one["connection_id"], one["variant"]) == ("bolt", "eu")
    refused(cli("status", "issues", "--connection", "blot"), 'a connection "blot"; did you mean bolt?')
    refused(cli("status", "--connection", "blot"), "no sync runs for a connection 'blot'")
    refused(cli("status", "isues"), "there is no sync isues in sync_configs or the database; did you mean issues?")


def test_status_of_one_sync_that_has_no_connections_or_never_ran(cli: Cli, db: Database) -> None:
    write_sync("deals", url=URL, integration="hubspot")
    assert "not loaded yet" in cli.good("status", "deals").stdout
    syncs.register(db, read_file("sync_configs/deals.yaml"))
    assert "no connections" in cli.good("status", "deals").stdout
    assert cli.good("status", "deals", "--json").json["statuses"] == []


def test_status_says_what_is_running_and_what_was_lost(cli: Cli, db: Database) -> None:
    with executing(db):
        states = {one["connection_id"]: one["state"] for one in cli.good("status", "issues", "--json").json["statuses"]}
        assert states["acme"] == "RUNNING"
    lose_a_run(db)
    text = cli.good("status", "issues").stdout
    assert "failed, 1 run lost" in text and "acme: run lost: " in text


def lose_a_run(db: Database) -> None:
    """A run of acme that died an hour ago."""
    from nango_dagster.store import schema

    row = row_of(db)
    worker = queue.start_worker(db, row.id, "gone")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[("acme", "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        jobs.start(connection, db, claim, row, "gone")
        long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
        connection.execute(schema.workers.update().values(heartbeat_at=long_ago))


def test_status_counts_the_records_of_each_connection(cli: Cli, db: Database, settings: Settings, api: FakeApi) -> None:
    source = Source(api, items(1, 2, 3))
    write_sync("issues", url=api.url + source.path, integration="github", unique_key="id", **PAGING)
    row = syncs.register(db, read_file("sync_configs/issues.yaml"))["issues"]
    with runs.claimed(db, settings, row, connection_id="bolt") as execution:
        assert execution.run().status == "succeeded"
    document = cli.good("status", "issues", "--json").json
    assert [one["records"] for one in document["statuses"]] == [0, 3, 0]
    assert document["connections"]["records"] == 3


# --- why there is no next run, on a narrow terminal -------------------------------------------------------------------


def test_status_says_why_there_is_no_next_run(cli: Cli, db: Database) -> None:
    cli.good("pause", "issues")
    assert "issues has no next run: it is paused; nango-dagster start issues starts it.\n" in cli.good("status").stdout
    (issues,) = cli.good("status", "--json").json
    assert (issues["next_run_at"], issues["no_next_run"]) == (
        None,
        "it is paused; nango-dagster start issues starts it",
    )
    cli.good("start", "issues")
    syncs.set_stopped(db, {row_of(db).id: True})
    for name in ("acme", "bolt"):
        cli.good("cancel", "issues", "--connection", name)
    said = cli.good("status").stdout
    assert "stopped" in said and "its schedule is stopped in Dagster; start it there." in said
    assert all(one["no_next_run"] for one in cli.good("status", "issues", "--json").json["statuses"])


@pytest.mark.parametrize("command", [("status",), ("status", "issues"), ("status", "--connection", "acme")])
def test_status_fits_a_terminal_of_eighty_columns(cli: Cli, db: Database, command: tuple[str, ...]) -> None:
    long_name = "hubspot-contacts-and-companies"
    for name in (long_name, "rates"):
        write_sync(name, url=URL, unique_key="id")
        syncs.register(db, read_file(f"sync_configs/{name}.yaml"))
    with executing(db):
        pass
    lines = cli.good(*command, COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(lines)
    expected = {1: [long_name, "due now"], 2: ["due now", "succeeded"], 3: ["succeeded", "+3 ~0 -0"]}[len(command)]
    assert all(word in words for word in ["next run", *expected])
