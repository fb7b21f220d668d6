"""A sync becomes an iterator of pages: all of them, once, and an end that is told."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nango_dagster.config import RateLimit, ResponseRule, Sync
from nango_dagster.errors import ApiError, AuthenticationFailed, Cancelled, ConfigError, PagingRepeats
from nango_dagster.fetch import Fetch, Page, Place, Stop, first_request, policy_of
from nango_dagster.fetch.ahead import AHEAD_BYTES, Ahead
from nango_dagster.fetch.guard import EMPTY_AGAIN, SAME_AGAIN
from nango_dagster.http import Request, query_text
from nango_dagster.http.urls import joined, server_of
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, gzipped, half, html
from tests.strategies import cursors, json_values

NEXT: dict[str, Any] = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}
ITEMS = [{"id": number} for number in range(7)]


def fetch(sync: Sync, **kwargs: Any) -> Fetch:
    """A Fetch that does not wait long between tries."""
    return Fetch(sync, policy=replace(policy_of(sync), backoff=0.001), **kwargs)


class Says:
    """An access whose variables are what a function says, all of them secret."""

    def __init__(self, say: Callable[[bool], Mapping[str, Any]]) -> None:
        self._say = say
        self._known: set[str] = set()
        self._said: Mapping[str, Any] = {}

    def variables(self, fresh: bool) -> Mapping[str, Any]:
        self._said = self._say(fresh)
        self._known.update(map(str, self._said.values()))
        return self._said

    def identity(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        return self._said, self.secrets()

    def sign(self, request: Request) -> Request:
        return request

    def secrets(self) -> tuple[str, ...]:
        return tuple(self._known)

    def hash_key(self) -> bytes | None:
        return b"key"

    def close(self) -> None:
        """Nobody is waiting."""


def made(api: FakeApi, path: str = "/items", **fields: Any) -> Sync:
    return Sync(name="items", url=api.url + path, **fields)


def read_all(fetched: Fetch) -> list[Any]:
    return [json.loads(record) for page in fetched for record in page.records]


def read_until_error(fetched: Fetch) -> tuple[list[Any], Exception]:
    """The records before the error, and the error."""
    found: list[Any] = []
    with pytest.raises(Exception) as info:
        for page in fetched:
            found += [json.loads(record) for record in page.records]
    assert isinstance(info.value, Exception)
    return found, info.value


def by_cursor(*pages: list[Any]) -> Callable[[Received], Any]:
    """An API whose cursor is the number of the next page."""

    def reply(request: Received) -> Any:
        number = int(request.params.get("after", 0))
        following = number + 1 if number + 1 < len(pages) else None
        return {"results": pages[number], "next": following}

    return reply


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "nango-fetch"}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == set()


@pytest.fixture(scope="module")
def server() -> Iterator[FakeApi]:
    """One server for all examples of a property."""
    with FakeApi() as running:
        yield running


@pytest.fixture(scope="module")
def other_server() -> Iterator[FakeApi]:
    """Another origin for all examples of a property."""
    with FakeApi() as running:
        yield running


# --- a pull, and its end ----------------------------------------------------------------------------------


def test_a_single_page_is_read_and_done(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS, "next": "ignored"})
    pull = fetch(made(api))
    assert read_all(pull) == ITEMS
    assert (pull.stop, pull.pages, pull.records, pull.requests, pull.retries) == (
        Stop("single_page"),
        1,
        7,
        1,
        0,
    )


def test_all_pages_are_read_in_order_over_one_connection(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:]))
    pull = fetch(made(api, **NEXT))
    pages = list(pull)
    assert [page.number for page in pages] == [1, 2, 3]
    assert [json.loads(record) for page in pages for record in page.records] == ITEMS
    assert (pull.stop, api.connections) == (Stop("no_cursor"), 1)


def test_a_page_knows_its_size_and_its_bad_records(api: FakeApi) -> None:
    body = b'{"results": [{"id": 1}, {"id": NaN}]}'
    api.route("/items", (200, {}, body))
    (page,) = fetch(made(api))
    assert (page.records, page.bytes) == ([b'{"id": 1}'], len(body))
    assert [bad.position for bad in page.rejected] == [1]


def test_query_params_headers_and_body_go_along_with_every_page(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": "c2"}, {"results": ITEMS[:1]})
    sync = made(api, method="POST", headers={"X-A": "1"}, query_params={"k": "v"}, body={"q": 1}, **NEXT)
    read_all(fetch(sync))
    assert [(r.params, r.headers["X-A"], r.json) for r in api.requests] == [
        ({"k": "v"}, "1", {"q": 1}),
        ({"k": "v"}, "1", {"q": 1, "after": "c2"}),
    ]


def test_query_params_join_the_query_of_the_url(api: FakeApi) -> None:
    api.route("/items", [])
    read_all(fetch(made(api, "/items?x=1&tag=a", query_params={"tag": "b", "k": "v"})))
    assert sorted(api.requests[0].query) == [("k", "v"), ("tag", "a"), ("tag", "b"), ("x", "1")]


@pytest.mark.parametrize("cursor", ["", None, False])
def test_an_empty_cursor_ends_the_list(api: FakeApi, cursor: Any) -> None:
    api.route("/items", {"results": ITEMS, "next": cursor})
    pull = fetch(made(api, **NEXT))
    assert (read_all(pull), pull.stop) == (ITEMS, Stop("no_cursor"))


def test_cursor_zero_is_followed(api: FakeApi) -> None:
    api.route("/items", lambda request: {"results": ITEMS, "next": None if request.query else 0})
    assert len(read_all(fetch(made(api, **NEXT)))) == 14


def test_a_list_goes_on_after_empty_pages_that_have_a_cursor(api: FakeApi) -> None:
    """Google Calendar documents them; some of them follow each other."""
    api.route("/items", by_cursor(ITEMS[:3], *[[]] * (EMPTY_AGAIN - 1), ITEMS[3:5], *[[]] * 9, ITEMS[5:], []))
    pull = fetch(made(api, **NEXT))
    assert (read_all(pull), pull.stop, len(api.requests)) == (ITEMS, Stop("empty_page"), 22)


def test_an_empty_page_that_leads_to_a_page_that_was_sent_ends_the_list(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": "a"}, {"results": [], "next": "a"})
    pull = fetch(made(api, **NEXT))
    assert (read_all(pull), pull.stop, len(api.requests)) == (ITEMS, Stop("empty_page"), 2)


def test_many_empty_pages_in_a_row_are_no_complete_end(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS, *[[]] * EMPTY_AGAIN, ITEMS))
    pull = fetch(made(api, **NEXT))
    assert (read_all(pull), pull.stop) == (ITEMS, Stop("empty_pages", complete=False))
    assert len(api.requests) == EMPTY_AGAIN + 1


@pytest.mark.parametrize("counted", [{"paging_page_request_path": "n"}, {"paging_offset_request_path": "n"}])
def test_an_empty_page_ends_a_counted_list(api: FakeApi, counted: dict[str, Any]) -> None:
    api.script("/items", ITEMS, [])
    pull = fetch(made(api, **counted))
    assert (read_all(pull), pull.stop, len(api.requests)) == (ITEMS, Stop("empty_page"), 2)


@pytest.mark.parametrize("end", [{"next": None}, {"next": "a"}])
def test_an_empty_page_of_a_list_that_has_more_is_no_complete_end(api: FakeApi, end: dict[str, Any]) -> None:
    api.route("/items", {"results": [], "more": True, **end})
    pull = fetch(made(api, paging_has_more_response_path="more", **NEXT))
    assert (read_all(pull), pull.stop) == ([], Stop("more_left", complete=False))


def test_more_without_a_cursor_is_no_complete_end(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS, "more": True})
    pull = fetch(made(api, paging_has_more_response_path="more", **NEXT))
    assert (read_all(pull), pull.stop) == (ITEMS, Stop("more_left", complete=False))


def test_has_more_false_ends_the_list_though_there_is_a_cursor(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS, "next": "a", "more": False})
    pull = fetch(made(api, paging_has_more_response_path="more", **NEXT))
    assert (read_all(pull), pull.stop, len(api.requests)) == (ITEMS, Stop("has_more_false"), 1)


def test_has_more_that_is_not_there_says_nothing(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:]))
    pull = fetch(made(api, paging_has_more_response_path="typo", **NEXT))
    assert (read_all(pull), pull.stop) == (ITEMS, Stop("no_cursor"))


def test_a_short_page_does_not_end_a_counted_list(api: FakeApi) -> None:
    pages = {"1": ITEMS[:3], "2": ITEMS[3:4], "3": ITEMS[4:]}
    api.route("/items", lambda request: pages.get(request.params["page"], []))
    sync = made(api, paging_page_request_path="page", paging_limit_request_path="per_page", paging_limit=3)
    pull = fetch(sync)
    assert (read_all(pull), pull.stop) == (ITEMS, Stop("empty_page"))
    assert [request.params for request in api.requests][-1] == {"page": "4", "per_page": "3"}


@pytest.mark.parametrize("status", [201, 203, 204, 205, 206])
def test_only_status_200_carries_the_list(api: FakeApi, status: int) -> None:
    api.route("/items", (status, {}, "" if status in (204, 205) else ITEMS))
    _, error = read_until_error(fetch(made(api)))
    action = "empty" if status in (204, 205) else "list"
    assert f"add to responses: {{status: {status}, action: {action}}}" in str(error)


def test_no_content_is_an_empty_page_where_a_rule_says_so(api: FakeApi) -> None:
    api.route("/items", Answer(204))
    pull = fetch(made(api, response_path="data.items", responses=[ResponseRule(status=[204], action="empty")]))
    assert (read_all(pull), pull.stop) == ([], Stop("empty_page"))
    assert pull.rules == ["page 1: responses[0] (status 204: empty)"]


@pytest.mark.parametrize(
    ("max_total", "stop"),
    [(1, "max_total"), (3, "max_total"), (4, "max_total"), (7, "no_cursor"), (9, "no_cursor")],
)
def test_max_total_ends_a_pull_in_the_middle_of_a_page(api: FakeApi, max_total: int, stop: str) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:]))
    pull = fetch(made(api, max_total=max_total, **NEXT))
    assert read_all(pull) == ITEMS[:max_total]
    assert pull.stop == Stop(stop, complete=stop == "no_cursor")
    assert len(api.requests) == -(-min(max_total, 7) // 3)


def test_max_pages_ends_a_pull_incomplete(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:]))
    pull = fetch(made(api, max_pages=2, **NEXT))
    assert (read_all(pull), pull.stop) == (ITEMS[:6], Stop("max_pages", complete=False))
    assert len(api.requests) == 2


def test_a_dry_run_reads_one_page_and_says_what_comes_next(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:]))
    pull = fetch(made(api, query_params={"api_key": "sekret"}, **NEXT), max_pages=1)
    assert pull.next_request == f"GET {api.url}/items?api_key=***"
    assert read_all(pull) == ITEMS[:3]
    assert pull.next_request == f"GET {api.url}/items?api_key=***&after=1"
    assert len(api.requests) == 1


def test_a_pull_can_go_on_where_another_one_stopped(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:]))
    sync = made(api, **NEXT)
    (page,) = fetch(sync, max_pages=1)
    assert page.next is not None
    assert read_all(fetch(sync, start=Place(page.next, number=2, seen=3))) == ITEMS[3:]


def test_a_fetch_is_read_once(api: FakeApi) -> None:
    api.route("/items", [])
    pull = fetch(made(api))
    list(pull)
    with pytest.raises(RuntimeError, match="read once"):
        list(pull)


def test_errors_in_place_of_a_list_are_an_error_without_secrets(api: FakeApi) -> None:
    """GraphQL sends them with the status 200."""
    said = f"no access\nwith sekret-1 {'x ' * 900}"
    api.route("/items", {"errors": [{"message": said}], "data": {"issues": {"nodes": None}}})
    sync = made(api, response_path="data.issues.nodes", headers={"Authorization": "Bearer sekret-1"})
    _, error = read_until_error(fetch(sync))
    assert isinstance(error, ApiError)
    assert 'the response has errors and no records; the first: "no access with *** x x' in str(error)
    assert len(str(error)) < 1100


def test_errors_beside_a_list_are_an_error_unless_a_rule_says_that_it_is_the_list(api: FakeApi) -> None:
    api.route("/items", {"errors": [{"message": "no"}], "results": ITEMS})
    _, error = read_until_error(fetch(made(api)))
    assert 'the response has errors and records as well; the first: "no".' in str(error)
    rule = ResponseRule(path="errors", exists=True, action="list")
    assert read_all(fetch(made(api, responses=[rule]))) == ITEMS


# --- lists that lead nowhere ------------------------------------------------------------------------------


def test_a_cursor_that_repeats_is_an_error_after_the_good_pages(api: FakeApi) -> None:
    api.script("/items", *({"results": [{"id": n}], "next": c} for n, c in enumerate(["a", "b", "a"])), [])
    found, error = read_until_error(fetch(made(api, **NEXT)))
    assert isinstance(error, PagingRepeats)
    assert found == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert "items: GET " in str(error) and "page 3 leads back to GET " in str(error)
    assert len(api.requests) == 3


def test_a_url_that_leads_to_itself_is_an_error(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS, "next": "/items"})
    found, error = read_until_error(fetch(made(api, paging_url_path="next")))
    assert (found, type(error), len(api.requests)) == (ITEMS, PagingRepeats, 1)


@pytest.mark.parametrize("counted", ["paging_page_request_path", "paging_offset_request_path"])
def test_an_api_that_does_not_know_the_page_parameter_is_found_out(api: FakeApi, counted: str) -> None:
    api.route("/items", ITEMS)
    _, error = read_until_error(fetch(made(api, **{counted: "misspelt"})))
    assert isinstance(error, PagingRepeats)
    assert "pages 1 to 3 hold the same records; does the API know the paging parameter?" in str(error)
    assert len(api.requests) <= SAME_AGAIN + 2


def test_pages_of_records_that_are_all_alike_are_no_repetition(api: FakeApi) -> None:
    alike = [{"v": 0}, {"v": 0}]
    api.route("/items", lambda request: alike if int(request.params["page"]) < 9 else [])
    assert len(read_all(fetch(made(api, paging_page_request_path="page")))) == 16


# --- when an answer is bad --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [(500, {}, ""), (429, {"Retry-After": "0"}, ""), HANG_UP, half(b'{"results": [1]}')])
def test_a_bad_answer_in_the_middle_is_tried_again(api: FakeApi, bad: Any) -> None:
    good = by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:])
    api.script("/items", good, bad, good, bad, bad, good)
    pull = fetch(made(api, **NEXT))
    assert read_all(pull) == ITEMS
    assert (pull.requests, pull.retries, pull.pages) == (6, 3, 3)


def test_pages_before_a_failure_are_given_first(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS[:1], "next": "b"}, {"results": ITEMS[1:2], "next": "c"}, (500, {}, "broken"))
    found, error = read_until_error(fetch(made(api, **NEXT)))
    assert found == ITEMS[:2]
    assert str(error) == (
        f'items: GET {api.url}/items?after=c answered 500 Internal Server Error: "broken" after 4 tries.'
    )


def test_a_server_killed_and_started_again_in_the_middle_loses_nothing(api: FakeApi) -> None:
    pages = by_cursor(*([item] for item in ITEMS))
    killed = threading.Event()

    def restart() -> None:
        api.kill()
        api.start()

    def reply(request: Received) -> Any:
        if request.params.get("after") == "3" and not killed.is_set():
            killed.set()
            thread = threading.Thread(target=restart)
            thread.start()
            return HANG_UP
        return pages(request)

    api.route("/items", reply)
    sync = made(api, retries=20, **NEXT)
    pull = fetch(sync)
    assert read_all(pull) == ITEMS
    assert pull.retries >= 1


def test_an_html_page_with_status_200_is_an_error_that_says_so(api: FakeApi) -> None:
    api.route("/items", html())
    _, error = read_until_error(fetch(made(api)))
    assert str(error) == (
        f"items: GET {api.url}/items: the response is HTML or XML; wanted JSON, JSON lines or CSV. "
        'It begins "<!doctype html><title>Sign in</title>".'
    )


def test_records_that_are_not_where_they_should_be_are_an_error_that_lists_the_keys(api: FakeApi) -> None:
    api.route("/items", {"items": [], "count": 0})
    _, error = read_until_error(fetch(made(api, response_path="data.items")))
    assert isinstance(error, ApiError)
    assert f"items: GET {api.url}/items: nothing at response_path" in str(error) and '"count"' in str(error)


def test_a_next_url_that_cannot_be_fetched_is_an_error(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS, "next": "ftp://a.example/2"})
    _, error = read_until_error(fetch(made(api, paging_url_path="next")))
    assert isinstance(error, ApiError) and "'ftp://a.example/2' cannot be fetched" in str(error)


def test_a_compressed_page_is_read(api: FakeApi) -> None:
    api.route("/items", gzipped({"results": ITEMS}))
    assert read_all(fetch(made(api))) == ITEMS


def test_a_page_over_the_limit_is_an_error(api: FakeApi) -> None:
    api.route("/items", {"results": ["x" * 2000]})
    _, error = read_until_error(fetch(made(api, max_page_bytes=1000)))
    assert "sent more than 1,000 bytes, the max_page_bytes of this sync" in str(error)


# --- credentials ------------------------------------------------------------------------------------------


def test_placeholders_are_filled_for_every_request(api: FakeApi) -> None:
    api.route("/acme/items", by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:]))
    tokens = iter(["t1", "t2", "t3"])
    sync = made(api, "/${env.ORG}/items", headers={"Authorization": "Bearer ${token}"}, **NEXT)
    read_all(fetch(sync, access=Says(lambda fresh: {"env.ORG": "acme", "token": next(tokens)})))
    sent = [request.headers["Authorization"] for request in api.requests]
    assert sent == ["Bearer t1", "Bearer t2", "Bearer t3"]


def test_a_token_that_runs_out_in_the_middle_is_renewed_once(api: FakeApi) -> None:
    pages = by_cursor(ITEMS[:3], ITEMS[3:6], ITEMS[6:])
    asked: list[bool] = []

    def credentials(fresh: bool) -> dict[str, str]:
        asked.append(fresh)
        return {"token": "new" if True in asked else "old"}

    def reply(request: Received) -> Any:
        late = request.params.get("after") in ("1", "2")
        return (401, {}, "") if late and request.headers["Authorization"] == "old" else pages(request)

    api.route("/items", reply)
    pull = fetch(made(api, headers={"Authorization": "${token}"}, **NEXT), access=Says(credentials))
    assert read_all(pull) == ITEMS
    assert (asked, pull.retries) == ([False, False, True, False], 1)


def test_refused_credentials_are_an_error_of_their_own(api: FakeApi) -> None:
    api.route("/items", (401, {}, {"error": "bad token sekret-token"}))
    sync = made(api, headers={"X-Shop": "${env.TOKEN}"})
    _, error = read_until_error(fetch(sync, access=Says(lambda fresh: {"env.TOKEN": "sekret-token"})))
    assert isinstance(error, AuthenticationFailed) and "sekret" not in "".join(traceback.format_exception(error))


def test_a_placeholder_without_a_value_is_named(api: FakeApi) -> None:
    _, error = read_until_error(fetch(made(api, headers={"A": "${env.TOKEN}"}), access=Says(lambda fresh: {})))
    assert isinstance(error, ConfigError)
    assert "items: ${env.TOKEN} has no value; set NANGO_ENV_TOKEN" in str(error)
    assert api.requests == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_an_api_sends_is_never_a_placeholder(api: FakeApi, method: str) -> None:
    evil = "${env.TOKEN} $${env.TOKEN}"
    api.script("/items", {"results": ITEMS, "next": evil}, {"results": []})
    sync = made(api, method=method, headers={"A": "${env.TOKEN}"}, **NEXT)
    read_all(fetch(sync, access=Says(lambda fresh: {"env.TOKEN": "sekret"})))
    second = api.requests[1]
    assert (second.params if method == "GET" else second.json)["after"] == evil


def test_a_next_url_is_no_template_either(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": "/items?x=${env.TOKEN}"}, {"results": []})
    sync = made(api, headers={"A": "${env.TOKEN}"}, paging_url_path="next")
    read_all(fetch(sync, access=Says(lambda fresh: {"env.TOKEN": "sekret"})))
    assert api.requests[1].params == {"x": "${env.TOKEN}"}


def test_userinfo_counts_for_next_urls_too(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": api.url + "/items?page=2"}, {"results": []})
    sync = Sync(name="items", url=api.url.replace("//", "//me:pw@") + "/items", paging_url_path="next")
    read_all(fetch(sync))
    assert [request.headers["Authorization"] for request in api.requests] == ["Basic bWU6cHc="] * 2


def test_a_base_url_may_come_from_a_placeholder(api: FakeApi) -> None:
    api.route("/items", by_cursor(ITEMS[:3], ITEMS[3:]))
    sync = Sync(name="items", url="${env.API}/items", **NEXT)
    assert read_all(fetch(sync, access=Says(lambda fresh: {"env.API": api.url}))) == ITEMS


def test_userinfo_may_come_from_placeholders(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": "/items?page=2"}, {"results": []})
    url = api.url.replace("//", "//${env.USER}:${env.PASSWORD}@") + "/items"
    sync = Sync(name="items", url=url, paging_url_path="next")
    read_all(fetch(sync, access=Says(lambda fresh: {"env.USER": "me", "env.PASSWORD": "p/w"})))
    assert [request.headers["Authorization"] for request in api.requests] == ["Basic bWU6cC93"] * 2


def test_a_key_in_the_query_of_the_first_url_is_not_told_on_later_pages(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS, "next": "c2"}, (400, {}, "your key is sekret-key"))
    _, error = read_until_error(fetch(made(api, "/items?api_key=sekret-key", **NEXT)))
    assert "sekret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("body", ["the key sekret-key", "<html>sekret-key", '{"sekret-key": []}', ""])
def test_an_unreadable_answer_does_not_tell_a_secret(api: FakeApi, body: str) -> None:
    api.route("/items", (200, {}, body))
    _, error = read_until_error(fetch(made(api, headers={"X-Api-Key": "sekret-key"})))
    assert isinstance(error, ApiError) and error.__context__ is None
    assert "sekret" not in "".join(traceback.format_exception(error))


WAYS_ELSEWHERE = [
    "{other}/p2",
    "//{other_host}/p2",
    "{other}/p2?page=2#x",
    "http://{home_host}@{other_host}/p2",
]


@pytest.mark.parametrize("way", WAYS_ELSEWHERE)
@pytest.mark.parametrize("by", ["body", "header", "link", "redirect"])
def test_no_credential_follows_a_next_url_to_a_stranger(api: FakeApi, way: str, by: str) -> None:
    with FakeApi() as stranger:
        url = way.format(other=stranger.url, other_host=stranger.host, home_host=api.host)
        fields: dict[str, Any] = {
            "body": {"paging_url_path": "next"},
            "header": {"paging_header_url": "X-Next"},
            "link": {"paging_header_link_rel": "next"},
            "redirect": {"paging_url_path": "next"},
        }[by]
        headers = {"X-Next": url, "Link": f'<{url}>; rel="next"'}
        following = "/away" if by == "redirect" else url
        api.route("/items", (200, headers, {"results": ITEMS, "next": following}))
        api.route("/away", (302, {"Location": url}, ""))
        stranger.route("/*", [])
        secret = {"Authorization": "Bearer sekret", "Cookie": "sekret", "X-Any": "sekret"}
        sync = made(api, headers=secret, query_params={"key": "sekret"}, **fields)
        assert read_all(fetch(sync, max_pages=2)) == ITEMS
        (seen,) = stranger.requests
        assert "sekret" not in seen.target + str(seen.headers)


def test_a_next_url_in_allowed_origins_gets_the_credentials(api: FakeApi) -> None:
    with FakeApi() as stranger:
        stranger.route("/p2", [])
        api.route("/items", {"results": ITEMS, "next": stranger.url + "/p2"})
        headers = {"Authorization": "Bearer sekret"}
        sync = made(api, headers=headers, allowed_origins=[stranger.url], paging_url_path="next")
        read_all(fetch(sync))
        assert stranger.requests[0].headers["Authorization"] == "Bearer sekret"


def test_a_posted_sync_does_not_reach_inside(api: FakeApi) -> None:
    with pytest.raises(ConfigError, match=r"items: 127\.0\.0\.1 is a private address"):
        list(Fetch(made(api), reach="public"))


# --- reading ahead, and stopping --------------------------------------------------------------------------


def test_the_next_page_is_fetched_while_this_one_is_used(api: FakeApi) -> None:
    second = threading.Event()
    pages = by_cursor(ITEMS[:3], ITEMS[3:])

    def reply(request: Received) -> Any:
        if request.query:
            second.set()
        return pages(request)

    api.route("/items", reply)
    reading = iter(fetch(made(api, **NEXT)))
    next(reading)
    assert second.wait(5)
    assert len(list(reading)) == 1


@given(st.lists(st.integers(0, 2 * AHEAD_BYTES), max_size=20))
@settings(max_examples=30)
def test_at_most_two_pages_wait_and_only_one_if_it_is_large(sizes: list[int]) -> None:
    made_so_far = 0
    used = 0

    def pages() -> Iterator[int]:
        nonlocal made_so_far
        for size in sizes:
            waiting = sizes[used:made_so_far]
            assert len(waiting) < 2 and (not waiting or sum(waiting) < AHEAD_BYTES)
            made_so_far += 1
            yield size

    found = []
    ahead = Ahead(pages(), lambda size: size, lambda: False)
    for size in ahead:
        used += 1
        found.append(size)
    ahead.close()
    assert found == sizes


def test_leaving_the_loop_ends_the_thread(api: FakeApi) -> None:
    api.route("/items", by_cursor(*([item] for item in ITEMS)))
    for _ in fetch(made(api, **NEXT)):
        break
    gc.collect()
    assert threads() == set()


def test_an_error_of_the_reader_ends_the_thread(api: FakeApi) -> None:
    api.route("/items", by_cursor(*([item] for item in ITEMS)))
    with pytest.raises(ZeroDivisionError), fetch(made(api, **NEXT)) as pull:
        for _ in pull:
            raise ZeroDivisionError
    assert threads() == set()


def test_closing_ends_a_pull_that_waits_for_a_slow_api(api: FakeApi) -> None:
    asked = threading.Event()

    def slow(request: Received) -> Any:
        asked.set()
        return api.stopped.wait(10)

    pages = by_cursor(ITEMS[:3], ITEMS[3:])
    api.route("/items", lambda request: slow(request) if request.query else pages(request))
    began = monotonic()
    with fetch(made(api, **NEXT)) as pull:
        next(iter(pull))
        assert asked.wait(5)
    assert threads() == set() and monotonic() - began < 2
    api.kill()


@pytest.mark.parametrize("moment", ["in an answer", "between tries"])
def test_a_stop_sign_ends_a_pull_within_moments(api: FakeApi, moment: str) -> None:
    stop = threading.Event()

    def reply(request: Received) -> Any:
        if not request.query:
            return {"results": ITEMS, "next": "b"}
        stop.set()
        if moment == "in an answer":
            api.stopped.wait(10)
        return (429, {"Retry-After": "60"}, "")

    api.route("/items", reply)
    began = monotonic()
    with pytest.raises(Cancelled):
        list(fetch(made(api, **NEXT), cancelled=stop.is_set))
    assert monotonic() - began < 2
    api.kill()


def test_a_pull_stopped_before_it_begins_asks_for_nothing(api: FakeApi) -> None:
    with pytest.raises(Cancelled):
        list(fetch(made(api), cancelled=lambda: True))
    assert api.requests == []


# --- lists that have not changed --------------------------------------------------------------------------


def test_a_list_that_has_not_changed_is_not_sent_again(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        return (304, {}, b"") if request.headers["If-None-Match"] == '"v1"' else (200, {"ETag": '"v1"'}, ITEMS)

    api.route("/items", reply)
    first = fetch(made(api))
    assert (read_all(first), first.not_modified) == (ITEMS, False)
    assert first.etag_to_keep is not None and first.etag_to_keep.endswith(' "v1"')
    second = fetch(made(api), etag=first.etag_to_keep)
    assert (read_all(second), second.stop, second.pages) == ([], Stop("not_modified"), 0)
    assert second.not_modified and second.etag_to_keep == first.etag_to_keep
    changed = fetch(made(api), etag=first.etag_to_keep.replace("v1", "v0"))
    assert (read_all(changed), changed.not_modified) == (ITEMS, False)


def test_a_list_of_several_pages_has_no_etag(api: FakeApi) -> None:
    pages = by_cursor(ITEMS[:3], ITEMS[3:])
    api.route("/items", lambda request: (200, {"ETag": '"v1"'}, pages(request)))
    pull = fetch(made(api, **NEXT))
    read_all(pull)
    assert pull.etag_to_keep is None


def test_an_etag_is_sent_with_the_same_request_and_credentials_only(api: FakeApi) -> None:
    """Metadata of a connection changes the request; another token may belong to another account."""
    api.route("/items", (200, {"ETag": '"v1"'}, ITEMS))

    def pull(team: str, token: str, etag: str | None, **fields: Any) -> str | None:
        says = Says(lambda fresh: {"metadata.team": team, "access_token": token})
        headers = {"Authorization": "Bearer ${access_token}"}
        fetched = fetch(made(api, "/items?team=${metadata.team}", headers=headers, **fields), access=says, etag=etag)
        read_all(fetched)
        return fetched.etag_to_keep

    kept = pull("a", "t-1", None)
    pull("a", "t-1", kept)
    pull("a", "t-2", kept)
    pull("b", "t-2", kept)
    pull("a", "t-2", kept, ignore_fields=["x"])
    pull("a", "t-2", '"v1"')
    assert [request.headers.get("If-None-Match") for request in api.requests] == [None, '"v1"', None, None, None, None]


@pytest.mark.parametrize(
    "fields",
    [
        {"paging_header_link_rel": "next"},
        {"paging_header_url": "X-Next", "paging_limit_request_path": "n", "paging_limit": 9},
        {"paging_header_cursor": "X-Next", "paging_cursor_request_path": "after"},
        {"method": "POST"},
    ],
)
def test_no_etag_is_kept_where_the_body_alone_does_not_tell_the_next_page(api: FakeApi, fields: dict[str, Any]) -> None:
    api.route("/items", (200, {"ETag": '"v1"'}, ITEMS))
    pull = fetch(made(api, **fields))
    assert (read_all(pull), pull.etag_to_keep) == (ITEMS, None)


# --- properties -------------------------------------------------------------------------------------------


@dataclass
class Scripted:
    """An API with any records on any pages, in any style; it counts what it is asked."""

    pages: list[list[Any]]
    style: str
    method: str = "GET"
    cursors: list[Any] = field(default_factory=list)
    asked: int = 0

    def fields(self) -> dict[str, Any]:
        to = {"paging_cursor_request_path": "after"}
        return {
            "cursor": {"paging_cursor_metadata_response_path": "meta.next", **to},
            "record": {"paging_cursor_object_response_path": "cursor", **to},
            "header": {"paging_header_cursor": "X-Next", **to},
            "url": {"paging_url_path": "meta.url"},
            "relative": {"paging_url_path": "meta.relative"},
            "link": {"paging_header_link_rel": "next"},
            "header url": {"paging_header_url": "X-Url"},
            "old url": {"paging_response_path": "meta.url"},
            "old cursor": {"paging_response_path": "meta.next", **to},
            "page": {"paging_page_request_path": "after"},
            "offset": {"paging_offset_request_path": "after"},
        }[self.style]

    def __call__(self, request: Received) -> Any:
        self.asked += 1
        number = self._number(request)
        records = self.pages[number] if number < len(self.pages) else []
        body: dict[str, Any] = {
            "results": [{"value": record, "cursor": None} for record in records],
            "meta": {},
        }
        headers: dict[str, str] = {}
        if number + 1 < len(self.pages):
            url = f"/items?after={number + 1}"
            body["meta"] = {
                "next": number + 1,
                "url": f"http://{request.headers['Host']}{url}",
                "relative": url,
            }
            body["results"][-1]["cursor"] = number + 1
            headers = {"X-Next": str(number + 1), "X-Url": url, "Link": f'<{url}>; rel="next"'}
        return (200, headers, body)

    def _number(self, request: Received) -> int:
        after = int({**(request.json or {}), **request.params}.get("after") or 0)
        if self.style == "page":
            return after - 1
        if self.style == "offset":
            ends = [sum(map(len, self.pages[: n + 1])) for n in range(len(self.pages))]
            return next((n for n, end in enumerate(ends) if after < end), len(ends))
        return after


STYLES = [
    "cursor",
    "record",
    "header",
    "url",
    "relative",
    "link",
    "header url",
    "old url",
    "old cursor",
    "page",
    "offset",
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("method", ["GET", "POST"])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_style_loses_a_record(server: FakeApi, style: str, method: str, data: st.DataObject) -> None:
    pages = data.draw(st.lists(st.lists(json_values, min_size=1, max_size=4), min_size=1, max_size=6))
    numbered = [[[number, index, value] for index, value in enumerate(page)] for number, page in enumerate(pages)]
    api = Scripted(numbered, style, method)
    server.route("/items", api)
    pull = fetch(made(server, method=method, **api.fields()))
    found = [json.loads(record)["value"] for page in pull for record in page.records]
    assert found == [record for page in numbered for record in page]
    assert pull.stop is not None and pull.stop.complete
    assert api.asked == len(pages) + (style in ("page", "offset"))


@pytest.mark.parametrize("style", ["cursor", "url"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_style_runs_for_ever(server: FakeApi, style: str, data: st.DataObject) -> None:
    """Each place of a list is visited once: the list ends, or is an error."""
    size = data.draw(st.integers(1, 6))
    leads_to = data.draw(st.lists(st.none() | st.integers(0, size - 1), min_size=size, max_size=size))
    asked = 0

    def reply(request: Received) -> Any:
        nonlocal asked
        asked += 1
        place = int(request.params.get("after", 0))
        to = leads_to[place]
        return {"results": [{"place": place}], "next": to, "url": None if to is None else f"/items?after={to}"}

    server.route("/items", reply)
    fields = NEXT if style == "cursor" else {"paging_url_path": "url"}
    pull = fetch(made(server, **fields))
    try:
        found = read_all(pull)
        assert pull.stop == Stop("no_cursor" if style == "cursor" else "no_next_url")
        assert len(found) == asked
    except PagingRepeats:
        assert pull.stop is None
    assert asked <= size + 1


HOSTS = st.sampled_from(["AWAY", "HOME"])
USERINFO = st.sampled_from(
    ["", "HOME@", "me:pw@", "HOME\\@", "HOME#@", "HOME?@", "HOME/@", "HOME%40", "HOME\t@", "HOME;@"]
)
URLS = st.tuples(
    st.sampled_from(["http:", "HTTP:", "", " http:", "http:http:"]),
    st.sampled_from(["//", "/\\", "\\\\", "///", "/", ""]),
    USERINFO,
    HOSTS,
    st.sampled_from(["", "/", "?", "#", "\\", "%2f", "@", ":"]),
    st.sampled_from(["", "x", "AWAY", "//AWAY", "@AWAY/", "?key=1"]),
)


@given(pieces=URLS)
@settings(max_examples=300, deadline=None)
def test_however_a_next_url_is_written_a_stranger_sees_no_credential(
    server: FakeApi, other_server: FakeApi, pieces: tuple[str, ...]
) -> None:
    url = "".join(pieces).replace("HOME", server.host).replace("AWAY", other_server.host)
    try:
        goes_to = host_of(server.url + "/items", url)
    except ConfigError:
        return
    if goes_to != "127.0.0.1":
        return  # a name that would have to be looked up
    server.script("/*", {"results": ITEMS[:1], "next": url}, {"results": []})
    other_server.route("/*", {"results": []})
    other_server.requests.clear()
    secret = {"Authorization": "Bearer sekret", "X-Any": "sekret"}
    sync = made(server, headers=secret, query_params={"key": "sekret"}, paging_url_path="next", retries=0)
    with contextlib.suppress(ApiError, PagingRepeats, ConfigError):
        list(fetch(sync))
    assert "sekret" not in "".join(request.target + str(request.headers) for request in other_server.requests)


def host_of(base: str, url: str) -> str:
    return server_of(joined(base, url)).host


@pytest.mark.parametrize("method", ["GET", "POST"])
@given(cursor=cursors)
@settings(max_examples=50, deadline=None)
def test_a_cursor_of_any_json_type_is_sent_back_as_it_came(server: FakeApi, method: str, cursor: Any) -> None:
    server.script("/items", {"results": ITEMS[:1], "next": cursor}, {"results": ITEMS[1:2]})
    server.requests.clear()
    assert read_all(fetch(made(server, method=method, **NEXT))) == ITEMS[:2]
    second = server.requests[1]
    if method == "POST":
        assert second.json["after"] == cursor
    elif isinstance(cursor, str):
        assert second.params["after"] == cursor
    else:
        assert json.loads(second.params["after"]) == json.loads(query_text(cursor)) == cursor


# --- from a sync's fields to requests ---------------------------------------------------------------------


def test_a_sync_says_how_its_api_is_treated() -> None:
    sync = Sync(
        name="items",
        friendly_name="All items",
        url="https://api.example.com/items",
        timeout=5,
        retries=1,
        max_page_bytes=1000,
        allowed_origins=["https://files.example.com"],
        rate_limit=RateLimit(requests=10, per=60),
        integration="shop",
    )
    policy = policy_of(sync)
    assert (policy.name, policy.timeout, policy.retries, policy.max_bytes) == ("All items", 5, 1, 1000)
    assert policy.allowed_origins == {"https://files.example.com:443"}
    assert policy.rate_limit is not None
    assert (policy.rate_limit.key, policy.rate_limit.requests, policy.rate_limit.seconds) == ("shop", 10, 60)


def test_the_first_request_is_the_one_in_the_config() -> None:
    sync = Sync(name="a", url="https://a.example/x?y=1", method="POST", body=[1], query_params={"n": [1, 2]})
    assert first_request(sync) == Request("POST", "https://a.example/x?y=1", {}, (("n", "1"), ("n", "2")), [1])


def test_a_page_shows_no_request_in_its_repr() -> None:
    page = Page(1, [], [], 2, Request("GET", "https://a.example?key=sekret"))
    assert "sekret" not in repr(page)
