"""Readers who follow the cursor while others write miss no change."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from nango_dagster.errors import Refused
from nango_dagster.settings import Settings
from nango_dagster.store import Database, changes, datasets, listing, open_database
from nango_dagster.store.changes import Cursor
from nango_dagster.store.listing import RecordSelection
from nango_dagster.store.rows import PageQuestion, driver
from tests.processes import PROCESSES
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


def follow(db: Database, dataset_id: int, seen: list[changes.Record]) -> bool:
    """Read one more page behind the last record that was seen; whether there was any."""
    after = Cursor.read(str(seen[-1].cursor())) if seen else None
    found = listing.page(db, dataset_id, RecordSelection(after=after), PAGE).records
    seen.extend(found)
    return bool(found)


def test_a_reader_of_many_connections_sees_every_change_while_processes_write(settings: Settings, db: Database) -> None:
    targets = [Target(db, connection=name, unique_key="id", auto_mapping=False) for name in CONNECTIONS]
    seen: dict[int, list[changes.Record]] = {target.dataset.id: [] for target in targets}
    where = {"home": settings.home, "db_url": settings.db_url, "db_schema": settings.db_schema}
    writers = [PROCESSES.Process(target=write, args=(where, number)) for number in range(WRITERS)]
    for process in writers:
        process.start()
    at_work, during = True, 0
    while at_work or any([follow(db, dataset_id, records) for dataset_id, records in seen.items()]):
        at_work = any(process.is_alive() for process in writers)
        during += at_work and any([follow(db, dataset_id, records) for dataset_id, records in seen.items()])
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert during > ROUNDS
    for target in targets:
        assert_has_seen_all(seen[target.dataset.id], target)
        assert len(seen[target.dataset.id]) > len(target.raw())  # some came again


def assert_has_seen_all(records: list[changes.Record], target: Target) -> None:
    """A reader has seen the records in order, and last saw each of them as it is stored."""
    order = [(one.last_modified_at, one.external_id) for one in records]
    assert order == sorted(set(order))
    stored = {key: (row.last_modified_at, row.text) for key, row in target.raw().items()}
    assert {one.external_id: (one.last_modified_at, one.text) for one in records} == stored


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=1)])
def test_a_clock_that_does_not_follow_the_dataset_loses_changes_and_is_found_out(
    late: timedelta, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that the check above can fail: a writer takes its time before the lock instead of under it."""
    target = Target(db, unique_key="id", auto_mapping=False)
    seen: list[changes.Record] = []
    target.write([{"id": n} for n in range(5)])
    while follow(db, target.dataset.id, seen):
        pass
    assert_has_seen_all(seen, target)
    last = target.dataset.last_modified_at
    assert last is not None
    monkeypatch.setattr(datasets, "last_and_next_moment", lambda *_: (last, last - late))
    target.write([{"id": 1, "changed": True}])
    while follow(db, target.dataset.id, seen):
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
        some = listing.page(db, target.dataset.id, RecordSelection(after=after), 100, most_bytes=2 * large + 500)
        assert 0 < sum(len(record.text or "") for record in some.records) <= 2 * large + 500
        found.append([int(record.external_id) for record in some.records])
        after = some.next
    assert [number for page in found for number in page] == list(range(6))
    assert len(found) > 2
    alone = listing.page(db, target.dataset.id, RecordSelection(), 100, most_bytes=10)
    assert [record.external_id for record in alone.records] == ["0"]


@pytest.mark.parametrize(
    "actions", [["added"], ["updated"], ["deleted"], ["added", "deleted"], ["added", "updated", "deleted"]]
)
@pytest.mark.parametrize("analyzed", [False, True])
def test_a_page_begins_in_the_index_of_each_kind_of_change(
    actions: list[changes.Action], analyzed: bool, db: Database
) -> None:
    """Nothing is read from the beginning and nothing is sorted but what a page holds."""
    target = Target(db, unique_key="id", track_deletes=True, auto_mapping=False)
    target.write([{"id": n} for n in range(3000)])
    target.write([{"id": n, "changed": n < 1000} for n in range(2900)])
    question = PageQuestion(target.dataset.id, (changes.EPOCH, ""), tuple(actions), None, 11)
    query, values = db.rows.page_query(question)
    with db.begin() as connection:
        if analyzed:
            driver(connection).execute("ANALYZE _nango_raw")
        how = "EXPLAIN" if db.engine.name == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = [str(row[-1]) for row in driver(connection).execute(f"{how} {query}", values)]
    for action in actions:
        assert any(f"_nango_raw_{action}" in line for line in plan), plan
    # As long as PostgreSQL knows nothing of a small table, it rather sorts the few rows that it expects.
    read_whole = {"Seq Scan", "TEMP B-TREE", *(["Sort  ("] if analyzed else [])}
    assert not any(one in line for one in read_whole for line in plan), plan


def test_the_latest_changes_come_newest_first(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes=True)
    target.write([{"id": n} for n in range(5)])
    target.write([{"id": 3, "new": True}, *({"id": n} for n in range(3))])
    found = listing.latest(db, target.dataset.id, changes.ACTIONS, 3)
    assert [(one.external_id, one.action) for one in found] == [("4", "deleted"), ("3", "updated"), ("2", "added")]
    assert found[1].text == '{"id":3,"new":true}'
    assert [one.external_id for one in listing.latest(db, target.dataset.id, ["added"], 2)] == ["2", "1"]
