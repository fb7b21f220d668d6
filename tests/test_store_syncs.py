"""A sync keeps its id; it is known by its name, or by its body where it was posted without one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync, from_body
from nango_dagster.errors import LeaseLost, Refused
from nango_dagster.store import Database, datasets, jobs, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.target import Target

URL = "https://api.example.com/items"


def sync(name: str = "items", **fields: Any) -> Sync:
    return Sync(**{"name": name, "url": URL, **fields})


def registered(db: Database, name: str = "items", **fields: Any) -> SyncRow:
    return syncs.register(db, [sync(name, **fields)])[name]


def registered_for(db: Database, integration: str, name: str = "items") -> SyncRow:
    """A sync of an integration, as a later release would have stored it."""
    row = registered(db, name)
    with db.begin() as connection:
        found = sa.update(schema.syncs).where(schema.syncs.c.id == row.id)
        connection.execute(found.values(integration=integration))
    return row


def posted(db: Database, **body: Any) -> SyncRow:
    return syncs.post(db, from_body({"url": URL, **body}), named="name" in body)


def schedule_names(db: Database, sync_id: int) -> list[tuple[str, str, str]]:
    return [(row.connection_id, row.variant, row.state) for row in queue.schedules(db, [sync_id])]


def at_once(*works: Callable[[], object]) -> None:
    """Do things at the same time; an error in one of them is raised here."""
    errors: list[BaseException] = []
    together = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            together.wait(10)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --- from files -----------------------------------------------------------------------------------------------------


def test_a_registered_sync_is_found_by_its_id_and_by_its_name(db: Database) -> None:
    row = registered(db, friendly_name="My items", frequency=15)
    assert syncs.get(db, row.id) == row == syncs.by_name(db, "items") == syncs.by_name(db, "items", "default")
    assert syncs.all(db) == [row]
    assert row.sync == sync(friendly_name="My items", frequency=15)
    assert (row.integration, row.origin) == ("default", "file")


def test_a_sync_that_nobody_registered_is_not_found(db: Database) -> None:
    assert syncs.get(db, 7) is None
    assert syncs.by_name(db, "items") is None
    assert syncs.by_name(db, "items", "github") is None


def test_registering_again_writes_nothing_and_keeps_the_id(db: Database) -> None:
    first = registered(db)
    assert registered(db) == first
    assert len(queue.schedules(db)) == 1


def test_a_changed_config_keeps_the_id_and_is_dated(db: Database) -> None:
    first = registered(db)
    changed = registered(db, unique_key="id")
    assert changed.id == first.id
    assert changed.created_at == first.created_at
    assert changed.updated_at > first.updated_at
    assert syncs.get(db, first.id) == changed
    assert changed.sync.unique_key == "id"


def test_a_renamed_sync_keeps_its_id(db: Database) -> None:
    first = registered(db, "old")
    renamed = registered(db, "new", renamed_from="old")
    assert (renamed.id, renamed.name) == (first.id, "new")
    assert registered(db, "new", renamed_from="old") == renamed
    assert syncs.by_name(db, "old") is None


def test_a_sync_does_not_take_over_the_rows_of_one_that_still_exists(db: Database) -> None:
    first = registered(db, "old")
    rows = syncs.register(db, [sync("new", renamed_from="old"), sync("old")])
    assert rows["old"].id == first.id
    assert rows["new"].id != first.id


def test_two_integrations_may_have_a_sync_of_one_name(db: Database) -> None:
    github, here = registered_for(db, "github"), registered(db)
    assert github.id != here.id
    assert syncs.by_name(db, "items", "default") == here
    found = syncs.by_name(db, "items", "github")
    assert found is not None
    assert found.id == github.id
    with pytest.raises(Refused, match="several integrations have a sync items: github, default"):
        syncs.by_name(db, "items")


def test_a_sync_that_is_not_partitioned_gets_its_one_schedule(db: Database) -> None:
    assert schedule_names(db, registered(db).id) == [("default", "base", "STARTED")]
    waiting = registered(db, "waiting", pizzly_connection_id="ann", auto_start=False)
    assert schedule_names(db, waiting.id) == [("ann", "base", "PAUSED")]
    assert schedule_names(db, registered(db, "many", integration="github").id) == []


def test_a_pause_survives_the_next_registration(db: Database) -> None:
    row = registered(db)
    queue.set_state(db, row.id, "PAUSED")
    registered(db, unique_key="id")
    assert schedule_names(db, row.id) == [("default", "base", "PAUSED")]


def test_another_connection_in_the_config_replaces_the_schedule(db: Database) -> None:
    row = registered(db, pizzly_connection_id="ann")
    registered(db, pizzly_connection_id="bob")
    assert schedule_names(db, row.id) == [("bob", "base", "STARTED")]


def test_a_schedule_that_is_being_executed_stays_until_it_is_done(db: Database) -> None:
    row = registered(db, pizzly_connection_id="ann")
    worker = queue.start_worker(db, row.id, "run")
    queue.claim(db, worker, limit=1, slot=None, force=True)
    registered(db, pizzly_connection_id="bob")
    assert [name for name, _, _ in schedule_names(db, row.id)] == ["ann", "bob"]
    queue.end_worker(db, worker)
    registered(db, pizzly_connection_id="bob")
    assert [name for name, _, _ in schedule_names(db, row.id)] == ["bob"]


def test_two_processes_may_register_at_once(db: Database) -> None:
    wanted = [sync(f"sync{number}") for number in range(20)]
    at_once(*[lambda: syncs.register(db, wanted), lambda: syncs.register(db, wanted[::-1])] * 2)
    rows = syncs.all(db)
    assert sorted(row.name for row in rows) == sorted(one.name for one in wanted)
    assert sorted(row.id for row in rows) == list(range(1, 21))
    assert len(queue.schedules(db)) == 20


def test_a_stored_config_that_cannot_be_read_hides_no_other(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    registered(db, "good")
    bad = registered(db, "bad")
    with db.begin() as connection:
        connection.execute(sa.update(schema.syncs).where(schema.syncs.c.id == bad.id).values(config='{"url": 1}'))
    assert [row.name for row in syncs.all(db)] == ["good"]
    assert "sync bad (id 2) is left out" in caplog.text


def test_the_table_shows_what_the_sync_does_and_no_secret(db: Database) -> None:
    registered(db, url="https://me:pw@api.example.com/items?api_key=k&page=2", frequency=90, mapped_table="things")
    registered(db, "nightly", cron="0 3 * * *", method="POST", friendly_name="Night")
    with db.connect() as connection:
        rows = connection.execute(sa.select(schema.syncs).order_by(schema.syncs.c.id)).all()
    assert rows[0].url == "https://***@api.example.com/items?api_key=***&page=2"
    assert (rows[0].frequency, rows[0].mapped_table, rows[0].model) == ("every 90 minutes", "things", "Items")
    assert (rows[1].frequency, rows[1].method, rows[1].friendly_name) == ("0 3 * * *", "POST", "Night")


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_the_same_body_again_is_the_same_sync(db: Database) -> None:
    row = posted(db, unique_key="id")
    assert (row.name, row.origin) == (f"sync-{row.id}", "http")
    assert posted(db, unique_key="id") == row
    assert syncs.posted(db) == syncs.all(db) == [row]
    assert schedule_names(db, row.id) == [("default", "base", "STARTED")]


def test_another_body_is_another_sync(db: Database) -> None:
    assert posted(db).id != posted(db, unique_key="id").id


def test_a_body_without_a_name_is_called_after_its_friendly_name(db: Database) -> None:
    first = posted(db, friendly_name="My Items")
    second = posted(db, friendly_name="My Items", unique_key="id")
    third = posted(db, friendly_name="My Items", unique_key="key")
    assert [row.name for row in (first, second, third)] == ["my-items", "my-items-2", "my-items-3"]
    assert posted(db, friendly_name="My Items") == first
    assert [row.sync.model for row in (first, second)] == ["MyItems", "MyItems2"]


def test_a_name_is_also_made_unique_where_only_its_model_clashes(db: Database) -> None:
    registered(db, "my_items")
    assert posted(db, friendly_name="My Items").name == "my-items-2"


def test_a_body_with_a_name_changes_the_sync_of_that_name(db: Database) -> None:
    row = posted(db, name="items")
    changed = posted(db, name="items", unique_key="id")
    assert changed.id == row.id
    assert syncs.get(db, row.id) == changed
    assert changed.sync.unique_key == "id"


def test_a_name_of_a_config_file_is_refused(db: Database) -> None:
    registered(db)
    with pytest.raises(Refused, match="items is a sync of a config file; change it there"):
        posted(db, name="items")


def test_a_model_of_another_sync_is_refused(db: Database) -> None:
    registered(db, "people", model="Person")
    with pytest.raises(Refused, match="model Person of integration default belongs to sync people"):
        posted(db, name="users", model="Person")
    with pytest.raises(Refused, match="belongs to sync people"):
        posted(db, model="Person")
    assert [row.name for row in syncs.all(db)] == ["people"]


def test_each_integration_has_its_own_models(db: Database) -> None:
    registered_for(db, "github", "people")
    assert posted(db, name="users", model="People").sync.model == "People"


def test_a_config_file_takes_over_a_posted_sync_of_its_name(db: Database) -> None:
    row = posted(db, name="items")
    assert registered(db).id == row.id
    assert syncs.posted(db) == []


def test_the_same_body_posted_twice_at_once_is_one_sync(db: Database) -> None:
    at_once(*[lambda: posted(db, friendly_name="Items")] * 4)
    assert [row.name for row in syncs.all(db)] == ["items"]


def test_a_posted_sync_can_be_replaced_and_keeps_its_name(db: Database) -> None:
    row = posted(db)
    replaced = syncs.replace(db, row.id, from_body({"url": URL, "unique_key": "id", "friendly_name": "Other"}))
    assert replaced is not None
    assert (replaced.id, replaced.name, replaced.sync.unique_key) == (row.id, row.name, "id")
    assert syncs.get(db, row.id) == replaced
    assert posted(db).id != row.id  # its old body is no longer known


def test_what_cannot_be_replaced_is_refused(db: Database) -> None:
    assert syncs.replace(db, 7, sync()) is None
    with pytest.raises(Refused, match="config file"):
        syncs.replace(db, registered(db).id, sync())
    registered_for(db, "github", "others")
    row = posted(db, name="others")
    with pytest.raises(Refused, match="integration github has a sync others already"):
        syncs.replace(db, row.id, sync(pizzly_provider_config_key="github"))
    with pytest.raises(Refused, match="model Items of integration default belongs to sync items"):
        syncs.replace(db, row.id, sync(model="Items"))


# --- deleting -------------------------------------------------------------------------------------------------------


def test_a_deleted_sync_leaves_nothing_and_others_alone(db: Database) -> None:
    rows = [registered(db, name) for name in ("gone", "kept")]
    for row in rows:
        dataset = datasets.find_or_make(db, row.id, "default", "default", "base", row.sync.model)
        worker = queue.start_worker(db, row.id, "run")
        (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
        with db.begin() as connection:
            job_id = jobs.start(connection, db, claim, row, "run")
            jobs.finish(connection, db, job_id, jobs.Counts(), jobs.End("succeeded"))
            queue.release(connection, db, claim, succeeded=True)
            connection.execute(sa.insert(schema.raw).values(dataset_id=dataset.id, external_id="1", **raw(db, row.id)))
        queue.end_worker(db, worker)
    assert syncs.delete(db, rows[0].id)
    assert not syncs.delete(db, rows[0].id)
    with db.connect() as connection:
        for table in (schema.raw, schema.datasets, schema.jobs, schema.schedules):
            assert connection.execute(sa.select(table.c.sync_id)).scalars().all() == [rows[1].id]
    assert syncs.all(db) == [rows[1]]


def raw(db: Database, sync_id: int) -> dict[str, Any]:
    now = db.clock()
    hashes = {"byte_hash": b"", "content_hash": b""}
    return {"sync_id": sync_id, **hashes, "first_seen_at": now, "last_modified_at": now}


def test_an_id_is_never_given_twice(db: Database) -> None:
    first = registered(db)
    syncs.delete(db, first.id)
    assert registered(db).id > first.id


def test_a_run_finds_its_lease_lost_when_the_sync_is_deleted(db: Database) -> None:
    row = registered(db)
    worker = queue.start_worker(db, row.id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    assert syncs.delete(db, row.id)
    with pytest.raises(LeaseLost, match="the sync was removed"), db.begin() as connection:
        queue.lock_dataset(connection, db, Target(row.id, "default", "base"))
        queue.check(connection, db, claim)
    queue.end_worker(db, worker)
