"""An API that breaks: the rows are complete and exact, or the job has failed with a sentence and nothing is deleted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, assert_exact, assert_nothing_runs, execute, items, last_job, ordered, stored
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, Reply, half, html

OLD = items(*range(1, 13))
NEW = [*items(*range(2, 12), name="new"), *items(20, 21)]
"""Four pages of three: id 1 and 12 are gone, 20 and 21 came, the others changed."""

MODES = pytest.mark.parametrize(
    "fields",
    [{"unique_key": "id", "track_deletes": True}, {}],
    ids=["upsert", "overwrite"],
)


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, OLD)


def synced_before(db: Database, settings: Settings, source: Source, **fields: Any) -> SyncRow:
    """The sync after one good execution; the source has changed since."""
    row = source.registered(db, **fields)
    assert execute(db, settings, row).status == "succeeded"
    source.records = list(NEW)
    return row


def assert_kept(db: Database, row: SyncRow, pages: int) -> None:
    """The old rows; an upsert has written the pages before the failure, and nothing is deleted."""
    kept = OLD
    if row.sync.mode == "upsert":
        written = {record["id"]: record for record in NEW[: 3 * pages]}
        kept = list({**{record["id"]: record for record in OLD}, **written}.values())
    found = assert_exact(db, row, kept)
    assert (found.deleted, found.mapped_deleted) == ([], [])
    assert_nothing_runs(db)


# --- broken for good ----------------------------------------------------------------------------------------------


def _truncated(body: Callable[[int], bytes]) -> Reply:
    """Half a body, whose length is that of the half: nothing but the JSON tells."""
    return Answer(body=body(3)[: len(body(3)) // 2])


BROKEN: dict[str, tuple[Callable[[Source], Reply], str]] = {
    "400": (lambda source: (400, {}, {"error": "nope"}), 'answered 400 Bad Request: "{"error": "nope"}".'),
    "401": (lambda source: (401, {}, "who?"), 'answered 401 Unauthorized: "who?".'),
    "404": (lambda source: (404, {}, ""), "answered 404 Not Found."),
    "429": (lambda source: (429, {}, "slow down"), 'answered 429 Too Many Requests: "slow down".'),
    "500": (lambda source: (500, {}, "oops"), 'answered 500 Internal Server Error: "oops".'),
    "hung up": (lambda source: HANG_UP, "page=3 got no answer: the connection was closed."),
    "half a body": (lambda source: half(source.body(3)), ""),
    "truncated JSON": (
        lambda source: _truncated(source.body),
        "the response is no complete JSON: it ends too early.",
    ),
    "HTML": (lambda source: html(), "the response is HTML or XML; wanted JSON, JSON lines or CSV."),
    "nothing": (lambda source: Answer(body=b""), "the response is empty; wanted JSON."),
    "text": (lambda source: Answer(body="maintenance"), "the response is no JSON object or list (text/plain);"),
    "no list": (
        lambda source: {"error": "expired", "next": 4},
        'the response has an error and no records: "expired".',
    ),
    "an earlier cursor": (
        lambda source: {**source.page(3), "next": 2},
        "paging repeats: page 3 leads back to GET {url}/items?page=2.",
    ),
    "its own cursor": (
        lambda source: {**source.page(3), "next": 3},
        "paging repeats: page 3 leads back to GET {url}/items?page=3.",
    ),
}
_COUNTS_PAGE = {"an earlier cursor", "its own cursor"}


@MODES
@pytest.mark.parametrize("fault", BROKEN)
def test_a_page_that_breaks_fails_the_job_and_costs_no_row(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any], fault: str
) -> None:
    make, sentence = BROKEN[fault]
    row = synced_before(db, settings, source, **fields)
    source.broken[3] = make(source)
    outcome = execute(db, settings, row, run_id="broken")
    job = last_job(db, row)
    assert (outcome.status, job.status, job.run_id, outcome.complete) == ("failed", "failed", "broken", False)
    assert job.error_message == outcome.error
    assert (job.error_message or "").startswith("items: "), job.error_message
    assert sentence.replace("{url}", source.api.url) in (job.error_message or "")
    assert job.error_stack and job.ended_at and job.stop_reason is None
    pages = 3 if fault in _COUNTS_PAGE else 2
    assert (job.pages, job.fetched, job.deleted) == (pages, 3 * pages, 0)
    assert_kept(db, row, pages)
    source.broken.clear()
    assert execute(db, settings, row).status == "succeeded"
    assert last_job(db, row).attempt == 2
    assert_exact(db, row, NEW)


@MODES
def test_the_first_page_that_breaks_leaves_everything_as_it_was(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.broken[1] = html("<h1>Sorry</h1>", status=503)
    outcome = execute(db, settings, row)
    assert outcome.status == "failed"
    assert 'answered 503 Service Unavailable with an HTML page: "<h1>Sorry</h1>".' in (outcome.error or "")
    assert_kept(db, row, pages=0)


@MODES
def test_an_api_that_is_down_is_a_sentence(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.api.kill()
    outcome = execute(db, settings, row)
    assert outcome.status == "failed"
    assert (outcome.error or "").startswith(f"items: GET {source.api.url}/items ")
    assert "refuses connections" in (outcome.error or "")
    assert_kept(db, row, pages=0)


# --- broken for a while -------------------------------------------------------------------------------------------

SOON = {"Retry-After": "0"}
PASSING: dict[str, Callable[[Source], Reply]] = {
    "429": lambda source: (429, SOON, "slow down"),
    "500": lambda source: (500, SOON, "oops"),
    "503 as HTML": lambda source: Answer(503, {**SOON, "Content-Type": "text/html"}, "<h1>Sorry</h1>"),
    "hung up": lambda source: HANG_UP,
    "half a body": lambda source: half(source.body(3)),
}


@MODES
@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_what_passes_is_tried_again_and_the_rows_are_exact(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any], fault: str
) -> None:
    row = synced_before(db, settings, source, retries=2, **fields)

    def once(request: Received) -> Reply:
        source.broken.clear()
        return PASSING[fault](source)

    source.broken[3] = once
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.error) == ("succeeded", None)
    assert (outcome.counts.retries, outcome.counts.requests, outcome.counts.pages) == (1, 5, 4)
    assert_exact(db, row, NEW)


@MODES
def test_an_api_that_is_killed_and_restarted_in_the_middle_costs_nothing(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, retries=5, **fields)
    restarted = threading.Event()

    def restart() -> None:
        source.api.kill()
        source.broken.clear()
        source.api.start()
        restarted.set()

    def die(request: Received) -> Reply:
        """Half of the answer is out when the server dies."""
        threading.Thread(target=restart).start()
        return Answer(body=_until_dead(source), claims=10_000)

    source.broken[3] = die
    outcome = execute(db, settings, row)
    assert restarted.wait(10)
    assert (outcome.status, outcome.error) == ("succeeded", None)
    assert outcome.counts.retries >= 1
    assert_exact(db, row, NEW)


def _until_dead(source: Source) -> Any:
    """The first half of page 3, then silence until the server is killed."""
    whole = source.body(3)
    yield whole[: len(whole) // 2]
    source.api.stopped.wait(10)


@MODES
def test_an_api_that_is_killed_for_good_in_the_middle_fails_the_job_and_the_next_run_is_exact(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)

    def die(request: Received) -> Reply:
        threading.Thread(target=source.api.kill).start()
        return Answer(body=_until_dead(source), claims=10_000)

    source.broken[3] = die
    outcome = execute(db, settings, row)
    assert outcome.status == "failed" and (outcome.error or "").startswith("items: GET ")
    assert_kept(db, row, pages=2)
    source.broken.clear()
    source.api.start()
    assert execute(db, settings, row).status == "succeeded"
    assert_exact(db, row, NEW)


# --- one broken record among good ones --------------------------------------------------------------------------------

DEEP = b'{"id": 6, "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_RECORDS = {
    "NaN": b'{"id": 6, "price": NaN}',
    "invalid UTF-8": b'{"id": "\xff\xfe"}',
    "a missing comma": b'{"id": 6 "name": "x"}',
    "too deep": DEEP,
}


def with_record(page: dict[str, Any], text: bytes) -> bytes:
    """The page with one of its records spelled so."""
    marked = {**page, "results": [*page["results"][:1], "HERE", *page["results"][2:]]}
    return json.dumps(marked).encode().replace(b'"HERE"', text)


@MODES
@pytest.mark.parametrize("spelling", BAD_RECORDS)
def test_a_broken_record_costs_only_itself_and_nothing_is_deleted_for_it(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any], spelling: str
) -> None:
    row = synced_before(db, settings, source, **fields)
    bad = NEW[4]
    source.broken[2] = Answer(body=with_record(source.page(2), BAD_RECORDS[spelling]))
    outcome = execute(db, settings, row)
    assert outcome.counts.rejected == 1
    assert outcome.warnings[0].startswith(("record 1 of page 2: ", "record 4: ")), outcome.warnings
    if row.sync.mode == "overwrite":  # the broken record may be the new form of one that seems to be gone
        assert outcome.status == "failed" and "the rows were kept" in (outcome.error or "")
        assert_exact(db, row, OLD)
        return
    assert (outcome.status, outcome.counts.deleted) == ("succeeded", 0)
    assert "nothing was deleted: a record that cannot be read may be one that seems to be gone." in outcome.warnings
    old = {record["id"]: record for record in OLD}
    new = {record["id"]: record for record in NEW if record is not bad}
    assert_exact(db, row, {**old, **new}.values())


@MODES
def test_a_record_that_is_no_text_is_rejected_and_its_old_row_stays(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    """Its key can be read, so what is gone is known."""
    row = synced_before(db, settings, source, **fields)
    source.broken[2] = Answer(body=with_record(source.page(2), b'{"id": 6, "name": "\xff\xfe"}'))
    outcome = execute(db, settings, row)
    assert outcome.counts.rejected == 1
    assert outcome.warnings[0].endswith("it is not valid UTF-8")
    if row.sync.mode == "overwrite":
        assert outcome.status == "failed" and "the rows were kept" in (outcome.error or "")
        assert_exact(db, row, OLD)
        return
    assert outcome.status == "succeeded"
    assert_exact(db, row, [*(record for record in NEW if record["id"] != 6), OLD[5]])


@pytest.mark.parametrize("key", [None, "", "x" * 1025, "nul\x00"])
def test_a_record_without_a_usable_key_costs_only_itself_and_nothing_is_deleted_for_it(
    db: Database, settings: Settings, source: Source, key: Any
) -> None:
    row = synced_before(db, settings, source, unique_key="id", track_deletes=True)
    source.records[4] = {"id": key, "name": "lost its id"}
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.rejected, outcome.counts.deleted) == ("succeeded", 1, 0)
    assert outcome.warnings[0].startswith('record 4: unique_key "id" ')
    old = {record["id"]: record for record in OLD}
    new = {record["id"]: record for record in NEW if record["id"] != 6}
    assert_exact(db, row, {**old, **new}.values())


@MODES
def test_odd_but_valid_records_are_kept_exactly(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, auto_mapping=False, **fields)
    source.records = [
        {"id": 0},
        {"id": "0 "},
        {"id": -1, "huge": 123456789012345678901234567890, "tiny": 1e-300},
        {"id": 'quo"te\\ \t\n\u2028 \U0001f600'},
        {"id": "e", "": "", "nested": {"deep": [[[[]]], {}]}},
        {"id": "nul", "text": "a\x00b"},
        {"id": "half", "text": "\ud83d"},
    ]
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.added, outcome.counts.rejected) == ("succeeded", 7, 0)
    assert_exact(db, row, source.records)
    assert not execute(db, settings, row).changed


@MODES
def test_records_that_come_twice_are_stored_as_the_mode_says(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.records = [*NEW[:5], NEW[0], {**NEW[1], "name": "later"}, *NEW[5:]]
    execute(db, settings, row)
    if row.sync.mode == "overwrite":
        assert_exact(db, row, source.records)
    else:
        assert_exact(db, row, [NEW[0], {**NEW[1], "name": "later"}, *NEW[2:]])
        assert "2 records came more than once; the last one of each key was kept." in last_job(db, row).warnings


def test_of_a_key_that_comes_on_two_pages_the_last_record_stays_also_if_it_was_stored_before(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    """The list moves on while it is read: the same item, as it was and as it is."""
    source = Source(api, [*items(1, name="first"), *items(*range(2, 2500)), *items(1, name="last")], size=500)
    row = source.registered(db, unique_key="id")
    wanted = source.records[1:]
    for attempt in range(3):
        outcome = execute(db, settings, row)
        assert outcome.status == "succeeded"
        assert "1 records came more than once; the last one of each key was kept." in outcome.warnings, attempt
        assert_exact(db, row, wanted)


# --- a list that is not what it was ---------------------------------------------------------------------------------


@MODES
def test_a_list_that_ends_in_an_empty_page_is_whole(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.broken[4] = lambda request: {**source.page(4), "next": 5}
    source.broken[5] = {"results": [], "next": 5}
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.complete, outcome.stop_reason) == ("succeeded", True, "empty_page")
    assert_exact(db, row, NEW)


def test_a_list_that_is_suddenly_empty_deletes_nothing_unless_somebody_says_so(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    many = items(*range(30))
    source = Source(api, many)
    row = source.registered(db, unique_key="id", track_deletes=True)
    execute(db, settings, row)
    source.records = []
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.deleted) == ("failed", 0)
    assert "30 of 30 records are gone from the source" in (outcome.error or "")
    found = assert_exact(db, row, many)
    assert found.deleted == []


def test_a_complete_empty_list_empties_an_overwritten_table(db: Database, settings: Settings, source: Source) -> None:
    row = synced_before(db, settings, source)
    source.records = []
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.deleted, outcome.live_count) == ("succeeded", 12, 0)
    assert_exact(db, row, [])


def _widened(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "owner": {"name": "ann", "teams": ["a", "b"]}, "count": 3}


@MODES
def test_a_schema_that_changes_between_two_pages_is_followed(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.records = [*NEW[:6], *map(_widened, NEW[6:])]
    outcome = execute(db, settings, row)
    assert set(outcome.new_columns) == {"owner_name", "owner_teams_0", "owner_teams_1", "count"}
    assert_exact(db, row, source.records)


@MODES
def test_types_that_change_between_two_pages_lose_no_record(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = synced_before(db, settings, source, **fields)
    source.records = [*NEW[:6], *({"id": record["id"], "name": [record["id"]]} for record in NEW[6:])]
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.rejected) == ("succeeded", 0)
    assert_exact(db, row, source.records)
    source.records = [*NEW[:6], *({"id": record["id"], "name": record["id"]} for record in NEW[6:])]
    outcome = execute(db, settings, row)
    assert outcome.misfits == {"name": 6}
    assert stored(db, row).live == ordered(source.records)


@MODES
def test_a_key_that_moves_to_another_place_fails_or_rejects_but_deletes_nothing(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    """The API's new version wraps every record."""
    row = synced_before(db, settings, source, **fields)
    source.records = [{"attributes": record} for record in NEW]
    outcome = execute(db, settings, row)
    if row.sync.mode == "upsert":
        said = 'items: no record of 12 could be stored: unique_key "id" is missing; the first record has "attributes".'
        assert (outcome.status, outcome.error) == ("failed", said)
        assert (outcome.counts.rejected, outcome.counts.deleted) == (12, 0)
        assert_exact(db, row, OLD)
    else:
        assert_exact(db, row, source.records)


@pytest.mark.parametrize("fields", [{"response_path": "data.items"}, {"paging_cursor_request_path": "p.q"}])
def test_a_config_that_does_not_fit_the_api_is_told_as_such(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, unique_key="id", **fields)
    assert isinstance(row.sync, Sync)
    outcome = execute(db, settings, row)
    assert outcome.status == "failed" and (outcome.error or "").startswith("items: GET ")
