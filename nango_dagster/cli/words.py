"""Sentences and values as people read them."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from datetime import datetime


def no_such_sync(name: str, where: str, names: Collection[str]) -> str:
    """A sentence with the name that was probably meant, or with those there are.

    >>> no_such_sync("pokmon", "in sync_configs", ["items", "pokemon"])
    'there is no sync pokmon in sync_configs; did you mean pokemon?'
    """
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"there is no sync {name} {where}; did you mean {near[0]}?"
    listed = sorted(names)[:10]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"there is no sync {name} {where}; there {'are ' + ', '.join(listed) + more if listed else 'is none'}."


def number_of(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> number_of(1, "page"), number_of(1200, "record"), number_of(0, "query", "queries")
    ('1 page', '1,200 records', '0 queries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def clock(moment: datetime | None, now: datetime) -> str:
    """A time as the clock on the wall says it, with the date where that is not today's."""
    if moment is None:
        return ""
    here = moment.astimezone()
    return here.strftime("%H:%M" if here.date() == now.astimezone().date() else "%Y-%m-%d %H:%M")


def iso(moment: datetime | None) -> str | None:
    """A time for machines."""
    return None if moment is None else moment.isoformat()
