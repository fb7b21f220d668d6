"""Readers who follow the cursor while others write miss no change."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from nango_dagster.errors import Refused
from nango_dagster.settings import Settings
from nango_dagster.store import Database, bulk, datasets, listing, open_database, written
from nango_dagster.store.listing import Cursor, Names, Wanted
from tests.writing import Target

CONNECTIONS = ("a", "b", "c", "d", "e", "f")
WRITERS = 3
ROUNDS = 8
PAGE = 3  # few, so that records change again while they are paged through


def write(env: Mapping[str, Any], writer: int) -> None:
    """Write to all connections by turns, records of one's own and some that all writers change."""
    db = open_database(Settings(**env))
    targets = [Target(db, connection=name, unique_key="id", auto_mapping=False) for name in CONNECTIONS]
    for turn in range(ROUNDS):
        for target in targets:
            own = [{"id": f"{writer}-{n}", "turn": turn} for n in range(turn, turn + 6)]
            shared = [{"id": f"all-{n}", "by": writer, "turn": turn} for n in range(4)]
            try:
                target.write(own + shared)
            except Refused:  # the others were quicker each time
                continue
    db.close()


class Seen(NamedTuple):
    """A record as a reader got it, and the place right behind it."""

    at: Cursor
    record: dict[str, Any]


def follow(target: Target, seen: list[Seen]) -> bool:
    """Read one more page behind the last record that was seen, as the API does; whether there was any."""
    of = target.dataset
    names = Names(of.integration, of.connection_id, of.variant, of.model)
    page = written.page_of(target.db, names, Wanted(after=seen[-1].at if seen else None), PAGE)
    assert page is not None
    for text in page.records:
        record = json.loads(text)
        seen.append(Seen(Cursor.read(record.pop("_nango_metadata")["cursor"]), record))
    return bool(page.records)


def test_a_reader_of_many_connections_sees_every_change_while_processes_write(settings: Settings, db: Database) -> None:
    targets = [Target(db, connection=name, unique_key="id", auto_mapping=False) for name in CONNECTIONS]
    seen: list[tuple[Target, list[Seen]]] = [(target, []) for target in targets]
    where = {"home": settings.home, "db_url": settings.db_url, "db_schema": settings.db_schema}
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write, args=(where, number)) for number in range(WRITERS)]
    for process in writers:
        process.start()
    at_work, during = True, 0
    while at_work or any([follow(target, records) for target, records in seen]):
        at_work = any(process.is_alive() for process in writers)
        during += at_work and any([follow(target, records) for target, records in seen])
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert during > ROUNDS
    for target, records in seen:
        assert_has_seen_all(records, target)
        assert len(records) > len(target.raw())  # some came again


def assert_has_seen_all(seen: list[Seen], target: Target) -> None:
    """What a reader has seen is in order, and the last that he saw of each record is what is stored."""
    order = [(one.at.moment, one.at.external_id) for one in seen]
    assert order == sorted(set(order))
    stored = {key: (row.last_modified_at, json.loads(row.text or "")) for key, row in target.raw().items()}
    assert {one.at.external_id: (one.at.moment, one.record) for one in seen} == stored


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=1)])
def test_a_clock_that_does_not_follow_the_dataset_loses_changes_and_is_found_out(
    late: timedelta, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that the check above can fail: a writer takes its time before the lock instead of under it."""
    target = Target(db, unique_key="id", auto_mapping=False)
    seen: list[Seen] = []
    target.write([{"id": n} for n in range(5)])
    while follow(target, seen):
        pass
    assert_has_seen_all(seen, target)
    last = target.dataset.last_modified_at
    assert last is not None
    monkeypatch.setattr(datasets, "last_and_next_moment", lambda *_: (last, last - late))
    target.write([{"id": 1, "changed": True}])
    while follow(target, seen):
        pass
    with pytest.raises(AssertionError):
        assert_has_seen_all(seen, target)


@pytest.mark.parametrize("large", [1000, 6_000_000])
def test_a_page_of_large_records_is_short_and_leads_on(large: int, db: Database) -> None:
    """Whether the server or we count the bytes: each page has at least one record, and none is left out."""
    target = Target(db, unique_key="id", auto_mapping=False)
    text = base64.b64encode(os.urandom(large // 4 * 3)).decode()
    target.write([{"id": n, "text": text if n != 3 else ""} for n in range(6)])
    found: list[list[int]] = []
    after: Cursor | None = None
    while not found or after:
        some = listing.page(db, target.dataset.id, Wanted(after=after), 100, most_bytes=2 * large + 500)
        assert 0 < sum(len(record.text or "") for record in some.records) <= 2 * large + 500
        found.append([int(record.external_id) for record in some.records])
        after = some.next
    assert [number for page in found for number in page] == list(range(6))
    assert len(found) > 2
    alone = listing.page(db, target.dataset.id, Wanted(), 100, most_bytes=10)
    assert [record.external_id for record in alone.records] == ["0"]


@pytest.mark.parametrize(
    "actions", [["added"], ["updated"], ["deleted"], ["added", "deleted"], ["added", "updated", "deleted"]]
)
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_page_begins_in_the_index_of_each_kind_of_change(
    actions: list[listing.Action], analyzed: bool, db: Database
) -> None:
    """Nothing is read from the beginning and nothing is sorted but what a page holds."""
    target = Target(db, unique_key="id", track_deletes=True, auto_mapping=False)
    target.write([{"id": n} for n in range(3000)])
    target.write([{"id": n, "changed": n < 1000} for n in range(2900)])
    query = listing.in_order("external_id, last_modified_at, data", actions, 11, postgresql=db.is_postgresql)
    values = {"dataset": target.dataset.id, **listing.after(db, Wanted().begin)}
    with db.begin() as connection:
        if analyzed:
            bulk.driver(connection).execute("ANALYZE _nango_raw")
        how = "EXPLAIN" if db.is_postgresql else "EXPLAIN QUERY PLAN"
        plan = [str(row[-1]) for row in bulk.driver(connection).execute(f"{how} {query}", values)]
    for action in actions:
        assert any(f"_nango_raw_{action}" in line for line in plan), plan
    # As long as PostgreSQL knows nothing of a small table, it rather sorts the few rows that it expects.
    read_whole = {"Seq Scan", "TEMP B-TREE", *(["Sort  ("] if analyzed else [])}
    assert not any(one in line for one in read_whole for line in plan), plan


def test_the_latest_changes_come_newest_first(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes=True)
    target.write([{"id": n} for n in range(5)])
    target.write([{"id": 3, "new": True}, *({"id": n} for n in range(3))])
    found = listing.latest(db, target.dataset.id, listing.ACTIONS, 3)
    assert [(one.external_id, one.action) for one in found] == [("4", "deleted"), ("3", "updated"), ("2", "added")]
    assert found[1].text == '{"id":3,"new":true}'
    assert [one.external_id for one in listing.latest(db, target.dataset.id, ["added"], 2)] == ["2", "1"]
