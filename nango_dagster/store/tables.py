"""The mapped tables: one per sync, or one that several share; they grow with the fields that turn up."""

from __future__ import annotations

import hashlib
import inspect as inspection
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from .. import mapping, paths, records
from ..config import Sync
from ..errors import ConfigError, RecordRejected
from ..shortcut import Shortcut, as_csv, shortcut_of
from . import bulk, datasets, schema
from .database import Database
from .datasets import Dataset
from .tally import Guard
from .types import SQLITE_TIME

if TYPE_CHECKING:
    from pandas import DataFrame, Series

log = logging.getLogger(__name__)

SYSTEM_COLUMNS = (
    "_nango_sync_id",
    "_nango_model",
    "_nango_connection_id",
    "_nango_variant",
    "_nango_unique_key",
    "_nango_emitted_at",
    "_nango_deleted_at",
)
_KEY_COLUMNS = SYSTEM_COLUMNS[:5]
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
_NOTHING = "\\N"  # NULL in COPY's text
_REBUILD_BATCH = 1000
_REBUILD_BYTES = 4_000_000
_LOCKED, _FULL = "55P03", "54011"  # PostgreSQL's codes for a table that somebody holds, or that has 1,600 columns
_LOCKED_SECONDS = 60.0
_MOST_SHORTCUTS = 50  # of one execution; records that never look alike are not worth it

Transform = Callable[[Any], Any]


def table_name(sync: Sync, sync_id: int) -> str:
    """The name of a sync's mapped table."""
    return sync.mapped_table or f"_nango_sync_{sync_id}"


def plan_of(sync: Sync) -> mapping.Plan:
    """What the sync's config says about its table."""
    return mapping.Plan(
        declared=tuple(
            mapping.Declared(name, paths.parse(column.path), mapping.Type(column.type))
            for name, column in (sync.mapping.columns if sync.mapping else {}).items()
        ),
        extra=sync.mapping.extra if sync.mapping else "evolve",
        metadata=sync.metadata or {},
    )


@dataclass
class Prepared:
    """Records ready to be written: keys with their rows, and how many values had to stay out.

    `shaped` are those that a shortcut made, with its columns; `rows` may be shorter than `columns`.
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
    _may_grow_at: float = 0.0
    _shortcut: Shortcut | None = None
    _shortcut_state: object = None
    _shortcuts_made: int = 0

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
        shortcut = self._current_shortcut()
        if shortcut is None:
            return self.prepare_generally(keys, texts)
        # COPY's CSV takes keys without control characters.
        made = [row if key.isprintable() else None for key, row in zip(keys, shortcut(texts), strict=True)]
        rest = [at for at, row in enumerate(made) if row is None]
        prepared = self.prepare_generally([keys[at] for at in rest], [texts[at] for at in rest])
        prepared.shaped = [(key, row) for key, row in zip(keys, made, strict=True) if row is not None]
        prepared.shaped_columns = shortcut.columns
        return prepared

    def _current_shortcut(self) -> Shortcut | None:
        """The shortcut for the layout as it is; not for one that keeps changing."""
        if self.transform is not None or self._shortcuts_made > _MOST_SHORTCUTS:
            return None
        if self._shortcut_state != self.layout.state:
            self._shortcut_state = self.layout.state
            self._shortcut = shortcut_of(self.layout, csv=self.database.is_postgresql)
            self._shortcuts_made += 1
        return self._shortcut

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
                log.warning("%s: transform failed on record %s: %r", self.sync.display_name, key, error)
                failed["(the whole record, transform failed)"] += 1
        return [key for key, _ in kept], [record for _, record in kept]

    def _evolve(self, flat: mapping.Flat) -> bool:
        """Add the columns that `flat` needs; False when somebody holds the table, now or a moment ago."""
        if time.monotonic() < self._may_grow_at:
            return False
        self.before_change()
        try:
            with self.database.begin() as connection:
                if self.database.is_postgresql:
                    connection.execute(text("SET LOCAL lock_timeout = '3s'"))
                _hold(connection, self.database, self.name)
                self.layout.add(_added_since(connection, self.name, self.layout))
                self.layout.reserve(_columns_there(connection, self.name) or ())
                new = self.layout.new_columns(flat)
                self._add_columns(connection, new)
            self.layout.add(new)
            self.new_columns.extend(new)
            return True
        except (DBAPIError, self.database.driver_error) as error:
            if _sqlstate(error) not in (_LOCKED, _FULL):
                raise
            self._may_grow_at = time.monotonic() + _LOCKED_SECONDS
            log.warning("%s: table %s gets no new columns now: %s", self.sync.name, self.name, error)
            return _sqlstate(error) == _FULL  # there is nothing to wait for

    def _add_columns(self, connection: Connection, new: Sequence[mapping.Column]) -> None:
        types = _POSTGRESQL_TYPES if self.database.is_postgresql else _SQLITE_TYPES
        if taken := self.layout.clash(new):
            raise ConfigError(
                f"{self.sync.display_name}: mapping.columns.{taken} wants a new column, but table {self.name} has one "
                "of that name already; choose another name, or another mapped_table."
            )
        adds = [f"ADD COLUMN {quote(column.name)} {types[column.type]}" for column in new]
        if self.database.is_postgresql and adds:
            bulk.driver(connection).execute(f"ALTER TABLE {self.quoted} {', '.join(adds)}")
        elif adds:
            for add in adds:
                bulk.driver(connection).execute(f"ALTER TABLE {self.quoted} {add}")
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
        """Put the rows in; those of `replaced` keys may be there already."""
        if self.incomplete:
            datasets.mapped(connection, dataset.id, datasets.stale(self.name))
        self.remove(connection, dataset, replaced)
        if self.database.is_postgresql:
            self._copy(connection, dataset, prepared, moment)
        else:
            self._insert(connection, dataset, prepared, moment)

    def _names(self, columns: Sequence[mapping.Column]) -> str:
        names = [*SYSTEM_COLUMNS, *(column.name for column in columns)]
        return ", ".join(quote(name) for name in names)

    def _copy(self, connection: Connection, dataset: Dataset, prepared: Prepared, moment: datetime) -> None:
        """PostgreSQL: COPY, the shaped rows as CSV, the others in COPY's own text."""
        names = (dataset.model, dataset.connection_id, dataset.variant)
        if prepared.shaped:
            head = as_csv([self.sync_id, *names]) + b","
            tail = b"," + as_csv([moment.isoformat(" "), None]) + b","
            lines = [head + as_csv([key]) + tail + row + b"\n" for key, row in prepared.shaped]
            bulk.copy(connection, self.quoted, self._names(prepared.shaped_columns), b"".join(lines), csv=True)
        if prepared.rows:
            width = len(prepared.columns)
            escape = mapping.TO_POSTGRESQL[mapping.Type.STRING]
            before, after = [str(self.sync_id), *map(escape, names)], [moment.isoformat(" "), _NOTHING]
            text = "".join(
                "\t".join([*before, escape(key), *after, *row, *[_NOTHING] * (width - len(row))]) + "\n"
                for key, row in prepared.rows
            )
            bulk.copy(connection, self.quoted, self._names(prepared.columns), text.encode(), csv=False)

    def _insert(self, connection: Connection, dataset: Dataset, prepared: Prepared, moment: datetime) -> None:
        """SQLite: executemany."""
        before = (self.sync_id, dataset.model, dataset.connection_id, dataset.variant)
        after = (moment.strftime(SQLITE_TIME), None)
        width = len(prepared.columns)
        filled = [(key, row + [None] * (width - len(row))) for key, row in prepared.rows]
        for columns, rows in ((prepared.shaped_columns, prepared.shaped), (prepared.columns, filled)):
            marks = ",".join("?" * (len(SYSTEM_COLUMNS) + len(columns)))
            bulk.driver(connection).executemany(
                f"INSERT INTO {self.quoted} ({self._names(columns)}) VALUES ({marks})",
                ([*before, key, *after, *row] for key, row in rows),
            )

    def remove(self, connection: Connection, dataset: Dataset, keys: Sequence[str]) -> None:
        """Take the rows of these keys out."""
        for statement, values in _by_key(self.database, f"DELETE FROM {self.quoted}", self.sync_id, dataset, keys):
            bulk.driver(connection).execute(statement, values)

    def mark_deleted(self, connection: Connection, dataset: Dataset, keys: Sequence[str], moment: datetime) -> None:
        """Set `_nango_deleted_at` on the rows of these keys."""
        at = moment.strftime(SQLITE_TIME)
        set_ = f"UPDATE {self.quoted} SET _nango_emitted_at = '{at}', _nango_deleted_at = '{at}'"
        for statement, values in _by_key(self.database, set_, self.sync_id, dataset, keys):
            bulk.driver(connection).execute(statement, values)


def _decoded(text: bytes, failed: Counter[str]) -> Any:
    """The record, or nothing of it where it is too deep to look inside; the raw one is kept."""
    try:
        return records.decode(text)
    except RecordRejected as reason:
        failed[f"(the whole record, {reason})"] += 1
        return {}


def _by_key(
    database: Database, verb: str, sync_id: int, dataset: Dataset, keys: Sequence[str]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The statements that do `verb` to the rows of these keys, with their parameters."""
    mark = "%s" if database.is_postgresql else "?"
    where = " AND ".join(f"{name} = {mark}" for name in _KEY_COLUMNS[:4])
    names = (sync_id, dataset.model, dataset.connection_id, dataset.variant)
    if not keys:
        return
    if database.is_postgresql:
        verb = verb.replace("%", "%%")  # of a name; the driver reads it where there are parameters
        yield f"{verb} WHERE {where} AND _nango_unique_key = ANY(%s)", (*names, list(keys))
        return
    for piece in bulk.in_pieces(keys):
        marks = ",".join("?" * len(piece))
        yield f"{verb} WHERE {where} AND _nango_unique_key IN ({marks})", (*names, *piece)


# --- opening, making, owning ----------------------------------------------------------------------------------------


def open_table(database: Database, sync_id: int, sync: Sync, transform: Transform | None = None) -> MappedTable | None:
    """The sync's mapped table, made when there is none; None when auto_mapping is off.

    Raises ConfigError when a table of that name exists that is not ours.
    """
    if not sync.auto_mapping:
        return None
    name = table_name(sync, sync_id)
    is_postgresql = database.is_postgresql
    layout = mapping.Layout(
        mapping.TO_POSTGRESQL if is_postgresql else mapping.TO_SQLITE,
        plan_of(sync),
        nothing=_NOTHING if is_postgresql else None,
        fold=str if is_postgresql else str.lower,  # SQLite knows no two columns that differ by case alone
        max_row_bytes=mapping.MAX_ROW_BYTES if is_postgresql else None,
    )
    table = MappedTable(database, sync_id, sync, name, layout, transform)
    with database.connect() as connection:
        there, known = _columns_there(connection, name), _registered(connection, name)
    if there is None or known is None or not _agree(there, known):
        there, known = _make(database, table)
    position = {column: at for at, column in enumerate(there)}
    layout.add(sorted(known, key=lambda column: position[column.name]))
    layout.reserve(there)
    if wrong := layout.mistyped():
        raise ConfigError(
            f"{sync.display_name}: mapping.columns.{wrong.name} is declared as {wrong.type.value}, but table {name} "
            "has it with another type; choose another name, or drop the column: it is made anew then."
        )
    return table


# Asked for at each execution, so in one short query; SQLAlchemy's inspector takes several.
_COLUMNS_THERE = {
    "postgresql": text(
        "SELECT a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = current_schema() AND c.relname = :name "
        "AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    ),
    "sqlite": text(
        "SELECT c.name FROM sqlite_master t, pragma_table_info(t.name) c "
        "WHERE t.type = 'table' AND t.name = :name ORDER BY c.cid"
    ),
}
_IS_TAKEN = {
    "postgresql": text(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = current_schema() AND c.relname = :name"
    ),
    "sqlite": text("SELECT 1 FROM sqlite_master WHERE name = :name COLLATE NOCASE OR lower(:name) GLOB 'sqlite_*'"),
}


def _columns_there(connection: Connection, name: str) -> list[str] | None:
    """The columns that the table really has, in their order, or None when there is no table."""
    return list(connection.execute(_COLUMNS_THERE[connection.dialect.name], {"name": name}).scalars()) or None


def _agree(there: Sequence[str], known: Sequence[mapping.Column]) -> bool:
    return {*there} >= {*SYSTEM_COLUMNS, *(column.name for column in known)}


def _registered(connection: Connection, name: str) -> list[mapping.Column] | None:
    """The columns we made in a table, oldest first, or None when the table is not one of ours."""
    ours = schema.mapped_tables
    if connection.execute(select(ours.c.table_name).where(ours.c.table_name == name)).first() is None:
        return None
    of = schema.columns
    rows = connection.execute(
        select(of.c.column_name, of.c.type, of.c.path)
        .where(of.c.table_name == name)
        .order_by(of.c.created_at, of.c.column_name)
    )
    return [mapping.Column(column, mapping.Type(type_), path) for column, type_, path in rows]


def _added_since(connection: Connection, name: str, layout: mapping.Layout) -> list[mapping.Column]:
    """Columns that another sync of the same table has added in the meantime."""
    return [column for column in _registered(connection, name) or [] if not layout.has(column)]


def _make(database: Database, table: MappedTable) -> tuple[list[str], list[mapping.Column]]:
    """Make the table, or make it whole again after somebody dropped it or a column of it; its columns."""
    with database.begin() as connection:
        _hold(connection, database, table.name)
        known = _registered(connection, table.name)
        there = _columns_there(connection, table.name)
        _refuse_foreign(connection, table, there, known)
        if known is None:
            now = database.now(connection)
            connection.execute(insert(schema.mapped_tables).values(table_name=table.name, created_at=now))
        if there is None:
            bulk.driver(connection).execute(_create_statement(database, table.name))
        gone = [column for column in known or [] if there is None or column.name not in there]
        kept = [column for column in known or [] if column not in gone]
        if gone or there is None:
            _forget_columns(connection, table.name, gone)
            _ask_for_rebuild(connection, table.name)
        return there or list(SYSTEM_COLUMNS), kept


def _refuse_foreign(
    connection: Connection,
    table: MappedTable,
    there: Sequence[str] | None,
    known: Sequence[mapping.Column] | None,
) -> None:
    """Leave alone what was not made by a sync: a table, a view, or SQLite's own."""
    ours = known is not None and {*there} >= {*SYSTEM_COLUMNS} if there else not _is_taken(connection, table.name)
    if not ours:
        raise ConfigError(
            f"{table.sync.display_name}: mapped_table is {table.name!r}, a table that exists already and was not made "
            "by a sync; choose a name that is free."
        )


def _is_taken(connection: Connection, name: str) -> bool:
    """Whether a view, an index or the like has this name, or on SQLite one in other letters."""
    return connection.execute(_IS_TAKEN[connection.dialect.name], {"name": name}).first() is not None


def _create_statement(database: Database, name: str) -> str:
    """System columns only; the others come with the records that have them."""
    if database.is_postgresql:
        key, time = 'text COLLATE "C" NOT NULL', "timestamptz"
    else:
        key, time = "TEXT NOT NULL", "TIMESTAMP"
    return (
        f"CREATE TABLE {quote(name)} (_nango_sync_id bigint NOT NULL, _nango_model {key}, "
        f"_nango_connection_id {key}, _nango_variant {key}, _nango_unique_key {key}, "
        f"_nango_emitted_at {time} NOT NULL, _nango_deleted_at {time}, UNIQUE ({', '.join(_KEY_COLUMNS)}))"
    )


def _hold(connection: Connection, database: Database, name: str) -> None:
    """Let no other transaction change this table's columns until this one ends."""
    if database.is_postgresql:
        key = f"{database.schema} {name}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def _forget_columns(connection: Connection, name: str, gone: Sequence[mapping.Column]) -> None:
    of = schema.columns
    for column in gone:
        connection.execute(delete(of).where(of.c.table_name == name, of.c.column_name == column.name))


def _ask_for_rebuild(connection: Connection, name: str) -> None:
    of = schema.datasets
    connection.execute(
        update(of)
        .where(of.c.mapping_version.startswith(f"{name}#", autoescape=True))
        .values(mapping_version=datasets.stale(name))
    )


def _source_hash(transform: Transform | None) -> str:
    """Changes when the code of the function does, as far as Python can show it."""
    if transform is None:
        return ""
    try:
        return hashlib.blake2b(inspection.getsource(transform).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):
        return ""


def quote(name: str) -> str:
    """A name for SQL, whatever characters it has; to be used without parameters where it may hold a `%`.

    >>> quote("100%")
    '"100%"'
    """
    return '"' + name.replace('"', '""') + '"'


def _sqlstate(error: Exception) -> str | None:
    """PostgreSQL's code for what went wrong."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


# --- rebuilding ---------------------------------------------------------------------------------------------------


def rebuild(database: Database, table: MappedTable, dataset: Dataset, guard: Guard) -> int:
    """Map a dataset's raw records again, in repeatable batches; the number of rows written.

    Rows that are in this very table stay until theirs is the turn. `guard` is called first in each transaction and
    raises where this process may no longer write.
    """
    database.transact(lambda connection: _begin_rebuild(connection, table, dataset, guard))
    count, after = 0, ""
    for batch in _raw_batches(database, dataset.id):
        prepared = table.prepare([row.external_id for row in batch], [row.data.encode() for row in batch])
        last = batch[-1].external_id
        database.transact(
            lambda connection, a=after, z=last, p=prepared: _replace(connection, table, dataset, guard, a, z, p)  # type: ignore[misc]
        )
        table.misfits += prepared.misfits
        count, after = count + len(prepared.keys), last
    database.transact(lambda connection: _end_rebuild(connection, table, dataset, guard, after))
    return count


def _begin_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard) -> None:
    guard(connection)
    if dataset.mapped_table != table.name:
        forget_dataset(connection, table.database, dataset)
    # Whatever happens on the way, also to the config: the rows to come are not complete before the end.
    datasets.mapped(connection, dataset.id, datasets.stale(table.name))


def _replace(
    connection: Connection,
    table: MappedTable,
    dataset: Dataset,
    guard: Guard,
    after: str,
    last: str,
    prepared: Prepared,
) -> None:
    """Put these rows in the place of all those with a key after `after` and up to `last`."""
    guard(connection)
    forget_rows(connection, table.database, table.name, dataset, after, last)
    table.write(connection, dataset, prepared, [], table.database.now(connection))
    times = "SELECT r.last_modified_at, r.deleted_at FROM _nango_raw r"
    _to_rows(
        connection,
        table.database,
        f"UPDATE {table.quoted} SET (_nango_emitted_at, _nango_deleted_at) = "
        f"({times} WHERE r.dataset_id = {dataset.id} AND r.external_id = _nango_unique_key)",
        dataset,
        after,
        last,
    )


def _end_rebuild(connection: Connection, table: MappedTable, dataset: Dataset, guard: Guard, after: str) -> None:
    guard(connection)
    forget_rows(connection, table.database, table.name, dataset, after)
    datasets.mapped(connection, dataset.id, datasets.stale(table.name) if table.incomplete else table.version)


def forget_rows(
    connection: Connection, database: Database, name: str, dataset: Dataset, after: str = "", last: str | None = None
) -> None:
    """Delete a dataset's rows from a mapped table: all, or those with keys after `after` and up to `last`."""
    _to_rows(connection, database, f"DELETE FROM {quote(name)}", dataset, after, last)


def _to_rows(
    connection: Connection, database: Database, verb: str, dataset: Dataset, after: str, last: str | None
) -> None:
    """Do `verb` to those rows."""
    mark = "%s" if database.is_postgresql else "?"
    conditions = [f"{column} = {mark}" for column in _KEY_COLUMNS[:4]] + [f"_nango_unique_key > {mark}"]
    values = [dataset.sync_id, dataset.model, dataset.connection_id, dataset.variant, after]
    if last is not None:
        conditions.append(f"_nango_unique_key <= {mark}")
        values.append(last)
    verb = verb.replace("%", "%%") if database.is_postgresql else verb
    bulk.driver(connection).execute(f"{verb} WHERE {' AND '.join(conditions)}", values)


def forget_dataset(connection: Connection, database: Database, dataset: Dataset) -> None:
    """Delete a dataset's rows from the mapped table they are in."""
    name = dataset.mapped_table
    if name is not None and _registered(connection, name) is not None and _columns_there(connection, name):
        forget_rows(connection, database, name, dataset)


def _raw_batches(database: Database, dataset_id: int) -> Iterator[Sequence[Any]]:
    """The records with a payload in the order of their keys, as many at a time as fit into some megabytes."""
    of = schema.raw
    after, size = "", 100
    while True:
        query = select(of.c.external_id, bulk.DATA_TEXT).where(
            of.c.dataset_id == dataset_id, of.c.data.is_not(None), of.c.external_id > after
        )
        with database.connect() as connection:
            batch = connection.execute(query.order_by(of.c.external_id).limit(size)).all()
        if not batch:
            return
        yield batch
        after = batch[-1].external_id
        size = min(_REBUILD_BATCH, max(1, len(batch) * _REBUILD_BYTES // sum(len(row.data) + 1 for row in batch)))


# --- reading ------------------------------------------------------------------------------------------------------

_SYSTEM_TYPES = {
    "_nango_sync_id": mapping.Type.NUMBER,
    "_nango_emitted_at": mapping.Type.TIMESTAMP,
    "_nango_deleted_at": mapping.Type.TIMESTAMP,
}


def exists(database: Database, sync_id: int, sync: Sync) -> bool:
    """Whether the sync's mapped table has been made."""
    with database.connect() as connection:
        return _registered(connection, table_name(sync, sync_id)) is not None


def rows(
    database: Database, sync_id: int, sync: Sync, connections: Sequence[str] | None = None, size: int = 1000
) -> Iterator[dict[str, Any]]:
    """The live rows of a sync's mapped table, of these connections or of all, one dict each.

    Both databases give the same values: int, float (Decimal where that is not exact), bool, str, datetime in UTC.
    """
    with database.connect() as connection:
        types = _types(connection, table_name(sync, sync_id))
        query = _select(database, sync_id, sync, connections)
        found = connection.execution_options(yield_per=size).execute(query)
        names = list(found.keys())
        values = [_VALUES[types.get(name, mapping.Type.STRING)] for name in names]
        for row in found:
            yield {
                name: None if item is None else value(item)
                for name, value, item in zip(names, values, row, strict=True)
            }


def data_frame(database: Database, sync_id: int, sync: Sync, connections: Sequence[str] | None = None) -> DataFrame:
    """The same as a pandas DataFrame, each column with the type that holds its values exactly where there is one."""
    import pandas

    with database.connect() as connection:
        types = _types(connection, table_name(sync, sync_id))
        found = connection.execute(_select(database, sync_id, sync, connections))
        names = list(found.keys())
        columns = list(zip(*found.all(), strict=True)) or [()] * len(names)
    return pandas.DataFrame(
        {name: _series(column, types.get(name)) for name, column in zip(names, columns, strict=True)}
    )


def _types(connection: Connection, name: str) -> dict[str, mapping.Type]:
    return {**_SYSTEM_TYPES, **{column.name: column.type for column in _registered(connection, name) or ()}}


def _select(database: Database, sync_id: int, sync: Sync, connections: Sequence[str] | None) -> Any:
    name = quote(table_name(sync, sync_id)).replace(":", "\\:")
    query = f"SELECT * FROM {name} WHERE _nango_sync_id = :sync AND _nango_deleted_at IS NULL"
    values: dict[str, Any] = {"sync": sync_id}
    if connections is not None:
        some = "= ANY(:some)" if database.is_postgresql else "IN (SELECT value FROM json_each(:some))"
        query += f" AND _nango_connection_id {some}"
        values["some"] = list(connections) if database.is_postgresql else json.dumps(list(connections))
    return text(f"{query} ORDER BY _nango_connection_id, _nango_variant, _nango_unique_key").bindparams(**values)


def _number(value: Any) -> Any:
    """The int or float that equals a number, where there is one."""
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _timestamp(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(timezone.utc)


_VALUES: dict[mapping.Type, Callable[[Any], Any]] = {
    mapping.Type.BOOLEAN: bool,
    mapping.Type.NUMBER: _number,
    mapping.Type.STRING: lambda value: value,
    mapping.Type.TIMESTAMP: _timestamp,
}


def _series(column: Sequence[Any], type_: mapping.Type | None) -> Series[Any]:
    import pandas

    value = _VALUES[type_ or mapping.Type.STRING]
    values = [None if item is None else value(item) for item in column]
    has_nulls = None in values
    if type_ is mapping.Type.BOOLEAN:
        return pandas.Series(values, dtype="boolean" if has_nulls else bool)
    if type_ is mapping.Type.NUMBER:
        return pandas.Series(values, dtype=_number_type(values, has_nulls))
    if type_ is mapping.Type.TIMESTAMP:
        moments = pandas.Series(values, dtype=object)
        try:
            return pandas.to_datetime(moments, utc=True)
        except ValueError:  # a year that pandas' own type does not reach
            return moments
    return pandas.Series(values, dtype=object)


def _number_type(values: Sequence[Any], has_nulls: bool) -> Any:
    if not all(value is None or isinstance(value, int) for value in values):
        return float
    if any(value is not None and abs(value) >= 2**63 for value in values):
        return object
    return "Int64" if has_nulls else "int64"


# --- forgetting ---------------------------------------------------------------------------------------------------


def forget(connection: Connection, database: Database, sync_id: int) -> None:
    """Delete a sync's rows from every mapped table, and drop its own table."""
    own = f"_nango_sync_{sync_id}"
    for (name,) in connection.execute(select(schema.mapped_tables.c.table_name)).all():
        if _columns_there(connection, name) is None:
            continue
        if name == own:
            bulk.driver(connection).execute(f"DROP TABLE {quote(name)}")
            connection.execute(delete(schema.columns).where(schema.columns.c.table_name == name))
            connection.execute(delete(schema.mapped_tables).where(schema.mapped_tables.c.table_name == name))
        else:
            bulk.driver(connection).execute(f"DELETE FROM {quote(name)} WHERE _nango_sync_id = {sync_id}")
