"""The places of a sync's fields in a file, and values as text for sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nango_dagster.errors import Problem

Place = tuple[str | int, ...]


class Mark(NamedTuple):
    """A line and a column of a file, both counted from 1."""

    line: int
    column: int


Found = tuple[Place, Problem]


@dataclass(frozen=True)
class Source:
    """The origin of fields: a file, and the lines and columns of the places in it."""

    file: str | None = None
    marks: Mapping[Place, Mark] = field(default_factory=dict)
    # The sync's own place in the file, and that of the defaults it shares.
    prefixes: tuple[Place, ...] = ((),)
    inherited: Source | None = None
    """The origin of the fields that are not in this file: the declaration of the integration."""

    def mark(self, place: Place) -> Mark | None:
        """The line and column of a place, or of the nearest one around it."""
        for length in range(len(place), -1, -1):
            for prefix in self.prefixes:
                mark = self.marks.get((*prefix, *place[:length]))
                if mark is not None:
                    return mark
        return None

    def locate(self, problem: Problem, place: Place = ()) -> Problem:
        """The problem with its file, line and column."""
        if self.inherited is not None and place and not self._has(place[0]) and self.inherited._has(place[0]):
            return self.inherited.locate(problem, place)
        line, column = self.mark(place) or (None, None)
        return replace(problem, file=self.file, line=line, column=column)

    def _has(self, field: str | int) -> bool:
        return any((*prefix, field) in self.marks for prefix in self.prefixes)


NOWHERE = Source()


def dotted(place: Place) -> str:
    """A place as people write it.

    >>> dotted(("mapping", "columns", "id"))
    'mapping.columns.id'
    """
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return _printable(text)


def shown(value: Any) -> str:
    """A value as text for a sentence."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, str | int | float):
        return quoted(value)
    return f"a {type(value).__name__}"


def quoted(value: str | float | None) -> str:
    """A plain value as JSON writes it, cut where it is long."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "a huge number"
    text = _printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _printable(text: str) -> str:
    """Text that any terminal and log can show."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
