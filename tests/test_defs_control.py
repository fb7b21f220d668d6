"""`nango_control`: what the Launchpad's form does to syncs, connections and variants, and what it answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, syncs
from nango_dagster.store.syncs import SyncRow
from nango_dagster.vault import Vault
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, Project, making_projects, sentence

SECRET = "s3cr3t-value"
KEY = base64.b64encode(b"k" * 32).decode()
PARTITIONS = "nango/github/issues"


@pytest.fixture
def given(settings_env: dict[str, str]) -> Settings:
    """Settings with a key, and an environment variable that holds credentials."""
    env = {"NANGO_ENCRYPTION_KEY": KEY, "NANGO_ENV_ACME": json.dumps({"type": "BEARER", "token": SECRET})}
    return Settings.from_env({**settings_env, **env}, dotenv=None)


@pytest.fixture
def make(given: Settings) -> Iterator[MakeProject]:
    with making_projects(given) as make:
        yield make


@pytest.fixture
def sync(api: FakeApi) -> Sync:
    return Source(api, items(1, 2, 3)).sync(name="issues", integration="github", unique_key="id")


@pytest.fixture
def project(make: MakeProject, sync: Sync, db: Database) -> Project:
    """A sync of an integration with two connections."""
    project = make(sync)
    syncs.register(db, [sync])
    for name in ("acme", "bolt"):
        connections.add(db, None, "github", name)
    return project


def launch(project: Project, action: str, **form: Any) -> dg.ExecuteInProcessResult:
    """One run of the form."""
    return project.defs.resolve_job_def(names.CONTROL_JOB).execute_in_process(
        instance=project.instance, run_config={"action": action, **form}, raise_on_error=False
    )


def done(project: Project, action: str, **form: Any) -> str:
    """What its log says that it did."""
    result = launch(project, action, **form)
    assert result.success, sentence(result)
    said = [entry.user_message for entry in project.instance.all_logs(result.run_id) if entry.level == 20]
    return said[-1]


def refusal(project: Project, action: str, **form: Any) -> str:
    """The sentence that it fails with."""
    result = launch(project, action, **form)
    assert not result.success
    (event,) = (event for event in result.all_events if event.is_step_failure)
    failure = event.step_failure_data.user_failure_data
    assert failure is not None and SECRET not in str(event.step_failure_data)
    return sentence(result)


def row_of(db: Database) -> SyncRow:
    row = syncs.by_name(db, "issues")
    assert row is not None
    return row


def states(db: Database) -> dict[str, str]:
    return {one.connection_id: one.state for one in queue.schedules(db, [row_of(db).id])}


def partitions(project: Project) -> list[str]:
    return sorted(project.instance.get_dynamic_partitions(PARTITIONS))


# --- syncs ------------------------------------------------------------------------------------------------------------


def test_the_form_starts_pauses_and_triggers(project: Project, db: Database) -> None:
    assert done(project, "pause", sync="issues").startswith("Paused issues for 2 connections.")
    assert done(project, "start", sync="issues", connection="acme").startswith("Started issues for acme. What was")
    assert states(db) == {"acme": "STARTED", "bolt": "PAUSED"}
    said = done(project, "trigger", sync="issues", integration="github", reset=True, empty_cache=True)
    assert said.startswith("Triggered issues for 2 connections from the first record on, its records deleted before.")
    assert all(one.reset and one.triggered_at for one in queue.schedules(db, [row_of(db).id]))


def test_the_form_cancels(project: Project, db: Database) -> None:
    worker = queue.start_worker(db, row_of(db).id, "run-1")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    assert done(project, "cancel", sync="issues").startswith("Cancelled 1 execution of issues for 2 connections.")
    assert queue.is_cancelled(db, claim)


def test_the_form_gives_a_connection_a_frequency_of_its_own(project: Project, db: Database) -> None:
    done(project, "frequency", sync="issues", connection="acme", every="every 5 minutes")
    assert [one.frequency for one in queue.schedules(db, [row_of(db).id])] == ["every 5 minutes", None]
    done(project, "frequency", sync="issues", connection="acme", every="default")
    assert [one.frequency for one in queue.schedules(db, [row_of(db).id])] == [None, None]


# --- connections and variants -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["env", "file", "none"])
def test_the_form_makes_a_connection_whose_credentials_are_not_in_it(
    project: Project, db: Database, given: Settings, way: str
) -> None:
    Path("acme.json").write_text(given.env["ACME"])
    where = {"env": {"credentials_env": "NANGO_ENV_ACME"}, "file": {"credentials_file": "acme.json"}}.get(way, {})
    form = {"integration": "github", "connection": "cedar", "metadata": {"region": "eu", "n": [1, {"a": None}]}}
    assert done(project, "add_connection", **form, **where).startswith("Added cedar to github. issues runs for each")
    row = connections.get(db, "github", "cedar")
    assert row is not None and row.metadata == form["metadata"]
    held = None if way == "none" else {"type": "BEARER", "token": SECRET}
    assert connections.credentials(db, Vault.open(given), "github", "cedar") == held
    assert states(db)["cedar"] == "STARTED" and partitions(project) == ["acme", "bolt", "cedar"]
    assert SECRET not in str(project.instance.get_runs()[0].run_config)


def test_the_form_changes_a_connection_only_when_it_says_so(project: Project, db: Database) -> None:
    form = {"integration": "github", "connection": "acme", "config": {"a": 1}}
    assert refusal(project, "add_connection", **form).startswith('github has a connection "acme" already; say replace')
    assert done(project, "add_connection", **form, replace=True) == "Changed acme of github."
    row = connections.get(db, "github", "acme")
    assert row is not None and row.config == {"a": 1}


def test_the_form_removes_a_connection_with_its_partitions(project: Project, db: Database) -> None:
    form = {"integration": "github", "connection": "acme"}
    assert refusal(project, "remove_connection", **form) == (
        "this deletes the connection acme with its records; say confirm: true to do it. Nothing was done."
    )
    done(project, "add_variant", sync="issues", connection="bolt", variant="eu")
    assert partitions(project) == ["acme", "bolt", "bolt|eu"]
    assert done(project, "remove_connection", **form, confirm=True) == "Deleted acme of github with its 0 records."
    assert partitions(project) == ["bolt", "bolt|eu"] and states(db) == {"bolt": "STARTED"}


def test_the_form_sets_and_merges_metadata(project: Project, db: Database) -> None:
    form = {"integration": "github", "connection": "acme"}
    done(project, "set_metadata", **form, metadata={"a": {"x": 1}, "b": 1})
    said = done(project, "update_metadata", **form, metadata={"a": {"y": 1}, "token": SECRET})
    assert said == 'acme of github has the metadata {"a": {"y": 1}, "b": 1, "token": "***"}.'
    row = connections.get(project.nango.database, "github", "acme")
    assert row is not None and row.metadata == {"a": {"y": 1}, "b": 1, "token": SECRET}


def test_the_form_makes_and_removes_a_variant(project: Project, db: Database) -> None:
    form = {"sync": "issues", "connection": "acme", "variant": "eu"}
    assert done(project, "add_variant", **form).startswith("Added the variant eu of issues for acme.")
    assert refusal(project, "remove_variant", **form).startswith("this deletes the variant eu of issues for acme")
    done(project, "remove_variant", **form, confirm=True)
    assert queue.partitions(db, row_of(db).id) == [("acme", "base"), ("bolt", "base")]
    assert partitions(project) == ["acme", "bolt"]


# --- forms that do not fit --------------------------------------------------------------------------------------------

ACME = {"integration": "github", "connection": "acme"}


@pytest.mark.parametrize(
    ("action", "form", "said"),
    [
        ("trigger", {}, "trigger needs sync. Nothing was done."),
        ("add_variant", {"sync": "issues"}, "add_variant needs connection and variant. Nothing was done."),
        ("pause", {"sync": "issues", "every": "every day"}, "every is nothing that pause reads; leave it out."),
        ("start", {"sync": "issues", "reset": True, "confirm": True}, "confirm and reset are nothing that start reads"),
        ("trigger", {"sync": "isues"}, 'there is no sync "isues"; did you mean issues?'),
        ("trigger", {"sync": "issues", "connection": "amce"}, 'a connection "amce"; did you mean acme?'),
        ("trigger", {"sync": "issues", "empty_cache": True}, "the cache is emptied with a reset only"),
        ("frequency", {"sync": "issues", "every": "every day"}, "name a connection for one of its own"),
        ("frequency", {"sync": "issues", "connection": "acme", "every": "now and then"}, "frequency is 'now and then'"),
        ("add_connection", {"integration": "github", "connection": " "}, "is no name of connection"),
        ("add_connection", {**ACME, "credentials_env": "NANGO_ENV_BOLT"}, "has no NANGO_ENV_BOLT; set it"),
        ("add_connection", {**ACME, "credentials_file": "none.json"}, "cannot read none.json: No such file"),
        ("add_connection", {**ACME, "credentials_file": "secret.txt"}, "secret.txt is no JSON: Expecting value"),
        ("add_connection", {**ACME, "credentials_file": "binary"}, "binary is not UTF-8 text"),
        ("add_connection", {**ACME, "credentials_file": "x", "credentials_env": "ACME"}, "are both given"),
        ("add_connection", {**ACME, "metadata": {"token": "***"}}, "which stands for a secret that was not shown"),
        ("remove_connection", {**ACME, "connection": "amce", "confirm": True}, "did you mean acme?"),
        ("set_metadata", {**ACME, "connection": "amce", "metadata": {"a": 1}}, "did you mean acme?"),
        ("add_variant", {"sync": "issues", "connection": "acme", "variant": "base"}, 'the variant "base" for acme'),
        (
            "remove_variant",
            {"sync": "issues", "connection": "acme", "variant": "base", "confirm": True},
            "the variant base belongs to the connection",
        ),
    ],
)
def test_a_form_that_does_not_fit_fails_the_run_with_a_sentence_and_does_nothing(
    project: Project, db: Database, action: str, form: dict[str, Any], said: str
) -> None:
    Path("secret.txt").write_text(SECRET)
    Path("binary").write_bytes(b"\xff\xfe")
    before = connections.list_connections(db), queue.schedules(db)
    assert said in refusal(project, action, **form)
    assert (connections.list_connections(db), queue.schedules(db)) == before


def test_what_nothing_runs_is_not_triggered_but_can_be_cancelled(project: Project, make: MakeProject) -> None:
    other = make()
    assert refusal(other, "trigger", sync="issues") == (
        "no config that is loaded here has issues enabled, so nothing runs it."
    )
    assert done(other, "cancel", sync="issues").startswith("Nothing of issues for 2 connections is being executed")


def test_a_database_that_is_down_is_a_sentence(make: MakeProject, sync: Sync) -> None:
    settings = Settings.from_env({"NANGO_DB_URL": "postgresql://nobody:secret@127.0.0.1:1/none"}, dotenv=None)
    said = refusal(make(sync, settings=settings), "pause", sync="issues")
    assert said.startswith("cannot reach the database postgresql+psycopg://nobody:***@127.0.0.1:1/none")


def test_the_launchpad_knows_the_actions_and_refuses_others(project: Project) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type Action got stop"):
        launch(project, "stop")
    job = project.defs.resolve_job_def(names.CONTROL_JOB)
    assert (job.tags["dagster/max_retries"], job.executor_def.name) == ("0", "in_process")
    assert "credentials are not written here" in (job.description or "")
