"""One mapped table on the way of a batch: rows are made, columns added, rows written."""

from __future__ import annotations

import hashlib
import inspect as inspection
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from ... import mapping, records
from ...config import Sync
from ...errors import ConfigError, RecordRejected
from .. import bulk, datasets, schema
from ..database import Database
from ..datasets import Dataset
from ..types import SQLITE_TIME
from .names import KEY_COLUMNS, SYSTEM_COLUMNS, Transform, quote
from .there import added_since, columns_there, hold, is_bare

log = logging.getLogger(__name__)

_POSTGRESQL_TYPES = {
    mapping.Type.BOOLEAN: "boolean",
    mapping.Type.NUMBER: "numeric",
    mapping.Type.STRING: "text",
    mapping.Type.TIMESTAMP: "timestamptz",
}
_SQLITE_TYPES = {
    mapping.Type.BOOLEAN: "BOOLEAN",
    mapping.Type.NUMBER: "NUMERIC",
    mapping.Type.STRING: "TEXT",
    mapping.Type.TIMESTAMP: "TIMESTAMP",
}
NOTHING = "\\N"  # NULL in COPY's text
_LOCKED, _FULL = "55P03", "54011"  # PostgreSQL's codes for a table that somebody holds, or that has 1,600 columns
_LOCKED_SECONDS = 60.0
MOST_FAST_ROWS = 50  # of one execution; records that never look alike are not worth it


@dataclass
class Prepared:
    """Records ready to be written: keys with their rows, and how many values had to stay out.

    `shaped` are those that a fast_rows made, with its columns; `rows` may be shorter than `columns`.
    """

    rows: list[tuple[str, list[Any]]]
    columns: tuple[mapping.Column, ...]
    misfits: Counter[str] = field(default_factory=Counter)
    shaped: list[tuple[str, Any]] = field(default_factory=list)
    shaped_columns: tuple[mapping.Column, ...] = ()

    @property
    def keys(self) -> list[str]:
        """The keys of all rows."""
        return [key for key, _ in self.rows] + [key for key, _ in self.shaped]


@dataclass(frozen=True)
class Learnt:
    """What one execution has found out about the records of a table, for the next one to go on with."""

    layout: mapping.Layout
    fast_rows: mapping.FastRows | None
    fast_rows_state: object


@dataclass
class MappedTable:
    """One sync's view of its mapped table."""

    database: Database
    sync_id: int
    sync: Sync
    name: str
    layout: mapping.Layout
    transform: Transform | None = None
    misfits: Counter[str] = field(default_factory=Counter)
    new_columns: list[mapping.Column] = field(default_factory=list)
    incomplete: bool = False  # a column could not be added in time; the next execution maps everything again
    before_change: Callable[[], None] = lambda: None  # called before a column is added
    starred: Callable[[str], str] = str  # takes the secrets out of what a transform raises
    _may_grow_at: float = 0.0
    _is_full: bool = False
    _fast_rows: mapping.FastRows | None = None
    _fast_rows_state: object = None
    _fast_rows_made: int = 0

    @property
    def learnt(self) -> Learnt:
        """What is of use to the next execution, and nothing that this one holds besides."""
        return Learnt(self.layout, self._fast_rows, self._fast_rows_state)

    def going_on(self, before: Learnt) -> MappedTable:
        """The same table with what was learnt of its records before."""
        return replace(self, layout=before.layout, _fast_rows=before.fast_rows, _fast_rows_state=before.fast_rows_state)

    @property
    def version(self) -> str:
        """What rows written now follow; it is kept on the dataset."""
        return f"{self.name}#{self.sync.mapping_version()}{_source_hash(self.transform)}"

    @property
    def quoted(self) -> str:
        """The table's name for SQL."""
        return quote(self.name)

    # --- before the batch -----------------------------------------------------------------------------------------

    def prepare(self, keys: Sequence[str], texts: Sequence[bytes]) -> Prepared:
        """Make rows of records, given as JSON, and add the columns they need.

        A new column is a transaction of its own, so that it holds no lock for long. Raises ConfigError where the
        mapping forbids fields that it does not declare.
        """
        fast_rows = self._current_fast_rows()
        if fast_rows is None:
            return self.prepare_generally(keys, texts)
        # COPY's CSV takes keys without control characters.
        made = [row if key.isprintable() else None for key, row in zip(keys, fast_rows(texts), strict=True)]
        rest = [at for at, row in enumerate(made) if row is None]
        prepared = self.prepare_generally([keys[at] for at in rest], [texts[at] for at in rest])
        prepared.shaped = [(key, row) for key, row in zip(keys, made, strict=True) if row is not None]
        prepared.shaped_columns = fast_rows.columns
        return prepared

    def _current_fast_rows(self) -> mapping.FastRows | None:
        """The fast_rows for the layout as it is; not for one that keeps changing."""
        if self.transform is not None or self._fast_rows_made > MOST_FAST_ROWS:
            return None
        if self._fast_rows_state != self.layout.state:
            self._fast_rows_state = self.layout.state
            self._fast_rows = mapping.fast_rows_of(self.layout, csv=self.database.is_postgresql)
            self._fast_rows_made += 1
        return self._fast_rows

    def prepare_generally(self, keys: Sequence[str], texts: Sequence[bytes]) -> Prepared:
        """The same, record by record and value by value."""
        failed: Counter[str] = Counter()
        decoded: Iterable[Any] = (_decoded(text, failed) for text in texts)
        if self.transform is not None:
            keys, decoded = self._transformed(self.transform, keys, texts, failed)
        flat = self.layout.flatten(decoded)
        if self.layout.plan.extra == "fail" and (surplus := self.layout.undeclared(flat)):
            raise ConfigError(
                f"{self.sync.display_name}: the API sends fields that mapping.columns does not declare: "
                f"{', '.join(surplus[:20])}. Declare them, or set mapping.extra to ignore or evolve."
            )
        if self.layout.new_columns(flat) and not self._evolve(flat):
            self.incomplete = True
        made = self.layout.rows(flat)
        return Prepared(list(zip(keys, made.values, strict=True)), tuple(self.layout.columns), made.misfits + failed)

    def _transformed(
        self, transform: Transform, keys: Sequence[str], texts: Sequence[bytes], failed: Counter[str]
    ) -> tuple[list[str], list[Any]]:
        """The records as the config's own function returns them; None leaves a record out of the table."""
        kept: list[tuple[str, Any]] = []
        for key, record in zip(keys, texts, strict=True):
            try:
                changed = transform(records.decode(record))
                if changed is not None:
                    kept.append((key, records.decode(records.encode(changed))))
            except Exception as error:  # the user's code: whatever it raises concerns this record only
                said = self.starred(repr(error))
                log.warning("%s: transform failed on record %s: %s", self.sync.display_name, key, said)
                failed["(the whole record, transform failed)"] += 1
        return [key for key, _ in kept], [record for _, record in kept]

    def _evolve(self, flat: mapping.Flat) -> bool:
        """Add the columns that `flat` needs; False when somebody holds the table, now or a moment ago.

        A table that has all the columns there can be is left as it is: there is nothing to wait for.
        """
        if self._is_full or time.monotonic() < self._may_grow_at:
            return self._is_full
        self.before_change()
        try:
            new = self.database.transact(lambda connection: self._add_needed(connection, flat))
            self.layout.add(new)
            self.new_columns.extend(new)
            return True
        except (DBAPIError, self.database.driver_error) as error:
            if _sqlstate(error) not in (_LOCKED, _FULL):
                raise
            self._is_full = _sqlstate(error) == _FULL
            self._may_grow_at = time.monotonic() + _LOCKED_SECONDS
            log.warning("%s: table %s gets no new columns now: %s", self.sync.name, self.name, error)
            return self._is_full

    def _add_needed(self, connection: Connection, flat: mapping.Flat) -> Sequence[mapping.Column]:
        if self.database.is_postgresql:
            connection.execute(text("SET LOCAL lock_timeout = '3s'"))
        hold(connection, self.database, self.name)
        self.layout.add(added_since(connection, self.name, self.layout))
        self.layout.reserve(columns_there(connection, self.name) or ())
        new = self.layout.new_columns(flat)
        self._add_columns(connection, new)
        return new

    def _add_columns(self, connection: Connection, new: Sequence[mapping.Column]) -> None:
        if taken := self.layout.clash(new):
            raise ConfigError(
                f"{self.sync.display_name}: mapping.columns.{taken} wants a new column, but table {self.name} has one "
                "of that name already; choose another name, or another mapped_table."
            )
        for statement in self._adding(connection, new) if new else ():
            bulk.driver(connection).execute(statement)
        now = self.database.now(connection)
        rows = [
            {
                "table_name": self.name,
                "path": column.path,
                "column_name": column.name,
                "type": column.type.value,
                "created_at": now,
            }
            for column in new
        ]
        if rows:
            connection.execute(insert(schema.columns), rows)

    def _adding(self, connection: Connection, new: Sequence[mapping.Column]) -> Iterator[str]:
        """The statements that give the table new columns.

        SQLite reads the whole schema again after each of them, so a table that was just made is made once more.
        """
        adds = [f"ADD COLUMN {column}" for column in _declared(self.database, new)]
        if self.database.is_postgresql:
            yield f"ALTER TABLE {self.quoted} {', '.join(adds)}"
        elif is_bare(connection, self.name):
            yield f"DROP TABLE {self.quoted}"
            yield create_statement(self.database, self.name, new)
        else:
            yield from (f"ALTER TABLE {self.quoted} {add}" for add in adds)

    # --- inside the batch's transaction ------------------------------------------------------------------------------

    def write(
        self, connection: Connection, dataset: Dataset, prepared: Prepared, replaced: Sequence[str], moment: datetime
    ) -> None:
        """Put the rows in; those of `replaced` keys may be there already."""
        if self.incomplete:
            datasets.mapped(connection, dataset.id, datasets.stale(self.name))
        self.remove(connection, dataset, replaced)
        if self.database.is_postgresql:
            self._copy(connection, dataset, prepared, moment)
        else:
            self._insert(connection, dataset, prepared, moment)

    def write_again(self, connection: Connection, dataset: Dataset, prepared: Prepared, keys: Sequence[str]) -> None:
        """Put the rows of records in that have not changed, with the times of these records."""
        self.write(connection, dataset, prepared, keys, self.database.now(connection))
        set_ = f"UPDATE {self.quoted} SET {times_of_raw(dataset)}"
        for statement, values in self._by_key(set_, dataset, keys):
            bulk.driver(connection).execute(statement, values)

    def _names(self, columns: Sequence[mapping.Column]) -> str:
        names = [*SYSTEM_COLUMNS, *(column.name for column in columns)]
        return ", ".join(quote(name) for name in names)

    def _copy(self, connection: Connection, dataset: Dataset, prepared: Prepared, moment: datetime) -> None:
        """PostgreSQL: COPY, the shaped rows as CSV, the others in COPY's own text."""
        names = (dataset.model, dataset.connection_id, dataset.variant)
        if prepared.shaped:
            head = mapping.as_csv([self.sync_id, *names]) + b","
            tail = b"," + mapping.as_csv([moment.isoformat(" "), None]) + b","
            lines = [head + mapping.as_csv([key]) + tail + row + b"\n" for key, row in prepared.shaped]
            bulk.copy(connection, self.quoted, self._names(prepared.shaped_columns), b"".join(lines), csv=True)
        if prepared.rows:
            width = len(prepared.columns)
            escape = mapping.TO_POSTGRESQL[mapping.Type.STRING]
            before, after = [str(self.sync_id), *map(escape, names)], [moment.isoformat(" "), NOTHING]
            text = "".join(
                "\t".join([*before, escape(key), *after, *row, *[NOTHING] * (width - len(row))]) + "\n"
                for key, row in prepared.rows
            )
            bulk.copy(connection, self.quoted, self._names(prepared.columns), text.encode(), csv=False)

    def _insert(self, connection: Connection, dataset: Dataset, prepared: Prepared, moment: datetime) -> None:
        """SQLite: many rows a statement."""
        before = (self.sync_id, dataset.model, dataset.connection_id, dataset.variant)
        after = (moment.strftime(SQLITE_TIME), None)
        width = len(prepared.columns)
        filled = [(key, row + [None] * (width - len(row))) for key, row in prepared.rows]
        for columns, rows in ((prepared.shaped_columns, prepared.shaped), (prepared.columns, filled)):
            marks = ",".join("?" * (len(SYSTEM_COLUMNS) + len(columns)))
            whole = [(*before, key, *after, *row) for key, row in rows]
            bulk.insert(connection, f"{self.quoted} ({self._names(columns)})", f"({marks})", whole)

    def remove(self, connection: Connection, dataset: Dataset, keys: Sequence[str]) -> None:
        """Take the rows of these keys out."""
        for statement, values in self._by_key(f"DELETE FROM {self.quoted}", dataset, keys):
            bulk.driver(connection).execute(statement, values)

    def mark_deleted(self, connection: Connection, dataset: Dataset, keys: Sequence[str], moment: datetime) -> None:
        """Set `_nango_deleted_at` on the rows of these keys."""
        at = moment.strftime(SQLITE_TIME)
        set_ = f"UPDATE {self.quoted} SET _nango_emitted_at = '{at}', _nango_deleted_at = '{at}'"
        for statement, values in self._by_key(set_, dataset, keys):
            bulk.driver(connection).execute(statement, values)

    def _by_key(self, verb: str, dataset: Dataset, keys: Sequence[str]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The statements that do `verb` to the rows of these keys, with their parameters."""
        mark = "%s" if self.database.is_postgresql else "?"
        where = " AND ".join(f"{name} = {mark}" for name in KEY_COLUMNS[:4])
        names = (self.sync_id, dataset.model, dataset.connection_id, dataset.variant)
        if not keys:
            return
        if self.database.is_postgresql:
            # The percent signs of a name; the driver reads them where there are parameters.
            verb, table = verb.replace("%", "%%"), self.quoted.replace("%", "%%")
            # One by one, as in `bulk`: without good statistics PostgreSQL would rather read all of the dataset's rows.
            one = f"SELECT ctid AS place FROM {table} WHERE {where} AND _nango_unique_key = wanted.key LIMIT 1"
            places = f"SELECT place FROM unnest(%s::text[]) AS wanted (key), LATERAL ({one}) AS found"
            yield f"{verb} WHERE ctid = ANY(ARRAY({places}))", (list(keys), *names)
            return
        for piece in bulk.in_pieces(keys):
            marks = ",".join("?" * len(piece))
            yield f"{verb} WHERE {where} AND _nango_unique_key IN ({marks})", (*names, *piece)


def times_of_raw(dataset: Dataset) -> str:
    """What gives mapped rows the times of their records."""
    times = "SELECT r.last_modified_at, r.deleted_at FROM _nango_raw r"
    return (
        "(_nango_emitted_at, _nango_deleted_at) = "
        f"({times} WHERE r.dataset_id = {dataset.id} AND r.external_id = _nango_unique_key)"
    )


def _decoded(text: bytes, failed: Counter[str]) -> Any:
    """The record, or nothing of it where it is too deep to look inside; the raw one is kept."""
    try:
        return records.decode(text)
    except RecordRejected as reason:
        failed[f"(the whole record, {reason})"] += 1
        return {}


def _source_hash(transform: Transform | None) -> str:
    """Changes when the code of the function does, as far as Python can show it."""
    if transform is None:
        return ""
    try:
        return hashlib.blake2b(inspection.getsource(transform).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):
        return ""


def _sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for what went wrong."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def create_statement(database: Database, name: str, columns: Sequence[mapping.Column] = ()) -> str:
    """What makes a table with the system columns and these; more come with the records that have them."""
    if database.is_postgresql:
        key, time = 'text COLLATE "C" NOT NULL', "timestamptz"
    else:
        key, time = "TEXT NOT NULL", "TIMESTAMP"
    return (
        f"CREATE TABLE {quote(name)} (_nango_sync_id bigint NOT NULL, _nango_model {key}, "
        f"_nango_connection_id {key}, _nango_variant {key}, _nango_unique_key {key}, "
        f"_nango_emitted_at {time} NOT NULL, _nango_deleted_at {time}, "
        f"{''.join(f'{column}, ' for column in _declared(database, columns))}UNIQUE ({', '.join(KEY_COLUMNS)}))"
    )


def _declared(database: Database, columns: Iterable[mapping.Column]) -> list[str]:
    types = _POSTGRESQL_TYPES if database.is_postgresql else _SQLITE_TYPES
    return [f"{quote(column.name)} {types[column.type]}" for column in columns]
