"""Durations and frequencies as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

from nango_dagster.errors import ConfigError, Problem

SHORTEST = timedelta(seconds=30)
"""The shortest interval between two executions of a sync."""

_SECONDS_OF = {
    "ms": 0.001,
    "msec": 0.001,
    "millisecond": 0.001,
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hr": 3600,
    "hour": 3600,
}
_SECONDS_OF |= {"d": 86_400, "day": 86_400, "w": 604_800, "week": 604_800, "month": 30 * 86_400}
_SECONDS_OF |= dict.fromkeys(("y", "yr", "year"), 31_557_600)  # 365.25 days, as Nango has it
_PHRASE = re.compile(
    r"(?:every\s+)?(?P<count>[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}|half|quarter)?\s*"
    r"(?:(?P<word>msec|millisecond|sec|second|min|minute|hr|hour|day|week|month|yr|year)s?|(?P<letters>ms|[smhdwy]))",
    re.IGNORECASE,
)
_LONGEST = 366 * 86_400
_FREQUENCY = 'a number of minutes, or text such as "every 15 minutes", "every hour" or "every 30 seconds"'


def interval_of(value: Any) -> timedelta:
    """The time between two executions, from a number of minutes or from text; raises ConfigError.

    >>> [str(interval_of(value)) for value in (15, "15", "every 45 seconds", "every half day", "every month")]
    ['0:15:00', '0:15:00', '0:00:45', '12:00:00', '30 days, 0:00:00']
    """
    seconds = _phrase_or_number(value, 60) if isinstance(value, str) else _number(value) * 60
    if math.isnan(seconds):
        raise _wrong("frequency", value, _FREQUENCY)
    if not SHORTEST.total_seconds() <= seconds <= _LONGEST or seconds % 1:
        raise _wrong("frequency", value, "whole seconds, at least 30 and at most 366 days")
    return timedelta(seconds=seconds)


def normalised(value: Any) -> int | str:
    """A frequency as a config keeps it: whole minutes as a number, other intervals as text; raises ConfigError.

    >>> normalised("every 2 hours"), normalised("90s")
    (120, 'every 90 seconds')
    """
    interval = interval_of(value)
    minutes, rest = divmod(interval, timedelta(minutes=1))
    return every(interval) if rest else minutes


def every(interval: timedelta) -> str:
    """An interval in the words that configs use.

    >>> every(timedelta(minutes=5)), every(timedelta(hours=1)), every(timedelta(seconds=90))
    ('every 5 minutes', 'every hour', 'every 90 seconds')
    """
    seconds = round(interval.total_seconds())
    for unit in ("day", "hour", "minute", "second"):
        count, rest = divmod(seconds, _SECONDS_OF[unit])
        if not rest:
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    raise AssertionError("every whole number of seconds can be said in seconds")


def seconds(value: Any) -> float:
    """A duration in seconds, from a number of seconds or from text; raises ConfigError.

    >>> seconds(1.5), seconds("2 minutes"), seconds("hour"), seconds("500ms")
    (1.5, 120.0, 3600.0, 0.5)
    """
    duration = _phrase_or_number(value, 1) if isinstance(value, str) else _number(value)
    if not 0 < duration <= _LONGEST:
        raise _wrong("duration", value, 'a number of seconds, or text such as "30 seconds" or "2 hours"')
    return duration


def _phrase_or_number(text: str, scale: int) -> float:
    """The seconds that a text names; NaN for text that names none."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return round(float(text) * scale, 6)
    match = _PHRASE.fullmatch(text)
    if match is None:
        return math.nan
    count = (match["count"] or "1").lower()
    unit = (match["word"] or match["letters"]).lower()
    number = {"half": 0.5, "quarter": 0.25}.get(count) or float(count)
    return round(number * _SECONDS_OF[unit], 6)  # 1.1 hours are 3960 seconds, not 3960.0000000000005


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
        return math.nan
    return float(value)


def _wrong(name: str, value: Any, wanted: str) -> ConfigError:
    return ConfigError.of(Problem(f"{name} is {value!r:.80}; wanted {wanted}.", found=value, wanted=wanted))
