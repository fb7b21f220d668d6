"""Hostile scripts: each ends with a sentence and the script's line, and what was committed before is kept."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from nango_dagster import clock, runs
from nango_dagster.scripts import watchdog
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs
from tests.crash_worker import Workers
from tests.crashing import bury
from tests.fake_api import FakeApi
from tests.script_project import ScriptProject
from tests.test_scripts import scripted

KEPT = ["yield [{'id': 1}]", "nango.save_checkpoint(page=2)"]
HOSTILE: dict[str, tuple[list[str], str]] = {
    # what it does after a good page and a checkpoint, and what the job says
    "raises": (["raise KeyError('repos')"], "items.py, line 7: KeyError: 'repos'"),
    "exits": (["raise SystemExit(3)"], "items.py, line 7: SystemExit: 3"),
    "recurses": (["def f(): return f()", "f()"], "line 7: RecursionError: maximum recursion depth exceeded"),
    "allocates": (["x = [0] * (1 << 62)"], "line 7: MemoryError"),
    "undeclared model": (["nango.batch_save([{'id': 2}], 'Contact')"], "the model 'Contact' is not declared; its"),
    "no records": (["yield 'text'"], "a record is str; wanted an object, or a list of them."),
    "no JSON": (["yield {'id': 2, 'x': object()}"], "objects of type object have no form in JSON"),
    "not a number": (["yield {'id': 2, 'x': float('nan'), 'y': 1j}"], "objects of type complex have no form in JSON"),
    "a nested checkpoint": (["nango.save_checkpoint(a={'b': 1})"], "wanted a text, a finite number or a boolean"),
    "a method that is not there": (["nango.batch_sav([])"], "nango has no 'batch_sav'"),
    "an action": (["nango.trigger_action('x')"], "does not run here: nango_dagster runs syncs, and no actions."),
    "swallows": (
        ["for _ in range(3):", "    try: nango.save_checkpoint(a=[1])", "    except Exception: pass"],
        "wanted a text, a finite number or a boolean",
    ),
    "prints a secret and raises it": (["print(nango.connection)", "raise ValueError(nango.connection)"], "'***'"),
    "no base URL": (["nango.get('/x', base_url='')"], "answered 404"),
    "a host that is not there": (["nango.get('http://no-such-host.invalid/x')"], "cannot be found (DNS)"),
    "a strange scheme": (["nango.get('/x', base_url='file:///etc/passwd')"], "wanted a URL that begins with https"),
}


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    project = ScriptProject(db, settings, api)
    project.connect(credentials={"type": "API_KEY", "apiKey": "hunter22x"})
    return project


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_script_fails_with_a_sentence_and_its_line(
    project: ScriptProject, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The page before it and its checkpoint are kept, and no secret is shown."""
    lines, said = HOSTILE[name]
    outcome = project.run(scripted(*KEPT, *lines, options=", retries=0"), "acme")
    assert outcome.status == "failed"
    assert said in (outcome.error or ""), outcome.error
    assert "items.py, line" in (outcome.error or "") or name == "swallows", outcome.error
    assert (project.ids(), json.loads(project.checkpoint() or "")) == (["1"], {"page": 2})
    shown = capsys.readouterr()
    assert "hunter22x" not in f"{outcome.error}{outcome.stack}{shown.out}{shown.err}"


def test_records_that_cannot_be_saved_are_rejected_with_the_line(project: ScriptProject) -> None:
    """One of 10 MB, one without a key, and one that does not fit the model; nothing is deleted, the others are kept."""
    body = """
        MODEL = {"type": "object", "properties": {"id": {}, "name": {"type": "string"}}, "required": ["name"]}

        @sync(integration="crm", models={"Item": MODEL}, validate="reject", track_deletes=True)
        def items(nango):
            if nango.metadata.get("first"):
                yield [{"id": n, "name": "old"} for n in (1, 2)]
                return
            nango.batch_save([
                {"id": 1, "name": "new"},
                {"id": 3, "name": "x" * 10_000_000},
                {"name": "no id"},
                {"id": 4, "name": 4},
            ])
        """
    connections.set_metadata(project.db, "crm", "acme", {"first": True})
    project.run(body, "acme")
    connections.set_metadata(project.db, "crm", "acme", {})
    outcome = project.run(None, "acme", accept_deletes=True)
    said = " ".join(outcome.warnings)
    assert (outcome.status, project.ids()) == ("succeeded", ["1", "2"]), outcome.error
    assert outcome.counts.rejected == 3
    assert "of batch_save, items.py line 10: it has 10,000,0" in said
    assert "name is a number; wanted string in a record of batch_save, items.py line 10" in said
    assert "without" not in said


@pytest.mark.parametrize("validate", ["warn", "reject", "fail"])
def test_records_that_do_not_fit_are_told_of_with_the_line_that_yields_them(
    project: ScriptProject, validate: str
) -> None:
    body = """
        MODEL = {"type": "object", "properties": {"name": {"type": "string"}}}

        @sync(integration="crm", models={"Item": MODEL}, validate="VALIDATE")
        def items(nango):
            nango.batch_save({"id": 1, "name": "one"})
            yield {"id": 2, "name": "two"}
            yield [{"id": 3, "name": 3}]
        """.replace("VALIDATE", validate)
    outcome = project.run(body, "acme")
    assert (outcome.status == "failed") == (validate == "fail")
    said = " ".join([*outcome.warnings, str(outcome.error)])
    assert "name is a number; wanted string in a record of the yield, items.py line 9 (1)." in said
    assert project.ids() == {"warn": ["1", "2", "3"], "reject": ["1", "2"], "fail": ["1"]}[validate]


def test_a_script_that_hangs_does_not_hold_the_others_up(
    project: ScriptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped at its next call after max_duration, or from outside; the run's other connections are executed."""
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.5)
    for connection_id in ("asks", "loops", "swallows"):
        project.connect(connection_id)
    body = scripted(
        "yield [{'id': nango.connection_id}]",
        "while nango.connection_id == 'asks': nango.metadata",
        "n = 0",
        "while who == 'loops': n += 1",
        "while who == 'swallows':",
        "    try: n += 1",
        "    except Exception: pass",
        options=", max_duration=1",
    ).replace("    yield", "    who = nango.connection_id\n    yield", 1)
    row = project.row(body)
    with runs.Drain(project.db, project.settings, run_id="run") as drain:
        drain.add(row, lambda: row.sync.latest_slot(clock.now()))
        while not drain.is_over:
            drain.next(0.2)
    ended = {job.connection_id: job for job in jobs.list_jobs(project.db, row.id, limit=9)}
    assert {name: job.status for name, job in ended.items()} == {
        "acme": "succeeded", "asks": "failed", "loops": "failed", "swallows": "failed",
    }  # fmt: skip
    assert "stopped after max_duration (1 s); the pages so far are kept. (items.py, line 7)" in (
        ended["asks"].error_message or ""
    )
    for name, line in (("loops", "line 9"), ("swallows", "line 1")):
        assert f"items.py, {line}" in (ended[name].error_message or "")
        assert "it was stopped after max_duration, as it called nothing of nango" in (ended[name].error_message or "")
    assert project.ids() == ["acme", "asks", "loops", "swallows"]


def test_a_call_that_never_returns_is_abandoned_and_can_store_nothing_later(
    project: ScriptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The execution ends after max_duration, with the line; the run's other connections are executed."""
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.3)
    ours, theirs = socket.socketpair()
    for connection_id in ("receives", "sleeps"):
        project.connect(connection_id)
        connections.set_metadata(project.db, "crm", connection_id, {"socket": theirs.fileno()})
    body = scripted(
        "yield [{'id': who}]",
        "if who == 'sleeps': time.sleep(1e6)",
        "if who == 'receives':",
        "    try:",
        "        with socket.socket(fileno=os.dup(nango.metadata['socket'])) as s: s.recv(1)",
        "    except BaseException: nango.batch_save([{'id': 'late'}])",
        options=", max_duration=1",
    ).replace("    yield", "    import os, socket, time\n    who = nango.connection_id\n    yield", 1)
    row = project.row(body)
    with runs.Drain(project.db, project.settings, run_id="run") as drain:
        drain.add(row, lambda: row.sync.latest_slot(clock.now()))
        while not drain.is_over:
            drain.next(0.2)
    ended = {job.connection_id: job for job in jobs.list_jobs(project.db, row.id, limit=9)}
    assert {name: job.status for name, job in ended.items()} == {
        "acme": "succeeded", "receives": "failed", "sleeps": "failed"
    }  # fmt: skip
    for name, line in (("sleeps", 8), ("receives", 11)):
        assert ended[name].error_message == (
            f"items: items.py, line {line}: it was stopped after max_duration, as it called nothing of nango. The call "
            "does not return; its thread stores nothing any more, and ends with the process."
        )
    (sleeping, receiving) = watchdog._abandoned[-2:]
    ours.send(b"x")
    for thread in (sleeping, receiving):
        thread.join(1)
    assert [sleeping.is_alive(), receiving.is_alive()].count(True) == 1
    assert project.ids() == ["acme", "receives", "sleeps"]
    assert project.execute(row, "acme").status == "succeeded"
    ours.close()
    theirs.close()


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_process_whose_scripts_do_not_return_starts_no_more(
    project: ScriptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "MOST_ABANDONED", 0)
    outcome = project.run(scripted("yield [{'id': 1}]"), "acme")
    assert (outcome.error or "").endswith(" scripts of this process do not return from C code.")


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_c_code_that_stops_all_threads_ends_the_process_with_the_line(
    project: ScriptProject, settings_env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that it saved before are kept; the execution counts as lost, and the next one goes on."""
    head = "import os, re\nfrom nango_dagster import sync\nfrom nango_dagster.scripts import watchdog\n"
    body = """
        watchdog.FROZEN_SECONDS = float(os.environ.get("FROZEN_SECONDS", watchdog.FROZEN_SECONDS))
        @sync
        def items(nango):
            nango.batch_save([{"id": 1}])
            re.match(r"(a+)+$", "a" * 40 + "b")
        """
    project.write(body, head=head)
    row = project.row()
    configs = {"NANGO_SYNC_CONFIGS": str(project.folder.absolute())}
    monkeypatch.setenv("FROZEN_SECONDS", "0.5")
    with Workers(tmp_path, {**settings_env, **configs}) as workers:
        with pytest.raises(AssertionError, match="a child ended with 1"):
            workers.run("items")
        assert 'items.py", line 8 in items' in workers.log
    monkeypatch.delenv("FROZEN_SECONDS")
    bury(project.db)
    assert project.ids() == ["1"]
    project.write(body.replace("re.match", "#"), head=head)
    assert project.execute(row).status == "succeeded"
    lost, good = sorted(jobs.list_jobs(project.db, row.id, limit=9), key=lambda job: job.id)
    assert (lost.status, good.status) == ("failed", "succeeded") and "run lost" in (lost.error_message or "")


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_script_that_leaks_memory_is_stopped(project: ScriptProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its saved records are kept."""
    monkeypatch.setattr(watchdog, "_memory", lambda: 3_000_000_000)
    body = scripted("yield {'id': 1}", "leak = []", "while True: leak = [*leak[-9:], 'x' * 1000]")
    outcome = project.run(body, "acme")
    assert outcome.status == "failed"
    assert "items.py, line 7: it was stopped, as the process uses 3.0 GB of memory, more than" in (outcome.error or "")
    assert project.ids() == ["1"]
