"""Sync scripts in Python: what each member of `nango` does, and what is stored and kept when a script ends."""

from __future__ import annotations

import builtins
import gc
import json
import os
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster import clock
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, schema, script_locks
from tests.fake_api import Answer, FakeApi, Received, Reply
from tests.script_project import ScriptProject


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    return ScriptProject(db, settings, api)


def pages(*several: list[dict[str, Any]]) -> Any:
    """An API of pages 1, 2, ... with the number of the next one."""

    def answer(request: Received) -> Reply:
        number = int(request.params.get("page", 1))
        return {"items": several[number - 1], "next": number + 1 if number < len(several) else None}

    return answer


def test_a_script_saves_the_pages_that_it_yields(project: ScriptProject) -> None:
    """Records that it does not look at are stored as the API sent them."""
    project.api.route("/items", pages([{"id": 1, "price": 1.10}], [{"id": 2}]))
    project.write("""
        @sync(integration="crm", base_url=API)
        def items(nango):
            '''The items of the CRM.'''
            for page in nango.paginate("/items", response_path="items",
                                       paging_cursor_request_path="page",
                                       paging_cursor_metadata_response_path="next"):
                yield page
        """)
    project.connect()
    outcome = project.run(connection_id="acme")
    assert (outcome.status, outcome.counts.added, outcome.counts.pages) == ("succeeded", 2, 2), outcome.error
    assert project.ids() == ["1", "2"]
    assert json.loads(project.texts()["1"]) == {"id": 1, "price": 1.10}
    assert project.row().sync.description == "The items of the CRM."


# --- the safety of deletions, and what a failed execution keeps -------------------------------------------------------


def scripted(*lines: str, options: str = "") -> str:
    """A script with these lines as its function's body."""
    body = "\n".join(f"    {line}" for line in lines)
    return f"@sync(integration='crm', base_url=API{options})\ndef items(nango):\n{body}\n"


TRACKED = ", track_deletes={'max_fraction': 1.0}"
FULL = "yield [{'id': n} for n in (1, 2, 3)]"


@pytest.mark.parametrize(
    ("lines", "options", "kept", "status"),
    [
        # name: what the second execution does after the first one saved 1, 2 and 3
        (["yield [{'id': 1}]"], TRACKED, "1", "succeeded"),
        (["yield [{'id': 1}]"], "", "123", "succeeded"),
        (["return", "yield"], TRACKED, "", "succeeded"),
        (["yield [{'id': 1}]", "raise ValueError('x')"], TRACKED, "123", "failed"),
        (["yield [{'id': 1}]", "nango.save_checkpoint(page=2)"], TRACKED, "123", "succeeded"),
        (["yield [{'id': 1}]", "nango.save_checkpoint(page=2)", "nango.clear_checkpoint()"], TRACKED, "1", "succeeded"),
        (["yield [{'id': 1}, {'name': 'no key'}]"], TRACKED, "123", "succeeded"),
        (["with nango.track_deletes():", "    yield [{'id': 1}]"], TRACKED, "1", "succeeded"),
        (["nango.track_deletes_start()", "yield [{'id': 1}]"], "", "123", "succeeded"),
        (["with nango.track_deletes():", "    yield [{'id': 1}]", "    raise ValueError('x')"], "", "123", "failed"),
        (["nango.batch_delete([{'id': 2}])", "nango.batch_delete(3)"], "", "1", "succeeded"),
    ],
    ids=[
        "tracked", "not tracked", "nothing yielded", "raises", "checkpoint kept", "checkpoint cleared", "rejected",
        "window", "window left open", "raises in a window", "batch_delete",
    ],
)  # fmt: skip
def test_what_is_deleted(project: ScriptProject, lines: list[str], options: str, kept: str, status: str) -> None:
    project.connect()
    project.run(scripted(FULL, options=options), "acme")
    outcome = project.run(scripted(*lines, options=options), "acme", accept_deletes=True)
    assert (outcome.status, "".join(project.ids())) == (status, kept), outcome.error


def test_garbage_is_collected_as_before_after_a_script(project: ScriptProject) -> None:
    """While it runs, collections skip the objects that were there before; those of the process itself stay exempt."""
    project.connect()
    gc.unfreeze()
    script = scripted("import gc", "yield [{'id': gc.get_freeze_count() > 1000}]", "raise ValueError('x')")
    assert project.run(script, "acme").status == "failed"
    assert (project.ids(), gc.get_freeze_count()) == (["true"], 0)
    gc.freeze()
    project.run(script, "acme")
    assert gc.get_freeze_count() > 1000


def test_a_failed_execution_keeps_its_batches_and_its_checkpoint(project: ScriptProject) -> None:
    """It names the line of the script; the date of the last sync stays, and nothing is deleted."""
    project.connect()
    body = scripted(
        "start = nango.checkpoint.get('page', 1)",
        "nango.log(f'{start} {nango.last_sync_date}')",
        "for page in range(start, 4):",
        "    yield [{'id': page, 'first': start}]",
        "    nango.save_checkpoint(page=page + 1)",
        "    assert (page, start) != (2, 1), 'the source went away'",
        "nango.clear_checkpoint()",
    )
    outcome = project.run(body, "acme")
    assert outcome.status == "failed"
    assert outcome.error == "items: items.py, line 10: AssertionError: the source went away"
    assert (project.ids(), json.loads(project.checkpoint() or "")) == (["1", "2"], {"page": 3})
    outcome = project.run(body, "acme")
    assert (outcome.status, project.ids(), project.checkpoint()) == ("succeeded", ["1", "2", "3"], None)
    assert json.loads(project.texts()["3"]) == {"id": 3, "first": 3}


def test_a_scan_over_several_executions_deletes_what_none_of_them_saved(project: ScriptProject) -> None:
    project.connect()
    body = scripted(
        "for page in range(nango.checkpoint.get('page', 1), 4):",
        "    if page == nango.metadata.get('fails_at'): raise RuntimeError()",
        "    yield [{'id': n} for n in nango.metadata['pages'][page - 1]]",
        "    nango.save_checkpoint(page=page + 1)",
        "nango.clear_checkpoint()",
        options=TRACKED,
    )
    connections_metadata(project, pages=[[1, 2], [3], [4]], fails_at=None)
    assert project.run(body, "acme").status == "succeeded"
    connections_metadata(project, pages=[[1], [3], [5]], fails_at=3)
    assert (project.run(body, "acme").status, project.ids()) == ("failed", ["1", "2", "3", "4"])
    connections_metadata(project, pages=[[9], [9], [5]], fails_at=None)
    outcome = project.run(body, "acme")
    assert (outcome.status, project.ids()) == ("succeeded", ["1", "3", "5"]), outcome.warnings


def connections_metadata(project: ScriptProject, **metadata: Any) -> None:
    connections.set_metadata(project.db, "crm", "acme", metadata)


def test_an_interrupted_execution_is_due_at_once_and_keeps_the_date_of_the_last_sync(
    project: ScriptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`max_duration` ends it as a success where it has saved a checkpoint, and as a failure where it has not."""
    late = time.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: late() + 60 * (os.environ.get("LATE") == "1"))
    project.connect()
    body = scripted(
        "import os",
        "os.environ['LATE'] = '0'",
        "start = nango.checkpoint.get('page', 1)",
        "yield [{'id': start, 'since': str(nango.last_sync_date)}]",
        "os.environ['LATE'] = '1'",
        "nango.save_checkpoint(page=start + 1)",
        "yield [{'id': start + 100}]",
        options=", max_duration=30, frequency='every day'",
    )
    row = project.row(body)
    monkeypatch.setenv("LATE", "0")
    outcome = project.execute(row, "acme")
    assert (outcome.status, outcome.stop_reason) == ("succeeded", "interrupted"), outcome.error
    assert (project.ids(), json.loads(project.checkpoint() or "")) == (["1"], {"page": 2})
    assert queue.count_due(project.db, row.id, None) == 1
    monkeypatch.setenv("LATE", "0")
    assert project.execute(row, "acme").stop_reason == "interrupted"
    assert json.loads(project.texts()["2"]) == {"id": 2, "since": "None"}
    monkeypatch.setenv("LATE", "0")
    body = scripted("import os", "os.environ['LATE'] = '1'", "nango.log(1)", options=", max_duration=30")
    outcome = project.run(body, "acme")
    assert outcome.status == "failed"
    assert "stopped after max_duration" in (outcome.error or "")


def test_the_date_of_the_last_sync_is_the_start_of_the_last_success(project: ScriptProject) -> None:
    """A failed execution leaves it, and a reset forgets it together with the checkpoint."""
    project.connect()
    body = scripted(
        "since = nango.last_sync_date",
        "yield {'id': 1, 'since': since and since.isoformat(), 'page': nango.checkpoint.get('page')}",
        "nango.save_checkpoint(page=2)",
        "if nango.metadata.get('fails'): raise RuntimeError()",
    )

    def since() -> Any:
        return json.loads(project.texts()["1"])["since"]

    before = datetime.now(timezone.utc)
    project.run(body, "acme")
    assert since() is None
    project.run(body, "acme")
    first = datetime.fromisoformat(since())
    assert before - timedelta(minutes=1) < first
    connections_metadata(project, fails=True)
    project.run(body, "acme")
    second = since()
    project.run(body, "acme")
    assert since() == second
    connections_metadata(project)
    project.run(body, "acme", reset=True)
    assert json.loads(project.texts()["1"]) == {"id": 1, "since": None, "page": None}


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_records_may_be_models_of_any_library(project: ScriptProject) -> None:
    project.connect()
    head = """from dataclasses import dataclass
import msgspec
from pydantic import BaseModel, Field
from nango_dagster import sync

class Pydantic(BaseModel):
    id: int
    full_name: str = Field(alias="fullName")

@dataclass
class Plain:
    id: int

class Struct(msgspec.Struct):
    id: int

"""
    project.write(
        "@sync(integration='crm')\ndef items(nango):\n"
        "    yield Pydantic(id=1, fullName='Ada')\n    yield [Plain(2), Struct(3)]\n    yield {'id': 4}\n",
        head=head,
    )
    assert project.run(connection_id="acme").status == "succeeded"
    assert project.ids() == ["1", "2", "3", "4"]
    assert json.loads(project.texts()["1"]) == {"id": 1, "fullName": "Ada"}


def test_a_batch_update_merges_and_counts_unknown_keys(project: ScriptProject) -> None:
    project.connect()
    project.run(scripted("yield {'id': 1, 'tags': ['a'], 'owner': {'name': 'Ada', 'age': 36}}"), "acme")
    body = scripted(
        "unknown = nango.batch_update([{'id': 1, 'tags': [], 'owner': {'age': 37}}, {'id': 9}])",
        "nango.update_metadata(unknown=unknown)",
    )
    assert project.run(body, "acme").counts.updated == 1
    assert json.loads(project.texts()["1"]) == {"id": 1, "tags": [], "owner": {"name": "Ada", "age": 37}}
    connection = connections.get(project.db, "crm", "acme")
    assert connection is not None and connection.metadata == {"unknown": 1}


def test_stored_records_have_nangos_metadata_and_are_saved_without_it(project: ScriptProject) -> None:
    project.connect()
    body = scripted(
        "yield [{'id': 1, 'n': 1}, {'id': 'b'}]",
        "found = nango.get_records_by_ids([1, 'b', 'none'])",
        "listed = list(nango.list_records())",
        "assert sorted(map(str, found)) == ['1', 'b'] and len(listed) == 2, (found, listed)",
        "assert found[1]['_nango_metadata']['last_action'] == 'ADDED'",
        "nango.batch_save(listed)",
    )
    outcome = project.run(body, "acme")
    assert (outcome.status, outcome.counts.added, outcome.counts.updated) == ("succeeded", 2, 0), outcome.error
    assert json.loads(project.texts()["1"]) == {"id": 1, "n": 1}


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_of_equal_keys_the_last_record_wins(project: ScriptProject) -> None:
    project.connect()
    outcome = project.run(scripted("nango.batch_save([{'id': 1, 'n': 1}, {'id': 1, 'n': 2}])"), "acme")
    assert json.loads(project.texts()["1"]) == {"id": 1, "n": 2}
    assert any("came more than once" in warning for warning in outcome.warnings)


def test_each_model_has_records_and_a_table_of_its_own(project: ScriptProject) -> None:
    project.connect()
    body = """
        OBJECT = {"type": "object", "properties": {"id": {"type": "integer"}}}

        @sync(integration="crm", models={"Contact": OBJECT, "Company": OBJECT})
        def people(nango):
            yield [{"id": 1}]
            yield "Company", [{"id": 7}, {"id": 8}]
            with nango.track_deletes("Company"):
                nango.batch_save([{"id": 8}], "Company")
            nango.batch_save({"id": 2}, model="Contact")
        """
    outcome = project.run(body, "acme", accept_deletes=True)
    assert outcome.status == "succeeded", outcome.error
    assert (project.ids("Contact"), project.ids("Company")) == (["1", "2"], ["7", "8"])


def test_records_that_others_changed_are_left_with_ignore_if_modified_after(
    project: ScriptProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script's own changes are no reason to leave a record."""

    def somebody_changes(key: str) -> None:
        later = datetime.now(timezone.utc) + timedelta(seconds=1)
        with project.db.begin() as connection:
            row = sa.update(schema.raw).where(schema.raw.c.external_id == key)
            connection.execute(row.values(last_modified_at=later))

    monkeypatch.setattr(builtins, "somebody_changes", somebody_changes, raising=False)
    project.connect()
    project.run(scripted("yield [{'id': 1, 'n': 1}, {'id': 2, 'n': 1}]"), "acme")
    body = scripted(
        "nango.set_merging_strategy('ignore_if_modified_after')",
        "somebody_changes('2')",
        "nango.batch_save([{'id': n, 'n': 2} for n in (1, 2, 3)])",
        "nango.batch_save([{'id': 1, 'n': 3}])",
    )
    outcome = project.run(body, "acme")
    assert outcome.status == "succeeded", outcome.error
    assert [json.loads(text)["n"] for _, text in sorted(project.texts().items())] == [3, 1, 2]


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_requests_carry_the_credentials_to_the_base_url_and_to_nobody_else(project: ScriptProject) -> None:
    seen: dict[str, list[tuple[str | None, str | None]]] = {"own": [], "other": []}

    def record(name: str) -> Any:
        def answer(request: Received) -> Reply:
            seen[name].append((request.headers.get("Authorization"), request.headers.get("X-Own")))
            return {"ok": True}

        return answer

    with FakeApi() as other:
        project.api.route("/v1/me", record("own"))
        project.api.route("/v1/list", record("own"))
        other.route("/list", record("other"))
        other.route("/me", record("other"))
        project.connect(credentials={"type": "API_KEY", "apiKey": "k-secret-1"}, config={"version": "v1"})
        body = f"""
            @sync(integration="crm", base_url=API + "/${{connection_config.version}}")
            def items(nango):
                assert nango.get("/me").data == {{"ok": True}}
                assert nango.get("me", params={{"a": [1, 2], "b": None}}).status == 200
                nango.post({other.url!r} + "/me", data={{"n": 1}}, headers={{"X-Own": "1"}})
                nango.get("/me", base_url={other.url!r})
                for url in ("/list", {other.url!r} + "/list"):
                    list(nango.paginate(url, records="object"))
            """
        outcome = project.run(body, "acme")
    assert outcome.status == "succeeded", outcome.error
    assert seen["own"] == [("Bearer k-secret-1", None)] * 3
    assert seen["other"] == [(None, "1"), (None, None), (None, None)]
    assert [request.query for request in project.api.requests][1] == [("a", "1"), ("a", "2")]
    assert outcome.counts.requests == 6


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_an_error_of_the_api_has_the_answer_and_can_be_caught(project: ScriptProject) -> None:
    project.api.script("/item", Answer(404, body={"error": "gone"}), Answer(409), {"id": 1})
    project.connect()
    body = """
        from nango_dagster.errors import ApiError

        @sync(integration="crm", base_url=API, retries=0)
        def items(nango):
            try:
                nango.get("/item")
            except ApiError as error:
                assert (error.status, error.answer.data) == (404, {"error": "gone"})
            yield nango.get("/item", retries=1, retry_on=[409]).data
        """
    outcome = project.run(body, "acme")
    assert (outcome.status, project.ids()) == ("succeeded", ["1"]), outcome.error


NANGO_LISTS: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "cursor": (
        {"type": "cursor", "cursor_path_in_response": "next", "cursor_name_in_request": "after",
         "response_path": "rows", "limit": 2, "limit_name_in_request": "size"},
        {"": {"rows": [{"id": 1}, {"id": 2}], "next": 0}, "after=0": {"rows": [{"id": 3}], "next": " "}},
        [1, 2, 3],
    ),
    "link in the body": (
        {"type": "link", "link_path_in_response_body": "@odata.nextLink", "response_path": "rows"},
        {"": {"rows": [{"id": 1}], "@odata.nextLink": "/list?token=a"},
         "token=a": {"rows": [{"id": 2}], "@odata.nextLink": None}},
        [1, 2],
    ),
    "offset by size": (
        {"type": "offset", "offset_name_in_request": "skip", "response_path": "rows"},
        {"skip=0": {"rows": [{"id": 1}, {"id": 2}]}, "skip=2": {"rows": [{"id": 3}]}, "skip=3": {"rows": []}},
        [1, 2, 3],
    ),
    "offset by page": (
        {"type": "offset", "offset_name_in_request": "page", "offset_start_value": 1, "response_path": "rows",
         "offset_calculation_method": "per-page", "limit": 2, "limit_name_in_request": "size"},
        {"page=1": {"rows": [{"id": 1}, {"id": 2}]}, "page=2": {"rows": [{"id": 3}]}},
        [1, 2, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", NANGO_LISTS)
def test_nangos_paginate(project: ScriptProject, kind: str) -> None:
    """Cursors may be 0 and end with blank text; an offset is sent from the first page on; on_page follows each page."""
    options, answers, wanted = NANGO_LISTS[kind]

    def answer(request: Received) -> Reply:
        query = "&".join(f"{name}={value}" for name, value in request.query if name not in ("size", "tag"))
        return answers[query]

    project.api.route("/list", answer)
    project.connect()
    body = scripted(
        "seen = []",
        f"for page in nango.paginate('/list', paginate={options!r}, on_page=lambda told: seen.append(told)):",
        "    yield page",
        "nango.set_metadata({'seen': [told['next_page_param'] for told in seen]})",
    )
    outcome = project.run(body, "acme")
    assert outcome.status == "succeeded", outcome.error
    assert project.ids() == [str(id) for id in wanted]


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("paginate={'type': 'cursor'}", "Param cursor_path_in_response is required for cursor pagination."),
        ("paginate={'type': 'page'}", "Pagination type page is not supported."),
        ("paginate={'limit': 1}", "Pagination type is required."),
        ("paginate={}", "There was no pagination configuration for this integration or configuration passed in."),
        ("paging_page=1", "paginate has no option paging_page;"),
        ("paginate={'type': 'offset', 'offset_name_in_request': 'o'}, link_rel='next'", "keep one."),
        (
            "paginate={'type': 'offset', 'offset_name_in_request': 'o', 'response_path': 'rows'}",
            "answered 5 times with the same records",
        ),
        (
            "paginate={'type': 'cursor', 'cursor_path_in_response': 'next', 'cursor_name_in_request': 'c',"
            " 'response_path': 'rows'}",
            "would be sent again",
        ),
        ("paging_page_request_path='page', response_path='rows'", "paging repeats"),
    ],
)
def test_a_list_without_an_end_or_with_wrong_options_is_an_error(project: ScriptProject, call: str, said: str) -> None:
    project.api.route("/list", {"rows": [{"id": 1}], "next": "same"})
    project.connect()
    outcome = project.run(scripted(f"for page in nango.paginate('/list', {call}): yield page"), "acme")
    assert outcome.status == "failed"
    assert said in (outcome.error or "")
    assert "items.py, line" in (outcome.error or "")


# --- the connection ---------------------------------------------------------------------------------------------------


def test_a_script_reads_and_changes_its_connection(project: ScriptProject) -> None:
    """The connection has Nango's shape, and its secrets are starred in errors from then on."""
    project.connect(
        credentials={"type": "BASIC", "username": "me", "password": "hunter22x"},
        metadata={"repos": ["a"]},
        config={"subdomain": "acme"},
    )
    body = scripted(
        "assert (nango.connection_id, nango.variant, nango.integration) == ('acme', 'base', 'crm')",
        "assert nango.metadata == {'repos': ['a']}",
        "nango.update_metadata({'page': 1})",
        "assert nango.metadata == {'repos': ['a'], 'page': 1}",
        "nango.set_metadata({'only': True})",
        "assert nango.metadata == {'only': True}",
        "connection = nango.connection",
        "assert connection['connection_config'] == {'subdomain': 'acme'}, connection",
        "assert connection['provider_config_key'] == connection['provider'] == 'crm'",
        "raise RuntimeError(connection['credentials'])",
    )
    outcome = project.run(body, "acme")
    assert outcome.status == "failed"
    assert "'type': 'BASIC'" in (outcome.error or "")
    assert "hunter22x" not in f"{outcome.error} {outcome.stack}"


def test_a_lock_has_one_owner_until_the_execution_ends(project: ScriptProject) -> None:
    project.connect()
    body = scripted(
        "assert nango.try_acquire_lock('bulk', 60_000)",
        "assert nango.try_acquire_lock('bulk', 60_000)",
        "assert not nango._execution._services.release_lock('other')",
    )
    assert project.run(body, "acme").status == "succeeded"
    assert script_locks.acquire(project.db, "bulk", "somebody", 60)
    outcome = project.run(scripted("assert nango.try_acquire_lock('bulk', 60_000)"), "acme")
    assert outcome.status == "failed"


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_an_action_error_tells_what_the_script_says(project: ScriptProject) -> None:
    project.connect()
    outcome = project.run(scripted("raise ActionError({'message': 'choose a project first'})"), "acme")
    assert (outcome.status, outcome.error) == ("failed", "choose a project first (items.py, line 5)")
