"""How fast to ask: a budget shared by all threads of the process, and what an API says about waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Protocol


@dataclass(frozen=True)
class RateLimit:
    """At most `requests` in `seconds`, for everything that shares the `key` (an integration)."""

    key: str
    requests: float
    seconds: float


class Limiter(Protocol):
    """Whatever hands out the right to send requests: this process alone, or the store for all of them."""

    def take(self, n: int = 1) -> float:
        """Take the right to send `n` requests; the answer is the seconds to wait before sending them."""
        ...


class Bucket:
    """Hands out requests evenly spaced, so that no window of time ever sees more than the budget."""

    def __init__(self, requests: float, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.interval = seconds / requests
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, n: int = 1) -> float:
        with self._lock:
            now = self._clock()
            turn = max(now, self._free_at)
            self._free_at = turn + n * self.interval
        return turn - now


_buckets: dict[RateLimit, Bucket] = {}
_buckets_lock = threading.Lock()


def bucket(rate: RateLimit) -> Bucket:
    """The one bucket of this process for that budget."""
    with _buckets_lock:
        if rate not in _buckets:
            _buckets[rate] = Bucket(rate.requests, rate.seconds)
        return _buckets[rate]


_REMAINING = ("X-RateLimit-Remaining", "RateLimit-Remaining", "X-Rate-Limit-Remaining")
_RESET = ("X-RateLimit-Reset", "RateLimit-Reset", "X-Rate-Limit-Reset")
_A_MOMENT = 1e9  # larger numbers are seconds since 1970, smaller ones seconds from now
_IN_MILLISECONDS = 1e11


def is_rate_limited(headers: Mapping[str, str]) -> bool:
    """Whether the API says that its budget is used up; GitHub does so with a 403."""
    return "Retry-After" in headers or any(headers.get(name, "").strip() == "0" for name in _REMAINING)


def asked_wait(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The seconds an API asks to wait: its Retry-After, else the time until its used-up budget is renewed.

    >>> asked_wait({"Retry-After": "7"})
    7.0
    >>> asked_wait({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"})
    30.0
    """
    # The API's own clock, where it shows it: ours may differ.
    now = _date(headers.get("Date", "")) or now or datetime.now(timezone.utc)
    if "Retry-After" in headers:
        return _seconds_until(headers["Retry-After"], now)
    if is_rate_limited(headers):
        waits = [_seconds_until(headers[name], now) for name in _RESET if name in headers]
        return max((wait for wait in waits if wait is not None), default=None)
    return None


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        number = float(text)
    except ValueError:
        date = _date(text)
        return None if date is None else max(0.0, (date - now).total_seconds())
    if number != number:
        return None
    if number >= _IN_MILLISECONDS:
        number /= 1000
    return max(0.0, number - now.timestamp() if number >= _A_MOMENT else number)


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
