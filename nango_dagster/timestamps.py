"""The texts that are points in time."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_HOUR_MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"
_IS_TIMESTAMP = re.compile(
    rf"\d{{4}}-\d\d-\d\d(?:[T ]{_HOUR_MINUTE}(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?", re.ASCII
).fullmatch
_IS_UTC_SECONDS = re.compile(rf"\d{{4}}-\d\d-\d\dT{_HOUR_MINUTE}:[0-5]\dZ", re.ASCII).fullmatch


def parse_timestamp(text: str) -> datetime | None:
    """The point in time that `text` names, in UTC, or None when it is no timestamp we know.

    >>> parse_timestamp("2024-01-15T10:30:00+02:00").isoformat()
    '2024-01-15T08:30:00+00:00'
    >>> parse_timestamp("yesterday") is None
    True
    """
    try:
        if len(text) == 20 and _IS_UTC_SECONDS(text):  # by far the most common spelling
            return datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
        if not _IS_TIMESTAMP(text):
            return None
        when = datetime.fromisoformat(_for_fromisoformat(text))
        return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        return None


def _for_fromisoformat(text: str) -> str:
    """The spelling that Python 3.10 understands: six digits of fraction, a colon in the zone."""
    date, clock = text[:10], text[11:]
    if not clock:
        return date
    if clock[-1] == "Z":
        clock, zone = clock[:-1], "+00:00"
    elif len(clock) > 5 and (sign := max(clock.find("+"), clock.find("-"))) > 0:
        clock, zone = clock[:sign], clock[sign:]
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    else:
        zone = ""
    clock, _, fraction = clock.partition(".")
    return f"{date}T{clock}{'.' + fraction[:6].ljust(6, '0') if fraction else ''}{zone}"
