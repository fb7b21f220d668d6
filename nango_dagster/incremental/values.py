"""The values of a cursor: numbers, times and texts, compared by what they mean and written as the API writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final, Literal

Kind = Literal["time", "number", "text"]

MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECONDS_FROM: Final = Decimal(10) ** 11  # as seconds this is the year 5138
_LATEST: Final = Decimal(253_402_300_799)  # the last second of the year 9999
_ISO: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:(?P<gap>[T ])(?P<minute>\d\d:\d\d)(?P<second>:\d\d)?(?P<fraction>\.\d{1,9})?"
    r"\s?(?P<zone>Z|z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)


@dataclass(frozen=True)
class Cursor:
    """One value of a cursor: as the API wrote it, and what it is compared by."""

    written: str | int | float
    kind: Kind
    value: Any
    """A datetime, a Decimal or a text; only values of one kind are compared."""

    @property
    def granule(self) -> timedelta:
        """The time that two different values are apart at least, for a time of days or minutes."""
        match = _ISO.fullmatch(self.written.strip()) if isinstance(self.written, str) else None
        if match is None or match["second"]:
            return timedelta(seconds=1)
        return MINUTE if match["minute"] else _DAY


def cursor_of(value: Any, form: str | None) -> Cursor | None:
    """A value of a record as a cursor; None where it is none, such as null or a list.

    With a `form`, which is the config's `format`, numbers are seconds or milliseconds since 1970. A time without a zone
    is in UTC.

    >>> cursor_of("2026-01-01T01:00:00+01:00", None).value == cursor_of("2026-01-01 00:00", None).value
    True
    >>> cursor_of("10", None).value > cursor_of(9, None).value, cursor_of(1767225600000, "unix").value.isoformat()
    (True, '2026-01-01T00:00:00+00:00')
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not text or len(text) > 1000:
            return None
        moment = _time_of(text, form)
        if moment is not None:
            return Cursor(value, "time", moment)
        if not _NUMBER.fullmatch(text):
            return Cursor(value, "text", text) if form is None else None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    if form is None:
        return Cursor(value, "number", number)
    seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
    if not 0 <= seconds <= _LATEST:
        return None
    return Cursor(value, "time", _EPOCH + timedelta(microseconds=int(seconds * 1_000_000)))


def _time_of(text: str, form: str | None) -> datetime | None:
    match = _ISO.fullmatch(text)
    try:
        if match is not None:
            fraction = (match["fraction"] or ".0")[:7]
            time = f"{match['minute'] or '00:00'}{match['second'] or ':00'}{fraction.ljust(7, '0')}"
            return datetime.fromisoformat(f"{match['date']}T{time}+00:00") - _offset(match["zone"])
        if form is not None and "%" in form:
            return _in_utc(datetime.strptime(text, form))  # noqa: DTZ007 - without a zone it is in UTC
        if "," in text:
            return _in_utc(parsedate_to_datetime(text))
    except (ValueError, OverflowError, TypeError):
        return None
    return None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _offset(zone: str | None) -> timedelta:
    """The distance of a written zone from UTC."""
    if zone is None or zone in ("Z", "z"):
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (-1 if zone[0] == "-" else 1) * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def of_moment(moment: datetime) -> Cursor:
    """A time of our own as a cursor."""
    return Cursor(written_time(moment, "iso"), "time", moment)


def capped(cursor: Cursor, moment: datetime) -> Cursor:
    """The cursor, or the moment in the same form where the cursor is later.

    >>> capped(cursor_of("2099-01-01", None), datetime(2026, 5, 4, 3, tzinfo=timezone.utc)).written
    '2026-05-04'
    """
    if cursor.kind != "time" or cursor.value <= moment:
        return cursor
    return Cursor(written_like(cursor.written, moment), "time", moment)


def bound(cursor: Cursor, lag: timedelta | None) -> Cursor:
    """The lower bound of the next request: `lag` before the cursor, by default a minute or the cursor's granule.

    >>> bound(cursor_of("2026-01-01T00:00:30.5Z", None), None).written, bound(cursor_of(17, None), None).written
    ('2025-12-31T23:59:30.5Z', 17)
    >>> bound(cursor_of("0001-01-01T00:00:00Z", None), None).written  # no time, as some APIs write it
    '0001-01-01T00:00:00Z'
    """
    if cursor.kind != "time":
        return cursor
    step = max(MINUTE, cursor.granule) if lag is None else lag
    if not step or cursor.value <= _EPOCH:
        return cursor
    earlier = max(_EPOCH, cursor.value - step)
    return Cursor(written_like(cursor.written, earlier), "time", earlier)


def written(cursor: Cursor, form: str | None) -> str | int | float:
    """The cursor as it is sent: in the config's `format`, or as the records have it.

    >>> at = cursor_of("2026-01-01T00:00:30.5Z", None)
    >>> [written(at, form) for form in (None, "iso_seconds", "date", "unix", "unix_ms", "%Y/%m/%d %H:%M")]
    ['2026-01-01T00:00:30.5Z', '2026-01-01T00:00:30Z', '2026-01-01', 1767225630, 1767225630500, '2026/01/01 00:00']
    """
    if form is None or cursor.kind != "time":
        return cursor.written
    return written_time(cursor.value, form)


def written_time(moment: datetime, form: str) -> str | int:
    """A time in one of the formats, rounded down; strftime codes are in UTC."""
    moment = moment.astimezone(timezone.utc)
    if form == "iso":
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if form == "iso_seconds":
        return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    if form == "date":
        return moment.date().isoformat()
    if form == "unix":
        return (moment - _EPOCH) // timedelta(seconds=1)
    if form == "unix_ms":
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    if form == "http_date":
        return format_datetime(moment.replace(microsecond=0), usegmt=True)
    return moment.strftime(form)


def written_like(sample: str | int | float, moment: datetime) -> str | int | float:
    """A time, rounded down, in the form that a sample has."""
    if not isinstance(sample, str):
        large = abs(sample) >= float(_MILLISECONDS_FROM)
        return (moment - _EPOCH) // timedelta(milliseconds=1 if large else 1000)
    match = _ISO.fullmatch(sample.strip())
    if match is None:
        if _NUMBER.fullmatch(sample.strip()):
            return str(written_like(float(sample), moment))
        return written_time(moment, "http_date" if "," in sample else "iso")
    if not match["minute"]:
        return moment.astimezone(timezone.utc).date().isoformat()
    zone = match["zone"]
    local = moment.astimezone(timezone.utc).replace(tzinfo=None) + _offset(zone)
    text = f"{local:%Y-%m-%d}{match['gap']}{local:%H:%M}"
    if match["second"]:
        text += f"{local:%S}".rjust(3, ":")
    if match["fraction"]:
        text += f".{local:%f}"[: min(7, len(match["fraction"]))].ljust(len(match["fraction"]), "0")
    return text + (zone or "")
