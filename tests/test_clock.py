"""One clock for Python and one for SQL; a test moves both."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from nango_dagster import clock
from nango_dagster.store import Database

SOON = timedelta(seconds=30)


def sql_clock(db: Database, ago: timedelta = timedelta(0)) -> datetime:
    with db.connect() as connection:
        found: datetime = connection.execute(sa.select(db.clock(ago))).scalar_one()
    return found


def database_now(db: Database) -> datetime:
    with db.connect() as connection:
        return db.now(connection)


def test_the_clock_says_the_time_of_day_in_utc() -> None:
    assert clock.now().tzinfo is timezone.utc
    assert abs(clock.now() - datetime.now(timezone.utc)) < SOON


@pytest.mark.parametrize("by", [timedelta(days=400), timedelta(hours=-3)])
def test_a_moved_clock_moves_for_python_and_for_the_database(db: Database, by: timedelta) -> None:
    moment, seconds = clock.now() + by, clock.monotonic() + by.total_seconds()
    with clock.moved(by):
        assert abs(clock.now() - moment) < SOON
        assert abs(clock.monotonic() - seconds) < SOON.total_seconds()
        assert abs(database_now(db) - moment) < SOON
        assert abs(sql_clock(db) - moment) < SOON
        assert abs(sql_clock(db, timedelta(hours=1)) - (moment - timedelta(hours=1))) < SOON
    assert clock.offset() == timedelta(0)
    assert abs(sql_clock(db) - clock.now()) < SOON


def test_moves_add_up_and_end_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), clock.moved(timedelta(hours=1)), clock.moved(timedelta(hours=2)):
        assert clock.offset() == timedelta(hours=3)
        _ = 1 / 0
    assert clock.offset() == timedelta(0)
