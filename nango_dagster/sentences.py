"""Parts of messages that several modules use."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def number_of(count: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun in singular or plural.

    >>> number_of(1, "page"), number_of(1200, "record"), number_of(0, "query", "queries")
    ('1 page', '1,200 records', '0 queries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def suggestion(name: str, names: Collection[str]) -> str:
    """The most similar name, or a list of up to ten of the names.

    >>> suggestion("pokmon", ["items", "pokemon"]), suggestion("xyz", ["items", "pokemon"]), suggestion("xyz", [])
    ('did you mean pokemon?', 'there are items, pokemon.', 'there is none.')
    """
    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if similar:
        return f"did you mean {similar[0]}?"
    listed = sorted(names)[:10]
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return f"there {'are ' + ', '.join(listed) + more if listed else 'is none'}."
