"""Payloads are pruned: the records, what readers know of them and their mapped rows stay."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from nango_dagster.errors import StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, changes, datasets, listing, open_database, pruning, queue, tables
from nango_dagster.store.changes import Cursor
from nango_dagster.store.listing import RecordSelection
from nango_dagster.store.pruning import Pruned
from nango_dagster.store.target import Target as StoreTarget
from tests.writing import Target

EVER = Cursor(datetime(2999, 1, 1, tzinfo=timezone.utc), "")
UPSERT: dict[str, Any] = {"unique_key": "id"}
MODES = pytest.mark.parametrize("fields", [UPSERT, {}], ids=["upsert", "overwrite"])


def items(*ids: int) -> list[dict[str, Any]]:
    return [{"id": n, "name": f"item {n}"} for n in ids]


def records(target: Target) -> list[changes.Record]:
    return listing.page(target.db, target.dataset.id, RecordSelection(), 500).records


def prune(target: Target, until: Cursor = EVER, limit: int | None = None, *, restorable: bool = True) -> Pruned:
    return pruning.prune(target.db, target.dataset, until, limit, restorable=restorable)


@MODES
def test_only_the_payload_goes(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write(items(1, 2, 3))
    before, rows, dataset = target.raw(), target.mapped(), target.dataset
    assert prune(target) == Pruned(3, has_more=False)
    for key, row in target.raw().items():
        assert row.text is None and row.pruned_at is not None
        assert (row.first_seen_at, row.last_modified_at) == (before[key].first_seen_at, before[key].last_modified_at)
    assert target.mapped() == rows
    after = target.dataset
    assert (after.live_count, after.last_modified_at) == (dataset.live_count, dataset.last_modified_at)
    assert prune(target) == Pruned(0, has_more=False)


def test_pruning_ends_with_the_record_of_the_cursor_and_says_whether_there_is_more(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes=True)
    target.write(items(*range(250)))
    target.write(items(*range(1, 250)))  # the first one is deleted, and so the last to have changed
    order = records(target)
    until = order[219].cursor()
    assert prune(target, until, 100) == Pruned(100, has_more=True)
    assert prune(target, until, 100) == Pruned(100, has_more=True)
    assert prune(target, order[99].cursor()) == Pruned(0, has_more=False)
    assert prune(target, until, 20) == Pruned(20, has_more=False)
    assert [one.text is None for one in records(target)] == [True] * 220 + [False] * 30
    assert prune(target) == Pruned(30, has_more=False)  # deleted ones, too
    target.write(items(*range(250)))
    assert prune(target) == Pruned(250, has_more=False)


@MODES
def test_what_a_reader_pruned_comes_back_with_the_same_content(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write(items(1, 2, 3))
    before, rows, dataset = target.raw(), target.mapped(), target.dataset
    prune(target, records(target)[1].cursor())
    assert target.write(items(3, 2, 1)).counts == (0, 0, 0, 3)
    assert (target.raw(), target.mapped(), replace(target.dataset, payloads_wanted=False)) == (before, rows, dataset)
    assert prune(target) == Pruned(3, has_more=False)


@MODES
def test_another_spelling_brings_it_back_too_where_the_content_is_known(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write([b'{"id":1,"a":2}'])
    target.write([b'{"a":2,"id":1}'])
    before = target.raw()
    prune(target)
    assert target.write([b'{"a":2, "id":1}']).counts == (0, 0, 0, 1)
    (key,) = before
    assert target.raw()[key].text == '{"a":2, "id":1}'
    assert records(target)[0].last_modified_at == before[key].last_modified_at


@MODES
def test_what_was_too_old_stays_away_until_it_changes(fields: dict[str, Any], db: Database) -> None:
    target = Target(db, **fields)
    target.write(items(1, 2))
    rows = target.mapped()
    prune(target, restorable=False)
    pruned = target.raw()
    assert target.write(items(1, 2)).counts == (0, 0, 0, 2)
    assert (target.raw(), target.mapped()) == (pruned, rows)
    target.write([{"id": 1, "name": "new"}, *items(2)])
    assert sorted(target.live().values()) == ['{"id":1,"name":"new"}']
    assert sorted(row["name"] for row in target.values().values()) == ["item 2", "new"]


def test_a_pruned_record_that_changed_is_an_update_and_one_that_was_deleted_is_new(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes=True)
    target.write(items(1, 2))
    target.write(items(1))
    prune(target)
    assert target.write([{"id": 1, "name": "other"}, *items(2)]).counts == (1, 1, 0, 0)
    assert [one.action for one in records(target)] == ["updated", "added"]
    target.assert_exact()


@MODES
@pytest.mark.parametrize("restorable", [True, False])
def test_a_new_mapping_keeps_the_rows_of_pruned_records(fields: dict[str, Any], restorable: bool, db: Database) -> None:
    """They stay as they were until an execution sees the record; then they are as the mapping says."""
    target = Target(db, **fields)
    target.write(items(*range(5)))
    before = target.values()
    prune(target, records(target)[2].cursor(), restorable=restorable)
    target.configure(metadata={"company": "acme"}, **fields)
    table = tables.open_table(db, target.row.id, target.sync, None)
    assert table is not None
    assert tables.rebuild(db, table, target.dataset, target.guard) == 2
    kept = {key for key, row in target.raw().items() if row.pruned_at is not None}
    assert {key: before[key] for key in kept} == {key: target.values()[key] for key in kept}
    assert len(target.values()) == 5
    assert target.write(items(*range(5))).counts == (0, 0, 0, 5)
    assert {values["company"] for values in target.values().values()} == {"acme"}
    target.assert_exact()


def test_a_new_mapped_table_leaves_them_where_they_are_until_they_are_seen(db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write(items(1, 2))
    before = target.values()
    prune(target, records(target)[0].cursor())
    target.configure(unique_key="id", mapped_table="elsewhere")
    assert target.write(items(2)).counts == (0, 0, 0, 1)
    assert set(target.values()) == {"2"}
    target.configure(unique_key="id")
    assert target.values() == {"1": before["1"]}
    target.configure(unique_key="id", mapped_table="elsewhere")
    target.write(items(1, 2))
    assert target.values() == before


@pytest.mark.parametrize("settings_env", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_pruning_waits_for_no_longer_than_somebody_waits(settings: Settings, db: Database) -> None:
    """An execution that replaces everything may hold its lock for minutes. SQLite waits as for each writer."""
    target = Target(db, unique_key="id")
    target.write(items(1))
    other, names = open_database(settings), (target.row.id, "default", "base")
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with other.begin() as connection:
            queue.lock_dataset(connection, other, StoreTarget(*names))
            locked.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait(60)
    try:
        with pytest.raises(StoreUnavailable, match="has been locked for 1 second"):
            pruning.prune(db, target.dataset, EVER, lock_seconds=1)
    finally:
        done.set()
        holder.join()
        other.close()
    assert prune(target) == Pruned(1, has_more=False)


def test_an_execution_asks_for_the_whole_list_after_a_prune(db: Database) -> None:
    """An answer "not modified" would bring nothing back."""
    target = Target(db, unique_key="id")
    target.write(items(1))
    for restorable in (False, True):
        with db.begin() as connection:
            datasets.remember_etag(connection, target.dataset.id, "etag", whole=True)
        prune(target, restorable=restorable)
        assert target.dataset.payloads_wanted is restorable
        target.write([{"id": 1, "now": restorable}])
