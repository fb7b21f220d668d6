"""The values of a cursor: numbers, times and texts, compared by what they mean and written as the API writes them.

A time may come later with an earlier value, and may lie in the future. Therefore a lower bound is `lag` before the
greatest time, and a cursor never passes the start of the execution. A plain number may be a time, too: then both hold
for it as well, and cost a number that is none only some records that are read again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, Final, Literal

from .time_texts import EPOCH, MINUTE, SECOND, http_date, milliseconds, moment_of_text, shifted, time_text

Kind = Literal["time", "number", "text"]

NUMBER: Final = "number"
"""The `format` of numbers that are no times, such as ids."""
_DAY: Final = timedelta(days=1)
_UNITS: Final = ((Decimal(10) ** 17, 10**9), (Decimal(10) ** 14, 10**6), (Decimal(10) ** 11, 10**3))
"""From such a size on a number is in nano-, micro- or milliseconds since 1970, so many of which are a second."""
_EARLY: Final = Decimal(10) ** 9
"""Seconds since 1970, in September 2001. A smaller number without a `format` is no time."""
_NUMBER: Final = re.compile(r"-?\d{1,40}(\.\d{1,40})?", re.ASCII)
_MOST_DIGITS: Final = 100
_NO_DATE: Final = re.compile(r"0000-00-00(?:[T ][0:.]*Z?)?", re.ASCII)
"""A date of MySQL that is not set."""
_FIXED_WIDTH: Final = re.compile(r"[0-9A-Za-z_-]{16,}", re.ASCII)
"""Ids that sort by time as texts of one length: ULID, KSUID, ObjectId, UUID of version 7."""


@dataclass(frozen=True)
class Cursor:
    """One value of a cursor: as the API wrote it, and what it is compared by."""

    written: str | int | float
    kind: Kind
    value: Any
    """A datetime, a Decimal or a text; only values of one kind are compared."""
    may_be_time: bool = False
    """Whether a number may be a time, because no `format` says what it is."""

    @property
    def granule(self) -> timedelta:
        """The time that two different values are apart at least, for a time of days or minutes."""
        known = time_text(self.written.strip()) if isinstance(self.written, str) else None
        return SECOND if known is None else known.granule

    @property
    def moment(self) -> datetime | None:
        """The time that it is or may be; None for a text, and for a number that is none."""
        if self.kind == "time":
            moment: datetime = self.value
            return moment
        if not self.may_be_time or self.value < _EARLY * _unit(self.value):
            return None
        return _moment_of_number(self.value)

    def is_after(self, moment: datetime) -> bool:
        """Whether it is or may be a time after this one."""
        return self.moment is not None and self.moment > moment


def cursor_of(value: Any, form: str | None) -> Cursor | None:
    """A value of a record as a cursor; None where it is none, such as null or a list.

    With a `form`, which is the config's `format`, numbers are times: seconds, milliseconds, micro- or nanoseconds since
    1970, by their size. With `number` they are none.

    >>> cursor_of("2026-01-01T01:00:00+01:00", None).value == cursor_of("2026-01-01 00:00", None).value
    True
    >>> cursor_of("10", None).value > cursor_of(9, None).value, cursor_of(1767225600000, "unix").value.isoformat()
    (True, '2026-01-01T00:00:00+00:00')
    >>> cursor_of(Decimal("1767225600.25"), None).written, cursor_of("0000-00-00 00:00:00", None)
    (1767225600.25, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    if not text or len(text) > 1000 or _NO_DATE.fullmatch(text):
        return None
    if isinstance(value, str):
        moment = None if form == NUMBER else moment_of_text(text, form)
        if moment is not None:
            return Cursor(value, "time", moment)
        if not _NUMBER.fullmatch(text):
            return Cursor(value, "text", text) if form is None else None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        return None
    as_written = _exactly(value) if isinstance(value, Decimal) else value
    if form is None or form == NUMBER:
        return Cursor(as_written, "number", number, may_be_time=form is None)
    moment = _moment_of_number(number)
    return None if moment is None else Cursor(as_written, "time", moment)


def _exactly(number: Decimal) -> float | str:
    """A number of JSON as it is stored and sent: as a text where a float would round it."""
    nearest = float(number)
    return nearest if Decimal(repr(nearest)) == number else format(number, "f")


def of_one_kind(one: Cursor, other: Cursor) -> tuple[Cursor, Cursor] | None:
    """Two cursors that can be compared; None where they cannot. An id may consist of digits by chance.

    >>> pair = of_one_kind(cursor_of("65f0c0ffee01", None), cursor_of("650000000001", None))
    >>> pair[0].value > pair[1].value, of_one_kind(cursor_of("2026-01-01", None), cursor_of(7, None))
    (True, None)
    """
    if one.kind == other.kind:
        return one, other
    texts = one.written, other.written
    if "time" in (one.kind, other.kind) or not isinstance(texts[0], str) or not isinstance(texts[1], str):
        return None
    if len(texts[0]) != len(texts[1]):
        return None
    return Cursor(texts[0], "text", texts[0]), Cursor(texts[1], "text", texts[1])


def is_surely_before(one: Cursor, other: Cursor) -> bool:
    """Whether a value is before another one in the order of any API: not so for versions, or dates such as 03/29/2026.

    >>> is_surely_before(cursor_of("9", None), cursor_of("10", None))
    True
    >>> is_surely_before(cursor_of("v1.10", None), cursor_of("v1.9", None))
    False
    """
    pair = of_one_kind(one, other)
    if pair is None or not pair[0].value < pair[1].value:
        return False
    if pair[0].kind == "time":
        return True
    if not isinstance(one.written, str) or not isinstance(other.written, str):
        return True
    texts = one.written.strip(), other.written.strip()
    if pair[0].kind == "number":  # "1.10" may be a version after "1.9"
        return len(texts[0].partition(".")[2]) == len(texts[1].partition(".")[2])
    return len(texts[0]) == len(texts[1]) and all(map(_FIXED_WIDTH.fullmatch, texts))


def of_moment(moment: datetime) -> Cursor:
    """A time of our own as a cursor."""
    return Cursor(written_time(moment, "iso"), "time", moment)


def capped(cursor: Cursor, moment: datetime) -> Cursor:
    """The cursor, or the moment in the same form where the cursor is later; an id may be any number.

    >>> capped(cursor_of("2099-01-01", None), datetime(2026, 5, 4, 3, tzinfo=timezone.utc)).written
    '2026-05-04'
    """
    own_moment = cursor.moment
    if own_moment is None or own_moment <= moment:
        return cursor
    if cursor.kind == "number" and own_moment > shifted(moment, _DAY):  # no time: it may be an id
        return cursor
    return _at(cursor, moment)


def bound(cursor: Cursor, lag: timedelta | None, now: datetime) -> Cursor:
    """The lower bound of the next request: `lag` before the cursor, by default a minute or the cursor's granule.

    >>> now = datetime(2026, 5, 4, tzinfo=timezone.utc)
    >>> values = "2026-01-01T00:00:30.5Z", 1767225630, 17, "0001-01-01T00:00:00Z"  # the last one means no time
    >>> [bound(cursor_of(value, None), None, now).written for value in values]
    ['2025-12-31T23:59:30.5Z', 1767225570, 17, '0001-01-01T00:00:00Z']
    """
    moment = cursor.moment
    if moment is None or moment <= EPOCH or (cursor.kind == "number" and moment > now):
        return cursor
    step = max(MINUTE, cursor.granule) if lag is None else lag
    return _at(cursor, max(EPOCH, shifted(moment, -step))) if step else cursor


def _at(cursor: Cursor, moment: datetime) -> Cursor:
    """A cursor at a time, in the form of another one."""
    written = written_like(cursor.written, moment)
    value = moment if cursor.kind == "time" else Decimal(str(written))
    return Cursor(written, cursor.kind, value, cursor.may_be_time)


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
        return (moment - EPOCH) // SECOND
    if form == "unix_ms":
        return milliseconds(moment)
    if form == "http_date":
        return http_date(moment)
    return moment.strftime(form)


def written_like(sample: str | int | float, moment: datetime) -> str | int | float:
    """A time, rounded down, in the form that a sample has.

    >>> moment = datetime(2026, 1, 1, 0, 0, 30, 123456, tzinfo=timezone.utc)
    >>> [written_like(sample, moment) for sample in (1700000000, "1700000000.12", 1700000000000000000)]
    [1767225630, '1767225630.12', 1767225630123456000]
    """
    text = str(sample).strip()
    if isinstance(sample, str) and not _NUMBER.fullmatch(text):
        known = time_text(text)
        return known.like(moment) if known is not None else written_time(moment, "iso")
    per_second = _unit(Decimal(text))
    decimals = len(text.partition(".")[2]) if "e" not in text else 0
    number = Decimal((moment - EPOCH) // timedelta(microseconds=1)) * per_second / 1_000_000
    number = number.quantize(Decimal(1).scaleb(-decimals), ROUND_FLOOR)
    if isinstance(sample, str):
        return format(number, "f")
    return float(number) if isinstance(sample, float) else int(number)


def _unit(number: Decimal) -> int:
    """How many of the units of a number are a second."""
    return next((per_second for size, per_second in _UNITS if abs(number) >= size), 1)


def _moment_of_number(number: Decimal) -> datetime | None:
    """The time of a number since 1970; None outside the years 1 to 9999."""
    try:
        return EPOCH + timedelta(microseconds=int((number * 1_000_000 / _unit(number)).to_integral_value(ROUND_FLOOR)))
    except (OverflowError, InvalidOperation):
        return None
