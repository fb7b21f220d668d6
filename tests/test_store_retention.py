"""Retention removes what is older than the configured age, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, listing, retention, schema
from nango_dagster.store.listing import RecordSelection
from nango_dagster.store.retention import Removed
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, making_projects
from tests.writing import Target

MODES = pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])


@pytest.fixture
def pruning(settings: Settings) -> Settings:
    return replace(settings, prune_after_days=30)


@pytest.fixture
def deleting(settings: Settings) -> Settings:
    return replace(settings, delete_after_days=60)


def age(target: Target, days: int, *ids: str) -> None:
    """Move all that was stored, or some records of it, into the past."""
    db, of, dataset = target.db, schema.raw.c, target.dataset
    then = target.raw_now() - timedelta(days=days)
    with db.begin() as connection:
        those = [of.dataset_id == dataset.id, *([of.external_id.in_(ids)] if ids else [])]
        connection.execute(sa.update(schema.raw).where(*those).values(first_seen_at=then, last_modified_at=then))
        if not ids:
            whole = sa.update(schema.datasets).where(schema.datasets.c.id == dataset.id)
            connection.execute(whole.values(last_modified_at=then))


def use(target: Target, days: int, **values: Any) -> None:
    """Have a schedule of the sync, which was executed so many days ago."""
    db, of = target.db, schema.schedules
    then = target.raw_now() - timedelta(days=days)
    with db.begin() as connection:
        times = {"created_at": then, "last_started_at": then, "last_ended_at": then}
        names = {"sync_id": target.row.id, "connection_id": target.connection, "variant": "base"}
        connection.execute(sa.delete(of).where(of.c.sync_id == target.row.id))
        connection.execute(sa.insert(of).values({**names, **times, **values}))


@MODES
def test_what_has_not_changed_for_so_long_loses_its_payload_for_good(
    fields: dict[str, Any], pruning: Settings, db: Database
) -> None:
    target = Target(db, **fields)
    target.write([{"id": n} for n in range(5)])
    first, *_, last = sorted(target.raw())
    age(target, 31, first)
    age(target, 29, last)
    assert retention.retain(db, pruning) == Removed(payloads=1)
    assert [key for key, row in target.raw().items() if row.text is None] == [first]
    target.write([{"id": n} for n in range(5)])
    assert target.raw()[first].text is None
    assert len(target.mapped()) == 5
    assert retention.retain(db, pruning) == Removed()


def test_nothing_goes_unless_somebody_says_so(settings: Settings, db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": 1}])
    age(target, 4000)
    before = target.raw()
    assert retention.retain(db, settings) == Removed()
    assert target.raw() == before


@MODES
def test_what_nobody_has_executed_for_so_long_is_deleted(
    fields: dict[str, Any], deleting: Settings, db: Database
) -> None:
    target, other = Target(db, **fields), Target(db, name="other", unique_key="id")
    for one in (target, other):
        one.write([{"id": n} for n in range(500)])  # several batches
        age(one, 61)
        use(one, 61, checkpoint='{"after": 1}')
    use(other, 59)
    assert retention.retain(db, deleting) == Removed(records=500)
    assert not target.raw() and not target.mapped()
    assert target.dataset.live_count == 0
    assert len(other.raw()) == len(other.mapped()) == other.dataset.live_count == 500
    with db.connect() as connection:
        of = schema.schedules.c
        assert connection.execute(sa.select(of.checkpoint).where(of.sync_id == target.row.id)).scalar() is None
    assert retention.retain(db, deleting) == Removed()


@pytest.mark.parametrize("values", [{"created_at": None}, {"last_started_at": None}, {"last_ended_at": None}])
def test_a_sync_that_was_made_or_executed_since_then_is_kept(
    values: dict[str, Any], deleting: Settings, db: Database
) -> None:
    """Also when it found nothing new each time, and while it is being executed."""
    target = Target(db, unique_key="id")
    target.write([{"id": 1}])
    age(target, 100)
    use(target, 100, **dict.fromkeys(values, target.raw_now()))
    assert retention.retain(db, deleting) == Removed()
    use(target, 100, worker_id=7)
    assert retention.retain(db, deleting) == Removed()
    use(target, 100)
    assert retention.retain(db, deleting) == Removed(records=1)


def test_a_reader_whose_cursor_lies_in_what_was_deleted_goes_on(deleting: Settings, db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": n} for n in range(5)])
    age(target, 100)
    use(target, 100)
    after = listing.page(db, target.dataset.id, RecordSelection(), 3).next
    retention.retain(db, deleting)
    assert listing.page(db, target.dataset.id, RecordSelection(after=after), 3).records == []
    assert target.write([{"id": 1}]).counts == (1, 0, 0, 0)
    (record,) = listing.page(db, target.dataset.id, RecordSelection(after=after), 3).records
    assert (record.external_id, record.action) == ("1", "added")
    target.assert_exact()


@pytest.fixture
def make(settings: Settings) -> Iterator[MakeProject]:
    with making_projects(replace(settings, prune_after_days=1)) as make:
        yield make


def test_dagster_does_it_once_a_day_and_says_what(make: MakeProject, api: FakeApi, db: Database) -> None:
    project = make(Source(api, items(1)).sync(unique_key="id"))
    target = Target(db, name="items", unique_key="id")
    target.write([{"id": 1}])
    age(target, 2)
    assert connections.list_connections(db) == [] and jobs.list_jobs(db) == []
    schedule = project.defs.resolve_schedule_def(names.RETENTION_SCHEDULE)
    assert schedule.cron_schedule == "41 3 * * *"
    result = project.defs.resolve_job_def(names.RETENTION_JOB).execute_in_process(instance=project.instance)
    said = [entry.user_message for entry in project.instance.all_logs(result.run_id) if entry.level == 20]
    assert said == [
        "default/Items/default/base: pruned 1 payload.",
        "removed 1 payload, 0 records, 0 jobs.",
        "removed 0 runs that ended more than 14 days ago.",
    ]
