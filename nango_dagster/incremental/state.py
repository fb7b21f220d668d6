"""The checkpoint of a list that a config describes: its cursor, and a reading of the whole list that is not over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from ..http import Request

Scalar = str | int | float
MAX_POSITION: Final = 4000  # characters, as of any text in a checkpoint
ANY: Final = "any"
"""The definition of a checkpoint that a person set: it belongs to the list that the config describes."""


@dataclass(frozen=True)
class State:
    """How far a sync has read.

    >>> State("a1b2", cursor="2026-01-01T00:00:00Z").checkpoint()
    {'definition': 'a1b2', 'cursor': '2026-01-01T00:00:00Z'}
    """

    definition: str
    """The list that it belongs to."""
    cursor: Scalar | None = None
    """Everything before it is stored."""
    unconfirmed: Scalar | None = None
    """With page numbers or offsets: the cursor of a list of several pages that was read once, and is read twice."""
    refreshed_at: str | None = None
    """When the last reading of the whole list began that came to its end."""
    is_unordered: bool = False
    """Whether records came in another order than the config says."""
    started_at: str | None = None
    """When the reading of the whole list began that is not over."""
    highest: Scalar | None = None
    """The greatest cursor in its pages so far."""
    has_rejected: bool = False
    """Whether a record of its pages was rejected."""
    position: str | None = None
    """The request of its next page, as JSON."""
    page: int = 1
    """The number of that page."""
    seen: int = 0
    """The records of the pages before."""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None, definition: str) -> State:
        """The state of a checkpoint; a new one where there is none, or where it belongs to another list.

        >>> State.of({"definition": "a1b2", "cursor": 7}, "c3d4")
        State(definition='c3d4', cursor=None, ...)
        """
        if checkpoint is None or not belongs_to(checkpoint, definition):
            return cls(definition)
        known = {field.name: field.type for field in fields(cls)}
        values = {name: value for name, value in checkpoint.items() if name in known}
        return cls(**{**values, "definition": definition})

    def without_whole(self) -> State:
        """The state when no reading of the whole list goes on."""
        return replace(self, started_at=None, highest=None, has_rejected=False, position=None, page=1, seen=0)

    def checkpoint(self) -> dict[str, Scalar | bool]:
        """The fields that differ from their defaults."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}


def belongs_to(checkpoint: Mapping[str, Any], definition: str) -> bool:
    """Whether a checkpoint is one of the list with this definition."""
    return checkpoint.get("definition") in (definition, ANY)


def position_of(request: Request, opening: Request) -> str | None:
    """A request as text, with its placeholders; None where it is too long to be kept.

    Headers and parameters of the sync's opening request are not repeated: they may hold secrets.

    >>> opening = Request("GET", "https://api.example.com/items", {"X-Key": "k1"}, (("key", "k1"), ("page", "1")))
    >>> text = position_of(opening.with_value("page", 2), opening)
    >>> "k1" in text, of_position(text, opening).full_url, of_position(text, opening).headers
    (False, 'https://api.example.com/items?key=k1&page=2', {'X-Key': 'k1'})
    """
    known = {name: value for name, value in opening.headers.items() if request.headers.get(name) == value}
    headers = {name: value for name, value in request.headers.items() if name not in known}
    params = [opening.params.index(pair) if pair in opening.params else pair for pair in request.params]
    parts = [request.method, request.url, list(known), headers, params, request.body]
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= MAX_POSITION else None


def of_position(text: str, opening: Request) -> Request:
    """The request of a position."""
    method, url, known, headers, params, body = json.loads(text)
    pairs = tuple(opening.params[pair] if isinstance(pair, int) else (pair[0], pair[1]) for pair in params)
    return Request(method, url, {**{name: opening.headers[name] for name in known}, **headers}, pairs, body)


def moment_of(text: str) -> datetime:
    """A time of a state."""
    return datetime.fromisoformat(text)
