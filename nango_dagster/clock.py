"""The clock of this process: every module reads the time here, so that a test can move all of them at once.

The database has a clock of its own for what several machines compare: `Database.now` and `Database.clock`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

_offset = timedelta(0)


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(timezone.utc) + _offset


def monotonic() -> float:
    """Seconds since an arbitrary moment; they do not jump when the machine's time of day is corrected."""
    return time.monotonic() + _offset.total_seconds()


def offset() -> timedelta:
    """How far `moved` has set this clock forward; zero outside tests."""
    return _offset


@contextmanager
def moved(by: timedelta) -> Iterator[None]:
    """Set the clock forward, or back, inside the block, for all threads of this process and for the database's clock.

    >>> with moved(timedelta(days=365)):
    ...     in_a_year = now()
    >>> in_a_year - now() > timedelta(days=364)
    True
    """
    global _offset
    _offset += by
    try:
        yield
    finally:
        _offset -= by
