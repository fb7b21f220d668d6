"""How often to send requests: a budget shared by all threads of the process, and the waits that APIs ask for."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from .. import clock


@dataclass(frozen=True)
class RateLimit:
    """At most `requests` in `seconds`, for everything that shares the `key` (an integration)."""

    key: str
    requests: float
    seconds: float


class Limiter(Protocol):
    """Hands out the right to send requests: for this process alone, or through the store for all processes."""

    def take(self, n: int = 1) -> float:
        """Take the right to send `n` requests; returns the seconds to wait before sending them."""
        ...


class Bucket:
    """Spaces requests evenly, so that no window of time ever holds more than the budget."""

    def __init__(self, requests: float, seconds: float, monotonic: Callable[[], float] = clock.monotonic) -> None:
        self.interval = seconds / requests
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, n: int = 1) -> float:
        with self._lock:
            now = self._monotonic()
            starts_at = max(now, self._free_at)
            self._free_at = starts_at + n * self.interval
        return starts_at - now


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
_RETRY_AFTER = ("Retry-After", "X-Retry-After")
_RETRY_AFTER_MILLISECONDS = ("Retry-After-Ms", "X-Ms-Retry-After-Ms")
_RESET_AFTER = ("X-RateLimit-Reset-After", "RateLimit-Reset-After")
# In one header, as the drafts of the IETF have it: `limit=100, remaining=0, reset=7`, later `"default";r=0;t=7`.
_IN_ONE_HEADER = re.compile(r"(?:^|[;,\s])(?:reset|t)\s*=\s*(\d+)")
_DURATION = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?)", re.IGNORECASE
)
_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_EPOCH_SECONDS = 1e9  # larger numbers are seconds since 1970, smaller ones seconds from now
_EPOCH_MILLISECONDS = 1e11


def is_rate_limited(headers: Mapping[str, str]) -> bool:
    """Whether the headers say that the budget is used up; GitHub sends them with a 403."""
    return asks_to_wait(headers) or any(headers.get(name, "").strip() == "0" for name in _REMAINING)


def asks_to_wait(headers: Mapping[str, str]) -> bool:
    """Whether the answer names a time after which the request is welcome."""
    return any(name in headers for name in (*_RETRY_AFTER, *_RETRY_AFTER_MILLISECONDS))


def asked_wait(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The seconds an API asks to wait: its Retry-After, else the time until its used-up budget is renewed.

    >>> asked_wait({"Retry-After": "7"})
    7.0
    >>> asked_wait({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"})
    30.0
    """
    # The API's own clock, where it shows it: ours may differ.
    now = _date(headers.get("Date", "")) or now or clock.now()
    waits = [_seconds_until(headers[name], now) for name in _RETRY_AFTER if name in headers]
    waits += [_milliseconds(headers[name]) for name in _RETRY_AFTER_MILLISECONDS if name in headers]
    if not waits:
        waits = [_seconds_until(headers[name], now) for name in _RESET_AFTER if name in headers]
        waits += [float(match[1]) for match in [_IN_ONE_HEADER.search(headers.get("RateLimit", ""))] if match]
    if not waits and is_rate_limited(headers):
        waits = [_seconds_until(headers[name], now) for name in _RESET if name in headers]
    return max((wait for wait in waits if wait is not None), default=None)


def wait_of(value: Any, now: datetime | None = None) -> float | None:
    """The seconds until a time that an API tells in a header or a body; None where the value is no time.

    A number is seconds from now, or seconds or milliseconds since 1970; a text may be a number, a duration, or a date
    of HTTP or of ISO 8601.

    >>> wait_of("7"), wait_of(0.5), wait_of("1m30s"), wait_of("1500 ms"), wait_of(True)
    (7.0, 0.5, 90.0, 1.5, None)
    >>> wait_of("2026-01-01T00:00:30Z", datetime(2026, 1, 1, tzinfo=timezone.utc))
    30.0
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    return _seconds_until(str(value), now or clock.now())


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        number = float(text)
    except ValueError:
        date = _date(text) or _iso_date(text)
        return _duration(text) if date is None else max(0.0, (date - now).total_seconds())
    if not math.isfinite(number):
        return None
    if number >= _EPOCH_MILLISECONDS:
        number /= 1000
    return max(0.0, number - now.timestamp() if number >= _EPOCH_SECONDS else number)


def _milliseconds(text: str) -> float | None:
    return int(text) / 1000 if text.isascii() and text.isdigit() else None


def _duration(text: str) -> float | None:
    """The seconds of a duration such as `1m30s` or `7 seconds`; None where the text is none."""
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip(" ,"):
        return None
    return sum(
        float(number) * (0.001 if unit.lower().startswith(("ms", "mil")) else _UNIT_SECONDS[unit[0].lower()])
        for number, unit in parts
    )


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def _iso_date(text: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)
