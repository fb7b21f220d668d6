"""Servers as the source of credentials: Pizzly, to which its own client talks as well, and a Nango server."""

from __future__ import annotations

import json
import os
import subprocess
import time
import traceback
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import runs
from nango_dagster.auth import Access, NangoServer, Pizzly, ServerConnection, check_credentials
from nango_dagster.config import Sync, from_body
from nango_dagster.errors import ApiError, AuthenticationFailed, ConfigError
from nango_dagster.fetch import Fetch
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from nango_dagster.vault import vault_of
from tests.executions import PAGING, Source, assert_exact, items
from tests.fake_api import FakeApi, Received, Reply
from tests.npm import installed
from tests.pizzly_server import LATER, PizzlyServer

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@pytest.fixture
def pizzly(api: FakeApi) -> Iterator[PizzlyServer]:
    """A Pizzly server of its own, with one connection; `api` is the API that takes its tokens."""
    with FakeApi() as own:
        server = PizzlyServer(own)
        server.add("github", "user1")
        yield server


def client(server: PizzlyServer, key: str = "github", connection_id: str = "user1", **given: Any) -> Pizzly:
    connection = ServerConnection(key, connection_id, given, "items")
    return Pizzly(server.api.url, server.secret or None, connection)


def ask(server: PizzlyServer, key: str = "github", connection_id: str = "user1") -> Mapping[str, Any]:
    """All arguments of our client."""
    asking = client(server, key, connection_id)
    try:
        return asking.credentials(fresh=False)
    finally:
        asking.close()


class Guarded(Source):
    """A list that the Pizzly connection's token opens."""

    def __init__(self, api: FakeApi, pizzly: PizzlyServer, records: list[Any]) -> None:
        super().__init__(api, records)
        self.pizzly = pizzly
        self.names = ("github", "user1")
        self.revoke_at = 0
        self.count = 0

    def answer(self, request: Received) -> Reply:
        self.count += 1
        if self.count == self.revoke_at:
            self.pizzly.revoke(*self.names)
        if not self.pizzly.lets_in(*self.names, request.headers["Authorization"]):
            return 401, {}, {"error": "bad token"}
        return super().answer(request)


# --- an honest server -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def npm_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with Pizzly's own client, installed by npm."""
    return installed("pizzly_node", "@nangohq/pizzly-node", tmp_path_factory)


def said_by_npm(folder: Path, server: PizzlyServer, key: str, connection_id: str, secret: str = "") -> Any:
    env = {**os.environ, "PIZZLY_SECRET_KEY": secret}
    command = ["node", "ask.mjs", server.api.url, key, connection_id]
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(ran.stdout)


def test_pizzlys_own_client_is_given_what_ours_is(npm_client: Path, pizzly: PizzlyServer) -> None:
    pizzly.secret = "s3cr3t"
    pizzly.add("twitter", "user2", "OAUTH1")
    ours = ask(pizzly)
    theirs = said_by_npm(npm_client, pizzly, "github", "user1", "s3cr3t")
    assert theirs == {"token": ours["access_token"], "raw": ours["raw"]}
    ours = ask(pizzly, "twitter", "user2")
    theirs = said_by_npm(npm_client, pizzly, "twitter", "user2", "s3cr3t")
    assert theirs["token"] == {"oAuthToken": ours["oauth_token"], "oAuthTokenSecret": ours["oauth_token_secret"]}


def test_pizzlys_own_client_asks_what_ours_does_and_is_refused_alike(npm_client: Path, pizzly: PizzlyServer) -> None:
    pizzly.secret = "s3cr3t"
    with pytest.raises(AuthenticationFailed, match="answered 400 Bad Request"):
        ask(pizzly, "github", "nobody")
    assert said_by_npm(npm_client, pizzly, "github", "nobody", "s3cr3t")["error"][0] == 400
    ours, theirs = pizzly.api.requests
    assert ours.target == theirs.target
    for name in ("Authorization", "Content-Type"):
        assert ours.headers[name] == theirs.headers[name]
    assert said_by_npm(npm_client, pizzly, "github", "user1", "wrong")["error"][0] == 401


# --- Pizzly ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("older", [False, True], ids=["0.5", "0.3"])
def test_the_token_is_asked_for_before_every_page(api: FakeApi, pizzly: PizzlyServer, older: bool) -> None:
    pizzly.older, pizzly.good_for = older, 2
    source = Guarded(api, pizzly, items(*range(12)))
    sync = source.sync()
    fetch = Fetch(sync, access=Access(sync, {}, client(pizzly)))
    assert [json.loads(record) for page in fetch for record in page.records] == source.records
    assert fetch.retries == 0
    assert pizzly.asked == ["/connection/user1?provider_config_key=github"] * 4
    assert [request.headers["Authorization"][-1] for request in api.requests] == ["1", "1", "2", "2"]


def test_a_token_that_is_revoked_meanwhile_is_asked_for_once_more(api: FakeApi, pizzly: PizzlyServer) -> None:
    source = Guarded(api, pizzly, items(*range(9)))
    source.revoke_at = 2
    sync = source.sync()
    fetch = Fetch(sync, access=Access(sync, {}, client(pizzly)))
    assert sum(len(page.records) for page in fetch) == 9
    assert (fetch.retries, len(pizzly.asked)) == (1, 4)


def test_a_token_that_stays_refused_is_an_authentication_failure(api: FakeApi, pizzly: PizzlyServer) -> None:
    source = Guarded(api, pizzly, items(1))
    pizzly.good_for = 0
    sync = source.sync()
    with pytest.raises(AuthenticationFailed, match="answered 401"):
        list(Fetch(sync, access=Access(sync, {}, client(pizzly))))
    assert len(pizzly.asked) == 2


@pytest.mark.parametrize("older", [False, True], ids=["0.5", "0.3"])
def test_oauth_1_tokens_sign_each_request(api: FakeApi, pizzly: PizzlyServer, older: bool) -> None:
    pizzly.older = older
    pizzly.add("twitter", "user2", "OAUTH1")
    api.route("/items", items(1))
    sync = Sync(name="items", url=api.url + "/items")
    source = client(pizzly, "twitter", "user2", consumer_key="app", consumer_secret="s3cr3t")
    list(Fetch(sync, access=Access(sync, {}, source)))
    header = api.requests[0].headers["Authorization"]
    assert header.startswith('OAuth oauth_consumer_key="app"') and 'oauth_token="token-user2-1"' in header
    with pytest.raises(ConfigError, match="items: OAuth 1 signs requests with the application's consumer_key and"):
        list(Fetch(sync, access=Access(sync, {}, client(pizzly, "twitter", "user2"))))


def test_names_are_encoded_in_the_url(pizzly: PizzlyServer) -> None:
    assert client(pizzly, "a&b", "../x?y").url.endswith("/connection/..%2Fx%3Fy?provider_config_key=a%26b")


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"secret": "other"}, ConfigError, "answered 401 Unauthorized"),
        ({"grants": {}}, AuthenticationFailed, 'answered 400 Bad Request: "{"error": "No matching connection'),
    ],
)
def test_a_refusal_by_pizzly_says_who_can_help(
    pizzly: PizzlyServer, change: dict[str, Any], kind: type[Exception], said: str
) -> None:
    asking = client(pizzly)
    vars(pizzly).update(change)
    with pytest.raises(kind) as caught:
        asking.credentials(fresh=False)
    asking.close()
    assert str(caught.value).startswith("items: no credentials from Pizzly: GET ") and said in str(caught.value)
    assert ("The secret key of Pizzly is wrong or missing." in str(caught.value)) == (kind is ConfigError)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((503, {"Retry-After": "900"}, ""), "answered 503 Service Unavailable; it asks to wait 900 s"),
        ({"connection": 1}, "answered without credentials; the answer has 'connection'."),
        ("hello", "answered without credentials; the answer has no JSON object."),
        ({"credentials": "x"}, "answered without credentials; the answer has 'credentials'."),
    ],
)
def test_an_answer_without_credentials_is_tried_again_another_time(api: FakeApi, reply: Reply, said: str) -> None:
    api.route("/connection/*", reply)
    asking = Pizzly(api.url, "s3cr3t", ServerConnection("github", "user1", name="items"))
    with pytest.raises(ApiError) as caught:
        asking.credentials(fresh=False)
    asking.close()
    assert type(caught.value) is ApiError and said in str(caught.value)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


# --- Pizzly, from a config to rows ----------------------------------------------------------------------------------


@pytest.fixture
def sealed(settings: Settings, pizzly: PizzlyServer) -> Settings:
    return replace(settings, encryption_keys=(KEY,), pizzly_base_url=pizzly.api.url, pizzly_secret_key="s3cr3t")


@pytest.mark.parametrize("header", [None, "Bearer ${pizzlyAccessToken}", "Bearer ${access_token}"])
def test_a_sync_of_one_pizzly_connection_reads_its_account(
    db: Database, sealed: Settings, api: FakeApi, pizzly: PizzlyServer, header: str | None
) -> None:
    pizzly.secret, pizzly.good_for = "s3cr3t", 2
    source = Guarded(api, pizzly, items(*range(9)))
    body: dict[str, Any] = {
        "name": "items",
        "url": api.url + "/items",
        "unique_key": "id",
        "pizzly_connection_id": "user1",
        "pizzly_provider_config_key": "github",
        **PAGING,
        **({"headers": {"Authorization": header}} if header else {}),
    }
    row = syncs.register(db, [from_body(body)])["items"]
    with runs.claimed(db, sealed, row) as execution:
        outcome = execution.run()
    assert outcome.status == "succeeded", outcome.error
    assert_exact(db, row, source.records)
    assert len(pizzly.asked) == 3


def test_a_connection_may_have_its_token_in_pizzly(
    db: Database, sealed: Settings, api: FakeApi, pizzly: PizzlyServer
) -> None:
    pizzly.secret = "s3cr3t"
    pizzly.add("hub", "ann")
    source = Guarded(api, pizzly, items(1, 2))
    sync = source.sync(integration="github", unique_key="id")
    row = syncs.register(db, [sync])["items"]
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "user1", credentials={"type": "PIZZLY"}))
    elsewhere = {"type": "PIZZLY", "connection_id": "ann", "provider_config_key": "hub"}
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=elsewhere))
    for name, there in (("user1", ("github", "user1")), ("acme", ("hub", "ann"))):
        source.names = there
        with runs.claimed(db, sealed, row, connection_id=name) as execution:
            outcome = execution.run()
        assert outcome.status == "succeeded", outcome.error
    assert pizzly.asked == [
        "/connection/user1?provider_config_key=github",
        "/connection/ann?provider_config_key=hub",
    ]


def test_without_the_servers_url_it_is_asked_for(db: Database, settings: Settings) -> None:
    sync = Sync(url="https://a.example", name="x", pizzly_connection_id="a", pizzly_provider_config_key="b")
    row = syncs.register(db, [sync])["x"]
    with runs.claimed(db, settings, row) as execution:
        outcome = execution.run()
    assert outcome.status == "failed"
    assert "x: the token comes from Pizzly, and PIZZLY_BASE_URL is not set; wanted the URL" in (outcome.error or "")


# --- a Nango server -------------------------------------------------------------------------------------------------


def nango(api: FakeApi, **given: Any) -> NangoServer:
    checked = check_credentials({"type": "NANGO", "host": api.url + "/", "secret_key": "s3cr3t", **given})
    return NangoServer(ServerConnection("github", "acme", checked, "items"))


def connection_row(credentials: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": 1, "connection_id": "acme", "provider_config_key": "github", "credentials": credentials}


OAUTH2 = {"type": "OAUTH2", "access_token": "t1", "expires_at": LATER, "raw": {"access_token": "t1"}}


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (OAUTH2, "Bearer t1"),
        ({"type": "OAUTH2_CC", "token": "t1"}, "Bearer t1"),
        ({"type": "APP", "access_token": "t1"}, "Bearer t1"),
        ({"type": "API_KEY", "apiKey": "k1"}, "Bearer k1"),
        ({"type": "BASIC", "username": "a", "password": "b"}, f"Basic {b64encode(b'a:b').decode()}"),
        ({"type": "CUSTOM", "raw": {}}, None),
        ({}, None),
    ],
)
def test_a_nango_server_is_asked_once_for_whatever_it_keeps(
    api: FakeApi, credentials: dict[str, Any], header: str | None
) -> None:
    api.route("/connections/acme", connection_row(credentials))
    source = Source(api, items(*range(9)))
    sync = source.sync()
    list(Fetch(sync, access=Access(sync, {}, nango(api))))
    asked = [request for request in api.requests if request.path.startswith("/connection")]
    assert [request.target for request in asked] == ["/connections/acme?provider_config_key=github"]
    assert asked[0].headers["Authorization"] == "Bearer s3cr3t"
    pages = [request for request in api.requests if request.path == "/items"]
    assert [request.headers["Authorization"] for request in pages] == [header] * 3


def test_the_key_of_the_nango_server_is_not_sent_to_the_api(api: FakeApi) -> None:
    api.route("/connections/acme", connection_row({"type": "API_KEY", "apiKey": "k1"}))
    source = nango(api, header="X-Key")
    access = Access(Sync(url=api.url), {}, source)
    variables = access.variables()
    source.close()
    assert "s3cr3t" not in str(variables)
    assert variables["credentials"]["apiKey"] == "k1"


def test_an_older_nango_server_is_asked_in_its_own_words(api: FakeApi) -> None:
    api.route("/connection/acme", connection_row(OAUTH2))
    source = nango(api)
    assert source.credentials(fresh=False)["access_token"] == "t1"
    source.close()
    assert [request.path for request in api.requests] == ["/connections/acme", "/connection/acme"]


def test_credentials_that_were_refused_or_have_run_out_are_asked_for_again(api: FakeApi) -> None:
    api.route("/connections/acme", connection_row({**OAUTH2, "expires_at": time.time() + 5}))
    source = nango(api)
    source.credentials(fresh=False)
    source.credentials(fresh=False)
    api.route("/connections/acme", connection_row(OAUTH2))
    for fresh in (False, False, True):
        source.credentials(fresh=fresh)
    source.close()
    assert [request.params.get("force_refresh") for request in api.requests] == [None, None, None, "true"]


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ((401, {}, {"error": {"code": "unknown_account"}}), ConfigError, "The secret key of the Nango server is wrong"),
        ((404, {}, {"error": {"code": "not_found"}}), AuthenticationFailed, "answered 404 Not Found"),
        ((400, {}, {"error": {"code": "unknown_connection"}}), AuthenticationFailed, "answered 400 Bad Request"),
        ((424, {}, {"error": {"code": "invalid_credentials"}}), AuthenticationFailed, "answered 424"),
    ],
)
def test_a_refusal_by_the_nango_server_says_who_can_help(
    api: FakeApi, reply: Reply, kind: type[Exception], said: str
) -> None:
    api.route("/connections/*", reply)
    api.route("/connection/*", reply)
    source = nango(api)
    with pytest.raises(kind) as caught:
        source.credentials(fresh=False)
    source.close()
    text = "".join(traceback.format_exception(caught.value))
    assert said in str(caught.value) and "s3cr3t" not in text
