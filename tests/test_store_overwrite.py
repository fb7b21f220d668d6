"""Full refresh + overwrite: the rows are the last complete list, all or nothing, and only the difference is written."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster.errors import ConfigError, Refused
from nango_dagster.store import Database, schema
from nango_dagster.store.overwrite import BATCH_RECORDS, TOMBSTONES_STAY, Overwrite
from tests.test_store_upsert import versions
from tests.writing import Target, text_of


@pytest.fixture
def target(db: Database) -> Target:
    return Target(db)


def names(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def live(target: Target) -> list[str]:
    """The names of the live rows, raw and mapped alike."""
    target.assert_exact()
    found = sorted(row["name"] for row in target.values().values())
    assert sorted(target.live().values()) == sorted(text_of({"name": name}).decode() for name in found)
    return found


# --- the difference ------------------------------------------------------------------------------------------------


def test_the_rows_are_those_of_the_last_list(target: Target) -> None:
    assert target.write(names("a", "b")).counts == (2, 0, 0, 0)
    assert live(target) == ["a", "b"]
    assert target.write(names("b", "c", "d")).counts == (2, 0, 1, 1)
    assert live(target) == ["b", "c", "d"]


def test_an_unchanged_list_writes_nothing_whatever_its_order(target: Target) -> None:
    target.write(names("a", "b", "a", "c"))
    before = versions(target)
    assert target.write(names("c", "a"), names("a", "b")).counts == (0, 0, 0, 4)
    assert versions(target) == before


def test_only_the_difference_is_written(target: Target) -> None:
    target.write(names("a", "b", "c"))
    before = target.raw()
    target.write(names("a", "c", "d"))
    after = target.raw()
    kept = [key for key, row in before.items() if row.text and '"b"' not in row.text]
    assert [after[key] for key in kept] == [before[key] for key in kept]
    changed = {row.last_modified_at for key, row in after.items() if key not in kept}
    assert len(changed) == 1
    assert changed == {target.dataset.last_modified_at}


def test_equal_records_are_told_apart_by_a_counter(target: Target) -> None:
    assert target.write(names("a", "a", "a")).counts == (3, 0, 0, 0)
    hashes = {key.rpartition("-")[0] for key in target.raw()}
    assert len(hashes) == 1
    assert {key.rpartition("-")[2] for key in target.raw()} == {"0", "1", "2"}
    assert target.write(names("a")).counts == (0, 0, 2, 1)
    assert target.write(names("a", "a", "a", "a")).counts == (3, 0, 0, 1)
    assert live(target) == ["a", "a", "a", "a"]


def test_the_same_content_in_another_spelling_is_the_same_record(target: Target) -> None:
    target.write([b'{"a":1,"b":2}', b'{"a":1,"b":2}'])
    before = target.raw(), target.mapped()
    assert target.write([b'{"b":2,"a":1}', b'{"a": 1, "b": 2}']).counts == (0, 0, 0, 2)
    assert (target.raw(), target.mapped()) == before
    assert target.write([b'{"b":2,"a":1}', b'{"a":1,"b":2}', b'{"a":1,"b": 2}']).counts == (1, 0, 0, 2)
    target.assert_exact()


def test_ignored_fields_tell_no_records_apart(db: Database) -> None:
    target = Target(db, ignore_fields=["seen"])
    target.write([{"name": "a", "seen": 1}, {"name": "b", "seen": 1}])
    assert target.write([{"name": "b", "seen": 2}, {"name": "a", "seen": 3}]).counts == (0, 0, 0, 2)
    assert target.write([{"name": "b", "seen": 2}, {"name": "b", "seen": 3}]).counts == (1, 0, 1, 1)


def test_what_is_ignored_no_more_is_stored_also_where_it_changed_before(db: Database) -> None:
    target = Target(db)
    target.write([{"id": 1, "seen": 1}, {"id": 2, "seen": 1}])
    target.configure(ignore_fields=["seen"])
    assert target.write([{"id": 1, "seen": 1}, {"id": 2, "seen": 1}]).counts == (0, 0, 0, 2)
    target.write([{"id": 1, "seen": 1}, {"id": 3, "seen": 1}])
    for seen in (2, 2, 3):
        assert target.write([{"id": 1, "seen": 1}, {"id": 3, "seen": seen}]).counts == (0, 0, 0, 2)
    target.configure()
    assert target.write([{"id": 1, "seen": 1}, {"id": 3, "seen": 3}]).counts == (1, 0, 1, 1)
    assert sorted(target.live().values()) == ['{"id":1,"seen":1}', '{"id":3,"seen":3}']
    target.assert_exact()


def test_an_empty_complete_answer_empties_the_table(target: Target) -> None:
    target.write(names("a", "b"))
    assert target.write([]).counts == (0, 0, 2, 0)
    assert live(target) == []
    assert target.dataset.live_count == 0
    assert target.write([]).counts == (0, 0, 0, 0)


def test_records_need_not_be_objects(target: Target) -> None:
    assert target.write([b"1", b'"x"', b"null", b"[1]", b"1"]).counts == (5, 0, 0, 0)
    assert target.write([b"1", b'"x"', b"null", b"[1]", b"1"]).counts == (0, 0, 0, 5)
    assert sorted(target.live().values()) == sorted(["1", "1", '"x"', "null", "[1]"])
    target.assert_exact({"value": 1})  # the text, in a column of numbers


def test_more_records_than_a_batch_holds(target: Target) -> None:
    many = names(*(f"n{number}" for number in range(2 * BATCH_RECORDS + 10)))
    assert target.write(many[:100], many[100:]).counts == (len(many), 0, 0, 0)
    assert target.write(many[10:]).counts == (0, 0, 10, len(many) - 10)
    assert len(live(target)) == len(many) - 10


# --- all or nothing -------------------------------------------------------------------------------------------------


def test_an_incomplete_list_changes_nothing(target: Target) -> None:
    target.write(names("a", "b"))
    before = versions(target)
    assert target.write(names("b", "c"), complete=False).counts == (0, 0, 0, 0)
    assert versions(target) == before


def test_nothing_is_visible_before_the_end(target: Target) -> None:
    target.write(names("a"))
    writer = Overwrite(target.db, target.sync, target.dataset, target.open_table(), target.guard)
    writer.add([text_of(name) for name in names("b", "c")])
    writer.settle(complete=True)
    assert live(target) == ["a"]
    with pytest.raises(RuntimeError, match="the end"), target.db.begin() as connection:
        writer.finish(connection)
        raise RuntimeError("the end")
    writer.close()
    assert live(target) == ["a"]


@pytest.mark.parametrize("has_unstorable_record", [False, True], ids=["all_storable", "one_unstorable"])
def test_a_transaction_that_is_repeated_counts_once(target: Target, has_unstorable_record: bool) -> None:
    target.write(names("a", "b"))
    # A list with a rejected record deletes nothing, so that it keeps "a".
    records = [text_of(name) for name in (names("a", "b", "c") if has_unstorable_record else names("b", "c"))]
    if has_unstorable_record:
        records.append(b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    writer = Overwrite(target.db, target.sync, target.dataset, target.open_table(), target.guard)
    writer.add(records)
    writer.settle(complete=True)
    for _ in range(2):
        with target.db.engine.sqlalchemy.connect() as connection, connection.begin() as transaction:
            writer.finish(connection)
            transaction.rollback()
    target.db.transact(writer.finish)
    writer.close()
    rejected = 1 if has_unstorable_record and target.db.engine.name == "postgresql" else 0
    tally = writer.tally
    if has_unstorable_record:
        assert (tally.added, tally.deleted, tally.unchanged, tally.rejected) == (2 - rejected, 0, 2, rejected)
        assert target.dataset.live_count == 4 - rejected
    else:
        assert (tally.added, tally.deleted, tally.unchanged, tally.rejected) == (1, 1, 1, 0)
        assert target.dataset.live_count == 2


def test_rows_are_kept_where_the_database_rejects_a_record_and_others_seem_to_have_vanished(target: Target) -> None:
    target.write(names("a", "b"))
    unstorable = b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    writer = Overwrite(target.db, target.sync, target.dataset, target.open_table(), target.guard)
    writer.add([text_of(name) for name in names("b")] + [unstorable])
    writer.settle(complete=True)
    if target.db.engine.name == "postgresql":
        with pytest.raises(
            Refused,
            match="1 record could not be stored and the list lacks 1 record, so nothing was deleted",
        ):
            target.db.transact(writer.finish)
        assert live(target) == ["a", "b"]
    else:  # SQLite stores a text of any depth
        target.db.transact(writer.finish)
        assert target.dataset.live_count == 2
    writer.close()


def test_a_field_that_the_mapping_forbids_leaves_the_old_rows(db: Database) -> None:
    mapping = {"columns": {"name": {"path": "name", "type": "string"}}, "extra": "fail"}
    target = Target(db, mapping=mapping)
    target.write(names("a"))
    with pytest.raises(ConfigError, match=r"fields that mapping.columns does not declare: other"):
        target.write([*names("b"), {"name": "c", "other": 1}])
    assert live(target) == ["a"]


# --- tombstones ------------------------------------------------------------------------------------------------------


def test_a_vanished_record_leaves_the_table_and_stays_as_a_tombstone_without_payload(target: Target) -> None:
    target.write(names("a", "b"))
    target.write(names("a"))
    (tombstone,) = [row for row in target.raw().values() if row.deleted_at]
    assert tombstone.text is None
    assert tombstone.deleted_at == tombstone.last_modified_at == target.dataset.last_modified_at
    assert live(target) == ["a"]


def test_a_record_that_comes_back_takes_its_tombstones_place(target: Target) -> None:
    target.write(names("a", "b", "b"))
    target.write(names("a"))
    assert target.write(names("a", "b")).counts == (1, 0, 0, 1)
    assert live(target) == ["a", "b"]
    assert len(target.raw()) == 3  # one of the two is still gone
    (row,) = [row for row in target.raw().values() if row.text and "b" in row.text]
    assert row.first_seen_at == row.last_modified_at


def test_tombstones_go_after_30_days(target: Target) -> None:
    target.write(names("a", "b", "c"))
    target.write(names("a", "b"))
    row = schema.raw
    old = target.raw_now() - TOMBSTONES_STAY - timedelta(minutes=1)
    with target.db.begin() as connection:
        connection.execute(sa.update(row).where(row.c.deleted_at.is_not(None)).values(deleted_at=old))
    target.write(names("a"))
    assert Counter(row.deleted_at is None for row in target.raw().values()) == {True: 1, False: 1}
    assert live(target) == ["a"]


# --- other configs before and after -----------------------------------------------------------------------------------


def test_a_sync_that_loses_its_unique_key_replaces_the_rows_it_has(db: Database) -> None:
    target = Target(db, unique_key="name", track_deletes=True)
    target.write([*names("a", "b", "x-7", "9" * 30), {"name": "c", "v": 1}])
    target.write([*names("a", "b", "x-7", "9" * 30)])
    target.configure()
    assert target.write(names("a", "x-7", "d")).counts == (1, 0, 2, 2)
    assert sorted(target.live().values()) == ['{"name":"a"}', '{"name":"d"}', '{"name":"x-7"}']
    assert target.write(names("a", "a", "x-7")).counts == (1, 0, 1, 2)
    assert target.dataset.live_count == 3


@given(data=st.data())
@hypothesis_settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_refreshes_the_rows_are_the_last_complete_list(db: Database, data: st.DataObject) -> None:
    target = Target(db, name=f"sync-{uuid.uuid4().hex}", ignore_fields=["seen"])
    record = st.sampled_from(
        ['{"a":1}', '{"a": 1}', '{"a":1,"seen":2}', '{"a":1,"b":2}', '{"b":2,"a":1}', '{"c":"x"}', "5"]
    )
    content = {text: text.replace(" ", "").replace(',"seen":2', "") for text in ('{"a": 1}', '{"a":1,"seen":2}')}
    content['{"b":2,"a":1}'] = '{"a":1,"b":2}'
    now: Counter[str] = Counter()
    for _ in range(data.draw(st.integers(1, 4))):
        page, complete = data.draw(st.lists(record, max_size=8)), data.draw(st.booleans())
        written = target.write([text.encode() for text in page], complete=complete)
        if not complete:
            assert written.counts == (0, 0, 0, 0)
            continue
        new = Counter(content.get(text, text) for text in page)
        added, gone = (new - now).total(), (now - new).total()
        assert written.counts == (added, 0, gone, len(page) - added)
        now = new
        assert Counter(content.get(text, text) for text in target.live().values()) == now
        target.assert_exact()
