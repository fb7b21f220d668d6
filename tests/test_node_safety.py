"""Hostile and broken TypeScript scripts: their own executions fail with a sentence, the others go on."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from nango_dagster import runs
from nango_dagster.node.host import Limits
from nango_dagster.node.pool import Pool
from nango_dagster.node.source import NodeScript
from nango_dagster.runs import Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.conftest import ROOT
from tests.executions import until
from tests.fake_api import FakeApi, Received, Reply
from tests.node_project import SYNC, NodeProject

# The limits of a script's process do not depend on the database.
pytestmark = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Processes with narrow limits."""
    pool = Pool(Limits(heap_megabytes=64, silence=1.0))
    yield pool
    pool.close()


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi, node_root: Path) -> NodeProject:
    project = NodeProject(db, settings, api, node_root)
    project.connect()
    return project


def run(project: NodeProject, row: SyncRow, pool: Pool) -> Outcome:
    with runs.claimed(project.db, project.settings, row, connection_id="acme") as execution:
        return replace(execution, source=NodeScript(row.sync, project.settings.home, pool)).run()


ENDLESS = {
    "for (;;);": "blocked its process for 1 s",
    "await new Promise((done) => setTimeout(() => { for (;;); }, 1));": "blocked its process for 1 s",
    "const all: any[] = []; for (;;) all.push(new Array(1000).fill(all.length));": "used more than 64 MB of memory",
}


@pytest.mark.parametrize("body", ENDLESS)
def test_a_script_that_takes_the_process_down_fails_alone(project: NodeProject, pool: Pool, body: str) -> None:
    """The script beside it begins once more in another process, and saves the same records."""
    started, blocked = threading.Event(), threading.Event()

    def items(request: Received) -> Reply:
        started.set()
        blocked.wait(20)
        return {"items": [{"id": "1"}, {"id": "2"}]}

    project.api.route("/items", items)

    def block(request: Received) -> Reply:
        blocked.set()
        return {}

    project.api.route("/block", block)
    files = {
        "good": "const { data } = await nango.get({ endpoint: '/items' }); await nango.batchSave(data.items, 'Item');"
    }
    files["bad"] = f"await nango.get({{ endpoint: '/block' }}); {body}"
    for name, text in files.items():
        source = SYNC.lstrip().replace("BODY", text).replace("Item", name.title() if name == "good" else "Bad")
        project.file(f"crm/syncs/{name}.ts", source.replace("'Item'", f"'{name.title()}'"))
    project.file("index.ts", "import './crm/syncs/good.js';\nimport './crm/syncs/bad.js';\n")
    good, bad = project.stored("good"), project.stored("bad")
    with ThreadPoolExecutor() as threads:
        innocent = threads.submit(run, project, good, pool)
        assert started.wait(20)
        guilty = threads.submit(run, project, bad, pool)
        assert guilty.result(60).status == "failed"
        assert innocent.result(60).status == "succeeded", innocent.result().error
    assert f"bad: crm/syncs/bad.ts: the script {ENDLESS[body]}" in str(guilty.result().error)
    assert project.ids("Good") == ["1", "2"]


@pytest.mark.parametrize("page", [0, 2])
def test_an_execution_whose_process_is_killed_begins_once_more(project: NodeProject, pool: Pool, page: int) -> None:
    """It goes on at its checkpoint, and the records are those of an execution that nobody disturbed."""
    pids: list[int] = []

    def items(request: Received) -> Reply:
        at = int(request.params["page"])
        if at == page and not pids:
            pids.extend(node_pids())
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        return {"items": [{"id": f"{at}"}]}

    project.api.route("/items", items)
    row = project.script("""
        await nango.trackDeletesStart('Item');
        for (let page = ((await nango.getCheckpoint()) ?? { page: 0 }).page; page < 4; page++) {
            const { data } = await nango.get({ endpoint: '/items', params: { page } });
            await nango.batchSave(data.items, 'Item');
            await nango.saveCheckpoint({ page: page + 1 });
        }
        await nango.trackDeletesEnd('Item');
        await nango.clearCheckpoint();
        """)
    outcome = run(project, row, pool)
    assert pids and outcome.status == "succeeded", outcome.error
    assert project.ids() == ["0", "1", "2", "3"]
    assert project.checkpoint() is None


FAILURES = {
    "await new Promise(() => setTimeout(() => { throw new Error('late'); }, 1));": "Error: late",
    "nango.get({ endpoint: '/none' }); await new Promise(() => {});": "404",
    "throw null;": "the script threw",
    "throw { toString() { throw 1; } };": "the script threw",
    "await nango.batchSave([{ id: '1' }], 'Other');": "Other",
    "await nango.triggerAction('a');": "does not run here",
    "const name = 'node:fs'; await import(name);": "Error: crm/syncs/bad-6.ts: the module 'node:fs' is not available",
    "fetch('https://example.com');": "fetch is not defined",
    "process.exit();": "process is not defined",
    "eval(\"import('node:fs')\");\nawait eval(\"import('node:fs')\");": "import",
    "await nango.get.constructor(\"return import('node:net')\")();": "import",
    "nango.get.constructor('return process.getBuiltinModule(\"fs\")')();": "getBuiltinModule is not a function",
}


def test_a_script_that_does_what_it_may_not_fails_with_a_sentence(project: NodeProject, pool: Pool) -> None:
    project.api.route("/none", (404, {}, {"error": "none"}))
    names = {f"bad-{number}": body for number, body in enumerate(FAILURES)}
    for number, (name, body) in enumerate(names.items()):
        project.file(f"crm/syncs/{name}.ts", SYNC.lstrip().replace("BODY", body).replace("Item", f"Bad{number}"))
    project.file("index.ts", "".join(f"import './crm/syncs/{name}.js';\n" for name in names))
    configs = project.configs()
    assert not configs.errors
    rows = syncs.register(project.db, configs.syncs)
    outcomes = {body: run(project, rows[name], pool) for name, body in names.items()}
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert {body: outcome.error for body, outcome in outcomes.items() if FAILURES[body] not in str(outcome.error)} == {}


def test_a_module_that_reaches_out_is_refused_when_the_script_is_described(project: NodeProject) -> None:
    modules = ["fs", "node:http", "child_process", "worker_threads"]
    for number, module in enumerate(modules):
        project.file(f"crm/syncs/out-{number}.ts", f"import * as it from '{module}';\nit.go();\nexport default it;\n")
    project.file("index.ts", "".join(f"import './crm/syncs/out-{number}.js';\n" for number in range(len(modules))))
    errors = project.configs().errors
    assert len(errors) == len(modules)
    for module, error in zip(modules, errors, strict=True):
        assert f"the module '{module}' is not available" in str(error)


def test_a_package_gets_neither_files_nor_sockets(project: NodeProject, pool: Pool) -> None:
    """A package may import such modules, as many do for other uses; what it calls there fails."""
    project.file("node_modules/reader/package.json", '{"name": "reader", "main": "index.cjs"}')
    code = "const fs = require('fs'); exports.read = () => fs.readFileSync('/etc/passwd', 'utf8');"
    project.file("node_modules/reader/index.cjs", code)
    row = project.script("await nango.batchSave([{ id: reader.read() }], 'Item');")
    file = project.root / "crm/syncs/items.ts"
    file.write_text("import reader from 'reader';\n" + file.read_text())
    outcome = run(project, project.stored(row.name), pool)
    assert "a sync script has no files, processes or network of its own" in str(outcome.error)


def test_credentials_that_a_script_prints_are_starred(
    project: NodeProject, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:

    held = {"type": "API_KEY", "apiKey": "s3cr3t-key"}
    new = connections.NewConnection("crm", "acme", credentials=held)
    connections.add(project.db, vault_of(project.settings), new)
    body = """
        const { credentials } = await nango.getConnection();
        console.log(credentials);
        await nango.log('the key', credentials);
        throw new Error(JSON.stringify(credentials));
        """
    with caplog.at_level(logging.INFO):
        outcome = run(project, project.script(body), pool)
    assert "the key" in caplog.text
    assert "s3cr3t-key" not in caplog.text + str(outcome.error)


@pytest.mark.parametrize(
    ("limits", "most"), [(Limits(executions=2), 4), (Limits(megabytes=1), 6)], ids=["count", "memory"]
)
def test_processes_are_replaced_and_no_execution_is_lost(project: NodeProject, limits: Limits, most: int) -> None:
    """Executions side by side end in the process in which they began; a process ends after its last one."""
    pids: set[int] = set()

    def items(request: Received) -> Reply:
        pids.update(node_pids())
        return {"items": [{"id": request.params["of"]}]}

    project.api.route("/items", items)
    row = project.script("""
        const { data } = await nango.get({ endpoint: '/items', params: { of: nango.connectionId } });
        await nango.batchSave(data.items, 'Item');
        """)
    names = [f"c{number}" for number in range(6)]
    connections.add_all(project.db, None, [connections.NewConnection("crm", name) for name in names])
    pool, others = Pool(limits), node_pids()

    def execute(name: str) -> str:
        with runs.claimed(project.db, project.settings, row, connection_id=name) as execution:
            return replace(execution, source=NodeScript(row.sync, project.settings.home, pool)).run().status

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(execute, names)) == ["succeeded"] * 6
    assert project.ids() == names
    assert 3 <= len(pids - others) <= most
    assert len(node_pids() - others) == 1
    pool.close()
    assert node_pids() == others


def node_pids() -> set[int]:
    """The Node processes of this one; without those that end at this moment."""
    pids = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "host.mjs" in str(child.cmdline()):
                pids.add(child.pid)
    return pids


def test_values_at_the_top_of_a_file_belong_to_one_execution(project: NodeProject, pool: Pool) -> None:
    row = project.script("seen.push('x'); await nango.batchSave([{ id: String(seen.length) }], 'Item');")
    file = project.root / "crm/syncs/items.ts"
    file.write_text("const seen: string[] = [];\n" + file.read_text())
    row = project.stored(row.name)
    assert [run(project, row, pool).counts.added for _ in range(3)] == [1, 0, 0]


def test_the_node_process_ends_with_its_parent_also_while_a_script_blocks_it(
    settings: Settings, tmp_path: Path
) -> None:
    program = """
        import json, sys
        from pathlib import Path
        from nango_dagster.node.host import Host
        host = Host(Path(sys.argv[1]))
        code = "exports.default = { exec: () => { for (;;); } };"
        bundle = '{"entry": "/a.ts", "root": "/", "modules": {"/a.ts": {"code": %s, "imports": []}}}'
        host.run("x", (bundle % json.dumps(code)).encode(), {"properties": {}})
        print(host.pid, flush=True)
        sys.stdin.read()
        """
    arguments = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        node = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not node.is_running() or node.status() == psutil.STATUS_ZOMBIE, 10, "Node has ended")
