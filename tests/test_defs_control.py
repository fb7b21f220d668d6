"""`nango_control`: the operations of the Launchpad's form on syncs, and their reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, Project, making_projects, sentence


@pytest.fixture
def make(settings: Settings) -> Iterator[MakeProject]:
    with making_projects(settings) as make:
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
        connections.add(db, None, connections.NewConnection("github", name))
    return project


def launch(project: Project, action: str, **form: Any) -> dg.ExecuteInProcessResult:
    """One run of the form."""
    return project.defs.resolve_job_def(names.CONTROL_JOB).execute_in_process(
        instance=project.instance, run_config={"action": action, **form}, raise_on_error=False
    )


def done(project: Project, action: str, **form: Any) -> str:
    """The operations in the log of the job."""
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
    assert failure is not None
    return sentence(result)


def row_of(db: Database) -> SyncRow:
    row = syncs.by_name(db, "issues")
    assert row is not None
    return row


def states(db: Database) -> dict[str, str]:
    return {one.connection_id: one.state for one in queue.schedules(db, [row_of(db).id])}


# --- syncs ------------------------------------------------------------------------------------------------------------


def test_the_form_starts_pauses_and_triggers(project: Project, db: Database) -> None:
    assert done(project, "pause", sync="issues").startswith("Paused issues for 2 connections.")
    assert done(project, "start", sync="issues", connection="acme").startswith("Started issues for acme. What was")
    assert states(db) == {"acme": "STARTED", "bolt": "PAUSED"}
    assert done(project, "trigger", sync="issues").startswith("Triggered issues for 2 connections. It begins")
    assert not any(one.reset for one in queue.schedules(db, [row_of(db).id]))
    sentence = done(project, "reset", sync="issues", integration="github")
    assert sentence.startswith("Triggered issues for 2 connections from the first record on.")
    assert all(one.reset and one.triggered_at for one in queue.schedules(db, [row_of(db).id]))


def test_the_form_selects_connections_by_pattern(project: Project, db: Database) -> None:
    assert done(project, "pause", sync="issues", match="b*").startswith("Paused issues for bolt.")
    assert states(db) == {"acme": "STARTED", "bolt": "PAUSED"}


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


# --- forms that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "form", "said"),
    [
        ("frequency", {"sync": "issues"}, "frequency needs every. Nothing was done."),
        ("pause", {"sync": "issues", "every": "every day"}, "every is nothing that pause reads; leave it out."),
        ("trigger", {"sync": "isues"}, 'there is no sync "isues"; did you mean issues?'),
        ("trigger", {"sync": "issues", "connection": "amce"}, 'a connection "amce"; did you mean acme?'),
        ("frequency", {"sync": "issues", "every": "every day"}, "name a connection for one of its own"),
        ("frequency", {"sync": "issues", "connection": "acme", "every": "now and then"}, "frequency is 'now and then'"),
    ],
)
def test_a_form_that_does_not_fit_fails_the_run_with_a_sentence_and_does_nothing(
    project: Project, db: Database, action: str, form: dict[str, Any], said: str
) -> None:
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


@pytest.mark.parametrize(
    "action", ["stop", "add_connection", "remove_connection", "set_metadata", "update_metadata", "add_variant"]
)
def test_the_launchpad_only_steers(project: Project, action: str) -> None:
    """Every client of Dagster's webserver can launch the job, so no credential, address or record depends on it."""
    with pytest.raises(dg.DagsterInvalidConfigError, match=f"not in enum type Action got {action}"):
        launch(project, action, sync="issues")


@pytest.mark.parametrize(
    "field",
    [
        {"config": {"webhook_url_override": "http://example.com"}},
        {"metadata": {"host": "example.com"}},
        {"credentials_file": "/etc/passwd"},
        {"credentials_env": "ACME"},
        {"empty_cache": True},
    ],
)
def test_the_launchpad_reads_no_credentials_metadata_or_addresses(project: Project, field: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=next(iter(field))):
        launch(project, "trigger", sync="issues", **field)


def test_the_control_job_runs_in_one_process_and_is_not_retried(project: Project) -> None:
    job = project.defs.resolve_job_def(names.CONTROL_JOB)
    assert (job.tags["dagster/max_retries"], job.executor_def.name) == ("0", "in_process")
    assert "deletes nothing" in (job.description or "")
