"""Trying scripts out: `dry-run`, `test`, and `nango_dagster.testing`."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import sync
from nango_dagster.errors import ApiError, ConfigError, ScriptError
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections
from nango_dagster.testing import replay_file, run_script
from tests.commands import Cli
from tests.conftest import ROOT
from tests.fake_api import Answer, FakeApi, Received, Reply
from tests.script_project import ScriptProject

EXAMPLES = ROOT / "nango_dagster" / "cli" / "script_project"
ON_SQLITE = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
OBJECT = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id", "name"]}
ITEMS = """
OBJECT = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id", "name"]}

@sync(integration="crm", base_url=API + "/v1", models={"Item": OBJECT})
def items(nango):
    since = nango.checkpoint.get("since", "none")
    for team in nango.metadata["teams"]:
        for page in nango.paginate("/items", params={"team": team, "since": since}, response_path="items",
                                   paging_page_request_path="page"):
            yield page
    nango.post("/seen", data={"team": team, "api_key": "hunter22x"})
    nango.batch_delete([{"id": 9}])
    nango.save_checkpoint(since="2026")
"""


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    project = ScriptProject(db, settings, api)
    project.write(ITEMS)

    def answer(request: Received) -> Reply:
        if int(request.params["page"]) > 1:
            return {"items": []}
        return {"items": [{"id": 1, "name": f"of {request.params['team']}, hunter22x"}, {"id": 2}]}

    api.route("/v1/items", answer)
    api.route("/v1/seen", {"ok": True})
    credentials = {"type": "API_KEY", "apiKey": "hunter22x"}
    project.connect(credentials=credentials, metadata={"teams": ["a"]})
    return project


@pytest.fixture
def cli(project: ScriptProject, settings_env: dict[str, str]) -> Cli:
    return Cli({**settings_env, "NANGO_ENCRYPTION_KEY": project.settings.encryption_keys[0]})


@ON_SQLITE
def test_a_dry_run_of_a_script_shows_what_it_would_save(project: ScriptProject, cli: Cli) -> None:
    """It is compared with the model, and nothing is stored."""
    said = cli.good("dry-run", "items", "--json")
    answer = said.json
    assert answer["saved"] == {"Item": [{"id": 1, "name": "of a, ***"}, {"id": 2}]}
    assert (answer["deleted"], answer["checkpoint"]) == ({"Item": ["9"]}, {"since": "2026"})
    assert answer["rejected"] == ["Item: the record 2 does not fit the model: name is missing"]
    assert "Item would" not in said.stdout
    assert project.api.requests[0].params == {"team": "a", "since": "none", "page": "1"}
    assert project.ids() == []
    text = cli.good("dry-run", "items", "--metadata", '{"teams": ["b"]}', "--checkpoint", '{"since": "2025"}').stdout
    assert "items would save 2 records of Item:" in text
    assert {request.params.get("team", "b") for request in project.api.requests[3:]} == {"b"}
    assert project.api.requests[3].params["since"] == "2025"
    assert "wanted a JSON object" in cli("dry-run", "items", "--metadata", "[1]").stderr
    assert "wanted a time" in cli("dry-run", "items", "--last-sync-date", "yesterday").stderr
    assert "'since' is [1]; wanted a text" in cli("dry-run", "items", "--checkpoint", '{"since": [1]}').stderr


@ON_SQLITE
def test_a_dry_run_of_a_config_names_the_options_that_only_scripts_have(project: ScriptProject, cli: Cli) -> None:
    (project.folder / "plain.yaml").write_text(f"url: {project.api.url}/plain")
    said = cli("dry-run", "plain", "--last-sync-date", "2026-01-31", "--variant", "other")
    assert (said.status, said.stderr.strip()) == (
        1,
        "plain is no script; dry-run takes --last-sync-date and --variant for a script only.",
    )


def test_a_trial_refuses_the_checkpoint_that_an_execution_would_refuse() -> None:
    @sync(base_url="https://api.example.com")
    def items(nango: Any) -> None:
        nango.save_checkpoint(pages=[1, 2])

    with pytest.raises(ConfigError, match=r"field 'pages' is \[1, 2\]; wanted a text, a finite number or a boolean"):
        run_script(items)


@ON_SQLITE
def test_a_saved_dry_run_can_be_replayed_without_the_api(project: ScriptProject, cli: Cli) -> None:
    """No secret is in the file; a script that does something else is told of with its first difference."""
    file, path = "tests/items.test.json", Path("tests/items.test.json")
    assert f"nango-dagster test {file}" in cli.good("dry-run", "items", "--save", file).stdout
    text = path.read_text()
    assert "hunter22x" not in text
    document = json.loads(text)
    assert set(document["api"]["get"]["items"][0]) == {"request", "response", "status", "headers", "hash"}
    project.api.kill()
    said = cli("test")
    assert (said.status, said.stdout.splitlines()[0]) == (1, f"failed: {file} (items)")
    assert "Item: the record 2 does not fit the model" in said.stdout
    document["nango"]["batchSave"]["Item"][1]["name"] = "two"
    for answer in document["api"]["get"]["items"][:1]:
        answer["response"]["items"][1]["name"] = "two"
    path.write_text(json.dumps(document))
    assert cli.good("test", file).stdout == f"passed: {file} (items)\n"
    assert replay_file(file, project.folder).checkpoint == {"since": "2026"}
    project.write(ITEMS.replace('since="2026"', 'since="2027"').replace('id": 9', 'id": 8'))
    said = cli("test", "--json")
    (tested,) = said.json["tested"]
    assert tested["differences"] == [
        "batchDelete: deleted {'Item': ['8']}; recorded {'Item': ['9']}",
        "saveCheckpoint: the checkpoint is {'since': '2027'}; recorded {'since': '2026'}",
    ]
    with pytest.raises(AssertionError, match=r"recorded .*2026"):
        replay_file(file, project.folder)
    project.write(ITEMS.replace('"team": team', '"group": team', 1))
    (tested,) = cli("test", "--json").json["tested"]
    assert "has no recorded answer: GET items?group=a&since=none&page=1" in tested["differences"][0]


@ON_SQLITE
def test_a_binary_answer_is_recorded_as_nango_records_it(project: ScriptProject, cli: Cli) -> None:
    project.api.route("/v1/file", (200, {"Content-Type": "application/zip"}, b"PK\xff"))
    project.write("""
        @sync(integration="crm", base_url=API + "/v1")
        def items(nango):
            yield {"id": 1, "name": nango.get("/file").content.hex()}
        """)
    cli.good("dry-run", "items", "--save", "tests/items.test.json")
    document = json.loads(Path("tests/items.test.json").read_text())
    assert document["api"]["get"]["file"]["response"] == {"type": "Buffer", "data": [80, 75, 255]}
    assert cli.good("test").stdout == "passed: tests/items.test.json (items)\n"


NANGOS = {
    "nango": {
        "getMetadata": {"teams": ["x"]},
        "getConnection": {"connection_config": {"subdomain": "acme"}, "credentials": {"type": "BASIC"}},
        "batchSave": {"Thing": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"}]},
    },
    "api": {
        "get": {
            "/items": [
                {"request": {"params": {"page": "1", "tag": ["a", "b"]}}, "response": {"rows": [{"id": 1, "n": "a"}]},
                 "status": 200, "headers": {"date": "x"}, "hash": "0"},
                {"request": {"params": {"page": "2", "tag": "a,b"}}, "response": {"rows": [{"id": 2, "n": "b"}]}},
            ],
            "people%2Fme": {"request": {}, "response": [{"id": 3, "n": "c"}]},
        },
        "post": {"search": [
            {"request": {"data": '{"after":1}'}, "response": {"rows": []}},
            {"request": {"data": '{"after":0}'}, "response": {"rows": [1]}, "status": 429,
             "headers": {"retry-after": "99"}},
            {"request": {"data": '{"after":0}'}, "response": {"rows": [1]}},
        ]},
    },
}  # fmt: skip
NANGOS_SCRIPT = """
@sync(integration="crm", models={"Thing": {"type": "object", "properties": {"id": {"type": "string"}}}})
def other(nango):
    assert nango.connection["connection_config"]["subdomain"] == "acme"
    assert nango.connection["credentials"]["type"] == "BASIC"
    assert nango.metadata == {"teams": ["x"]}
    for number in (1, 2):
        for row in nango.get("/items", params={"page": number, "tag": ["a", "b"]}).data["rows"]:
            nango.batch_save([{"id": str(row["id"]), "name": row["n"]}], "Thing")
    for row in nango.get("people/me").data:
        yield {"id": str(row["id"]), "name": row["n"]}
    assert nango.post("/search", data={"after": 0}, retries=2).data == {"rows": [1]}
    assert nango.post("/search", data={"after": 1}).data == {"rows": []}
"""


@ON_SQLITE
def test_a_file_of_nango_is_replayed_as_it_is(project: ScriptProject, cli: Cli) -> None:
    """Keys may be percent-encoded, with or without a slash; queries and bodies tell answers apart; nothing waits."""
    project.write(NANGOS_SCRIPT, "other.py")
    path = project.folder / "crm" / "tests" / "other.test.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(NANGOS))
    assert cli.good("test").stdout.endswith("other.test.json (other)\n")
    path.rename(path.with_name("nothing.test.json"))
    said = cli("test")
    assert "there is no script nothing; there are crm-items, crm-other." in said.stdout
    path.with_name("nothing.test.json").write_text("[]")
    assert 'it has no "nango"; wanted' in cli("test").stdout


FOLDER_SCRIPT = """
THING = {"type": "object", "properties": {"id": {"type": "string"}}}

@sync(integration="crm", models={"Thing": THING})
def things(nango):
    assert nango.connection["connection_config"]["subdomain"] == "acme"
    for paging in ({"type": "offset", "offset_name_in_request": "skip", "limit_name_in_request": "size",
                    "limit": 1},
                   {"type": "cursor", "cursor_path_in_response": "next", "cursor_name_in_request": "after"},
                   {"type": "link", "link_path_in_response_body": "link"}):
        kind = paging["type"]
        for page in nango.paginate("/v1/" + kind, paginate={**paging, "response_path": "rows"}):
            yield [{"id": kind + row["id"]} for row in page]
    for number in (2, 1):
        yield nango.get("/by-page", params={"number": number}).data
    nango.batch_delete(nango.post("/gone", data={"of": nango.metadata["team"]}).data)
"""


def write_folder(mocks: Path) -> None:
    """The recorded folder of the sync things, beside another script's answers."""
    page = {"rows": [{"id": "1"}], "next": "c2", "link": "/v1/link?page=2"}
    files: dict[str, Any] = {
        "things/Thing/batchSave.json": [{"id": id} for id in ("offset1", "cursor1", "link1", "b", "a")],
        "things/Thing/batchDelete.json": [{"id": "z"}],
        "nango/getConnection.json": {"connection_config": {"subdomain": "acme"}},
        "nango/getMetadata.json": {"team": "x"},
        "nango/get/proxy/v1/offset/things.json": page,
        "nango/get/proxy/v1/offset/others.json": {"rows": [{"id": "of others"}]},
        "nango/get/proxy/v1/cursor/things.json": page,
        "nango/get/proxy/v1/link/things.json": page,
        "nango/post/proxy/things/create.json": {"id": "an endpoint with the name of the sync"},
        "nango/post/proxy/gone/things/" + "c" * 40 + ".json": {
            "requestIdentity": {"method": "post", "endpoint": "gone", "params": [], "data": '{"of":"x"}'},
            "response": [{"id": "z"}], "status": 200, "headers": {},
        },
        "create/input.json": {},
    }  # fmt: skip
    for number, id in ((1, "a"), (2, "b")):
        files["nango/get/proxy/by-page/things/" + str(number) * 40 + ".json"] = {
            "requestIdentity": {"method": "get", "endpoint": "by-page", "params": [["number", str(number)]]},
            "response": [{"id": id}],
            "status": 200,
        }
    for name, content in files.items():
        (mocks / name).parent.mkdir(parents=True, exist_ok=True)
        (mocks / name).write_text(json.dumps(content))


@ON_SQLITE
def test_a_folder_of_nango_is_replayed_as_it_is(project: ScriptProject, cli: Cli) -> None:
    """A body that was recorded without its request is the only page of a list, whatever its paging."""
    project.write(FOLDER_SCRIPT, "things.py")
    mocks = project.folder / "crm" / "mocks"
    write_folder(mocks)
    (project.folder / "node_modules" / "mocks" / "x" / "Y").mkdir(parents=True)
    (project.folder / "node_modules" / "mocks" / "x" / "Y" / "batchSave.json").write_text("[]")
    assert cli.good("test").stdout.endswith("crm/mocks/things (things)\n")
    assert replay_file(mocks / "things", project.folder).deleted == {"Thing": ["z"]}
    (mocks / "things" / "Thing" / "batchSave.json").write_text('[{"id": "offset1"}]')
    assert "batchSave Thing: 5 records; recorded 1" in cli("test", str(mocks / "things")).stdout
    (mocks / "nango" / "getMetadata.json").write_text("{")
    assert "getMetadata.json: it cannot be read" in cli("test").stdout
    assert "there is no file none" in cli("test", "none").stderr
    with pytest.raises(ConfigError, match="no recorded folder; wanted mocks"):
        replay_file(mocks / "create", project.folder)


# --- nango_dagster.testing --------------------------------------------------------------------------------------------


@sync(models={"Item": OBJECT})
def sample(nango: Any) -> Any:
    """A script of this file."""
    start = nango.checkpoint.get("page", 1)
    yield nango.get("/items", params={"page": start}).data
    nango.update_metadata(seen=start)
    nango.save_checkpoint(page=start + 1)


def test_a_function_runs_in_a_test_of_its_own() -> None:
    result = run_script(sample, {"GET /items": [[{"id": 1, "name": "a"}, {"id": 2}]]}, metadata={"a": 1})
    assert result.saved == {"Item": [{"id": 1, "name": "a"}, {"id": 2}]}
    assert (result.checkpoint, result.metadata) == ({"page": 2}, {"a": 1, "seen": 1})
    assert result.rejected == ["Item: the record 2 does not fit the model: name is missing"]
    assert run_script(sample, {"GET /items": {"id": 5, "name": "x"}}, checkpoint={"page": 4}).checkpoint == {"page": 5}


def test_the_errors_of_a_script_are_those_of_its_execution() -> None:
    with pytest.raises(ApiError, match="answered 403 Forbidden"):
        run_script(sample, {"GET /items": (403, {"error": "no"})})
    with pytest.raises(ApiError, match=r"has no recorded answer: GET items\?page=1"):
        run_script(sample)
    with pytest.raises(ConfigError, match="is no script; decorate it with @sync"):
        run_script(print)

    @sync(name="raising")
    def broken(nango: Any) -> Any:
        yield {"id": 1}, {"id": 2}
        nango.batch_save([{"id": 1}], "Contact")

    with pytest.raises(ScriptError, match="the model 'Contact' is not declared; its models are Raising"):
        run_script(broken)


# --- the examples of init --template ----------------------------------------------------------------------------------


@ON_SQLITE
def test_the_examples_do_what_their_recorded_answers_say(settings_env: dict[str, str]) -> None:
    """`init --template` writes five scripts; `test` and their own pytest file run them."""
    cli = Cli(settings_env)
    cli.good("init", ".", "--template")
    assert cli.good("validate").stdout.startswith("7 syncs valid: ")
    assert cli.good("test").stdout.count("passed: tests/") == 6
    assert len(list(Path("sync_configs").glob("*.py"))) == 5
    for file in sorted(Path("tests").glob("*.test.json")):
        replay_file(file, "sync_configs")
    assert "replay_file(file" in Path("tests/test_scripts.py").read_text()


def test_one_table_has_the_contacts_of_two_apis(db: Database, settings: Settings, api: FakeApi) -> None:
    """The example of one model: each row has its sync, and so its integration, and its connection."""
    project = ScriptProject(db, settings, api)
    text = (EXAMPLES / "unified_contacts.py.txt").read_text()
    for url in ("https://api.hubapi.com", "https://api.pipedrive.com/api/v2"):
        text = text.replace(url, api.url)
    (project.folder / "unified_contacts.py").write_text(text)
    ada = {"id": "1", "properties": {"firstname": "Ada", "lastname": "Lovelace", "email": None}}
    api.route("/crm/v3/objects/contacts", {"results": [ada]})
    grace = {"id": 1, "name": "Grace Hopper", "emails": [{"value": "g@example.com", "primary": True}]}
    api.route("/persons", {"data": [grace]})
    rows = project.rows()
    for integration in ("hubspot", "pipedrive"):
        connections.add(db, None, connections.NewConnection(integration, "acme"))
    assert project.execute(rows["hubspot_contacts"], "acme").status == "succeeded"
    outcome = project.execute(rows["pipedrive_persons"], "acme")
    assert outcome.status == "succeeded", outcome.error
    table = "unified_contacts" if db.engine.name == "sqlite" else f"{db.schema}.unified_contacts"
    query = f"SELECT _nango_sync_id, _nango_connection_id, id, name, email FROM {table} ORDER BY name"
    with db.connect() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert found == [
        (rows["hubspot_contacts"].id, "acme", "1", "Ada Lovelace", None),
        (rows["pipedrive_persons"].id, "acme", "1", "Grace Hopper", "g@example.com"),
    ]
    assert project.execute(rows["hubspot_contacts"], "acme").counts.unchanged == 1


def test_the_example_of_the_documentation_runs() -> None:
    """The first block of the page is a script that saves pages and its checkpoint."""
    block = (ROOT / "docs" / "how-to" / "python-scripts.md").read_text().split("```python\n")[1].split("```")[0]
    namespace: dict[str, Any] = {"__name__": "documented"}
    exec(block, namespace)
    issue = {"id": 1, "title": "The door squeaks", "updated_at": "2026-01-02T09:00:00Z"}
    answers = {"GET /repos/acme/widgets/issues": [[issue]]}
    result = run_script(namespace["github_issues"], answers, metadata={"repositories": ["acme/widgets"]})
    assert (result.saved, result.rejected) == ({"Issue": [issue]}, [])
    assert result.checkpoint is not None
    since = datetime.fromisoformat(str(result.checkpoint["updated_after"]).replace("Z", "+00:00"))
    assert timedelta(minutes=1) < datetime.now(timezone.utc) - since < timedelta(minutes=2)


def test_a_message_that_comes_while_another_channel_is_read_is_not_lost() -> None:
    """The example's checkpoint is not later than its start, although the last channel has a newer message."""
    namespace: dict[str, Any] = {"__name__": "example"}
    exec((EXAMPLES / "slack_channel_messages.py.txt").read_text(), namespace)
    answers = {
        "GET /conversations.list": {"channels": [{"id": "C1", "name": "general"}]},
        "GET /conversations.history": {"messages": [{"ts": f"{time.time() + 60:.6f}", "text": "Good morning"}]},
    }
    before = {"oldest": "1767603600.000100"}
    result = run_script(namespace["slack_channel_messages"], answers, checkpoint=before)
    assert result.checkpoint is not None
    assert before["oldest"] < str(result.checkpoint["oldest"]) < f"{time.time() - 59:.6f}"


class _ChangingDeals:
    """A list by the time of the last change, in pages by position. The first deal changes after each page."""

    PAGE = 2

    def __init__(self) -> None:
        self.changed_at = {f"{n}": n for n in range(1, 10)}  # the number of a deal: seconds since 2026
        self.last = 1_000

    def page(self, since: int, position: int) -> tuple[list[str], bool]:
        """The ids of a page, and whether there are more."""
        ids = sorted((id for id, at in self.changed_at.items() if at >= since), key=self.changed_at.__getitem__)
        if len(ids) > position + self.PAGE and self.last < 1_005:
            self.last += 1
            self.changed_at[ids[0]] = self.last
        return ids[position : position + self.PAGE], len(ids) > position + self.PAGE


def _project_of_example(db: Database, settings: Settings, api: FakeApi, name: str) -> ScriptProject:
    """A project with one example, whose API is the fake one."""
    project = ScriptProject(db, settings, api)
    text = (EXAMPLES / f"{name}.py.txt").read_text()
    (project.folder / f"{name}.py").write_text(re.sub(r"https://api\.\w+\.com", api.url, text))
    return project


YEAR = datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_a_deal_that_changes_while_the_list_is_read_costs_no_other_one(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    """The examples read by time and position: a change moves all later records of the list."""
    source = _ChangingDeals()
    project = _project_of_example(db, settings, api, "hubspot_deals")

    def search(request: Received) -> Any:
        body = request.json
        since = int(body["filterGroups"][0]["filters"][0]["value"]) / 1000 - YEAR.timestamp()
        position = int(body.get("after", 0))
        ids, has_more = source.page(max(0, int(since)), position)
        deals = [
            {
                "id": id,
                "properties": {"dealname": id, "amount": "1"},
                "updatedAt": (YEAR + timedelta(seconds=source.changed_at[id])).isoformat(),
            }
            for id in ids
        ]
        return {"results": deals, **({"paging": {"next": {"after": str(position + len(ids))}}} if has_more else {})}

    api.route("/crm/v3/objects/deals/search", search)
    connections.add(db, None, connections.NewConnection("hubspot", "acme"))
    outcome = project.execute(project.rows()["hubspot_deals"], "acme")
    assert outcome.status == "succeeded", outcome.error
    assert sorted(project.ids()) == sorted(source.changed_at)


def test_an_issue_that_changes_while_the_list_is_read_costs_no_other_one(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = _ChangingDeals()
    project = _project_of_example(db, settings, api, "github_repository_issues")

    def issues(request: Received) -> Any:
        since = (
            datetime.fromisoformat(request.params.get("since", "1970-01-01T00:00:00Z").replace("Z", "+00:00")) - YEAR
        ).total_seconds()
        ids, has_more = source.page(max(0, int(since)), (int(request.params.get("page", 1)) - 1) * source.PAGE)
        body = [
            {
                "id": int(id),
                "number": int(id),
                "title": id,
                "state": "open",
                "updated_at": f"{YEAR + timedelta(seconds=source.changed_at[id]):%Y-%m-%dT%H:%M:%SZ}",
            }
            for id in ids
        ]
        link = {"link": f'<?page={int(request.params.get("page", 1)) + 1}>; rel="next"'}
        return Answer(body=body, headers=link if has_more else {})

    api.route("/repos/acme/widgets/issues", issues)
    metadata = {"repositories": {"base": "acme/widgets"}}
    connections.add(db, None, connections.NewConnection("github", "acme", metadata=metadata))
    outcome = project.execute(project.rows()["github_repository_issues"], "acme")
    assert outcome.status == "succeeded", outcome.error
    assert sorted(project.ids()) == sorted(source.changed_at)
