"""Texts that are times, in the forms that APIs write: ISO 8601, RFC 2822, ctime, .NET's `/Date(...)/`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache, partial
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_EARLIEST: Final = datetime.min.replace(tzinfo=timezone.utc)
_LATEST: Final = datetime.max.replace(tzinfo=timezone.utc)

_USUAL: Final = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{3})?Z", re.ASCII)
_ISO: Final = re.compile(
    r"(?:(?P<year>\d{4}|[+-]\d{4,6})(?P<dash>[-/])(?P<month>\d\d)(?P=dash)(?P<day>\d\d)"
    r"|(?P<compact>\d{8})(?=T)"
    r"|(?P<week_year>\d{4})(?P<week_dash>-?)W(?P<week>\d\d)(?P=week_dash)(?P<weekday>[1-7])"
    r"|(?P<ordinal_year>\d{4})(?P<ordinal_dash>-?)(?P<ordinal>\d{3})(?=T))"
    r"(?:(?P<gap>[Tt ])(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)"
    r"(?:(?P=colon)(?P<second>\d\d)(?P<fraction>[.,]\d+)?)?)?"
    r"(?P<zone>\s?(?:[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII,
)
_DOTNET: Final = re.compile(r"/Date\((?P<milliseconds>-?\d{1,15})(?P<zone>[+-]\d{4})?\)/", re.ASCII)
_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_WEEKDAY: Final = "(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_CLOCK: Final = r"\d\d:\d\d(?::\d\d)?"
_ZONE: Final = r"(?:UTC?|GMT|[ECMP][SD]T|[+-]\d{4})"
_RFC_2822: Final = re.compile(
    rf"(?:{_WEEKDAY},?\s+)?\d{{1,2}}[ -]{_MONTH}[ -](?:\d{{4}}|\d\d)\s+{_CLOCK}(?:\s+{_ZONE})?", re.ASCII
)
_CTIME: Final = re.compile(rf"{_WEEKDAY}\s+{_MONTH}\s+\d{{1,2}}\s+{_CLOCK}\s+(?:{_ZONE}\s+)?\d{{4}}", re.ASCII)


@dataclass(frozen=True)
class TimeText:
    """A text as a time, and how other times are written in its form."""

    moment: datetime
    """In UTC; a time outside the years 1 to 9999 is their first or last moment."""
    like: Callable[[datetime], str] = field(repr=False, compare=False)
    """Writes a time, rounded down to what the form can say."""
    granule: timedelta = SECOND
    """The time between two neighbours of a form without fractions."""


def time_text(text: str) -> TimeText | None:
    """A text as a time; None where it is none. A time without a zone is in UTC.

    >>> [time_text(text).moment.isoformat() for text in ("20260329T023000Z", "2026-03-28T24:00:00+01:00")]
    ['2026-03-29T02:30:00+00:00', '2026-03-28T23:00:00+00:00']
    >>> [time_text(text).moment.isoformat() for text in ("/Date(1700000000000+0000)/", "29 Mar 2026 02:30:00 EST")]
    ['2023-11-14T22:13:20+00:00', '2026-03-29T07:30:00+00:00']
    >>> time_text("2026-13-01"), time_text("0.9.12")
    (None, None)
    """
    try:
        if match := _ISO.fullmatch(text):
            return TimeText(_iso_moment(match), partial(_iso_like, match), _iso_granule(match))
        if match := _DOTNET.fullmatch(text):
            moment = shifted(EPOCH, timedelta(milliseconds=int(match["milliseconds"])))
            return TimeText(moment, lambda moment: f"/Date({milliseconds(moment)}{match['zone'] or ''})/")
        if _RFC_2822.fullmatch(text):
            return TimeText(in_utc(parsedate_to_datetime(text)), http_date)
        if _CTIME.fullmatch(text):
            return TimeText(in_utc(parsedate_to_datetime(text)), _ctime)
    except (ValueError, OverflowError, TypeError):
        return None
    return None


def moment_of_text(text: str, form: str | None) -> datetime | None:
    """The time of a text, which may have the strftime codes of a config's `format`; None where it is none.

    >>> moment_of_text("2026-04-03", "%Y-%d-%m").isoformat(), moment_of_text("2026-04-03", "%d.%m.%Y").isoformat()
    ('2026-03-04T00:00:00+00:00', '2026-04-03T00:00:00+00:00')
    """
    if form is not None and "%" in form and _is_no_iso(form):
        return _with_codes(text, form) or _moment(text)
    moment = _moment(text)
    return _with_codes(text, form) if moment is None and form is not None and "%" in form else moment


def _moment(text: str) -> datetime | None:
    if len(text) in (20, 24) and _USUAL.fullmatch(text):  # by far the most common
        try:
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
        except ValueError:
            return None
    known = time_text(text)
    return None if known is None else known.moment


def _with_codes(text: str, form: str) -> datetime | None:
    try:
        return in_utc(datetime.strptime(text, form))  # noqa: DTZ007 - without a zone it is in UTC
    except (ValueError, OverflowError):
        return None


@lru_cache
def _is_no_iso(form: str) -> bool:
    """Whether texts with these codes look like ISO 8601 and mean another time."""
    sample = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc).strftime(form)
    by_codes, by_iso = _with_codes(sample, form), _moment(sample)
    return by_iso is not None and by_iso != by_codes


def in_utc(moment: datetime) -> datetime:
    """A time in UTC, which is also the zone of one without a zone."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def shifted(moment: datetime, distance: timedelta) -> datetime:
    """The time at a distance; the first or the last one where no datetime is that early or late."""
    try:
        return moment + distance
    except OverflowError:
        return _EARLIEST if distance < timedelta() else _LATEST


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def http_date(moment: datetime) -> str:
    """A time as in the header `Date`."""
    return format_datetime(moment.astimezone(timezone.utc).replace(microsecond=0), usegmt=True)


def _ctime(moment: datetime) -> str:
    day, number, month, year, clock, _ = http_date(moment).replace(",", "").split(" ")
    return f"{day} {month} {number} {clock} +0000 {year}"


def _iso_moment(match: re.Match[str]) -> datetime:
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        raise ValueError  # 24:00 is the end of the day, and a minute may have a leap second
    microseconds = int((match["fraction"] or ".0")[1:7].ljust(6, "0"))
    clock = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microseconds)
    return shifted(_iso_day(match), clock - _offset(match["zone"]))


def _iso_day(match: re.Match[str]) -> datetime:
    if match["week"]:
        day = datetime.fromisocalendar(int(match["week_year"]), int(match["week"]), int(match["weekday"]))
    elif match["ordinal"]:
        day = datetime.strptime(match["ordinal_year"] + match["ordinal"], "%Y%j")  # noqa: DTZ007
    elif match["compact"]:
        day = datetime.strptime(match["compact"], "%Y%m%d")  # noqa: DTZ007
    else:
        year, month, number = int(match["year"]), int(match["month"]), int(match["day"])
        if not 1 <= year <= 9999:
            datetime(2000, month, number)  # noqa: DTZ001 - raises ValueError where there is no such day
            return _EARLIEST if year < 1 else _LATEST
        day = datetime(year, month, number)  # noqa: DTZ001
    return day.replace(tzinfo=timezone.utc)


def _iso_granule(match: re.Match[str]) -> timedelta:
    if match["second"]:
        return SECOND
    return MINUTE if match["minute"] else timedelta(hours=1) if match["hour"] else _DAY


def _iso_like(match: re.Match[str], moment: datetime) -> str:
    zone = match["zone"] or ""
    local = shifted(moment.astimezone(timezone.utc), _offset(zone))
    if match["week"]:
        year, week, weekday = local.isocalendar()
        text = f"{year:04}{match['week_dash']}W{week:02}{match['week_dash']}{weekday}"
    elif match["ordinal"]:
        text = f"{local.year:04}{match['ordinal_dash']}{local:%j}"
    else:
        dash = match["dash"] or ""
        text = f"{local.year:04}{dash}{local.month:02}{dash}{local.day:02}"
    if not match["hour"]:
        return text
    colon = match["colon"] or ""
    text += f"{match['gap']}{local:%H}"
    text += f"{colon}{local:%M}" if match["minute"] else ""
    text += f"{colon}{local:%S}" if match["second"] else ""
    if fraction := match["fraction"]:
        text += fraction[0] + f"{local:%f}"[: len(fraction) - 1].ljust(len(fraction) - 1, "0")
    return text + zone


def _offset(zone: str | None) -> timedelta:
    """The distance of a written zone from UTC."""
    name = (zone or "").strip()
    if not name or name[0] not in "+-":
        return timedelta()
    digits = name[1:].replace(":", "").ljust(4, "0")
    return (-1 if name[0] == "-" else 1) * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
