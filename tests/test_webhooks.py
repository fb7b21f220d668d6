"""One notification: what it says, what proves where it comes from, and one try to deliver it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster import webhooks
from nango_dagster.http import Reach
from nango_dagster.webhooks import About, Sender, Tried
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, redirect

ABOUT = About("github", "acmé", "base", "issues", "Issue", "INCREMENTAL")
SINCE = datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone(timedelta(hours=13)))
KEY = "s3cret-key"
BODY = webhooks.changed(ABOUT, 1, 2, 3, SINCE)


def send(url: str, body: bytes = BODY, *, key: str | None = KEY, reach: Reach = "anywhere") -> Tried:
    return sending(url, body, key=key, reach=reach, timeout=20.0)


def sending(url: str, body: bytes, *, key: str | None, reach: Reach, timeout: float) -> Tried:
    sender = Sender(key, reach, timeout)
    try:
        return sender.send(url, "d-1", body)
    finally:
        sender.close()


# --- the body -------------------------------------------------------------------------------------------------------


def test_news_is_said_as_nango_says_it_byte_for_byte() -> None:
    assert BODY.decode() == (
        '{"connectionId":"acmé","from":"nango","model":"Issue","modifiedAfter":"2026-01-01T14:04:05.679000Z",'
        '"providerConfigKey":"github","queryTimeStamp":"2026-01-01T14:04:05.679000Z",'
        '"responseResults":{"added":1,"deleted":3,"updated":2},"success":true,"syncName":"issues",'
        '"syncType":"INCREMENTAL","syncVariant":"base","type":"sync"}'
    )


def test_a_first_announcement_is_of_all_there_is() -> None:
    assert json.loads(webhooks.changed(ABOUT, 1, 0, 0, None))["modifiedAfter"] == "1970-01-01T00:00:00.000Z"


def test_a_failure_says_why_and_when() -> None:
    body = json.loads(webhooks.failed(ABOUT, 'issues: answered 500 "no".', SINCE, SINCE + timedelta(seconds=2)))
    assert body == {
        **ABOUT.fields,
        "from": "nango",
        "success": False,
        "error": {"type": "script_error", "description": 'issues: answered 500 "no".'},
        "startedAt": "2026-01-01T14:04:05.678Z",
        "failedAt": "2026-01-01T14:04:07.678Z",
    }


def test_refused_credentials_are_told_of_as_a_failed_refresh() -> None:
    assert json.loads(webhooks.refused("github", "acme", "The token was revoked.", "OAUTH2")) == {
        "from": "nango",
        "type": "auth",
        "operation": "refresh",
        "success": False,
        "connectionId": "acme",
        "providerConfigKey": "github",
        "provider": "github",
        "authMode": "OAUTH2",
        "environment": "prod",
        "error": {"type": "refresh_token_external_error", "description": "The token was revoked."},
    }


@given(st.text(st.characters(codec=None)))
def test_whatever_an_error_says_is_sent_as_json(error: str) -> None:
    body = webhooks.failed(ABOUT, error, SINCE, SINCE)
    read = json.loads(body.decode("utf-8"))["error"]["description"]
    assert read.encode("utf-16", "surrogatepass") == error.encode("utf-16", "surrogatepass")


# --- what goes along ------------------------------------------------------------------------------------------------


def test_a_receiver_can_verify_both_signatures(api: FakeApi) -> None:
    api.route("/hook", {})
    assert send(api.url + "/hook") == Tried()
    (got,) = api.requests
    assert (got.method, got.body) == ("POST", BODY)
    assert got.headers["X-Nango-Signature"] == hashlib.sha256(KEY.encode() + BODY).hexdigest()
    assert got.headers["X-Nango-Hmac-Sha256"] == hmac.new(KEY.encode(), got.body, "sha256").hexdigest()


def test_it_says_what_it_is_who_sends_it_and_which_it_is(api: FakeApi) -> None:
    api.route("/hook", {})
    send(api.url + "/hook")
    sent = api.requests[0].headers
    assert sent.get_all("Content-Type") == ["application/json"]
    assert sent["User-Agent"].startswith("nango-dagster/")
    assert (sent["X-Nango-Delivery-Id"], sent["webhook-id"]) == ("d-1", "d-1")


def test_without_a_key_there_is_no_signature(api: FakeApi) -> None:
    api.route("/hook", {})
    send(api.url + "/hook", key=None)
    assert [name for name in api.requests[0].headers if name.startswith(("X-Nango-Sig", "X-Nango-Hmac"))] == []


def test_the_query_of_a_url_is_kept(api: FakeApi) -> None:
    api.route("/hook", {})
    send(api.url + "/hook?token=t%2F1&a=")
    assert api.requests[0].target == "/hook?token=t%2F1&a="


def test_a_user_and_password_in_a_url_are_sent_as_such(api: FakeApi) -> None:
    api.route("/hook", {})
    assert send(api.url.replace("//", "//me:p%40w@") + "/hook") == Tried()
    assert api.requests[0].headers["Authorization"] == f"Basic {base64.b64encode(b'me:p@w').decode()}"


# --- one try --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_status_of_success_is_a_delivery(api: FakeApi, status: int) -> None:
    api.route("/hook", (status, {}, b""))
    assert send(api.url + "/hook") == Tried()


@pytest.mark.parametrize(
    ("status", "said"),
    [(400, "400 Bad Request"), (410, "410 Gone"), (500, "500 Internal Server Error"), (599, "599")],
)
def test_any_other_status_is_none_and_410_is_for_good(api: FakeApi, status: int, said: str) -> None:
    api.route("/hook", (status, {}, {"error": "s3cret-of-the-url"}))
    assert send(api.url + "/hook") == Tried(f"{api.url} answered {said}.", gone=status == 410)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(api: FakeApi, status: int) -> None:
    api.route("/hook", redirect("/other", status))
    api.route("/other", {})
    error = send(api.url + "/hook").error
    assert error is not None and f"answered {status} " in error
    assert [request.path for request in api.requests] == ["/hook"]


def test_deliveries_share_one_connection(api: FakeApi) -> None:
    api.script("/hook", {}, (500, {}, "x" * 10_000), {})
    sender = Sender(KEY)
    tries = [sender.send(api.url + "/hook", str(number), BODY) for number in range(5)]
    sender.close()
    assert [tried.error is None for tried in tries] == [True, False, True, True, True]
    assert api.connections == 1


def test_of_a_long_answer_only_the_beginning_is_read(api: FakeApi) -> None:
    sent = iter(range(10_000))
    api.route("/hook", lambda request: Answer(body=(b"x" * 100_000 for _ in sent)))
    assert send(api.url + "/hook") == Tried()
    api.kill()
    assert next(sent) < 1_000


@pytest.mark.parametrize("pieces", ["none", "slow"])
def test_a_slow_receiver_is_given_up_in_time(api: FakeApi, pieces: str) -> None:
    def slow(request: Received) -> Answer:
        if pieces == "none":
            api.stopped.wait(10)
            return HANG_UP
        return Answer(body=(b"." for _ in iter(lambda: api.stopped.wait(0.1), True)))

    api.route("/hook", slow)
    began = monotonic()
    error = sending(api.url + "/hook", BODY, key=KEY, reach="anywhere", timeout=0.5).error
    assert error is not None and error.startswith(api.url)
    assert 0.4 < monotonic() - began < 3
    api.kill()


@contextmanager
def closed_port() -> Iterator[str]:
    """A URL at which nobody listens, while the port is nobody else's."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_receiver_that_is_down_is_no_error_of_ours(api: FakeApi) -> None:
    with closed_port() as url:
        port = url.rpartition(":")[2]
        assert send(url + "/s3cret") == Tried(f"{url} failed: 127.0.0.1 refuses connections on port {port}.")
    api.route("/hook", HANG_UP)
    assert send(api.url + "/hook") == Tried(f"{api.url} got no answer: the connection was closed.")
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["http://me:s3cret@127.0.0.1:1/hook", "http://127.0.0.1:1/s3cret?token=s3cret", "ftp://s3cret", "http://[s3cret"],
)
def test_an_error_shows_no_more_of_the_url_than_its_origin(url: str) -> None:
    error = send(url).error
    assert error is not None and "s3cret" not in error and "None" not in error


@pytest.mark.parametrize("reach", ["public", "private"])
def test_a_url_that_may_be_a_strangers_leads_to_no_private_address(api: FakeApi, reach: Reach) -> None:
    api.route("/hook", {})
    error = send(api.url + "/hook", reach=reach).error
    assert (error is None) is (reach == "private")
    assert len(api.requests) == (1 if reach == "private" else 0)
    assert error is None or "127.0.0.1 is a private address" in error


def test_a_body_says_from_where_to_where_the_checkpoint_moved() -> None:
    moved = {"from": None, "to": {"cursor": "2026-01-01"}}
    about = About("github", "acme", "base", "issues", "Issue", "INITIAL", moved)
    assert json.loads(webhooks.changed(about, 1, 0, 0, None))["checkpoints"] == moved
    assert "checkpoints" not in json.loads(webhooks.changed(replace(about, checkpoints=None), 1, 0, 0, None))
