"""Connections over HTTP: made, listed, shown with the credentials they have now, given metadata, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, announcing, connections, credential_state, queue, syncs
from nango_dagster.store.announcing import OVERRIDE, OwnUrl
from nango_dagster.vault import vault_of
from tests.apis import URL, calling
from tests.fake_api import FakeApi, Received, Reply

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
BY_KEY = {"type": "API_KEY", "apiKey": "s3cret"}
GITHUB = {"provider_config_key": "github"}


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    """An API that knows one sync of GitHub, and no connection yet."""
    syncs.register(db, [Sync(name="issues", url=URL, integration="github", unique_key="id")])
    with calling(settings, db, encryption_keys=(KEY,)) as client:
        yield client


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def made(http: TestClient, connection_id: str = "acme", **fields: Any) -> dict[str, Any]:
    answer = http.post("/connections", json={**GITHUB, "connection_id": connection_id, **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(http: TestClient, connection_id: str = "acme", **query: str) -> dict[str, Any]:
    answer = http.get(f"/connections/{connection_id}", params={**GITHUB, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_slash_at_the_end_of_an_id_leads_to_no_other_connection(http: TestClient) -> None:
    for name in ("b", "b/", "b//"):
        made(http, name)
    assert shown(http, "b%2F")["connection_id"] == "b/"
    assert shown(http, "b%2F/")["connection_id"] == "b/"
    assert shown(http, "b/")["connection_id"] == "b"
    assert http.delete("/connections/b%2F%2F", params={"provider_config_key": "github"}).status_code == 200
    assert [one["connection_id"] for one in http.get("/connections").json()["connections"]] == ["b", "b/"]


def test_an_imported_connection_runs_at_once_and_is_shown_whole(http: TestClient, db: Database) -> None:
    given: dict[str, Any] = {"metadata": {"region": "eu"}, "connection_config": {"subdomain": "acme"}}
    answer = made(http, credentials=BY_KEY, **given)
    assert [one.connection_id for one in queue.schedules(db)] == ["acme"]
    assert shown(http) == answer
    assert {name: answer[name] for name in ("connection_id", "provider_config_key", "provider", "errors")} == {
        "connection_id": "acme",
        "provider_config_key": "github",
        "provider": "github",
        "errors": [],
    }
    assert {name: answer[name] for name in given} == given
    assert answer["credentials"] == BY_KEY
    assert (answer["tags"], answer["end_user"], answer["webhook_url_override"]) == ({}, None, None)


def test_a_name_may_hold_a_slash(http: TestClient) -> None:
    made(http, "acme/eu", credentials=BY_KEY)
    assert shown(http, "acme/eu")["credentials"] == BY_KEY
    assert shown(http, "acme%2Feu")["connection_id"] == "acme/eu"
    assert http.delete("/connections/acme/eu", params=GITHUB).json() == {"success": True}


def test_a_url_of_its_own_for_webhooks_is_changed_alone(http: TestClient) -> None:
    made(http, credentials=BY_KEY, metadata={"a": 1}, connection_config={"subdomain": "acme"})
    own = {"webhook_url_override": "https://acme.example.com/hook"}
    before = shown(http)
    for path in ("/connections/acme", "/connection/acme/"):
        answer = http.patch(path, params=GITHUB, json=own, follow_redirects=False)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert {**shown(http), "updated_at": "", "last_fetched_at": ""} == {
        **{**before, "updated_at": "", "last_fetched_at": ""},
        "webhook_url_override": own["webhook_url_override"],
    }
    assert http.patch("/connections/acme", params=GITHUB, json={}).status_code == 200
    assert shown(http)["webhook_url_override"] == own["webhook_url_override"]
    assert http.patch("/connections/acme", params=GITHUB, json={"webhook_url_override": None}).status_code == 200
    assert (shown(http)["webhook_url_override"], shown(http)["connection_config"]) == (None, {"subdomain": "acme"})


@pytest.mark.parametrize(
    ("id", "body", "refused"),
    [
        ("gone", {}, (404, "not_found")),
        ("acme", {"webhook_url_override": "acme"}, (400, "invalid_body")),
        ("acme", {"webhook_url_override": 7}, (400, "invalid_body")),
        ("acme", {"tags": {"team": "a"}}, (400, "invalid_body")),
    ],
)
def test_a_change_that_cannot_be_is_refused(id: str, body: Any, refused: tuple[int, str], http: TestClient) -> None:
    made(http)
    assert refusal(http.patch(f"/connections/{id}", params=GITHUB, json=body)) == refused
    assert shown(http)["webhook_url_override"] is None


def test_what_is_not_named_again_stays(http: TestClient) -> None:
    first = made(http, credentials=BY_KEY, metadata={"region": "eu"})
    assert made(http, metadata={"region": "us"})["id"] == first["id"]
    assert (shown(http)["metadata"], shown(http)["credentials"]["apiKey"]) == ({"region": "us"}, "s3cret")


def test_a_connection_without_a_name_gets_one(http: TestClient) -> None:
    answer = http.post("/connections", json={**GITHUB, "credentials": {"type": "NONE"}})
    assert shown(http, answer.json()["connection_id"])["credentials"] == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**GITHUB, "connection_id": 7},
        {**GITHUB, "connection_id": "é" * 200},
        {**GITHUB, "conection_id": "acme"},
        {**GITHUB, "connection_id": "acme", "credentials": {"type": "API_KEY", "key": "s3cret"}},
        {**GITHUB, "connection_id": "acme", "credentials": {"type": "MAGIC", "apiKey": "s3cret"}},
        {**GITHUB, "connection_id": "acme", "credentials": "s3cret"},
        {**GITHUB, "connection_id": "acme", "metadata": {"token": "***"}},
        {**GITHUB, "connection_id": "acme", "metadata": {"$sealed": 5}},
        {**GITHUB, "connection_id": "acme", "connection_config": {"$sealed": "x"}},
    ],
)
def test_a_connection_that_cannot_be_is_refused(body: dict[str, Any], http: TestClient, db: Database) -> None:
    answer = http.post("/connections", json=body)
    assert refusal(answer) == (400, "invalid_body")
    assert "s3cret" not in answer.text
    assert connections.list_connections(db) == []


def test_connections_are_listed_without_their_secrets(http: TestClient, db: Database) -> None:
    made(http, credentials=BY_KEY, metadata={"region": "eu", "api_token": "t0ken"})
    made(http, "beta")
    connections.add(db, None, connections.NewConnection("gitlab", "acme"))
    for _ in range(3):
        credential_state.note_auth_failure(db, "github", "acme")

    def names(**query: Any) -> list[str]:
        answer = http.get("/connections/", params=query, follow_redirects=False)
        assert "s3cret" not in answer.text
        assert "t0ken" not in answer.text
        return [f"{one['provider_config_key']} {one['connection_id']}" for one in answer.json()["connections"]]

    assert names() == ["github acme", "github beta", "gitlab acme"]
    assert names(connectionId="acme") == ["github acme", "gitlab acme"]
    assert names(integrationId="github,jira") == ["github acme", "github beta"]
    assert names(search="BE") == ["github beta"]
    assert names(limit=2) == ["github acme", "github beta"]
    assert names(limit=2, page=1) == ["gitlab acme"]
    assert names(limit=2000) == names()
    assert names(page=1) == []
    assert names(endUserId="u1") == names(**{"tags[team]": "a"}) == []
    first = http.get("/connections").json()["connections"][0]
    assert first["errors"] == [{"type": "auth", "log_id": ""}]
    assert first["metadata"] == {"region": "eu", "api_token": "***"}
    assert "credentials" not in first
    for query in (
        {"conectionId": "acme"},
        {"limit": 0},
        {"limit": 2001},
        {"limit": "1_0"},
        {"page": "x"},
        {"page": "0_0"},
    ):
        assert refusal(http.get("/connections", params=query)) == (400, "invalid_query_params")


def test_metadata_is_replaced_or_merged_for_several(http: TestClient, db: Database) -> None:
    made(http, metadata={"region": "eu"})
    made(http, "beta")
    body = {**GITHUB, "connection_id": ["acme", "beta"], "metadata": {"team": "a"}}
    answer = http.post("/connections/metadata", json=body)
    assert (answer.status_code, answer.json()) == (201, body)
    merged = {**GITHUB, "connection_id": "acme", "metadata": {"level": 2}}
    answer = http.patch("/connections/metadata/", json=merged)
    assert (answer.status_code, answer.json()) == (200, merged)
    assert shown(http)["metadata"] == {"team": "a", "level": 2}
    assert shown(http, "beta")["metadata"] == {"team": "a"}


def test_metadata_is_for_all_that_are_named_or_for_none(http: TestClient) -> None:
    made(http, metadata={"region": "eu"})
    taken = http.post("/connections/metadata", json={**GITHUB, "connection_id": "acme", "metadata": {"$sealed": 5}})
    assert refusal(taken) == (400, "invalid_body")
    body = {**GITHUB, "connection_id": ["acme", "gone"], "metadata": {"team": "a"}}
    for answer in (http.post("/connections/metadata", json=body), http.patch("/connections/metadata", json=body)):
        assert refusal(answer) == (404, "unknown_connection")
    for wrong in ({**body, "metadata": 7}, {**body, "connection_id": []}, {**body, "more": 1}, GITHUB):
        assert refusal(http.post("/connections/metadata", json=wrong)) == (400, "invalid_body")
    assert shown(http)["metadata"] == {"region": "eu"}


@pytest.mark.parametrize(
    ("connection_id", "path", "message"),
    [
        ([], ["connection_id"], "connection_id is a list, but should have at least 1 item."),
        ("", ["connection_id"], "connection_id is text, but should have at least 1 character."),
        (7, ["connection_id"], "connection_id is a number, but should be text or a list of texts."),
        (["acme", 7], ["connection_id", "1"], "connection_id[1] is a number, but should be text."),
    ],
)
def test_what_names_no_connections_is_said_once(
    connection_id: Any, path: list[str], message: str, http: TestClient
) -> None:
    body = {**GITHUB, "connection_id": connection_id, "metadata": {}}
    error = http.post("/connections/metadata", json=body).json()["error"]
    assert [(one["path"], one["message"]) for one in error["errors"]] == [(path, message)]


@pytest.mark.parametrize(
    ("field", "number", "place"),
    [
        ("metadata", '{"x": 1e999}', "metadata.x"),
        ("metadata", '{"x": [{"y": -1E400}]}', "metadata.x[0].y"),
        ("connection_config", '{"x": 1e999}', "connection_config.x"),
    ],
)
def test_a_number_that_no_database_stores_is_said(
    field: str, number: str, place: str, http: TestClient, db: Database
) -> None:
    made(http, metadata={"x": 1})
    path = "/connections/metadata" if field == "metadata" else "/connections"
    body = f'{{"provider_config_key": "github", "connection_id": "acme", "{field}": {number}}}'
    answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert refusal(answer) == (400, "invalid_body")
    assert answer.json()["error"]["message"] == f"{place} is a number too large to be stored."
    assert (shown(http)["metadata"], shown(http)["connection_config"]) == ({"x": 1}, {})


def test_a_deleted_connection_is_gone(http: TestClient, db: Database) -> None:
    made(http)
    path = "/connections/acme"
    assert refusal(http.delete(path)) == (400, "invalid_query_params")
    assert http.delete(path, params=GITHUB).json() == {"success": True}
    assert queue.schedules(db) == []
    assert refusal(http.delete(path, params=GITHUB)) == (400, "unknown_connection")
    assert refusal(http.get(path, params=GITHUB)) == (404, "not_found")


def test_an_integration_that_is_not_there_is_told_from_a_connection_that_is_not(http: TestClient) -> None:
    made(http)
    for path in ("/connections/acme", "/connection/acme"):
        unknown = {"provider_config_key": "gitlab"}
        for answer in (http.get(path, params=unknown), http.patch(path, params=unknown, json={})):
            assert refusal(answer) == (400, "unknown_provider_config")
            assert answer.json()["error"]["message"].startswith('there is no integration "gitlab"; ')
    assert refusal(http.get("/connections/gone", params=GITHUB)) == (404, "not_found")


# --- tokens -----------------------------------------------------------------------------------------------------------


def application(api: FakeApi, **fields: Any) -> dict[str, Any]:
    """Credentials of type OAUTH2 whose token ended long ago."""
    return {
        "type": "OAUTH2",
        "access_token": "t0",
        "refresh_token": "r0",
        "expires_at": "2020-01-01T00:00:00Z",
        "token_url": f"{api.url}/token",
        "client_id": "app",
        "client_secret": "app-s3cret",
        **fields,
    }


def test_a_token_is_shown_as_it_is_good_now_and_without_the_application_s_secret(
    http: TestClient, api: FakeApi
) -> None:
    count = iter(range(1, 9))
    api.route("/token", lambda request: {"access_token": f"t{next(count)}", "expires_in": 3600})
    made(http, credentials=application(api))
    held = shown(http)["credentials"]
    assert (held["type"], held["access_token"], held["raw"]["access_token"]) == ("OAUTH2", "t1", "t1")
    assert set(held) == {"type", "access_token", "expires_at", "raw"}
    assert shown(http)["credentials"]["access_token"] == "t1"
    assert shown(http, force_refresh="true")["credentials"]["access_token"] == "t2"
    assert shown(http, refresh_token="true")["credentials"]["refresh_token"] == "r0"
    assert "app-s3cret" not in http.get("/connections/acme", params=GITHUB).text


@pytest.mark.parametrize(("reply", "refused"), [(401, (400, "invalid_credentials")), (500, (502, "server_error"))])
def test_a_token_that_cannot_be_had_is_said(
    reply: int, refused: tuple[int, str], http: TestClient, api: FakeApi
) -> None:
    def refuse(request: Received) -> Reply:
        return reply, {"Retry-After": "0"}, {"error": "no", "refresh_token": "r0"}

    api.route("/token", refuse)
    made(http, credentials=application(api))
    answer = http.get("/connections/acme", params=GITHUB)
    assert refusal(answer) == refused
    assert "r0" not in answer.text
    assert "app-s3cret" not in answer.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8500/token", "http://169.254.169.254/latest", "http://10.0.0.1/token"]
)
def test_credentials_over_http_cannot_lead_to_private_addresses(url: str, settings: Settings, db: Database) -> None:
    with calling(settings, db, encryption_keys=(KEY,), secret_keys=("k1",)) as http:
        http.headers["Authorization"] = "Bearer k1"
        for held in (
            {"type": "OAUTH2_CC", "token_url": url, "client_id": "a", "client_secret": "b"},
            {"type": "NANGO", "host": url, "secret_key": "k"},
        ):
            answer = http.post("/connections", json={**GITHUB, "connection_id": "acme", "credentials": held})
            assert refusal(answer) == (400, "invalid_body")


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_used(
    settings: Settings, db: Database, api: FakeApi
) -> None:
    """Credentials stored over HTTP before a key existed, or whose host name has another address now."""
    with calling(settings, db, encryption_keys=(KEY,)) as http:
        made(http, credentials=application(api))
    with calling(settings, db, encryption_keys=(KEY,), secret_keys=("k1",)) as http:
        http.headers["Authorization"] = "Bearer k1"
        assert refusal(http.get("/connections/acme", params=GITHUB)) == (400, "invalid_body")
    assert api.requests == []


def test_credentials_of_the_operator_may_lead_anywhere(settings: Settings, db: Database, api: FakeApi) -> None:
    api.route("/token", lambda request: {"access_token": "t1", "expires_in": 3600})
    vault = vault_of(replace(settings, encryption_keys=(KEY,)))
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=application(api)))
    with calling(settings, db, encryption_keys=(KEY,), secret_keys=("k1",)) as http:
        http.headers["Authorization"] = "Bearer k1"
        assert shown(http)["credentials"]["access_token"] == "t1"


# --- environment variables --------------------------------------------------------------------------------------------


def test_environment_variables_are_a_list(settings: Settings, db: Database) -> None:
    with calling(settings, db, env={"TEAM": "a", "OPENAI_API_KEY": "sk"}) as http:
        answer = http.get("/environment-variables/", headers={"Content-Type": "application/json"})
        assert answer.json() == [{"name": "OPENAI_API_KEY", "value": "sk"}, {"name": "TEAM", "value": "a"}]
        assert refusal(http.request("GET", "/environment-variables", json={"a": 1})) == (400, "invalid_body")
    with calling(settings, db) as http:
        assert http.get("/environment-variables").json() == []


# --- a connection's own URL for webhooks ----------------------------------------------------------------------------

HOOK = "https://acme.example.com/hook?token=s3cret"


def test_a_connection_may_have_a_url_of_its_own_for_webhooks(http: TestClient, db: Database) -> None:
    config = {"subdomain": "acme"}
    answer = made(http, webhook_url_override=HOOK, connection_config=config)
    assert (answer["webhook_url_override"], answer["connection_config"]) == (HOOK, config)
    assert announcing.own_urls(db, {("github", "acme")}) == {("github", "acme"): OwnUrl(HOOK, "http")}
    assert "s3cret" not in http.get("/connections").text


def test_a_url_keeps_its_source_until_another_way_in_replaces_it(http: TestClient, db: Database) -> None:
    def source() -> str | None:
        row = connections.get(db, "github", "acme")
        assert row is not None
        return row.webhook_url_source

    operator = connections.NewConnection("github", "acme", config={OVERRIDE: HOOK})
    connections.add(db, None, operator)
    assert source() == "operator"
    made(http, metadata={"region": "eu"})
    made(http, connection_config={"subdomain": "acme"})
    assert source() == "operator"
    made(http, webhook_url_override=HOOK)
    assert source() == "http"
    made(http, connection_config={"override_came_over_http": False, "webhook_url_source": "operator"})
    connections.set_metadata(db, "github", "acme", {"region": "us"})
    assert source() == "http"
    connections.add(db, None, operator)
    assert source() == "operator"
    made(http, webhook_url_override=None)
    assert source() is None
    assert announcing.own_urls(db, {("github", "acme")}) == {}


def test_that_url_stays_until_it_is_named_again(http: TestClient) -> None:
    made(http, webhook_url_override=HOOK)
    assert made(http, metadata={"region": "eu"})["webhook_url_override"] == HOOK
    assert made(http, connection_config={"subdomain": "acme"})["webhook_url_override"] == HOOK
    other = made(http, webhook_url_override="https://other.example.com")
    assert (other["webhook_url_override"], other["connection_config"]) == (
        "https://other.example.com",
        {"subdomain": "acme"},
    )
    gone = made(http, webhook_url_override=None)
    assert (gone["webhook_url_override"], gone["connection_config"]) == (None, {"subdomain": "acme"})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"webhook_url_override": "s3cret"}, "wanted a URL such as https://example.com/hook"),
        ({"webhook_url_override": "ftp://s3cret.example.com"}, "wanted a URL such as https://example.com/hook"),
        ({"webhook_url_override": 7}, "webhook_url_override is a number"),
        ({"connection_config": {"webhook_url_override": HOOK}}, "give it beside connection_config"),
    ],
)
def test_what_is_no_such_url_is_refused_and_not_shown(http: TestClient, fields: dict[str, Any], said: str) -> None:
    answer = http.post("/connections", json={**GITHUB, "connection_id": "acme", **fields})
    assert refusal(answer) == (400, "invalid_body")
    assert said in answer.text and "s3cret" not in answer.text
    assert http.get("/connections").json() == {"connections": []}


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "localhost:8000", "[::1]"])
def test_that_url_leads_to_no_private_address_where_there_is_a_key(
    settings: Settings, db: Database, address: str
) -> None:
    body = {**GITHUB, "connection_id": "acme", "webhook_url_override": f"http://{address}/hook"}
    with calling(settings, db, secret_keys=("k",)) as http:
        answer = http.post("/connections", json=body, headers={"Authorization": "Bearer k"})
    assert refusal(answer) == (400, "invalid_body")
    assert "came over HTTP" in answer.text
