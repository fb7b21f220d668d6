"""Credentials become what a request needs: each kind, the placeholders, and nothing for strangers to see."""

from __future__ import annotations

import json
import re
import traceback
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from nango_dagster.auth import Access, StaticCredentials, check_credentials
from nango_dagster.auth.kinds import KINDS
from nango_dagster.auth.oauth1 import authorization, base_string
from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, AuthenticationFailed, ConfigError
from nango_dagster.fetch import Fetch
from nango_dagster.http import Request
from tests.conftest import ROOT
from tests.executions import items
from tests.fake_api import FakeApi, Received

OAUTH1 = {
    "type": "OAUTH1",
    "oauth_token": "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
    "oauth_token_secret": "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
    "consumer_key": "xvz1evFS4wEEPTGEFPHBog",
    "consumer_secret": "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
}


def read(api: FakeApi, credentials: Mapping[str, Any], facts: Mapping[str, Any] | None = None, **fields: Any) -> Fetch:
    """A Fetch of a list with these credentials, read to its end."""
    given = {"name": "items", "url": api.url + "/items", "retries": 0, **fields}
    sync = Sync(**given)
    fetch = Fetch(sync, access=Access(sync, facts or {}, StaticCredentials(check_credentials(credentials))))
    for _ in fetch:
        pass
    return fetch


def sent(api: FakeApi) -> Received:
    (request,) = api.requests
    return request


def basic(text: str) -> str:
    return f"Basic {b64encode(text.encode()).decode()}"


# --- each kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "headers"),
    [
        ({"type": "API_KEY", "apiKey": "k1"}, {"Authorization": "Bearer k1"}),
        ({"type": "API_KEY", "apiKey": "k1", "header": "X-Api-Key"}, {"X-Api-Key": "k1", "Authorization": None}),
        ({"type": "BASIC", "username": "ann", "password": "p:w"}, {"Authorization": basic("ann:p:w")}),
        ({"type": "BASIC", "username": "sk_1"}, {"Authorization": basic("sk_1:")}),
        ({"type": "BEARER", "token": "t1"}, {"Authorization": "Bearer t1"}),
        ({"type": "OAUTH2", "access_token": "t1"}, {"Authorization": "Bearer t1"}),
        ({"key": "k1"}, {"Authorization": None}),
    ],
)
def test_a_request_gets_what_the_kind_of_credentials_says(
    api: FakeApi, credentials: dict[str, Any], headers: dict[str, str | None]
) -> None:
    api.route("/items", items(1))
    read(api, credentials)
    assert {name: sent(api).headers[name] for name in headers} == headers


def test_an_api_key_may_go_into_the_query(api: FakeApi) -> None:
    api.script("/items", {"results": items(1), "next": "/items?page=2&api_key=k1"}, {"results": []})
    read(api, {"type": "API_KEY", "apiKey": "k1", "query": "api_key"}, paging_url_path="next", query_params={"a": 1})
    assert [request.query for request in api.requests] == [
        [("a", "1"), ("api_key", "k1")],
        [("page", "2"), ("api_key", "k1"), ("a", "1")],
    ]


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_a_header_that_the_sync_sets_stays(api: FakeApi, name: str) -> None:
    api.route("/items", items(1))
    read(api, {"type": "BEARER", "token": "t1"}, headers={name: "Own"})
    assert sent(api).headers.get_all("Authorization") == ["Own"]


def test_where_the_sync_places_a_credential_itself_nothing_is_added(api: FakeApi) -> None:
    api.route("/items", items(1))
    read(api, {"type": "OAUTH2", "access_token": "t1"}, query_params={"token": "${access_token}"})
    assert (sent(api).params, sent(api).headers["Authorization"]) == ({"token": "t1"}, None)


# --- placeholders ---------------------------------------------------------------------------------------------------


def test_values_keep_their_types_in_bodies_and_are_encoded_in_urls(api: FakeApi) -> None:
    api.route("/a%2Fb/*", items(1))
    metadata = {"region": "a/b", "ids": [1, 2], "deep": {"on": True}, "n": 7}
    facts = {"connection_id": "c/1", "variant": "base", "metadata": metadata, "env.TEAM": "core"}
    read(
        api,
        {"key": "k1", "nested": {"x": 5}},
        facts,
        url=api.url + "/${metadata.region}/items?c=${connection_id}",
        method="POST",
        headers={"X-Key": "${credentials.key}", "X-Team": "${env.TEAM} ${variant}"},
        body={
            "ids": "${metadata.ids}",
            "deep": "${metadata.deep}",
            "x": "${credentials.nested.x}",
            "n": "n ${metadata.n}",
        },
    )
    request = sent(api)
    assert request.target == "/a%2Fb/items?c=c%2F1"
    assert (request.headers["X-Key"], request.headers["X-Team"]) == ("k1", "core base")
    assert request.json == {"ids": [1, 2], "deep": {"on": True}, "x": 5, "n": "n 7"}


def test_a_list_in_a_query_repeats_the_name(api: FakeApi) -> None:
    api.route("/items", items(1))
    facts = {"metadata": {"ids": [1, 2], "on": True, "text": "a,b"}}
    read(api, {}, facts, query_params={"id": "${metadata.ids}", "on": "${metadata.on}", "q": "x${metadata.text}"})
    assert sent(api).query == [("id", "1"), ("id", "2"), ("on", "true"), ("q", "xa,b")]


def test_an_unknown_placeholder_is_answered_with_the_names_there_are_and_no_value(api: FakeApi) -> None:
    facts = {"connection_id": "acme", "metadata": {"region": "eu"}, "env.TEAM": "core"}
    with pytest.raises(ConfigError) as caught:
        read(api, {"type": "BEARER", "token": "s3cr3t-token"}, facts, headers={"X": "${credentials.tokn}"})
    said = str(caught.value)
    assert said.startswith("items: ${credentials.tokn} has no value; there are credentials.token, ")
    for name in ("access_token", "connection_id", "metadata.region", "env.TEAM"):
        assert name in said
    assert "s3cr3t" not in said and "core" not in said
    assert api.requests == []


# --- credentials stay at home ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credentials",
    [
        {"type": "BEARER", "token": "s3cr3t-token"},
        {"type": "API_KEY", "apiKey": "s3cr3t-token", "header": "X-Api-Key"},
        {"type": "API_KEY", "apiKey": "s3cr3t-token", "query": "api_key"},
        {"type": "BASIC", "username": "ann", "password": "s3cr3t-token"},
        {**OAUTH1, "oauth_token": "s3cr3t-token"},
    ],
)
def test_a_next_url_or_redirect_to_a_stranger_gets_no_credentials(api: FakeApi, credentials: dict[str, Any]) -> None:
    with FakeApi() as stranger:
        stranger.route("*", {"results": items(2)})
        api.script(
            "/items",
            {"results": items(1), "next": stranger.url + "/items"},
            (302, {"Location": stranger.url + "/moved"}, ""),
        )
        read(api, credentials, paging_url_path="next")
        read(api, credentials)
        seen = [f"{request.target} {request.headers} {request.body!r}" for request in stranger.requests]
    assert len(seen) == 2
    assert not [text for text in seen if "s3cr3t" in text or "Authorization" in text or "oauth" in text.lower()]


def test_a_stranger_who_wants_credentials_does_not_make_ours_wrong(api: FakeApi) -> None:
    with FakeApi() as stranger:
        stranger.route("*", (401, {}, "who are you?"))
        api.route("/items", {"results": items(1), "next": stranger.url + "/items"})
        with pytest.raises(ApiError, match="without the sync's credentials, which do not go to") as caught:
            read(api, {**OAUTH1}, paging_url_path="next")
        assert not isinstance(caught.value, AuthenticationFailed)
        assert len(stranger.requests) == 1


# --- OAuth 1 --------------------------------------------------------------------------------------------------------


def test_oauth_1_signs_as_the_published_example_does() -> None:
    """The example of Twitter's documentation, "Creating a signature"."""
    request = Request(
        "POST",
        "https://api.twitter.com/1.1/statuses/update.json?include_entities=true",
        {"Content-Type": "application/x-www-form-urlencoded"},
        body={"status": "Hello Ladies + Gentlemen, a signed OAuth request!"},
    )
    nonce = "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg"
    header = authorization(request, OAUTH1, nonce=nonce, timestamp=1318622958)
    assert 'oauth_signature="hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D"' in header


def test_oauth_1_orders_parameters_as_the_standard_does() -> None:
    """The example of RFC 5849, section 3.4.1.1."""
    request = Request(
        "POST",
        "http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b",
        {"Content-Type": "application/x-www-form-urlencoded"},
        body={"c2": "", "a3": "2 q"},
    )
    parameters = {
        "oauth_consumer_key": "9djdj82h48djs9d2",
        "oauth_token": "kkk9d7dh3k39sjv7",
        "oauth_signature_method": "HMAC-SHA1",
        "oauth_timestamp": "137131201",
        "oauth_nonce": "7d8f3e4a",
    }
    assert base_string(request, parameters) == (
        "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D"
        "%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1"
        "%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
    )


def test_each_page_has_a_signature_of_its_own(api: FakeApi) -> None:
    api.script("/items", {"results": items(1), "next": "/items?page=2"}, {"results": []})
    read(api, OAUTH1, paging_url_path="next")
    headers = [request.headers["Authorization"] for request in api.requests]
    assert all(header.startswith("OAuth oauth_consumer_key=") for header in headers)
    assert len(set(headers)) == 2


# --- what cannot be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["s3cr3t"], "credentials are a list; wanted a JSON object"),
        ({"type": "APIKEY"}, "credentials have the type 'APIKEY'; wanted one of API_KEY, BASIC, BEARER, OAUTH2, "),
        ({"type": 5}, "wanted one of API_KEY"),
        ({"type": "API_KEY", "apikey": "s3cr3t"}, "credentials of type API_KEY lack apiKey"),
        ({"type": "API_KEY", "apiKey": " "}, "lack apiKey"),
        ({"type": "API_KEY", "apiKey": "s3cr3t", "header": "A", "query": "b"}, "say both header and query; keep"),
        ({"type": "BASIC", "password": "s3cr3t"}, "lack username"),
        ({"type": "BEARER"}, "lack token"),
        ({"type": "OAUTH2"}, "lack access_token or refresh_token"),
        ({"type": "OAUTH2", "refresh_token": "s3cr3t"}, "lack token_url and client_id"),
        ({"type": "OAUTH2_CC", "client_id": "c", "token_url": "https://a/t"}, "lack client_secret"),
        (
            {"type": "OAUTH2_CC", "client_id": "c", "client_secret": "s3cr3t", "token_url": "ftp://u:s3cr3t@a/t"},
            "OAUTH2_CC: token_url: 'ftp://***@a/t' cannot be fetched; wanted a URL that begins with https://",
        ),
        ({"type": "OAUTH1", "oauth_token": "s3cr3t"}, "lack oauth_token_secret and consumer_key and consumer_secret"),
        ({"type": "NANGO", "secret_key": "s3cr3t"}, "lack host"),
        ({"type": "NANGO", "secret_key": "s3cr3t", "host": "nango.example.com"}, "type NANGO: host: "),
    ],
)
def test_credentials_that_cannot_be_used_are_answered_with_what_they_lack(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_credentials(given)
    assert said in str(caught.value)
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


PAGE = (ROOT / "docs" / "reference" / "connections.md").read_text()


@pytest.mark.parametrize("example", re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S))
def test_the_examples_of_the_page_can_be_used(example: str) -> None:
    given = json.loads(example)
    assert check_credentials(given) == given


def test_the_page_shows_every_kind() -> None:
    assert all(f'"type": "{kind}"' in PAGE for kind in KINDS)


def test_values_without_a_type_may_be_anything() -> None:
    assert check_credentials({"any": {"thing": 1}}) == {"any": {"thing": 1}}


# --- secrets --------------------------------------------------------------------------------------------------------


SECRETS: list[dict[str, Any]] = [
    {"type": "API_KEY", "apiKey": "s3cr3t+/value"},
    {"type": "API_KEY", "apiKey": "s3cr3t+/value", "query": "api_key"},
    {"type": "BASIC", "username": "ann", "password": "s3cr3t+/value"},
    {"type": "BASIC", "username": "s3cr3t+/value"},
    {"type": "BEARER", "token": "s3cr3t+/value"},
    {"type": "OAUTH2", "access_token": "s3cr3t+/value"},
    {"plain": "s3cr3t+/value"},
    {"deep": {"list": ["s3cr3t+/value"]}},
]


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("credentials", SECRETS, ids=json.dumps)
def test_what_the_api_echoes_of_the_credentials_is_starred(
    api: FakeApi, credentials: dict[str, Any], status: int
) -> None:
    def echo(request: Received) -> Any:
        pair = b64encode(b"ann:s3cr3t+/value").decode()
        return status, {}, f"{request.target} {request.headers} {pair} s3cr3t+/value s3cr3t%2B%2Fvalue"

    api.route("/items", echo)
    fields = {} if "type" in credentials else {"query_params": {"x": "${credentials.plain}"}}
    if "deep" in credentials:
        fields = {"query_params": {"x": "${credentials.deep.list[0]}"}}
    with pytest.raises(Exception) as caught:
        read(api, credentials, **fields)
    assert isinstance(caught.value, AuthenticationFailed) == (status == 401)
    said = "".join(traceback.format_exception(caught.value))
    assert "s3cr3t" not in said and "***" in said
    assert b64encode(b"ann:s3cr3t+/value").decode() not in said or credentials.get("username") != "ann"


def test_nothing_prints_credentials() -> None:
    stored = StaticCredentials({"type": "BEARER", "token": "s3cr3t"})
    access = Access(Sync(url="https://api.example.com"), {}, stored)
    access.variables()
    assert "s3cr3t" not in f"{stored!r} {access!r} {vars(access)['_source']!r}"
