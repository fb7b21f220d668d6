"""A page that the database writes down is the page that would be put together record by record."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nango_dagster.store import Database, listing, pruning, written
from nango_dagster.store.listing import ACTIONS, Action, Names, Wanted
from tests.strategies import json_values
from tests.writing import Target

slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)


def names_of(target: Target) -> Names:
    of = target.dataset
    return Names(of.integration, of.connection_id, of.variant, of.model)


def metadata_of(record: listing.Record) -> dict[str, Any]:
    """As contract/nango-modern.md section 1 says it, made of the times alone."""
    times = {name: getattr(record, name) for name in ("first_seen_at", "last_modified_at", "deleted_at", "pruned_at")}
    said = {name: at and at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" for name, at in times.items()}
    return {**said, "last_action": record.action.upper(), "cursor": str(record.cursor)}


def put_together(record: listing.Record) -> dict[str, Any]:
    known = {"id": record.external_id} if record.text is None else json.loads(record.text)
    return {**known, "_nango_metadata": metadata_of(record)}


def assert_same(target: Target, wanted: Wanted, limit: int) -> written.Written:
    names = names_of(target)
    page = written.page_of(target.db, names, wanted, limit)
    assert page is not None
    slowly = listing.page_of(target.db, names, wanted, limit)
    records, next_ = (slowly[0].records, slowly[0].next) if slowly else ([], None)
    assert [json.loads(text) for text in page.records] == [put_together(one) for one in records]
    assert page.next == (str(next_).encode() if next_ else None)
    return page


@slow
@given(
    records=st.dictionaries(keys, json_values, min_size=1, max_size=8),
    changed=st.sets(st.integers(0, 7)),
    gone=st.sets(st.integers(0, 7)),
    pruned=st.integers(0, 8),
    actions=st.sets(st.sampled_from(ACTIONS), min_size=1),
    limit=st.integers(1, 9),
    number=st.integers(0, 10**9),
)
def test_it_is_the_same_page_whatever_the_records_are_and_became(
    records: dict[str, Any],
    changed: set[int],
    gone: set[int],
    pruned: int,
    actions: Collection[Action],
    limit: int,
    number: int,
    db: Database,
) -> None:
    target = Target(
        db,
        connection=f"c{number}",
        unique_key="id",
        track_deletes={"max_fraction": 1.0, "min_rows": 0},
        auto_mapping=False,
    )
    texts = [{"id": key, "value": value} for key, value in records.items()]
    target.write(texts)
    again = [{**one, "changed": True} if at in changed else one for at, one in enumerate(texts) if at not in gone]
    target.write(again)
    if pruned:
        order = listing.page(db, target.dataset.id, Wanted(), 100).records
        pruning.prune(db, target.dataset, order[min(pruned, len(order)) - 1].cursor)
    page = assert_same(target, Wanted(actions=actions), limit)
    assert_same(target, Wanted(ids=[*records][:3]), limit)
    if page.next is not None:
        assert_same(target, Wanted(after=listing.Cursor.read(page.next.decode()), actions=actions), limit)


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        ({"number": 1}, {"unique_key": "number"}),
        ({"id": 1, "_nango_metadata": {"cursor": "theirs"}}, {"unique_key": "id"}),
        ({"id": 1, "text": "_nango_metadata"}, {"unique_key": "id"}),
        ("red", {}),
        (7, {}),
        ({"id": 1}, {}),
    ],
)
def test_a_record_that_has_to_be_taken_apart_is_left_to_who_can(
    db: Database, record: Any, fields: dict[str, Any]
) -> None:
    target = Target(db, **fields, auto_mapping=False)
    target.write([record])
    assert written.page_of(db, names_of(target), Wanted(), 10) is None
    assert listing.page_of(db, names_of(target), Wanted(), 10) is not None


def test_nothing_to_read_is_an_empty_page(db: Database) -> None:
    target = Target(db, unique_key="id", auto_mapping=False)
    assert written.page_of(db, names_of(target), Wanted(), 10) == ([], None)


def test_a_page_of_large_records_is_short_and_leads_on(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "MOST_BYTES", 10_000)
    target = Target(db, unique_key="id", auto_mapping=False)
    target.write([{"id": n, "text": "x" * (4_000 if n != 3 else 20_000)} for n in range(6)])
    found: list[list[int]] = []
    wanted = Wanted()
    while True:
        page = written.page_of(db, names_of(target), wanted, 100)
        assert page is not None
        found.append([json.loads(text)["id"] for text in page.records])
        if page.next is None:
            break
        wanted = Wanted(after=listing.Cursor.read(page.next.decode()))
    assert found == [[0, 1], [2], [3], [4, 5]]
