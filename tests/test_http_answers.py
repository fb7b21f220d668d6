"""The meaning of an answer: rules of a sync, renewed credentials, links, and what is logged about it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.auth import Access, StaticCredentials, check_credentials
from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, AuthenticationFailed, ConfigError
from nango_dagster.fetch import Fetch
from nango_dagster.http import Client, Policy, Request, Response, Verdict, parse_links, wait_of
from tests.executions import items
from tests.fake_api import Answer, FakeApi, Received

QUICK = Policy(name="issues", backoff=0.001, timeout=5)


def by_body(response: Response) -> Verdict | None:
    """A rule that reads the body, as a sync's `responses` do."""
    for word, verdict in {
        b"throttled": Verdict("retry", wait=0.001),
        b"expired": Verdict("refresh_credentials", 'says "expired"'),
        b"broken": Verdict("fail", 'says "broken key=s3cr3t"'),
        b"gone": Verdict("accept"),
    }.items():
        if word in response.content:
            return verdict
    return None


def _port(api: FakeApi) -> int:
    return int(api.url.rpartition(":")[2])


# --- rules ------------------------------------------------------------------------------------------------------------


def test_an_answer_that_a_rule_retries_is_asked_for_again_whatever_its_status(api: FakeApi) -> None:
    api.script("/items", "throttled", "throttled", [1])
    with Client(QUICK) as client:
        assert client.send(Request("GET", api.url + "/items"), judge=by_body).content == b"[1]"
        assert client.retries == 2


def test_an_answer_that_stays_throttled_ends_after_all_retries(api: FakeApi) -> None:
    api.route("/items", "throttled")
    with Client(replace(QUICK, retries=1)) as client, pytest.raises(ApiError, match=r"200 OK: .throttled.* 2 tries"):
        client.send(Request("GET", api.url + "/items"), judge=by_body)


def test_a_rule_asks_for_new_credentials_once_and_then_says_they_are_refused(api: FakeApi) -> None:
    api.script("/items", "expired", [1], "expired", "expired")
    request = Request("GET", api.url + "/items", {"Authorization": "old"})

    def rebuild(refused: bool) -> Request:
        return replace(request, headers={"Authorization": "new" if refused else "old"})

    with Client(QUICK) as client:
        assert client.send(request, rebuild=rebuild, judge=by_body).content == b"[1]"
        with pytest.raises(AuthenticationFailed, match=r'says "expired"\.$'):
            client.send(request, rebuild=rebuild, judge=by_body)
    assert [sent.headers["Authorization"] for sent in api.requests] == ["old", "new", "old", "new"]


def test_a_rule_fails_with_its_own_sentence_and_without_secrets(api: FakeApi) -> None:
    api.route("/items", "broken")
    with Client(QUICK) as client, pytest.raises(ApiError) as info:
        client.hide("s3cr3t")
        client.send(Request("GET", api.url + "/items"), judge=by_body)
    assert str(info.value) == f'issues: GET {api.url}/items says "broken key=***".'


def test_a_rule_may_accept_an_error_status(api: FakeApi) -> None:
    api.route("/items", Answer(status=410, body=b"gone"))
    with Client(QUICK) as client:
        assert client.send(Request("GET", api.url + "/items"), judge=by_body).status == 410


@pytest.mark.parametrize(
    ("value", "seconds"), [("1.5", 1.5), (3, 3.0), (None, None), (True, None), ({}, None), ("soon", None), (-4, 0.0)]
)
def test_a_wait_is_read_from_any_value(value: Any, seconds: float | None) -> None:
    assert wait_of(value) == seconds


# --- each try is built anew -------------------------------------------------------------------------------------------


def test_a_retried_request_gets_another_oauth_1_nonce(api: FakeApi) -> None:
    api.script("/items", Answer(status=503), items(1))
    names = ("oauth_token", "oauth_token_secret", "consumer_key", "consumer_secret")
    credentials = check_credentials({"type": "OAUTH1", **dict.fromkeys(names, "x")})
    sync = Sync(name="items", url=api.url + "/items", retries=1)
    policy = replace(QUICK, name="items")
    list(Fetch(sync, access=Access(sync, {}, StaticCredentials(credentials)), policy=policy))
    first, second = (request.headers["Authorization"] for request in api.requests)
    assert first != second


class Rotating:
    """Credentials whose token changes each time the API refuses it."""

    def __init__(self) -> None:
        self.number = 1

    def credentials(self, fresh: bool) -> dict[str, str]:
        self.number += fresh
        return {"type": "OAUTH2", "access_token": f"t{self.number}"}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "fields",
    [{"query_params": {"token": "${access_token}"}}, {"url": "/items?token=${access_token}"}],
    ids=["query_params", "url"],
)
def test_a_next_url_that_repeats_an_old_token_gets_the_present_one(api: FakeApi, fields: dict[str, Any]) -> None:
    """Also where a token was refused between two pages, and where the next URL leaves it out."""

    def answer(request: Received) -> Any:
        page = int(request.params.get("page", 1))
        if page == 2 and request.params.get("token") == "t1":
            return Answer(status=401)
        following = {1: "/items?page=2&token=t1", 2: "/items?page=3"}.get(page)
        return {"results": items(page), "next": following}

    api.route("/items", answer)
    url = api.url + fields.pop("url", "/items")
    sync = Sync(name="items", url=url, paging_url_path="next", retries=0, **fields)
    list(Fetch(sync, access=Access(sync, {}, Rotating())))
    assert [request.params["token"] for request in api.requests] == ["t1", "t1", "t2", "t2"]


# --- what a failure says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip"])
def test_an_error_keeps_its_status_in_any_compression(api: FakeApi, encoding: str) -> None:
    api.route("/items", Answer(status=404, body=b"not compressed at all", headers={"Content-Encoding": encoding}))
    with Client(QUICK) as client, pytest.raises(ApiError) as info:
        client.send(Request("GET", api.url + "/items"))
    assert (info.value.status, str(info.value)) == (404, f"issues: GET {api.url}/items answered 404 Not Found.")


def test_a_refused_address_is_never_connected_to(api: FakeApi) -> None:
    """So the sentence is the same for an open port and for a closed one."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    sentences = set()
    for port in (_port(api), closed):
        with Client(replace(QUICK, reach="public")) as client, pytest.raises(ConfigError) as info:
            client.send(Request("GET", f"http://localhost:{port}/items"))
        sentences.add(str(info.value))
    assert len(sentences) == 1
    assert api.connections == 0


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere the second time is asked for once."""
    api.route("/items", [1])
    lookup, names = socket.getaddrinfo, []

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(host)
        return lookup("127.0.0.1" if host == "api.test" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with Client(replace(QUICK, reach="private")) as client:
        assert client.send(Request("GET", f"http://api.test:{_port(api)}/items")).content == b"[1]"
    assert names.count("api.test") == 1
    assert api.requests[0].headers["Host"] == f"api.test:{_port(api)}"


def test_debug_logs_each_request_without_secrets(api: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.script("/items", Answer(status=503), [1])
    with caplog.at_level(logging.DEBUG, "nango_dagster.http"), Client(QUICK) as client:
        client.send(Request("GET", api.url + "/items?page=2&api_key=s3cr3t", {"Authorization": "Bearer t0ps3cr3t"}))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"issues: GET {api.url}/items?page=2&api_key=***: 503, ")
    assert second.startswith(f"issues: GET {api.url}/items?page=2&api_key=***: 200, 3 bytes in 0.")
    assert "s3cr3t" not in caplog.text


def test_a_variable_without_a_value_is_named(api: FakeApi) -> None:
    sync = Sync(name="items", url=api.url + "/items", headers={"Authorization": "Bearer ${env.TOKEN}"})
    with pytest.raises(ConfigError, match=r"items: \$\{env\.TOKEN\} has no value; set NANGO_ENV_TOKEN"):
        list(Fetch(sync, access=Access(sync, {"env.TEAM": "core"})))


# --- links ------------------------------------------------------------------------------------------------------------


def test_links_are_read_as_browsers_read_them() -> None:
    header = '<a;b>; rel=\'next\', <c,d>; title="x=1; y"; REL="prev LAST"; results=false, < /e >;rel=up;flag, junk'
    assert [(link.url, link.relations) for link in parse_links(header)] == [
        ("a;b", ("next",)),
        ("c,d", ("prev", "last")),
        ("/e", ("up",)),
    ]
    assert parse_links(header)[1].parameters["results"] == "false"


@pytest.mark.parametrize(
    "hostile",
    [
        lambda n: "<" * n,
        lambda n: "<a>;" * n,
        lambda n: "<a>" + ";" * n,
        lambda n: "<a>" + " ; " * n,
        lambda n: "<a>; b=" + " " * n,
        lambda n: '<a>; rel="' + "\\" * n,
        lambda n: "<a>; b='" * n,
        lambda n: "<a> " + " " * n + "x",
    ],
)
def test_a_hostile_link_header_costs_time_in_proportion_to_its_length(hostile: Callable[[int], str]) -> None:
    """With quadratic cost, half a megabyte would take minutes."""
    began = process_time()
    parse_links(hostile(500_000))
    assert process_time() - began < 20


@given(st.text(st.sampled_from("<>;,='\" \\ab\u00e9"), max_size=100))
def test_any_link_header_gives_links(header: str) -> None:
    for link in parse_links(header):
        assert all(name == name.lower() for name in link.parameters)


def test_utf_8_in_a_location_and_a_link_is_read_as_utf_8(api: FakeApi) -> None:
    path = "/suche/Müller".encode().decode("latin-1")
    api.script("/search", Answer(status=301, headers={"Location": path}))
    api.route("/suche/M%C3%BCller", Answer(body=b"[]", headers={"Link": f'<{path}?seite=2>; rel="next"'}))
    with Client(QUICK) as client:
        response = client.send(Request("GET", api.url + "/search"))
    assert response.links["next"] == "/suche/Müller?seite=2"


def test_an_error_about_an_answer_shows_the_url_that_was_sent(api: FakeApi) -> None:
    api.route("/s3cr3t-base/eu/items", {"error": "no such region"})
    sync = Sync(
        name="items",
        url="${env.API}/${metadata.region}/items",
        query_params={"key": "${credentials.key}", "team": "${metadata.team}"},
    )
    facts = {"env.API": f"{api.url}/s3cr3t-base", "metadata": {"region": "eu", "team": "core"}}
    with pytest.raises(ApiError) as info:
        list(Fetch(sync, access=Access(sync, facts, StaticCredentials({"key": "s3cr3t"}))))
    sentence = str(info.value)
    assert sentence.startswith(f"items: GET {api.url}/***/eu/items?key=***&team=core: ")
    assert "s3cr3t" not in sentence
