"""Pages of a dataset's records in the order they changed, for readers who follow them with a cursor.

No change is skipped: a transaction's rows share one time, which is later than that of every transaction committed
before it (`datasets.next_moment`), so nothing ever appears behind a cursor. A page costs the same wherever it
begins, whatever is asked for: each kind of change has an index of its own, and a page begins in those that are wanted
at its cursor and merges what they hold.
"""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from ..config.source import quoted
from ..errors import ConfigError, Problem
from .database import Database
from .schema import CHANGES
from .types import SQLITE_TIME

Action = Literal["added", "updated", "deleted"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_BYTES = 20_000_000  # of a page's texts, unless its first record alone has more
_BETWEEN = 30  # the record separator of ASCII
_MOST_STORED = 5_000_000  # as PostgreSQL compresses them; what it sends is in memory at once
_Those = tuple[str, "tuple[Action, ...]", int, bool]
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
        return base64.urlsafe_b64encode(f"{self.time}||{self.external_id}".encode()).decode()

    @property
    def time(self) -> str:
        """The moment as it stands in the text."""
        return self.moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

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


@dataclass(frozen=True)
class Names:
    """What a dataset is called."""

    integration: str
    connection_id: str
    variant: str
    model: str


def page(database: Database, dataset_id: int, wanted: Wanted, limit: int, most_bytes: int = MOST_BYTES) -> Page:
    """The first so many of the records that are wanted; fewer where their texts are large, but at least one."""
    with database.driver() as connection:
        return _ask(connection, database, "dataset", {"dataset": dataset_id}, wanted, limit, most_bytes)[0]


def page_of(database: Database, names: Names, wanted: Wanted, limit: int) -> tuple[Page, bool] | None:
    """The same by the dataset's names, and whether its records' ids are their own `id`; None if there is no such page.

    That is one question to the database instead of two.
    """
    with database.driver() as connection:
        found, own_id = _ask(connection, database, "named", vars(names), wanted, limit, MOST_BYTES)
    return (found, own_id) if found.records else None


def latest(database: Database, dataset_id: int, actions: Collection[Action], limit: int) -> list[Record]:
    """The records that changed last, the newest first."""
    columns = _COLUMNS if not database.is_postgresql else f"external_id, {_TIMES}, data::text"
    query = in_order(columns, actions, limit, postgresql=database.is_postgresql, newest_first=True)
    with database.driver() as connection:
        rows = connection.execute(query, {"dataset": dataset_id, **after(database, Wanted().begin)}).fetchall()
    return list(_one_by_one(rows) if not database.is_postgresql else map(Record._make, rows))


def _ask(
    connection: Any,
    database: Database,
    how: str,
    whose: Mapping[str, Any],
    wanted: Wanted,
    limit: int,
    most_bytes: int,
) -> tuple[Page, bool]:
    values = {**whose, **after(database, wanted.begin)}
    if wanted.ids is not None:
        ids = list(dict.fromkeys(wanted.ids))
        values["ids"] = ids if database.is_postgresql else json.dumps(ids)
    those = how, tuple(wanted.actions), limit + 1, wanted.ids is not None
    rows = (_rows_postgresql if database.is_postgresql else _rows_sqlite)(connection, those, values)
    found = _page(rows.of, rows.cut, limit, most_bytes)
    return found, rows.own_id


class _Rows(NamedTuple):
    """The records that a page is made of, one more than it holds if there are so many."""

    of: Iterable[Record]
    cut: bool  # the database left more out behind them
    own_id: bool


def _page(rows: Iterable[Record], cut: bool, limit: int, most_bytes: int) -> Page:
    """As many of the rows as a page takes."""
    found: list[Record] = []
    size = 0
    for record in rows:
        size += len(record.text or "")
        if len(found) == limit or (found and size > most_bytes):
            return Page(found, found[-1].cursor)
        found.append(record)
    return Page(found, found[-1].cursor if cut else None)


# --- PostgreSQL: its driver takes all rows at once, so the server leaves out what is too much -------------------------


def _rows_postgresql(connection: Any, those: _Those, values: Mapping[str, Any]) -> _Rows:
    rows = connection.cursor(binary=True).execute(_query_postgresql(*those), values).fetchall()
    return _Rows([Record._make(row[:6]) for row in rows], bool(rows) and rows[-1][6], bool(rows) and bool(rows[0][7]))


@cache
def _query_postgresql(how: str, actions: tuple[Action, ...], limit: int, by_id: bool) -> str:
    whose, key = _whose(how, "%({})s")
    if by_id:
        one = f"SELECT {_COLUMNS} FROM _nango_raw WHERE dataset_id = {whose} AND external_id = wanted.key LIMIT 1"
        those = (
            f"SELECT found.* FROM unnest(%(ids)s::text[]) AS wanted (key), LATERAL ({one}) AS found "
            f"WHERE {_behind('%(moment)s', '%(id)s')} AND ({_any(actions)}) {_ORDER} LIMIT {limit:d}"
        )
    else:
        those = in_order(_COLUMNS, actions, limit, postgresql=True, whose=whose)
    stored = "coalesce(pg_column_size(data), 0)"  # of the compressed text, without reading it
    sums = f"sum({stored}) OVER those AS up_to, lead(external_id) OVER those IS NOT NULL AS has_more"
    summed = f"SELECT *, {sums} FROM ({those}) AS those WINDOW those AS ({_ORDER} ROWS UNBOUNDED PRECEDING)"
    return (
        f"SELECT external_id, {_TIMES}, data::text, has_more, {key} = 'id' FROM ({summed}) AS summed "
        f"WHERE up_to - {stored} < {_MOST_STORED} {_ORDER}"
    )


# --- SQLite: Python's lock changes hands for each row, and has to be waited for; so all rows come in one --------------


def _rows_sqlite(connection: sqlite3.Connection, those: _Those, values: Mapping[str, Any]) -> _Rows:
    rows, own_id = _query_sqlite(*those)
    if hasattr(connection, "setlimit"):  # from Python 3.11 on
        before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MOST_BYTES)
        try:
            return _joined(connection, rows, own_id, values)
        except sqlite3.DataError:
            pass  # it is too long for one row
        finally:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
    found = connection.execute(f"SELECT {own_id}", values).fetchone()
    return _Rows(_one_by_one(connection.execute(rows, values)), cut=False, own_id=bool(found[0]))


def _joined(connection: sqlite3.Connection, rows: str, own_id: str, values: Mapping[str, Any]) -> _Rows:
    """All rows in one; no JSON has the character between them as it is."""
    query = (
        f"SELECT json_group_array(json_array(external_id, {_TIMES}, data IS NULL)), "
        f"group_concat(coalesce(data, ''), char({_BETWEEN})), {own_id} FROM ({rows})"
    )
    heads, texts, is_own = connection.execute(query, values).fetchone()
    moment = cache(_moment)
    found = [
        Record(key, moment(first), moment(modified), moment(deleted), moment(pruned), None if gone else text)
        for (key, first, modified, deleted, pruned, gone), text in zip(
            msgspec.json.decode(heads), (texts or "").split(chr(_BETWEEN)), strict=heads != "[]"
        )
    ]
    return _Rows(found, cut=False, own_id=bool(is_own))


def _one_by_one(rows: Iterable[Any]) -> Iterator[Record]:
    for key, first, modified, deleted, pruned, text in rows:
        yield Record(key, _moment(first), _moment(modified), _moment(deleted), _moment(pruned), text)


@cache
def _query_sqlite(how: str, actions: tuple[Action, ...], limit: int, by_id: bool) -> tuple[str, str]:
    whose, key = _whose(how, ":{}")
    if not by_id:
        return in_order(_COLUMNS, actions, limit, postgresql=False, whose=whose), f"{key} = 'id'"
    rows = (
        f"SELECT {_COLUMNS} FROM _nango_raw WHERE dataset_id = {whose} AND {_behind(':moment', ':id')} AND "
        f"external_id IN (SELECT value FROM json_each(:ids)) AND ({_any(actions)}) {_ORDER} LIMIT {limit:d}"
    )
    return rows, f"{key} = 'id'"


def _moment(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)


def _whose(how: str, mark: str) -> tuple[str, str]:
    """What stands for the dataset's id in a query, and for the field that is its records' key."""
    if how == "dataset":
        return mark.format("dataset"), "NULL"
    names = ("integration", "connection_id", "variant", "model")
    named = " AND ".join(f"{name} = {mark.format(name)}" for name in names)
    return f"(SELECT id FROM _nango_datasets WHERE {named})", f"(SELECT unique_key FROM _nango_datasets WHERE {named})"


# --- the order of changes ---------------------------------------------------------------------------------------------


def in_order(
    columns: str,
    actions: Collection[Action],
    limit: int,
    *,
    postgresql: bool,
    also: str = "",
    whose: str | None = None,
    newest_first: bool = False,
) -> str:
    """A query of the first records with one of these actions that changed after a place (`after` has its parameters).

    PostgreSQL gets a limit for each action: it would sort all there are. SQLite gets one alone, and merges: with a
    limit for each it would sort each.
    """
    marks = ("%(dataset)s", "%(moment)s", "%(id)s") if postgresql else (":dataset", ":moment", ":id")
    order = _ORDER if not newest_first else "ORDER BY last_modified_at DESC, external_id DESC"
    end = f"{order} LIMIT {limit:d}"
    each = [
        f"SELECT {columns} FROM _nango_raw WHERE dataset_id = {whose or marks[0]} AND {_behind(*marks[1:])} "
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
