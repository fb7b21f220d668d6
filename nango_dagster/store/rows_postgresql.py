"""The bulk statements of PostgreSQL.

COPY writes new rows into the table without ON CONFLICT: the caller holds the dataset's lock and knows that their keys
are not stored. Stored rows are read with a lateral query per key, which uses the primary key. For
`external_id = ANY(...)` PostgreSQL would read the whole dataset until its statistics are good, in each first load.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any, Literal

from sqlalchemy import Connection, text

from .. import mapping
from .changes import (
    ACTIONS,
    COLUMNS,
    NEWEST_FIRST,
    ORDER,
    TIMES,
    Action,
    Record,
    dataset_key,
    has_action,
    is_behind,
    is_up_to,
    select_each,
)
from .rows import (
    RAW_COLUMNS,
    STATE,
    KeyRange,
    MappedRows,
    Owner,
    PageQuestion,
    PageRows,
    PayloadQuestion,
    Prepared,
    RawRow,
    RawTable,
    Rows,
)
from .system_columns import OWNER_COLUMNS, quote, quoted_names

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
_COPY_END = b"\xff\xff"
_COPY_NULL = struct.pack("!i", -1)
_length = struct.Struct("!i").pack
_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_NOTHING = "\\N"  # NULL in the text format of COPY
_MOST_STORED = 5_000_000  # compressed bytes of a page's records; the driver holds the whole result in memory
_REFUSALS: dict[str, Literal["locked", "full"]] = {"55P03": "locked", "54011": "full"}  # 54011: more than 1,600 columns
_COLUMNS_OF = text(
    "SELECT a.attname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = current_schema() AND c.relname = :name "
    "AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
_COMMENTS = text(
    "SELECT a.attname, d.description FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_attribute a ON a.attrelid = c.oid "
    "JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum "
    "WHERE n.nspname = current_schema() AND c.relname = :name AND a.attnum > 0"
)
_IS_TAKEN = text(
    "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = current_schema() AND c.relname = :name"
)
_HOLD = text("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' ' || :name, 0))")


class _PostgresqlRawTable(RawTable):
    def _stored(self, keys: Sequence[str]) -> Iterable[Any]:
        # Compared in Python: an array of hashes to join with takes the server longer than sending them back.
        rows = _each_key(f"external_id, byte_hash, content_hash, {STATE} AS state")
        cursor = self.driver.cursor(binary=True)
        return list(cursor.execute(f"SELECT stored.* {rows}", (list(keys), self.dataset_id), prepare=False).fetchall())

    def live_rows(self, columns: str, where: str = "true") -> Iterator[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM _nango_raw WHERE dataset_id = {self.dataset_id:d} AND deleted_at IS NULL"
        with self.driver.cursor(name="nango_live_rows") as cursor:
            cursor.itersize = 5000
            yield from cursor.execute(f"{query} AND {where}", binary=True)

    def put(self, sync_id: int, rows: Sequence[RawRow], replaced: Sequence[str], moment: datetime) -> None:
        first_seen = self._delete(replaced) if replaced else {}
        now = _microseconds(moment)
        out = bytearray(_COPY_HEAD)
        start = struct.pack("!hiqi", 8, 8, self.dataset_id, 0)[:-4]
        middle = struct.pack("!iqi", 8, sync_id, 16)
        times = struct.pack("!iqiq", 8, now, 8, now)
        for row in rows:
            key = row.external_id.encode()
            out += start + _length(len(key)) + key + middle + row.byte_hash
            out += _COPY_NULL if row.content_hash is None else b"\x00\x00\x00\x10" + row.content_hash
            seen = first_seen.get(row.external_id) if first_seen else None
            out += times if seen is None else struct.pack("!iqiq", 8, _microseconds(seen), 8, now)
            out += _length(len(row.data)) + row.data
        out += _COPY_END
        with self.driver.cursor().copy(f"COPY _nango_raw ({RAW_COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
            copy.write(out)

    def _delete(self, keys: Sequence[str]) -> dict[str, datetime]:
        """Delete rows that are about to be written again; when the live ones were first seen."""
        cursor = self.driver.cursor(binary=True)
        cursor.execute(
            f"DELETE FROM _nango_raw WHERE {_IS_ONE_OF} RETURNING external_id, first_seen_at, deleted_at",
            (list(keys), self.dataset_id),
            prepare=False,
        )
        return {key: first_seen for key, first_seen, deleted_at in cursor.fetchall() if deleted_at is None}

    def refresh_hashes(self, hashes: Sequence[tuple[str, bytes, bytes]]) -> None:
        keys, byte_hashes, content_hashes = map(list, zip(*hashes, strict=True))
        self.driver.execute(
            "UPDATE _nango_raw SET byte_hash = new.byte_hash, content_hash = new.content_hash FROM ("
            "SELECT place, n.byte_hash, n.content_hash "
            "FROM unnest(%s::text[], %s::bytea[], %s::bytea[]) AS n (key, byte_hash, content_hash), LATERAL ("
            "SELECT ctid AS place FROM _nango_raw WHERE dataset_id = %s AND external_id = n.key "
            "AND NOT payload_wanted LIMIT 1) AS stored) AS new WHERE ctid = place",
            (keys, byte_hashes, content_hashes, self.dataset_id),
            prepare=False,
        )

    def restore(self, rows: Sequence[RawRow]) -> None:
        keys, byte_hashes, content_hashes, data = map(list, zip(*rows, strict=True))
        self.driver.execute(
            "UPDATE _nango_raw SET data = new.text::json, byte_hash = new.byte_hash, pruned_at = NULL, "
            "payload_wanted = false, content_hash = coalesce(new.content_hash, _nango_raw.content_hash) FROM ("
            "SELECT place, n.byte_hash, n.content_hash, n.text "
            "FROM unnest(%s::text[], %s::bytea[], %s::bytea[], %s::text[]) AS n (key, byte_hash, content_hash, text), "
            "LATERAL ("
            "SELECT ctid AS place FROM _nango_raw WHERE dataset_id = %s AND external_id = n.key LIMIT 1) AS stored"
            ") AS new WHERE ctid = place",
            (keys, byte_hashes, content_hashes, [text_.decode() for text_ in data], self.dataset_id),
            prepare=False,
        )

    def prune(self, keys: Sequence[str], moment: datetime, *, wanted: bool, own_id: bool) -> None:
        set_payload_wanted = ", payload_wanted = true" if wanted else ""
        self._update(f"{_remove_payload(own_id)}, pruned_at = %s{set_payload_wanted}", [moment], keys)

    def want_payloads(self, keys: Sequence[str]) -> None:
        self._update("payload_wanted = true", [], keys, " AND data IS NULL AND NOT payload_wanted")

    def mark_deleted(self, keys: Sequence[str], moment: datetime, *, keep_data: bool, own_id: bool = False) -> None:
        remove = "" if keep_data else f", {_remove_payload(own_id)}"
        self._update(f"deleted_at = %s, last_modified_at = %s{remove}", [moment, moment], keys)

    def mark_all_deleted(self, moment: datetime, *, own_id: bool) -> None:
        self.driver.execute(
            f"UPDATE _nango_raw SET deleted_at = %s, last_modified_at = %s, {_remove_payload(own_id)} "
            "WHERE dataset_id = %s AND deleted_at IS NULL",
            (moment, moment, self.dataset_id),
        )

    def _update(self, assignments: str, values: Sequence[Any], keys: Sequence[str], condition: str = "") -> None:
        self.driver.execute(
            f"UPDATE _nango_raw SET {assignments} WHERE {_IS_ONE_OF}{condition}",
            (*values, list(keys), self.dataset_id),
            prepare=False,
        )


def _remove_payload(own_id: bool) -> str:
    """The assignments that remove a payload, and store whether its `id` is a number where that is the key."""
    # PostgreSQL refuses to read a field of a text with an escape that it cannot decode, such as \\u0000.
    without_escapes = r"replace(data::text, '\u', '/u')::json"
    is_number = f"json_typeof({without_escapes} -> 'id') = 'number'"
    return f"data = NULL, id_is_number = {f'coalesce({is_number}, id_is_number)' if own_id else 'NULL'}"


def _each_key(columns: str) -> str:
    """The FROM clause with the stored records of keys (first parameter) in a dataset (second), by the primary key."""
    return (
        "FROM unnest(%s::text[]) AS requested (key), LATERAL ("
        f"SELECT {columns} FROM _nango_raw WHERE dataset_id = %s AND external_id = requested.key LIMIT 1) AS stored"
    )


_IS_ONE_OF = f"ctid = ANY(ARRAY(SELECT stored.ctid {_each_key('ctid')}))"


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


class _PostgresqlMappedRows(MappedRows):
    def insert(self, prepared: Prepared, moment: datetime) -> None:
        """COPY the fast rows in CSV format, and the others in text format."""
        sync_id, *names = self.owner.key
        if prepared.fast:
            head = mapping.as_csv([sync_id, *names]) + b","
            tail = b"," + mapping.as_csv([moment.isoformat(" "), None, self.owner.integration]) + b","
            lines = [head + mapping.as_csv([key]) + tail + row + b"\n" for key, row in prepared.fast]
            self._copy(prepared.fast_columns, b"".join(lines), r" (FORMAT csv, NULL 'null', ESCAPE E'\\')")
        if prepared.rows:
            width = len(prepared.columns)
            escape = mapping.TO_POSTGRESQL[mapping.Type.STRING]
            before = [str(sync_id), *map(escape, names)]
            after = [moment.isoformat(" "), _NOTHING, escape(self.owner.integration)]
            lines_of_text = "".join(
                "\t".join([*before, escape(key), *after, *row, *[_NOTHING] * (width - len(row))]) + "\n"
                for key, row in prepared.rows
            )
            self._copy(prepared.columns, lines_of_text.encode(), "")

    def _copy(self, columns: Sequence[mapping.Column], data: bytes, options: str) -> None:
        statement = f"COPY {self.table} ({quoted_names(columns)}) FROM STDIN{options}"
        with self.driver.cursor().copy(statement) as copy:
            copy.write(data)

    def _change(self, verb: str, keys: Sequence[str]) -> None:
        if not keys:
            return
        # A lateral query per key, as for raw rows: without good statistics PostgreSQL would read the whole dataset.
        verb, table = _escaped(verb), _escaped(self.table)
        row = f"SELECT ctid AS place FROM {table} WHERE {_IS_OWNED} AND _nango_unique_key = requested.key LIMIT 1"
        places = f"SELECT place FROM unnest(%s::text[]) AS requested (key), LATERAL ({row}) AS stored"
        self.driver.execute(f"{verb} WHERE ctid = ANY(ARRAY({places}))", (list(keys), *self.owner.key))

    def _change_range(self, verb: str, keys: KeyRange, condition: str) -> None:
        values: list[Any] = [*self.owner.key, keys.after]
        where = f"WHERE {_IS_OWNED} AND _nango_unique_key > %s"
        if keys.last is not None:
            where += " AND _nango_unique_key <= %s"
            values.append(keys.last)
        self.driver.execute(f"{_escaped(verb)} {where}{condition}", values)


_IS_OWNED = " AND ".join(f"{name} = %s" for name in OWNER_COLUMNS)


def _escaped(sql: str) -> str:
    """SQL whose names may hold percent signs, for a statement with parameters."""
    return sql.replace("%", "%%")


@dataclass(frozen=True)
class _PostgresqlRows:
    key_type: str = 'text COLLATE "C"'
    time_type: str = "timestamptz"
    writes_csv: bool = True
    most_row_bytes: int | None = mapping.MAX_ROW_BYTES
    nothing: Any = _NOTHING

    @property
    def converters(self) -> Mapping[mapping.Type, Any]:
        return mapping.TO_POSTGRESQL

    @property
    def types(self) -> Mapping[mapping.Type, str]:
        return {
            mapping.Type.BOOLEAN: "boolean",
            mapping.Type.NUMBER: "numeric",
            mapping.Type.STRING: "text",
            mapping.Type.TIMESTAMP: "timestamptz",
        }

    def fold(self, name: str) -> str:
        return name

    def raw(self, connection: Connection, dataset_id: int) -> RawTable:
        return _PostgresqlRawTable(connection, dataset_id)

    def mapped(self, connection: Connection, table: str, owner: Owner) -> MappedRows:
        return _PostgresqlMappedRows(connection, table, owner)

    def columns_of(self, connection: Connection, table: str) -> list[str]:
        return list(connection.execute(_COLUMNS_OF, {"name": table}).scalars())

    def is_taken(self, connection: Connection, name: str) -> bool:
        return connection.execute(_IS_TAKEN, {"name": name}).first() is not None

    def hold_columns(self, connection: Connection, table: str) -> None:
        connection.execute(_HOLD, {"name": table})

    def limit_lock_wait(self, connection: Connection) -> None:
        connection.execute(text("SET LOCAL lock_timeout = '3s'"))

    def add_columns(self, connection: Connection, table: str, declared: Sequence[str], create: str) -> Iterator[str]:
        yield f"ALTER TABLE {quote(table)} {', '.join(f'ADD COLUMN {column}' for column in declared)}"

    def comments(self, table: str, comments: Mapping[str, str | None]) -> Mapping[str, str]:
        return {
            name: f"COMMENT ON COLUMN {quote(table)}.{quote(name)} IS {_literal(comment)}"
            for name, comment in comments.items()
        }

    def stored_comments(self, connection: Connection, table: str) -> Mapping[str, str]:
        return {name: comment for name, comment in connection.execute(_COMMENTS, {"name": table})}

    def growth_refusal(self, error: Exception) -> Literal["locked", "full"] | None:
        return _REFUSALS.get(getattr(getattr(error, "orig", error), "sqlstate", None) or "")

    def moment(self, moment: datetime) -> Any:
        return moment

    def json_items(self, parameter: str) -> str:
        return f"jsonb_array_elements(CAST({parameter} AS jsonb))"

    # --- pages of records -------------------------------------------------------------------------------------------

    def page_query(self, question: PageQuestion) -> tuple[str, Mapping[str, Any]]:
        query = _page_query(question.how, question.actions, question.limit, question.ids is not None)
        moment, external_id = question.begin
        values = {**question.names, "moment": moment, "id": external_id}
        if question.ids is not None:
            values["ids"] = list(question.ids)
        return query, values

    def page(self, connection: Any, question: PageQuestion) -> PageRows:
        # The driver takes all rows at once, so the server leaves out what is too much.
        rows = connection.cursor(binary=True).execute(*self.page_query(question)).fetchall()
        return PageRows(
            [Record._make(row[:7]) for row in rows],
            is_cut=bool(rows) and rows[-1][7],
            dataset_id=rows[0][8] if rows else None,
            is_own_id=bool(rows) and bool(rows[0][9]),
        )

    def latest(self, connection: Any, dataset_id: int, actions: Sequence[Action], limit: int) -> Iterable[Record]:
        columns = f"external_id, {TIMES}, id_is_number, data::text"
        each = select_each(columns, "%(dataset)s", actions, "true")
        rows = connection.execute(_limited(each, NEWEST_FIRST, limit), {"dataset": dataset_id}).fetchall()
        return [Record._make(row) for row in rows]

    def with_payload(self, connection: Any, question: PayloadQuestion) -> list[tuple[str, datetime]]:
        condition = (
            f"{is_behind('%(moment)s', '%(id)s')} AND data IS NOT NULL AND {is_up_to('%(last)s', '%(last_id)s')}"
        )
        each = select_each("external_id, last_modified_at", "%(dataset)s", ACTIONS, condition)
        values = {
            "dataset": question.dataset_id,
            "moment": question.begin[0],
            "id": question.begin[1],
            "last": question.until[0],
            "last_id": question.until[1],
        }
        return list(connection.execute(_limited(each, ORDER, question.limit), values).fetchall())


def _literal(value: str | None) -> str:
    """A text for a statement that takes no parameters."""
    return "NULL" if value is None else "'" + value.replace("'", "''").replace("\x00", "") + "'"


POSTGRESQL_ROWS: Rows = _PostgresqlRows()


def _limited(queries: Sequence[str], order: str, limit: int) -> str:
    """The first rows of the union of queries; each has the limit too, or PostgreSQL would sort all of its rows."""
    end = f"{order} LIMIT {limit:d}"
    if len(queries) == 1:
        return f"{queries[0]} {end}"
    return f"{' UNION ALL '.join(f'({query} {end})' for query in queries)} {end}"


@cache
def _page_query(how: Literal["id", "names"], actions: tuple[Action, ...], limit: int, by_id: bool) -> str:
    key = dataset_key(how, "%({})s")
    behind = is_behind("%(moment)s", "%(id)s")
    if by_id:
        row = (
            f"SELECT {COLUMNS} FROM _nango_raw "
            f"WHERE dataset_id = {key.dataset_id} AND external_id = requested.key LIMIT 1"
        )
        rows = (
            f"SELECT stored.* FROM unnest(%(ids)s::text[]) AS requested (key), LATERAL ({row}) AS stored "
            f"WHERE {behind} AND ({has_action(actions)}) {ORDER} LIMIT {limit:d}"
        )
    else:
        rows = _limited(select_each(COLUMNS, key.dataset_id, actions, behind), ORDER, limit)
    stored = "coalesce(pg_column_size(data), 0)"  # of the compressed text, without reading it
    sums = f"sum({stored}) OVER page AS up_to, lead(external_id) OVER page IS NOT NULL AS has_more"
    summed = f"SELECT *, {sums} FROM ({rows}) AS page_rows WINDOW page AS ({ORDER} ROWS UNBOUNDED PRECEDING)"
    return (
        f"SELECT external_id, {TIMES}, id_is_number, data::text, has_more, {key.dataset_id}, {key.is_own_id} "
        f"FROM ({summed}) AS summed "
        f"WHERE up_to - {stored} < {_MOST_STORED} {ORDER}"
    )
