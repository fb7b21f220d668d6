"""Every change is announced, once its data can be read, whichever way its execution ended."""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster.config import Sync, from_body
from nango_dagster.settings import Settings
from nango_dagster.store import (
    Database,
    announcing,
    connections,
    credential_state,
    datasets,
    open_database,
    outbox,
    schema,
    syncs,
)
from nango_dagster.store.outbox import Delivery, Result
from nango_dagster.store.sync_row import SyncRow
from tests.crash_worker import Workers
from tests.crashing import MODES, UPSERT, bury
from tests.executions import Source, assert_exact, drained, execute, items, last_job, until
from tests.fake_api import Answer, FakeApi

LEASE = timedelta(minutes=1)
URL = {"NANGO_WEBHOOK_URL": "https://app.example.com/hook"}


@pytest.fixture
def settings_env(settings_env: dict[str, str]) -> dict[str, str]:
    """There is a URL to send notifications to."""
    settings_env.update(URL)
    return settings_env


@pytest.fixture
def source(api: FakeApi) -> Source:
    """Seven items on three pages."""
    return Source(api, items(*range(1, 8)))


def waiting(db: Database) -> list[Delivery]:
    """The events in the outbox, the oldest first."""
    return sorted((one.delivery for one in outbox.listed(db)), key=lambda one: one.id)


def counts(one: Delivery) -> tuple[int, int, int]:
    return one.added, one.updated, one.deleted


def take(db: Database) -> list[Delivery]:
    """Claim all that waits and say that it was delivered."""
    found = outbox.claim(db, 100, LEASE)
    outbox.record(db, [Result(one) for one in found])
    return found


@pytest.fixture
def opened() -> Iterator[Callable[..., Database]]:
    """A function that opens the same database as somebody with other settings sees it."""
    with ExitStack() as stack:

        def open_(settings_env: dict[str, str], **env: str) -> Database:
            database = open_database(Settings.from_env({**settings_env, **env}, dotenv=None))
            stack.callback(database.close)
            return database

        yield open_


@pytest.mark.parametrize("mode", MODES)
def test_what_an_execution_has_changed_is_announced_once(
    db: Database, settings: Settings, source: Source, mode: str
) -> None:
    row = source.registered(db, **MODES[mode])
    execute(db, settings, row)
    (first,) = take(db)
    assert (first.kind, first.target, first.integration, first.connection_id) == (
        "changes",
        "primary",
        "default",
        "default",
    )
    assert (first.sync_name, first.model, first.variant) == ("items", row.sync.model, "base")
    assert (first.sync_type, counts(first), first.modified_after) == ("INITIAL", (7, 0, 0), None)
    announced_until = _dataset(db, row).last_modified_at
    execute(db, settings, row)
    assert waiting(db) == []
    source.records = items(2, 3, 4, 5, 6, 7, 8)
    execute(db, settings, row)
    (second,) = take(db)
    assert (second.sync_type, counts(second), second.modified_after) == ("INCREMENTAL", (1, 0, 1), announced_until)
    assert second.delivery_id != first.delivery_id


def test_a_notification_that_waits_keeps_its_first_checkpoint_and_takes_the_last(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    changes = [{"id": 1, "at": "2026-01-01"}]
    api.route("/feed", lambda request: changes)
    fields = {"sync_type": "incremental", "incremental": {"field": "at", "request_path": "since"}}
    sync = from_body({"name": "feed", "url": f"{api.url}/feed", "unique_key": "id", **fields})
    row = syncs.register(db, [sync])["feed"]
    execute(db, settings, row)
    for number in (2, 3):
        changes.append({"id": number, "at": f"2026-01-0{number}"})
        execute(db, settings, row)
    (notification,) = waiting(db)
    before, after = notification.checkpoint_from, notification.checkpoint_to
    assert before == "null" and after is not None and "2026-01-03" in after
    assert counts(notification)[0] == 3
    take(db)
    changes.append({"id": 4, "at": "2026-01-04"})
    execute(db, settings, row)
    (notification,) = waiting(db)
    assert notification.checkpoint_from == after and "2026-01-04" in str(notification.checkpoint_to)


def _dataset(db: Database, row: SyncRow) -> datasets.Dataset:
    with db.connect() as connection:
        (found,) = datasets.of_sync(connection, row.id)
    return found


def test_an_execution_that_fails_on_page_three_announces_what_it_saved_and_that_it_failed(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    source.broken[3] = Answer(500, body="no")
    execute(db, settings, row)
    changes, failure = waiting(db)
    assert (changes.kind, counts(changes), changes.error) == ("changes", (6, 0, 0), None)
    job = last_job(db, row)
    assert (failure.kind, counts(failure), failure.started_at) == ("failure", (0, 0, 0), job.started_at)
    assert failure.error == job.error_message and "500" in (failure.error or "")
    take(db)
    source.broken.clear()
    source.records = source.records[:6]
    execute(db, settings, row)
    assert last_job(db, row).unchanged == 6
    assert waiting(db) == []


def test_one_that_changed_nothing_is_announced_where_always_is_wanted(
    settings_env: dict[str, str], settings: Settings, source: Source, opened: Callable[..., Database]
) -> None:
    db = opened(settings_env, NANGO_WEBHOOK_ON="always")
    row = source.registered(db, unique_key="id")
    for _ in range(2):
        execute(db, settings, row)
        told = take(db)
        until = _dataset(db, row).last_modified_at
    (last,) = told
    assert (last.kind, counts(last), last.modified_after) == ("changes", (0, 0, 0), until)
    source.broken[1] = Answer(500, body="no")
    execute(db, settings, row)
    assert waiting(db) == [], "always is about those that go well, and failures are not wanted"


def test_without_a_url_nothing_waits_and_with_the_first_one_nothing_is_lost(
    settings_env: dict[str, str], settings: Settings, source: Source, opened: Callable[..., Database]
) -> None:
    silent = opened({name: value for name, value in settings_env.items() if name not in URL})
    row = source.registered(silent, unique_key="id")
    execute(silent, settings, row)
    assert waiting(silent) == []
    db = opened(settings_env)
    execute(db, settings, row)
    (told,) = waiting(db)
    assert (counts(told), told.modified_after) == ((7, 0, 0), None)


def test_what_was_not_delivered_is_merged_into_the_next(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, **UPSERT)
    execute(db, settings, row)
    take(db)
    since = _dataset(db, row).last_modified_at
    source.records = items(*range(1, 9))
    execute(db, settings, row)
    (first,) = outbox.claim(db, 10, LEASE)
    outbox.record(db, [Result(first, "the receiver answered 500")])
    source.records = [*items(1, 2, name="other"), *items(*range(3, 8))]
    execute(db, settings, row)
    (merged,) = waiting(db)
    assert (counts(merged), merged.modified_after) == ((1, 2, 1), since)
    assert merged.delivery_id != first.delivery_id, "whoever has the first already must not take this one for it"


def test_one_that_is_being_delivered_stays_as_it_is(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    (first,) = outbox.claim(db, 10, LEASE)
    source.records = items(8)
    execute(db, settings, row)
    assert [(one.delivery_id == first.delivery_id, counts(one)) for one in waiting(db)] == [
        (True, (7, 0, 0)),
        (False, (1, 0, 0)),
    ]


def test_failures_of_a_whole_day_are_one_notification(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db)
    source.broken[1] = Answer(500, body="no")
    for _ in range(3):
        execute(db, settings, row)
    (told,) = waiting(db)
    assert (told.kind, told.started_at) == ("failure", last_job(db, row).started_at)


def test_both_urls_get_it_and_a_connections_own_takes_their_place(
    settings_env: dict[str, str], settings: Settings, source: Source, opened: Callable[..., Database]
) -> None:
    db = opened(settings_env, NANGO_WEBHOOK_URL_SECONDARY="https://other.example.com/hook")
    row = source.registered(db, integration="crm", unique_key="id", query_params={"who": "${connection_id}"})
    connections.add(db, None, connections.NewConnection("crm", "acme"))
    connections.add(
        db,
        None,
        connections.NewConnection("crm", "own", config={"webhook_url_override": "https://acme.example.com/hook"}),
    )
    for name in ("acme", "own"):
        _execute_for(db, settings, row, name)
    told = waiting(db)
    assert [(one.connection_id, one.target) for one in told] == [
        ("acme", "primary"),
        ("acme", "secondary"),
        ("own", "primary"),
    ]
    own = announcing.own_urls(db, [("crm", "own"), ("crm", "acme")])
    assert {names: one.url for names, one in own.items()} == {("crm", "own"): "https://acme.example.com/hook"}
    connections.remove(db, "crm", "acme")
    assert [one.connection_id for one in waiting(db)] == ["own"]


def test_a_connections_own_url_is_enough(
    settings_env: dict[str, str], settings: Settings, source: Source, opened: Callable[..., Database]
) -> None:
    db = opened({name: value for name, value in settings_env.items() if name not in URL})
    row = source.registered(db, integration="crm", unique_key="id", query_params={"who": "${connection_id}"})
    connections.add(
        db,
        None,
        connections.NewConnection("crm", "own", config={"webhook_url_override": "https://acme.example.com/hook"}),
    )
    _execute_for(db, settings, row, "own")
    (told,) = waiting(db)
    assert (told.connection_id, told.target) == ("own", "primary")


def _execute_for(db: Database, settings: Settings, row: SyncRow, name: str) -> None:
    from nango_dagster import runs

    with runs.claimed(db, settings, row, connection_id=name) as execution:
        assert execution.run().status == "succeeded"


def test_what_is_deleted_is_announced_no_more(db: Database, settings: Settings, source: Source) -> None:
    rows = [source.registered(db, name=name, model=name.title(), unique_key="id") for name in ("gone", "kept")]
    for row in rows:
        connections.add_variant(db, row.id, "default", "eu")
        drained(db, settings, row)

    def told() -> set[tuple[str, str]]:
        return {(one.sync_name, one.variant) for one in waiting(db)}

    assert told() == {(name, variant) for name in ("gone", "kept") for variant in ("base", "eu")}
    connections.remove_variant(db, rows[1].id, "default", "eu")
    assert told() == {("gone", "base"), ("gone", "eu"), ("kept", "base")}
    syncs.delete(db, rows[0].id)
    assert told() == {("kept", "base")}


def test_the_third_refusal_of_its_credentials_is_announced_once(db: Database) -> None:
    syncs.register(db, [Sync(name="items", url="https://api.example.com/items", integration="crm")])
    connections.add(db, None, connections.NewConnection("crm", "acme"))
    for _ in range(5):
        credential_state.note_auth_failure(db, "crm", "acme")
    (told,) = waiting(db)
    assert (told.kind, told.integration, told.connection_id, told.sync_name) == ("auth", "crm", "acme", "")


# --- runs that die ------------------------------------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.parametrize("mode", MODES)
def test_what_a_process_that_was_killed_had_written_is_announced(
    db: Database, settings: Settings, workers: Workers, api: FakeApi, mode: str
) -> None:
    """And the sums of what is announced are the sums of what became of the records."""
    source = Source(api, items(1, 2, 3, 4))
    row = source.registered(db, **MODES[mode])
    undisturbed = workers.run("items", small=2)
    changes = 4
    for at in range(1, undisturbed.statements + 5, 5):  # test_crash.py dies before each
        source.records = [*source.records[1:], *items(100 + at)]
        changes += 2
        killed = workers.run("items", small=2, kill_at=at, run_id=f"killed-{at}")
        bury(db)
        assert execute(db, settings, row).status == "succeeded"
        assert_exact(db, row, source.records)
        told = Counter(one.kind for one in waiting(db))
        assert told["changes"] == 1 and told["failure"] <= 1
        (news,) = (one for one in waiting(db) if one.kind == "changes")
        assert news.modified_after is None and sum(counts(news)) == changes
        dataset = _dataset(db, row)
        assert not dataset.has_news and _pending(db) == (0, 0, 0)
        assert killed.killed_by in (signal.SIGKILL, None)


def _pending(db: Database) -> tuple[int, ...]:
    of = schema.datasets.c
    with db.connect() as connection:
        row = connection.execute(sa.select(of.pending_added, of.pending_updated, of.pending_deleted)).one()
    return tuple(row)


# --- any order of all this ----------------------------------------------------------------------------------------

STEPS = st.lists(st.sampled_from(["change", "change", "fail", "deliver", "lose", "hold", "unchanged"]), max_size=12)


@given(steps=STEPS)
@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_the_receiver_hears_of_every_change(
    db: Database, settings: Settings, source: Source, steps: list[str]
) -> None:
    """A reader who, at each notification, reads what changed after the time that it names, knows every record."""
    with db.begin() as connection:
        for table in (schema.webhooks, schema.webhook_circuits, schema.raw, schema.datasets, schema.jobs):
            connection.execute(sa.delete(table))
    row = source.registered(db, **UPSERT)
    source.records, source.broken = items(1, 2, 3), {}
    known: dict[str, Any] = {}
    version = 0
    for step in [*steps, "unchanged", "deliver"]:
        if step in ("change", "fail", "unchanged"):
            version += step != "unchanged"
            source.records = [*items(1, name=f"v{version}"), *items(2), *items(*range(3, 3 + version % 5))]
            source.broken = {2: Answer(500, body="no")} if step == "fail" else {}
            execute(db, settings, row)
            continue
        _make_due(db, forget_leases=step == "deliver")
        for one in outbox.claim(db, 10, LEASE):
            if step == "deliver":
                known.update(_changes_after(db, one))
            if step != "hold":
                outbox.record(db, [Result(one, "the receiver answered 500" if step == "lose" else None)])
    assert known == _changes_after(db, None)
    assert waiting(db) == []


def _make_due(db: Database, *, forget_leases: bool) -> None:
    """A day later; the leases of whoever held one have run out, too."""
    values: dict[str, Any] = {"next_try_at": db.clock(timedelta(days=1))}
    if forget_leases:
        values["leased_until"] = None
    with db.begin() as connection:
        connection.execute(sa.update(schema.webhooks).values(values))
        connection.execute(sa.delete(schema.webhook_circuits))


def _changes_after(db: Database, told: Delivery | None) -> dict[str, Any]:
    of = schema.raw.c
    query = sa.select(of.external_id, of.last_modified_at, of.deleted_at)
    if told is not None and told.kind != "changes":
        return {}
    if told is not None and told.modified_after is not None:
        query = query.where(of.last_modified_at > told.modified_after)
    with db.connect() as connection:
        return {row.external_id: tuple(row) for row in connection.execute(query)}


# --- the outbox ---------------------------------------------------------------------------------------------------


def put(db: Database, number: int) -> None:
    """So many notifications that wait, each of a connection of its own."""
    now = {"created_at": db.clock(), "next_try_at": db.clock()}
    names = {"integration": "crm", "variant": "base", "sync_name": "items", "model": "Item"}
    told = {"kind": "changes", "target": "primary", "circuit": "primary", "sync_type": "INITIAL"}
    rows = [
        {**names, **told, "connection_id": f"c{at}", "delivery_id": f"d{at}", "added": 1, "updated": 0, "deleted": 0}
        for at in range(number)
    ]
    with db.begin() as connection:
        connection.execute(sa.insert(schema.webhooks).values(**now), rows)


def test_one_that_is_claimed_is_nobody_elses_until_its_lease_is_over(db: Database) -> None:
    put(db, 5)
    first = outbox.claim(db, 6, LEASE)
    assert [one.attempts for one in first] == [1, 1, 1]
    assert len(outbox.claim(db, 6, LEASE)) == 2
    assert outbox.claim(db, 6, LEASE) == []
    with db.begin() as connection:
        connection.execute(sa.update(schema.webhooks).values(leased_until=db.clock(timedelta(seconds=1))))
    again = outbox.claim(db, 6, LEASE)
    assert [(one.delivery_id, one.attempts) for one in again] == [(one.delivery_id, 2) for one in first]


def test_one_that_fails_is_tried_again_ever_later_for_more_than_a_day_and_is_dead_then(db: Database) -> None:
    put(db, 1)
    waits = []
    for _ in outbox.BACKOFF:
        _make_due(db, forget_leases=False)
        (one,) = outbox.claim(db, 1, LEASE)
        outbox.record(db, [Result(one, "the receiver answered 500")])
        (left,) = outbox.listed(db, state="pending")
        with db.connect() as connection:
            waits.append(left.next_try_at - db.now(connection))
        assert outbox.claim(db, 1, LEASE) == []
    assert all(later > 1.2 * earlier for earlier, later in itertools.pairwise(waits))
    assert sum(waits, timedelta()) > timedelta(days=1)
    _make_due(db, forget_leases=False)
    (one,) = outbox.claim(db, 1, LEASE)
    outbox.record(db, [Result(one, "the receiver answered 500")])
    (dead,) = outbox.listed(db, state="dead")
    assert (dead.last_error, outbox.depth(db)) == ("the receiver answered 500", {"pending": 0, "dead": 1})
    _make_due(db, forget_leases=False)
    assert outbox.claim(db, 1, LEASE) == []
    assert outbox.redeliver(db, [dead.delivery.id + 1]) == 0
    assert outbox.redeliver(db) == 1
    (again,) = outbox.claim(db, 1, LEASE)
    assert (again.delivery_id, again.attempts) == (one.delivery_id, 1)


def test_one_whose_receiver_is_gone_is_dead_at_once(db: Database) -> None:
    put(db, 1)
    (one,) = outbox.claim(db, 1, LEASE)
    outbox.record(db, [Result(one, "the receiver answered 410 Gone", gone=True)])
    assert outbox.depth(db) == {"pending": 0, "dead": 1}


def test_a_receiver_that_fails_again_and_again_is_left_alone_for_a_while(db: Database) -> None:
    put(db, 9)
    for _ in range(outbox.CIRCUIT_FAILURES):
        (one,) = outbox.claim(db, 1, LEASE)
        outbox.record(db, [Result(one, "no answer")])
    assert outbox.claim(db, 10, LEASE) == []
    for _ in range(2):  # the first of these dies while it tries
        with db.begin() as connection:
            connection.execute(sa.update(schema.webhook_circuits).values(open_until=db.clock(timedelta(seconds=1))))
        (one,) = outbox.claim(db, 10, LEASE)
        assert outbox.claim(db, 10, LEASE) == [], "one alone tries it"
    outbox.record(db, [Result(one, "no answer")])
    assert outbox.claim(db, 10, LEASE) == [], "one more failure, and it is left alone again"
    with db.begin() as connection:
        connection.execute(sa.update(schema.webhook_circuits).values(open_until=db.clock(timedelta(seconds=1))))
    (one,) = outbox.claim(db, 1, LEASE)
    outbox.record(db, [Result(one)])
    assert len(outbox.claim(db, 1, LEASE)) == 1, "it works again"


def test_a_result_that_comes_after_somebody_else_has_tried_again_changes_nothing(db: Database) -> None:
    put(db, 1)
    (slow,) = outbox.claim(db, 1, LEASE)
    _make_due(db, forget_leases=True)
    (other,) = outbox.claim(db, 1, LEASE)
    outbox.record(db, [Result(slow, "no answer")])
    assert outbox.claim(db, 1, LEASE) == []
    outbox.record(db, [Result(other)])
    assert outbox.depth(db) == {"pending": 0, "dead": 0}


def test_several_who_claim_at_once_share_what_there_is(db: Database, settings: Settings) -> None:
    from concurrent.futures import ThreadPoolExecutor

    put(db, 60)

    def some(_: int) -> list[str]:
        return [one.delivery_id for one in outbox.claim(db, 4, LEASE)]

    found: list[str] = []

    def all_taken() -> bool:
        with ThreadPoolExecutor(4) as pool:
            found.extend(id_ for ids in pool.map(some, range(8)) for id_ in ids)
        return len(found) >= 60

    until(all_taken)
    assert len(found) == len(set(found)) == 60
