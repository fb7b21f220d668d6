"""Helpers of the tests of the store: write the records of a sync without an API, and read the stored rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from nango_dagster import mapping, paths, records
from nango_dagster.config import Sync
from nango_dagster.errors import RecordRejected
from nango_dagster.store import Database, datasets, schema, syncs, tables
from nango_dagster.store.datasets import Dataset
from nango_dagster.store.overwrite import Overwrite
from nango_dagster.store.rows import DATA_TEXT, driver
from nango_dagster.store.tables import MappedTable
from nango_dagster.store.tally import Tally
from nango_dagster.store.upsert import Upsert
from nango_dagster.timestamps import parse_timestamp

Row = dict[str, Any]
SYSTEM = tables.SYSTEM_COLUMNS


def text_of(record: Any) -> bytes:
    """A record's own text; bytes are one already."""
    return (
        record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
    )


@dataclass(frozen=True)
class Written:
    """The counts of one execution."""

    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    repeated: int
    reasons: tuple[str, ...]
    misfits: Mapping[str, int]
    new_columns: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Added, updated, deleted, unchanged."""
        return self.added, self.updated, self.deleted, self.unchanged


class Target:
    """A sync for one connection, and where its records are stored."""

    def __init__(self, db: Database, *, connection: str = "default", **fields: Any) -> None:
        self.db = db
        self.connection = connection
        self.configure(**fields)

    def configure(self, **fields: Any) -> None:
        """Give the sync another config; its rows stay."""
        sync = Sync(**{"name": "items", "url": "https://api.example.com/items", **fields})
        self.row = syncs.register(self.db, [sync])[sync.name]
        self.sync = self.row.sync

    @property
    def dataset(self) -> Dataset:
        """The dataset as it is now, made when there is none."""
        names = (self.sync.integration_key, self.connection, "base", self.sync.model)
        return datasets.find_or_make(self.db, self.row.id, *names)

    def open_table(self, transform: Callable[[Any], Any] | None = None) -> MappedTable | None:
        """The sync's mapped table, its rows made anew where that is due, as an execution does it."""
        table = tables.open_table(self.db, self.row.id, self.sync, transform)
        if table is not None and not table.is_current(self.dataset):
            tables.rebuild(self.db, table, self.dataset, self.guard)
        return table

    def guard(self, connection: sa.Connection) -> None:
        """The dataset's lock, as an execution takes it."""
        self.db.lock(connection, "dataset", self.dataset.id)

    def write(
        self,
        *pages: Iterable[Any],
        complete: bool = True,
        unreadable: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> Written:
        """One execution: these pages, and the end; what it cannot end with is raised."""
        table = self.open_table(transform)
        writer = (Upsert if self.sync.mode == "upsert" else Overwrite)(
            self.db, self.sync, self.dataset, table, self.guard
        )
        writer.tally.unreadable = unreadable
        try:
            for page in pages:
                writer.add([text_of(record) for record in page])
            writer.settle(complete=complete)
            self.db.transact(lambda connection: self._finish(connection, writer, table))
            written = _written(writer.tally, table)
        finally:
            writer.close()
        if table is not None:
            tables.cache_layout(table)
        return written

    def _finish(self, connection: sa.Connection, writer: Upsert | Overwrite, table: MappedTable | None) -> None:
        self.guard(connection)
        writer.finish(connection)
        if table is not None and table.incomplete:
            datasets.mark_mapped(connection, self.dataset.id, table.name, None)

    # --- what is stored ---------------------------------------------------------------------------------------------

    def raw(self) -> dict[str, Raw]:
        """Every raw row by its key, deleted ones included."""
        of = schema.raw.c
        times = (of.first_seen_at, of.last_modified_at, of.deleted_at, of.pruned_at)
        query = sa.select(of.external_id, DATA_TEXT, *times).where(of.dataset_id == self.dataset.id)
        with self.db.connect() as connection:
            return {row[0]: Raw(*row[1:]) for row in connection.execute(query)}

    def raw_now(self) -> datetime:
        """The clock that raw rows follow."""
        with self.db.connect() as connection:
            return self.db.now(connection)

    def live(self) -> dict[str, str]:
        """The texts of the live records by their key."""
        return {key: row.text for key, row in self.raw().items() if row.deleted_at is None and row.text is not None}

    def mapped(self) -> dict[str, Row]:
        """Every row of the mapped table by its key, as the database gives it."""
        name = tables.table_name(self.sync, self.row.id)
        columns = self.columns(name)
        statement = f"SELECT {', '.join(map(tables.quote, columns))} FROM {tables.quote(name)}"
        with self.db.connect() as connection:
            cursor = driver(connection).execute(statement)
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        mine = (self.row.id, self.sync.model, self.connection, "base")
        return {row[SYSTEM[4]]: row for row in rows if tuple(row[column] for column in SYSTEM[:4]) == mine}

    def columns(self, name: str | None = None) -> list[str]:
        """The columns of the mapped table, in their order."""
        with self.db.connect() as connection:
            found = sa.inspect(connection).get_columns(name or tables.table_name(self.sync, self.row.id))
        return [column["name"] for column in found]

    def values(self) -> dict[str, Row]:
        """The mapped rows without our own columns and nulls."""
        return {
            key: {name: value for name, value in row.items() if name not in SYSTEM and value is not None}
            for key, row in self.mapped().items()
        }

    def assert_exact(self, misfits: Mapping[str, int] | None = None, *, allow_missing: bool = False) -> None:
        """Counts, raw and mapped rows agree: each value is its record's, and only `misfits` are missing."""
        raw = self.raw()
        assert self.dataset.live_count == sum(row.deleted_at is None for row in raw.values())
        if not self.sync.auto_mapping:
            return
        mapped, columns = self.mapped(), self.layout()
        assert mapped.keys() == {key for key, row in raw.items() if row.text is not None or row.pruned_at is not None}
        missing: Counter[str] = Counter()
        for key, row in mapped.items():
            assert as_python(row["_nango_emitted_at"], mapping.Type.TIMESTAMP) == raw[key].last_modified_at
            assert as_python(row["_nango_deleted_at"], mapping.Type.TIMESTAMP) == raw[key].deleted_at
            if raw[key].pruned_at is not None:
                continue
            missing += self._missing(row, (raw[key].text or "").encode(), columns)
        assert allow_missing or missing == Counter(misfits or {})

    def _missing(self, row: Row, text: bytes, columns: Sequence[mapping.Column]) -> Counter[str]:
        """The record's values that have a column and are not in the row; all others must be the record's."""
        try:
            record = records.decode(text)
        except RecordRejected:
            record = {}
        record = {**(record if isinstance(record, dict) else {"value": record}), **self.sync.metadata}
        missing: Counter[str] = Counter()
        for column in columns:
            value = _at(record, self._steps(column))
            found = as_python(row[column.name], column.type)
            if found is None and value is not None and not isinstance(value, dict | list):
                missing[column.name] += 1
            elif found is not None:
                wanted = _as_column(value, column.type)
                assert found in (wanted, _double(wanted)), column
        return missing

    def _steps(self, column: mapping.Column) -> Sequence[str | int]:
        by_hand = self.sync.mapping.columns if self.sync.mapping else {}
        if column.path.startswith("[mapping]"):
            return paths.parse(by_hand[column.name].path) if column.name in by_hand else ()
        return mapping.path_steps(column.path)

    def layout(self) -> list[mapping.Column]:
        """The columns we made, as `_nango_columns` has them."""
        of = schema.columns.c
        query = sa.select(of.column_name, of.type, of.path)
        query = query.where(of.table_name == tables.table_name(self.sync, self.row.id))
        with self.db.connect() as connection:
            return [mapping.Column(name, mapping.Type(type_), path) for name, type_, path in connection.execute(query)]


def as_python(value: Any, type_: mapping.Type) -> Any:
    """A database's value as Python has it: SQLite keeps booleans as numbers and timestamps as text."""
    if value is None:
        return None
    if type_ is mapping.Type.TIMESTAMP:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    return bool(value) if type_ is mapping.Type.BOOLEAN else value


def _as_column(value: Any, type_: mapping.Type) -> Any:
    if type_ is mapping.Type.TIMESTAMP:
        return parse_timestamp(value)
    return records.encode(value).decode() if isinstance(value, dict | list) else value


def _double(value: Any) -> Any:
    """The double that stands for a number, which is how SQLite keeps a fraction; None where it would be another."""
    if not isinstance(value, Decimal):
        return None
    return float(value) if Decimal(repr(float(value))) == value else None


@dataclass(frozen=True)
class Raw:
    """A row of `_nango_raw`."""

    text: str | None
    first_seen_at: datetime
    last_modified_at: datetime
    deleted_at: datetime | None
    pruned_at: datetime | None


def _written(tally: Tally, table: MappedTable | None) -> Written:
    return Written(
        tally.added,
        tally.updated,
        tally.deleted,
        tally.unchanged,
        tally.rejected,
        tally.repeated,
        tuple(tally.reasons),
        dict(table.misfits) if table else {},
        tuple(column.name for column in table.new_columns) if table else (),
    )


def _at(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step) if isinstance(step, str) else None
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
