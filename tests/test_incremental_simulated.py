"""A simulated API that changes while it is read, fails anywhere and answers late: incremental syncs lose nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import runs
from nango_dagster.config import Sync, from_body
from nango_dagster.settings import Settings
from nango_dagster.store import Database, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.changing_source import ChangingSource
from tests.crash_worker import Workers
from tests.crashing import kill_at_random
from tests.executions import execute
from tests.fake_api import FakeApi

CURSOR: dict[str, Any] = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "after"}
NUMBERS: dict[str, Any] = {"paging_page_request_path": "page"}
LAG = "4 minutes"  # the API's clock, late answers and stamps of the past, together
ALL: dict[str, Any] = {"max_fraction": 1}


def incremental(paging: dict[str, Any] = CURSOR, **block: Any) -> dict[str, Any]:
    return {
        "sync_type": "incremental",
        "incremental": {name.rstrip("_"): value for name, value in block.items()},
        **paging,
    }


RECORD: dict[str, Any] = {"field": "updated_at", "request_path": "since", "lag": LAG}
REFRESH: dict[str, Any] = {"full_refresh": "every hour"}
SYNCS: dict[str, dict[str, Any]] = {
    "full": {"track_deletes": ALL, **CURSOR},
    "full by page numbers": {"track_deletes": ALL, **NUMBERS},
    "resumable": {"track_deletes": ALL, "resumable": True, **CURSOR},
    "tombstones in a full list": {"deleted_path": "deleted", **CURSOR},
    "records": incremental(**RECORD) | {"deleted_path": "deleted"},
    "records by page numbers": incremental(NUMBERS, **RECORD) | {"deleted_path": "deleted"},
    "a header": incremental(field="updated_at", header="X-Since", lag=LAG) | {"deleted_path": "deleted"},
    "ascending": incremental(**RECORD, order="asc") | {"deleted_path": "deleted"},
    "declared ascending": incremental(**RECORD, order="asc") | {"deleted_path": "deleted"},
    "descending": incremental(field="updated_at", lag=LAG, order="desc") | {"deleted_path": "deleted"},
    "the start of the run": incremental(from_="run_start", request_path="since", lag=LAG, format="iso")
    | {"deleted_path": "deleted"},
    "windows": incremental(**RECORD, start="2025-12-31", until={"request_path": "until"}, step="45 minutes")
    | {"deleted_path": "deleted"},
    "a token": incremental(from_="response", token_path="token", request_path="token") | {"deleted_path": "deleted"},
    "backfill beside delta": incremental(**RECORD, **REFRESH) | {"track_deletes": ALL, "resumable": True},
    "refresh of the whole list": incremental(**RECORD, **REFRESH) | {"track_deletes": ALL},
    "limited pages": incremental(**RECORD, order="asc") | {"deleted_path": "deleted", "max_pages": 2},
}
WITHOUT_LATE = {"a token", "descending"}  # a feed has no late changes; newest first knows no time before its own stamps

IDS = st.integers(1, 6)
CHANGES = st.one_of(
    st.tuples(st.just("put"), IDS, st.sampled_from(["now", "now", "same", "missing", "future", "backward"])),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("time"), st.sampled_from([1, 30, 61, 600, 4000])),
    st.tuples(st.just("expire")),
)
EXECUTIONS = st.tuples(
    st.just("execute"),
    st.lists(st.integers(1, 5), max_size=1),
    st.dictionaries(st.integers(1, 5), CHANGES, max_size=2),
    st.one_of(st.none(), st.none(), st.integers(1, 60)),
)
STORIES = st.lists(st.one_of(CHANGES, CHANGES, EXECUTIONS), min_size=3, max_size=14)


class Killed(BaseException):
    """The process is gone: no statement reaches the database any more."""


@contextmanager
def killed_after(db: Database, count: int | None) -> Iterator[None]:
    """Let `count` statements through, and none behind them."""
    sent = 0

    def before(*_: Any) -> None:
        nonlocal sent
        sent += 1
        if count is not None and sent > count:
            raise Killed

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)


class Story:
    """One source, its sync, and what happens to both."""

    def __init__(self, db: Database, settings: Settings, source: ChangingSource, fields: dict[str, Any]) -> None:
        self.db, self.settings, self.source = db, settings, source
        url = f"{source.api.url}/items"
        body = {"name": "items", "url": url, "unique_key": "id", "retries": 0, "response_path": "results", **fields}
        self.row: SyncRow = syncs.register(db, [from_body(body)])[body["name"]]

    def tell(self, event: tuple[Any, ...]) -> None:
        kind, *rest = event
        if kind == "put":
            self.source.put(*rest)
        elif kind == "delete":
            self.source.delete(*rest)
        elif kind == "time":
            self.source.pass_time(*rest)
        elif kind == "expire":
            self.source.expired_before = self.source.sequence + 1
        else:
            fails, meanwhile, kill = rest
            changes: dict[int, Callable[[], None]] = {
                number: partial(self.tell, change) for number, change in meanwhile.items()
            }
            self.source.begin(set(fails), changes)
            self.execute(kill)

    def execute(self, kill: int | None = None) -> None:
        with runs.claimed(self.db, self.settings, self.row) as execution:
            try:
                with killed_after(self.db, kill):
                    execution.run()
            except Killed:
                pass

    def end(self) -> None:
        """The source becomes quiet: two more executions, and more where each reads a limited number of pages."""
        for _ in range(12 if self.row.sync.max_pages else 2):
            self.source.pass_time(4000)
            self.source.begin(set(), {})
            self.execute()

    def stored(self) -> dict[int, int]:
        return stored_versions(self.db, self.row)


def stored_versions(db: Database, row: SyncRow) -> dict[int, int]:
    """The versions of the live records of a sync, by their ids."""
    of = schema.raw.c
    live = sa.select(sa.cast(of.data, sa.Text)).where(of.deleted_at.is_(None), of.sync_id == row.id)
    with db.connect() as connection:
        records = [json.loads(data) for data in connection.execute(live).scalars()]
    return {record["id"]: record["version"] for record in records}


@pytest.mark.parametrize("name", SYNCS)
def test_two_executions_after_the_source_became_quiet_the_rows_are_those_of_the_source(
    db: Database, settings: Settings, api: FakeApi, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    examples = 6 if db.engine.name == "sqlite" else 2
    number = 0

    @hypothesis_settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    @given(story=STORIES, skew=st.sampled_from([-60, 0, 60]))
    def check(story: list[tuple[Any, ...]], skew: int) -> None:
        nonlocal number
        number += 1
        source = ChangingSource(api, skew=skew, late=name not in WITHOUT_LATE)
        source.tombstones = "deleted_path" in SYNCS[name]
        source.order = "asc" if name in ("ascending", "limited pages") else "desc" if name == "descending" else "none"

        def simulated_now(database: Database, connection: sa.Connection) -> datetime:
            return source.now

        monkeypatch.setattr(Database, "now", simulated_now)
        told = Story(db, settings, source, {**SYNCS[name], "name": f"items-{number}", "model": f"Item{number}"})
        for event in story:
            told.tell(event)
        told.end()
        assert told.stored() == source.live()

    check()


def test_a_sync_is_what_the_simulation_says(api: FakeApi) -> None:
    """The simulated syncs are valid configs."""
    for fields in SYNCS.values():
        assert isinstance(from_body({"url": api.url, "unique_key": "id", **fields}), Sync)


@pytest.mark.parametrize("name", ["backfill beside delta", "ascending"])
def test_a_process_that_is_killed_before_any_statement_loses_nothing(
    db: Database, settings: Settings, api: FakeApi, workers: Workers, name: str
) -> None:
    """A few kills before random statements of an execution: in the whole list, and in the changes."""
    # Half a day ago: the time of the records is before that of the execution, which is the real one.
    source = ChangingSource(api, late=False, now=datetime.now(timezone.utc) - timedelta(hours=12))
    source.tombstones = "deleted_path" in SYNCS[name]
    source.order = "asc" if name == "ascending" else "none"
    limit = {} if name == "ascending" else {"max_pages": 3}  # so that the whole list takes several executions
    story = Story(db, settings, source, {**SYNCS[name], "name": "items", **limit})
    for number in range(1, 16):
        source.put(number)
    for number in range(1, 7):
        source.pass_time(600)
        source.delete(number)
        source.put(number + 6)
        kill_at_random(workers, db, "items", 36)
        if number == 3:
            assert workers.run("items").status == "succeeded"
    for _ in range(12):
        assert execute(db, settings, story.row).status == "succeeded"
    if name == "ascending":
        assert story.stored() == source.live()
    else:
        assert story.stored().items() >= source.live().items()
