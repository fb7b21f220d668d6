"""Full refresh + upsert: what changed is written, what did not is not, and every count says so."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster.errors import LeaseLost, Refused
from nango_dagster.store import Database, schema
from nango_dagster.store.key_sets import KeySet
from nango_dagster.store.upsert import BATCH_RECORDS, Upsert
from tests.writing import Target, text_of

KEYED = {"unique_key": "id"}


def items(*ids: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": id_, "name": f"item {id_}", **fields} for id_ in ids]


@pytest.fixture
def target(db: Database) -> Target:
    return Target(db, **KEYED)


def versions(target: Target) -> list[Any]:
    """The columns that change with each write, in raw and mapped rows."""
    name = target.open_table().name  # type: ignore[union-attr]
    columns = "*, xmin::text, ctid::text" if target.db.engine.name == "postgresql" else "*"
    with target.db.connect() as connection:
        return [
            connection.execute(sa.text(f"SELECT {columns} FROM {table} ORDER BY 1, 2")).all()
            for table in ("_nango_raw", f'"{name}"', "_nango_datasets", "_nango_columns")
        ]


# --- what changed ------------------------------------------------------------------------------------------------


def test_records_are_added_then_updated_or_left_alone(target: Target) -> None:
    assert target.write(items(1, 2, 3)).counts == (3, 0, 0, 0)
    target.assert_exact()
    assert target.write([*items(1), {"id": 2, "name": "other"}, *items(3, 4)]).counts == (1, 1, 0, 2)
    target.assert_exact()
    assert target.values()["2"] == {"id": 2, "name": "other"}
    assert target.dataset.live_count == 4


def test_what_did_not_change_is_not_written(target: Target) -> None:
    target.write(items(*range(50)), items(*range(50, 60)))
    before = versions(target)
    assert target.write(items(*range(50)), items(*range(50, 60))).counts == (0, 0, 0, 60)
    assert versions(target) == before


def test_another_spelling_of_the_same_content_is_no_change(target: Target) -> None:
    target.write([b'{"id":1,"a":{"x":1,"y":2},"n":1.5}', *items(2)])
    before = target.raw(), target.mapped()
    for spelling in (b'{"n": 1.5, "a": {"y": 2, "x": 1}, "id": 1}', b'{"id":1,"a":{"y":2,"x":1},"n":1.5}'):
        assert target.write([spelling, *items(2)]).counts == (0, 0, 0, 2)
        assert (target.raw(), target.mapped()) == before
    frozen = versions(target)
    assert target.write([spelling, *items(2)]).counts == (0, 0, 0, 2)
    assert versions(target) == frozen  # the spelling is remembered


def test_a_number_that_is_written_otherwise_is_a_change(target: Target) -> None:
    target.write([b'{"id":1,"price":1.10}'])
    assert target.write([b'{"id":1,"price":1.1}']).counts == (0, 1, 0, 0)
    assert target.live() == {"1": '{"id":1,"price":1.1}'}


def test_ignored_fields_are_no_change_and_are_stored_with_the_next_one(db: Database) -> None:
    target = Target(db, unique_key="id", ignore_fields=["seen", "stats.views"])
    target.write([{"id": 1, "name": "a", "seen": 1, "stats": {"views": 1}}])
    assert target.write([{"id": 1, "name": "a", "seen": 2, "stats": {"views": 2}}]).counts == (0, 0, 0, 1)
    assert target.values()["1"]["seen"] == 1
    assert target.write([{"id": 1, "name": "b", "seen": 3, "stats": {"views": 3}}]).counts == (0, 1, 0, 0)
    assert target.values()["1"]["seen"] == 3
    target.assert_exact()


def test_what_is_ignored_no_more_is_stored_also_where_it_changed_before(db: Database) -> None:
    target = Target(db, **KEYED)
    target.write(items(1, 2, 3, seen=1))
    target.configure(**KEYED, ignore_fields=["seen"])
    for seen in (2, 3, 3):
        assert target.write([*items(1, 2, seen=seen), *items(3, seen=1)]).counts == (0, 0, 0, 3)
    before = versions(target)
    assert target.write([*items(1, 2, seen=4), *items(3, seen=1)]).counts == (0, 0, 0, 3)
    assert versions(target) == before
    target.configure(**KEYED)
    assert target.write([*items(1, seen=4), *items(2, 3, seen=1)]).counts == (0, 1, 0, 2)
    assert {key: row["seen"] for key, row in target.values().items()} == {"1": 4, "2": 1, "3": 1}
    target.assert_exact()


def test_a_field_that_is_gone_is_null_and_its_column_stays(target: Target) -> None:
    target.write([{"id": 1, "a": 1, "b": 2}])
    target.write([{"id": 1, "b": 2}])
    assert target.values() == {"1": {"id": 1, "b": 2}}
    assert "a" in target.columns()


# --- when it changed -----------------------------------------------------------------------------------------------


def test_a_record_keeps_when_it_was_first_seen_and_moves_when_it_was_modified(target: Target) -> None:
    target.write(items(1, 2))
    before = target.raw()
    target.write([{"id": 1, "name": "other"}, *items(2)])
    after = target.raw()
    assert after["1"].first_seen_at == before["1"].first_seen_at
    assert after["1"].last_modified_at > before["1"].last_modified_at
    assert after["2"] == before["2"]
    assert target.dataset.last_modified_at == after["1"].last_modified_at


def test_each_transaction_has_one_time_later_than_those_before(target: Target) -> None:
    size = BATCH_RECORDS
    target.write(items(*range(size)), items(*range(size, 2 * size)), items(*range(2 * size, 2 * size + 10)))
    times = [{row.last_modified_at for key, row in target.raw().items() if int(key) // size == n} for n in range(3)]
    assert [len(one) for one in times] == [1, 1, 1]
    moments = [one.pop() for one in times]
    assert moments == sorted(set(moments))
    assert target.dataset.last_modified_at == moments[-1]


def test_time_goes_on_when_the_clock_does_not(target: Target) -> None:
    target.write(items(1))
    with target.db.begin() as connection:
        ahead = sa.text("UPDATE _nango_datasets SET last_modified_at = '2999-01-01 00:00:00.000000+00:00'")
        connection.execute(ahead)
    moments = []
    for name in ("a", "b", "c"):
        target.write([{"id": 1, "name": name}])
        moments.append(target.raw()["1"].last_modified_at)
    assert [moment.isoformat() for moment in moments] == [f"2999-01-01T00:00:00.00000{n}+00:00" for n in (1, 2, 3)]


# --- keys ----------------------------------------------------------------------------------------------------------


def test_of_records_with_the_same_key_the_last_one_wins_and_they_are_counted(target: Target) -> None:
    written = target.write([*items(1), {"id": 1, "name": "later"}, *items(2)])
    assert (written.counts, written.repeated) == ((2, 0, 0, 0), 1)
    assert target.values()["1"] == {"id": 1, "name": "later"}
    assert target.write([{"id": 1, "name": "number"}, {"id": 1.0, "name": "fraction"}]).repeated == 1
    assert target.values()["1"]["name"] == "fraction"


def test_the_last_one_wins_across_batches_also_when_it_is_what_is_stored(target: Target) -> None:
    others = [items(*range(10 + n * BATCH_RECORDS, 10 + (n + 1) * BATCH_RECORDS)) for n in range(3)]
    target.write(items(1))
    written = target.write([{"id": 1, "name": "for a moment"}, *others[0]], others[1], [*items(1), *others[2]])
    assert written.repeated == 1
    assert target.values()["1"] == {"id": 1, "name": "item 1"}
    target.assert_exact()


def test_a_record_without_a_usable_key_is_rejected_with_its_position(target: Target) -> None:
    written = target.write(items(1), [{"name": "x"}, {"id": None}, {"id": ""}, *items(2), 7])
    assert (written.counts, written.rejected) == ((2, 0, 0, 0), 4)
    assert written.reasons == (
        'record 1: unique_key "id" is missing',
        'record 2: unique_key "id" is null',
        'record 3: unique_key "id" is empty',
        'record 5: unique_key "id" is missing',
    )


def test_nought_and_false_are_keys(target: Target) -> None:
    written = target.write([{"id": 0}, {"id": False}, {"id": 0.0}])
    assert (written.counts, written.repeated) == ((2, 0, 0, 0), 1)
    assert set(target.live()) == {"0", "false"}


# --- records that vanish -------------------------------------------------------------------------------------------

TRACKED: dict[str, Any] = {"unique_key": "id", "track_deletes": True}


def test_without_track_deletes_what_is_gone_from_the_source_stays(target: Target) -> None:
    target.write(items(1, 2))
    assert target.write(items(2)).counts == (0, 0, 0, 1)
    assert set(target.live()) == {"1", "2"}


def test_a_record_that_vanished_is_marked_as_deleted_once(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2, 3))
    assert target.write(items(1, 3)).counts == (0, 0, 1, 2)
    row = target.raw()["2"]
    assert row.deleted_at == row.last_modified_at == target.dataset.last_modified_at
    assert json.loads(row.text or "") == items(2)[0]
    assert target.mapped()["2"]["_nango_deleted_at"] is not None
    target.assert_exact()
    before = versions(target)
    assert target.write(items(1, 3)).counts == (0, 0, 0, 2)
    assert versions(target) == before


def test_a_record_that_comes_back_is_new_again(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2))
    target.write(items(1))
    deleted = target.raw()["2"]
    assert target.write(items(1, 2)).counts == (1, 0, 0, 1)
    row = target.raw()["2"]
    assert row.deleted_at is None
    assert row.first_seen_at == row.last_modified_at > deleted.last_modified_at
    assert target.mapped()["2"]["_nango_deleted_at"] is None
    target.assert_exact()


def test_a_mass_deletion_is_refused_and_the_pages_are_kept(db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes={"max_fraction": 0.25, "min_rows": 20})
    target.write(items(*range(20)))
    with pytest.raises(Refused, match=r"items: 6 of 20 records are gone .* \(0\.25\) allows; nothing was deleted"):
        target.write(items(*range(14), 100))
    assert target.dataset.live_count == 21
    assert target.write(items(*range(15), 100)).counts == (0, 0, 5, 16)
    target.assert_exact()


def test_few_records_may_all_vanish(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(*range(19)))
    assert target.write().counts == (0, 0, 19, 0)
    assert target.dataset.live_count == 0
    target.assert_exact()


def test_nothing_is_deleted_when_the_list_was_not_seen_to_its_end(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2))
    assert target.write(items(1), complete=False).counts == (0, 0, 0, 1)
    assert target.dataset.live_count == 2


def test_nothing_is_deleted_when_a_record_could_not_be_read(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2))
    sentence = "nothing was deleted: a record that cannot be read may be one that seems to be gone."
    for written in (target.write(items(1), unreadable=1), target.write([*items(1), {"name": "no key"}])):
        assert written.deleted == 0
        assert sentence in written.reasons
    assert target.dataset.live_count == 2


def test_a_refused_record_hides_no_other_that_vanished(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2))
    written = target.write([*items(1), b'{"id":3,"s":"\xff"}'])  # as many keys as there are live records
    assert (written.deleted, written.rejected) == (1, 1)
    assert set(target.live()) == {"1"}


def test_a_stored_record_that_cannot_be_read_now_is_no_record_that_vanished(db: Database) -> None:
    target = Target(db, **TRACKED)
    target.write(items(1, 2))
    assert target.write([*items(1), b'{"id":2,"s":"\xff"}']).deleted == 0
    assert set(target.live()) == {"1", "2"}


# --- another unique key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [{}, {"unique_key": "name"}, {"unique_key": "id"}], ids=["none", "name", "id"])
def test_under_another_unique_key_each_record_is_there_once(db: Database, before: dict[str, Any]) -> None:
    target = Target(db, **before)
    target.write(items(1, 2, 3))
    target.configure(unique_key="code")
    page = [{**item, "code": f"c{item['id']}"} for item in items(2, 3, 4)]
    assert target.write(page[:1], complete=False).added == 1
    assert target.dataset.live_count == 4  # until the list was seen to its end
    assert target.write(page).counts == (2, 0, 3, 1)
    assert set(target.live()) == set(target.values()) == {"c2", "c3", "c4"}
    target.assert_exact()
    assert target.write(page[1:]).counts == (0, 0, 0, 2)  # from here on what is gone stays, as ever
    assert set(target.live()) == {"c2", "c3", "c4"}


def test_a_unique_key_that_no_record_has_takes_nothing_away(db: Database) -> None:
    target = Target(db)
    target.write(items(1, 2))
    target.configure(unique_key="idd")
    written = target.write(items(1, 2))
    assert (written.counts, written.rejected) == ((0, 0, 0, 0), 2)
    assert target.dataset.live_count == 2
    target.configure()
    assert target.write(items(1, 2)).counts == (0, 0, 0, 2)


@pytest.mark.parametrize("before", [{}, {"unique_key": "name"}], ids=["none", "name"])
def test_a_list_that_is_empty_when_the_unique_key_changes_takes_nothing_away(
    db: Database, before: dict[str, Any]
) -> None:
    target = Target(db, **before)
    target.write(items(*range(20)))
    target.configure(**KEYED)
    for few in (0, 9):
        with pytest.raises(Refused, match=rf'has {few} records under "id" to take the place of 2\d; nothing'):
            target.write(items(*range(few)))
        assert target.dataset.live_count == 20 + few
    assert target.write(items(*range(15))).counts == (6, 0, 20, 9)
    assert set(target.live()) == set(target.values()) == {str(id_) for id_ in range(15)}
    target.assert_exact()


def test_a_unique_key_that_changed_back_before_the_list_was_seen_leaves_no_record_twice(db: Database) -> None:
    target = Target(db, **KEYED)
    target.write(items(*range(6)))
    target.configure(unique_key="name")
    target.write(items(0, 1, 2), complete=False)
    target.configure(**KEYED)
    assert target.write(items(*range(5)), complete=False).counts == (0, 0, 0, 5)
    assert target.write(items(*range(6))).counts == (0, 0, 3, 6)
    assert set(target.live()) == set(target.values()) == {str(id_) for id_ in range(6)}
    target.assert_exact()
    assert target.write(items(1)).counts == (0, 0, 0, 1)  # from here on what is gone stays, as ever
    assert target.dataset.live_count == 6


def test_a_first_load_that_broke_off_is_no_other_unique_key(db: Database) -> None:
    target = Target(db, **KEYED)
    target.write(items(1, 2), complete=False)
    assert target.write(items(2)).counts == (0, 0, 0, 1)
    assert set(target.live()) == {"1", "2"}


# --- what else may happen -------------------------------------------------------------------------------------------


def test_pages_before_a_failure_are_kept(target: Target) -> None:
    table = target.open_table()
    writer = Upsert(target.db, target.sync, target.dataset, table, target.guard)
    writer.add([text_of(item) for item in items(*range(BATCH_RECORDS))])
    writer.add([text_of(item) for item in items(*range(BATCH_RECORDS, 2 * BATCH_RECORDS))])
    writer.settle(complete=False)
    writer.close()
    assert target.dataset.live_count == 2 * BATCH_RECORDS
    target.assert_exact()


def test_nothing_is_written_once_the_lease_is_lost(target: Target) -> None:
    def guard(connection: sa.Connection) -> None:
        raise LeaseLost("lease lost to run abc.")

    writer = Upsert(target.db, target.sync, target.dataset, target.open_table(), guard)
    writer.add([text_of(item) for item in items(1)])
    with pytest.raises(LeaseLost):
        writer.flush()
    writer.close()
    assert target.raw() == {}
    assert target.values() == {}


@dataclass(frozen=True)
class _Interrupted(Database):
    """A database whose next transaction ends with an interrupt, just after it was committed."""

    interrupts: list[BaseException] = field(default_factory=list)

    def transact(self, work: Callable[[sa.Connection], Any], patience: float | None = None) -> Any:
        result = super().transact(work, patience)
        if self.interrupts:
            raise self.interrupts.pop()
        return result


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_batch_whose_commit_is_interrupted_is_stored_and_counted_once(target: Target, is_committed: bool) -> None:
    interrupts: list[BaseException] = [KeyboardInterrupt()]

    def guard(connection: sa.Connection) -> None:
        target.guard(connection)
        if not is_committed and interrupts:
            raise interrupts.pop()

    db = _Interrupted(target.db.engine, target.db.schema, interrupts=interrupts if is_committed else [])
    writer = Upsert(db, target.sync, target.dataset, target.open_table(), guard)
    writer.add([text_of(item) for item in items(1, 2)])
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    assert target.dataset.live_count == (2 if is_committed else 0)
    writer.settle(complete=False)
    writer.close()
    assert writer.tally.added + writer.tally.unchanged == 2
    assert target.dataset.live_count == 2
    target.assert_exact()


def test_a_batch_is_compared_again_when_somebody_changed_its_records(target: Target) -> None:
    """The guard is the last moment before a batch is written."""
    target.write([{"id": 1, "name": "a"}])
    meddled = threading.Event()

    def guard(connection: sa.Connection) -> None:
        target.guard(connection)
        if not meddled.is_set():
            meddled.set()
            row = schema.raw
            connection.execute(sa.update(row).values(byte_hash=b"x" * 16, content_hash=b"y" * 16))

    writer = Upsert(target.db, target.sync, target.dataset, target.open_table(), guard)
    writer.add([text_of(item) for item in ({"id": 1, "name": "b"}, {"id": 2, "name": "c"})])
    writer.flush()
    writer.close()
    assert meddled.is_set()
    assert (writer.tally.added, writer.tally.updated) == (1, 1)
    assert target.values() == {"1": {"id": 1, "name": "b"}, "2": {"id": 2, "name": "c"}}


def test_connections_and_models_of_one_table_are_told_apart(db: Database) -> None:
    ann, bob = Target(db, connection="ann", **TRACKED), Target(db, connection="bob", **TRACKED)
    ann.write(items(1, 2))
    bob.write(items(1))
    bob.write([{"id": 1, "name": "bob's"}])
    ann.write(items(2))
    assert ann.values()["2"] == items(2)[0]
    assert bob.values() == {"1": {"id": 1, "name": "bob's"}}
    for one in (ann, bob):
        one.assert_exact()


def test_syncs_write_side_by_side(db: Database) -> None:
    targets = [Target(db, connection=f"c{n}", **TRACKED) for n in range(4)]
    errors: list[BaseException] = []

    def work(target: Target, seed: int) -> None:
        try:
            for turn in range(3):
                target.write(items(*range(turn, 40), **{f"field_{seed}_{turn}": turn}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(target, n)) for n, target in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for target in targets:
        target.assert_exact()
        assert target.dataset.live_count == 38


def test_without_auto_mapping_only_the_raw_records_are_kept(db: Database) -> None:
    target = Target(db, unique_key="id", auto_mapping=False, track_deletes=True)
    target.write(items(1, 2))
    assert target.write(items(2)).counts == (0, 0, 1, 1)
    target.assert_exact()
    with db.connect() as connection:
        assert not [name for name in sa.inspect(connection).get_table_names() if name.startswith("_nango_sync_")]


@given(data=st.data())
@hypothesis_settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_executions_the_rows_are_the_last_version_of_each_record(db: Database, data: st.DataObject) -> None:
    target = Target(db, name=f"sync-{uuid.uuid4().hex}", unique_key="id", track_deletes={"max_fraction": 1.0})
    record = st.tuples(st.integers(0, 6), st.integers(0, 3)).map(lambda pair: {"id": pair[0], "v": pair[1]})
    lists = st.lists(record, max_size=8)
    live: dict[str, str] = {}
    for _ in range(data.draw(st.integers(1, 4))):
        page, complete = data.draw(lists), data.draw(st.booleans())
        new = {str(record["id"]): text_of(record).decode() for record in page}
        written = target.write(page[:4], page[4:], complete=complete)
        vanished = set(live) - set(new) if complete else set()
        assert written.counts == (
            len(set(new) - set(live)),
            sum(key in live and live[key] != text for key, text in new.items()),
            len(vanished),
            sum(live.get(key) == text for key, text in new.items()),
        )
        assert written.repeated == len(page) - len(new)
        live = {key: text for key, text in {**live, **new}.items() if key not in vanished}
        assert target.live() == live
        target.assert_exact()


# --- which keys were seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [0, 3, 1000])
def test_seen_keys_are_known_in_memory_and_in_a_file(in_memory: int) -> None:
    seen = KeySet(in_memory)
    known: set[str] = set()
    chance = random.Random(1)
    for _ in range(20):
        keys = [str(chance.randrange(60)) for _ in range(10)]
        assert seen.add(keys) == 10 - len(set(keys) - known)
        known.update(keys)
        assert len(seen) == len(known)
    everything = [str(n) for n in range(80)]
    assert seen.missing(everything) == [key for key in everything if key not in known]
    seen.close()
