"""Slots: when a sync is due, and that its Dagster schedule ticks at each of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from dagster import ScheduleDefinition, TimeWindowPartitionsDefinition
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nango_dagster.config import Sync, from_body
from nango_dagster.config.schedule import Cron, Interval, ShortInterval, check_cron
from nango_dagster.errors import ConfigError

UTC = timezone.utc
MINUTE = timedelta(minutes=1)
# From 1990 to 2060, to the second.
MOMENTS = st.integers(631_152_000, 2_840_140_800).map(lambda second: datetime.fromtimestamp(second, UTC))
CRONS = ["0 * * * *", "*/15 * * * *", "30 2 * * *", "0 2 * * 0", "*/20 2 * * *", "10 1-3 * * *", "0 */2 * * *"]
CRONS += ["15 1,2,3 * * 1-5", "@daily", "0 0 1 * *", "* * * * *", "0 6 L * *", "30 4 29 2 *", "5 5 * JAN mon"]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


def slots(schedule: Interval | ShortInterval | Cron, start: datetime, end: datetime) -> Iterator[datetime]:
    """The slots after one moment, up to another."""
    slot = schedule.next(start)
    while slot <= end:
        yield slot
        slot = schedule.next(slot)


def ticks(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The times at which Dagster ticks for a cron string: the partitions that it would make of it."""
    keys = TimeWindowPartitionsDefinition(
        start=start - timedelta(days=2),
        end=end + timedelta(days=40),
        fmt="%Y-%m-%d %H:%M%z",
        cron_schedule=cron,
        timezone=zone,
    ).get_partition_keys(current_time=end + timedelta(days=40))
    moments = [datetime.strptime(key, "%Y-%m-%d %H:%M%z").astimezone(UTC) for key in keys]
    return [moment for moment in moments if start < moment <= end]


@pytest.mark.parametrize(
    ("minutes", "cron"),
    [
        (1, "* * * * *"),
        (2, "1-59/2 * * * *"),
        (15, "12-59/15 * * * *"),
        (30, "27-59/30 * * * *"),
        (60, "57 * * * *"),
        (45, "12-59/15 * * * *"),
        (7, "1-59/2 * * * *"),
        (50, "7-59/10 * * * *"),
        (120, "57 1-23/2 * * *"),
        (300, "57 * * * *"),
        (720, "57 1-23/12 * * *"),
        (1440, "57 1 * * *"),
        (10_080, "57 1 * * 3"),
        (44_640, "57 1 * * *"),
    ],
)
def test_the_cron_string_of_an_interval(minutes: int, cron: str) -> None:
    sync = from_body({"url": "https://api.example.com", "name": "pokemon", "frequency": minutes})
    assert (sync.cron_schedule, sync.cron_timezone) == (cron, "UTC")


def test_syncs_with_the_same_frequency_do_not_start_at_once() -> None:
    crons = {Interval(60, f"sync-{number}").cron for number in range(60)}
    assert len(crons) > 30


def test_an_offset_never_changes() -> None:
    assert Interval(60, "pokemon").next(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 1, 0, 57, tzinfo=UTC)


def test_daily_and_weekly_syncs_run_at_night() -> None:
    for name in "abcdefgh":
        for minutes in (1440, 10_080, 44_640):
            assert Interval(minutes, name).next(datetime(2026, 1, 1, tzinfo=UTC)).hour < 6


@given(st.integers(1, 50_000), st.text(max_size=5), MOMENTS)
def test_a_moment_lies_between_two_slots_of_an_interval(minutes: int, name: str, at: datetime) -> None:
    schedule = Interval(minutes, name)
    latest, following = schedule.latest(at), schedule.next(at)
    assert latest <= at < following
    assert schedule.next(latest) == following
    assert schedule.latest(following) == following
    assert schedule.latest(following - MINUTE / 60) == latest
    assert croniter.match(schedule.cron, latest)
    assert croniter.match(schedule.cron, following)


@given(st.integers(1, 3000), st.text(max_size=5))
def test_slots_come_as_often_as_they_should(minutes: int, name: str) -> None:
    schedule = Interval(minutes, name)
    start = schedule.next(datetime(2026, 1, 1, tzinfo=UTC))
    found = [start, *slots(schedule, start, start + 240 * minutes * MINUTE)]
    distances = {(later - earlier) / MINUTE for earlier, later in pairwise(found)}
    assert all(abs(distance - minutes) < max(2, min(5, minutes)) for distance in distances)
    assert abs(len(found) - 241) <= 1
    if 60 % minutes == 0 or minutes % 60 == 0 or minutes % 5 == 0:
        assert distances == {minutes}


@given(st.integers(2, 50_000), st.text(max_size=5))
def test_a_slower_sync_never_ticks_every_minute(minutes: int, name: str) -> None:
    assert not Interval(minutes, name).cron.startswith("* ")


@pytest.mark.parametrize("minutes", [1, 7, 15, 45, 90, 300, 1440, 2880, 10_080])
def test_dagster_ticks_at_every_slot_of_an_interval(minutes: int) -> None:
    schedule = Interval(minutes, "pokemon")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    end = start + timedelta(days=1) + 3 * minutes * MINUTE
    found = set(slots(schedule, start, end))
    assert found
    assert found <= set(ticks(schedule.cron, schedule.timezone, start, end))


# The clocks change in these zones in these days.
CHANGES = [
    ("Europe/Berlin", datetime(2025, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2025, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2025, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2025, 11, 1, tzinfo=UTC)),
    ("Asia/Kolkata", datetime(2025, 3, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize("cron", CRONS[:9])
@pytest.mark.parametrize(("zone", "start"), CHANGES)
def test_slots_are_dagsters_ticks_also_where_the_clocks_change(cron: str, zone: str, start: datetime) -> None:
    end = start + timedelta(days=3)
    assert list(slots(Cron(cron, zone), start, end)) == ticks(cron, zone, start, end)


def test_a_zone_that_moves_its_clocks_by_half_an_hour() -> None:
    schedule = Cron("15 2 * * *", "Australia/Lord_Howe")
    start = datetime(2025, 10, 3, tzinfo=UTC)  # on the 5th, 02:00 becomes 02:30
    found = list(slots(schedule, start, start + timedelta(days=3)))
    assert [slot.isoformat() for slot in found] == [
        "2025-10-03T15:45:00+00:00",
        "2025-10-04T15:30:00+00:00",
        "2025-10-05T15:15:00+00:00",
    ]


# --- where clocks change: at midnight, by half an hour, or not at all -----------------------------------------------

CHANGING = [
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
]
CHANGING += [
    "Asia/Beirut",
    "America/Sao_Paulo",
    "America/Havana",
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Asia/Tehran",
]
CHANGING += ["Asia/Gaza", "Atlantic/Azores", "America/St_Johns", "Antarctica/Troll", "Asia/Kolkata"]
MINUTES, HOURS = st.integers(0, 59), st.integers(0, 23)


def changes_of(zone: str, year: int) -> list[datetime]:
    """The days on which a zone's clocks change, or one day of a year without a change."""
    days = [datetime(year, 1, 2, tzinfo=UTC) + timedelta(days=day) for day in range(363)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return [day for day, (one, other) in zip(days, pairwise(offsets), strict=False) if one != other] or days[:1]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and a day on which its clocks change."""
    zone = draw(st.sampled_from(CHANGING))
    return zone, draw(st.sampled_from(changes_of(zone, draw(st.integers(2012, 2036)))))


@examples(deadline=None, max_examples=60)
@given(changes(), HOURS, MINUTES)
def test_a_daily_sync_runs_once_on_each_day(change: tuple[str, datetime], hour: int, minute: int) -> None:
    zone, day = change
    found = slots(Cron(f"{minute} {hour} * * *", zone), day - timedelta(days=3), day + timedelta(days=4))
    days = [slot.astimezone(ZoneInfo(zone)).date() for slot in found]
    assert len(days) >= 6
    assert {later - earlier for earlier, later in pairwise(days)} == {timedelta(days=1)}


@examples(deadline=None, max_examples=60)
@given(changes(), MINUTES, st.sampled_from(["*", "*/1", "0-23"]))
def test_an_hourly_sync_never_waits_longer_than_an_hour(change: tuple[str, datetime], minute: int, hours: str) -> None:
    zone, day = change
    found = [*slots(Cron(f"{minute} {hours} * * *", zone), day - timedelta(days=1), day + timedelta(days=2))]
    assert max(later - earlier for earlier, later in pairwise(found)) == timedelta(hours=1)
    assert len(found) - 72 in (-1, 0, 1)


@pytest.mark.parametrize("year", [2025])
@pytest.mark.parametrize("zone", CHANGING[:-2])
def test_each_tick_of_dagster_finds_a_slot_that_it_has_not_seen(zone: str, year: int) -> None:
    """A tick that found none would leave the slot to the dispatcher, minutes later."""
    for cron in ["0 0 * * *", "30 0 * * *", "30 1 * * *", "30 2 * * *", "15 3 * * *", "0 * * * *", "30 */2 * * *"]:
        schedule = Cron(cron, zone)
        for day in changes_of(zone, year):
            before, end = day - timedelta(days=2), day + timedelta(days=2)
            last = schedule.latest(before)
            for at in ticks(cron, zone, before, end):
                assert schedule.latest(at) > last, (zone, cron, at)
                last = at


# --- seconds ----------------------------------------------------------------------------------------------------------


@given(st.integers(30, 5000), st.text(max_size=5), MOMENTS)
def test_a_moment_lies_between_two_slots_of_seconds(seconds: int, name: str, at: datetime) -> None:
    schedule = ShortInterval(seconds, name)
    latest, following = schedule.latest(at), schedule.next(at)
    assert latest <= at < following and following - latest == timedelta(seconds=seconds)
    assert schedule.latest(following) == following and schedule.next(latest) == following


def test_a_frequency_of_seconds_ticks_every_minute() -> None:
    sync = from_body({"url": "https://api.example.com", "name": "pokemon", "frequency": "every 45 seconds"})
    assert (sync.cron_schedule, sync.schedule_text, sync.interval) == (
        "* * * * *",
        "every 45 seconds",
        timedelta(seconds=45),
    )
    assert from_body({"url": "https://api.example.com", "frequency": 0.5}).schedule_text == "every 30 seconds"


@examples(deadline=None)
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), MOMENTS)
def test_a_moment_lies_between_two_times_of_a_cron(cron: str, zone: str, at: datetime) -> None:
    assert_between(Cron(cron, zone), at)


@examples(deadline=None)
@given(st.sampled_from(CRONS), st.sampled_from(CHANGES), st.integers(0, 3 * 24 * 60))
def test_a_moment_near_a_change_of_the_clocks(cron: str, change: tuple[str, datetime], minute: int) -> None:
    zone, start = change
    assert_between(Cron(cron, zone), start + minute * MINUTE)


def assert_between(schedule: Cron, at: datetime) -> None:
    latest, following = schedule.latest(at), schedule.next(at)
    assert latest <= at < following
    assert schedule.next(latest) == following
    assert schedule.latest(following) == following
    assert latest.utcoffset() == following.utcoffset() == timedelta(0)


@pytest.mark.parametrize("cron", [*CRONS, "0 0 * * 7", "  0   6 * * *  ", "0 9 * * 1#2"])
def test_a_cron_that_dagster_reads_is_accepted(cron: str) -> None:
    read = check_cron(cron)
    assert ScheduleDefinition(name="s", job_name="j", cron_schedule=read).cron_schedule == " ".join(cron.split())


@pytest.mark.parametrize(
    "cron",
    [
        *("", "daily", "* * * *", "* * * * * *", "0 0 31 2 *", "60 * * * *", "@reboot", "R * * * *", "* * r * *"),
        *("H H * * *", "0 0 * * 8", "a b c d e", "*/0 * * * *", "5-1 * * * ?a", "0 0 0 * *"),
    ],
)
def test_a_cron_that_is_none_is_refused(cron: str) -> None:
    with pytest.raises(ConfigError, match="wanted five fields such as"):
        check_cron(cron)


@given(st.text(st.sampled_from("0123456789*/,-LW#?@ abH"), max_size=14) | st.text(max_size=9))
def test_any_text_is_a_cron_or_a_config_error(cron: str) -> None:
    try:
        read = check_cron(cron)
    except ConfigError:
        return
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert Cron(read).latest(at) <= at < Cron(read).next(at)
    assert ScheduleDefinition(name="s", job_name="j", cron_schedule=read).cron_schedule == read


def test_a_sync_with_cron_has_its_slots_in_its_zone() -> None:
    fields: dict[str, Any] = {"url": "https://api.example.com", "cron": "0 6 * * *", "timezone": "Europe/Berlin"}
    sync: Sync = from_body(fields)
    assert sync.interval is None
    assert (sync.cron_schedule, sync.cron_timezone) == ("0 6 * * *", "Europe/Berlin")
    at = datetime(2026, 7, 1, 4, 0, tzinfo=UTC)
    assert sync.latest_slot(at) == at
    assert sync.next_slot(at) == at + timedelta(days=1)
