"""The conformance suite of a database's bulk rows: a new database is a new module that makes it pass."""

from __future__ import annotations

from datetime import timedelta

import pytest

from nango_dagster import clock
from nango_dagster.store import Database
from nango_dagster.store.rows import KnownRecord, RawRow, RawTable
from tests.writing import Target

NOW = clock.now().replace(microsecond=1)
LATER = NOW + timedelta(seconds=1)


def row(key: str, number: int = 0, content: bytes | None = None) -> RawRow:
    return RawRow(key, bytes([number]) * 16, content, f'{{"id": "{key}", "n": {number}}}'.encode())


@pytest.fixture
def target(db: Database) -> Target:
    return Target(db, unique_key="id", auto_mapping=False)


def change(target: Target, work: object) -> None:
    """Execute `work` on the raw table in a transaction."""
    assert callable(work)
    dataset_id = target.dataset.id
    with target.db.begin() as connection:
        work(target.db.rows.raw(connection, dataset_id))


def raw(target: Target, keys: list[str]) -> dict[str, KnownRecord]:
    dataset_id = target.dataset.id
    with target.db.connect() as connection:
        return target.db.rows.raw(connection, dataset_id).look_up(keys)


def test_stored_records_are_found_by_their_keys(target: Target) -> None:
    change(target, lambda table: table.put(1, [row("a", 1), row("ä", 2, b"c" * 16)], [], NOW))
    assert raw(target, ["a", "ä", "none"]) == {
        "a": KnownRecord(b"\1" * 16, None, None),
        "ä": KnownRecord(b"\2" * 16, b"c" * 16, None),
    }


def test_only_records_that_are_not_stored_exactly_so_differ(target: Target) -> None:
    change(target, lambda table: table.put(1, [row("a", 1), row("b", 1), row("c", 1)], [], NOW))
    change(target, lambda table: table.mark_deleted(["c"], LATER, keep_data=True))
    dataset_id = target.dataset.id
    with target.db.connect() as connection:
        table = target.db.rows.raw(connection, dataset_id)
        differing = table.differing({"a": b"\1" * 16, "b": b"\2" * 16, "c": b"\1" * 16, "d": b"\1" * 16})
    assert differing == {
        "b": KnownRecord(b"\1" * 16, None, None),
        "c": KnownRecord(b"\1" * 16, None, "deleted"),
        "d": None,
    }


def test_thousands_of_keys_are_looked_up_at_once(target: Target) -> None:
    rows = [row(f"{n:05}") for n in range(2500)]
    change(target, lambda table: table.put(1, rows, [], NOW))
    assert len(raw(target, [row.external_id for row in rows])) == 2500


def test_a_replaced_record_keeps_when_it_was_first_seen_and_one_that_comes_back_does_not(target: Target) -> None:
    change(target, lambda table: table.put(1, [row("live"), row("gone")], [], NOW))
    change(target, lambda table: table.mark_deleted(["gone"], NOW, keep_data=False))
    change(target, lambda table: table.put(1, [row("live", 2), row("gone", 2)], ["live", "gone"], LATER))
    stored = target.raw()
    assert (stored["live"].first_seen_at, stored["live"].last_modified_at) == (NOW, LATER)
    assert (stored["gone"].first_seen_at, stored["gone"].deleted_at) == (LATER, None)


def test_a_pruned_record_is_wanted_back_until_it_is_restored(target: Target) -> None:
    change(target, lambda table: table.put(1, [row("a"), row("b")], [], NOW))
    change(target, lambda table: table.prune(["a"], LATER, wanted=True, own_id=True))
    change(target, lambda table: table.prune(["b"], LATER, wanted=False, own_id=True))
    assert {key: known.payload_wanted for key, known in raw(target, ["a", "b"]).items()} == {"a": True, "b": False}
    change(target, lambda table: table.want_payloads(["b"]))
    change(target, lambda table: table.restore([row("a", 1), row("b", 1)]))
    assert not any(known.payload_wanted for known in raw(target, ["a", "b"]).values())
    assert [(stored.text, stored.pruned_at) for stored in target.raw().values()] == [
        ('{"id": "a", "n": 1}', None),
        ('{"id": "b", "n": 1}', None),
    ]


def test_hashes_are_refreshed_but_not_those_of_a_record_whose_payload_is_wanted(target: Target) -> None:
    change(target, lambda table: table.put(1, [row("a"), row("b")], [], NOW))
    change(target, lambda table: table.prune(["b"], LATER, wanted=True, own_id=True))
    change(target, lambda table: table.refresh_hashes([(key, b"n" * 16, b"c" * 16) for key in ("a", "b")]))
    assert {key: known.byte_hash for key, known in raw(target, ["a", "b"]).items()} == {"a": b"n" * 16, "b": b"\0" * 16}


def test_live_keys_and_rows_are_read_in_batches(target: Target) -> None:
    change(target, lambda table: table.put(1, [row(key) for key in "cab"], [], NOW))
    change(target, lambda table: table.mark_deleted(["a"], NOW, keep_data=True))

    def read(table: RawTable) -> None:
        assert list(table.live_keys(size=1)) == [["b"], ["c"]]
        assert sorted(key for (key,) in table.live_rows("external_id")) == ["b", "c"]
        assert table.texts(["b", "a"]).keys() == {"a", "b"}
        assert table.some_keys(1) == ["b", "c"]

    change(target, read)
