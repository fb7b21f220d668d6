"""TypeScript sync scripts: what each member of `nango` does, and what is stored and kept when a script ends."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from nango_dagster.defs import build_definitions
from nango_dagster.errors import ApiError
from nango_dagster.node.configs import read_configs
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections
from nango_dagster.vault import vault_of
from tests.fake_api import FakeApi, Received, Reply, noted
from tests.node_project import NodeProject

# Node and the engine's client do not depend on the database.
ON_SQLITE = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi, node_root: Path) -> NodeProject:
    project = NodeProject(db, settings, api, node_root)
    project.connect()
    return project


def offsets(request: Received) -> Reply:
    """A list of five items, in pages of two."""
    at = int(request.params.get("offset", 0))
    return {"items": [{"id": str(n), "name": f"item {n}"} for n in range(at, min(at + 2, 5))]}


def test_a_script_pages_through_a_list_and_saves_it(project: NodeProject) -> None:
    project.api.route("/items", offsets)
    outcome = project.outcome("""
        for await (const page of nango.paginate({
            endpoint: '/items',
            paginate: { type: 'offset', offset_name_in_request: 'offset', response_path: 'items', limit: 2,
                        limit_name_in_request: 'limit' },
        })) await nango.batchSave(page, 'Item');
        """)
    assert (outcome.status, outcome.counts.added) == ("succeeded", 5), outcome.error
    assert project.ids() == ["0", "1", "2", "3", "4"]
    sync = project.stored().sync
    assert (sync.description, sync.frequency, sync.model) == ("The items of the CRM.", 120, "Item")


@ON_SQLITE
def test_an_error_names_the_line_of_the_typescript_file(project: NodeProject) -> None:
    outcome = project.outcome("const value: number = 1;\nthrow new Error(`no ${value}`);")
    assert outcome.status == "failed"
    assert "crm/syncs/items.ts:10" in outcome.error and "no 1" in outcome.error


# --- requests --------------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_a_request_has_the_parameters_headers_and_body_that_the_script_gives(project: NodeProject) -> None:
    received: list[Received] = []
    project.api.route("/echo", noted(received, (201, {"X-Total": "7"}, {"n": 1})))
    outcome = project.outcome("""
        const config = { endpoint: '/echo', params: { a: 1, b: true, none: undefined }, headers: { 'X-Own': 'yes' } };
        const { data, status, headers } = await nango.post({ ...config, data: { name: 'Zoë', at: null } });
        await nango.put({ endpoint: 'echo', data: new URLSearchParams({ x: 'y z' }) });
        const plain = { data: 'plain', headers: { 'Content-Type': 'text/plain' } };
        await nango.proxy({ endpoint: '/echo', method: 'PATCH', ...plain });
        await nango.delete({ endpoint: '/echo' });
        await nango.batchSave([{ id: 'answer', data, status, total: headers['x-total'] }], 'Item');
        """)
    assert outcome.status == "succeeded", outcome.error
    assert project.texts()["answer"] == '{"id":"answer","data":{"n":1},"status":201,"total":"7"}'
    post, put, patch, delete = received
    assert (post.method, post.params, post.headers["X-Own"]) == ("POST", {"a": "1", "b": "true"}, "yes")
    assert post.json == {"name": "Zoë", "at": None}
    assert (put.method, put.body) == ("PUT", b"x=y+z")
    assert (patch.method, patch.body, patch.headers["Content-Type"]) == ("PATCH", b"plain", "text/plain")
    assert (delete.method, delete.body) == ("DELETE", b"")


@ON_SQLITE
def test_an_error_of_the_api_is_that_of_axios(project: NodeProject) -> None:
    project.api.route("/none", (404, {"X-Why": "gone"}, {"error": "none"}))
    project.api.route("/text", (200, {"Content-Type": "text/plain"}, "plain text"))
    outcome = project.outcome("""
        let seen: any;
        try { await nango.get({ endpoint: '/none' }); } catch (error: any) { seen = error; }
        const { isAxiosError, code, message, response, config } = seen;
        const text = (await nango.get({ endpoint: '/text' })).data;
        const bytes = (await nango.get({ endpoint: '/text', responseType: 'arraybuffer' })).data;
        await nango.batchSave([{ id: '1', isAxiosError, code, message, status: response.status, data: response.data,
            why: [response.headers['x-why'], response.headers.get('X-Why')], text, size: bytes.length,
            isError: seen instanceof Error, request: [config.method, config.url.slice(-5), response.statusText],
        }], 'Item');
        """)
    assert outcome.status == "succeeded", outcome.error
    assert json.loads(project.texts()["1"]) == {
        "id": "1", "isAxiosError": True, "code": "ERR_BAD_REQUEST", "message": "Request failed with status code 404",
        "status": 404, "data": {"error": "none"}, "why": ["gone", "gone"], "text": "plain text", "size": 10,
        "isError": True, "request": ["get", "/none", "Not Found"],
    }  # fmt: skip


@ON_SQLITE
def test_an_error_that_a_script_lets_pass_is_that_of_the_api(project: NodeProject) -> None:
    """The connection's state and the advice to try later are as for other syncs."""
    project.api.route("/none", (404, {}, {"error": "none"}))
    outcome = project.outcome("await nango.get({ endpoint: '/none' });")
    assert isinstance(outcome.cause, ApiError) and outcome.cause.status == 404
    assert "crm/syncs/items.ts:9" in str(outcome.error) and "404" in str(outcome.error)


@ON_SQLITE
def test_retries_are_those_of_the_script(project: NodeProject) -> None:
    project.api.script("/once", (500, {}, {}), {"ok": True})
    project.api.script("/odd", (409, {"Retry-After": "0"}, {}), {"ok": True})
    outcome = project.outcome("""
        await nango.get({ endpoint: '/odd', retries: 1, retryOn: [409] });
        try { await nango.get({ endpoint: '/once' }); } catch (error: any) {
            await nango.batchSave([{ id: String(error.response.status) }], 'Item');
        }
        """)
    assert (outcome.status, project.ids()) == ("succeeded", ["500"]), outcome.error


PAGES = {
    "cursor": """
        { type: 'cursor', cursor_path_in_response: 'paging.next', cursor_name_in_request: 'after',
          response_path: 'items' }
        """,
    "link": "{ type: 'link', link_path_in_response_body: '@odata.nextLink', response_path: 'items' }",
    "body": """
        { type: 'cursor', cursor_path_in_response: 'paging.next', cursor_name_in_request: 'page.after',
          response_path: 'items' }
        """,
}


@ON_SQLITE
@pytest.mark.parametrize("way", PAGES)
def test_paginate_reads_all_pages_and_tells_on_page_after_each(project: NodeProject, way: str) -> None:
    def answer(request: Received) -> Reply:
        body = request.json or {}
        at = int(request.params.get("after") or (body.get("page") or {}).get("after") or 0)
        more = {"paging": {"next": at + 1}, "@odata.nextLink": f"{project.api.url}/items?after={at + 1}"}
        return {"items": [{"id": f"{at}"}], **(more if at < 2 else {})}

    project.api.route("/items", answer)
    method = ", method: 'POST', data: { filter: 'x' }" if way == "body" else ""
    outcome = project.outcome(f"""
        const seen: any[] = [];
        const paginate = {{ ...{PAGES[way].strip()}, on_page: async (page: any) => {{ seen.push(page); }} }};
        for await (const page of nango.paginate({{ endpoint: '/items'{method}, paginate }})) {{
            await nango.batchSave(page, 'Item');
        }}
        await nango.batchSave([{{ id: 'seen', n: seen.length, status: seen[0].response.status,
                                  next: seen.map((page) => page.nextPageParam ?? 'none') }}], 'Item');
        """)
    assert outcome.status == "succeeded", outcome.error
    assert project.ids() == ["0", "1", "2", "seen"]
    seen = json.loads(project.texts()["seen"])
    assert (seen["n"], seen["status"], seen["next"][-1]) == (3, 200, "none")


@ON_SQLITE
def test_a_list_that_a_script_leaves_early_ends(project: NodeProject) -> None:
    project.api.route("/items", lambda request: {"items": [{"id": "1"}], "next": request.target + "x"})
    outcome = project.outcome("""
        const paginate = { type: 'cursor', cursor_path_in_response: 'next', cursor_name_in_request: 'a',
                           response_path: 'items' };
        for await (const page of nango.paginate({ endpoint: '/items', paginate })) break;
        """)
    assert (outcome.status, outcome.counts.requests) == ("succeeded", 1), outcome.error


# --- records, progress and the connection ----------------------------------------------------------------------------


def test_records_are_updated_and_deleted(project: NodeProject) -> None:
    outcome = project.outcome("""
        await nango.batchSave([], 'Item');
        const twice = [{ id: 1, a: { x: 1, y: 2 } }, { id: '1', a: {} }];
        await nango.batchSave([...twice, { id: 2 }, { id: 3, u: undefined }], 'Item');
        await nango.batchUpdate([{ id: '1', a: { y: 3 } }, { id: 'unknown' }], 'Item');
        await nango.batchDelete([{ id: 2 }], 'Item');
        const stored = await nango.getRecordsByIds(['1', 'none'], 'Item');
        const listed: any[] = [];
        for await (const record of nango.listRecords('Item')) listed.push(record.id);
        const seen = { one: stored.get('1').a, size: stored.size, listed: listed.sort() };
        await nango.batchSave([{ id: 'seen', ...seen }], 'Item');
        """)
    assert outcome.status == "succeeded", outcome.error
    texts = project.texts()
    assert json.loads(texts["1"]) == {"id": "1", "a": {"x": 1, "y": 3}}
    assert json.loads(texts["3"]) == {"id": 3}
    assert project.ids() == ["1", "3", "seen"]
    assert json.loads(texts["seen"]) == {
        "id": "seen", "one": {"x": 1, "y": 3}, "size": 1, "listed": ["1", 2, 3],
    }  # fmt: skip


def test_a_deletion_window_and_a_checkpoint_go_over_two_executions(project: NodeProject) -> None:
    body = """
        const checkpoint = await nango.getCheckpoint();
        if (nango.lastSyncDate === undefined && checkpoint === null) {
            await nango.batchSave([{ id: 'ghost' }], 'Item');
            return await nango.saveCheckpoint({ phase: 'first', n: 1 });
        }
        if (checkpoint.phase === 'first') {
            await nango.trackDeletesStart('Item');
            await nango.batchSave([{ id: 'a' }], 'Item');
            await nango.saveCheckpoint({ phase: 'second' });
            throw new nango.ActionError({ message: 'killed here' });
        }
        await nango.trackDeletesStart('Item');
        await nango.batchSave([{ id: 'b' }], 'Item');
        const { deletedKeys } = await nango.trackDeletesEnd('Item');
        await nango.clearCheckpoint();
        await nango.batchSave([{ id: 'deleted', deletedKeys }], 'Item');
        """
    first, second, third = (project.outcome(body) for _ in range(3))
    assert (first.status, third.status) == ("succeeded", "succeeded"), third.error
    assert second.status == "failed" and "killed here" in str(second.error)
    assert project.ids() == ["a", "b", "deleted"]
    assert json.loads(project.texts()["deleted"])["deletedKeys"] == ["ghost"]
    assert project.checkpoint() is None


def test_a_script_sees_its_connection(project: NodeProject) -> None:
    held = {"type": "API_KEY", "apiKey": "k1", "header": "X-Key"}
    new = connections.NewConnection("crm", "acme", credentials=held, metadata={"a": 1}, config={"region": "eu"})
    connections.add(project.db, vault_of(project.settings), new)
    received: list[Received] = []
    project.api.route("/items", noted(received, {}))
    outcome = project.outcome(
        """
        await nango.get({ endpoint: '/items' });
        await nango.get({ endpoint: '/items', baseUrlOverride: 'API'.replace('127.0.0.1', 'localhost') });
        const own = { providerConfigKey: 'crm', connectionId: 'acme' };
        await nango.get({ endpoint: '/items', ...own });
        const others = [nango.get({ endpoint: '/items', ...own, connectionId: 'other' }), nango.getConnection('erp')];
        const refused = (await Promise.allSettled(others)).map((it: any) => it.reason.message);
        await nango.updateMetadata({ b: 2 });
        const { connection_config, credentials, provider_config_key } = await nango.getConnection();
        const seen = { connection_config, credentials, provider_config_key, refused, token: await nango.getToken() };
        await nango.batchSave([{ id: '1', ...seen, metadata: await nango.getMetadata(), variant: nango.variant,
            connection: nango.connectionId }], 'Item');
        """.replace("API", project.api.url)
    )
    assert outcome.status == "succeeded", outcome.error
    assert [request.headers["X-Key"] for request in received] == ["k1", None, "k1"]
    seen = json.loads(project.texts()["1"])
    assert (seen["connection_config"], seen["credentials"]["apiKey"]) == ({"region": "eu"}, "k1")
    assert all("was asked for another" in sentence for sentence in seen["refused"])
    assert (seen["metadata"], seen["variant"], seen["connection"]) == ({"a": 1, "b": 2}, "base", "acme")


def test_other_members_answer_as_in_nango(project: NodeProject) -> None:
    project.api.route("/open", lambda request: {"got": request.body.decode()})
    outcome = project.outcome(
        """
        await nango.setMergingStrategy({ strategy: 'ignore_if_modified_after' }, 'Item');
        const locks = [await nango.tryAcquireLock({ key: 'k', ttlMs: 1000 }), await nango.releaseLock({ key: 'k' })];
        await nango.releaseAllLocks();
        const fetched = await nango.uncontrolledFetch({ url: new URL('API/open'), method: 'POST', body: 'x' });
        const environment = await nango.getEnvironmentVariables();
        const schema = { safeParse: (input: any) => ({ success: false, error: { issues: [input] } }) };
        let invalid: any;
        try { await nango.zodValidateInput({ zodSchema: schema as any, input: 1 }); } catch (error) { invalid = error; }
        await nango.batchSave([{ id: '1', locks, ok: fetched.ok, open: await fetched.json(), environment,
            invalid: invalid.payload.message, isAction: invalid instanceof nango.ActionError }], 'Item');
        """.replace("API", project.api.url)
    )
    assert outcome.status == "succeeded", outcome.error
    assert json.loads(project.texts()["1"]) == {
        "id": "1", "locks": [True, True], "ok": True, "open": {"got": "x"}, "environment": [],
        "invalid": "Invalid input provided", "isAction": True,
    }  # fmt: skip


# --- files and models ------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_a_script_of_several_files_runs_as_typescript_means_it(project: NodeProject) -> None:
    """Types are dropped, also imported ones without `type`; an enum is compiled; a helper is found as `.js`."""
    project.file("crm/types.ts", "export interface Row { id: string }\nexport type Other = number;\n")
    project.file(
        "crm/helpers/index.ts",
        """
        import type { Row } from '../types.js';
        export enum Color { Red = 'red' }
        export const colored = (row: Row) => ({ ...row, color: Color.Red, pattern: /[/]'"/.test("/'") });
        export default function count(n: number): number { return n + 1; }
        """,
    )
    project.script("const rows: Row[] = [{ id: '1' }]; await nango.batchSave(rows.map(colored), 'Item'); count(1);")
    file = project.root / "crm/syncs/items.ts"
    imports = "import { Row, Other } from '../types.js';\nimport count, { colored } from '../helpers/index.js';\n"
    file.write_text(imports + file.read_text())
    outcome = project.execute(project.stored(), "acme")
    assert outcome.status == "succeeded", outcome.error
    assert json.loads(project.texts()["1"]) == {"id": "1", "color": "red", "pattern": False}


@ON_SQLITE
def test_the_models_of_a_script_are_declared(project: NodeProject) -> None:
    sync = project.script("return;").sync
    assert sync.models["Item"]["properties"] == {"id": {"type": "string"}, "name": {"type": "string"}}
    assert (sync.unique_key, sync.auto_start, sync.integration) == ("id", True, "crm")


@ON_SQLITE
def test_the_definitions_read_the_manifest_alone(project: NodeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that has changed since keeps its described version until the next validate, dev or run."""
    before = project.script("return;").sync
    project.file("crm/syncs/items.ts", "this is no script")
    monkeypatch.setattr("subprocess.Popen", None)
    [sync] = read_configs(project.settings).syncs
    assert sync == before
    definitions = build_definitions(settings=project.settings)
    [spec] = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.path == ["crm", "items"]]
    assert "typescript" in spec.kinds


@ON_SQLITE
def test_a_script_that_cannot_be_described_is_an_error_with_its_file(project: NodeProject) -> None:
    project.file("crm/syncs/items.ts", "import { z } from 'zood';\nexport default z;\n")
    project.file("index.ts", "import './crm/syncs/items.js';\n")
    [error] = project.configs().errors
    assert "the package 'zood' is not in the project's node_modules" in str(error)
    assert "npm install zood" in str(error) and "crm/syncs/items.ts" in str(error)


@ON_SQLITE
def test_the_provider_of_an_integration_fills_in_what_it_does_not_declare(project: NodeProject) -> None:
    """Alternatives of the base URL and headers depend on the connection; paging options are defaults of `paginate`."""
    providers = f"""
        shop:
            proxy:
                base_url: http://${{connectionConfig.host}}/v1 || {project.api.url}/v1
                headers: {{ x-shop: '${{apiKey}}', x-missing: '${{connectionConfig.none}}' }}
                paginate:
                    {{ type: cursor, cursor_path_in_response: next, cursor_name_in_request: c, response_path: rows }}
        store: {{ alias: shop, display_name: Store }}
        """
    project.file("node_modules/@nangohq/providers/providers.yaml", textwrap.dedent(providers))
    (project.folder / "integrations.yaml").write_text("crm:\n  display_name: CRM\n  provider: store\n")
    held = {"type": "API_KEY", "apiKey": "k1"}
    new = connections.NewConnection("crm", "acme", credentials=held)
    connections.add(project.db, vault_of(project.settings), new)
    received: list[Received] = []
    project.api.route("/v1/items", noted(received, {"rows": [{"id": "1"}]}))
    outcome = project.outcome("""
        const { provider } = await nango.getIntegration();
        for await (const page of nango.paginate<any>({ endpoint: '/items' }))
            await nango.batchSave(page.map((row) => ({ ...row, name: `${nango.provider} ${provider}` })), 'Item');
        """)
    (project.root / "node_modules/@nangohq/providers/providers.yaml").unlink()
    assert (outcome.status, project.ids()) == ("succeeded", ["1"]), outcome.error
    assert json.loads(project.texts()["1"])["name"] == "store store"
    headers = received[0].headers
    assert (headers["x-shop"], headers["x-missing"], headers["Authorization"]) == ("k1", None, None)


@ON_SQLITE
def test_a_sync_of_a_nango_yaml_runs_its_typescript_function(project: NodeProject) -> None:
    declarations = """
        integrations:
            crm:
                syncs:
                    rows:
                        runs: every 30 minutes
                        output: Row
                        sync_type: full
                        endpoint: GET /rows
        models:
            Row:
                id: string
                name?: string
        """
    (project.root / "index.ts").unlink(missing_ok=True)
    project.file("nango.yaml", textwrap.dedent(declarations))
    project.file(
        "crm/syncs/rows.ts",
        """
        import type { NangoSync, Row } from '../../models';
        export default async function fetchData(nango: NangoSync): Promise<void> {
            const rows: Row[] = [{ id: 'a' }];
            await nango.batchSave(rows, 'Row');
        }
        """,
    )
    row = project.stored("rows")
    outcome = project.execute(row, "acme")
    (project.root / "nango.yaml").unlink()
    assert (outcome.status, project.ids()) == ("succeeded", ["a"]), outcome.error
    assert (row.sync.frequency, row.sync.model, row.sync.unique_key) == (30, "Row", "id")


@ON_SQLITE
def test_a_newer_build_of_the_project_is_used(project: NodeProject) -> None:
    """Its source map leads errors to the `.ts` file, and syntax that needs a compiler is no matter."""
    row = project.script("await nango.batchSave([{ id: 'source' }], 'Item');")
    code = """
        "use strict";
        Object.defineProperty(exports, "__esModule", { value: true });
        const { createSync } = require("nango");
        exports.default = createSync({
            frequency: "every hour", models: { Item: {} },
            exec: async (nango) => { await nango.batchSave([{ id: "built" }], "Item"); },
        });
        """
    project.file("build/crm_syncs_items.cjs", code)
    outcome = project.execute(project.stored(row.name), "acme")
    (project.root / "build/crm_syncs_items.cjs").unlink()
    assert (outcome.status, project.ids()) == ("succeeded", ["built"]), outcome.error


@ON_SQLITE
def test_an_integration_without_a_base_url_is_an_error_that_names_both_ways(project: NodeProject) -> None:
    (project.folder / "integrations.yaml").write_text("crm:\n  display_name: CRM\n")
    outcome = project.outcome("await nango.get({ endpoint: '/items' });")
    assert outcome.status == "failed"
    assert "integrations.yaml" in str(outcome.error) and "@nangohq/providers" in str(outcome.error)


@ON_SQLITE
def test_a_script_with_an_error_is_described_again_after_npm_install(project: NodeProject) -> None:
    """The files of the script are the same; only node_modules has changed."""
    project.script("return;")
    file = project.root / "crm/syncs/items.ts"
    file.write_text("import later from 'later';\n" + file.read_text().replace("return;", "later();"))
    assert "npm install later" in str(project.configs().errors[0])
    project.file("node_modules/later/package.json", '{"name": "later", "main": "index.cjs"}')
    project.file("node_modules/later/index.cjs", "module.exports = () => 1;")
    assert project.configs().errors == ()
