"""The Python client: the calls of the sync guide, and every error as the sentence of the server."""

from __future__ import annotations

import doctest
import hashlib
import hmac
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import uvicorn

from nango_dagster import webhooks
from nango_dagster.api import create_app
from nango_dagster.client import Nango, NotFound, TooManyRequests, connection_calls, record_calls, sync_calls
from nango_dagster.client import nango as nango_module
from nango_dagster.client.answers import NamedSync
from nango_dagster.config import Sync
from nango_dagster.config.fields import TrackDeletes
from nango_dagster.errors import ApiError, AuthenticationFailed, ConfigError, NangoError, Refused, StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from tests.apis import URL, free_port
from tests.conftest import ROOT
from tests.executions import Source, drained
from tests.fake_api import HANG_UP, Answer, FakeApi
from tests.test_docs import blocks


@contextmanager
def running(settings: Settings, db: Database | None = None) -> Iterator[str]:
    """A real server in a thread; its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings, db), port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def nango(settings: Settings, db: Database) -> Iterator[Nango]:
    with running(replace(settings, secret_keys=("s3cret",)), db) as url:
        yield Nango(url, secret_key="s3cret")


@pytest.fixture
def acme(settings: Settings, db: Database, api: FakeApi) -> Iterator[Nango]:
    """A client of an API that has read the three issues of GitHub's connection acme."""
    titles = ("Fix login", "Add search", "Update docs")
    issues = [{"id": id, "title": title, "state": "open"} for id, title in enumerate(titles, 1)]
    fields = {"name": "issues", "integration": "github", "model": "GithubIssue", "unique_key": "id"}
    row = Source(api, issues, path="/issues").registered(db, **fields)
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"team": "a"}))
    connections.add_variant(db, row.id, "acme", "eu")
    drained(db, settings, row)
    with running(replace(settings, secret_keys=("s3cret",), env={"TEAM": "a"}), db) as url:
        yield Nango(url, secret_key="s3cret")


def test_the_examples_of_the_page_are_true(acme: Nango, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANGO_SECRET_KEY", "s3cret")
    known: dict[str, Any] = {}
    for block in blocks("python"):
        if block.page.name == "python.md":
            exec(compile(block.text.replace("http://localhost:3003", acme.host), str(block), "exec"), known)
    assert known["stored"] == {"1": "Fix login", "2": "Add search", "3": "Update docs"}
    signature = hmac.new(b"s3cret", b"{}", hashlib.sha256).hexdigest()
    assert known["receive"](b"{}", {"X-Nango-Hmac-Sha256": signature})


def test_a_reader_as_on_the_page_meets_records_without_a_payload(
    acme: Nango, db: Database, settings: Settings, api: FakeApi
) -> None:
    (follow,) = (block.text for block in blocks("python") if "records.pages()" in block.text)
    known: dict[str, Any] = {"nango": acme}
    exec(follow, known)
    api.route("/issues", {"results": [{"id": 1, "title": "Fix login"}, {"id": 2, "title": "Search"}]})
    row = syncs.by_name(db, "issues", "github")
    assert row is not None
    row = syncs.register(db, [row.sync.model_copy(update={"track_deletes": TrackDeletes()})])["issues"]
    acme.trigger_sync("github", ["issues"], "acme")
    drained(db, settings, row)
    last = list(acme.records("github", "acme", "GithubIssue"))[-1]
    acme.prune_records("github", "acme", "GithubIssue", until_cursor=last["_nango_metadata"]["cursor"])
    exec("records = " + follow.partition("records = ")[2], known)  # goes on after what it has seen
    assert known["stored"] == {"1": "Fix login", "2": "Add search"}


def test_the_examples_of_each_method_are_true(acme: Nango) -> None:
    examples = [
        example
        for module in (record_calls, connection_calls, sync_calls, nango_module)
        for example in sorted(
            doctest.DocTestFinder().find(module, extraglobs={"nango": acme}), key=lambda example: example.lineno or 0
        )
    ]
    runner = doctest.DocTestRunner(verbose=False)
    for example in examples:
        runner.run(example)
    assert (runner.failures, runner.tries > 20) == (0, True)


# --- records --------------------------------------------------------------------------------------------------------


def test_records_are_read_over_all_pages_with_the_same_options(acme: Nango) -> None:
    page = acme.list_records("github", "acme", "GithubIssue")
    moment = datetime.fromisoformat(page["records"][1]["_nango_metadata"]["last_modified_at"].replace("Z", "+00:00"))
    options: dict[str, Any] = {"modified_after": moment, "filter": "added,deleted", "limit": 1}
    assert [record["id"] for record in acme.records("github", "acme", "GithubIssue", **options)] == [1, 2, 3]
    assert [record["id"] for record in acme.records("github", "acme", "GithubIssue", ids=[3, "1"], limit=1)] == [1, 3]
    assert list(acme.records("github", "acme", "GithubIssue", filter="updated")) == []
    assert list(acme.records("github", "acme", "GithubIssue", modified_after="2999-01-01T00:00:00Z")) == []
    assert list(acme.records("github", "acme", "GithubIssue", variant="us")) == []


def test_of_no_ids_there_are_no_records(acme: Nango) -> None:
    assert acme.list_records("github", "acme", "GithubIssue", ids=[]) == {"records": [], "next_cursor": None}
    assert list(acme.records("github", "acme", "GithubIssue", ids=set())) == []
    assert [one["id"] for one in acme.records("github", "acme", "GithubIssue", ids={2})] == [2]


def test_a_reader_that_stops_goes_on_where_it_was(acme: Nango) -> None:
    records = acme.records("github", "acme", "GithubIssue", limit=2)
    assert next(iter(records))["id"] == 1
    again = acme.records("github", "acme", "GithubIssue", cursor=records.cursor)
    assert [record["id"] for record in again] == [2, 3]
    assert [[record["id"] for record in page] for page in records.pages()] == [[2, 3]]
    assert records.cursor == again.cursor
    assert list(again) == []


def test_records_are_read_whatever_their_texts_and_numbers_are(api: FakeApi) -> None:
    numbers = b'"n":123456789012345678901,"o":1e400,"p":' + b"7" * 5000
    record = b'{"id":1,"s":"\\ud83d",%b,"_nango_metadata":{"cursor":"c"}}' % numbers
    api.route(
        "/records", Answer(200, {"Content-Type": "application/json"}, b'{"records":[%b],"next_cursor":null}' % record)
    )
    (found,) = Nango(api.url).records("github", "acme", "GithubIssue")
    assert (found["s"], found["n"]) == ("\ud83d", 123456789012345678901)
    assert found["o"] == found["p"] == float("inf")


# --- errors ---------------------------------------------------------------------------------------------------------


ERRORS: tuple[tuple[Callable[[Nango], Any], type[NangoError], int, str], ...] = (
    (lambda nango: nango.list_records("github", "gone", "GithubIssue"), NotFound, 400, "unknown_connection"),
    (lambda nango: nango.pause_sync("github", [], "gone"), NotFound, 404, "unknown_connection"),
    (lambda nango: nango.trigger_sync("gitlab"), NotFound, 400, "unknown_provider_config"),
    (lambda nango: nango.start_sync("github", ["gone"]), NotFound, 400, "no_syncs_found"),
    (lambda nango: nango.get_connection("github", "gone"), NotFound, 404, "not_found"),
    (lambda nango: nango.get_integration("gitlab"), NotFound, 404, "not_found"),
    (lambda nango: nango.delete_sync_variant("github", "acme", "issues", "us"), NotFound, 404, "not_found"),
    (
        lambda nango: nango.create_sync_variant("github", "acme", "issues", "eu"),
        ConfigError,
        400,
        "sync_variant_already_exists",
    ),
    (
        lambda nango: nango.list_records("github", "acme", "GithubIssue", limit=501),
        ConfigError,
        400,
        "invalid_query_params",
    ),
    (lambda nango: Nango(nango.host).list_connections(), AuthenticationFailed, 401, "missing_auth_header"),
)


def test_an_error_has_the_code_and_status_of_the_answer(acme: Nango) -> None:
    for ask, kind, status, code in ERRORS:
        with pytest.raises(kind) as caught:
            ask(acme)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert (type(caught.value), str(caught.value)[-1:]) == (kind, ".") or "did you mean" in str(caught.value)


def documented() -> Iterator[tuple[int, str, str]]:
    """Status, code and class of each error that docs/reference/api.md lists."""
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    for statuses, codes, kind in re.findall(r"^\| ([45][\d, ]+) \| (`[^|]+) \| `(\w+)` \|", text, re.MULTILINE):
        for status in statuses.split(", "):
            yield from ((int(status), code, kind) for code in re.findall(r"`(\w+)`", codes))


def test_an_error_is_of_the_class_that_the_docs_name(api: FakeApi) -> None:
    for status, code, kind in documented():
        api.script("/sync/trigger", (status, {}, {"error": {"code": code, "message": "no."}}))
        with pytest.raises(NangoError) as caught:
            Nango(api.url).trigger_sync("github")
        assert (type(caught.value).__name__, caught.value.code) == (kind, code)


def test_the_docs_list_each_error_of_the_api() -> None:
    raised = {
        (int(status), code)
        for module in (ROOT / "nango_dagster" / "api").rglob("*.py")
        for status, code in re.findall(r'HttpError\(\s*(\d+),\s*"(\w+)"', module.read_text())
    }
    assert len(raised) > 20
    assert raised <= {(status, code) for status, code, _ in documented()}


def test_each_thing_that_is_wrong_is_a_problem(acme: Nango) -> None:
    with pytest.raises(ConfigError) as caught:
        acme.sync(URL, {"uniqe_key": "id", "frequency": "x"})
    assert {problem.field for problem in caught.value.problems} == {"uniqe_key", "frequency"}


def test_a_call_too_many_is_made_again_when_the_api_says_so(api: FakeApi) -> None:
    limited = (429, {"Retry-After": "0"}, {"error": {"code": "too_many_request", "message": "too many."}})
    api.script("/sync/trigger", limited, limited, b"")
    Nango(api.url).trigger_sync("github")
    assert len(api.requests) == 3
    api.script("/integrations", *[limited] * 3)
    with pytest.raises(TooManyRequests, match=r"^too many\.$"):
        Nango(api.url).list_integrations()
    patient = (429, {"Retry-After": "3600"}, limited[2])
    api.script("/integrations", patient)
    with pytest.raises(TooManyRequests) as caught:
        Nango(api.url).list_integrations()
    assert (caught.value.status, caught.value.code) == (429, "too_many_request")


@pytest.mark.parametrize(
    "ask",
    [
        lambda nango: nango.trigger_sync("github", ["issues"], reset=True),
        lambda nango: nango.create_sync_variant("github", "acme", "issues", "eu"),
    ],
)
def test_what_may_have_been_done_already_is_not_done_again(ask: Callable[[Nango], Any], api: FakeApi) -> None:
    for path in ("/sync/trigger", "/sync/issues/variant/eu"):
        api.script(path, HANG_UP, {})
    with pytest.raises(ApiError, match="the connection was closed"):
        ask(Nango(api.url))
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/connections/acme", lambda nango: nango.delete_connection("github", "acme")),
        ("/sync/issues/variant/eu", lambda nango: nango.delete_sync_variant("github", "acme", "issues", "eu")),
        ("/v1/syncs/5", lambda nango: nango.delete_sync(5)),
    ],
)
def test_what_is_gone_when_deleting_is_tried_again_was_deleted_before(
    path: str, ask: Callable[[Nango], Any], api: FakeApi
) -> None:
    gone: Any = (404, {}, {"error": {"code": "not_found", "message": "it is not there."}})
    api.script(path, HANG_UP, gone)
    ask(Nango(api.url))
    assert [request.method for request in api.requests] == ["DELETE"] * 2
    api.script(path, gone)
    with pytest.raises(NotFound, match="it is not there"):
        ask(Nango(api.url))
    api.script(path, HANG_UP, (401, {}, {"error": {"code": "unknown_account", "message": "no."}}))
    with pytest.raises(AuthenticationFailed):
        ask(Nango(api.url))


def test_what_is_gone_is_not_found_where_nothing_is_deleted(api: FakeApi) -> None:
    api.script("/v1/syncs/5", HANG_UP, (404, {}, {"error": {"code": "not_found", "message": "it is not there."}}))
    with pytest.raises(NotFound):
        Nango(api.url).get_sync(5)


def test_an_import_without_a_name_makes_one_connection_also_over_a_broken_connection(api: FakeApi) -> None:
    api.script("/connections", HANG_UP, {"connection_id": "x"})
    Nango(api.url).import_connection("github")
    first, second = (request.json for request in api.requests)
    assert first == second
    assert len(first["connection_id"]) == 36


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_calls_share_one_connection(api: FakeApi) -> None:
    api.route("/integrations", {"data": []})
    nango = Nango(api.url)
    for _ in range(5):
        assert nango.list_integrations() == []
    assert api.connections == 1


def test_a_variant_is_named_in_any_of_three_ways(api: FakeApi) -> None:
    api.route("/sync/pause", b"")
    api.route("/sync/status", {"syncs": []})
    api.route("/sync/update-connection-frequency", {"frequency": "every hour"})
    nango = Nango(api.url)
    named: NamedSync = {"name": "issues", "variant": "eu"}
    for these in ("issues::eu", ["issues::eu"], named, [named]):
        nango.pause_sync("github", these)
        nango.sync_status("github", these)
    for sync in ("issues::eu", named):
        nango.update_sync_connection_frequency("github", sync, "acme", None)
    sent = [request.json for request in api.requests if request.method == "POST"]
    assert [one["syncs"] for one in sent] == [["issues::eu"], ["issues::eu"], [named], [named]]
    assert {request.params["syncs"] for request in api.requests if request.method == "GET"} == {"issues::eu"}
    frequencies = [request.json for request in api.requests if request.method == "PUT"]
    assert frequencies[0] == frequencies[1]
    assert frequencies[0] == {
        "provider_config_key": "github",
        "connection_id": "acme",
        "sync_name": "issues",
        "sync_variant": "eu",
        "frequency": None,
    }


def test_an_empty_list_means_all_syncs_except_for_their_status(acme: Nango) -> None:
    acme.pause_sync("github", [])
    assert {one["status"] for one in acme.sync_status("github", "*")} == {"PAUSED"}
    assert acme.sync_status("github", []) == []


def test_a_name_never_becomes_another_path(acme: Nango) -> None:
    for name in ("a/b", "a?b=1#c", "a%2Fb", "ü b", "metadata"):
        assert acme.import_connection("github", name)["connection_id"] == name
        assert acme.get_connection("github", name)["connection_id"] == name
        acme.delete_connection("github", name)
    for name in ("", ".", ".."):
        with pytest.raises(ConfigError, match="is no name"):
            acme.delete_connection("github", name)
    assert [one["connection_id"] for one in acme.list_connections()] == ["acme"]


def test_a_name_may_be_in_any_script(acme: Nango) -> None:
    for name in ("acme-ü", "株式会社"):
        acme.import_connection("github", name)
        assert acme.list_records("github", name, "GithubIssue") == {"records": [], "next_cursor": None}
        acme.pause_sync("github", ["issues"], name)
        assert [one["status"] for one in acme.sync_status("github", connection_id=name)] == ["PAUSED"]
        with pytest.raises(NotFound, match=f'no connection "{name}2"'):
            acme.list_records("github", f"{name}2", "GithubIssue")


def test_connections_are_found_and_shown(acme: Nango) -> None:
    for name in ("beta", "gamma"):
        acme.import_connection("crm", name, metadata={"team": name})
    assert [one["connection_id"] for one in acme.list_connections(integration_id=["crm", "jira"], limit=1)] == ["beta"]
    assert [one["connection_id"] for one in acme.list_connections(search="AMM")] == ["gamma"]
    assert [one["provider_config_key"] for one in acme.list_connections(connection_id="acme")] == ["github"]
    assert [one["connection_id"] for one in acme.list_connections(limit=2, page=1)] == ["gamma"]
    assert acme.get_connection("crm", "beta", force_refresh=True, refresh_token=True)["credentials"] == {}
    acme.patch_connection("crm", "beta", webhook_url_override="https://beta.example.com/hook")
    assert acme.get_connection("crm", "beta")["webhook_url_override"] == "https://beta.example.com/hook"
    acme.patch_connection("crm", "beta", webhook_url_override=None)
    assert acme.get_connection("crm", "beta")["webhook_url_override"] is None
    acme.set_metadata("crm", ["beta", "gamma"], {"team": "c"})
    assert [acme.get_metadata("crm", name) for name in ("beta", "gamma")] == [{"team": "c"}] * 2


@pytest.mark.parametrize(
    ("credentials", "token", "raw"),
    [
        ({"type": "OAUTH2", "access_token": "t1"}, "t1", {"access_token": "t1"}),
        (
            {
                "type": "OAUTH1",
                "oauth_token": "t1",
                "oauth_token_secret": "s1",
                "consumer_key": "k",
                "consumer_secret": "c",
            },
            {"oauth_token": "t1", "oauth_token_secret": "s1"},
            {"oauth_token": "t1", "oauth_token_secret": "s1"},
        ),
        ({"type": "API_KEY", "apiKey": "k1"}, {"type": "API_KEY", "apiKey": "k1"}, {}),
        (None, {}, {}),
    ],
    ids=["OAUTH2", "OAUTH1", "API_KEY", "none"],
)
def test_the_token_of_a_connection_is_what_its_requests_need(
    credentials: dict[str, Any] | None, token: Any, raw: dict[str, Any], settings: Settings, db: Database
) -> None:
    with running(replace(settings, encryption_keys=("a2tr" * 10 + "a2s=",)), db) as url:
        nango = Nango(url)
        nango.import_connection("github", "acme", credentials=credentials)
        assert nango.get_token("github", "acme", force_refresh=True) == token
        assert nango.get_raw_token_response("github", "acme") == raw


def test_the_syncs_of_each_integration_are_given_in_both_forms(acme: Nango) -> None:
    ((name, found),) = [(one["providerConfigKey"], one["syncs"]) for one in acme.get_scripts_config()]
    assert (name, [sync["returns"] for sync in found]) == ("github", [["GithubIssue"]])
    assert acme.get_scripts_config("openai") == {"data": []}


# --- webhooks -------------------------------------------------------------------------------------------------------


def test_a_webhook_is_verified_by_its_signature_and_nothing_else() -> None:
    body = '{"from":"nango","connectionId":"ü"}'
    signature = hmac.new(b"s3cret", body.encode(), hashlib.sha256).hexdigest()
    nango = Nango(secret_key="s3cret")
    assert nango.verify_incoming_webhook_request(body, {"x-nango-hmac-sha256": signature})
    assert nango.verify_incoming_webhook_request(body.encode(), {"X-NANGO-HMAC-SHA256": signature, "a": 1})
    for wrong in (signature[:-1], signature.upper(), "ü", "", None, 7):
        assert not nango.verify_incoming_webhook_request(body, {"x-nango-hmac-sha256": wrong})
    assert not nango.verify_incoming_webhook_request(body, {})
    assert not nango.verify_incoming_webhook_request(f"{body} ", {"x-nango-hmac-sha256": signature})
    other = Nango(secret_key="s3cret", webhook_signing_key="other")
    assert not other.verify_incoming_webhook_request(body, {"x-nango-hmac-sha256": signature})
    assert not Nango().verify_incoming_webhook_request(body, {"x-nango-hmac-sha256": signature})
    assert "other" not in repr(other)


def test_what_is_delivered_is_verified() -> None:
    about = webhooks.About("github", "acmé", "base", "issues", "GithubIssue", "INITIAL")
    body = webhooks.changed(about, 1, 0, 0, None)
    sent = webhooks.headers(body, "d-1", "whsec")
    assert Nango(webhook_signing_key="whsec").verify_incoming_webhook_request(body, sent)
    assert not Nango(webhook_signing_key="whsec").verify_incoming_webhook_request(body + b" ", sent)


# --- syncs by their ids ---------------------------------------------------------------------------------------------


def test_a_sync_is_added_and_its_id_returned(nango: Nango, db: Database) -> None:
    config = {
        "response_path": "results",
        "unique_key": "name",
        "paging_url_path": "next",
        "metadata": {"company_id": 123},
        "friendly_name": "My Sync",
        "frequency": 15,
    }
    sync_id = nango.sync("https://api.example.com/my/endpoint?query=A+query", config)
    assert sync_id == nango.sync("https://api.example.com/my/endpoint?query=A+query", config)
    row = syncs.get(db, sync_id)
    assert row is not None
    assert (row.name, row.sync.metadata, row.sync.frequency) == ("my-sync", {"company_id": 123}, 15)


def test_a_url_alone_is_a_sync(nango: Nango) -> None:
    assert nango.sync(URL) == 1
    assert nango.sync(URL, {}) == 1


def test_a_duplicate_can_be_looked_for_before_it_is_made(nango: Nango) -> None:
    nango.sync(URL, {"name": "first", "metadata": {"company_id": 7, "ü": True}, "friendly_name": "First & only"})
    nango.sync(f"{URL}?a=1&b=2#c")
    assert [sync["id"] for sync in nango.syncs()] == [1, 2]
    assert [sync["id"] for sync in nango.syncs(name="first")] == [1]
    assert [sync["id"] for sync in nango.syncs(url=f"{URL}?a=1&b=2#c")] == [2]
    assert [sync["id"] for sync in nango.syncs(friendly_name="First & only")] == [1]
    assert [sync["id"] for sync in nango.syncs(metadata={"company_id": 7, "ü": True})] == [1]
    assert nango.syncs(metadata={"company_id": 8}) == []


def test_a_sync_can_be_shown_changed_and_deleted(nango: Nango, db: Database) -> None:
    sync_id = nango.sync(URL, {"headers": {"Authorization": "Bearer t"}})
    shown = nango.get_sync(sync_id)
    assert (shown["id"], shown["last_job"]) == (sync_id, None)
    config = {**shown["config"], "unique_key": "id"}
    assert nango.update_sync(sync_id, config.pop("url"), config) == sync_id
    row = syncs.get(db, sync_id)
    assert row is not None
    assert (row.sync.headers, row.sync.unique_key) == ({"Authorization": "Bearer t"}, "id")
    nango.delete_sync(sync_id)
    assert syncs.all(db) == []


def test_each_error_is_the_server_s_sentence(nango: Nango, db: Database) -> None:
    syncs.register(db, [Sync(name="items", url=URL)])
    with pytest.raises(ConfigError, match='"uniqe_key" is no field of a sync; did you mean unique_key'):
        nango.sync(URL, {"uniqe_key": "id"})
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        nango.sync(URL, {"metadata": {"a": "x" * 1_000_000}})
    with pytest.raises(NotFound, match="there is no sync 7; GET /v1/syncs lists those there are"):
        nango.get_sync(7)
    with pytest.raises(Refused, match="items is a sync of a config file"):
        nango.delete_sync(1)
    with pytest.raises(AuthenticationFailed, match="the Authorization header is missing"):
        Nango(nango.host).syncs()
    with pytest.raises(AuthenticationFailed, match="the key is not one of those in NANGO_SECRET_KEY"):
        Nango(nango.host, secret_key="wrong").syncs()


def test_a_store_that_is_down_is_a_sentence(settings: Settings) -> None:
    with running(replace(settings, db_url="postgresql+psycopg://127.0.0.1:1/nango")) as url:
        with pytest.raises(StoreUnavailable, match="the database cannot be used now"):
            Nango(url).syncs()


@pytest.mark.parametrize("value", [object(), {1, 2}.__iter__(), "\ud83d", 1 << 70])
def test_a_config_that_is_no_json_never_leaves(value: Any) -> None:
    with pytest.raises(NangoError):
        Nango(f"http://127.0.0.1:{free_port()}").sync(URL, {"metadata": {"a": value}})


def test_an_api_that_is_not_there_is_a_sentence() -> None:
    port = free_port()
    with pytest.raises(ApiError, match=rf"Nango: GET http://localhost:{port}/v1/syncs .* after 3 tries"):
        Nango(f"http://localhost:{port}").syncs()


def test_another_server_is_a_sentence(api: FakeApi) -> None:
    api.script("/v1/syncs", "<html>", [1], {"hello": 1}, b"", (502, {}, "<html>"), (500, {}, {"error": "no object"}))
    nango = Nango(f"{api.url}/", secret_key="s3cret")
    for said in (*["did not answer as a nango-dagster API does"] * 4, "answered 502", "answered 500"):
        with pytest.raises(ApiError, match=said) as caught:
            nango.syncs(name="s3cret")
        assert "s3cret" not in str(caught.value)


def test_a_broken_connection_is_tried_again(api: FakeApi) -> None:
    api.script("/v1/syncs", HANG_UP, {"sync_id": 5})
    assert Nango(api.url).sync(URL) == 5
    assert [request.json for request in api.requests] == [{"url": URL}] * 2


def test_the_key_goes_to_the_server_and_into_no_repr(api: FakeApi) -> None:
    api.route("/v1/syncs", {"syncs": []})
    nango = Nango(api.url, secret_key="s3cret")
    nango.syncs()
    assert api.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(nango)


def test_threads_may_share_a_client(nango: Nango) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(nango.sync(URL))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8


def test_the_package_offers_the_client_and_imports_it_only_then() -> None:
    code = (
        "import sys, nango_dagster as n; before = {*sys.modules}; print(n.Nango.__module__ in before, n.Nango().host)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["False", "http://localhost:3003"]
