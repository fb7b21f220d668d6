"""Many rows at once in SQLite.

sqlite3 releases Python's lock for each statement and for each row that it returns, and has to wait for it while other
threads compute. So a statement writes hundreds of rows, and a question is put so that it is answered in few rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, text

from .. import mapping
from .changes import (
    ACTIONS,
    COLUMNS,
    NEWEST_FIRST,
    ORDER,
    TIMES,
    Action,
    DatasetKey,
    Record,
    dataset_key,
    has_action,
    is_behind,
    is_up_to,
    select_each,
)
from .rows import (
    BATCH_KEYS,
    RAW_COLUMNS,
    STATE,
    KeyRange,
    KnownRecord,
    MappedRows,
    Owner,
    PageQuestion,
    PageRows,
    PayloadQuestion,
    Prepared,
    RawRow,
    RawTable,
    Rows,
    driver,
    in_batches,
)
from .system_columns import OWNER_COLUMNS, SYSTEM_COLUMNS, quote, quoted_names
from .types import SQLITE_TIME

_MOST_PARAMETERS = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999  # of one statement
_ROWS_AT_ONCE = (256, 32, 4, 1)  # few sizes, so that the statement is already prepared
_MOST_BYTES = 40_000_000  # of the records that are read in one row
_RECORD_SEPARATOR = 30  # of ASCII; no JSON text contains it
_COLUMNS_OF = text(
    "SELECT c.name FROM sqlite_master t, pragma_table_info(t.name) c "
    "WHERE t.type = 'table' AND t.name = :name ORDER BY c.cid"
)
_IS_TAKEN = text("SELECT 1 FROM sqlite_master WHERE name = :name COLLATE NOCASE OR lower(:name) GLOB 'sqlite_*'")
_HAS_INDEXES = (
    "SELECT 1 FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND type <> 'table' "
    "AND name NOT GLOB 'sqlite_autoindex_*'"
)


class _SqliteRawTable(RawTable):
    def differing(self, hashes: Mapping[str, bytes]) -> dict[str, KnownRecord | None]:
        # SQLite compares, so that it returns few rows.
        return super().differing({key: hashes[key] for key in self._changed_keys(hashes)})

    def _changed_keys(self, hashes: Mapping[str, bytes]) -> Iterator[str]:
        """The keys of records that are new, deleted, to be restored, or stored with another byte hash."""
        for batch in in_batches(hashes.items(), BATCH_KEYS // 2):
            marks = ",".join(["(?,?)"] * len(batch))
            query = (
                f"WITH read (key, hash) AS (VALUES {marks}) SELECT key FROM read WHERE NOT EXISTS (SELECT 1 "
                "FROM _nango_raw WHERE dataset_id = ? AND external_id = key AND byte_hash = hash "
                "AND deleted_at IS NULL AND NOT payload_wanted)"
            )
            yield from (key for (key,) in self.driver.execute(query, (*chain.from_iterable(batch), self.dataset_id)))

    def _stored(self, keys: Sequence[str]) -> Iterator[Any]:
        for batch in in_batches(keys):
            marks = ",".join("?" * len(batch))
            yield from self.driver.execute(
                f"SELECT external_id, byte_hash, content_hash, {STATE} FROM _nango_raw "
                f"WHERE dataset_id = ? AND external_id IN ({marks})",
                (self.dataset_id, *batch),
            )

    def live_rows(self, columns: str, where: str = "true") -> Iterator[tuple[Any, ...]]:
        yield from self.driver.execute(
            f"SELECT {columns} FROM _nango_raw WHERE dataset_id = ? AND deleted_at IS NULL AND {where}",
            (self.dataset_id,),
        )

    def put(self, sync_id: int, rows: Sequence[RawRow], replaced: Sequence[str], moment: datetime) -> None:
        now, dataset_id = moment.strftime(SQLITE_TIME), self.dataset_id
        _insert(
            self.driver,
            f"_nango_raw ({RAW_COLUMNS})",
            "(?,?,?,?,?,?,?,CAST(? AS TEXT))",  # the bytes are UTF-8, as SQLite keeps text
            [
                (dataset_id, row.external_id, sync_id, row.byte_hash, row.content_hash, now, now, row.data)
                for row in rows
            ],
            "ON CONFLICT (dataset_id, external_id) DO UPDATE SET sync_id = excluded.sync_id, data = excluded.data, "
            "byte_hash = excluded.byte_hash, content_hash = excluded.content_hash, pruned_at = NULL, "
            "deleted_at = NULL, payload_wanted = false, last_modified_at = excluded.last_modified_at, "
            "first_seen_at = iif(deleted_at IS NULL, first_seen_at, excluded.first_seen_at)",
        )

    def refresh_hashes(self, hashes: Sequence[tuple[str, bytes, bytes]]) -> None:
        self.driver.executemany(
            "UPDATE _nango_raw SET byte_hash = ?, content_hash = ? "
            "WHERE dataset_id = ? AND external_id = ? AND NOT payload_wanted",
            ((byte_hash, content_hash, self.dataset_id, key) for key, byte_hash, content_hash in hashes),
        )

    def restore(self, rows: Sequence[RawRow]) -> None:
        self.driver.executemany(
            "UPDATE _nango_raw SET data = CAST(? AS TEXT), byte_hash = ?, pruned_at = NULL, payload_wanted = false, "
            "content_hash = coalesce(?, content_hash) WHERE dataset_id = ? AND external_id = ?",
            ((row.data, row.byte_hash, row.content_hash, self.dataset_id, row.external_id) for row in rows),
        )

    def prune(self, keys: Sequence[str], moment: datetime, *, wanted: bool, own_id: bool) -> None:
        set_payload_wanted = ", payload_wanted = true" if wanted else ""
        assignments = f"{_remove_payload(own_id)}, pruned_at = ?{set_payload_wanted}"
        self._update(assignments, [moment.strftime(SQLITE_TIME)], keys)

    def want_payloads(self, keys: Sequence[str]) -> None:
        self._update("payload_wanted = true", [], keys, " AND data IS NULL")

    def mark_deleted(self, keys: Sequence[str], moment: datetime, *, keep_data: bool, own_id: bool = False) -> None:
        now = moment.strftime(SQLITE_TIME)
        remove = "" if keep_data else f", {_remove_payload(own_id)}"
        self._update(f"deleted_at = ?, last_modified_at = ?{remove}", [now, now], keys)

    def mark_all_deleted(self, moment: datetime, *, own_id: bool) -> None:
        now = moment.strftime(SQLITE_TIME)
        self.driver.execute(
            f"UPDATE _nango_raw SET deleted_at = ?, last_modified_at = ?, {_remove_payload(own_id)} "
            "WHERE dataset_id = ? AND deleted_at IS NULL",
            (now, now, self.dataset_id),
        )

    def _update(self, assignments: str, values: Sequence[Any], keys: Sequence[str], condition: str = "") -> None:
        for batch in in_batches(keys):
            marks = ",".join("?" * len(batch))
            self.driver.execute(
                f"UPDATE _nango_raw SET {assignments} WHERE dataset_id = ? AND external_id IN ({marks}){condition}",
                (*values, self.dataset_id, *batch),
            )


def _remove_payload(own_id: bool) -> str:
    """The assignments that remove a payload, and keep whether its `id` is a number where that is the key."""
    # SQLite's JSON functions refuse a text that is nested too deeply for them.
    is_number = "CASE WHEN json_valid(data) THEN json_type(data, '$.id') IN ('integer', 'real') END"
    return f"data = NULL, id_is_number = {f'coalesce({is_number}, id_is_number)' if own_id else 'NULL'}"


class _SqliteMappedRows(MappedRows):
    def insert(self, prepared: Prepared, moment: datetime) -> None:
        after = (moment.strftime(SQLITE_TIME), None, self.owner.integration)
        width = len(prepared.columns)
        filled = [(key, row + [None] * (width - len(row))) for key, row in prepared.rows]
        for columns, rows in ((prepared.fast_columns, prepared.fast), (prepared.columns, filled)):
            marks = ",".join("?" * (len(SYSTEM_COLUMNS) + len(columns)))
            values = [(*self.owner.key, key, *after, *row) for key, row in rows]
            _insert(self.driver, f"{self.table} ({quoted_names(columns)})", f"({marks})", values)

    def _change(self, verb: str, keys: Sequence[str]) -> None:
        for batch in in_batches(keys):
            marks = ",".join("?" * len(batch))
            where = f"WHERE {_IS_OWNED} AND _nango_unique_key IN ({marks})"
            self.driver.execute(f"{verb} {where}", (*self.owner.key, *batch))

    def _change_range(self, verb: str, keys: KeyRange, condition: str) -> None:
        values: list[Any] = [*self.owner.key, keys.after]
        where = f"WHERE {_IS_OWNED} AND _nango_unique_key > ?"
        if keys.last is not None:
            where += " AND _nango_unique_key <= ?"
            values.append(keys.last)
        self.driver.execute(f"{verb} {where}{condition}", values)


_IS_OWNED = " AND ".join(f"{name} = ?" for name in OWNER_COLUMNS)


@dataclass(frozen=True)
class _SqliteRows:
    key_type: str = "TEXT"
    time_type: str = "TIMESTAMP"
    writes_csv: bool = False
    most_row_bytes: int | None = None
    nothing: Any = None

    @property
    def converters(self) -> Mapping[mapping.Type, Any]:
        return mapping.TO_SQLITE

    @property
    def types(self) -> Mapping[mapping.Type, str]:
        return {
            mapping.Type.BOOLEAN: "BOOLEAN",
            mapping.Type.NUMBER: "NUMERIC",
            mapping.Type.STRING: "TEXT",
            mapping.Type.TIMESTAMP: "TIMESTAMP",
        }

    def fold(self, name: str) -> str:
        return name.lower()  # SQLite knows no two columns that differ by case alone

    def raw(self, connection: Connection, dataset_id: int) -> RawTable:
        return _SqliteRawTable(connection, dataset_id)

    def mapped(self, connection: Connection, table: str, owner: Owner) -> MappedRows:
        return _SqliteMappedRows(connection, table, owner)

    def columns_of(self, connection: Connection, table: str) -> list[str]:
        return list(connection.execute(_COLUMNS_OF, {"name": table}).scalars())

    def is_taken(self, connection: Connection, name: str) -> bool:
        return connection.execute(_IS_TAKEN, {"name": name}).first() is not None

    def hold_columns(self, connection: Connection, table: str) -> None:
        """Nothing to do: the transaction holds SQLite's write lock."""

    def limit_lock_wait(self, connection: Connection) -> None:
        """Nothing to do: the transaction holds SQLite's write lock."""

    def add_columns(self, connection: Connection, table: str, declared: Sequence[str], create: str) -> Iterator[str]:
        # SQLite reads the whole schema again after each ALTER TABLE, so a new table is made once more.
        quoted = quote(table)
        if self._is_bare(connection, table):
            yield f"DROP TABLE {quoted}"
            yield create
        else:
            yield from (f"ALTER TABLE {quoted} ADD COLUMN {column}" for column in declared)

    def _is_bare(self, connection: Connection, table: str) -> bool:
        """Whether a table has no rows, no columns but the system's, and no index or trigger of somebody else."""
        if {*self.columns_of(connection, table)} != {*SYSTEM_COLUMNS}:
            return False
        has_rows = driver(connection).execute(f"SELECT 1 FROM {quote(table)} LIMIT 1").fetchone()
        return has_rows is None and driver(connection).execute(_HAS_INDEXES, (table,)).fetchone() is None

    def comments(self, table: str, comments: Mapping[str, str | None]) -> Mapping[str, str]:
        return {}

    def stored_comments(self, connection: Connection, table: str) -> Mapping[str, str]:
        return {}

    def growth_refusal(self, error: Exception) -> Literal["locked", "full"] | None:
        return None

    def moment(self, moment: datetime) -> Any:
        return moment.strftime(SQLITE_TIME)

    def json_items(self, parameter: str) -> str:
        return f"json_each({parameter})"

    # --- pages of records -------------------------------------------------------------------------------------------

    def page_query(self, question: PageQuestion) -> tuple[str, Mapping[str, Any]]:
        moment, external_id = question.begin
        values = {**question.names, "moment": self.moment(moment), "id": external_id}
        if question.ids is not None:
            values["ids"] = msgspec.json.encode(question.ids).decode()
        return _page_query(question.how, question.actions, question.limit, question.ids is not None), values

    def page(self, connection: sqlite3.Connection, question: PageQuestion) -> PageRows:
        rows, values = self.page_query(question)
        key = dataset_key(question.how, ":{}")
        if hasattr(connection, "setlimit"):  # from Python 3.11 on
            before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
            try:
                return _page_in_one_row(connection, rows, key, values)
            except sqlite3.DataError:
                pass  # it is too long for one row
            finally:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
        dataset_id, is_own_id = connection.execute(f"SELECT {key.dataset_id}, {key.is_own_id}", values).fetchone()
        return PageRows(_row_by_row(connection.execute(rows, values)), False, dataset_id, bool(is_own_id))

    def latest(
        self, connection: sqlite3.Connection, dataset_id: int, actions: Sequence[Action], limit: int
    ) -> Iterable[Record]:
        query = (
            f"{' UNION ALL '.join(select_each(COLUMNS, ':dataset', actions, 'true'))} {NEWEST_FIRST} LIMIT {limit:d}"
        )
        return list(_row_by_row(connection.execute(query, {"dataset": dataset_id})))

    def with_payload(self, connection: sqlite3.Connection, question: PayloadQuestion) -> list[tuple[str, datetime]]:
        condition = f"{is_behind(':moment', ':id')} AND data IS NOT NULL AND {is_up_to(':last', ':last_id')}"
        each = select_each("external_id, last_modified_at", ":dataset", ACTIONS, condition)
        query = f"{' UNION ALL '.join(each)} {ORDER} LIMIT {question.limit:d}"
        values = {
            "dataset": question.dataset_id,
            "moment": self.moment(question.begin[0]),
            "id": question.begin[1],
            "last": self.moment(question.until[0]),
            "last_id": question.until[1],
        }
        return [(key, datetime.fromisoformat(moment)) for key, moment in connection.execute(query, values)]


SQLITE_ROWS: Rows = _SqliteRows()


def _insert(connection: Any, into: str, marks: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
    """INSERT rows with these marks for their values, hundreds of them a statement.

    A statement a row, as by executemany, took ten times as long while records were decoded in another thread.
    """
    at = 0
    for size in _ROWS_AT_ONCE:
        statement = f"INSERT INTO {into} VALUES {','.join([marks] * size)} {conflict}"
        while len(rows) - at >= size and size * len(rows[0]) <= _MOST_PARAMETERS:
            connection.execute(statement, tuple(chain.from_iterable(rows[at : at + size])))
            at += size


@cache
def _page_query(how: Literal["id", "names"], actions: tuple[Action, ...], limit: int, by_id: bool) -> str:
    key = dataset_key(how, ":{}")
    # One limit for all: SQLite merges the indexes; with a limit for each it would sort each.
    end = f"{ORDER} LIMIT {limit:d}"
    if by_id:
        return (
            f"SELECT {COLUMNS} FROM _nango_raw WHERE dataset_id = {key.dataset_id} AND {is_behind(':moment', ':id')} "
            f"AND external_id IN (SELECT value FROM json_each(:ids)) AND ({has_action(actions)}) {end}"
        )
    each = select_each(COLUMNS, key.dataset_id, actions, is_behind(":moment", ":id"))
    return f"{' UNION ALL '.join(each)} {end}"


def _page_in_one_row(connection: sqlite3.Connection, rows: str, key: DatasetKey, values: Mapping[str, Any]) -> PageRows:
    query = (
        f"SELECT json_group_array(json_array(external_id, {TIMES}, id_is_number, data IS NULL)), "
        f"group_concat(coalesce(data, ''), char({_RECORD_SEPARATOR})), {key.dataset_id}, {key.is_own_id} FROM ({rows})"
    )
    heads, texts, dataset_id, is_own_id = connection.execute(query, values).fetchone()
    moment = cache(_moment)
    records = [
        Record(key, moment(first), moment(modified), moment(deleted), moment(pruned), number, None if is_gone else data)
        for (key, first, modified, deleted, pruned, number, is_gone), data in zip(
            msgspec.json.decode(heads), (texts or "").split(chr(_RECORD_SEPARATOR)), strict=heads != "[]"
        )
    ]
    return PageRows(records, False, dataset_id, bool(is_own_id))


def _row_by_row(rows: Iterable[Any]) -> Iterator[Record]:
    for key, first, modified, deleted, pruned, number, data in rows:
        yield Record(key, _moment(first), _moment(modified), _moment(deleted), _moment(pruned), number, data)


def _moment(text: str | None) -> Any:
    return None if text is None else datetime.fromisoformat(text)
