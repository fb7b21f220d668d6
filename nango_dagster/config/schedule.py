"""The slots of a sync, from its interval or cron, and the cron string of its Dagster schedule."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo

from nango_dagster.errors import ConfigError, Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EPOCH_WEEKDAY = 4  # a Thursday
_HOUR, _DAY, _WEEK = 60, 1440, 10_080
_MINUTE = timedelta(minutes=1)
# No time zone changes its clocks by more than this.
_SHIFT = timedelta(hours=3)
# The hours in which Dagster expects clocks to change (DAYLIGHT_SAVINGS_HOURS of dagster/_utils/schedules.py).
_CHANGING_HOURS = (1, 2, 3)


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
        minute = (at - _EPOCH) // _MINUTE
        number = (minute - self._anchor) // self.minutes
        slot = self._slot(number)
        return _time(slot if slot <= minute else self._slot(number - 1))

    def next(self, after: datetime) -> datetime:
        """The first slot after a moment."""
        minute = (after - _EPOCH) // _MINUTE
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
class ShortInterval:
    """An interval that is no whole number of minutes, such as 30 or 90 seconds.

    Its schedule ticks every minute, the shortest that cron can say; the dispatcher runs what is due in between.

    >>> ShortInterval(30, "pokemon").next(datetime(2026, 1, 1, tzinfo=timezone.utc)).isoformat()
    '2026-01-01T00:00:27+00:00'
    """

    seconds: int
    name: str

    cron = "* * * * *"
    timezone = "UTC"

    def latest(self, at: datetime) -> datetime:
        """The last slot that is not after a moment."""
        step = timedelta(seconds=self.seconds)
        first = _EPOCH + timedelta(seconds=_number(self.name) % self.seconds)
        return first + (at - first) // step * step

    def next(self, after: datetime) -> datetime:
        """The first slot after a moment."""
        return self.latest(after) + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class Cron:
    """The times of a cron expression in a time zone; each time on the wall clock is one slot.

    Dagster starts a run at each tick of its schedule, so a slot is not later than the tick that belongs to it.
    Where the clocks change:

    - A time that comes twice is one slot: the second time in the hours 1 to 3, where Dagster expects the change.
      In other hours Dagster takes the first time for an expression of one time a day, week or month.
    - A skipped time is a slot at the end of the gap, or in other hours as many minutes later as it lies in the gap.
    - An expression for every hour follows the old and the new clock for as long as the clocks moved, so that its
      slots are never further apart than without the change.

    >>> daily = Cron("30 2 * * *", "Europe/Berlin")
    >>> daily.next(datetime(2025, 3, 29, 12, tzinfo=timezone.utc)).isoformat()
    '2025-03-30T01:00:00+00:00'
    """

    cron: str
    timezone: str = "UTC"

    def latest(self, at: datetime) -> datetime:
        """The last slot that is not after a moment."""
        return max(moment for moment in self._moments(at, forward=False) if moment <= at)

    def next(self, after: datetime) -> datetime:
        """The first slot after a moment."""
        return min(moment for moment in self._moments(after, forward=True) if moment > after)

    def _moments(self, around: datetime, *, forward: bool) -> Iterator[datetime]:
        """Slots before and after a moment, up to where no later one can be nearer."""
        zone = ZoneInfo(self.timezone)
        local = around.astimezone(zone)
        day = timedelta(days=1)
        changes = (around - day).astimezone(zone).utcoffset() != (around + day).astimezone(zone).utcoffset()
        reach = _SHIFT if changes else _MINUTE
        step = self._walker(local.replace(tzinfo=None) + (-reach if forward else reach), forward=forward)
        first_wall: datetime | None = None  # the wall clock's time of the first slot in the right direction
        while True:
            wall = step()
            if first_wall is not None and abs(wall - first_wall) > reach:
                return
            for moment in self._slots_of(wall, zone):
                if first_wall is None and (moment > around if forward else moment <= around):
                    first_wall = wall
                yield moment

    def _walker(self, start: datetime, *, forward: bool) -> Callable[[], datetime]:
        """A function that returns the expression's next (or previous) time on the wall clock with each call."""
        from croniter import croniter

        # Going back, the start itself counts as well.
        times = croniter(self.cron, start if forward else start + _MINUTE, max_years_between_matches=30)
        get = times.get_next if forward else times.get_prev
        return lambda: get(datetime)

    def _slots_of(self, wall: datetime, zone: ZoneInfo) -> list[datetime]:
        """The slots of one time on the wall clock: one, or for an expression of every hour up to two."""
        every_hour, is_simple = _kind(self.cron)
        if every_hour:
            return _on_both_clocks(wall, zone)
        first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1))
        dagster_expects = wall.hour in _CHANGING_HOURS
        if first < second:  # the time comes twice
            return [second if dagster_expects or not is_simple else first]
        if first == second or not dagster_expects:
            return [first]
        # The time is skipped: PEP 495 gives moments on both sides of the gap.
        gap_end, length = _gap_end(second, first, zone), first - second
        # Ireland's and Morocco's winter time is the exception to their standard time. Dagster moves a skipped time of a
        # simple expression by `dst()`, which is 0 there, and ticks an hour before the change.
        winter_is_exception = not (gap_end + timedelta(hours=1)).astimezone(zone).dst()
        return [gap_end - length if is_simple and winter_is_exception else gap_end]


@lru_cache(maxsize=1024)
def _kind(cron: str) -> tuple[bool, bool]:
    """Whether an expression is for every hour, and whether it is simple: one time a day, week or month.

    >>> _kind("0 */1 * * *"), _kind("30 2 * * 1-5"), _kind("0 0,12 * * *")
    ((True, False), (False, True), (False, False))
    """
    from croniter import croniter

    fields, nth_weekdays, *_ = croniter.expand(cron)
    minute, hour, day, month, weekday = fields
    is_time = all(len(field) == 1 and isinstance(field[0], int) for field in (minute, hour))
    every_day = day == ["*"] and all(isinstance(number, int) for number in weekday if number != "*")
    monthly = weekday == ["*"] and len(day) == 1 and isinstance(day[0], int) and day[0] <= 28
    return hour == ["*"], is_time and month == ["*"] and not nth_weekdays and (every_day or monthly)


def _on_both_clocks(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moments at which the clock before or after a change shows a time, within as long as the clocks moved."""
    near = wall.replace(tzinfo=zone).astimezone(timezone.utc)
    old, new = (_offset(near + shift, zone) for shift in (-_SHIFT, _SHIFT))
    by_old, by_new = ((wall - offset).replace(tzinfo=timezone.utc) for offset in (old, new))
    moments = {by_new} if _offset(by_new, zone) == new else set()
    if _offset(by_old - abs(new - old), zone) == old:
        moments.add(by_old)
    return sorted(moments)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


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
    """The moment between two at which the zone's clocks move forward."""
    before = _offset(low, zone)
    while high - low > _MINUTE:
        middle = low + (high - low) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high.replace(second=0, microsecond=0)


def _number(name: str) -> int:
    """A number that stays the same for a name, and differs between names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _time(minute: int) -> datetime:
    return _EPOCH + timedelta(minutes=minute)
