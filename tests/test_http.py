"""One request to the outside world: what is sent, what is tried again, what is never told."""

from __future__ import annotations

import base64
import datetime
import gzip
import json
import socket
import ssl
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.errors import ApiError, AuthenticationFailed, Cancelled, ConfigError, NangoError
from nango_dagster.http import (
    Bucket,
    Client,
    Policy,
    RateLimit,
    Request,
    Response,
    asked_wait,
    links,
    origin,
    public_url,
    query_pairs,
    redact,
    redirected,
)
from nango_dagster.http.addresses import refuse
from nango_dagster.http.sockets import ReadGuard
from tests.executions import until
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, gzipped, half, html, redirect

QUICK = Policy(name="issues", backoff=0.001, timeout=5)
MANY = json.dumps([{"id": number} for number in range(100)]).encode()


def send(request: Request, policy: Policy = QUICK, **kwargs: Any) -> Response:
    with Client(policy, **kwargs) as client:
        return client.send(request)


def failure(request: Request, policy: Policy = QUICK, **kwargs: Any) -> ApiError:
    with pytest.raises(ApiError) as info:
        send(request, policy, **kwargs)
    return info.value


@pytest.fixture
def stranger() -> Iterator[FakeApi]:
    """Another origin."""
    with FakeApi() as server:
        yield server


# --- what is sent -----------------------------------------------------------------------------------------


def test_requests_share_one_connection(api: FakeApi) -> None:
    api.route("/items", [])
    with Client(QUICK) as client:
        for _ in range(5):
            client.send(Request("GET", api.url + "/items"))
    assert (api.connections, client.requests, client.retries) == (1, 5, 0)


@pytest.mark.parametrize(
    ("method", "body", "sent"), [("GET", {"a": 1}, b""), ("DELETE", None, b""), ("DELETE", {"a": 1}, b'{"a":1}')]
)
def test_get_sends_no_body_and_delete_only_one_that_is_given(api: FakeApi, method: str, body: Any, sent: bytes) -> None:
    api.route("/items", [])
    send(Request(method, api.url + "/items", body=body))
    assert api.requests[0].body == sent


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(("body", "sent"), [(None, {}), ({"a": [1]}, {"a": [1]})])
def test_post_put_and_patch_send_json(api: FakeApi, method: str, body: Any, sent: Any) -> None:
    api.route("/items", [])
    send(Request(method, api.url + "/items", body=body))
    assert (api.requests[0].method, api.requests[0].json) == (method, sent)
    assert api.requests[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_a_body_is_a_form_where_the_content_type_says_so(api: FakeApi, name: str) -> None:
    api.route("/token", {})
    form = "application/x-www-form-urlencoded; charset=UTF-8"
    for body in ({"grant_type": "refresh token", "a": ["x&y", 1, None], "on": True}, {}, None):
        send(Request("POST", api.url + "/token", {name: form}, body=body))
    assert [request.body for request in api.requests] == [b"grant_type=refresh+token&a=x%26y&a=1&on=true", b"", b""]
    assert api.requests[0].headers.get_all("Content-Type") == [form]


def test_a_request_says_who_asks_and_wants_json(api: FakeApi) -> None:
    api.route("/items", [])
    send(Request("GET", api.url + "/items"))
    headers = api.requests[0].headers
    assert headers["User-Agent"].startswith("nango-dagster/")
    assert (headers["Accept"], headers["Accept-Encoding"]) == ("application/json", "gzip, deflate")


def test_own_headers_win_over_the_defaults_in_any_case(api: FakeApi) -> None:
    api.route("/items", [])
    send(Request("GET", api.url + "/items", {"accept": "application/vnd.github+json", "user-agent": "me"}))
    headers = api.requests[0].headers
    assert (headers.get_all("Accept"), headers.get_all("User-Agent")) == (
        ["application/vnd.github+json"],
        ["me"],
    )


def test_parameter_names_are_sent_as_they_are(api: FakeApi) -> None:
    api.route("/items", [])
    params = (("filter[id][_gt]", "7"), ("page.after", "a+b/c=="), ("q", "größer & mehr"))
    send(Request("GET", api.url + "/items?sort=a%20b", params=params))
    assert api.requests[0].query == [("sort", "a b"), *params]


def test_a_list_repeats_its_parameter_and_null_leaves_it_out() -> None:
    params = query_pairs({"ids": [1, 2], "open": True, "gone": None, "ratio": 0.5})
    assert params == (("ids", "1"), ("ids", "2"), ("open", "true"), ("ratio", "0.5"))


def test_userinfo_in_a_url_becomes_a_header(api: FakeApi) -> None:
    api.route("/items", [])
    url = api.url.replace("http://", "http://me%40x:pa%3Ass@") + "/items"
    send(Request("GET", url).with_userinfo_in_header())
    assert api.requests[0].headers["Authorization"] == f"Basic {base64.b64encode(b'me@x:pa:ss').decode()}"


def test_a_netrc_file_adds_no_credentials(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api.route("/items", [])
    send(Request("GET", api.url + "/items"))
    assert api.requests[0].headers["Authorization"] is None


def test_a_proxy_of_the_environment_is_used(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", api.url)
    api.route("/items", [])
    assert send(Request("GET", "http://api.example.test/items")).content == b"[]"
    assert api.requests[0].target == "http://api.example.test/items"


def test_a_proxy_is_not_used_for_a_host_that_needs_none(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    api.route("/items", [])
    send(Request("GET", api.url + "/items"))


def test_cookies_are_not_kept(api: FakeApi) -> None:
    api.route("/items", (200, {"Set-Cookie": "sid=1"}, []))
    with Client(QUICK) as client:
        client.send(Request("GET", api.url + "/items"))
        client.send(Request("GET", api.url + "/items"))
    assert api.requests[1].headers["Cookie"] is None


@pytest.mark.parametrize("value", ["Bearer sekret\r\nX: y", "Bearer sekret\n", "Bearer sekret\u4e2d"])
def test_a_header_that_cannot_be_sent_is_named_without_its_value(api: FakeApi, value: str) -> None:
    with pytest.raises(ConfigError, match="issues: the header 'Authorization' holds") as info:
        send(Request("GET", api.url, {"Authorization": value}))
    assert "sekret" not in "".join(traceback.format_exception(info.value))
    assert api.requests == []


@pytest.mark.parametrize("url", ["ftp://a.example/x", "file:///etc/passwd", "api.example.com", "http://", "http://[x"])
def test_only_http_urls_are_fetched(url: str) -> None:
    with pytest.raises(ConfigError, match="issues: "):
        send(Request("GET", url))


# --- what comes back --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    ],
)
def test_a_compressed_body_is_unpacked(api: FakeApi, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    api.route("/items", (200, {"Content-Encoding": encoding}, pack(MANY)))
    assert send(Request("GET", api.url + "/items")).content == MANY


def test_an_encoding_nobody_asked_for_is_an_error(api: FakeApi) -> None:
    api.route("/items", (200, {"Content-Encoding": "x-secret-sauce"}, b"..."))
    assert 'sent the Content-Encoding "x-secret-sauce"; wanted gzip' in str(failure(Request("GET", api.url + "/items")))


def test_a_chunked_body_is_whole(api: FakeApi) -> None:
    api.route("/items", lambda request: Answer(body=iter([MANY[:7], MANY[7:]])))
    assert send(Request("GET", api.url + "/items")).content == MANY


def test_header_names_match_in_any_case(api: FakeApi) -> None:
    api.route("/items", (200, {"x-next": "7", "LINK": '<https://a.example?page=2>; rel="next"'}, []))
    response = send(Request("GET", api.url + "/items"))
    assert (response.headers["X-Next"], response.links["next"]) == ("7", "https://a.example?page=2")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://a.example?a=1,2&b=;x>; rel="next"', {"next": "https://a.example?a=1,2&b=;x"}),
        ("<?page=2>;rel=next", {"next": "?page=2"}),
        ('<a>; title="x, y; rel=no"; rel="next last"', {"next": "a", "last": "a"}),
        ('<a>; REL="Next", <b>; rel="next"', {"next": "a"}),
        ("<a>; rel=prev , <b> ; rel = next", {"prev": "a", "next": "b"}),
        ("", {}),
        ("<a>", {}),
        ("nonsense", {}),
    ],
)
def test_link_headers_as_apis_write_them(header: str, found: dict[str, str]) -> None:
    assert links(header) == found


@given(st.text())
def test_any_link_header_can_be_read(header: str) -> None:
    links(header)


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_over_the_limit_is_not_read_to_its_end(api: FakeApi, packed: bool) -> None:
    body = b"[" + b" " * 3_000_000 + b"]"
    api.route("/items", (200, {"Content-Encoding": "gzip"}, gzip.compress(body)) if packed else (200, {}, body))
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, max_bytes=1_000_000))
    assert "sent more than 1,000,000 bytes, the max_page_bytes" in str(error)
    assert len(api.requests) == 1


def test_a_body_of_exactly_the_limit_is_read(api: FakeApi) -> None:
    api.route("/items", (200, {}, MANY))
    assert send(Request("GET", api.url + "/items"), replace(QUICK, max_bytes=len(MANY))).content == MANY


# --- trying again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        (500, {}, ""),
        (502, {}, "<html>"),
        (503, {}, ""),
        (429, {}, ""),
        (408, {}, ""),
        HANG_UP,
        half(MANY),
        (403, {"Retry-After": "0"}, ""),
    ],
    ids=["500", "502", "503", "429", "408", "no answer", "half a body", "403 with Retry-After"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_passing_failure_is_tried_again(api: FakeApi, bad: Any, method: str) -> None:
    api.script("/items", bad, bad, (200, {}, MANY))
    with Client(QUICK) as client:
        assert client.send(Request(method, api.url + "/items")).content == MANY
    assert (client.requests, client.retries, len(api.requests)) == (3, 2, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_what_will_not_pass_is_not_tried_again(api: FakeApi, status: int) -> None:
    api.route("/items", (status, {}, {"message": "no"}))
    error = failure(Request("GET", api.url + "/items"))
    assert (error.status, len(api.requests)) == (status, 1)
    assert isinstance(error, AuthenticationFailed) == (status == 401)


def test_after_all_retries_the_error_says_how_often(api: FakeApi) -> None:
    api.route("/items", (502, {}, "upstream\n gone"))
    error = failure(Request("GET", api.url + "/items?page=2"), replace(QUICK, retries=2))
    assert str(error) == (
        f'issues: GET {api.url}/items?page=2 answered 502 Bad Gateway: "upstream gone" after 3 tries.'
    )
    assert len(api.requests) == 3


def test_a_server_that_comes_back_on_its_port_is_asked_again(api: FakeApi) -> None:
    api.route("/items", [])
    api.kill()
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:  # in the wait after the first try
            api.start()
        return False

    assert send(Request("GET", api.url + "/items"), cancelled=cancelled).content == b"[]"


def test_a_connection_that_died_between_two_requests_is_made_anew(api: FakeApi) -> None:
    api.route("/items", [])
    with Client(QUICK) as client:
        client.send(Request("GET", api.url + "/items"))
        api.kill()
        api.start()
        assert client.send(Request("GET", api.url + "/items")).content == b"[]"


def test_a_server_killed_in_the_middle_of_a_body_is_asked_again(api: FakeApi) -> None:
    def restart() -> None:
        api.kill()
        api.start()

    def dies(request: Received) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield MANY[:20]
            threading.Thread(target=restart).start()
            api.stopped.wait(5)

        return Answer(body=pieces(), claims=len(MANY))

    api.script("/items", dies, (200, {}, MANY))
    assert send(Request("GET", api.url + "/items"), replace(QUICK, retries=20)).content == MANY


@pytest.mark.parametrize("form", ["seconds", "date", "reset"])
def test_an_api_that_says_how_long_to_wait_is_obeyed(api: FakeApi, form: str) -> None:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    later = now + datetime.timedelta(seconds=1)
    headers = {
        "seconds": {"Retry-After": "1"},
        "date": {"Retry-After": format_datetime(later, usegmt=True)},
        "reset": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(later.timestamp()))},
    }[form]
    api.script("/items", (429, {"Date": format_datetime(now, usegmt=True), **headers}, ""), [])
    send(Request("GET", api.url + "/items"))
    first, second = api.requests
    assert 0.95 <= second.at - first.at < 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "Fri, 02 Jan 2026 00:00:30 GMT"}, 30),
        ({"Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1767312060"}, 60),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1767312060000"}, 60),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "17"}, 17),
        ({"X-RateLimit-Remaining": "5", "X-RateLimit-Reset": "1767312060"}, None),
        ({"X-RateLimit-Remaining": "0"}, None),
        ({}, None),
        # The API's own clock is an hour late; what it says is meant by that clock.
        ({"Retry-After": "Thu, 01 Jan 2026 23:00:30 GMT", "Date": "Thu, 01 Jan 2026 23:00:00 GMT"}, 30),
    ],
)
def test_the_ways_to_ask_for_a_wait(headers: dict[str, str], seconds: float | None) -> None:
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    assert asked_wait(headers, now) == seconds


def test_an_api_that_asks_for_too_long_a_wait_is_left_until_the_next_run(api: FakeApi) -> None:
    api.route("/items", (429, {"Retry-After": "7200"}, {"message": "slow down"}))
    error = failure(Request("GET", api.url + "/items"))
    assert 'answered 429 Too Many Requests: "{"message": "slow down"}"; it asks to wait 7,200 s.' in str(error)
    assert len(api.requests) == 1


def test_the_waits_between_tries_grow(api: FakeApi) -> None:
    api.route("/items", (500, {}, ""))
    failure(Request("GET", api.url + "/items"), replace(QUICK, backoff=0.05, retries=3))
    at = [request.at for request in api.requests]
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert waits[0] >= 0.025 and waits[1] >= 0.05 and waits[2] >= 0.1


def test_a_401_is_answered_with_fresh_credentials_once(api: FakeApi) -> None:
    api.route("/items", lambda request: [] if request.headers["Authorization"] == "new" else (401, {}, ""))
    old = Request("GET", api.url + "/items", {"Authorization": "old"})
    with Client(QUICK) as client:
        client.send(old, rebuild=lambda refused: replace(old, headers={"Authorization": "new"}))
        assert len(api.requests) == 2
        with pytest.raises(AuthenticationFailed):
            client.send(old, rebuild=lambda refused: replace(old, headers={"Authorization": "newer"}))
        assert len(api.requests) == 4


def test_a_401_is_not_tried_again_with_the_same_credentials(api: FakeApi) -> None:
    api.route("/items", (401, {}, ""))
    request = Request("GET", api.url + "/items", {"Authorization": "old"})
    with Client(QUICK) as client, pytest.raises(AuthenticationFailed):
        client.send(request, rebuild=lambda refused: request)
    assert len(api.requests) == 1


# --- limits of time, and stop signs -----------------------------------------------------------------------


def test_a_silent_server_is_given_up(api: FakeApi) -> None:
    api.route("/items", lambda request: Answer(body=iter([b"["] if api.stopped.wait(5) else [])))
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, timeout=0.1, retries=0))
    assert str(error) == f"issues: GET {api.url}/items sent nothing for 0.1 s."


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_server_that_drips_bytes_cannot_hold_a_worker(where: str) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        sock, _ = listening.accept()
        with sock:
            sock.sendall(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 999\r\n\r\n" if where == "body" else b"X: "))
            while not done.wait(0.02):
                sock.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        error = failure(Request("GET", url), replace(QUICK, timeout=0.06, retries=0))
        assert "did not finish within 0.6 s" in str(error)
    finally:
        done.set()
        thread.join()
        listening.close()


@pytest.mark.parametrize("moment", ["answer", "wait"])
def test_a_stop_sign_ends_every_wait_within_moments(api: FakeApi, moment: str) -> None:
    stop = threading.Event()

    def slow(request: Received) -> Any:
        stop.set()
        if moment == "answer":
            api.stopped.wait(5)
        return (429, {"Retry-After": "60"}, "")

    api.route("/items", slow)
    began = monotonic()
    with pytest.raises(Cancelled):
        send(Request("GET", api.url + "/items"), cancelled=stop.is_set)
    assert monotonic() - began < 1
    api.kill()


def test_closing_a_client_ends_its_wait_in_another_thread(api: FakeApi) -> None:
    answered = threading.Event()

    def busy(request: Received) -> Any:
        answered.set()
        return (429, {"Retry-After": "60"}, "")

    api.route("/items", busy)
    client = Client(QUICK)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.send, Request("GET", api.url + "/items"))
        assert answered.wait(5)
        client.close()
        with pytest.raises(Cancelled):
            waiting.result(timeout=5)


def test_a_waiting_client_does_not_ask_busily(api: FakeApi) -> None:
    api.script("/items", (429, {"Retry-After": "1"}, ""), [])
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return False

    send(Request("GET", api.url + "/items"), cancelled=cancelled)
    assert 5 <= asked <= 15


# --- redirects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_keeps_method_query_and_body(api: FakeApi, status: int) -> None:
    api.route("/old", redirect("/new/", status))
    api.route("/new/", [])
    response = send(Request("POST", api.url + "/old?page=2", params=(("a", "1"),), body={"b": 2}))
    request = api.requests[1]
    assert (request.method, request.target, request.json) == ("POST", "/new/?page=2&a=1", {"b": 2})
    assert response.url == f"{api.url}/new/?page=2&a=1"


def test_a_303_is_fetched_with_get(api: FakeApi) -> None:
    api.route("/old", redirect("/new?job=7", 303))
    api.route("/new", [])
    send(Request("POST", api.url + "/old?page=2", body={"b": 2}))
    assert (api.requests[1].method, api.requests[1].target, api.requests[1].body) == (
        "GET",
        "/new?job=7",
        b"",
    )


def test_a_redirect_with_a_query_of_its_own_is_taken_as_it_is(api: FakeApi) -> None:
    api.route("/old", redirect("/new?token=1"))
    api.route("/new", [])
    send(Request("GET", api.url + "/old?page=2", params=(("a", "1"),)))
    assert api.requests[1].target == "/new?token=1"


def test_an_upgrade_to_https_keeps_the_query() -> None:
    request = redirected(Request("GET", "http://a.example/items?page=2"), 301, "https://a.example/items")
    assert request.full_url == "https://a.example/items?page=2"


def test_a_query_does_not_go_to_another_origin(api: FakeApi, stranger: FakeApi) -> None:
    api.route("/old", redirect(stranger.url + "/new"))
    stranger.route("/new", [])
    send(Request("GET", api.url + "/old?page=2&api_key=sekret"))
    assert stranger.requests[0].target == "/new"


def test_a_circle_of_redirects_is_an_error(api: FakeApi) -> None:
    api.route("/a", redirect("/b"))
    api.route("/b", redirect("/a"))
    error = failure(Request("GET", api.url + "/a"))
    assert str(error) == f"issues: GET {api.url}/a redirects in a circle."
    assert len(api.requests) == 2


def test_ten_redirects_are_enough(api: FakeApi) -> None:
    api.route("/*", lambda request: redirect(f"/{int(request.path[1:]) + 1}"))
    assert "redirects more than 10 times" in str(failure(Request("GET", api.url + "/0")))
    assert len(api.requests) == 11


@pytest.mark.parametrize("location", ["ftp://a.example/x", "file:///etc/passwd", "http://[x"])
def test_a_redirect_to_no_http_url_is_an_error(api: FakeApi, location: str) -> None:
    api.route("/a", redirect(location))
    assert "which cannot be fetched" in str(failure(Request("GET", api.url + "/a")))


def test_an_error_after_a_redirect_names_both_urls(api: FakeApi) -> None:
    api.route("/old", redirect("/new"))
    error = failure(Request("GET", api.url + "/old"))
    assert f"GET {api.url}/old (redirected to {api.url}/new) answered 404 Not Found" in str(error)


# --- credentials stay at home -----------------------------------------------------------------------------

SECRET_HEADERS = {
    "Authorization": "Bearer sekret-1",
    "Cookie": "sid=sekret-2",
    "X-Api-Key": "sekret-3",
    "X-Shop": "sekret-4",
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_credential_follows_a_redirect_to_a_stranger(api: FakeApi, stranger: FakeApi, status: int) -> None:
    api.route("/old", redirect(stranger.url + "/new", status))
    stranger.route("/new", [])
    headers = {**SECRET_HEADERS, "Accept": "text/x", "User-Agent": "me"}
    send(Request("GET", api.url + "/old", headers, (("api_key", "sekret-5"),)))
    request = stranger.requests[0]
    assert "sekret" not in request.target + str(request.headers)
    assert (request.headers["Accept"], request.headers["User-Agent"]) == ("text/x", "me")
    assert api.requests[0].headers["Authorization"] == "Bearer sekret-1"


def test_credentials_come_along_again_when_a_stranger_sends_back_home(api: FakeApi, stranger: FakeApi) -> None:
    api.route("/old", redirect(stranger.url + "/x"))
    stranger.route("/x", redirect(api.url + "/new"))
    api.route("/new", [])
    send(Request("GET", api.url + "/old", SECRET_HEADERS))
    assert api.requests[1].headers["Authorization"] == "Bearer sekret-1"


def test_allowed_origins_see_the_credentials(api: FakeApi, stranger: FakeApi) -> None:
    api.route("/old", redirect(stranger.url + "/new", 307))
    stranger.route("/new", [])
    policy = replace(QUICK, allowed_origins=frozenset({origin(stranger.url)}))
    send(Request("POST", api.url + "/old", SECRET_HEADERS, body={"a": 1}), policy)
    assert stranger.requests[0].headers["Authorization"] == "Bearer sekret-1"
    assert stranger.requests[0].json == {"a": 1}


def test_a_body_does_not_go_to_a_stranger(api: FakeApi, stranger: FakeApi) -> None:
    api.route("/old", redirect(stranger.url + "/new", 307))
    error = failure(Request("POST", api.url + "/old", body={"password": "sekret"}))
    assert "its body does not go to" in str(error) and "allowed_origins" in str(error)
    assert stranger.requests == []


def test_a_401_of_a_stranger_says_why_it_got_no_credentials(api: FakeApi, stranger: FakeApi) -> None:
    api.route("/old", redirect(stranger.url + "/new"))
    stranger.route("/new", (401, {}, ""))
    error = failure(Request("GET", api.url + "/old", SECRET_HEADERS))
    assert f"do not go to {stranger.url}, which is not in the sync's allowed_origins" in str(error)


def test_a_next_page_elsewhere_gets_no_credentials_either(api: FakeApi, stranger: FakeApi) -> None:
    stranger.route("/page2", [])
    with Client(QUICK) as client:
        client.send(Request("GET", stranger.url + "/page2", SECRET_HEADERS), home=origin(api.url))
    assert "sekret" not in str(stranger.requests[0].headers)


@pytest.mark.parametrize("trick", ["http://{home}@{other}/", "http://{home}\\@{other}/", "http://{other}#@{home}/"])
def test_no_spelling_of_a_url_passes_a_stranger_off_as_home(api: FakeApi, stranger: FakeApi, trick: str) -> None:
    for server in (api, stranger):
        server.route("/*", [])
    url = trick.format(home=api.host, other=stranger.host)
    with Client(replace(QUICK, retries=0)) as client:
        client.send(Request("GET", url, SECRET_HEADERS), home=origin(api.url))
    assert "sekret" not in "".join(str(request.headers) for request in stranger.requests)


# --- which addresses may be reached -----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_posted_url_does_not_reach_loopback(api: FakeApi, host: str) -> None:
    url = api.url.replace("127.0.0.1", host)
    with pytest.raises(ConfigError, match="is a private address, and the URL or its host came over HTTP") as info:
        send(Request("GET", url), replace(QUICK, reach="public"))
    assert str(info.value).startswith("issues: ")
    assert api.requests == []


def test_a_posted_url_may_reach_loopback_where_that_is_allowed(api: FakeApi) -> None:
    api.route("/", [])
    send(Request("GET", api.url + "/"), replace(QUICK, reach="private"))


def test_a_redirect_does_not_lead_inside_either(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first server is reached through a proxy, so that only the redirect's target is inside."""
    monkeypatch.setenv("http_proxy", api.url)
    monkeypatch.setenv("no_proxy", "localhost")
    api.route("/old", redirect(api.url.replace("127.0.0.1", "localhost") + "/admin"))
    with pytest.raises(ConfigError, match="private address"):
        send(Request("GET", "http://api.example.invalid/old"), replace(QUICK, reach="public"))
    assert len(api.requests) == 1


def test_a_proxy_is_no_way_inside(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", api.url)
    with pytest.raises(ConfigError, match="link-local address"):
        send(Request("GET", "http://169.254.169.254/latest"), replace(QUICK, reach="private"))
    assert api.requests == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.215.14", "public"),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", "public"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("127.0.0.1", "private"),
        ("0.0.0.0", "private"),
        ("::1", "private"),
        ("fd12::1", "private"),
        ("224.0.0.1", "private"),
        ("255.255.255.255", "private"),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::a00:1", "private"),
        ("2002:a00:1::", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("fd00:ec2::254", "link-local"),
        ("100.100.100.200", "link-local"),
    ],
)
def test_addresses_are_told_apart(address: str, kind: str) -> None:
    refused = []
    for reach in ("public", "private"):
        try:
            refuse(address, "a.example", reach)
        except ConfigError:
            refused.append(reach)
    assert refused == {"public": [], "private": ["public"], "link-local": ["public", "private"]}[kind]


# --- errors are sentences ---------------------------------------------------------------------------------


def test_a_refused_connection_names_the_port(api: FakeApi) -> None:
    api.kill()
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, retries=0))
    port = api.host.partition(":")[2]
    assert str(error) == f"issues: GET {api.url}/items failed: 127.0.0.1 refuses connections on port {port}."


def test_an_unknown_host_is_named() -> None:
    error = failure(Request("GET", "http://nowhere.invalid/items"), replace(QUICK, retries=0))
    assert "failed: the name nowhere.invalid cannot be found (DNS)" in str(error)


def test_a_connection_closed_without_an_answer_is_said_so(api: FakeApi) -> None:
    api.route("/items", HANG_UP)
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, retries=0))
    assert "got no answer: the connection was closed" in str(error)


def test_half_a_body_is_said_so(api: FakeApi) -> None:
    api.route("/items", half(MANY))
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, retries=1))
    assert "sent half a body: the connection closed before its end after 2 tries." in str(error)


def test_a_garbled_body_is_said_so(api: FakeApi) -> None:
    api.route("/items", (200, {"Content-Encoding": "gzip"}, b"this is no gzip"))
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, retries=0))
    assert "not compressed as its Content-Encoding says" in str(error)


def test_https_to_a_server_that_speaks_http_is_said_so(api: FakeApi) -> None:
    api.route("/", [])
    error = failure(Request("GET", api.url.replace("http:", "https:")))
    assert f"{api.host} does not speak TLS as it should" in str(error)


def test_a_certificate_that_nobody_signed_is_said_so(tmp_path: Path) -> None:
    with FakeApi(tls=_self_signed(tmp_path)) as api:
        api.route("/", [])
        error = failure(Request("GET", api.url + "/"))
        assert "failed: the TLS certificate of 127.0.0.1 is not trusted (" in str(error)


def test_a_certificate_of_the_environments_bundle_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeApi(tls=_self_signed(tmp_path)) as api:
        api.route("/", (200, {}, MANY))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "cert.pem"))
        assert send(Request("GET", api.url + "/")).content == MANY


def _self_signed(folder: Path) -> ssl.SSLContext:
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(_loopback())]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def _loopback() -> Any:
    from ipaddress import ip_address

    return ip_address("127.0.0.1")


def test_an_html_answer_is_called_html(api: FakeApi) -> None:
    api.route("/items", html("<html><title>Down for maintenance</title>", 503))
    error = failure(Request("GET", api.url + "/items"), replace(QUICK, retries=0))
    assert 'answered 503 Service Unavailable with an HTML page: "<html><title>Down for' in str(error)


def test_a_long_body_is_cut(api: FakeApi) -> None:
    api.route("/items", (400, {}, "x" * 1000 + "the end"))
    error = str(failure(Request("GET", api.url + "/items")))
    assert "x" * 200 + "…" in error and "the end" not in error and len(error) < 300


def test_a_huge_error_body_is_not_read_to_its_end(api: FakeApi) -> None:
    api.route("/items", (400, {}, "no " * 1_000_000))
    assert "answered 400 Bad Request" in str(failure(Request("GET", api.url + "/items")))


# --- secrets are never told -------------------------------------------------------------------------------

SECRET = 'p@ss w/rd+"ü&x'


def told(error: BaseException) -> str:
    """All that a log, a traceback or a curious error reporter would show."""
    text = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    for link in (error.__cause__, error.__context__):
        if link is not None:
            text += told(link)
    return text


def forms(secret: str) -> set[str]:
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret, safe="").lower(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        base64.b64encode(secret.encode()).decode(),
    }


def planted(url: str, where: str) -> Request:
    return {
        "header": Request("POST", url, {"X-Api-Key": quote_plus(SECRET)}),
        "bearer": Request("POST", url, {"Authorization": f"Bearer {quote_plus(SECRET)}"}),
        "query": Request("POST", url, params=(("access_token", SECRET),)),
        "url": Request("POST", f"{url}?api_key={quote_plus(SECRET)}"),
        "userinfo": Request("POST", url.replace("://", f"://me:{quote(SECRET, safe='')}@")).with_userinfo_in_header(),
        "body": Request("POST", url, body={"auth": {"user": "me", "password": SECRET}}),
        "value": Request("POST", url, {"X-Shop": quote_plus(SECRET)}, (("shop", SECRET),)),
    }[where]


@pytest.mark.parametrize("where", ["header", "bearer", "query", "url", "userinfo", "body", "value"])
@pytest.mark.parametrize("answer", ["echo", "redirect", "refused", "html", "half"])
def test_no_error_tells_a_secret(api: FakeApi, where: str, answer: str) -> None:
    def echo(request: Received) -> Any:
        seen = [request.target, *request.headers.values(), request.body.decode(), *forms(SECRET)]
        text = " ".join(seen) + json.dumps(seen)
        if answer == "redirect":
            return redirect(f"/else?note={quote(SECRET)}&key={quote(SECRET)}")
        return {"echo": (400, {}, text), "html": html(f"<p>{text}", 500), "half": half(text.encode())}[answer]

    api.route("/*", echo)
    if answer == "refused":
        api.kill()
    policy = replace(QUICK, retries=1, secrets=(SECRET,) if where == "value" else ())
    error = failure(planted(api.url + "/items", where), policy)
    text = told(error).lower()
    assert [form for form in forms(SECRET) if form.lower() in text] == []


def test_a_secret_at_the_edge_of_the_excerpt_is_not_half_told(api: FakeApi) -> None:
    secret = "abcdefghijklmnopqrstuvwxyz" * 4
    for shift in (90, 150, 199):
        api.route("/items", (400, {}, "-" * shift + secret))
        error = str(failure(Request("GET", api.url + "/items", {"X-Api-Key": secret})))
        assert secret[:8] not in error


def test_a_secret_at_the_edge_of_what_was_read_is_not_half_told(api: FakeApi) -> None:
    secret = "abcdefghijklmnopqrstuvwxyz" * 40
    api.route("/items", (400, {}, secret * 100))
    assert "abcdef" not in str(failure(Request("GET", api.url + "/items", {"X-Api-Key": secret})))


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) > 3), st.text(), st.text())
def test_a_redacted_text_holds_no_form_of_the_secret(secret: str, before: str, after: str) -> None:
    if secret.strip().lower() in ("true", "false", "null", "none", "basic", "bearer"):
        return
    for form in forms(secret.strip()):
        assert form.lower() not in redact(f"{before}{form}{after}", [secret]).replace("***", "").lower() or (
            form.lower() in f"{before}{after}".lower() or form.strip("*") == ""
        )


def test_a_short_secret_does_not_hide_the_whole_text() -> None:
    assert redact("page 10 of 100, pin 1", ["1"]) == "page 10 of 100, pin ***"


def test_nothing_is_hidden_without_secrets() -> None:
    assert redact("all of it", ["", "  "]) == "all of it"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@a.example/x", "https://***@a.example/x"),
        (
            "https://a.example/x?X-Amz-Signature=s&cursor=c",
            "https://a.example/x?X-Amz-Signature=***&cursor=c",
        ),
        (
            "https://a.example/x?pageToken=t&next_page_token=u",
            "https://a.example/x?pageToken=t&next_page_token=u",
        ),
        ("https://a.example/x?token=t#frag", "https://a.example/x?token=***"),
        ("/relative?api%5Fkey=k", "/relative?api%5Fkey=***"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert public_url(url) == shown


@given(st.text())
def test_any_text_can_be_shown_as_a_url(text: str) -> None:
    public_url(text)


def test_the_repr_of_a_request_and_a_policy_tells_no_secret() -> None:
    request = planted("https://a.example", "url")
    assert SECRET not in repr(request) and quote_plus(SECRET) not in repr(request)
    assert "sekret" not in repr(Policy(secrets=("sekret",)))


def test_errors_are_nango_errors_of_the_kind_to_try_later(api: FakeApi) -> None:
    assert isinstance(failure(Request("GET", api.url + "/none")), NangoError)


# --- budgets ----------------------------------------------------------------------------------------------


def test_a_budget_is_shared_by_all_clients_and_kept(api: FakeApi) -> None:
    api.route("/items", [])
    policy = replace(QUICK, rate_limit=RateLimit("test-shared", 100, 1.0))
    stop = threading.Event()

    def ask() -> None:
        with Client(policy) as client:
            while not stop.is_set() and len(api.requests) < 101:
                client.send(Request("GET", api.url + "/items"))

    with ThreadPoolExecutor(4) as pool:
        for asking in [pool.submit(ask) for _ in range(4)]:
            asking.result(timeout=20)
    taken = api.requests[100].at - api.requests[0].at
    assert 0.95 <= taken <= 2.5


@given(
    st.integers(1, 1000),
    st.floats(0.1, 3600),
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), min_size=1, max_size=60),
)
def test_no_window_of_time_sees_more_than_the_budget(
    requests: int, seconds: float, asked: list[tuple[float, int]]
) -> None:
    now = 1000.0
    bucket = Bucket(requests, seconds, monotonic=lambda: now)
    sent: list[tuple[float, int]] = []
    for pause, n in asked:
        now += pause
        sent.append((now + bucket.take(n), n))
    for index, (begin, _) in enumerate(sent):
        inside = sum(n for at, n in sent[index:] if at < begin + seconds)
        # A block of n is spread over the time after it, so the last one may reach over the edge.
        assert inside <= requests + max(n for _, n in asked) + 1e-6


def test_an_idle_budget_costs_no_wait() -> None:
    assert Bucket(1, 60).take() == 0


def test_a_budget_that_comes_from_elsewhere_is_asked(api: FakeApi) -> None:
    class Blocks:
        taken = 0

        def take(self, n: int = 1) -> float:
            self.taken += n
            return 0.0

    api.route("/items", [])
    blocks = Blocks()
    send(Request("GET", api.url + "/items"), limiter=blocks)
    assert blocks.taken == 1


def test_gzipped_helper_is_what_it_says(api: FakeApi) -> None:
    api.route("/items", gzipped([1]))
    assert send(Request("GET", api.url + "/items")).content == b"[1]"


def test_the_time_that_we_take_ourselves_is_no_silence_of_the_server() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"answer")
        began = monotonic()
        watch = ReadGuard("anywhere", 0.05, lambda: until(lambda: monotonic() > began + 0.2), began + 0.1)
        buffer = bytearray(6)
        assert watch.recv_into(ours, memoryview(buffer)) == 6
        assert buffer == b"answer"
        with pytest.raises(TimeoutError):
            watch.recv_into(ours, memoryview(buffer))
