"""A mapped table as an execution writes it: prepare the rows of a batch, add columns, write the rows."""

from __future__ import annotations

import hashlib
import inspect as inspection
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError

from ... import clock, mapping, records
from ...config import Sync
from ...errors import ConfigError, RecordRejected
from .. import datasets, problems, schema
from ..database import Database
from ..datasets import Dataset
from ..problems import Problems
from ..rows import MappedRows, Owner, Prepared, driver
from ..system_columns import KEY_COLUMNS, quote
from ..types import SQLITE_TIME
from .columns import actual_columns, added_since, changed_comments
from .names import Transform

log = logging.getLogger(__name__)

_LOCKED_SECONDS = 60.0
_PROBE = 3  # records of a batch that show whether the fast rows know its shape
_SAMPLE = 30  # records that the layout learns a shape from
MOST_FAST_ROWS = 50  # per execution; it does not pay where every record has another shape


@dataclass(frozen=True)
class LayoutCache:
    """The layout of a table and the code made for it, which the next execution can reuse."""

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
    without_column: set[str] = field(default_factory=set)
    new_columns: list[mapping.Column] = field(default_factory=list)
    incomplete: bool = False  # a column could not be added in time; the next execution maps everything again
    before_change: Callable[[], None] = lambda: None  # called before a column is added
    starred: Callable[[str], str] = str  # removes secrets from the text of errors that a transform raises
    _may_grow_at: float = 0.0
    _is_full: bool = False
    _fast_rows: mapping.FastRows | None = None
    _fast_rows_state: object = None
    _fast_rows_made: int = 0

    @property
    def cache(self) -> LayoutCache:
        """The part of this value that the next execution can reuse."""
        return LayoutCache(self.layout, self._fast_rows, self._fast_rows_state)

    def with_cache(self, cache: LayoutCache) -> MappedTable:
        """The table with the cached layout of an earlier execution."""
        return replace(self, layout=cache.layout, _fast_rows=cache.fast_rows, _fast_rows_state=cache.fast_rows_state)

    @property
    def version(self) -> str:
        """The version of the mapping of rows that are written now; the dataset stores it."""
        return f"{self.sync.mapping_version()}{_source_hash(self.transform)}"

    def is_current(self, dataset: Dataset) -> bool:
        """Whether the dataset's rows are in this table and have this version."""
        return (dataset.mapped_table, dataset.mapping_version) == (self.name, self.version)

    def count_misfits(self, prepared: Prepared) -> None:
        """Add the misfits of rows that were written."""
        self.misfits += prepared.misfits
        self.without_column |= prepared.without_column

    @property
    def quoted(self) -> str:
        """The table's name for SQL."""
        return quote(self.name)

    def complete(self) -> None:
        """Add the columns of the record model that the table lacks, and write their comments."""
        if not self.layout.plan.fields:
            return
        if self.layout.new_columns(nothing := mapping.Flat([], [], Counter())) and not self._evolve(nothing):
            self.incomplete = True
        self.new_columns.clear()  # those of the model are no surprise
        comments = changed_comments(self.database, self.name, self.layout)
        if statements := self.database.rows.comments(self.name, comments):
            self.database.transact(lambda connection: [driver(connection).execute(sql) for sql in statements.values()])

    # --- before the batch -----------------------------------------------------------------------------------------

    def prepare(self, keys: Sequence[str], texts: Sequence[bytes]) -> Prepared:
        """Make the rows of records, given as JSON, and add the columns that they need.

        New columns are added in a short transaction of their own. Raises ConfigError where the records have fields
        that a mapping with `extra: fail` does not declare.
        """
        fast_rows = self._fast_rows_for(texts)
        if fast_rows is None:
            return self.prepare_generally(keys, texts)
        # COPY's CSV takes keys without control characters.
        fast = [row if key.isprintable() else None for key, row in zip(keys, fast_rows(texts), strict=True)]
        rest = [number for number, row in enumerate(fast) if row is None]
        prepared = self.prepare_generally([keys[number] for number in rest], [texts[number] for number in rest])
        prepared.fast = [(key, row) for key, row in zip(keys, fast, strict=True) if row is not None]
        prepared.fast_columns = fast_rows.columns
        return prepared

    def _fast_rows_for(self, texts: Sequence[bytes]) -> mapping.FastRows | None:
        """The fast rows for a batch. The layout first learns the shape of a few records if they are refused.

        Fields that are always null have no column, so a process knows of them only after it has seen them.
        """
        fast_rows = self._current_fast_rows()
        if fast_rows is None or len(texts) < 2 * _SAMPLE or any(fast_rows(texts[:_PROBE])):
            return fast_rows
        failed: Counter[str] = Counter()
        self._grow(self.layout.flatten(_decoded(text, failed) for text in texts[:_SAMPLE]))
        return self._current_fast_rows()

    def _grow(self, flat: mapping.Flat) -> None:
        """Add the columns that flat rows need."""
        if self.layout.new_columns(flat) and not self._evolve(flat):
            self.incomplete = True

    def _current_fast_rows(self) -> mapping.FastRows | None:
        """The fast rows of the current layout; None with a transform, or where the layout changed too often."""
        if self.transform is not None or self._fast_rows_made > MOST_FAST_ROWS:
            return None
        if self._fast_rows_state != self.layout.state:
            self._fast_rows_state = self.layout.state
            self._fast_rows = mapping.fast_rows_of(self.layout, csv=self.database.rows.writes_csv)
            self._fast_rows_made += 1
        return self._fast_rows

    def prepare_generally(self, keys: Sequence[str], texts: Sequence[bytes]) -> Prepared:
        """Make the rows as `prepare` does, without fast rows: record by record and value by value."""
        failed: Counter[str] = Counter()
        keys, decoded = self._records(keys, texts, failed)
        flat = self.layout.flatten(decoded)
        if self.layout.plan.extra == "fail" and (paths := self.layout.undeclared(flat)):
            declaration = f"the model {self.sync.model}" if self.layout.plan.fields else "mapping.columns"
            raise ConfigError(
                f"{self.sync.display_name}: the API sends fields that {declaration} does not declare: "
                f"{', '.join(paths[:20])}. Declare them, or set mapping.extra to ignore or evolve."
            )
        self._grow(flat)
        result = self.layout.rows(flat)
        rows = list(zip(keys, result.values, strict=True))
        return Prepared(
            rows, tuple(self.layout.columns), result.misfits + failed, without_column=frozenset(result.without_column)
        )

    def problems_of(self, texts: Mapping[str, bytes]) -> Problems:
        """The problems of stored rows, by the keys and texts of their records. Nothing is written or added."""
        failed: Counter[str] = Counter()
        _, decoded = self._records(list(texts), list(texts.values()), failed)
        result = self.layout.rows(self.layout.flatten(decoded))
        return Problems.of(result.misfits + failed, result.without_column)

    def _records(
        self, keys: Sequence[str], texts: Sequence[bytes], failed: Counter[str]
    ) -> tuple[Sequence[str], Iterable[Any]]:
        """The records to map, with their keys: decoded, and transformed where the config has a transform."""
        if self.transform is not None:
            return self._transformed(self.transform, keys, texts, failed)
        return keys, (_decoded(text, failed) for text in texts)

    def _transformed(
        self, transform: Transform, keys: Sequence[str], texts: Sequence[bytes], failed: Counter[str]
    ) -> tuple[list[str], list[Any]]:
        """The keys and records that the config's transform returns; None leaves a record out of the table."""
        kept: list[tuple[str, Any]] = []
        for key, record in zip(keys, texts, strict=True):
            try:
                changed = transform(records.decode(record))
                if changed is not None:
                    kept.append((key, records.decode(records.encode(changed))))
            except Exception as error:  # any error of the user's code concerns this record only
                reason = self.starred(repr(error))
                log.warning("%s: transform failed on record %s: %s", self.sync.display_name, key, reason)
                failed["(the whole record, transform failed)"] += 1
        return [key for key, _ in kept], [record for _, record in kept]

    def _evolve(self, flat: mapping.Flat) -> bool:
        """Add the columns that `flat` needs; False when another transaction holds the table, now or a moment ago.

        A table with the maximum of columns stays as it is, and the result is True.
        """
        if self._is_full or clock.monotonic() < self._may_grow_at:
            return self._is_full
        self.before_change()
        try:
            new = self.database.transact(lambda connection: self._add_needed(connection, flat))
            self.layout.add(new)
            self.new_columns.extend(new)
            return True
        except (DBAPIError, self.database.driver_error) as error:
            refusal = self.database.rows.growth_refusal(error)
            if refusal is None:
                raise
            self._is_full = refusal == "full"
            self._may_grow_at = clock.monotonic() + _LOCKED_SECONDS
            log.warning("%s: table %s gets no new columns now: %s", self.sync.name, self.name, error)
            return self._is_full

    def _add_needed(self, connection: Connection, flat: mapping.Flat) -> Sequence[mapping.Column]:
        self.database.rows.limit_lock_wait(connection)
        self.database.rows.hold_columns(connection, self.name)
        self.layout.add(added_since(connection, self.name, self.layout))
        self.layout.reserve(actual_columns(connection, self.database, self.name) or ())
        new = self.layout.new_columns(flat)
        self._add_columns(connection, new)
        return new

    def _add_columns(self, connection: Connection, new: Sequence[mapping.Column]) -> None:
        if taken := self.layout.clash(new):
            raise ConfigError(
                f"{self.sync.display_name}: mapping.columns.{taken} wants a new column, but table {self.name} has one "
                "of that name already; choose another name, or another mapped_table."
            )
        create = create_statement(self.database, self.name, new)
        declared = _declared(self.database, new)
        for statement in self.database.rows.add_columns(connection, self.name, declared, create) if new else ():
            driver(connection).execute(statement)
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

    # --- inside the batch's transaction ------------------------------------------------------------------------------

    def write(
        self, connection: Connection, dataset: Dataset, prepared: Prepared, replaced: Sequence[str], moment: datetime
    ) -> None:
        """Write rows; the stored rows of `replaced` keys are deleted first."""
        if self.incomplete:
            datasets.mark_mapped(connection, dataset.id, self.name, None)
        rows = self._rows(connection, dataset)
        rows.delete(replaced)
        rows.insert(prepared, moment)

    def write_again(self, connection: Connection, dataset: Dataset, prepared: Prepared, keys: Sequence[str]) -> None:
        """Write the rows of unchanged records, with the times of these records."""
        self.write(connection, dataset, prepared, keys, self.database.now(connection))
        self._rows(connection, dataset).update(times_of_raw(dataset), keys)

    def remove(self, connection: Connection, dataset: Dataset, keys: Sequence[str]) -> None:
        """Delete the rows of these keys, before their records lose the payload that their problems are found with."""
        self._subtract_problems(connection, dataset, keys)
        self._rows(connection, dataset).delete(keys)

    def mark_deleted(self, connection: Connection, dataset: Dataset, keys: Sequence[str], moment: datetime) -> None:
        """Set `_nango_deleted_at` on the rows of these keys, which are live; their problems do not count any more."""
        self._subtract_problems(connection, dataset, keys)
        at = moment.strftime(SQLITE_TIME)
        self._rows(connection, dataset).update(f"_nango_emitted_at = '{at}', _nango_deleted_at = '{at}'", keys)

    def _subtract_problems(self, connection: Connection, dataset: Dataset, keys: Sequence[str]) -> None:
        if problems.has_any(connection, dataset.id):
            texts = self.database.rows.raw(connection, dataset.id).texts(keys)
            problems.change(connection, dataset.id, Problems(), self.problems_of(texts))

    def _rows(self, connection: Connection, dataset: Dataset) -> MappedRows:
        return self.database.rows.mapped(connection, self.quoted, owner_of(dataset))


def owner_of(dataset: Dataset) -> Owner:
    """The values of the columns that tie a mapped row to its dataset."""
    return Owner(dataset.sync_id, dataset.model, dataset.connection_id, dataset.variant, dataset.integration)


def times_of_raw(dataset: Dataset) -> str:
    """The SQL assignments that copy the times of records to their mapped rows."""
    times = "SELECT r.last_modified_at, r.deleted_at FROM _nango_raw r"
    return (
        "(_nango_emitted_at, _nango_deleted_at) = "
        f"({times} WHERE r.dataset_id = {dataset.id} AND r.external_id = _nango_unique_key)"
    )


def _decoded(text: bytes, failed: Counter[str]) -> Any:
    """The record; an empty one where it is nested too deeply, which is counted in `failed`."""
    try:
        return records.decode(text)
    except RecordRejected as reason:
        failed[f"(the whole record, {reason})"] += 1
        return {}


def _source_hash(transform: Transform | None) -> str:
    """A hash of the function's source; empty where Python cannot read it."""
    if transform is None:
        return ""
    try:
        return hashlib.blake2b(inspection.getsource(transform).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):
        return ""


def create_statement(database: Database, name: str, columns: Sequence[mapping.Column] = ()) -> str:
    """The CREATE TABLE statement with the system columns and `columns`."""
    key, time_ = f"{database.rows.key_type} NOT NULL", database.rows.time_type
    return (
        f"CREATE TABLE {quote(name)} (_nango_sync_id bigint NOT NULL, _nango_model {key}, "
        f"_nango_connection_id {key}, _nango_variant {key}, _nango_unique_key {key}, "
        f"_nango_emitted_at {time_} NOT NULL, _nango_deleted_at {time_}, _nango_integration {key}, "
        f"{''.join(f'{column}, ' for column in _declared(database, columns))}UNIQUE ({', '.join(KEY_COLUMNS)}))"
    )


def _declared(database: Database, columns: Iterable[mapping.Column]) -> list[str]:
    return [f"{quote(column.name)} {database.rows.types[column.type]}" for column in columns]
