"""How long things take and how often they happen, as people write it."""

from __future__ import annotations

import math
import re
from typing import Any

from nango_dagster.errors import ConfigError, Problem

_UNITS = {
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
_UNITS |= {"d": 86_400, "day": 86_400, "w": 604_800, "week": 604_800, "month": 30 * 86_400}
_PHRASE = re.compile(
    r"(?:every\s+)?(?P<count>[0-9]{1,9}(?:\.[0-9]{1,9})?|half|quarter)?\s*"
    r"(?:(?P<word>msec|millisecond|sec|second|min|minute|hr|hour|day|week|month)s?|(?P<letters>ms|[smhdw]))",
    re.IGNORECASE,
)
_LONGEST = 366 * 86_400
_FREQUENCY = 'a number of minutes, or text such as "every 15 minutes", "every hour" or "every day"'


def minutes(value: Any) -> int:
    """The minutes between two executions, from a number of minutes or from text.

    >>> [minutes(text) for text in (15, "15", "every 5 minutes", "every half day", "2 weeks", "every month")]
    [15, 15, 5, 720, 20160, 43200]
    """
    if isinstance(value, str):
        found = _phrase_or_number(value, 60)
    else:
        found = _number(value) * 60
    if math.isnan(found):
        raise _wrong("frequency", value, _FREQUENCY)
    if not 60 <= found <= _LONGEST or found % 60:
        raise _wrong("frequency", value, "whole minutes, at least one and at most 366 days")
    return int(found // 60)


def seconds(value: Any) -> float:
    """A duration in seconds, from a number of seconds or from text.

    >>> seconds(1.5), seconds("2 minutes"), seconds("hour"), seconds("500ms")
    (1.5, 120.0, 3600.0, 0.5)
    """
    found = _phrase_or_number(value, 1) if isinstance(value, str) else _number(value)
    if not 0 < found <= _LONGEST:
        raise _wrong("duration", value, 'a number of seconds, or text such as "30 seconds" or "2 hours"')
    return found


def _phrase_or_number(text: str, scale: int) -> float:
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return round(float(text) * scale, 6)
    match = _PHRASE.fullmatch(text)
    if match is None:
        return math.nan
    count = (match["count"] or "1").lower()
    unit = (match["word"] or match["letters"]).lower()
    number = {"half": 0.5, "quarter": 0.25}.get(count) or float(count)
    return round(number * _UNITS[unit], 6)  # 1.1 hours are 3960 seconds, not 3960.0000000000005


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
        return math.nan
    return float(value)


def _wrong(what: str, found: Any, wanted: str) -> ConfigError:
    sentence = f"{what} is {found!r:.80}; wanted {wanted}."
    return ConfigError.of(Problem(sentence, found=found, wanted=wanted))
