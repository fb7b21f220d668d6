"""Which type a new column gets, and which texts are timestamps."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any


class Type(str, Enum):
    """The types of columns, with the names that `mapping:` accepts."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    TIMESTAMP = "timestamp"


def infer(values: Iterable[Any]) -> Type:
    """The type of a new column from the first values seen: the first one decides, strings only together.

    `false` and `""` decide only where there is nothing else: many APIs send them in place of a value.

    >>> infer([23, 182, "nango is great"]).value, infer(["2024-01-15", "soon"]).value, infer([False, "", 12.5]).value
    ('number', 'string', 'number')
    """
    seen = list(values)
    decisive = [value for value in seen if value is not False and value != ""] or seen
    first = decisive[0]
    if isinstance(first, bool):
        return Type.BOOLEAN
    if isinstance(first, (int, Decimal, float)):
        return Type.NUMBER
    strings = [value for value in decisive if isinstance(value, str)]
    return Type.TIMESTAMP if all(parse_timestamp(value) for value in strings) else Type.STRING


# --- timestamps -----------------------------------------------------------------------------------------------------

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
