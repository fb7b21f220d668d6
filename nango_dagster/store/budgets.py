"""Budgets of requests that all threads and all runs share: a rate, and a daily quota.

A process reserves a block of requests in the database about once a second, and its threads use them. The blocks of a
rate are pieces of time that follow one another, and the requests in a block are an interval apart, so no window of time
has more requests than the rate allows. When a process dies, only the rest of its block is lost.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, insert, select, update

from .. import clock
from ..errors import QuotaSpent
from . import schema
from .database import Database

BLOCK_SECONDS: Final = 1.0
# The longest block while other processes use the same budget, so that they do not wait for requests nobody needs.
SHARED_SECONDS: Final = 0.5
MOMENT_SECONDS: Final = 0.02
REMEMBERED_SECONDS: Final = 10.0  # after another process was seen, blocks stay short

_of = schema.budgets.c


class Key(NamedTuple):
    """The owner of a budget: an integration, or one of its connections."""

    integration: str
    connection_id: str | None = None

    def __str__(self) -> str:
        return self.integration if self.connection_id is None else f"{self.integration}/{self.connection_id}"


class Budget:
    """A rate, a daily quota, or both, for all threads of this process; one object for each key.

    An execution calls `enter`, `take` for each request, and `leave`; the last one to leave returns unused requests.
    """

    def __init__(self, key: Key, interval: float | None = None, daily_quota: int | None = None) -> None:
        """`interval` is the seconds between two requests."""
        self._rate = Rate(key, interval) if interval else None
        self._quota = Quota(key, daily_quota) if daily_quota else None
        self._lock = threading.Lock()
        self._users = 0

    def take(self, db: Database, n: int = 1) -> float:
        """Take the right to send `n` requests; the seconds to wait before sending them. May raise QuotaSpent."""
        if self._quota is not None:
            self._quota.take(db, n)
        return self._rate.take(db, n) if self._rate is not None else 0.0

    def enter(self) -> None:
        """Register a user of the budget."""
        with self._lock:
            self._users += 1

    def leave(self, db: Database) -> None:
        """Unregister a user; after the last one, reserved requests that were not used are returned."""
        with self._lock:
            self._users -= 1
        if self._is_used():
            return
        for part in (self._rate, self._quota):
            if part is not None:
                part.give_back(db, self._is_used)

    def _is_used(self) -> bool:
        return self._users > 0

    @property
    def is_idle(self) -> bool:
        """Whether the budget has no user, and holds no reserved request."""
        return not self._is_used() and (self._rate is None or self._rate.pace.ends_at < clock.monotonic())


# --- the rate -------------------------------------------------------------------------------------------------------


class Pace:
    """The times of the requests of one block after another, an interval apart; in seconds of any clock.

    >>> pace = Pace(0.25)
    >>> pace.begin(10.0, 3)
    >>> pace.turn(10.0), pace.turn(10.1), pace.turn(10.6), pace.turn(10.8)
    (10.0, 10.25, None, None)
    >>> pace.free_at
    10.5
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.holder = uuid.uuid4().hex
        self.free_at = 0.0
        """When the next request may be sent."""
        self.ends_at = 0.0
        self._size = 0
        self._used = 0
        self._shared_until = 0.0

    def begin(self, at: float, size: int) -> None:
        """Begin a block of `size` requests at the time `at`."""
        self.free_at = at
        self.ends_at = at + size * self.interval
        self._size = size
        self._used = 0

    def turn(self, now: float, n: int = 1) -> float | None:
        """The time when `n` requests may be sent; None when the block has no room for them."""
        turn = max(now, self.free_at)
        next_free = turn + n * self.interval
        if next_free > self.ends_at + self.interval * 1e-6:  # sums of fractions are not exact
            return None
        self.free_at = next_free
        self._used += n
        return turn

    def next_block(self, now: float, n: int, taken_until: float, holder: str | None) -> tuple[float, int]:
        """The begin and the size of this process's next block; `holder` has the last block, until `taken_until`.

        A block has the requests of one second. While other processes use the same budget it has as many requests as
        were needed lately, so that nobody waits for requests that are not used. The rest of this process's own last
        block is part of the next one.
        """
        is_own = holder == self.holder
        if holder is not None and not is_own and taken_until > now - REMEMBERED_SECONDS:
            self._shared_until = now + REMEMBERED_SECONDS
        size = self._within(BLOCK_SECONDS)
        if now < self._shared_until:
            needed = 2 * self._used if self._used >= self._size else self._used
            size = max(self._within(MOMENT_SECONDS), min(needed, self._within(SHARED_SECONDS)))
        return max(now, self.free_at if is_own else taken_until), max(n, size)

    def _within(self, seconds: float) -> int:
        """The number of requests in a span of time, at least one."""
        return max(1, int(seconds / self.interval + 1e-6))


class Rate:
    """One request per `interval` seconds, shared by all processes that use the key."""

    def __init__(self, key: Key, interval: float) -> None:
        self.pace = Pace(interval)
        self._key = key
        self._lock = threading.Lock()

    def take(self, db: Database, n: int = 1) -> float:
        """Take the right to send `n` requests; the seconds to wait before sending them."""
        with self._lock:
            turn = self.pace.turn(clock.monotonic(), n)
            if turn is None:
                begin, size = db.transact(lambda connection: self._reserve(connection, db, n))
                self.pace.begin(begin, size)
                # The commit can take longer than a small block lasts; its first request is sent nevertheless.
                turn = self.pace.turn(clock.monotonic(), n) or self.pace.turn(begin, n)
            assert turn is not None
        return max(0.0, turn - clock.monotonic())

    def _reserve(self, connection: Connection, db: Database, n: int) -> tuple[float, int]:
        """The begin of the next block, in seconds of this process's clock, and its size."""
        row, now = _locked(connection, db, self._key)
        here = clock.monotonic()
        taken_until = here + (row.free_at - now).total_seconds() if row.free_at else here
        begin, size = self.pace.next_block(here, n, taken_until, row.holder)
        ends = now + timedelta(seconds=begin - here + size * self.pace.interval)
        connection.execute(_row(self._key).values(holder=self.pace.holder, free_at=ends))
        return begin, size

    def give_back(self, db: Database, is_used: Callable[[], bool]) -> None:
        """Return the rest of the block to other processes when it is long and nobody here uses the budget."""
        with self._lock:  # a new user takes a block after this has ended
            if not is_used() and self.pace.ends_at > clock.monotonic() + BLOCK_SECONDS:
                db.transact(lambda connection: self._shorten(connection, db))
                self.pace = Pace(self.pace.interval)

    def _shorten(self, connection: Connection, db: Database) -> None:
        row, now = _locked(connection, db, self._key)
        free_at = now + timedelta(seconds=self.pace.interval)
        if row.holder == self.pace.holder and row.free_at > free_at:
            connection.execute(_row(self._key).values(free_at=free_at, holder=None))


# --- the quota ------------------------------------------------------------------------------------------------------


class Quota:
    """A number of requests per day, which begins at midnight UTC, shared by all processes that use the key."""

    def __init__(self, key: Key, requests: int) -> None:
        self._key = key
        self._requests = requests
        self._lock = threading.Lock()
        self._left = 0
        self._size = 1
        self._asked_at = 0.0
        self._ends_at = 0.0

    def take(self, db: Database, n: int = 1) -> None:
        """Take `n` requests. Raises QuotaSpent when the day has not enough left."""
        with self._lock:
            if clock.monotonic() >= self._ends_at:
                self._left = 0
            if self._left < n:
                self._take_more(db, n - self._left)
            self._left -= n

    def _take_more(self, db: Database, needed: int) -> None:
        """Reserve as many requests as were used in a second lately, at least those needed now."""
        elapsed = max(clock.monotonic() - self._asked_at, 1e-3)
        estimate = max(1, min(int(self._size * BLOCK_SECONDS / elapsed), 2 * self._size))
        granted, now = db.transact(lambda connection: self._spend(connection, db, max(estimate, needed)))
        midnight = _midnight_after(now)
        self._left += granted
        self._size = max(granted, 1)
        self._asked_at = clock.monotonic()
        self._ends_at = self._asked_at + (midnight - now).total_seconds()
        if granted < needed:
            raise QuotaSpent(
                f"{self._key}: the {self._requests:,} requests of its daily quota are spent; "
                f"there are more from {midnight:%Y-%m-%d %H:%M} UTC on.",
                midnight,
                self._key.connection_id,
            )

    def _spend(self, connection: Connection, db: Database, requests: int) -> tuple[int, datetime]:
        """Count up to `requests` as spent today; returns how many were left, and the database's time."""
        row, now = _locked(connection, db, self._key)
        spent = row.spent if row.day == _day(now) else 0
        granted = max(0, min(requests, self._requests - spent))
        connection.execute(_row(self._key).values(day=_day(now), spent=spent + granted))
        return granted, now

    def give_back(self, db: Database, is_used: Callable[[], bool]) -> None:
        """Return reserved requests that were not used when nobody here uses the budget."""
        with self._lock:  # a new user takes requests after this has ended
            if is_used():
                return
            if self._left and clock.monotonic() < self._ends_at:
                db.transact(lambda connection: self._return(connection, db))
            self._left = 0

    def _return(self, connection: Connection, db: Database) -> None:
        row, now = _locked(connection, db, self._key)
        if row.day == _day(now):
            connection.execute(_row(self._key).values(spent=max(0, row.spent - self._left)))


def spent_until(db: Database, key: Key, daily_quota: int) -> datetime | None:
    """The time when a spent quota has requests again; None while today's are not all taken."""
    with db.connect() as connection:
        row = connection.execute(select(_of.day, _of.spent).where(_of.key == str(key))).first()
        now = db.now(connection)
    is_spent = row is not None and row.day == _day(now) and row.spent >= daily_quota
    return _midnight_after(now) if is_spent else None


def _day(now: datetime) -> str:
    return now.strftime("%Y-%m-%d")


def _midnight_after(now: datetime) -> datetime:
    tomorrow = now.astimezone(timezone.utc) + timedelta(days=1)
    return tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)


# --- the row --------------------------------------------------------------------------------------------------------


class _NoRow(NamedTuple):
    """The values of a budget that nobody has used yet."""

    holder: str | None = None
    free_at: datetime | None = None
    day: str | None = None
    spent: int = 0


def _locked(connection: Connection, db: Database, key: Key) -> tuple[Any, datetime]:
    """The budget's row, locked until the transaction ends, and the database's time."""
    db.lock(connection, "budget", str(key))
    row = connection.execute(select(_of.holder, _of.free_at, _of.day, _of.spent).where(_of.key == str(key))).first()
    if row is None:
        connection.execute(insert(schema.budgets).values(key=str(key)))
    return row or _NoRow(), db.now(connection)


def _row(key: Key) -> Any:
    return update(schema.budgets).where(_of.key == str(key))
