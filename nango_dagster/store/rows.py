"""Many rows at once: the protocol that each database's own SQL is behind, and what is equal on all of them.

`rows_sqlite` and `rows_postgresql` implement it; `Database.rows` is the one of the database that was opened.
A new database is one more such module that makes tests/test_store_rows.py pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Connection, Text, cast, select

from .. import mapping
from . import schema
from .changes import Action, Record
from .problems import Problems

BATCH_KEYS = 500  # of one IN (...); few enough to stay a cached statement
RAW_COLUMNS = "dataset_id, external_id, sync_id, byte_hash, content_hash, first_seen_at, last_modified_at, data"
# The state of a row that a look-up needs besides its hashes; NULL for most rows.
STATE = "CASE WHEN deleted_at IS NOT NULL THEN 'deleted' WHEN payload_wanted THEN 'wanted' END"

# The JSON as it was stored; PostgreSQL's driver would decode it.
DATA_TEXT = cast(schema.raw.c.data, Text).label("data")


class KnownRecord(NamedTuple):
    """The stored hashes of a record, which tell whether it changed."""

    byte_hash: bytes
    content_hash: bytes | None  # not known before a record's bytes first change
    state: Literal["deleted", "wanted"] | None

    @property
    def is_deleted(self) -> bool:
        """Whether it is marked as deleted."""
        return self.state == "deleted"

    @property
    def payload_wanted(self) -> bool:
        """Whether its payload was pruned and has to come back."""
        return self.state == "wanted"


class RawRow(NamedTuple):
    """A record on its way into `_nango_raw`."""

    external_id: str
    byte_hash: bytes
    content_hash: bytes | None
    data: bytes


class KeyRange(NamedTuple):
    """Keys behind `after` and up to `last`; all of them by default."""

    after: str = ""
    last: str | None = None


@dataclass
class Prepared:
    """Records ready to be written into a mapped table: keys with their rows, and the values that did not fit.

    `fast` are the rows of `FastRows`, with its columns; those in `rows` may be shorter than `columns`.
    """

    rows: list[tuple[str, list[Any]]]
    columns: tuple[mapping.Column, ...]
    misfits: Counter[str] = field(default_factory=Counter)
    fast: list[tuple[str, Any]] = field(default_factory=list)
    fast_columns: tuple[mapping.Column, ...] = ()
    without_column: frozenset[str] = frozenset()
    """Those of the misfits that are paths of values without a column."""

    @property
    def problems(self) -> Problems:
        """The misfits, parted in the two kinds."""
        return Problems.of(self.misfits, self.without_column)

    @property
    def keys(self) -> list[str]:
        """The keys of all rows."""
        return [key for key, _ in self.rows] + [key for key, _ in self.fast]


@dataclass(frozen=True)
class RawTable(ABC):
    """The raw records of one dataset, inside one transaction.

    The caller of a method that writes holds the dataset's lock: PostgreSQL finds rows by their place.
    """

    connection: Connection
    dataset_id: int

    @property
    def driver(self) -> Any:
        """The driver's own connection, inside the same transaction."""
        return driver(self.connection)

    def look_up(self, keys: Sequence[str]) -> dict[str, KnownRecord]:
        """The stored state of these records, deleted ones included; records that are not stored are left out."""
        return {key: KnownRecord(*known) for key, *known in self._stored(keys)}

    def differing(self, hashes: Mapping[str, bytes]) -> dict[str, KnownRecord | None]:
        """Of records with these byte hashes: those that are not stored exactly so, and what is; None for nothing."""
        differing: dict[str, KnownRecord | None] = dict.fromkeys(hashes)
        for key, byte_hash, content_hash, state in self._stored(list(hashes)):
            if state is None and byte_hash == hashes[key]:
                del differing[key]
            else:
                differing[key] = KnownRecord(byte_hash, content_hash, state)
        return differing

    def texts(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The stored JSON of these records, where they have one."""
        of = schema.raw.c
        texts: dict[str, bytes] = {}
        for batch in in_batches(keys):
            query = select(of.external_id, DATA_TEXT).where(
                of.dataset_id == self.dataset_id, of.external_id.in_(batch), of.data.is_not(None)
            )
            texts.update((key, data.encode()) for key, data in self.connection.execute(query))
        return texts

    def live_keys(self, size: int = 5000) -> Iterator[list[str]]:
        """The keys of all live records in their order, `size` at a time."""
        of = schema.raw.c
        query = select(of.external_id).where(of.dataset_id == self.dataset_id, of.deleted_at.is_(None))
        after = ""
        while keys := list(
            self.connection.execute(query.where(of.external_id > after).order_by(of.external_id).limit(size)).scalars()
        ):
            yield keys
            after = keys[-1]

    def some_keys(self, count: int = 100) -> list[str]:
        """The first and the last keys of the live records, as a sample."""
        of = schema.raw.c
        query = select(of.external_id).where(of.dataset_id == self.dataset_id, of.deleted_at.is_(None)).limit(count)
        orders = (of.external_id, of.external_id.desc())
        return [key for order in orders for key in self.connection.execute(query.order_by(order)).scalars()]

    @abstractmethod
    def live_rows(self, columns: str, where: str = "true") -> Iterator[tuple[Any, ...]]:
        """These columns of the live records that meet `where`, in no order, without having them all in memory."""

    @abstractmethod
    def _stored(self, keys: Sequence[str]) -> Iterable[Any]:
        """Key, byte hash, content hash and STATE of those of the records that are stored."""

    @abstractmethod
    def put(self, sync_id: int, rows: Sequence[RawRow], replaced: Sequence[str], moment: datetime) -> None:
        """Write records; those in `replaced` are stored already, and live ones keep the time they were first seen."""

    @abstractmethod
    def refresh_hashes(self, hashes: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Replace key by key the byte hash and the content hash, except where a payload is wanted back."""

    @abstractmethod
    def restore(self, rows: Sequence[RawRow]) -> None:
        """Give pruned records their payloads back; nothing else of them changes."""

    @abstractmethod
    def prune(self, keys: Sequence[str], moment: datetime, *, wanted: bool, own_id: bool) -> None:
        """Remove the payloads of these records; with `wanted` they come back when an execution sees them.

        With `own_id` the records' key is their `id`, whose JSON type is kept.
        """

    @abstractmethod
    def want_payloads(self, keys: Sequence[str]) -> None:
        """Have the payloads of these pruned records come back when an execution sees them."""

    @abstractmethod
    def mark_deleted(self, keys: Sequence[str], moment: datetime, *, keep_data: bool, own_id: bool = False) -> None:
        """Mark live records as deleted at `moment`; without `keep_data` their payloads are removed, as by `prune`."""

    @abstractmethod
    def mark_all_deleted(self, moment: datetime, *, own_id: bool) -> None:
        """Mark every live record as deleted at `moment` and remove its payload, as `prune` does."""


class Owner(NamedTuple):
    """The values of the columns that say whose a row is."""

    sync_id: int
    model: str
    connection_id: str
    variant: str
    integration: str

    @property
    def key(self) -> tuple[int, str, str, str]:
        """The values that tell the rows of one dataset from all others in the table."""
        return self[:4]


@dataclass(frozen=True)
class MappedRows(ABC):
    """The rows of one dataset in a mapped table, inside one transaction."""

    connection: Connection
    table: str
    """The table's name, quoted."""
    owner: Owner

    @property
    def driver(self) -> Any:
        """The driver's own connection, inside the same transaction."""
        return driver(self.connection)

    @abstractmethod
    def insert(self, prepared: Prepared, moment: datetime) -> None:
        """Insert rows; none of their keys may be stored."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the rows with these keys."""
        self._change(f"DELETE FROM {self.table}", keys)

    def update(self, assignments: str, keys: Sequence[str]) -> None:
        """Update the rows with these keys; the assignments have no parameters."""
        self._change(f"UPDATE {self.table} SET {assignments}", keys)

    def delete_range(self, keys: KeyRange, condition: str = "") -> None:
        """Delete the rows with keys in a range that meet the condition, which begins with AND."""
        self._change_range(f"DELETE FROM {self.table}", keys, condition)

    def update_range(self, assignments: str, keys: KeyRange) -> None:
        """Update the rows with keys in a range; the assignments have no parameters."""
        self._change_range(f"UPDATE {self.table} SET {assignments}", keys, "")

    @abstractmethod
    def _change(self, verb: str, keys: Sequence[str]) -> None:
        """Execute a DELETE or an UPDATE without WHERE on the rows with these keys."""

    @abstractmethod
    def _change_range(self, verb: str, keys: KeyRange, condition: str) -> None:
        """Execute a DELETE or an UPDATE without WHERE on the rows with keys in a range."""


class Rows(Protocol):
    """One database's way to store and find many rows at once."""

    @property
    def converters(self) -> Mapping[mapping.Type, Any]:
        """A value as the driver takes it, by the type of its column."""

    @property
    def types(self) -> Mapping[mapping.Type, str]:
        """The SQL type of a mapped column."""

    @property
    def key_type(self) -> str:
        """The SQL type of a key, which is compared byte by byte."""

    @property
    def time_type(self) -> str:
        """The SQL type of a point in time."""

    @property
    def writes_csv(self) -> bool:
        """Whether fast rows are lines of CSV."""

    @property
    def most_row_bytes(self) -> int | None:
        """How wide a mapped row may be; None for any width."""

    @property
    def nothing(self) -> Any:
        """NULL in a mapped row."""

    def fold(self, name: str) -> str:
        """The form of a column's name that is equal for names which the database treats as the same."""

    def raw(self, connection: Connection, dataset_id: int) -> RawTable:
        """The raw records of a dataset."""

    def mapped(self, connection: Connection, table: str, owner: Owner) -> MappedRows:
        """The rows of a dataset in the table of this quoted name."""

    def columns_of(self, connection: Connection, table: str) -> list[str]:
        """The columns that a table really has, in their order; none when there is no table."""

    def is_taken(self, connection: Connection, name: str) -> bool:
        """Whether something that is no table has this name."""

    def hold_columns(self, connection: Connection, table: str) -> None:
        """Let no other transaction change a table's columns until this one ends; a short wait, where there is one."""

    def limit_lock_wait(self, connection: Connection) -> None:
        """Wait at most three seconds for a table that somebody else holds, in this transaction."""

    def add_columns(self, connection: Connection, table: str, declared: Sequence[str], create: str) -> Iterator[str]:
        """The statements that give a table new columns; `create` would make it anew, with them."""

    def comments(self, table: str, comments: Mapping[str, str | None]) -> Mapping[str, str]:
        """The statement that writes the comment of each column; none where the database has no comments."""

    def stored_comments(self, connection: Connection, table: str) -> Mapping[str, str]:
        """The comments of a table's columns, by name; those without one are left out."""

    def growth_refusal(self, error: Exception) -> Literal["locked", "full"] | None:
        """Why a table got no new columns: it is locked, or has as many as it can have; None for other errors."""

    def moment(self, moment: datetime) -> Any:
        """A point in time as the driver takes it."""

    def json_items(self, parameter: str) -> str:
        """A FROM item with one row, `value`, for each item of a JSON list given as text."""

    def page_query(self, question: PageQuestion) -> tuple[str, Mapping[str, Any]]:
        """The query that reads the records of a page, and its parameters."""

    def page(self, connection: Any, question: PageQuestion) -> PageRows:
        """The records that a page is made of; `connection` is the driver's own."""

    def latest(self, connection: Any, dataset_id: int, actions: Sequence[Action], limit: int) -> Iterable[Record]:
        """The records that changed last, the newest first."""

    def with_payload(self, connection: Any, question: PayloadQuestion) -> list[tuple[str, datetime]]:
        """The keys and times of the first records between two places that have a payload."""


@dataclass(frozen=True)
class PageQuestion:
    """Which records a page is made of; `dataset` is an id, or the four names."""

    dataset: int | Mapping[str, str]
    begin: tuple[datetime, str]
    actions: tuple[Action, ...]
    ids: Sequence[str] | None
    limit: int

    @property
    def how(self) -> Literal["id", "names"]:
        """By what the dataset is found."""
        return "id" if isinstance(self.dataset, int) else "names"

    @property
    def names(self) -> Mapping[str, Any]:
        """The parameters that say which dataset."""
        return {"dataset": self.dataset} if isinstance(self.dataset, int) else self.dataset


class PayloadQuestion(NamedTuple):
    """The first `limit` records of a dataset behind one place and up to another that have a payload."""

    dataset_id: int
    begin: tuple[datetime, str]
    until: tuple[datetime, str]
    limit: int


class PageRows(NamedTuple):
    """The records of a page, whether there are more behind them, their dataset, and whether `id` is their key."""

    records: Iterable[Record]
    is_cut: bool
    dataset_id: int | None
    """None where there is no dataset, or no record."""
    is_own_id: bool


def driver(connection: Connection) -> Any:
    """The driver's own connection, inside the same transaction."""
    return connection.connection.driver_connection


def in_batches(keys: Collection[Any], size: int = BATCH_KEYS) -> Iterator[Sequence[Any]]:
    """`keys`, at most `size` at a time.

    >>> list(in_batches("abc", 2))
    [['a', 'b'], ['c']]
    """
    rest = iter(keys)
    while batch := list(islice(rest, size)):
        yield batch
