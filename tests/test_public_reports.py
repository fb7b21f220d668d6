"""Answers of real APIs, as public bug reports of other tools tell of them: all records, or an error that helps."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from nango_dagster.config import from_body
from nango_dagster.errors import NangoError
from nango_dagster.fetch import Fetch, policy_of
from nango_dagster.http import Request, Response, asked_wait
from nango_dagster.http.verdicts import failure_by_status
from nango_dagster.paging import says_no
from tests.fake_api import Answer, FakeApi, Received, Reply, html, redirect

ITEMS = [{"id": number, "name": f"item {number}"} for number in range(1, 8)]
BY_PAGE = {"paging_page_request_path": "page"}
BY_OFFSET = {"paging_offset_request_path": "offset"}
BY_CURSOR = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}
BY_URL = {"paging_url_path": "next"}
BY_LINK = {"paging_header_link_rel": "next"}
BY_RECORD = {"paging_cursor_object_response_path": "id", "paging_cursor_request_path": "after"}
LIMIT = {"paging_limit": 3, "paging_limit_request_path": "limit"}


@dataclass(frozen=True)
class Result:
    """The result of a sync: the records before an error, the error, and why the list ended."""

    records: list[Any]
    error: str = ""
    reason: str = ""
    notes: list[str] = field(default_factory=list)


def read(api: FakeApi, reply: Callable[[Received], Reply], **fields: Any) -> Result:
    api.route("/items", reply)
    sync = from_body({"name": "items", "url": f"{api.url}/items", "retries": 0, **fields})
    fetch = Fetch(sync, policy=replace(policy_of(sync), backoff=0.001))
    records: list[Any] = []
    try:
        for page in fetch:
            records += [json.loads(record) for record in page.records]
    except NangoError as error:
        return Result(records, str(error))
    assert fetch.stop is not None
    doubt = [fetch.paging_doubt] if fetch.paging_doubt else []
    return Result(records, "", fetch.stop.reason, [*doubt, *fetch.warnings])


def pages(make: Callable[[int, list[Any], bool], Reply]) -> Callable[[Received], Reply]:
    """Seven records in three pages; `make` gets the page's number, its records, and whether it is the last one."""

    def reply(request: Received) -> Reply:
        number = int(request.params.get("page", request.params.get("after", 1)))
        return make(number, ITEMS[(number - 1) * 3 : number * 3], number >= 3)

    return reply


def with_next(last: Any) -> Callable[[Received], Reply]:
    """Pages whose `next` is the number of the next page, and `last` on the last one."""
    return pages(lambda number, records, is_last: {"results": records, "next": last if is_last else number + 1})


# --- how a list goes on and ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [{}, [], " ", False, "none"], ids=repr)
def test_what_is_no_cursor_ends_a_list(api: FakeApi, last: Any) -> None:
    assert read(api, with_next(last), **BY_CURSOR).records == ITEMS


@pytest.mark.parametrize("last", [0, "0", -1, "-1"], ids=repr)
def test_a_cursor_that_means_the_end_is_named_by_the_field_that_the_error_tells(api: FakeApi, last: Any) -> None:
    def reply(request: Received) -> Reply:
        number = max(1, int(request.params.get("after", 1)))
        return {"results": ITEMS[(number - 1) * 3 : number * 3], "next": number + 1 if number < 3 else last}

    assert "paging_has_more_response_path, also if 0 or -1" in read(api, reply, **BY_CURSOR).error
    assert read(api, reply, **BY_CURSOR, paging_has_more_response_path="next").records == ITEMS


@pytest.mark.parametrize("no", ["false", "False", "off", "N", "none", "0", 0, -1, None, [], {}], ids=repr)
def test_a_flag_says_no_in_many_ways(no: Any) -> None:
    assert says_no(no)


@pytest.mark.parametrize(
    "url",
    ["?page={}", "/items?page={}#top", " /items?page={}&q=a b ", "//{host}/items?page={}", "/items?x=1&amp;page={}"],
)
def test_a_next_url_is_followed_as_a_browser_does(api: FakeApi, url: str) -> None:
    def reply(request: Received) -> Reply:
        number = int(request.params.get("page") or request.params.get("amp;page") or 1)
        following = url.replace("{host}", api.host).replace("{}", str(number + 1))
        return {"results": ITEMS[(number - 1) * 3 : number * 3], "next": following if number < 3 else "#"}

    assert read(api, reply, **BY_URL).records == ITEMS


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"href": "/items?page=2"}, "Set paging_url_path: next.href."),
        ({"page": 2}, "It has page."),
        (["/items?page=2"], 'Set paging_url_path: "next[0]"'),
        (2, "set paging_cursor_metadata_response_path: next and paging_cursor_request_path"),
    ],
    ids=["an object with a URL", "another object", "a list", "a number"],
)
def test_a_next_url_that_is_none_names_the_field_that_reads_it(api: FakeApi, value: Any, hint: str) -> None:
    assert hint in read(api, lambda request: {"results": ITEMS[:3], "next": value}, **BY_URL).error


def test_a_link_relation_may_be_a_url(api: FakeApi) -> None:
    link = '</items?page={}>; rel="https://api.example.com/rels/next"'
    reply = pages(lambda number, records, last: (200, {} if last else {"Link": link.format(number + 1)}, records))
    assert read(api, reply, **BY_LINK).records == ITEMS


def test_a_link_header_of_another_syntax_is_an_error(api: FakeApi) -> None:
    reply = pages(lambda number, records, last: (200, {"Link": '{"next": "/items?page=2"}'}, records))
    assert "its URL cannot be read" in read(api, reply, **BY_LINK).error


@pytest.mark.parametrize(
    ("fields", "headers", "doubt"),
    [
        ({**BY_RECORD, "paging_cursor_object_response_path": "idd"}, {}, 'the last record has "id", "name"'),
        ({"paging_header_cursor": "X-Nxt", "paging_cursor_request_path": "after", **LIMIT}, {"X-Next": "2"}, "X-Nxt"),
        ({"paging_header_link_rel": "nxt"}, {"Link": '</items?page=2>; rel="next"'}, 'the header has "next"'),
    ],
    ids=["in the last record", "in a header", "in the Link header"],
)
def test_a_place_without_a_next_page_anywhere_is_doubtful(
    api: FakeApi, fields: dict[str, Any], headers: dict[str, str], doubt: str
) -> None:
    result = read(api, lambda request: (200, headers, ITEMS[:3]), **fields)
    assert doubt in result.notes[0]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, {"Link": '</items?page=2>; rel="next"'}, ITEMS), "set paging_header_link_rel: next"),
        ((200, {"Content-Range": "items 0-6/99"}, ITEMS), "Content-Range says that the list has 99 records"),
        ((200, {"X-Total-Count": "99"}, ITEMS), "X-Total-Count says that the list has 99 records"),
        ({"results": ITEMS, "next": "/items?page=2"}, 'set paging_url_path: "next"'),
        ({"results": ITEMS, "@odata.nextLink": "https://a.example/x"}, 'set paging_url_path: "@odata.nextLink"'),
        ({"results": ITEMS, "_links": {"next": {"href": "/x"}}}, 'set paging_url_path: "_links.next.href"'),
        ({"results": ITEMS, "meta": {"next_cursor": "c2"}}, 'response_path: "meta.next_cursor"'),
        ({"results": ITEMS, "has_more": True}, '"has_more" is true'),
        ({"results": ITEMS, "total_count": 99}, '"total_count" says that the list has 99 records'),
        ({"results": ITEMS, "total": 99, "startAt": 0, "maxResults": 7}, '"total" says that the list has 99 records'),
        ({"results": ITEMS, "page": 1, "pages": 4}, '"pages" says that the list has 4 pages'),
        ({"results": ITEMS, "meta": {"pagination": {"total_pages": 4}}}, '"meta.pagination.total_pages" says'),
        ((200, {"X-Next-Page": "2"}, ITEMS), "the header X-Next-Page names a next page"),
        ((200, {"X-Total-Pages": "4"}, ITEMS), "the header X-Total-Pages says that the list has 4 pages"),
        ({"results": ITEMS, "IsTruncated": True}, '"IsTruncated" is true'),
        ({"results": ITEMS, "exceededTransferLimit": True}, '"exceededTransferLimit" is true'),
        ({"results": ITEMS, "done": False}, '"done" is false'),
        ({"results": ITEMS, "LastEvaluatedKey": {"id": {"N": "7"}}}, '"LastEvaluatedKey" says where the next page'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_further_pages_without_paging_in_the_config_are_a_warning(api: FakeApi, answer: Reply, sentence: str) -> None:
    result = read(api, lambda request: answer)
    assert result.records == ITEMS and sentence in result.notes[0]
    assert read(api, lambda request: answer, max_pages=1).notes == []


def test_a_sign_of_further_pages_around_the_list_is_a_warning(api: FakeApi) -> None:
    around = {"data": {"issues": {"nodes": ITEMS, "pageInfo": {"hasNextPage": True}}}}
    result = read(api, lambda request: around, response_path="data.issues.nodes")
    assert '"data.issues.pageInfo.hasNextPage" is true' in result.notes[0]


def test_a_list_of_links_is_read_by_the_path_that_the_warning_names(api: FakeApi) -> None:
    def link(number: int, last: bool) -> list[dict[str, str]]:
        own = {"relation": "self", "url": f"/items?page={number}"}
        return [own] if last else [own, {"relation": "next", "url": f"/items?page={number + 1}"}]

    reply = pages(lambda number, records, last: {"results": records, "link": link(number, last)})
    (note,) = read(api, reply).notes
    path = note.partition('paging_url_path: "')[2].partition('"')[0]
    assert read(api, reply, paging_url_path=path).records == ITEMS


@pytest.mark.parametrize(
    "beside",
    [
        *({"next": None}, {"next": ""}, {"has_more": False}, {"total_count": 7}, {"total": 9}, {"done": True}),
        *(
            {"total": 7, "limit": 100},
            {"pages": 1},
            {"IsTruncated": False},
            {"link": [{"relation": "self", "url": "/"}]},
        ),
        {"X": [{"page": 2, "pages": 3}]},
    ],
    ids=str,
)
def test_a_list_of_one_page_has_no_warning(api: FakeApi, beside: dict[str, Any]) -> None:
    assert read(api, lambda request: {"results": ITEMS, **beside}).notes == []


# --- totals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "total",
    [lambda page: 5 + page, lambda page: 8 - page, lambda page: 0, lambda page: -1, lambda page: "7.0", lambda page: 4],
    ids=["it grows", "it shrinks", "zero", "unknown", "a text", "too small"],
)
def test_a_total_that_is_none_loses_no_record(api: FakeApi, total: Callable[[int], Any]) -> None:
    reply = pages(lambda number, records, last: {"results": records, "total": total(number)})
    assert read(api, reply, **BY_PAGE, paging_total_response_path="total").records == ITEMS


@pytest.mark.parametrize("fields", [{"paging_header_total_pages": "X-Pages"}, {}], ids=["configured", "known"])
def test_a_number_of_pages_below_the_page_itself_does_not_count(api: FakeApi, fields: dict[str, Any]) -> None:
    headers = {"X-Pages": "0", "X-Total-Pages": "0"}
    assert read(api, pages(lambda number, records, last: (200, headers, records)), **BY_PAGE, **fields).records == ITEMS


@pytest.mark.parametrize("fields", [{}, {"paging_total_response_path": "total"}], ids=["no total", "a total"])
def test_a_page_0_that_is_page_1_counts_once(api: FakeApi, fields: dict[str, Any]) -> None:
    def reply(request: Received) -> Reply:
        start = (max(1, int(request.params["page"])) - 1) * 3
        return {"results": ITEMS[start : start + 3], "total": len(ITEMS)}

    assert read(api, reply, **BY_PAGE, paging_page_start=0, **fields).records == ITEMS


@pytest.mark.parametrize("status", [400, 404, 410, 416, 422])
def test_an_error_status_beyond_the_end_names_the_rule_that_ends_the_list(api: FakeApi, status: int) -> None:
    def reply(request: Received) -> Reply:
        offset = int(request.params["offset"])
        return {"results": ITEMS[offset : offset + 3]} if offset < len(ITEMS) else (status, {}, {"error": "gone"})

    rule = f"{{status: {status}, action: end}}"
    assert f"add to responses: {rule}" in read(api, reply, **BY_OFFSET).error
    assert read(api, reply, **BY_OFFSET, responses=[{"status": status, "action": "end"}]).records == ITEMS


def test_an_empty_body_beyond_the_end_names_the_rule_that_reads_it(api: FakeApi) -> None:
    reply = pages(lambda number, records, last: {"results": records} if records else b"")
    assert 'add to responses: {header: Content-Length, equals: "0", action: empty}' in read(api, reply, **BY_PAGE).error
    rule = {"header": "Content-Length", "equals": "0", "action": "empty"}
    assert read(api, reply, **BY_PAGE, responses=[rule]).records == ITEMS


# --- waits ------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
THEN = NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": format_datetime(THEN, usegmt=True)}, 30),
        ({"Retry-After": THEN.isoformat()}, 30),
        ({"Retry-After": str(int(THEN.timestamp()))}, 30),
        ({"Retry-After": str(int(THEN.timestamp() * 1000))}, 30),
        ({"Retry-After": "30s"}, 30),
        ({"Retry-After": "1500 ms"}, 1.5),
        ({"Retry-After": "1m30s"}, 90),
        ({"X-Retry-After": "30"}, 30),
        ({"Retry-After-Ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"RateLimit": "limit=100, remaining=0, reset=30"}, 30),
        ({"RateLimit": '"default";r=0;t=30'}, 30),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": THEN.isoformat()}, 30),
        ({"Retry-After": "-1"}, 0),
        *(({"Retry-After": text}, None) for text in ("soon", "", "inf", "nan", "5 fortnights")),
    ],
    ids=str,
)
def test_a_wait_is_read_wherever_an_api_writes_it(headers: dict[str, str], seconds: float | None) -> None:
    response = Response(429, _headers(headers), b"", "")
    assert asked_wait(response.headers, NOW) == seconds


def _headers(headers: dict[str, str]) -> Any:
    from urllib3 import HTTPHeaderDict

    return HTTPHeaderDict(headers)


@pytest.mark.parametrize(
    ("status", "headers"), [(420, {}), (430, {}), (413, {"Retry-After": "1"}), (400, {"Retry-After": "1"})]
)
def test_an_api_that_is_throttled_is_asked_again_whatever_status_says_so(status: int, headers: dict[str, str]) -> None:
    request = Request("GET", "https://api.example.com/items")
    assert failure_by_status(request, Response(status, headers, b"", request.url), "").again
    assert not failure_by_status(request, Response(400, {}, b"", request.url), "").again


# --- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "none", "binary", "identity"])
def test_a_content_encoding_that_is_none_is_ignored(api: FakeApi, encoding: str) -> None:
    answer = Answer(headers={"Content-Encoding": encoding}, body=json.dumps(ITEMS).encode())
    assert read(api, lambda request: answer).records == ITEMS


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_a_compressed_answer_that_was_cut_off_is_an_error(api: FakeApi, cut: int) -> None:
    """Lines have no end of their own, so that half of them would be a shorter list."""
    lines = b"".join(b'{"id": %d}\n' % number for number in range(1000))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
    result = read(api, lambda request: Answer(headers=headers, body=gzip.compress(lines)[:-cut]))
    assert "is not compressed as its Content-Encoding says" in result.error and result.records == []
    assert len(read(api, lambda request: Answer(headers=headers, body=gzip.compress(lines))).records) == 1000


def test_the_first_line_of_an_excel_csv_names_the_delimiter(api: FakeApi) -> None:
    answer = Answer(headers={"Content-Type": "text/csv"}, body=b"sep=;\r\nid;name\r\n1;a,b\r\n")
    assert read(api, lambda request: answer).records == [{"id": "1", "name": "a,b"}]


def test_an_answer_after_a_redirect_names_the_url_that_gave_it(api: FakeApi) -> None:
    api.route("/login", html())
    assert f"It is the answer of {api.url}/login" in read(api, lambda request: redirect("/login?next=/items")).error


# --- failures with status 200 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beside",
    [
        {"message": "Rate limit exceeded"},
        {"msg": "Your session has expired"},
        {"message": "Internal server error"},
        {"code": 40001, "message": "Invalid token"},
        {"code": "10013", "msg": "bad parameter"},
        {"resultCode": "FAIL"},
        {"status": "REQUEST_DENIED"},
        {"status": "OVER_QUERY_LIMIT"},
        {"type": "error"},
        {"response": {"error": "denied"}},
        {"incomplete_results": True},
        {"timed_out": True},
        {"head": {"code": 5, "message": "denied"}},
        {"meta": {"code": 400, "error_message": "expired"}},
        {"reason": "quota exceeded"},
    ],
    ids=str,
)
def test_an_empty_list_beside_a_failure_is_no_empty_list(api: FakeApi, beside: dict[str, Any]) -> None:
    assert (
        "a rule in responses says so" in read(api, lambda request: {"data": [], **beside}, response_path="data").error
    )


@pytest.mark.parametrize(
    "beside",
    [
        {"message": "No records found"},
        {"code": 0, "message": "ok"},
        {"code": 200, "msg": "anything"},
        {"code": 10000, "message": "Success"},
        {"code": 1001, "message": "No data"},
        {"code": 7},
        {"status": "ZERO_RESULTS"},
        {"type": "list"},
        {"incomplete_results": False},
        {"head": {"code": 0, "message": "ok"}},
        {"_shards": {"total": 5, "failed": 0}},
        {"title": "Maintenance windows"},
    ],
    ids=str,
)
def test_an_empty_list_beside_a_remark_is_an_empty_list(api: FakeApi, beside: dict[str, Any]) -> None:
    assert read(api, lambda request: {"data": [], **beside}, response_path="data") == Result([], "", "empty_page")


@pytest.mark.parametrize("name", ["message", "detail", "reason"])
def test_a_missing_list_beside_a_failure_is_no_empty_list(api: FakeApi, name: str) -> None:
    fields = {"response_path": "data", "missing_is_empty": True}
    assert "quota exceeded" in read(api, lambda request: {name: "quota exceeded"}, **fields).error


@pytest.mark.parametrize(
    "beside",
    [{"incomplete_results": True}, {"timed_out": True}, {"ok": "false"}, {"partial": True}, {"_shards": {"failed": 2}}],
    ids=str,
)
def test_records_of_a_failed_search_are_no_list(api: FakeApi, beside: dict[str, Any]) -> None:
    reply = {"data": ITEMS, **beside}
    assert read(api, lambda request: reply, response_path="data").error
    rule = {"status": 200, "action": "list"}
    assert read(api, lambda request: reply, response_path="data", responses=[rule]).records == ITEMS
