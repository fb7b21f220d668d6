"""Sentences and values as people read them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from ..sentences import number_of as number_of
from ..sentences import suggestion


def no_such_sync(name: str, where: str, names: Collection[str]) -> str:
    """A sentence with the name that was probably meant, or with those there are.

    >>> no_such_sync("pokmon", "in sync_configs", ["items", "pokemon"])
    'there is no sync pokmon in sync_configs; did you mean pokemon?'
    """
    return f"there is no sync {name} {where}; {suggestion(name, names)}"


def clock(moment: datetime | None, now: datetime) -> str:
    """A time as the clock on the wall says it, with the date where that is not today's."""
    if moment is None:
        return ""
    here = moment.astimezone()
    return here.strftime("%H:%M" if here.date() == now.astimezone().date() else "%Y-%m-%d %H:%M")


def iso(moment: datetime | None) -> str | None:
    """A time for machines."""
    return None if moment is None else moment.isoformat()
