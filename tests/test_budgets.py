"""Requests are paced across threads and processes, and a day's quota is spent to its last request and no further."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import count
from multiprocessing.synchronize import Event
from time import monotonic

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.config import Sync
from nango_dagster.errors import Cancelled, QuotaSpent
from nango_dagster.http import Client, Request
from nango_dagster.runs.limits import key_of, limiter_of, spent_until
from nango_dagster.settings import Settings
from nango_dagster.store import Database, budgets, open_database, schema
from nango_dagster.store.budgets import BLOCK_SECONDS, Budget, Key, Pace
from tests.executions import Source, execute, items, stored, until
from tests.fake_api import FakeApi
from tests.processes import PROCESSES

KEY = Key("shop")


def sync(**fields: object) -> Sync:
    return Sync.model_validate({"name": "items", "url": "https://api.example.com/items", **fields})


# --- the arithmetic -------------------------------------------------------------------------------------------------


@dataclass
class Line:
    """The row of a budget, and the processes that draw on it, on a clock of the test's own."""

    interval: float
    now: float = 1000.0
    taken_until: float = 0.0
    holder: str | None = None
    paces: dict[int, Pace] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)

    def take(self, process: int) -> float:
        pace = self.paces.setdefault(process, Pace(self.interval))
        turn = pace.turn(self.now)
        if turn is None:
            begin, size = pace.next_block(self.now, 1, self.taken_until, self.holder)
            self.taken_until, self.holder = begin + size * self.interval, pace.holder
            pace.begin(begin, size)
            turn = pace.turn(begin)
        assert turn is not None
        self.turns.append(turn)
        return turn

    def kill(self, process: int) -> None:
        self.paces.pop(process, None)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["take", "take", "take", "kill"]), st.floats(0, 3)), max_size=60
)


@given(requests=st.integers(1, 200), seconds=st.floats(0.5, 60), steps=STEPS)
def test_no_window_of_time_sees_more_than_the_budget(
    requests: int, seconds: float, steps: list[tuple[int, str, float]]
) -> None:
    """In every order of takes, waits and deaths, requests are an interval apart."""
    line = Line(seconds / requests)
    for process, what, wait in steps:
        line.now += wait * line.interval
        if what == "take":
            line.take(process)
        else:
            line.kill(process)
    turns = sorted(line.turns)
    for first, next_ in zip(turns, turns[requests:], strict=False):
        assert next_ - first > seconds * (1 - 1e-6)


@given(interval=st.floats(0.0005, 20), before=st.integers(1, 50), others=st.integers(1, 3))
def test_whoever_dies_with_a_block_costs_the_others_at_most_the_rest_of_it(
    interval: float, before: int, others: int
) -> None:
    line = Line(interval)
    for _ in range(before):
        last = line.take(0)
    line.kill(0)
    following = [line.take(1 + number % others) for number in range(20)]
    assert following[0] <= last + max(BLOCK_SECONDS, interval) + 1e-6


@given(interval=st.floats(0.0005, 20), processes=st.integers(1, 4))
def test_nothing_of_the_budget_is_lost_while_all_want_more(interval: float, processes: int) -> None:
    """Every interval has its request, whichever process sends it."""
    line = Line(interval)
    for number in range(processes * int(3 / interval + 5))[:4000]:
        line.take(number % processes)
    held = sum(pace.ends_at - pace.free_at for pace in line.paces.values())
    unused = (line.taken_until - 1000.0 - held) / interval - len(line.turns)
    assert abs(unused) < 1e-3


@given(rate=st.integers(16, 1000), wants=st.integers(1, 4))
def test_processes_that_need_little_hardly_wait_for_one_another(rate: int, wants: int) -> None:
    """Two that send a few requests a second each: the first block is a second's, then they know of each other."""
    line = Line(1 / rate)
    waits = []
    for number in range(60 * wants):
        line.now += 1 / (2 * wants)
        waits.append(line.take(number % 2) - line.now)
    assert max(waits) <= BLOCK_SECONDS
    assert max(waits[6 * wants :]) <= max(0.1, 3 / rate)


# --- in the store ---------------------------------------------------------------------------------------------------


@contextmanager
def counting(db: Database) -> Iterator[Callable[[], int]]:
    """How many transactions there were."""
    found = 0

    def committed(_connection: object) -> None:
        nonlocal found
        found += 1

    sa.event.listen(db.engine.sqlalchemy, "commit", committed)
    try:
        yield lambda: found
    finally:
        sa.event.remove(db.engine.sqlalchemy, "commit", committed)


def turns(db: Database, budget: Budget, wanted: int) -> list[float]:
    """When the next requests may be sent, from now on."""
    began = monotonic()
    found = []
    for _ in range(wanted):
        wait = budget.take(db)
        found.append(monotonic() - began + wait)
    return found


def test_one_process_alone_has_all_of_a_budget_and_asks_for_it_once_a_second(db: Database) -> None:
    with counting(db) as transactions:
        found = turns(db, Budget(KEY, interval=0.001), 5000)
    assert found[-1] == pytest.approx(4.999, abs=0.5)
    # A turn is never early; a busy machine reads the clock late.
    assert all(turn >= number * 0.001 - 0.0005 for number, turn in enumerate(found))
    assert transactions() <= 6


def test_a_few_requests_a_minute_are_as_far_apart_as_that(db: Database) -> None:
    assert turns(db, Budget(KEY, interval=12), 4) == pytest.approx([0, 12, 24, 36], abs=1)


def test_two_processes_share_a_budget_without_a_gap(db: Database) -> None:
    one, other = Budget(KEY, interval=0.02), Budget(KEY, interval=0.02)
    found = [wait for _ in range(200) for budget in (one, other) for wait in turns(db, budget, 1)]
    assert max(found) == pytest.approx(400 * 0.02, abs=1.5)


def test_turns_that_nobody_waits_for_any_more_are_given_back(db: Database) -> None:
    """A run with eight threads at five a minute is cancelled: the next one need not wait for a minute and a half."""
    cancelled = Budget(KEY, interval=12)
    cancelled.enter()
    assert turns(db, cancelled, 8)[-1] > 80
    cancelled.leave(db)
    assert Budget(KEY, interval=12).take(db) <= 12


def test_a_budget_is_kept_while_one_of_its_users_still_waits(db: Database) -> None:
    budget = Budget(KEY, interval=12)
    budget.enter()
    budget.enter()
    turns(db, budget, 3)
    budget.leave(db)
    assert budget.take(db) > 30


def test_budgets_of_different_keys_have_nothing_to_do_with_each_other(db: Database) -> None:
    of_acme, of_zenith = (Budget(Key("shop", name), interval=12) for name in ("acme", "zenith"))
    assert [of_acme.take(db), of_zenith.take(db)] == [0, 0]


# --- a number of requests a day -------------------------------------------------------------------------------------


def test_a_daily_quota_is_spent_to_its_last_request_and_no_further(db: Database) -> None:
    spenders = [Budget(KEY, daily_quota=50) for _ in range(4)]
    sent = 0
    with pytest.raises(QuotaSpent):
        for number in count():
            spender = spenders[number % 4]
            spender.enter()
            for _ in range(3):
                spender.take(db)
                sent += 1
            spender.leave(db)
    assert sent == 50


def test_a_quota_is_shared_by_threads(db: Database) -> None:
    budget, sent = Budget(KEY, daily_quota=40), []

    def send() -> None:
        try:
            while True:
                sent.append(budget.take(db))
        except QuotaSpent:
            pass

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 40


def test_a_spent_quota_says_whose_it_is_and_until_when(db: Database) -> None:
    with pytest.raises(QuotaSpent) as spent:
        Budget(Key("shop", "acme"), daily_quota=2).take(db, 3)
    error = spent.value
    now = datetime.now(timezone.utc)
    assert now < error.until <= now + timedelta(days=1)
    assert (error.until.hour, error.until.minute, error.until.second) == (0, 0, 0)
    assert error.connection_id == "acme"
    assert str(error) == (
        "shop/acme: the 2 requests of its daily quota are spent; "
        f"there are more from {error.until:%Y-%m-%d} 00:00 UTC on."
    )


def test_a_new_day_has_a_quota_of_its_own(db: Database) -> None:
    Budget(KEY, daily_quota=1).take(db)
    assert budgets.spent_until(db, KEY, 1) is not None
    with db.begin() as connection:
        connection.execute(sa.update(schema.budgets).values(day="2026-01-01"))
    assert budgets.spent_until(db, KEY, 1) is None
    assert Budget(KEY, daily_quota=1).take(db) == 0


def test_what_a_process_has_left_of_its_quota_at_the_end_is_there_for_the_next(db: Database) -> None:
    for _ in range(10):
        budget = Budget(KEY, daily_quota=100)
        budget.enter()
        for _ in range(10):
            budget.take(db)
        budget.leave(db)
    assert budgets.spent_until(db, KEY, 100) is not None
    assert budgets.spent_until(db, KEY, 101) is None


# --- in executions --------------------------------------------------------------------------------------------------


def test_a_sync_without_limits_costs_nothing(db: Database) -> None:
    with counting(db) as transactions, limiter_of(db, sync(), "default") as limiter:
        assert limiter is None
    assert transactions() == 0


def test_a_budget_is_the_integrations_or_each_connections() -> None:
    rate = {"requests": 5, "per": "minute"}
    of_all = sync(integration="shop", rate_limit=rate)
    assert key_of(of_all, "acme") == key_of(of_all, "zenith") == Key("shop")
    of_each = sync(integration="shop", rate_limit={**rate, "scope": "connection"}, daily_quota=5)
    assert key_of(of_each, "acme") == Key("shop", "acme")


def test_syncs_of_no_integration_share_a_budget_if_they_ask_the_same_host() -> None:
    urls = ["https://me:secret@a.example/items", "https://a.example/orders", "https://b.example/items"]
    assert [str(key_of(sync(url=url), "default")) for url in urls] == ["a.example", "a.example", "b.example"]


def test_executions_of_one_process_draw_on_one_budget(db: Database) -> None:
    limited = sync(integration="shop", rate_limit={"requests": 5, "per": "minute"})
    with limiter_of(db, limited, "acme") as one, limiter_of(db, limited, "zenith") as other:
        assert one is not None and other is not None
        assert [one.take(), other.take(), one.take()] == pytest.approx([0, 12, 24], abs=1)


def test_an_execution_begins_while_another_waits_to_give_back_what_it_did_not_use(db: Database) -> None:
    """It draws on the same budget, and takes when that is done; those of other APIs do not wait at all."""
    shop, bank = sync(integration="shop", daily_quota=10), sync(integration="bank", daily_quota=10)
    took, leaves, begun = threading.Event(), threading.Event(), threading.Event()

    def end() -> None:
        with limiter_of(db, shop, "acme") as limiter:
            assert limiter is not None
            for _ in range(4):  # the database gives more than that at once, a part of which is left over
                limiter.take()
            took.set()
            leaves.wait(10)

    def begin() -> None:
        with limiter_of(db, shop, "zenith") as same, limiter_of(db, bank, "acme"):
            begun.set()
            assert same is not None
            for _ in range(10 - 4):
                same.take()

    with ThreadPoolExecutor(2) as pool:
        ends = pool.submit(end)
        took.wait(10)
        with db.begin() as connection:
            db.lock(connection, "budget", "shop")
            leaves.set()
            time.sleep(0.2)  # until it waits to write
            begins = pool.submit(begin)
            assert begun.wait(2)
        assert (ends.result(10), begins.result(10)) == (None, None)
    assert spent_until(db, shop, "acme") is not None


def test_an_execution_ends_where_the_quota_does_and_keeps_its_pages(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, items(*range(15)), size=3)
    row = source.registered(db, unique_key="id", daily_quota=2)
    outcome = execute(db, settings, row)
    assert isinstance(outcome.cause, QuotaSpent)
    assert len(api.requests) == 2
    assert len(stored(db, row).live) == 6
    assert spent_until(db, row.sync, "default") == outcome.cause.until
    with db.connect() as connection:
        waits = connection.execute(sa.select(schema.schedules.c.not_before)).scalar_one()
    assert waits == outcome.cause.until


def test_a_retry_is_a_request_too(db: Database, settings: Settings, api: FakeApi) -> None:
    source = Source(api, items(1))
    source.broken[1] = (429, {"Retry-After": "0"}, "")
    row = source.registered(db, unique_key="id", daily_quota=3, retries=9)
    assert isinstance(execute(db, settings, row).cause, QuotaSpent)
    assert len(api.requests) == 3


# --- real processes -------------------------------------------------------------------------------------------------

PER_SECOND = 40
WINDOW = 10.0


def _send_until(env: dict[str, str], url: str, name: str, stop: Event) -> None:
    """A process with four threads, each of which sends as fast as it may."""
    db = open_database(Settings.from_env(env, dotenv=None))
    limited = sync(integration="shop", rate_limit={"requests": PER_SECOND * 60, "per": "minute"})

    def send() -> None:
        with limiter_of(db, limited, "acme") as limiter, Client(cancelled=stop.is_set, limiter=limiter) as client:
            try:
                while True:
                    client.send(Request("GET", f"{url}/{name}"))
            except Cancelled:
                pass

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.close()


@pytest.mark.acceptance
def test_two_processes_with_four_threads_each_keep_to_one_budget(
    db: Database, settings_env: dict[str, str], api: FakeApi
) -> None:
    """No ten seconds see five in a hundred too many; both use it, and when one is killed, the other does."""
    api.route("/*", {})
    stop = PROCESSES.Event()
    processes = {
        name: PROCESSES.Process(target=_send_until, args=(settings_env, api.url, name, stop))
        for name in ("one", "other")
    }
    for process in processes.values():
        process.start()
    try:
        until(lambda: {request.path for request in api.requests} == {"/one", "/other"}, 60)
        both = len(api.requests)
        until(lambda: len(api.requests) > both + PER_SECOND * WINDOW, 60)
        processes["one"].kill()
        processes["one"].join()
        alone = len(api.requests)
        until(lambda: len(api.requests) > alone + 3 * PER_SECOND, 60)
    finally:
        stop.set()
        for process in processes.values():
            process.join(30)
            process.kill()
    times = sorted(request.at for request in api.requests)
    most = int(PER_SECOND * WINDOW * 1.05)
    assert all(after - before > WINDOW for before, after in zip(times, times[most:], strict=False))
    paths = [request.path for request in api.requests[both : both + int(PER_SECOND * WINDOW)]]
    assert min(paths.count("/one"), paths.count("/other")) > 0.2 * len(paths)
