"""The page on stored state is true: the effect of a changed URL, key, mapping and model on records and on readers."""

from __future__ import annotations

from nango_dagster.settings import Settings
from nango_dagster.store import Database, datasets, listing
from nango_dagster.store.changes import Cursor
from nango_dagster.store.listing import RecordSelection
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, assert_exact, execute, items
from tests.fake_api import FakeApi


def changes(db: Database, row: SyncRow, after: Cursor | None = None) -> tuple[list[tuple[str, str]], Cursor]:
    """The action and the key of each change after a cursor, and the cursor of the last change."""
    with db.connect() as connection:
        (dataset,) = datasets.of_sync(connection, row.id)
    records = listing.page(db, dataset.id, RecordSelection(after=after), limit=100).records
    cursor = records[-1].cursor(dataset.id) if records else after
    assert cursor is not None
    return [(record.action, record.external_id) for record in records], cursor


def test_after_a_new_url_the_rows_stay_and_readers_keep_their_cursors(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    old, new = Source(api, items(1, 2)), Source(api, items(2, 3), path="/v2/items")
    row = old.registered(db, unique_key="id")
    execute(db, settings, row)
    _, cursor = changes(db, row)
    moved = new.registered(db, unique_key="id")
    assert moved.id == row.id
    execute(db, settings, moved)
    assert_exact(db, moved, items(1, 2, 3))
    assert changes(db, moved, cursor)[0] == [("added", "3")]


def test_after_a_new_key_the_records_are_added_under_it_and_deleted_under_the_old_one(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, [{"id": 1, "code": "a"}, {"id": 2, "code": "b"}])
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    _, cursor = changes(db, row)
    execute(db, settings, source.registered(db, unique_key="code"))
    assert_exact(db, row, source.records)
    by_action = sorted(changes(db, row, cursor)[0])
    assert by_action == [("added", "a"), ("added", "b"), ("deleted", "1"), ("deleted", "2")]


def test_after_a_new_mapping_the_stored_records_are_mapped_again_and_readers_see_no_change(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, items(1, 2))
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    _, cursor = changes(db, row)
    changed = source.registered(db, unique_key="id", metadata={"source": "crm"}, mapped_table="people")
    execute(db, settings, changed)
    assert_exact(db, changed, items(1, 2), source="crm")
    assert changes(db, changed, cursor)[0] == []


def test_after_a_new_model_the_records_have_the_new_name_and_readers_keep_their_cursors(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, items(1, 2))
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    _, cursor = changes(db, row)
    renamed = source.registered(db, unique_key="id", model="Person")
    source.records = items(1, 2, 3)
    execute(db, settings, renamed)
    assert changes(db, renamed, cursor)[0] == [("added", "3")]
