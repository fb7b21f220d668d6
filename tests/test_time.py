"""Leases, quotas, waits and retention end when their time is over, on the database's clock as on Python's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nango_dagster import clock
from nango_dagster.errors import LeaseLost, QuotaSpent
from nango_dagster.settings import Settings
from nango_dagster.store import (
    Database,
    budgets,
    connections,
    credential_state,
    outbox,
    queue,
    retention,
    schema,
    syncs,
)
from nango_dagster.store.budgets import Budget, Key
from nango_dagster.store.outbox import BACKOFF, CIRCUIT, CIRCUIT_FAILURES, Result
from nango_dagster.store.queue import LEASE_SECONDS
from nango_dagster.store.retention import Removed
from tests.writing import Target

KEY = Key("shop")
LEASE = timedelta(seconds=LEASE_SECONDS)
SECOND = timedelta(seconds=1)


# --- leases ---------------------------------------------------------------------------------------------------------


def test_a_worker_is_dead_when_its_lease_is_over_and_not_before(db: Database) -> None:
    row = Target(db, unique_key="id").row
    worker = queue.start_worker(db, row.id, "a-run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    with clock.moved(LEASE - 10 * SECOND):
        assert queue.reap(db) == []
        assert queue.live_workers(db, row.id) == [worker]
    with clock.moved(LEASE + SECOND):
        assert queue.live_workers(db, row.id) == []
        queue.reap(db)
        with pytest.raises(LeaseLost):
            db.transact(lambda connection: queue.check(connection, db, claim))


def test_a_heartbeat_begins_the_lease_anew(db: Database) -> None:
    row = Target(db, unique_key="id").row
    worker = queue.start_worker(db, row.id, "a-run")
    with clock.moved(LEASE - 10 * SECOND):
        assert queue.beat(db, worker)
        with clock.moved(LEASE - 10 * SECOND):
            assert queue.live_workers(db, row.id) == [worker]
        with clock.moved(LEASE + SECOND):
            assert queue.live_workers(db, row.id) == []


def test_only_one_process_refreshes_a_token_until_its_lease_is_over(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("crm", "acme"))
    assert credential_state.begin_refresh(db, "crm", "acme", "first", 60)
    with clock.moved(timedelta(seconds=50)):
        assert not credential_state.begin_refresh(db, "crm", "acme", "second", 60)
    with clock.moved(timedelta(seconds=61)):
        assert credential_state.begin_refresh(db, "crm", "acme", "second", 60)


# --- quotas ---------------------------------------------------------------------------------------------------------


def test_a_spent_quota_has_requests_again_after_midnight_for_the_same_process_and_for_others(db: Database) -> None:
    budget = Budget(KEY, daily_quota=2)
    budget.take(db, 2)
    with pytest.raises(QuotaSpent) as spent:
        budget.take(db)
    with clock.moved(spent.value.until - clock.now() + SECOND):
        assert budgets.spent_until(db, KEY, 2) is None
        assert budget.take(db) == 0
        assert Budget(KEY, daily_quota=2).take(db) == 0
        with pytest.raises(QuotaSpent):
            budget.take(db)


def test_a_rate_lets_the_next_request_go_an_interval_later(db: Database) -> None:
    budget = Budget(KEY, interval=3600)
    assert budget.take(db) == 0
    assert budget.take(db) == pytest.approx(3600, abs=60)
    with clock.moved(timedelta(hours=2)):
        assert budget.take(db) == pytest.approx(0, abs=60)


# --- notifications --------------------------------------------------------------------------------------------------


@pytest.fixture
def notification(db: Database) -> None:
    """A notification that is due."""
    names = ("delivery_id", "kind", "target", "circuit", "integration", "connection_id", "variant", "sync_name")
    values = {**dict.fromkeys((*names, "model", "sync_type"), "x"), "added": 1, "updated": 0, "deleted": 0}
    times = {"created_at": db.clock(), "next_try_at": db.clock()}
    db.transact(lambda connection: connection.execute(sa.insert(schema.webhooks).values(**values, **times)))


@pytest.mark.usefixtures("notification")
def test_a_notification_is_delivered_again_when_the_lease_of_its_delivery_is_over(db: Database) -> None:
    lease = timedelta(minutes=1)
    (first,) = outbox.claim(db, 2, lease)
    with clock.moved(lease - 10 * SECOND):
        assert outbox.claim(db, 2, lease) == []
    with clock.moved(lease + SECOND):
        (again,) = outbox.claim(db, 2, lease)
    assert again == replace(first, attempts=2)


@pytest.mark.usefixtures("notification")
def test_a_failed_delivery_is_tried_again_after_each_wait_until_it_is_dead(db: Database) -> None:
    passed = timedelta(0)
    for wait in (*BACKOFF, None):
        with clock.moved(passed):
            (delivery,) = outbox.claim(db, 2, timedelta(minutes=1))
            outbox.record(db, [Result(delivery, "the receiver answered 500")])
            if wait is not None:
                with clock.moved(wait * 0.8):
                    assert outbox.claim(db, 2, timedelta(minutes=1)) == []
                passed += max(wait * 1.2, CIRCUIT * 1.2)
    assert delivery.attempts == len(BACKOFF) + 1 > CIRCUIT_FAILURES
    assert outbox.depth(db) == {"pending": 0, "dead": 1}


# --- retention ------------------------------------------------------------------------------------------------------


def test_payloads_and_records_are_removed_when_their_days_are_over(settings: Settings, db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": 1}, {"id": 2}])
    kept = replace(settings, prune_after_days=30, delete_after_days=60)
    for days, removed in ((29, Removed()), (31, Removed(payloads=2)), (59, Removed()), (61, Removed(records=2))):
        with clock.moved(timedelta(days=days)):
            assert retention.retain(db, kept) == removed
    assert syncs.by_name(db, "items") is not None
