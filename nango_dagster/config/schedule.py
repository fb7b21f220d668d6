"""When a sync is due: the slots of its interval or cron, and the cron string that ticks at each of them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from nango_dagster.errors import ConfigError, Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_WEEKDAY = 4  # a Thursday
_HOUR, _DAY, _WEEK = 60, 1440, 10_080
# No time zone moves its clocks by more than this.
_SHIFT = timedelta(hours=3)


@dataclass(frozen=True)
class Interval:
    """Every so many minutes, on a grid that starts at the epoch plus an offset made from the sync's name.

    The offset keeps syncs from starting all at once. An interval that no cron string can say (7 or 50
    minutes, 5 hours) ticks more often than it has slots; a slot between two ticks waits for the later one.

    >>> Interval(60, "pokemon").cron, Interval(15, "pokemon").cron, Interval(45, "pokemon").cron
    ('57 * * * *', '12-59/15 * * * *', '12-59/15 * * * *')
    """

    minutes: int
    name: str

    timezone = "UTC"

    def latest(self, at: datetime) -> datetime:
        """The last slot that is not after a moment."""
        minute = (at - _EPOCH) // timedelta(minutes=1)
        number = (minute - self._anchor) // self.minutes
        slot = self._slot(number)
        return _time(slot if slot <= minute else self._slot(number - 1))

    def next(self, after: datetime) -> datetime:
        """The first slot after a moment."""
        minute = (after - _EPOCH) // timedelta(minutes=1)
        number = (minute - self._anchor) // self.minutes
        slot = self._slot(number)
        return _time(slot if slot > minute else self._slot(number + 1))

    @property
    def cron(self) -> str:
        """The cron string, in UTC, that ticks at every slot."""
        tick, offset = self._tick, self._offset
        minute, hour = offset % _HOUR, offset // _HOUR % 24
        if tick == 1:
            return "* * * * *"
        if tick < _HOUR:
            return f"{offset}-59/{tick} * * * *"
        if tick == _HOUR:
            return f"{minute} * * * *"
        if tick < _DAY:
            return f"{minute} {hour}-23/{tick // _HOUR} * * *"
        weekday = (_EPOCH_WEEKDAY + offset // _DAY) % 7 if tick == _WEEK else "*"
        return f"{minute} {hour} * * {weekday}"

    @property
    def _tick(self) -> int:
        """The minutes between two ticks: as many as cron can say and the slots allow."""
        if self.minutes % _WEEK == 0:
            return _WEEK
        if self.minutes % _HOUR == 0:
            return _HOUR * math.gcd(self.minutes // _HOUR, 24)
        exact = math.gcd(self.minutes, _HOUR)
        if exact >= 5 or exact * 4 >= self.minutes:
            return exact
        # A tick without a slot costs as well, so a slot may rather come a few minutes late.
        return 2 if self.minutes < 20 else 5

    @property
    def _offset(self) -> int:
        """The minutes from the epoch to the first tick."""
        tick, number = self._tick, _number(self.name)
        if tick <= _HOUR:
            return number % tick
        minute, number = number % _HOUR, number // _HOUR
        # Daily and rarer syncs run at night, between 0 and 6 o'clock UTC.
        hours, number = number % min(tick // _HOUR, 6), number // 6
        days = number % 7 if tick == _WEEK else 0
        return days * _DAY + hours * _HOUR + minute

    @property
    def _anchor(self) -> int:
        """The minutes from the epoch to the first slot, which is one of the first ticks."""
        return self._offset + self._tick * (_number(self.name) % max(1, self.minutes // self._tick))

    def _slot(self, number: int) -> int:
        """The minutes from the epoch to a slot: its place on the grid, or the first tick after it."""
        place = self._anchor + number * self.minutes
        return place + (self._offset - place) % self._tick


@dataclass(frozen=True)
class Cron:
    """The times of a cron expression in a time zone.

    Where the clocks change this does as Dagster's schedules do: a time that is skipped comes when the clocks
    have moved on, a time that comes twice counts the second time, and "every hour" stays every hour.

    >>> daily = Cron("30 2 * * *", "Europe/Berlin")
    >>> daily.next(datetime(2025, 3, 29, 12, tzinfo=timezone.utc)).isoformat()
    '2025-03-30T01:00:00+00:00'
    """

    cron: str
    timezone: str = "UTC"

    def latest(self, at: datetime) -> datetime:
        """The last time that is not after a moment."""
        return max(moment for moment in self._moments(at, forward=False) if moment <= at)

    def next(self, after: datetime) -> datetime:
        """The first time after a moment."""
        return min(moment for moment in self._moments(after, forward=True) if moment > after)

    def _moments(self, around: datetime, *, forward: bool) -> Iterator[datetime]:
        """Moments before and after one, up to where no later one can be nearer."""
        zone = ZoneInfo(self.timezone)
        local = around.astimezone(zone)
        day = timedelta(days=1)
        changes = (around - day).astimezone(zone).utcoffset() != (around + day).astimezone(zone).utcoffset()
        reach = _SHIFT if changes else timedelta(minutes=1)
        step = self._walker(local.replace(tzinfo=None) + (-reach if forward else reach), forward=forward)
        found: datetime | None = None  # the wall clock's time of the first hit
        while True:
            wall = step()
            if found is not None and abs(wall - found) > reach:
                return
            for moment in self._at(wall, zone):
                if found is None and (moment > around if forward else moment <= around):
                    found = wall
                yield moment

    def _walker(self, start: datetime, *, forward: bool) -> Callable[[], datetime]:
        """A function that gives the expression's next (or previous) time on the wall clock with each call."""
        from croniter import croniter

        # Going back, the start itself counts as well.
        times = croniter(self.cron, start if forward else start + timedelta(minutes=1), max_years_between_matches=30)
        get = times.get_next if forward else times.get_prev
        return lambda: get(datetime)

    def _at(self, wall: datetime, zone: ZoneInfo) -> list[datetime]:
        """The moments at which the wall clock shows a time: none, one or two."""
        first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1))
        if first == second:
            return [first]
        hourly = self.cron.split()[1:2] == ["*"] or self.cron == "@hourly"
        if first < second:  # the time comes twice
            return [first, second] if hourly else [second]
        # The time is skipped: PEP 495 gives moments on both sides of the gap, an hour (or so) apart.
        return [] if hourly else [_gap_end(second, first, zone)]


def check_cron(cron: str) -> str:
    """The expression, or a ConfigError: five fields as Dagster reads them, with at least one time to come."""
    from croniter import CroniterError

    wanted = 'five fields such as "0 6 * * *" that name a time there is, or @hourly, @daily, @weekly, @monthly'
    cron = " ".join(cron.split())
    random = re.search(r"\b[HR]\b", cron, re.IGNORECASE)  # croniter would choose a time itself
    aliases = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
    if cron in aliases or (re.fullmatch(r"([0-9A-Za-z*,/#?-]+ ){4}[0-9A-Za-z*,/#?-]+", cron) and not random):
        try:
            Cron(cron).next(_EPOCH)
            return cron
        except (CroniterError, ValueError, KeyError, IndexError, TypeError):
            pass
    raise ConfigError.of(Problem(f"cron is {cron!r:.80}; wanted {wanted}.", found=cron, wanted=wanted))


def _gap_end(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The moment between two at which the zone's clocks move on."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(minutes=1):
        middle = low + (high - low) // 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(second=0, microsecond=0)


def _number(name: str) -> int:
    """A number that stays the same for a name, and differs between names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _time(minute: int) -> datetime:
    return _EPOCH + timedelta(minutes=minute)
