"""Pages of a dataset's records in the order they changed, for readers who follow them with a cursor.

No change is skipped: a transaction's rows share one time, which is later than that of every transaction committed
before it (`datasets.next_moment`), so nothing ever appears behind a cursor. A page costs the same wherever it
begins, whatever is asked for: each kind of change has an index of its own, and a page begins in those that are wanted
at its cursor and merges what they hold.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple, get_args

from ..config.source import quoted
from ..errors import ConfigError, Problem
from .bulk import driver
from .database import Database
from .schema import CHANGES
from .types import SQLITE_TIME

Action = Literal["added", "updated", "deleted"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_BYTES = 20_000_000  # of a page's texts, unless its first record alone has more
_MOST_STORED = 5_000_000  # as PostgreSQL compresses them; what it sends is in memory at once
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ORDER = "ORDER BY last_modified_at, external_id"
_TIMES = "first_seen_at, last_modified_at, deleted_at, pruned_at"
_COLUMNS = f"external_id, {_TIMES}, data"


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


class Record(NamedTuple):
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

    @property
    def begin(self) -> Cursor:
        """The place that they all are behind; a record's id has at least one character."""
        places = [self.after or Cursor(_EPOCH, "")]
        if self.modified_after is not None:
            places.append(Cursor(self.modified_after, ""))
        return max(places, key=lambda place: (place.moment, place.external_id))


@dataclass(frozen=True)
class Page:
    """Some records in the order they changed, and where the next ones begin, if there are more."""

    records: list[Record]
    next: Cursor | None


def page(database: Database, dataset_id: int, wanted: Wanted, limit: int, most_bytes: int = MOST_BYTES) -> Page:
    """The first so many of the records that are wanted; fewer where their texts are large, but at least one."""
    values = {"dataset": dataset_id, **after(database, wanted.begin)}
    if wanted.ids is not None:
        values["ids"] = list(dict.fromkeys(wanted.ids))
    with database.ask() as connection:
        ask = _ask_postgresql if database.is_postgresql else _ask_sqlite
        return _page(ask(driver(connection), wanted, values, limit), limit, most_bytes)


def _page(rows: Iterable[tuple[Record, bool]], limit: int, most_bytes: int) -> Page:
    """As many of the rows as a page takes; each comes with whether the database left out more behind it."""
    found: list[Record] = []
    size, goes_on = 0, False
    for record, has_more in rows:
        size += len(record.text or "")
        if len(found) == limit or (found and size > most_bytes):
            goes_on = True
            break
        found.append(record)
        goes_on = has_more
    return Page(found, found[-1].cursor if goes_on else None)


def _ask_postgresql(
    connection: Any, wanted: Wanted, values: Mapping[str, Any], limit: int
) -> Iterator[tuple[Record, bool]]:
    """Its driver takes all rows at once, so the server leaves out what is too much."""
    those = _those_postgresql(wanted, limit + 1)
    stored = "coalesce(pg_column_size(data), 0)"  # of the compressed text, without reading it
    window = f"WINDOW those AS ({_ORDER} ROWS UNBOUNDED PRECEDING)"
    sums = f"sum({stored}) OVER those AS up_to, lead(external_id) OVER those IS NOT NULL AS has_more"
    query = (
        f"SELECT external_id, {_TIMES}, data::text, has_more FROM (SELECT *, {sums} FROM ({those}) AS those {window}) "
        f"AS summed WHERE up_to - {stored} < {_MOST_STORED} {_ORDER}"
    )
    for row in connection.cursor(binary=True).execute(query, values).fetchall():
        yield Record(*row[:-1]), row[-1]


def _those_postgresql(wanted: Wanted, limit: int) -> str:
    """The first rows that are wanted, their texts still where they are stored."""
    if wanted.ids is None:
        return in_order(_COLUMNS, wanted.actions, limit, postgresql=True)
    one = f"SELECT {_COLUMNS} FROM _nango_raw WHERE dataset_id = %(dataset)s AND external_id = wanted.key LIMIT 1"
    return (
        f"SELECT found.* FROM unnest(%(ids)s::text[]) AS wanted (key), LATERAL ({one}) AS found "
        f"WHERE {_behind('%(moment)s', '%(id)s')} AND ({_any(wanted.actions)}) {_ORDER} LIMIT {limit:d}"
    )


def _ask_sqlite(connection: Any, wanted: Wanted, values: dict[str, Any], limit: int) -> Iterator[tuple[Record, bool]]:
    """It finds one row after the other, as they are asked for."""
    ids = values.pop("ids", None)
    if ids is None:
        query = in_order(_COLUMNS, wanted.actions, limit + 1, postgresql=False)
    else:
        values.update((f"id_{at}", key) for at, key in enumerate(ids))
        marks = ", ".join(f":id_{at}" for at in range(len(ids)))
        query = (
            f"SELECT {_COLUMNS} FROM _nango_raw WHERE dataset_id = :dataset AND external_id IN ({marks}) AND "
            f"{_behind(':moment', ':id')} AND ({_any(wanted.actions)}) {_ORDER} LIMIT {limit + 1}"
        )
    moment = datetime.fromisoformat
    for key, first_seen, modified, deleted, pruned, text in connection.execute(query, values):
        times = moment(first_seen), moment(modified), deleted and moment(deleted), pruned and moment(pruned)
        yield Record(key, *times, text), False


# --- the order of changes ---------------------------------------------------------------------------------------------


def in_order(columns: str, actions: Collection[Action], limit: int, *, postgresql: bool, also: str = "") -> str:
    """A query of the first records with one of these actions that changed after a place (`after` has its parameters).

    PostgreSQL gets a limit for each action: it would sort all there are. SQLite gets one alone, and merges: with a
    limit for each it would sort each.
    """
    marks = ("%(dataset)s", "%(moment)s", "%(id)s") if postgresql else (":dataset", ":moment", ":id")
    end = f"{_ORDER} LIMIT {limit:d}"
    each = [
        f"SELECT {columns} FROM _nango_raw WHERE dataset_id = {marks[0]} AND {_behind(*marks[1:])} "
        f"AND {CHANGES[action]}{also}"
        for action in actions
    ]
    if postgresql:
        each = [f"({one} {end})" for one in each]
    return f"{' UNION ALL '.join(each)} {end}" if len(each) > 1 or not postgresql else each[0][1:-1]


def after(database: Database, place: Cursor) -> dict[str, Any]:
    """The parameters of `in_order` that say where to begin."""
    return {"moment": at(database, place.moment), "id": place.external_id}


def at(database: Database, moment: datetime) -> Any:
    """A moment as the database's driver takes it."""
    return moment if database.is_postgresql else moment.strftime(SQLITE_TIME)


def _behind(moment: str, key: str) -> str:
    return f"(last_modified_at, external_id) > ({moment}, {key})"


def _any(actions: Collection[Action]) -> str:
    return " OR ".join(f"({CHANGES[action]})" for action in actions)
