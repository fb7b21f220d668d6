"""Every public list can be described, and no other answer is taken for it: records, rules and the ends of lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from nango_dagster.config import ResponseRule, Sync, from_body
from nango_dagster.errors import ApiError, AuthenticationFailed, NangoError, PagingRepeats
from nango_dagster.fetch import Fetch, Stop, policy_of
from nango_dagster.http import public_config
from nango_dagster.records import Shape, read
from tests.fake_api import HANG_UP, Answer, FakeApi, Received

ITEMS = [{"id": number} for number in range(1, 8)]
BY_PAGE = {"paging_page_request_path": "page"}
BY_CURSOR = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}


def pull(api: FakeApi, **fields: Any) -> Fetch:
    """A Fetch of a config as a user writes it, which does not wait long between tries."""
    sync = from_body({"name": "items", "url": f"{api.url}/items", **fields})
    return Fetch(sync, policy=replace(policy_of(sync), backoff=0.001))


def records_of(fetch: Fetch) -> list[Any]:
    return [json.loads(record) for page in fetch for record in page.records]


def error_of(fetch: Fetch) -> str:
    with pytest.raises(NangoError) as info:
        records_of(fetch)
    return str(info.value)


def numbered(size: int = 3, beyond: Callable[[int], Any] = lambda page: [], **fields: Any) -> Callable[[Received], Any]:
    """An API of numbered pages; `beyond` is its answer after the last one."""

    def reply(request: Received) -> Any:
        page = int(request.params.get("page", 1))
        records = ITEMS[(page - 1) * size : page * size]
        return {"results": records, **fields} if records else beyond(page)

    return reply


# --- what is a record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shape", "records"),
    [
        ('{"user": {"id": 1}}', Shape("user", "object"), ['{"id": 1}']),
        ('{"id": 1}', Shape(None, "object"), ['{"id": 1}']),
        ('{"a": {"n": 1}, "b": {"n": 2}}', Shape(None, "values"), ['{"n": 1}', '{"n": 2}']),
        ('{"q": {"a": {"n": 1}, "b": null}}', Shape("q", "values", "key"), ['{"n":1,"key":"a"}']),
        ('[null, {"n": 1}, null]', Shape(None, "values"), ['{"n": 1}']),
        ('[null, {"n": 1}]', Shape(None, "values", "key"), ['{"n":1,"key":"1"}']),
        ("null", Shape(None, "values"), []),
        ("{}", Shape(None, "values"), []),
        ('["red", 5, [1], null]', Shape(None, "plain"), ['{"value":"red"}', '{"value":5}', '{"value":[1]}']),
        ('{"resultSizeEstimate": 0}', Shape("messages", missing_is_empty=True), []),
        ("{}", Shape("messages", missing_is_empty=True), []),
        ('{"QueryResponse": {}}', Shape("QueryResponse.Customer", missing_is_empty=True), []),
        ('{"data": null}', Shape("data"), []),
        ("null", Shape(None, missing_is_empty=True), []),
    ],
)
def test_a_field_describes_a_list_of_another_shape(body: str, shape: Shape, records: list[str]) -> None:
    envelope = read(body.encode(), shape)
    assert [record.decode().replace(": ", ":") for record in envelope.records] == [
        record.replace(": ", ":") for record in records
    ]
    assert envelope.rejected == []


@pytest.mark.parametrize(
    ("body", "shape", "sentence"),
    [
        ('{"result": "Max rate"}', Shape("result"), 'response_path "result" holds the text "Max rate"; wanted a list'),
        ('{"result": 5}', Shape("result"), "holds the number 5"),
        ('{"result": false}', Shape("result"), "holds false"),
        ('{"result": {}}', Shape("result"), "holds an empty object"),
        (
            '{"u": {"id": 1}}',
            Shape("u"),
            "wanted a list of records. If the object is the one record",
        ),
        (
            '{"u": {"a": {"n": 1}}}',
            Shape("u"),
            "if they are the records, set records: values",
        ),
        ("[1, 2]", Shape(), "the first value is the number 1. If these are the records, set records: plain."),
        ("[null]", Shape(), "set records: values, which leaves nulls out."),
        ("false", Shape(), "the response is false; wanted a JSON object or list."),
        ("null", Shape(), "set missing_is_empty: true."),
        ("{}", Shape(None, "object"), "holds an empty object; wanted one object"),
        ('{"error": "no"}', Shape(None, "object"), 'the response has an error and no records: "no".'),
        ('{"error": "no"}', Shape(None, "values"), 'the response has an error and no records: "no".'),
        ('{"error": {"code": 1}}', Shape("messages", missing_is_empty=True), "has an error and no records: 1."),
        ('{"Fault": {}, "x": 1}', Shape("QueryResponse.Customer", missing_is_empty=True), "nothing at response_path"),
        (
            '{"data": null, "message": "Rate limited"}',
            Shape("data"),
            'and the response says "Rate limited".',
        ),
        ('{"ok": false, "items": [{"id": 1}]}', Shape("items"), 'the response says "ok": false'),
        ('{"success": false, "items": []}', Shape("items"), 'the response says "success": false'),
        ('{"errors": [{"message": "no"}], "items": [{"id": 1}]}', Shape("items"), "has errors and records as well"),
        ('{"error": {"message": "late"}, "items": []}', Shape("items"), 'an error and no records: "late".'),
    ],
)
def test_an_answer_that_is_not_the_list_is_an_error_that_quotes_it(body: str, shape: Shape, sentence: str) -> None:
    with pytest.raises(ApiError) as info:
        read(body.encode(), shape)
    assert sentence in str(info.value)


EMPTY_FAILURES: list[dict[str, Any]] = [
    {"code": 429, "msg": "Limit"},
    {"status": "error", "message": "Limit"},
    {"status": "fail"},
    {"status": "0", "message": "NOTOK"},
    {"error_code": 17, "error_msg": "quota"},
    {"ok": "false"},
    {"success": 0},
    {"Success": False, "Message": "no"},
    {"isSuccess": False},
    {"status": False},
    {"hasErrors": True},
    {"Response": "False", "Error": "no"},
    {"stat": "fail"},
    {"err": "no"},
    {"meta": {"status": 500, "msg": "Internal"}},
    {"status": {"code": 503}},
    {"meta": {"error": "no"}},
]


@pytest.mark.parametrize("beside", EMPTY_FAILURES)
@pytest.mark.parametrize("place", [{"data": []}, {"data": None}])
def test_an_empty_list_beside_a_sign_of_failure_is_an_error(beside: dict[str, Any], place: dict[str, Any]) -> None:
    body = json.dumps({**place, **beside}).encode()
    with pytest.raises(ApiError, match="action: list"):
        read(body, Shape("data"))
    assert read(body, Shape("data"), trusted=True).records == []


@pytest.mark.parametrize("beside", [*EMPTY_FAILURES, {"message": "Rate limit exceeded"}])
def test_a_message_in_place_of_a_missing_list_is_an_error(beside: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        read(json.dumps(beside).encode(), Shape("data", missing_is_empty=True))


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"message": "OK", "status": "ok", "code": 200},
        {"status": "0", "message": "No transactions found"},
        {"meta": {"status": 200, "msg": "OK", "error": None}, "hasErrors": False, "Errors": []},
        {"error": None, "errors": [], "error_code": 0, "errorCode": "0", "success": True, "status": 1},
    ],
)
def test_an_empty_list_beside_signs_of_success_is_empty(beside: dict[str, Any]) -> None:
    assert read(json.dumps({"data": [], **beside}).encode(), Shape("data")).records == []


@pytest.mark.parametrize(
    "body",
    [
        [{"error": "expired"}],
        [{"message": "Session expired", "errorCode": "INVALID_SESSION_ID"}],
        [{"ok": False, "error": "fatal"}],
        [{"id": 1}, {"id": 2}, {"error": "the export was ended early"}],
    ],
)
def test_an_error_object_in_a_list_is_no_record(body: Any) -> None:
    with pytest.raises(ApiError, match="an error and no record"):
        read(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        [{"id": 1, "error": "x"}],
        [{"message": "started", "timestamp": 1}, {"message": "stopped", "timestamp": 2, "error": "x"}],
        [{"error": "a", "code": 1}, {"error": "b", "code": 2}],
        [{"error": None, "message": "x"}],
        [{"success": True, "timestamp": 3}],
    ],
)
def test_records_may_have_fields_of_errors(body: Any) -> None:
    assert len(read(json.dumps(body).encode()).records) == len(body)


def test_one_record_at_the_root_may_have_failed_itself() -> None:
    body = b'{"id": 7, "status": "failed", "error_code": 3, "isSuccess": false}'
    assert read(body, Shape(None, "object")).records == [body]


def test_an_object_in_place_of_a_list_of_one_is_a_record_with_records_object() -> None:
    shape = Shape("item", "object")
    assert read(b'{"item": [{"id": 1}, {"id": 2}]}', shape).records == [b'{"id": 1}', b'{"id": 2}']
    assert read(b'{"item": {"id": 1}}', shape).records == [b'{"id": 1}']
    assert read(b'{"item": []}', shape).records == []


@pytest.mark.parametrize(
    "body",
    [
        '{"items": [{"id": 1}], "error": null, "errors": [], "ok": true, "success": true}',
        '{"items": [], "error": null, "errors": {}, "message": "No items"}',
        '{"items": [{"id": 1}], "error": "one shard was slow"}',
    ],
)
def test_signs_of_success_beside_a_list_do_not_matter(body: str) -> None:
    assert len(read(body.encode(), Shape("items")).records) <= 1


def test_an_item_that_is_no_object_costs_only_itself() -> None:
    envelope = read(b'[{"id": 1}, "x", {}, null]')
    assert (len(envelope.records), [one.position for one in envelope.rejected]) == (1, [1, 2, 3])
    assert "records: plain" in envelope.rejected[0].reason
    assert "records: values" in envelope.rejected[2].reason


# --- what is a good answer --------------------------------------------------------------------------------------------


def test_an_answer_that_is_not_ready_is_asked_for_again(api: FakeApi) -> None:
    api.script("/items", (202, {}, {}), (202, {}, {"results": []}), {"results": ITEMS})
    fetch = pull(api)
    assert records_of(fetch) == ITEMS
    assert fetch.rules == ["page 1: 202 is retried"] * 2


def test_a_throttled_answer_is_asked_for_again_by_a_rule(api: FakeApi) -> None:
    throttled = {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}
    api.script("/items", throttled, {"results": ITEMS})
    rule = {"path": "errors[0].extensions.code", "equals": "THROTTLED", "action": "retry"}
    fetch = pull(api, responses=[rule])
    assert records_of(fetch) == ITEMS
    assert fetch.rules == ['page 1: responses[0] (path errors[0].extensions.code equals "THROTTLED": retry)']


def test_a_rule_that_retries_for_ever_fails_with_the_words_of_the_api(api: FakeApi) -> None:
    api.route("/items", {"code": 7, "message": "busy"})
    error = error_of(pull(api, retries=2, responses=[{"path": "code", "equals": 7, "action": "retry"}]))
    assert 'answered 200 OK: "busy", read as retry by responses[0] (path code equals 7: retry) after 3 tries.' in error
    assert len(api.requests) == 3


def test_the_wait_before_a_retry_is_in_the_answer(api: FakeApi) -> None:
    api.route("/items", {"wait": 3600})
    rule = {"path": "wait", "exists": True, "action": "retry", "wait_path": "wait"}
    assert "it asks to wait 3,600 s" in error_of(pull(api, responses=[rule]))
    api.route("/items", (200, {"X-Wait": "3600"}, {"busy": True}))
    rule = {"path": "busy", "exists": True, "action": "retry", "wait_header": "X-Wait"}
    assert "it asks to wait 3,600 s" in error_of(pull(api, responses=[rule]))


def test_refused_credentials_with_status_200_are_refused_credentials(api: FakeApi) -> None:
    api.route("/items", {"ok": False, "error": "token_revoked"})
    rule = {"path": "error", "matches": "^token_", "action": "refresh_credentials"}
    with pytest.raises(AuthenticationFailed, match="token_revoked"):
        records_of(pull(api, responses=[rule]))


def test_a_failure_quotes_the_sentence_that_the_rule_names(api: FakeApi) -> None:
    api.route("/items", {"status": "failed", "why": "no such report", "results": ITEMS})
    rule = {"path": "status", "equals": ["failed", "gone"], "action": "fail", "message_path": "why"}
    assert '"no such report"' in error_of(pull(api, responses=[rule]))


def test_the_first_rule_that_fits_wins(api: FakeApi) -> None:
    api.route("/items", (404, {}, {"code": 1}))
    rules = [
        {"status": 404, "path": "code", "equals": 2, "action": "fail"},
        {"status": [403, 404], "path": "code", "equals": "1", "action": "empty"},
        {"status": 404, "action": "fail"},
    ]
    fetch = pull(api, responses=rules)
    assert (records_of(fetch), fetch.stop) == ([], Stop("empty_page"))


def test_a_page_that_is_skipped_leaves_the_list_incomplete(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        page = int(request.params["page"])
        if page == 2:
            return 500, {"X-Partial": "shard 3"}, "down"
        return {"results": ITEMS[(page - 1) * 3 : page * 3]}

    api.route("/items", reply)
    fetch = pull(api, **BY_PAGE, responses=[{"header": "x-partial", "exists": True, "action": "skip"}])
    assert (records_of(fetch), fetch.stop) == ([*ITEMS[:3], ITEMS[6]], Stop("skipped", complete=False))


# --- how a list ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beyond", "fields", "reason", "requests"),
    [
        (lambda page: (404, {}, {"detail": "Invalid page."}), {"count": 7}, "end_rule", 4),
        (lambda page: (400, {}, {"code": "rest_post_invalid_page_number"}), {}, "end_rule", 4),
        (lambda page: {"results": ITEMS[6:]}, {}, "last_page_again", 5),
        (lambda page: {"results": []}, {}, "empty_page", 4),
    ],
    ids=["Django REST framework", "WordPress without totals", "the last page again", "an empty page"],
)
def test_page_numbers_need_no_further_field(
    api: FakeApi, beyond: Callable[[int], Any], fields: dict[str, Any], reason: str, requests: int
) -> None:
    api.route("/items", numbered(3, beyond, **fields))
    fetch = pull(api, **BY_PAGE)
    assert (records_of(fetch), fetch.stop) == (ITEMS, Stop(reason))
    assert len(api.requests) == requests


def test_a_404_in_another_language_ends_a_list_whose_last_page_has_no_next(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        page = int(request.params["page"])
        if page > 3:
            return 404, {}, {"detail": "Ungültige Seite."}
        return {"count": 7, "next": None if page == 3 else "...", "results": ITEMS[(page - 1) * 3 : page * 3]}

    api.route("/items", reply)
    assert records_of(pull(api, **BY_PAGE)) == ITEMS


def test_a_404_in_the_middle_of_a_list_is_an_error(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS[:3], "next": "x"}, (404, {}, {"detail": "Not found."}))
    assert "answered 404 Not Found" in error_of(pull(api, **BY_PAGE))


def test_the_total_pages_of_wordpress_end_a_list_without_a_further_request(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        page = int(request.params["page"])
        return 200, {"X-WP-Total": "7", "X-WP-TotalPages": "3"}, ITEMS[(page - 1) * 3 : page * 3]

    api.route("/items", reply)
    fetch = pull(api, **BY_PAGE)
    assert (records_of(fetch), fetch.stop, len(api.requests)) == (ITEMS, Stop("last_page"), 3)


@pytest.mark.parametrize(
    ("fields", "beside", "reason"),
    [
        ({"paging_total_response_path": "total"}, {"total": 7}, "total_reached"),
        ({"paging_total_response_path": "total"}, {"total": "7"}, "total_reached"),
        ({"paging_total_pages_response_path": "pages"}, {"pages": 3}, "last_page"),
    ],
)
def test_a_total_ends_a_list(api: FakeApi, fields: Any, beside: Any, reason: str) -> None:
    api.route("/items", numbered(3, lambda page: HANG_UP, **beside))
    fetch = pull(api, **BY_PAGE, **fields)
    assert (records_of(fetch), fetch.stop, len(api.requests)) == (ITEMS, Stop(reason), 3)


def test_a_total_of_the_page_ends_no_list(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        page = ITEMS[(int(request.params["page"]) - 1) * 3 :][:3]
        return {"results": page, "total": max(len(page) - 1, 0)}

    api.route("/items", reply)
    assert records_of(pull(api, **BY_PAGE, paging_total_response_path="total")) == ITEMS


def test_a_list_that_begins_again_after_its_end_is_an_error(api: FakeApi) -> None:
    api.route("/items", lambda request: {"results": ITEMS[((int(request.params["page"]) - 1) % 3) * 3 :][:3]})
    assert "the first page came again 3 times" in error_of(pull(api, **BY_PAGE))


def wrapping(records: list[Any]) -> Callable[[Received], Any]:
    """An API of pages of one record that begins again after the last one."""
    return lambda request: {"results": [records[(int(request.params["page"]) - 1) % len(records)]]}


@pytest.mark.parametrize(
    ("records", "fields", "requests"),
    [
        (ITEMS[:4], {}, 13),
        ([{"v": n} for n in range(4)], {"unique_key": "v"}, 13),
        ([{"v": n} for n in range(4)], {}, 104),
        ([{"v": n} for n in range(120)], {}, 220),
        ([{"v": n // 2} for n in range(80)], {}, 240),
        ([True, True, False, False], {"records": "plain"}, 104),
    ],
    ids=["an id", "a key", "neither", "many pages", "equal pages", "plain values"],
)
def test_pages_of_one_record_that_begin_again_are_an_error(
    api: FakeApi, records: list[Any], fields: dict[str, Any], requests: int
) -> None:
    api.route("/items", wrapping(records))
    assert "the first page came again" in error_of(pull(api, **BY_PAGE, **fields))
    assert len(api.requests) <= requests + 2  # those that were sent ahead of the reader


@pytest.mark.parametrize(
    "values", [[0] * 150 + [1] + [0] * 120, [0, 1] * 50 + [2], list("abc") * 30], ids=["a blip", "in turn", "rounds"]
)
def test_equal_pages_of_a_list_that_ends_are_all_records(api: FakeApi, values: list[Any]) -> None:
    pages = [*([{"v": value}] for value in values), []]
    api.route("/items", lambda request: pages[int(request.params["page"]) - 1])
    assert len(records_of(pull(api, **BY_PAGE))) == len(values)


def test_a_page_of_equal_records_may_come_again_and_again(api: FakeApi) -> None:
    pages = [page for n in range(6) for page in ([0, 0], [n, n + 1])]
    api.route("/items", lambda request: [*pages, []][int(request.params["page"]) - 1])
    assert len(records_of(pull(api, **BY_PAGE, records="plain"))) == 24


def test_the_last_page_of_one_record_with_an_id_comes_again_and_counts_once(api: FakeApi) -> None:
    api.route("/items", numbered(1, lambda page: {"results": ITEMS[-1:]}))
    fetch = pull(api, **BY_PAGE)
    assert (records_of(fetch), fetch.stop) == (ITEMS, Stop("last_page_again"))


def test_totals_may_stand_in_headers(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        at = int(request.params["offset"])
        return 200, {"Content-Range": f"items {at}-{at + 2}/7", "X-Pages": "3"}, ITEMS[at : at + 3]

    api.route("/items", reply)
    by_offset = {"paging_offset_request_path": "offset"}
    for fields in ({"paging_header_total": "Content-Range"}, {"paging_header_total_pages": "X-Pages"}):
        api.requests.clear()
        assert records_of(pull(api, **by_offset, **fields)) == ITEMS
        assert len(api.requests) == 3


def test_a_list_with_fewer_records_than_its_total_is_not_complete(api: FakeApi) -> None:
    api.route("/items", numbered(3, lambda page: {"results": [], "total": 9}, total=9))
    fetch = pull(api, **BY_PAGE, paging_total_response_path="total")
    assert records_of(fetch) == ITEMS
    assert fetch.stop is not None and not fetch.stop.complete


def test_an_empty_page_that_says_more_does_not_end_pages_and_offsets(api: FakeApi) -> None:
    pages = [ITEMS[:3], [], ITEMS[3:6], ITEMS[6:]]
    api.route(
        "/items",
        lambda request: {"results": pages[int(request.params["page"]) - 1], "more": request.params["page"] != "4"},
    )
    assert records_of(pull(api, **BY_PAGE, paging_has_more_response_path="more")) == ITEMS
    sparse = {0: ITEMS[:3], 3: [], 6: ITEMS[3:6], 9: ITEMS[6:]}
    api.route(
        "/items", lambda request: {"results": sparse[int(request.params["skip"])], "end": request.params["skip"] == "9"}
    )
    fetch = pull(api, paging_offset_request_path="skip", paging_end_response_path="end")
    assert records_of(fetch) == ITEMS


def test_an_end_flag_ends_an_export_whose_next_url_leads_to_itself(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        start = int(request.params.get("start", 0))
        page = [item for item in ITEMS if item["id"] >= start][:3]
        return {"results": page, "next": f"/items?start={page[-1]['id']}", "end_of_stream": page[-1] == ITEMS[-1]}

    api.route("/items", reply)
    fetch = pull(api, paging_url_path="next", paging_end_response_path="end_of_stream")
    assert {record["id"] for record in records_of(fetch)} == {item["id"] for item in ITEMS}
    assert fetch.stop == Stop("end")
    assert "paging_end_response_path" in error_of(pull(api, paging_url_path="next"))


@pytest.mark.parametrize("where", ["body", "record"])
def test_a_cursor_that_includes_its_own_record_gives_each_record_once(api: FakeApi, where: str) -> None:
    def reply(request: Received) -> Any:
        start = int(request.params.get("after", 0))
        page = [item for item in ITEMS if item["id"] >= start][:3]
        return {"results": page, "next": page[-1]["id"]}

    api.route("/items", reply)
    fields = {**BY_CURSOR}
    if where == "record":
        del fields["paging_cursor_metadata_response_path"]
        fields["paging_cursor_object_response_path"] = "id"
    fetch = pull(api, **fields, paging_inclusive=True)
    assert (records_of(fetch), fetch.stop) == (ITEMS, Stop("cursor_stays"))
    assert "set paging_inclusive: true" in error_of(pull(api, **fields))


def test_a_full_page_whose_cursor_does_not_move_is_no_end(api: FakeApi) -> None:
    """All of it may have one cursor, and more behind it."""
    api.route("/items", lambda request: {"results": ITEMS[:3], "next": 5})
    assert "paging repeats" in error_of(pull(api, **BY_CURSOR, paging_inclusive=True))


def test_one_cursor_for_all_pages_is_a_scroll(api: FakeApi) -> None:
    pages = [ITEMS[:3], ITEMS[3:6], ITEMS[6:], []]
    api.script("/items", *({"results": page, "next": "scroll-1"} for page in pages))
    fetch = pull(api, **BY_CURSOR, paging_cursor_repeats=True)
    assert (records_of(fetch), fetch.stop) == (ITEMS, Stop("empty_page"))


def test_a_page_of_a_scroll_that_is_lost_is_not_asked_for_again(api: FakeApi) -> None:
    pages = [ITEMS[:3], ITEMS[3:6], []]
    replies: Iterator[Any] = iter([{"results": page, "next": "s"} for page in pages])

    def reply(request: Received) -> Any:
        answer = next(replies)
        return HANG_UP if answer["results"] == ITEMS[3:6] else answer

    api.route("/items", reply)
    assert "the answer was lost on its way" in error_of(pull(api, **BY_CURSOR, paging_cursor_repeats=True))


def test_a_list_that_does_not_end_names_the_fields_that_would_end_it(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS[:3]})
    error = error_of(pull(api, **BY_PAGE))
    assert "pages 1 to 3 hold the same records" in error and "paging_total_response_path" in error
    with pytest.raises(PagingRepeats):
        records_of(pull(api, paging_offset_request_path="offset"))


def test_a_short_first_page_that_comes_again_is_the_whole_list(api: FakeApi) -> None:
    api.route("/items", {"results": ITEMS[:3]})
    fetch = pull(api, **BY_PAGE, paging_limit=5, paging_limit_request_path="size")
    assert (records_of(fetch), fetch.stop) == (ITEMS[:3], Stop("last_page_again"))


@pytest.mark.parametrize("fields", [{"unique_key": "n"}, {}], ids=["upsert", "overwrite"])
@pytest.mark.parametrize("to", ["the start of the last page", "the last page that is full", "the first page"])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_an_offset_beyond_the_end_may_give_the_last_records_again(
    api: FakeApi, size: int, to: str, fields: dict[str, Any]
) -> None:
    start = (len(ITEMS) - 1) // size * size
    last = {"the first page": 0, "the start of the last page": start}.get(to, len(ITEMS) - size)

    def reply(request: Received) -> Any:
        offset = int(request.params["offset"])
        return ITEMS[offset if offset < len(ITEMS) else last :][:size]

    api.route("/items", reply)
    limit = {"paging_limit": 8, "paging_limit_request_path": "size"} if size == 7 else {}
    fetch = pull(api, paging_offset_request_path="offset", **limit, **fields)
    assert (records_of(fetch), fetch.stop) == (ITEMS, Stop("last_page_again"))


def test_pages_of_equal_records_are_all_read(api: FakeApi) -> None:
    pages = [[0, 0, 0], [0, 0], [0, 0, 0], [0], []]
    starts = {0: 0, 3: 1, 5: 2, 8: 3, 9: 4}
    api.route("/items", lambda request: pages[starts[int(request.params["offset"])]])
    assert len(records_of(pull(api, records="plain", paging_offset_request_path="offset"))) == 9


def test_equal_pages_in_the_middle_of_a_list_are_all_records(api: FakeApi) -> None:
    pages = [[{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}], [{"n": 3}], []]
    api.route("/items", lambda request: {"results": pages[int(request.params["page"]) - 1]})
    assert records_of(pull(api, **BY_PAGE)) == [{"n": 1}, {"n": 2}, {"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("last", ["null", '{"id": NaN}'])
def test_a_page_whose_last_record_cannot_be_used_does_not_end_the_list(api: FakeApi, last: str) -> None:
    by_record = {"paging_cursor_object_response_path": "id", "paging_cursor_request_path": "after"}
    api.script("/items", Answer(body=f'[{{"id": 1}}, {last}]'.encode()), ITEMS[1:3], [])
    assert records_of(pull(api, **by_record)) == ITEMS[:3]
    assert api.requests[1].params["after"] == "1"
    api.script("/items", ITEMS[:2], Answer(body=b'[{"id": NaN}]'))
    assert "the last record of the page cannot be used" in error_of(pull(api, **by_record))


# --- the next request -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "<{url}?after=2>; rel='next'",
        '< {url}?after=2 >;rel = "next" ',
        '<{url}?after=2>; rel=next; title="a, b"',
        '<{url}?after=2>; rel="next',
        "<{url}?after=2>; rel=\u201cnext\u201d".encode().decode("latin-1"),
        '<{url}?after=1>; rel="prev", <{url}?after=2>; rel="last next"',
    ],
)
def test_a_link_is_read_as_browsers_do_it(api: FakeApi, link: str) -> None:
    def reply(request: Received) -> Any:
        if request.params.get("after"):
            return ITEMS[3:]
        return 200, {"Link": link.replace("{url}", api.url + "/items")}, ITEMS[:3]

    api.route("/items", reply)
    assert records_of(pull(api, paging_header_link_rel="next")) == ITEMS


def test_a_next_link_without_a_url_is_an_error_and_no_end(api: FakeApi) -> None:
    api.route("/items", (200, {"Link": 'https://a.example/items?page=2; rel="next"'}, ITEMS))
    assert 'the Link header names "next", but its URL cannot be read' in error_of(
        pull(api, paging_header_link_rel="next")
    )


@pytest.mark.parametrize("link", ["</items rel=next", "</items>, rel=next", 'rel="next"; </items>'])
def test_a_next_link_that_cannot_be_parsed_is_an_error(api: FakeApi, link: str) -> None:
    api.route("/items", (200, {"Link": link}, ITEMS))
    fetch = pull(api, paging_header_link_rel="next")
    assert "its URL cannot be read" in error_of(fetch)


def test_a_title_that_mentions_the_next_link_is_none(api: FakeApi) -> None:
    api.route("/items", (200, {"Link": '</items>; rel="last"; title="rel=next"'}, ITEMS))
    assert records_of(pull(api, paging_header_link_rel="next")) == ITEMS


@pytest.mark.parametrize("parameter", ['results="false"', "has_more=0"])
def test_a_link_that_leads_to_nothing_ends_the_list(api: FakeApi, parameter: str) -> None:
    api.route("/items", (200, {"Link": f'</items?page=2>; rel="next"; {parameter}'}, ITEMS))
    fetch = pull(api, paging_header_link_rel="next")
    assert (records_of(fetch), fetch.stop, len(api.requests)) == (ITEMS, Stop("no_next_url"), 1)


def test_a_link_is_chosen_by_its_relation(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        at = int(request.params.get("at", 0))
        links = [{"relation": "self", "url": "x"}] + ([{"relation": "previous", "url": "y"}] if at else [])
        links += [{"relation": "next", "url": f"/items?at={at + 2}"}] if at + 2 < 7 else []
        return {"link": links, "entry": [{"resource": item} for item in ITEMS[at : at + 2]]}

    api.route("/items", reply)
    fetch = pull(api, response_path="$.entry[*].resource", paging_url_path="$.link[?@.relation == 'next'].url")
    assert records_of(fetch) == ITEMS


@pytest.mark.parametrize("path", ["link[2].url", "link.next.url", "link.next", "$.link[?@.rel == 'next'].url"])
def test_a_path_that_misses_the_next_link_is_an_error_with_the_query_that_finds_it(api: FakeApi, path: str) -> None:
    links = [{"relation": "self", "url": "/items"}, {"relation": "next", "url": "/items?page=2"}]
    api.route("/items", {"results": ITEMS[:3], "link": links})
    error = error_of(pull(api, paging_url_path=path))
    assert f'nothing at the paging path "{path}"' in error
    assert "set paging_url_path: \"$.link[?@.relation == 'next'].url\"." in error


def test_pages_after_the_first_may_come_from_another_endpoint(api: FakeApi) -> None:
    def start(request: Received) -> Any:
        assert request.json == {"path": "", "recursive": True}
        return {"entries": ITEMS[:3], "cursor": "3", "has_more": True}

    def go_on(request: Received) -> Any:
        assert set(request.json) == {"cursor"}
        at = int(request.json["cursor"])
        return {"entries": ITEMS[at : at + 3], "cursor": str(at + 3), "has_more": at + 3 < 7}

    api.route("/items", start)
    api.route("/items/continue", go_on)
    fetch = pull(
        api,
        method="POST",
        body={"path": "", "recursive": True},
        next_request={"url": f"{api.url}/items/continue", "body": {}},
        response_path="entries",
        paging_cursor_metadata_response_path="cursor",
        paging_cursor_request_path="cursor",
        paging_has_more_response_path="has_more",
    )
    assert records_of(fetch) == ITEMS


def test_query_parameters_may_be_for_the_first_page_only(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS[:3], "next": "c2"}, {"results": ITEMS[3:]})
    fields = {"paging_limit": 3, "paging_limit_request_path": "limit", "next_request": {"query_params": {"v": "2"}}}
    assert records_of(pull(api, query_params={"status": "any", "v": "1"}, **BY_CURSOR, **fields)) == ITEMS
    assert [request.params for request in api.requests] == [
        {"status": "any", "v": "1", "limit": "3"},
        {"v": "2", "limit": "3", "after": "c2"},
    ]


def test_a_cursor_may_go_to_a_header(api: FakeApi) -> None:
    def reply(request: Received) -> Any:
        at = int((request.headers["Range"] or "id 0..").split()[1].strip("."))
        more = {"Next-Range": f"id {at + 3}.."} if at + 3 < 7 else {}
        return 206 if more else 200, more, ITEMS[at : at + 3]

    api.route("/items", reply)
    fetch = pull(api, paging_header_cursor="Next-Range", paging_cursor_request_header="Range")
    assert records_of(fetch) == ITEMS


@pytest.mark.parametrize("method", ["SEARCH", "QUERY"])
def test_safe_methods_with_a_body_are_sent(api: FakeApi, method: str) -> None:
    api.script("/items", {"results": ITEMS[:3], "next": "c2"}, {"results": ITEMS[3:]})
    assert records_of(pull(api, method=method, body={"q": "x"}, **BY_CURSOR)) == ITEMS
    assert [(request.method, request.json) for request in api.requests] == [
        (method, {"q": "x"}),
        (method, {"q": "x", "after": "c2"}),
    ]


# --- doubt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "fields", "is_doubtful"),
    [
        ({"results": ITEMS, "paging": {"following": "c2"}}, {}, True),
        ({"results": ITEMS, "paging": {"next": None}}, {}, False),
        ({"results": ITEMS}, {}, False),
        ({"results": ITEMS}, {"paging_limit": 7, "paging_limit_request_path": "n"}, True),
        ({"results": ITEMS}, {"paging_limit": 9, "paging_limit_request_path": "n"}, False),
        ({"results": ITEMS, "paging": {"pages": 1}}, {"paging_total_pages_response_path": "paging.pages"}, False),
        ({"results": ITEMS, "paging": {"count": 7}}, {"paging_total_response_path": "paging.count"}, False),
    ],
)
def test_an_end_is_doubtful_where_nothing_was_ever_at_the_paging_path(
    api: FakeApi, body: Any, fields: Any, is_doubtful: bool
) -> None:
    api.route("/items", body)
    fetch = pull(api, paging_cursor_metadata_response_path="paging.next", paging_cursor_request_path="after", **fields)
    assert records_of(fetch) == ITEMS
    doubt = fetch.paging_doubt
    assert (doubt is not None) == is_doubtful
    if doubt is not None:
        assert 'no answer has anything at the paging path "paging.next"; the first answer is an object with' in doubt


@pytest.mark.parametrize(
    ("query", "body", "is_doubtful"),
    [
        ("$.paging.next", {"paging": {"following": "c2"}}, True),
        ("$.next | $.paging.next", {"paging": {"following": "c2"}}, True),
        ("$.paging.links[?@.rel == 'next'].href", {"paging": {"urls": []}}, True),
        ("$.paging.next", {}, False),
        ("$.paging.next", {"paging": {"next": None}}, False),
        ("$.links[?@.rel == 'next'].href", {"links": [{"rel": "self", "href": "/items"}]}, False),
    ],
)
def test_an_end_is_doubtful_where_a_query_never_found_anything(
    api: FakeApi, query: str, body: dict[str, Any], is_doubtful: bool
) -> None:
    api.route("/items", {"results": ITEMS, **body})
    fetch = pull(api, paging_url_path=query)
    assert records_of(fetch) == ITEMS
    assert (fetch.paging_doubt is not None) == is_doubtful


def test_the_key_of_a_rule_is_a_sync_field() -> None:
    rule = ResponseRule(status=[404], action="end")
    sync = Sync(url="https://api.example.com/items", responses=[rule], unique_key=["a", "b"])
    assert from_body({**sync.document(), "name": "x"}).responses == [rule]
    assert (sync.mode, sync.key_name) == ("upsert", "a, b")


def test_secrets_of_a_next_request_are_not_shown(api: FakeApi) -> None:
    api.script("/items", {"results": ITEMS[:3], "next": "c2"}, (400, {}, {"you": "sent sekret-2"}))
    following = {"url": f"{api.url}/items?api_key=sekret-1", "headers": {"Authorization": "sekret-2"}}
    fetch = pull(api, **BY_CURSOR, next_request=following)
    shown = public_config(fetch.sync.document())["next_request"]
    assert shown == {"url": f"{api.url}/items?api_key=***", "headers": {"Authorization": "***"}}
    error = error_of(fetch)
    assert "answered 400 Bad Request" in error and "sekret" not in error
    assert "sekret-2" in str(api.requests[1].headers) and api.requests[1].params["api_key"] == "sekret-1"
