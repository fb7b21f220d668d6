"""One mapped table on the way of a batch: rows are made, columns added, rows written."""

from __future__ import annotations

import hashlib
import inspect as inspection
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert
from sqlalchemy.exc import DBAPIError

from ... import clock, mapping, records
from ...config import Sync
from ...errors import ConfigError, RecordRejected
from .. import datasets, schema
from ..database import Database
from ..datasets import Dataset
from ..rows import MappedRows, Prepared, driver
from ..system_columns import KEY_COLUMNS, quote
from ..types import SQLITE_TIME
from .columns import actual_columns, added_since
from .names import Transform

log = logging.getLogger(__name__)

_LOCKED_SECONDS = 60.0
MOST_FAST_ROWS = 50  # of one execution; records that never look alike are not worth it


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
    without_column: set[str] = field(default_factory=set)
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
        """The mapping that rows written now follow; it is kept on the dataset."""
        return f"{self.sync.mapping_version()}{_source_hash(self.transform)}"

    def is_current(self, dataset: Dataset) -> bool:
        """Whether the dataset's rows are in this table and follow its mapping."""
        return (dataset.mapped_table, dataset.mapping_version) == (self.name, self.version)

    def count_misfits(self, prepared: Prepared) -> None:
        """Count the values that rows which were written lack."""
        self.misfits += prepared.misfits
        self.without_column |= prepared.without_column

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
        prepared.fast = [(key, row) for key, row in zip(keys, made, strict=True) if row is not None]
        prepared.fast_columns = fast_rows.columns
        return prepared

    def _current_fast_rows(self) -> mapping.FastRows | None:
        """The fast_rows for the layout as it is; not for one that keeps changing."""
        if self.transform is not None or self._fast_rows_made > MOST_FAST_ROWS:
            return None
        if self._fast_rows_state != self.layout.state:
            self._fast_rows_state = self.layout.state
            self._fast_rows = mapping.fast_rows_of(self.layout, csv=self.database.rows.writes_csv)
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
        rows = list(zip(keys, made.values, strict=True))
        return Prepared(
            rows, tuple(self.layout.columns), made.misfits + failed, without_column=frozenset(made.without_column)
        )

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
        """Write rows; those of `replaced` keys may be stored already."""
        if self.incomplete:
            datasets.mark_mapped(connection, dataset.id, self.name, None)
        rows = self._rows(connection, dataset)
        rows.delete(replaced)
        rows.insert(prepared, moment)

    def write_again(self, connection: Connection, dataset: Dataset, prepared: Prepared, keys: Sequence[str]) -> None:
        """Write the rows of records that have not changed, with the times of these records."""
        self.write(connection, dataset, prepared, keys, self.database.now(connection))
        self._rows(connection, dataset).update(times_of_raw(dataset), keys)

    def remove(self, connection: Connection, dataset: Dataset, keys: Sequence[str]) -> None:
        """Delete the rows of these keys."""
        self._rows(connection, dataset).delete(keys)

    def mark_deleted(self, connection: Connection, dataset: Dataset, keys: Sequence[str], moment: datetime) -> None:
        """Set `_nango_deleted_at` on the rows of these keys."""
        at = moment.strftime(SQLITE_TIME)
        self._rows(connection, dataset).update(f"_nango_emitted_at = '{at}', _nango_deleted_at = '{at}'", keys)

    def _rows(self, connection: Connection, dataset: Dataset) -> MappedRows:
        return self.database.rows.mapped(connection, self.quoted, owner_of(dataset))


def owner_of(dataset: Dataset) -> tuple[int, str, str, str]:
    """The values of the columns that say whose a mapped row is."""
    return dataset.sync_id, dataset.model, dataset.connection_id, dataset.variant


def times_of_raw(dataset: Dataset) -> str:
    """The assignments that give mapped rows the times of their records."""
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


def create_statement(database: Database, name: str, columns: Sequence[mapping.Column] = ()) -> str:
    """The statement that makes a table with the system columns and these; records add more columns."""
    key, time_ = f"{database.rows.key_type} NOT NULL", database.rows.time_type
    return (
        f"CREATE TABLE {quote(name)} (_nango_sync_id bigint NOT NULL, _nango_model {key}, "
        f"_nango_connection_id {key}, _nango_variant {key}, _nango_unique_key {key}, "
        f"_nango_emitted_at {time_} NOT NULL, _nango_deleted_at {time_}, "
        f"{''.join(f'{column}, ' for column in _declared(database, columns))}UNIQUE ({', '.join(KEY_COLUMNS)}))"
    )


def _declared(database: Database, columns: Iterable[mapping.Column]) -> list[str]:
    return [f"{quote(column.name)} {database.rows.types[column.type]}" for column in columns]
