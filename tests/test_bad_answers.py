"""Bad answers in place of a page: a successful job has the rows of the source, and no row is lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Record, assert_exact, execute, last_job, stored
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, Reply, half, html

Page = dict[str, Any]
SOON = {"Retry-After": "0"}

# In place of a page; none of them is a list, however much it looks like one.
BAD: dict[str, Callable[[Page], Reply]] = {
    "a text": lambda page: {**page, "results": "Max rate limit reached"},
    "a number": lambda page: {**page, "results": 0},
    "false": lambda page: {**page, "results": False},
    "an empty object": lambda page: {**page, "results": {}},
    "an error object": lambda page: {**page, "results": {"error": "expired"}},
    "the list's key is missing": lambda page: {"next": page["next"]},
    "an empty body": lambda page: {},
    "an empty list as the body": lambda page: [],
    "null as the body": lambda page: None,
    "GraphQL errors beside the list": lambda page: {**page, "errors": [{"message": "timed out"}]},
    "GraphQL errors beside half the list": lambda page: {
        **page,
        "results": page["results"][:1],
        "errors": [{"message": "timed out"}],
    },
    "ok: false": lambda page: {"ok": False, "error": "fatal", "results": [], "next": None},
    "success: false": lambda page: {"success": False, "results": [], "next": None},
    "an error beside an empty list": lambda page: {"error": {"code": 9}, "results": [], "next": None},
    "an error beside null": lambda page: {"error": "busy", "results": None, "next": None},
    "an error code beside an empty list": lambda page: {"error_code": 17, "results": [], "next": None},
    "a failed status beside an empty list": lambda page: {"status": "error", "results": [], "next": None},
    "success as text beside an empty list": lambda page: {"isSuccess": "false", "results": [], "next": None},
    "a list of nothing but an error": lambda page: {"results": [{"error": "expired"}], "next": None},
    "a list that ends with an error": lambda page: {
        "results": [*page["results"][:1], {"errorCode": "TIMEOUT", "message": "cut off"}],
        "next": None,
    },
    "a list of texts": lambda page: {"results": ["Max rate", "limit"], "next": None},
    "a list of nulls": lambda page: {"results": [None, None], "next": None},
    "a message beside null": lambda page: {"message": "Rate limited", "results": None, "next": None},
    "a message in the list's place": lambda page: {"message": "Too many requests"},
    "half of a search": lambda page: {**page, "results": page["results"][:1], "timed_out": True},
    "a search whose shards failed": lambda page: {**page, "results": page["results"][:1], "_shards": {"failed": 1}},
    "a failed head beside an empty list": lambda page: {
        "head": {"code": 5, "message": "denied"},
        "results": [],
        "next": None,
    },
    "an object of objects": lambda page: {**page, "results": {"a": {"id": 1, "n": 9}}},
    "a prefix before half the JSON": lambda page: Answer(body=b")]}'\n" + json.dumps(page).encode()[:-4]),
    "a charset that it is not in": lambda page: Answer(
        headers={"Content-Type": "application/json; charset=utf-16"}, body=json.dumps(page).encode()
    ),
    "half of a gzip body": lambda page: Answer(
        headers={"Content-Encoding": "gzip"}, body=gzip.compress(json.dumps(page).encode())[:-9]
    ),
    "lines in place of the object": lambda page: Answer(
        headers={"Content-Type": "application/x-ndjson"}, body=b'{"id": 1, "n": 9}\n'
    ),
    "CSV in place of the object": lambda page: Answer(headers={"Content-Type": "text/csv"}, body=b"id,n\n1,9\n"),
    "202 and an empty list": lambda page: (202, SOON, {"results": [], "next": None}),
    "203 and an empty list": lambda page: (203, {}, {"results": [], "next": None}),
    "204": lambda page: (204, {}, ""),
    "206 and half the list": lambda page: (206, {}, {"results": page["results"][:1], "next": None}),
    "400": lambda page: (400, {}, {"error": "bad"}),
    "404": lambda page: (404, {}, {"detail": "Not found."}),
    "500": lambda page: (500, SOON, "oops"),
    "503 as HTML": lambda page: html("<h1>Sorry</h1>", status=503),
    "a sign-in page": lambda page: html(),
    "half a body": lambda page: half(json.dumps(page).encode()),
    "truncated JSON": lambda page: Answer(body=json.dumps(page).encode()[:-4]),
    "no answer": lambda page: HANG_UP,
}
PAGING: dict[str, dict[str, Any]] = {
    "cursor": {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "page"},
    "page number": {"paging_page_request_path": "page"},
}
MODES: dict[str, dict[str, Any]] = {
    "overwrite": {},
    "upsert": {"unique_key": "id"},
    "track_deletes": {"unique_key": "id", "track_deletes": {"min_rows": 0, "max_fraction": 1}},
}
_names = count(1)


class Source:
    """A list in pages of three; `bad` says what a page answers instead, once or for good."""

    def __init__(self, api: FakeApi, path: str) -> None:
        self.records: list[Record] = []
        self.bad: dict[int, tuple[str, bool]] = {}
        api.route(path, self.answer)

    def answer(self, request: Received) -> Reply:
        number = int(request.params.get("page", 1))
        end = number * 3
        page = {"results": self.records[end - 3 : end], "next": number + 1 if end < len(self.records) else None}
        if number not in self.bad:
            return page
        name, passes = self.bad[number]
        if passes:
            del self.bad[number]
        return BAD[name](page)


def registered(db: Database, api: FakeApi, path: str, **fields: Any) -> SyncRow:
    name = path.strip("/")
    sync = Sync(name=name, url=api.url + path, response_path="results", retries=1, mapped_table=name, **fields)
    return syncs.register(db, [sync])[name]


def changed(records: Sequence[Record], data: st.DataObject) -> list[Record]:
    """The list some time later: a few records are gone, some have changed, some are new."""
    gone = data.draw(st.sets(st.integers(0, len(records) - 1), max_size=len(records) // 5), label="gone")
    new = data.draw(st.integers(0, 3), label="new")
    kept = [{**record, "n": record["n"] + at % 2} for at, record in enumerate(records) if at not in gone]
    return kept + [{"id": 100 + at, "n": 0} for at in range(new)]


@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bad_answers_at_random_places_cost_no_row_and_are_no_success(
    db: Database, settings: Settings, api: FakeApi, mode: str, paging: str, data: st.DataObject
) -> None:
    path = f"/list{next(_names)}"
    source = Source(api, path)
    source.records = [{"id": at, "n": 0} for at in range(data.draw(st.integers(5, 12), label="records"))]
    row = registered(db, api, path, **MODES[mode], **PAGING[paging])
    assert execute(db, settings, row).status == "succeeded"
    before = list(source.records)

    source.records = changed(source.records, data)
    pages = -(-len(source.records) // 3)
    answers = st.tuples(st.sampled_from(sorted(BAD)), st.booleans())
    source.bad = data.draw(st.dictionaries(st.integers(1, pages), answers, min_size=1, max_size=3), label="bad")
    outcome = execute(db, settings, row)
    live = stored(db, row).live
    if outcome.status == "succeeded":
        assert_as_the_source(db, row, before, source.records)
    else:
        assert last_job(db, row).error_message
        lost = {record["id"] for record in before} - {record["id"] for record in live}
        assert lost == set()
        assert all(record in before or record in source.records for record in live)

    source.bad = {}
    assert execute(db, settings, row).status == "succeeded"
    assert_as_the_source(db, row, before, source.records)


def assert_as_the_source(db: Database, row: SyncRow, before: Sequence[Record], records: Sequence[Record]) -> None:
    """The rows are the source's; where deletes are not tracked, or not yet believed, with those that are gone."""
    ids = {record["id"] for record in records}
    gone = [record for record in before if record["id"] not in ids]
    live = stored(db, row).live
    still_there = [record for record in gone if record in live]
    assert_exact(db, row, [*records, *still_there])
    if row.sync.mode == "overwrite" or (row.sync.track_deletes and row.sync.paging_page_request_path is None):
        assert still_there == []


def test_each_bad_answer_in_the_middle_fails_an_overwrite_and_keeps_its_rows(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, "/each")
    source.records = [{"id": at, "n": 0} for at in range(8)]
    row = registered(db, api, "/each", **PAGING["cursor"])
    assert execute(db, settings, row).status == "succeeded"
    for name in BAD:
        source.bad = {2: (name, False)}
        outcome = execute(db, settings, row)
        assert outcome.status == "failed", name
        assert (outcome.error or "").startswith("each: GET "), (name, outcome.error)
        assert_exact(db, row, source.records)


def test_rows_that_only_two_fields_tell_apart_are_kept_apart(db: Database, settings: Settings, api: FakeApi) -> None:
    rows = [{"ad": ad, "day": f"2024-05-0{day}", "clicks": ad * day} for ad in (1, 2) for day in (1, 2, 3)]
    api.route("/insights", {"results": rows})
    row = registered(db, api, "/insights", unique_key=["ad", "day"])
    assert execute(db, settings, row).counts.added == 6
    rows[0]["clicks"] = 99
    outcome = execute(db, settings, row)
    assert (outcome.counts.added, outcome.counts.updated, outcome.counts.unchanged) == (0, 1, 5)
    assert_exact(db, row, rows)


def test_a_key_that_tells_no_records_apart_is_a_warning(db: Database, settings: Settings, api: FakeApi) -> None:
    api.route("/insights", {"results": [{"ad": ad, "day": day} for ad in (1, 2) for day in (1, 2, 3)]})
    row = registered(db, api, "/insights", unique_key="ad")
    execute(db, settings, row)
    assert any("4 records came more than once" in warning for warning in last_job(db, row).warnings)


def test_plain_values_are_records_that_tell_themselves_apart(db: Database, settings: Settings, api: FakeApi) -> None:
    api.route("/colours", {"results": ["red", "green", None]})
    row = registered(db, api, "/colours", records="plain", unique_key="value")
    assert execute(db, settings, row).counts.added == 2
    assert_exact(db, row, [{"value": "red"}, {"value": "green"}])


def test_the_values_of_an_object_are_records_with_their_key(db: Database, settings: Settings, api: FakeApi) -> None:
    api.route("/users", {"results": {"-Nx1": {"name": "Ann"}, "-Nx2": {"name": "Bob"}}})
    row = registered(db, api, "/users", records="values", record_key_field="id", unique_key="id")
    assert execute(db, settings, row).counts.added == 2
    assert_exact(db, row, [{"name": "Ann", "id": "-Nx1"}, {"name": "Bob", "id": "-Nx2"}])
