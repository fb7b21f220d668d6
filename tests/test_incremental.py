"""The requests of `incremental`, `resumable` and `deleted_path`, and the moves of the cursor."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.config import from_body
from nango_dagster.control import checkpoints
from nango_dagster.control.selection import Selection
from nango_dagster.errors import ConfigError
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import execute
from tests.fake_api import Answer, FakeApi, Received, Reply

pytestmark = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)

CURSOR = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}
RECORD: dict[str, Any] = {"field": "updated_at", "request_path": "since"}
DAY = "2026-01-0{}T00:00:00Z"


class Feed:
    """An API whose pages a test sets, and a sync of it."""

    def __init__(self, db: Database, settings: Settings, api: FakeApi) -> None:
        self.db, self.settings, self.api = db, settings, api
        self.pages: list[Any] = []
        api.route("/items", self.answer)

    def answer(self, request: Received) -> Reply:
        number = int(request.params.get("after") or request.params.get("page") or 1)
        if number > len(self.pages):
            return {"results": []}
        page = self.pages[number - 1]
        if isinstance(page, Answer):
            return page
        following = {"next": number + 1} if number < len(self.pages) else {"next": None}
        return {"results": page, **following} if isinstance(page, list) else {**following, **page}

    def sync(self, block: dict[str, Any] | None = None, **fields: Any) -> SyncRow:
        body: dict[str, Any] = {"name": "items", "url": f"{self.api.url}/items", "unique_key": "id", "retries": 0}
        body |= {"response_path": "results", **CURSOR}
        if block is not None:
            body |= {"sync_type": "incremental", "incremental": block}
        return syncs.register(self.db, [from_body({**body, **fields})])["items"]

    def run(self, row: SyncRow, *pages: Any, **wishes: bool) -> Outcome:
        self.pages = list(pages)
        self.api.requests.clear()
        return execute(self.db, self.settings, row, wishes=Wishes(**wishes))

    def sent(self, name: str = "since") -> list[str | None]:
        """The values of a parameter, in the first request of each list."""
        return [request.params.get(name) for request in self.api.requests if "after" not in request.params]

    def checkpoint(self) -> Any:
        with self.db.connect() as connection:
            text = connection.execute(sa.select(schema.schedules.c.checkpoint)).scalar()
        return json.loads(text) if text else None

    def live(self) -> list[int]:
        of = schema.raw.c
        with self.db.connect() as connection:
            keys = connection.execute(sa.select(of.external_id).where(of.deleted_at.is_(None))).scalars()
            return sorted(map(int, keys))


@pytest.fixture
def feed(db: Database, settings: Settings, api: FakeApi) -> Feed:
    return Feed(db, settings, api)


def item(id: int, day: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": id, **({} if day is None else {"updated_at": DAY.format(day)}), **fields}


# --- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "fields", "where", "sent"),
    [
        ({}, {}, lambda r: r.params["since"], "2026-01-01T23:59:00Z"),
        ({"lag": 0}, {}, lambda r: r.params["since"], "2026-01-02T00:00:00Z"),
        ({"format": "unix"}, {}, lambda r: r.params["since"], "1767311940"),
        ({"format": "unix_ms", "lag": "1 hour"}, {}, lambda r: r.params["since"], "1767308400000"),
        ({"format": "%Y/%m/%d %H:%M"}, {}, lambda r: r.params["since"], "2026/01/01 23:59"),
        (
            {"request_path": None, "header": "If-Modified-Since", "format": "http_date"}, {},
            lambda r: r.headers["If-Modified-Since"], "Thu, 01 Jan 2026 23:59:00 GMT",
        ),
        (
            {"request_path": None, "start": "1970-01-01", "format": "iso_seconds"},
            {"query_params": {"q": 'updated > "${since}"'}},
            lambda r: r.params["q"], 'updated > "2026-01-01T23:59:00Z"',
        ),
        (
            {"request_path": "filter.updated.gte", "format": "unix"}, {"method": "POST", "body": {"limit": 5}},
            lambda r: r.json["filter"], {"updated": {"gte": 1767311940}},
        ),
    ],
)  # fmt: skip
def test_the_cursor_goes_where_the_config_says_in_the_form_that_it_says(
    feed: Feed, block: dict[str, Any], fields: dict[str, Any], where: Callable[[Received], Any], sent: Any
) -> None:
    row = feed.sync({name: value for name, value in {**RECORD, **block}.items() if value is not None}, **fields)
    assert feed.run(row, [item(1, 1), item(2, 2)]).status == "succeeded"
    assert feed.run(row, [item(2, 2)]).status == "succeeded"
    assert where(feed.api.requests[0]) == sent


def test_a_delta_url_replaces_the_request_and_a_refused_one_reads_everything(feed: Feed) -> None:
    row = feed.sync({"from": "response", "token_url_path": '["@odata.deltaLink"]'}, deleted_path="@removed")
    url = f"{feed.api.url}/items?delta="
    feed.run(row, {"results": [item(1), item(2)], "@odata.deltaLink": f"{url}a"})
    feed.run(row, {"results": [{"id": 1, "@removed": {"reason": "gone"}}], "@odata.deltaLink": f"{url}b"})
    assert (feed.sent("delta"), feed.live()) == (["a"], [2])
    feed.api.route("/items", lambda r: Answer(410) if "delta" in r.params else feed.answer(r))
    outcome = feed.run(row, {"results": [item(3)], "@odata.deltaLink": f"{url}c"})
    assert feed.sent("delta") == ["b", None] and outcome.status == "succeeded"
    assert "the API refused the cursor with 410; everything is read again." in outcome.warnings
    assert feed.checkpoint()["cursor"] == f"{url}c"


def test_a_record_that_went_while_a_token_was_too_old_is_deleted_with_track_deletes(feed: Feed) -> None:
    block = {"from": "response", "token_path": "token", "request_path": "sync"}
    row = feed.sync(block, deleted_path="gone", track_deletes={"max_fraction": 1})
    feed.run(row, {"results": [item(1), item(2), item(3)], "token": "a"})
    assert feed.run(row, {"results": [item(4)], "token": "b"}).counts.deleted == 0, "a list of changes lacks the rest"
    feed.api.route("/items", lambda r: Answer(410) if "sync" in r.params else feed.answer(r))
    assert feed.run(row, {"results": [item(1), item(4)], "token": "c"}).counts.deleted == 2
    assert feed.live() == [1, 4]


def test_windows_end_at_the_start_of_the_execution_and_move_the_cursor_one_by_one(feed: Feed) -> None:
    now = datetime.now(timezone.utc)
    start = (now - timedelta(days=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    row = feed.sync({**RECORD, "start": start, "until": {"request_path": "to"}, "step": "2 days"})
    asked: list[str] = []

    def answer(request: Received) -> Reply:
        asked.append(request.params["to"])
        return Answer(500) if len(asked) == 3 else {"results": [], "next": None}

    feed.api.route("/items", answer)
    assert feed.run(row).status == "failed"
    assert asked == sorted(asked) and feed.checkpoint()["cursor"][:19] == asked[1][:19]
    feed.api.requests.clear()
    assert execute(feed.db, feed.settings, row).status == "succeeded"
    assert len(feed.sent()) == 1, "the windows before are not read again"


# --- when the cursor moves --------------------------------------------------------------------------------------------


def test_a_record_of_the_future_does_not_hide_the_changes_of_today(feed: Feed) -> None:
    row = feed.sync(RECORD)
    outcome = feed.run(row, [{"id": 1, "updated_at": "2099-01-01T00:00:00Z"}])
    assert any("after the start of the execution" in warning for warning in outcome.warnings)
    feed.run(row, [])
    (since,) = feed.sent()
    assert since is not None and datetime.fromisoformat(since.replace("Z", "+00:00")) < datetime.now(timezone.utc)


@pytest.mark.parametrize("order", ["none", "asc"])
def test_a_page_that_fails_moves_the_cursor_over_the_pages_before_only_in_ascending_order(
    feed: Feed, order: str
) -> None:
    row = feed.sync({**RECORD, "order": order, "lag": 0})
    pages = [[item(1, 1), item(2, 2)], [item(3, 3)], [item(4, 4)], Answer(500)]
    assert feed.run(row, *pages).status == "failed"
    assert feed.live()[:2] == [1, 2]
    feed.run(row, [])
    assert feed.sent() == ([None] if order == "none" else [DAY.format(3)])


def test_records_in_another_order_than_declared_do_not_move_the_cursor_page_by_page(feed: Feed) -> None:
    row = feed.sync({**RECORD, "order": "asc", "lag": 0})
    outcome = feed.run(row, [item(1, 5)], [item(2, 6)], [item(3, 1)], Answer(500))
    assert outcome.status == "failed" and feed.checkpoint()["is_unordered"] and "cursor" not in feed.checkpoint()
    feed.run(row, [item(1, 5)], [item(3, 1)])
    assert feed.checkpoint()["cursor"] == DAY.format(5)


def test_newest_first_stops_at_the_first_page_that_is_older_than_the_cursor(feed: Feed) -> None:
    row = feed.sync({"field": "updated_at", "order": "desc"})
    feed.run(row, [item(3, 3), item(2, 2)], [item(1, 1)])
    outcome = feed.run(row, [item(4, 4), item(3, 3)], [item(2, 2)], [item(1, 1)], Answer(500))
    assert (outcome.status, outcome.stop_reason, feed.live()) == ("succeeded", "older", [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("pages", "fields"),
    [
        ([[item(3, 3), {"updated_at": DAY.format(4)}]], {}),
        ([[item(3, 3), 5]], {}),
        ([[item(3, 3)], [item(4, 4)]], {"max_pages": 1}),
        ([[item(3, 3), item(4, 4)]], {"max_total": 1}),
        ([[item(3, 3), {"id": 4, "updated_at": 17}]], {}),
    ],
)
def test_what_could_not_be_stored_or_was_not_read_is_asked_for_again(
    feed: Feed, pages: list[Any], fields: dict[str, Any]
) -> None:
    row = feed.sync({**RECORD, "lag": 0})
    feed.run(row, [item(1, 1)])
    row = feed.sync({**RECORD, "lag": 0}, **fields)
    feed.run(row, *pages)
    feed.run(row, *pages)
    assert feed.sent() == [DAY.format(1)]


@pytest.mark.parametrize(
    "change",
    [
        {"query_params": {"state": "all"}},
        {"unique_key": ["id", "updated_at"]},
        {"response_path": "$.results"},
    ],
)
def test_another_request_or_definition_begins_again(feed: Feed, change: dict[str, Any]) -> None:
    feed.run(feed.sync(RECORD), [item(1, 1)])
    outcome = feed.run(feed.sync(RECORD, timeout=5, description="nothing that reads"), [])
    assert feed.sent() != [None] and not outcome.warnings
    outcome = feed.run(feed.sync(RECORD, **change), [item(1, 1)])
    assert feed.sent() == [None]
    assert "the request or its definition has changed; everything is read again." in outcome.warnings


def test_another_value_of_metadata_begins_again_also_with_the_last_sync_date(feed: Feed) -> None:
    connections.add(feed.db, None, connections.NewConnection("github", "acme"))
    query = {"since": "${last_sync_date}", "team": "${metadata.team}"}
    row = feed.sync(integration="github", query_params=query)
    sent: list[str | None] = []
    for team in ("a", "a", "b"):
        connections.set_metadata(feed.db, "github", "acme", {"team": team})
        feed.api.requests.clear()
        feed.pages = [[item(1)]]
        with runs.claimed(feed.db, feed.settings, row, connection_id="acme") as execution:
            assert execution.run().status == "succeeded"
        sent += feed.sent()
    assert [since and since[:4] for since in sent] == ["1970", str(datetime.now(timezone.utc).year), "1970"]


def test_an_execution_begins_at_the_cursor_that_a_person_sets(feed: Feed) -> None:
    row = feed.sync({**RECORD, "format": "unix"})
    feed.run(row, [item(1, 5)])
    checkpoints.replace(Selection(feed.db, row), {"cursor": DAY.format(2)})
    assert not feed.run(row, [item(1, 5)]).warnings
    assert feed.sent() == ["1767311940"] and feed.checkpoint()["cursor"] == DAY.format(5)
    with pytest.raises(ConfigError, match="the checkpoint's cursor is 'soon'; wanted a value for format: unix"):
        checkpoints.replace(Selection(feed.db, row), {"cursor": "soon"})
    with pytest.raises(ConfigError, match="items reads the whole list each time and has no checkpoint"):
        checkpoints.replace(Selection(feed.db, feed.sync()), {"cursor": 5})


def test_a_list_of_several_numbered_pages_is_read_twice(feed: Feed) -> None:
    numbers = {"paging_page_request_path": "page"}
    row = feed.sync({**RECORD, "lag": 0}, **dict.fromkeys(CURSOR), **numbers)
    pages = [[item(1, 1)], [item(2, 2)]]
    feed.run(row, *pages)
    feed.run(row, *pages)
    assert feed.sent()[0] is None
    feed.run(row, [item(2, 2)])
    assert feed.sent()[0] == DAY.format(2)


def test_a_reset_begins_again_and_a_cleared_checkpoint_too(feed: Feed) -> None:
    row = feed.sync(RECORD)
    feed.run(row, [item(1, 1)])
    feed.run(row, [item(1, 1)], reset=True)
    assert feed.sent() == [None] and feed.checkpoint()["cursor"] == DAY.format(1)


# --- deleted records, and the whole list ------------------------------------------------------------------------------


def test_marked_records_are_deleted_and_never_stored(feed: Feed) -> None:
    row = feed.sync(deleted_path="gone")
    feed.run(row, [item(1, gone=False), item(2, gone=True), item(3, gone=None), item(4)], [item(4, gone=1), item(5)])
    assert feed.live() == [1, 3, 5]
    outcome = feed.run(row, [item(1, gone="2026-01-01"), item(3), item(2, gone=False), item(2), item(5)])
    assert (feed.live(), outcome.counts.deleted) == ([2, 3, 5], 1)


def test_a_long_list_goes_on_where_it_broke_and_deletes_what_all_of_it_lacks(feed: Feed) -> None:
    row = feed.sync(resumable=True, track_deletes={"max_fraction": 1})
    feed.run(row, [item(1), item(2)], [item(3)], [item(4)], [item(5)])
    pages: list[Any] = [[item(1)], [item(3)], Answer(500), [item(5)]]
    assert feed.run(row, *pages).status == "failed"
    assert feed.live() == [1, 2, 3, 4, 5]
    outcome = feed.run(row, *[[item(1)], [item(3)], [item(6)], [item(5)]])
    assert feed.api.requests[0].params["after"] == "2", "one page before the one that failed"
    assert (outcome.status, outcome.counts.deleted, feed.live()) == ("succeeded", 2, [1, 3, 5, 6])
    assert feed.checkpoint() is None


def test_a_position_that_the_api_refuses_begins_again(feed: Feed) -> None:
    row = feed.sync(resumable=True)
    feed.run(row, [item(1)], [item(2)], Answer(500))
    feed.api.route("/items", lambda r: Answer(400) if r.params.get("after") == "2" else {"results": [item(9)]})
    outcome = feed.run(row)
    assert outcome.status == "succeeded" and feed.live() == [1, 2, 9]
    assert any("it is read from the start" in warning for warning in outcome.warnings)


def test_max_pages_reads_a_resumable_list_part_by_part(feed: Feed) -> None:
    row = feed.sync(resumable=True, max_pages=2)
    pages = [[item(number)] for number in range(1, 6)]
    reasons = [feed.run(row, *pages).stop_reason for _ in range(3)]
    assert (reasons, feed.live()) == (["max_pages", "max_pages", "no_cursor"], [1, 2, 3, 4, 5])


def test_the_whole_list_is_read_beside_the_changes_and_neither_undoes_the_other(feed: Feed) -> None:
    block = {**RECORD, "full_refresh": "every day", "lag": 0}
    row = feed.sync(block, resumable=True, track_deletes={"max_fraction": 1}, max_pages=1)
    whole = [[item(1, 1)], [item(2, 2)], [item(3, 3)]]

    def answer(request: Received) -> Reply:
        if "since" in request.params:
            return {"results": [item(9, 9)], "next": None}
        return feed.answer(request)

    feed.api.route("/items", answer)
    feed.run(row, *whole)
    assert feed.sent() == [None]
    feed.run(row, *whole)
    assert feed.sent()[0] == DAY.format(1), "the changes since the first page, before the second one"
    outcome = feed.run(row, *whole)
    assert feed.live() == [1, 2, 3, 9], "9 is not in the whole list, and was read meanwhile"
    assert outcome.counts.deleted == 0 and feed.checkpoint()["refreshed_at"]


def test_a_record_that_is_rejected_among_the_changes_holds_the_cursor_back_beside_the_whole_list(feed: Feed) -> None:
    row = feed.sync({**RECORD, "full_refresh": "every day", "lag": 0}, resumable=True, max_pages=1)
    whole = [[item(1, 1)], [item(2, 2)], [item(3, 3)], [item(4, 4)]]
    rejected = {"results": [item(9, 9), {"updated_at": DAY.format(9)}], "next": None}
    feed.api.route("/items", lambda request: rejected if "since" in request.params else feed.answer(request))
    for _ in range(3):
        feed.run(row, *whole)
    assert feed.sent()[0] == DAY.format(2), "not after 9, whose page had a record without a key"


def test_a_position_holds_no_secret_of_the_config(feed: Feed) -> None:
    headers = {"Authorization": "Bearer s3cret-token", "X-Plain": "a"}
    row = feed.sync(resumable=True, headers=headers, query_params={"api_key": "k3y-of-someone"})
    feed.run(row, [item(1)], [item(2)], [item(3)], Answer(500))
    text = json.dumps(feed.checkpoint())
    assert "s3cret" not in text and "k3y-of" not in text
    feed.run(row, [item(1)], [item(2)], [item(3)], [item(4)])
    sent = feed.api.requests[0]
    assert (sent.headers["Authorization"], sent.params["api_key"]) == ("Bearer s3cret-token", "k3y-of-someone")
    assert sent.params["after"] == "3" and feed.live() == [1, 2, 3, 4]


def test_an_incremental_config_is_stored_and_read_back(feed: Feed) -> None:
    row = feed.sync({"from": "run_start", "request_path": "since", "full_refresh": "every 7 days"})
    assert row.sync.document()["incremental"] == {
        "from": "run_start", "request_path": "since", "full_refresh": "every 7 days",
    }  # fmt: skip
    assert from_body(row.sync.document()) == row.sync
