"""Pages of a dataset's records in the order they changed, for readers who follow them with a cursor.

No change is skipped: a transaction's rows share one time, which is later than that of every transaction committed
before it (`datasets.next_moment`), so nothing ever appears behind a cursor. A page costs the same wherever it
begins: it starts in the index at its cursor.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, get_args

from sqlalchemy import ColumnElement, and_, literal, or_, select, true, tuple_

from ..config.source import quoted
from ..errors import ConfigError, Problem
from . import schema
from .bulk import DATA_TEXT
from .database import Database
from .types import Key, UtcTime

Action = Literal["added", "updated", "deleted"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_of = schema.raw.c
_COLUMNS = (
    _of.external_id,
    _of.first_seen_at,
    _of.last_modified_at,
    _of.deleted_at,
    _of.pruned_at,
    DATA_TEXT,
)


@dataclass(frozen=True)
class Cursor:
    """A place in the order of changes: behind the record that changed then.

    >>> at = Cursor(datetime(2024, 1, 15, 10, 31, tzinfo=timezone.utc), "1234567")
    >>> Cursor.read(str(at)) == at
    True
    """

    moment: datetime
    external_id: str

    def __str__(self) -> str:
        # No "+" and no "/": people put cursors into URLs as they are.
        moment = self.moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return base64.urlsafe_b64encode(f"{moment}||{self.external_id}".encode()).decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The place that a cursor's text stands for. Raises ConfigError when it is no cursor."""
        try:
            decoded = base64.b64decode(text.encode().replace(b"-", b"+").replace(b"_", b"/"), validate=True).decode()
            moment, bars, external_id = decoded.partition("||")
            at = datetime.fromisoformat(moment.replace("Z", "+00:00"))
            if not bars or "\0" in external_id or at.tzinfo is None:
                raise ValueError
            return cls(in_utc(at), external_id)
        except (binascii.Error, ValueError):
            sentence = f"the cursor {quoted(text)} is none of ours; wanted next_cursor of an answer, or a record's."
            raise ConfigError.of(Problem(sentence, field="cursor")) from None


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, as the store compares it; no record is older than 1970."""
    try:
        return max(_EPOCH, moment.astimezone(timezone.utc))
    except OverflowError:
        raise ValueError("this is no time in our calendar") from None


@dataclass(frozen=True)
class Record:
    """A stored record: its own text, None once that is gone, and what became of it when."""

    external_id: str
    first_seen_at: datetime
    last_modified_at: datetime
    deleted_at: datetime | None
    pruned_at: datetime | None
    text: str | None

    @property
    def action(self) -> Action:
        """What was last done to it."""
        if self.deleted_at is not None:
            return "deleted"
        return "added" if self.first_seen_at == self.last_modified_at else "updated"

    @property
    def cursor(self) -> Cursor:
        """The place right behind it."""
        return Cursor(self.last_modified_at, self.external_id)


@dataclass(frozen=True)
class Wanted:
    """Which records of a dataset a reader wants; every part narrows it."""

    after: Cursor | None = None
    modified_after: datetime | None = None
    actions: Collection[Action] = ACTIONS
    ids: Sequence[str] | None = None


@dataclass(frozen=True)
class Page:
    """Some records in the order they changed, and where the next ones begin, if there are more."""

    records: list[Record]
    next: Cursor | None


def page(database: Database, dataset_id: int, wanted: Wanted, limit: int) -> Page:
    """The first so many of the records that are wanted."""
    query = (
        select(*_COLUMNS)
        .where(_of.dataset_id == dataset_id, *_conditions(wanted))
        .order_by(_of.last_modified_at, _of.external_id)
        .limit(limit + 1)
    )
    with database.ask() as connection:
        found = [Record(*row) for row in connection.execute(query)]
    return Page(found[:limit], found[limit - 1].cursor if len(found) > limit else None)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    found = [_one_of(wanted.actions)]
    if wanted.after is not None:
        place = tuple_(literal(wanted.after.moment, UtcTime), literal(wanted.after.external_id, Key))
        found.append(tuple_(_of.last_modified_at, _of.external_id) > place)
    if wanted.modified_after is not None:
        found.append(_of.last_modified_at >= wanted.modified_after)
    if wanted.ids is not None:
        found.append(_of.external_id.in_(wanted.ids))
    return found


def _one_of(actions: Collection[Action]) -> ColumnElement[bool]:
    """That the last thing done to a record is one of these."""
    if set(actions) == set(ACTIONS):
        return true()
    live = _of.deleted_at.is_(None)
    each: dict[Action, ColumnElement[bool]] = {
        "added": and_(live, _of.first_seen_at == _of.last_modified_at),
        "updated": and_(live, _of.first_seen_at != _of.last_modified_at),
        "deleted": _of.deleted_at.is_not(None),
    }
    if set(actions) == {"added", "updated"}:
        return live
    return or_(*(each[action] for action in actions))
