"""Given a page, the request for the next one: each style by itself, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, ConfigError
from nango_dagster.fetch.requests import first_request, with_limit
from nango_dagster.http import Request, Response
from nango_dagster.paging import (
    Answer,
    CursorInBody,
    CursorInHeader,
    CursorInLastRecord,
    CursorOrUrlInBody,
    Offset,
    PageNumber,
    Paging,
    RequestPath,
    SinglePage,
    UrlInBody,
    UrlInHeader,
    UrlInLinkHeader,
    says_no,
    style,
)
from nango_dagster.records import Shape, read
from tests.strategies import cursors

URL = "https://api.example.com/items"
GET = Request("GET", URL, params=(("limit", "2"),))
POST = Request("POST", URL, body={"limit": 2})


def page(body: Any = None, request: Request = GET, **headers: str) -> Answer:
    content = json.dumps({"results": [{"id": 1}, {"id": 2}], **(body or {})}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(request, Response(200, named, content, request.full_url), read(content, Shape("results")), 1, 2)


def after(paging: Paging, answer: Answer) -> str | None:
    following = paging.after(answer)
    return None if following is None else following.full_url


# --- cursors ----------------------------------------------------------------------------------------------


def test_a_cursor_beside_the_records_goes_into_the_query() -> None:
    paging = CursorInBody("paging.next.after", RequestPath("after"))
    assert after(paging, page({"paging": {"next": {"after": "NTI1Cg=="}}})) == f"{URL}?limit=2&after=NTI1Cg%3D%3D"


def test_a_cursor_in_the_last_record_goes_into_the_query() -> None:
    assert after(CursorInLastRecord("id", RequestPath("before")), page()) == f"{URL}?limit=2&before=2"


def test_a_cursor_in_a_header_goes_into_the_query() -> None:
    assert after(CursorInHeader("X-Next", RequestPath("cursor")), page(X_Next="c2")) == f"{URL}?limit=2&cursor=c2"


def test_a_later_cursor_replaces_the_one_before_wherever_that_stands() -> None:
    paging = CursorInBody("next", RequestPath("after"))
    earlier = Request("GET", f"{URL}?after=0&x=1", params=(("after", "1"),))
    assert after(paging, page({"next": "2"}, earlier)) == f"{URL}?x=1&after=2"


def test_a_parameter_name_is_literal_in_a_query() -> None:
    request = CursorInBody("next", RequestPath("page.after")).after(page({"next": "c"}))
    assert request is not None and request.full_url == f"{URL}?limit=2&page.after=c"
    request = CursorInBody("next", RequestPath("filter[id][_gt]")).after(page({"next": 7}))
    assert request is not None and request.full_url == f"{URL}?limit=2&filter[id][_gt]=7"


def test_a_cursor_goes_to_a_dotted_place_in_a_body() -> None:
    request = CursorInBody("next", RequestPath("paging.after")).after(page({"next": {"id": [1, None]}}, POST))
    assert request is not None
    assert request.body == {"limit": 2, "paging": {"after": {"id": [1, None]}}}
    assert POST.body == {"limit": 2}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "PATCH"])
def test_the_method_decides_where_a_cursor_goes(method: str) -> None:
    request = CursorInBody("next", RequestPath("after")).after(page({"next": "c"}, Request(method, URL)))
    assert request is not None
    in_query = method in ("GET", "DELETE")
    assert (request.full_url == f"{URL}?after=c", request.body == {"after": "c"}) == (in_query, not in_query)


@pytest.mark.parametrize(
    "end",
    [
        {},
        {"next": None},
        {"next": ""},
        {"next": False},
        {"next": "null"},
        {"next": " "},
        {"next": []},
        {"next": {}},
        {"other": "c"},
    ],
)
@pytest.mark.parametrize(
    "paging",
    [CursorInBody("next", RequestPath("after")), UrlInBody("next"), CursorOrUrlInBody("next", RequestPath("after"))],
)
def test_nothing_null_false_and_empty_text_end_the_list(paging: Paging, end: Any) -> None:
    assert paging.after(page(end)) is None


@pytest.mark.parametrize(
    ("cursor", "sent"),
    [(0, "0"), ("0", "0"), (True, "true"), (1.5, "1.5"), (10**30, str(10**30)), ([0], "[0]")],
)
def test_zero_is_a_cursor_like_any_other_value(cursor: Any, sent: str) -> None:
    request = CursorInBody("next", RequestPath("after")).after(page({"next": cursor}))
    assert request is not None and dict(request.params)["after"] == sent


@given(cursors)
def test_a_cursor_of_any_json_type_arrives_in_a_body_as_it_came(cursor: Any) -> None:
    request = CursorInBody("next", RequestPath("deep.after")).after(page({"next": cursor}, POST))
    assert request is not None and request.value("deep.after") == request.body["deep"]["after"]


def test_an_empty_page_has_no_last_record() -> None:
    empty = Answer(GET, Response(200, {}, b"[]", URL), read(b"[]"), 1, 0)
    assert CursorInLastRecord("id", RequestPath("after")).after(empty) is None


# --- URLs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "followed"),
    [
        ("https://api.example.com/items?page=2", f"{URL}?page=2&limit=2"),
        ("/items?page=2", f"{URL}?page=2&limit=2"),
        ("?page=2", f"{URL}?page=2&limit=2"),
        ("items/2", "https://api.example.com/items/2?limit=2"),
        ("//api.example.com/items?page=2", f"{URL}?page=2&limit=2"),
        (f" {URL}?page=2 ", f"{URL}?page=2&limit=2"),
        (f"{URL}?limit=9&page=2", f"{URL}?limit=9&page=2"),
        (f"{URL}?filter[a]=1,2:3&page=2#top", f"{URL}?filter[a]=1,2:3&page=2&limit=2"),
        (f"{URL}?li%6Dit=9", f"{URL}?li%6Dit=9"),
    ],
)
def test_next_urls_may_be_relative_and_keep_their_own_values(found: str, followed: str) -> None:
    assert after(UrlInBody("next"), page({"next": found})) == followed


def test_a_relative_url_is_meant_from_where_the_answer_came() -> None:
    content = b'{"results": [], "next": "b?page=2"}'
    moved = Response(200, {}, content, "https://api.example.com/v2/items/a")
    answer = Answer(GET, moved, read(content), 1, 0)
    assert after(UrlInBody("next"), answer) == "https://api.example.com/v2/items/b?page=2&limit=2"


def test_the_link_header_is_followed_by_its_rel() -> None:
    link = f'<{URL}?page=1>; rel="prev", <{URL}?page=3>; rel="next"'
    assert after(UrlInLinkHeader("next"), page(Link=link)) == f"{URL}?page=3&limit=2"
    assert after(UrlInLinkHeader("Prev"), page(Link=link)) == f"{URL}?page=1&limit=2"
    assert UrlInLinkHeader("last").after(page(Link=link)) is None
    assert UrlInLinkHeader("next").after(page()) is None


def test_a_url_in_a_header_is_followed() -> None:
    assert after(UrlInHeader("X-Next"), page(X_Next="/items?page=2")) == f"{URL}?page=2&limit=2"


@pytest.mark.parametrize("found", [7, True, ["x"], {"href": "x"}])
def test_a_url_that_is_no_text_is_an_error_that_says_what_was_found(found: Any) -> None:
    with pytest.raises(ApiError, match=r'paging_url_path "next" holds .*; wanted the URL of the next page'):
        UrlInBody("next").after(page({"next": found}))


@pytest.mark.parametrize("found", ["ftp://a.example/x", "javascript:alert(1)", "http://[x"])
def test_a_url_that_cannot_be_fetched_is_an_error(found: str) -> None:
    with pytest.raises(ConfigError):
        UrlInBody("next").after(page({"next": found}))


def test_the_body_of_a_post_goes_along_to_a_next_url() -> None:
    request = UrlInBody("next").after(page({"next": "?page=2"}, POST))
    assert request is not None and (request.method, request.body) == ("POST", {"limit": 2})


# --- the older field that may hold either -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_path", "found", "sent"),
    [
        ("after", "https://api.example.com/items?page=2", f"{URL}?page=2&limit=2"),
        ("after", "c2", f"{URL}?limit=2&after=c2"),
        ("after", "/wAAA==", f"{URL}?limit=2&after=%2FwAAA%3D%3D"),
        ("after", 7, f"{URL}?limit=2&after=7"),
        (None, "https://api.example.com/items?page=2", f"{URL}?page=2&limit=2"),
        (None, "/items?page=2", f"{URL}?page=2&limit=2"),
    ],
)
def test_the_older_field_follows_a_url_and_sends_anything_else(request_path: str | None, found: Any, sent: str) -> None:
    assert (
        after(
            CursorOrUrlInBody("next", None if request_path is None else RequestPath(request_path)),
            page({"next": found}),
        )
        == sent
    )


# --- counting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paging", "request_", "first", "second"),
    [
        (PageNumber("page"), GET, "limit=2&page=1", "limit=2&page=2"),
        (PageNumber("page", 0), GET, "limit=2&page=0", "limit=2&page=1"),
        (PageNumber("page"), Request("GET", f"{URL}?page=5"), "page=5", "page=6"),
        (PageNumber("page", 3), Request("GET", f"{URL}?page=5"), "page=3", "page=4"),
        (Offset("skip"), GET, "limit=2&skip=0", "limit=2&skip=2"),
        (Offset("skip", 1), GET, "limit=2&skip=1", "limit=2&skip=3"),
    ],
)
def test_pages_are_counted_from_the_first_request_on(
    paging: Paging, request_: Request, first: str, second: str
) -> None:
    begin = paging.first(request_)
    assert begin.full_url == f"{URL}?{first}"
    assert after(paging, page(request=begin)) == f"{URL}?{second}"


def test_numbers_in_a_body_are_numbers() -> None:
    begin = Offset("page.offset").first(POST)
    assert begin.body == {"limit": 2, "page": {"offset": 0}}
    following = Offset("page.offset").after(page(request=begin))
    assert following is not None and following.body["page"] == {"offset": 2}


def test_an_offset_moves_by_what_was_sent_unreadable_records_included() -> None:
    content = b'[{"id": 1}, {"id": NaN}, {"id": 3}]'
    answer = Answer(Offset("skip").first(GET), Response(200, {}, content, URL), read(content), 1, 2)
    assert after(Offset("skip"), answer) == f"{URL}?limit=2&skip=3"


def test_a_number_that_is_none_is_an_error() -> None:
    with pytest.raises(ApiError, match="wanted a number to count on from"):
        PageNumber("page").after(page(request=Request("GET", f"{URL}?page=abc")))


def test_the_size_of_a_page_goes_along_with_any_style() -> None:
    sync = Sync(url=URL, paging_url_path="next", paging_limit_request_path="per_page", paging_limit=100)
    begin = style(sync).first(with_limit(sync, first_request(sync)))
    assert begin.full_url == f"{URL}?per_page=100"
    assert after(style(sync), page({"next": "?page=2"}, begin)) == f"{URL}?page=2&per_page=100"


# --- from a sync's fields to a style ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "paging"),
    [
        ({}, SinglePage()),
        ({"paging_cursor_metadata_response_path": "a"}, CursorInBody("a", RequestPath("q"))),
        ({"paging_cursor_object_response_path": "a"}, CursorInLastRecord("a", RequestPath("q"))),
        ({"paging_header_cursor": "X-A"}, CursorInHeader("X-A", RequestPath("q"))),
        ({"paging_url_path": "a"}, UrlInBody("a")),
        ({"paging_header_link_rel": "next"}, UrlInLinkHeader("next")),
        ({"paging_header_url": "X-A"}, UrlInHeader("X-A")),
        ({"paging_response_path": "a"}, CursorOrUrlInBody("a", RequestPath("q"))),
        ({"paging_page_request_path": "p", "paging_page_start": 0}, PageNumber("p", 0)),
        ({"paging_offset_request_path": "o"}, Offset("o")),
    ],
)
def test_fields_say_which_style_it_is(fields: dict[str, Any], paging: Paging) -> None:
    assert style(Sync(url=URL, paging_cursor_request_path="q", **fields)) == paging


@pytest.mark.parametrize(
    ("found", "no_more"),
    [
        (False, True),
        (None, True),
        (0, True),
        ("", True),
        ("false", True),
        ("No", True),
        ([], True),
        (True, False),
        (1, False),
        ("true", False),
        ("https://a.example", False),
    ],
)
def test_what_says_that_there_is_no_more(found: Any, no_more: bool) -> None:
    assert says_no(found) is no_more


@given(st.text(), st.text())
def test_a_value_placed_in_a_query_is_the_one_found_there(name: str, value: str) -> None:
    if not name or "${" in value:
        return
    request = Request("GET", f"{URL}?limit=2&x=%20").with_value(name, value)
    assert request.value(name) == value
    assert request.follow(request.full_url).full_url == request.full_url
