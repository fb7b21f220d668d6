"""Values and sentences in the form that people read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from ..sentences import number_of as number_of
from ..sentences import suggestion


def no_such_sync(name: str, where: str, names: Collection[str]) -> str:
    """The sentence about an unknown sync, with the most similar name or the known names.

    >>> no_such_sync("pokmon", "in sync_configs", ["items", "pokemon"])
    'there is no sync pokmon in sync_configs; did you mean pokemon?'
    """
    return f"there is no sync {name} {where}; {suggestion(name, names)}"


def local_time(moment: datetime | None, now: datetime) -> str:
    """A time in the local time zone; with its date if that is not today."""
    if moment is None:
        return ""
    local = moment.astimezone()
    return local.strftime("%H:%M" if local.date() == now.astimezone().date() else "%Y-%m-%d %H:%M")


def iso(moment: datetime | None) -> str | None:
    """A time in ISO 8601, or None."""
    return None if moment is None else moment.isoformat()
