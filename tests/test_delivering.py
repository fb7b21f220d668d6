"""Deliveries of the outbox: their receivers, how often they are sent, and the end of those that fail."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from time import monotonic
from typing import Any

import pytest

from nango_dagster import webhooks
from nango_dagster.client import Nango
from nango_dagster.http import Reach
from nango_dagster.runs.delivering import THREADS, Delivered, DeliveryPool
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, outbox, reach
from nango_dagster.store.announcing import OVERRIDE, WebhookUrlSource
from nango_dagster.store.outbox import BACKOFF, CIRCUIT_FAILURES, Listed
from nango_dagster.store.webhook_settings import WebhookSettings
from nango_dagster.vault import Vault
from tests.delivering import delivery_ids, pass_time, put
from tests.executions import Source, execute, items, until
from tests.fake_api import HANG_UP, Answer, FakeApi, Received, redirect

KEY = "s3cret-key"
ENCRYPTION_KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@pytest.fixture
def told(settings: Settings, api: FakeApi) -> Settings:
    """Settings with the API's /hook as the primary URL."""
    api.route("/hook", {})
    return replace(settings, webhook_url=api.url + "/hook?token=s3cret", webhook_signing_key=KEY)


def deliver(db: Database, settings: Settings, **how: Any) -> Delivered:
    """One tick, and what is in flight afterwards."""
    pool = DeliveryPool(db, settings)
    done = pool.deliver(**how)
    assert pool.finish(20)
    return done


def listed(db: Database) -> list[Listed]:
    return outbox.listed(db, limit=1000)


# --- at whom, and what ----------------------------------------------------------------------------------------------


def test_a_notification_arrives_signed_and_is_gone(db: Database, told: Settings, api: FakeApi) -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=timezone.utc)
    put(db, added=1, updated=2, deleted=3, modified_after=since, sync_type="INCREMENTAL")
    assert deliver(db, told) == Delivered(arrived=1)
    (got,) = api.requests
    about = webhooks.About("github", "acme", "base", "issues", "Issue", "INCREMENTAL")
    assert got.body == webhooks.changed(about, 1, 2, 3, since)
    assert {name: got.headers[name] for name in ("X-Nango-Signature", "X-Nango-Hmac-Sha256")} == (
        webhooks.signatures(got.body, KEY)
    )
    assert delivery_ids([got]) == ["d-acme"] and listed(db) == []
    assert not deliver(db, told) and len(api.requests) == 1


def test_each_kind_says_what_it_is(db: Database, told: Settings, api: FakeApi) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    put(db, "a", kind="failure", error="issues: no.", started_at=began)
    put(db, "b", kind="auth", error="Refused.", variant="", sync_name="", model="")
    put(db, "c", kind="auth", error="Refused.", variant="", sync_name="", model="")
    held = {"type": "BASIC", "username": "u", "password": "p"}
    keyed = replace(told, encryption_keys=(ENCRYPTION_KEY,))
    connections.add(db, Vault.open(keyed), connections.NewConnection("github", "c", credentials=held))
    deliver(db, keyed)
    found = {request.json["connectionId"]: request.json for request in api.requests}
    assert (found["a"]["success"], found["a"]["error"]["description"]) == (False, "issues: no.")
    assert (found["a"]["startedAt"], found["a"]["failedAt"] > "2026-01-03") == ("2026-01-02T03:04:05.000Z", True)
    assert [(found[name]["type"], found[name]["authMode"]) for name in "bc"] == [("auth", "NONE"), ("auth", "BASIC")]


@pytest.mark.parametrize("keys", ["old", "new,old", "new"])
def test_a_signing_key_of_its_own_signs_on_while_the_apis_key_changes(
    db: Database, settings_env: dict[str, str], api: FakeApi, keys: str
) -> None:
    api.route("/hook", {})
    env = {"NANGO_SECRET_KEY": keys, "NANGO_WEBHOOK_SIGNING_KEY": "old", "NANGO_WEBHOOK_URL": f"{api.url}/hook"}
    put(db)
    assert deliver(db, Settings.from_env({**settings_env, **env}, dotenv=None)).arrived == 1
    (request,) = api.requests
    receiver = Nango(secret_key="new", webhook_signing_key="old")
    assert receiver.verify_incoming_webhook_request(request.body, dict(request.headers))


def test_both_urls_get_it_and_a_connections_own_takes_the_primarys_place(
    db: Database, told: Settings, api: FakeApi
) -> None:
    api.route("/*", {})
    both = replace(told, webhook_url_secondary=api.url + "/second")
    connections.add(db, None, connections.NewConnection("github", "own", config={OVERRIDE: api.url + "/own"}))
    put(db, "acme", "own")
    put(db, "acme", target="secondary")
    assert deliver(db, both).arrived == 3
    assert sorted((request.path, request.json["connectionId"]) for request in api.requests) == [
        ("/hook", "acme"),
        ("/own", "own"),
        ("/second", "acme"),
    ]


@pytest.mark.parametrize(
    ("source", "changes", "arrives"),
    [
        ("operator", {"secret_keys": ("k",)}, True),
        ("http", {"secret_keys": ("k",)}, False),
        ("http", {"secret_keys": ("k",), "allow_private_hosts": True}, True),
        ("http", {}, True),
    ],
)
def test_a_connections_own_url_that_came_over_http_leads_to_no_private_address(
    db: Database, told: Settings, api: FakeApi, source: WebhookUrlSource, changes: dict[str, Any], arrives: bool
) -> None:
    api.route("/own", {})
    config = {OVERRIDE: api.url + "/own"}
    connections.add(db, None, connections.NewConnection("github", "acme", config=config, webhook_url_source=source))
    put(db)
    done = deliver(db, replace(told, **changes), patience=0.5)
    assert (done.arrived, done.failed, len(api.requests)) == ((1, 0, 1) if arrives else (0, 1, 0))
    assert arrives or "127.0.0.1 is a private address" in (listed(db)[0].last_error or "")


@pytest.mark.parametrize(("said", "arrives"), [("public", False), ("private", True)])
def test_a_process_without_the_apis_key_delivers_over_http_where_the_api_would(
    db: Database, told: Settings, api: FakeApi, said: Reach, arrives: bool
) -> None:
    api.route("/own", {})
    config = {OVERRIDE: api.url + "/own"}
    connections.add(db, None, connections.NewConnection("github", "acme", config=config, webhook_url_source="http"))
    reach.keep(db, said)
    put(db)
    assert deliver(db, told, patience=0.5).arrived == len(api.requests) == arrives


def test_where_a_url_is_set_no_more_it_waits_and_says_so(db: Database, settings: Settings) -> None:
    put(db)
    put(db, target="secondary")
    assert deliver(db, settings, patience=0.2).failed == 2
    assert {one.delivery.target: one.last_error for one in listed(db)} == {
        "primary": "NANGO_WEBHOOK_URL is not set any more.",
        "secondary": "NANGO_WEBHOOK_URL_SECONDARY is not set any more.",
    }


# --- what does not arrive -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((500, {}, {"echo": "s3cret"}), "answered 500 Internal Server Error."),
        (redirect("/elsewhere"), "answered 302 Found."),
        (HANG_UP, "got no answer: the connection was closed."),
    ],
)
def test_what_is_not_taken_waits_and_comes_again_under_the_same_id(
    db: Database, told: Settings, api: FakeApi, reply: Any, said: str
) -> None:
    api.script("/hook", reply, {})
    put(db)
    assert deliver(db, told, patience=0.2) == Delivered(failed=1, error=f"{api.url} {said}")
    (waiting,) = listed(db)
    assert (waiting.state, waiting.delivery.attempts, waiting.last_error) == ("pending", 1, f"{api.url} {said}")
    wait = (waiting.next_try_at - datetime.now(timezone.utc)) / BACKOFF[0]
    assert 0.5 < wait < 1.2
    assert not deliver(db, told)
    pass_time(db)
    assert deliver(db, told) == Delivered(arrived=1)
    assert delivery_ids(api.requests) == ["d-acme", "d-acme"]
    first, second = api.requests
    assert first.body == second.body and listed(db) == []


def test_a_receiver_that_is_gone_gets_no_more_tries(db: Database, told: Settings, api: FakeApi) -> None:
    api.route("/hook", (410, {}, b""))
    put(db)
    deliver(db, told, patience=0.2)
    assert [one.state for one in listed(db)] == ["dead"]
    pass_time(db)
    assert not deliver(db, told)


def test_a_receiver_that_is_down_for_hours_gets_all_when_it_is_back(db: Database, told: Settings, api: FakeApi) -> None:
    names = [f"c{number}" for number in range(20)]
    put(db, *names)
    api.kill()
    for _ in range(6):
        deliver(db, told, patience=0.3)
        pass_time(db)
    waiting = listed(db)
    assert len(waiting) == 20 and {one.state for one in waiting} == {"pending"}
    assert "refuses connections" in (waiting[0].last_error or "")
    api.start()
    api.route("/hook", {})
    assert deliver(db, told).arrived == 20
    assert sorted(delivery_ids(api.requests)) == sorted(f"d-{name}" for name in names)
    assert listed(db) == []


def test_after_a_day_away_a_receiver_gets_one_notification_for_each_dataset_with_all_its_news(
    db: Database, told: Settings, api: FakeApi
) -> None:
    announcing = replace(db, webhooks=WebhookSettings.of(told))
    with FakeApi() as lists:
        source = Source(lists, items(1))
        rows = [source.registered(announcing, name=name, unique_key="id") for name in ("issues", "people")]
        api.route("/hook", (500, {}, b""))
        for last in range(1, 5):
            source.records = items(*range(1, last + 1))
            for row in rows:
                execute(announcing, told, row)
            deliver(announcing, told, patience=0.2)
            pass_time(db)
    api.route("/hook", {})
    before = len(api.requests)
    assert deliver(announcing, told).arrived == 2
    found = {one.json["syncName"]: one.json for one in api.requests[before:]}
    assert {name: one["responseResults"]["added"] for name, one in found.items()} == {"issues": 4, "people": 4}
    assert {one["modifiedAfter"] for one in found.values()} == {"1970-01-01T00:00:00.000Z"}


def test_news_does_not_use_up_the_tries_of_what_waits(db: Database, told: Settings, api: FakeApi) -> None:
    announcing = replace(db, webhooks=WebhookSettings.of(told))
    api.route("/hook", (500, {}, b""))
    with FakeApi() as lists:
        source = Source(lists, [])
        row = source.registered(announcing, unique_key="id")
        for last in range(1, len(BACKOFF) + 4):  # a change every few minutes, and nobody there for an hour
            source.records = items(*range(1, last + 1))
            execute(announcing, told, row)
            deliver(announcing, told, patience=0.1)
            pass_time(db)
    assert [(one.state, one.delivery.attempts) for one in listed(db)] == [("pending", 1)]


def test_one_that_never_arrives_is_dead_in_the_end_and_alive_when_redelivered(
    db: Database, told: Settings, api: FakeApi
) -> None:
    api.route("/hook", (500, {}, b""))
    put(db)
    for _ in range(len(BACKOFF) + 1):
        assert [one.state for one in listed(db)] == ["pending"]
        deliver(db, told, patience=0.1)
        pass_time(db)
    assert [(one.state, one.delivery.attempts) for one in listed(db)] == [("dead", len(BACKOFF) + 1)]
    assert not deliver(db, told)
    api.route("/hook", {})
    assert outbox.redeliver(db) == 1
    assert deliver(db, told).arrived == 1
    assert set(delivery_ids(api.requests)) == {"d-acme"}


def test_a_receiver_that_fails_again_and_again_is_left_alone_and_others_are_not(
    db: Database, told: Settings, api: FakeApi
) -> None:
    api.route("/second", {})
    api.route("/hook", (503, {}, b""))
    both = replace(told, webhook_url_secondary=api.url + "/second")
    names = [f"c{number}" for number in range(4 * THREADS)]
    put(db, *names)
    put(db, *names, target="secondary")
    deliver(db, both)
    pass_time(db, circuits=False)
    assert deliver(db, both).failed == 0
    asked = Counter(request.path for request in api.requests)
    assert asked["/second"] == len(names)
    assert CIRCUIT_FAILURES <= asked["/hook"] <= THREADS // 2
    pass_time(db)
    api.route("/hook", {})
    assert deliver(db, both).arrived == len(names)


def test_a_receiver_that_was_left_alone_is_tried_by_one_alone_until_it_takes_one(
    db: Database, told: Settings, api: FakeApi
) -> None:
    api.route("/hook", (503, {}, b""))
    names = [f"c{number}" for number in range(2 * THREADS)]
    put(db, *names)
    deliver(db, told, patience=0.2)
    for _ in range(3):
        pass_time(db)
        before = len(api.requests)
        pools = [DeliveryPool(db, told) for _ in range(3)]
        threads = [threading.Thread(target=pool.deliver, kwargs={"patience": 0.5}) for pool in pools]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(pool.finish(10) for pool in pools)
        assert len(api.requests) == before + 1
    pass_time(db)
    api.route("/hook", {})
    assert deliver(db, told).arrived == len(names)


# --- how long it takes ----------------------------------------------------------------------------------------------


@pytest.fixture
def slow(api: FakeApi) -> Iterator[Callable[[], None]]:
    """Has the API answer nobody until this is called."""
    answered = threading.Event()

    def answer(request: Received) -> Answer:
        answered.wait(20)
        return Answer()

    api.route("/hook", answer)
    yield answered.set
    answered.set()


def test_a_slow_receiver_ends_the_tick_soon_and_what_is_in_flight_is_recorded_later(
    db: Database, told: Settings, api: FakeApi, slow: Callable[[], None]
) -> None:
    put(db, *(f"c{number}" for number in range(5)))
    pool = DeliveryPool(db, told)
    began = monotonic()
    assert pool.deliver(patience=0.5) == Delivered(on_their_way=5)
    assert 0.4 < monotonic() - began < 2
    assert pool.deliver(patience=0.1) == Delivered(on_their_way=5)  # no second time meanwhile
    assert not pool.finish(0.1)
    slow()
    assert pool.finish(10)
    assert (listed(db), len(api.requests)) == ([], 5)


def test_slow_receivers_do_not_hold_up_a_fast_one(
    db: Database, told: Settings, api: FakeApi, slow: Callable[[], None]
) -> None:
    for circuit in ("one", "two", "three"):
        put(db, *(f"{circuit}{number}" for number in range(THREADS)), circuit=circuit)
    with FakeApi() as fast:
        fast.route("/hook", {})
        pool = DeliveryPool(db, replace(told, webhook_url_secondary=fast.url + "/hook"))
        expected: set[str] = set()
        for batch in ("before", "after"):
            names = [f"{batch}{number}" for number in range(100)]
            expected.update(f"d-{name}" for name in names)
            put(db, *names, target="secondary")
            until(lambda: pool.deliver(patience=0.5) and set(delivery_ids(fast.requests)) == expected)
        half = THREADS // 2
        assert len(api.requests) == half + half // 2 + half // 4
        slow()
        assert pool.finish(10)
        pool.deliver()
        assert pool.finish(10)
    assert listed(db) == []


def test_no_more_is_claimed_than_can_be_sent_before_the_lease_ends(
    db: Database, told: Settings, api: FakeApi, slow: Callable[[], None]
) -> None:
    half = THREADS // 2
    put(db, *(f"c{number}" for number in range(3 * half)))
    pool = DeliveryPool(db, told)
    for _ in range(3):
        assert pool.deliver(patience=0.2).on_their_way == half
    slow()
    assert pool.finish(10)
    assert len(api.requests) == half
    assert pool.deliver().arrived == 2 * half
    assert pool.finish(10) and max(Counter(delivery_ids(api.requests)).values()) == 1


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_tick_ends_in_time_where_somebody_writes_for_long(db: Database, told: Settings, api: FakeApi) -> None:
    writing = sqlite3.connect(db.engine.url.database or "", isolation_level=None, check_same_thread=False)

    def answer(request: Received) -> Answer:
        writing.execute("BEGIN IMMEDIATE")
        return Answer()

    api.route("/hook", answer)
    put(db)
    pool = DeliveryPool(db, told)
    began = monotonic()
    assert not pool.deliver(patience=0.3).arrived
    assert monotonic() - began < 5
    assert not pool.finish(0.1)
    writing.rollback()
    assert pool.finish(20)
    assert (listed(db), len(api.requests)) == ([], 1)
    writing.close()


def test_a_tick_ends_in_time_however_much_there_is(db: Database, told: Settings, api: FakeApi) -> None:
    put(db, *(f"c{number}" for number in range(2000)))
    pool = DeliveryPool(db, told)
    began = monotonic()
    done = pool.deliver(seconds=0.3)
    assert monotonic() - began < 2
    assert pool.finish(10)
    assert 0 < done.arrived <= len(api.requests) == 2000 - outbox.depth(db)["pending"]


def test_couriers_of_several_processes_deliver_each_once(db: Database, told: Settings, api: FakeApi) -> None:
    put(db, *(f"c{number}" for number in range(300)))
    pools = [DeliveryPool(db, told) for _ in range(3)]
    threads = [threading.Thread(target=pool.deliver) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(pool.finish(10) for pool in pools)
    assert len(api.requests) == len(set(delivery_ids(api.requests))) == 300
    assert listed(db) == []
    assert json.loads(api.requests[0].body)["from"] == "nango"
    assert until(lambda: not [one for one in threading.enumerate() if one.name.startswith("nango-webhook")])
