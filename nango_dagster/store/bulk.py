"""Many rows at once: where PostgreSQL and SQLite want it said differently.

PostgreSQL takes new rows by COPY, straight into the table: the caller holds the dataset's lock and has looked the
keys up, so that no row can be in the way. SQLite takes them by executemany.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import chain, islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, cast, select

from . import schema
from .database import Database
from .types import SQLITE_TIME

SQLITE_PARAMETERS = 500  # names in one IN (...); few enough to stay a cached statement
_MOST_PARAMETERS = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999  # of one statement
_ROWS_AT_ONCE = (256, 32, 4, 1)  # few sizes, so that SQLite has seen the statement before
_HASH_BYTES = 16
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
_COPY_END = b"\xff\xff"
_length = struct.Struct("!i").pack
_POSTGRESQL_EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)
_RAW_COLUMNS = "dataset_id, external_id, sync_id, byte_hash, content_hash, first_seen_at, last_modified_at, data"

# The JSON as it was stored; PostgreSQL's driver would decode it.
DATA_TEXT = cast(schema.raw.c.data, Text).label("data")


class Known(NamedTuple):
    """What the store knows of a record: enough to tell whether it changed."""

    byte_hash: bytes
    content_hash: bytes | None  # not known before a record's bytes first change
    deleted: bool

    @property
    def restorable(self) -> bool:
        """Whether its payload was pruned and is wanted back."""
        return is_marked(self.byte_hash)


class RawRow(NamedTuple):
    """A record on its way into `_nango_raw`."""

    external_id: str
    byte_hash: bytes
    content_hash: bytes | None
    data: bytes


def is_marked(byte_hash: bytes) -> bool:
    """Whether this is the hash of a record whose payload was pruned and is wanted back; it equals no other hash."""
    return len(byte_hash) > _HASH_BYTES


def unmarked(byte_hash: bytes) -> bytes:
    """The hash without that mark."""
    return byte_hash[:_HASH_BYTES]


def driver(connection: Connection) -> Any:
    """The driver's own connection, inside the same transaction."""
    return connection.connection.driver_connection


def in_pieces(keys: Sequence[Any], size: int = SQLITE_PARAMETERS) -> Iterator[Sequence[Any]]:
    """`keys`, at most `size` at a time."""
    rest = iter(keys)
    while piece := list(islice(rest, size)):
        yield piece


def lookup(connection: Connection, database: Database, dataset_id: int, keys: Sequence[str]) -> dict[str, Known]:
    """What is known of those records that are there, deleted ones included."""
    return {
        key: Known(byte_hash, content_hash, deleted_at is not None)
        for key, byte_hash, content_hash, deleted_at in _stored(connection, database, dataset_id, keys)
    }


def differing(
    connection: Connection, database: Database, dataset_id: int, hashes: Mapping[str, bytes]
) -> dict[str, Known | None]:
    """Of records with these byte hashes: those that are not stored like that, and what is; None for nothing."""
    if not database.is_postgresql:
        hashes = {key: hashes[key] for key in _unlike(connection, dataset_id, hashes)}
    left: dict[str, Known | None] = dict.fromkeys(hashes)
    for key, byte_hash, content_hash, deleted_at in _stored(connection, database, dataset_id, list(hashes)):
        if byte_hash == hashes[key] and deleted_at is None:
            del left[key]
        else:
            left[key] = Known(byte_hash, content_hash, deleted_at is not None)
    return left


def _unlike(connection: Connection, dataset_id: int, hashes: Mapping[str, bytes]) -> Iterator[str]:
    """The keys of those records that SQLite does not store with these hashes.

    Few as a rule: for each row that it answers, sqlite3 gives Python's lock away and has to wait for it.
    """
    for piece in in_pieces(list(hashes.items()), SQLITE_PARAMETERS // 2):
        marks = ",".join(["(?,?)"] * len(piece))
        query = (
            f"WITH wanted (key, hash) AS (VALUES {marks}) SELECT key FROM wanted WHERE NOT EXISTS ("
            "SELECT 1 FROM _nango_raw "
            "WHERE dataset_id = ? AND external_id = key AND byte_hash = hash AND deleted_at IS NULL)"
        )
        yield from (key for (key,) in driver(connection).execute(query, (*chain.from_iterable(piece), dataset_id)))


def _stored(connection: Connection, database: Database, dataset_id: int, keys: Sequence[str]) -> Iterator[Any]:
    """The keys, both hashes and times of deletion of those records that are there."""
    if database.is_postgresql:
        # Compared here, not in SQL: an array of hashes to join with takes the server longer than sending them back.
        cursor = driver(connection).cursor(binary=True)
        query = f"SELECT found.* {_one_by_one('external_id, byte_hash, content_hash, deleted_at')}"
        yield from cursor.execute(query, (list(keys), dataset_id), prepare=False).fetchall()
        return
    for piece in in_pieces(keys):
        marks = ",".join("?" * len(piece))
        yield from driver(connection).execute(
            "SELECT external_id, byte_hash, content_hash, deleted_at FROM _nango_raw "
            f"WHERE dataset_id = ? AND external_id IN ({marks})",
            (dataset_id, *piece),
        )


def _one_by_one(columns: str) -> str:
    """FROM the stored records of these keys, then of this dataset, each found in the primary key.

    Said so that PostgreSQL cannot do anything else. For `external_id = ANY(...)` it prefers to read the whole dataset
    as long as its statistics know little of the table, that is in and after each first load.
    """
    return (
        "FROM unnest(%s::text[]) AS wanted (key), "
        f"LATERAL (SELECT {columns} FROM _nango_raw WHERE dataset_id = %s AND external_id = wanted.key LIMIT 1) found"
    )


def _places() -> str:
    """The condition that a row of `_nango_raw` is one of these keys, of this dataset."""
    return f"ctid = ANY(ARRAY(SELECT found.ctid {_one_by_one('ctid')}))"


def put_raw(
    connection: Connection,
    database: Database,
    dataset_id: int,
    sync_id: int,
    rows: Sequence[RawRow],
    replaced: Sequence[str],
    moment: datetime,
) -> None:
    """Write records; those in `replaced` are there already, and the live ones keep the time they were first seen."""
    if database.is_postgresql:
        first_seen = _take_out(connection, dataset_id, replaced) if replaced else {}
        _copy_raw(connection, dataset_id, sync_id, rows, first_seen, moment)
        return
    now = moment.strftime(SQLITE_TIME)
    insert(
        connection,
        f"_nango_raw ({_RAW_COLUMNS})",
        "(?,?,?,?,?,?,?,CAST(? AS TEXT))",  # the bytes are UTF-8, as SQLite keeps text
        [(dataset_id, row.external_id, sync_id, row.byte_hash, row.content_hash, now, now, row.data) for row in rows],
        "ON CONFLICT (dataset_id, external_id) DO UPDATE SET sync_id = excluded.sync_id, data = excluded.data, "
        "byte_hash = excluded.byte_hash, content_hash = excluded.content_hash, pruned_at = NULL, deleted_at = NULL, "
        "first_seen_at = iif(deleted_at IS NULL, first_seen_at, excluded.first_seen_at), "
        "last_modified_at = excluded.last_modified_at",
    )


def insert(connection: Connection, into: str, marks: str, rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
    """SQLite: INSERT rows with these marks for their values, hundreds of them a statement.

    For each statement sqlite3 gives Python's lock away, and waits for it as long as another thread computes: a
    statement a row, as by executemany, took ten times as long while records were decoded beside it.
    """
    at = 0
    for size in _ROWS_AT_ONCE:
        statement = f"INSERT INTO {into} VALUES {','.join([marks] * size)} {conflict}"
        while len(rows) - at >= size and size * len(rows[0]) <= _MOST_PARAMETERS:
            driver(connection).execute(statement, tuple(chain.from_iterable(rows[at : at + size])))
            at += size


def _take_out(connection: Connection, dataset_id: int, keys: Sequence[str]) -> dict[str, datetime]:
    """Delete rows that are about to be written anew; when the live ones were first seen."""
    cursor = driver(connection).cursor(binary=True)
    cursor.execute(
        f"DELETE FROM _nango_raw WHERE {_places()} RETURNING external_id, first_seen_at, deleted_at",
        (list(keys), dataset_id),
        prepare=False,
    )
    return {key: first_seen for key, first_seen, deleted_at in cursor.fetchall() if deleted_at is None}


def _copy_raw(
    connection: Connection,
    dataset_id: int,
    sync_id: int,
    rows: Sequence[RawRow],
    first_seen: dict[str, datetime],
    moment: datetime,
) -> None:
    now = _microseconds(moment)
    out = bytearray(_COPY_HEAD)
    start = struct.pack("!hiqi", 8, 8, dataset_id, 0)[:-4]
    middle = struct.pack("!iqi", 8, sync_id, 16)
    nothing = struct.pack("!i", -1)
    times = struct.pack("!iqiq", 8, now, 8, now)
    for row in rows:
        key = row.external_id.encode()
        out += start + _length(len(key)) + key + middle + row.byte_hash
        out += nothing if row.content_hash is None else b"\x00\x00\x00\x10" + row.content_hash
        seen = first_seen.get(row.external_id) if first_seen else None
        out += times if seen is None else struct.pack("!iqiq", 8, _microseconds(seen), 8, now)
        out += _length(len(row.data)) + row.data
    out += _COPY_END
    with driver(connection).cursor().copy(f"COPY _nango_raw ({_RAW_COLUMNS}) FROM STDIN (FORMAT binary)") as copy:
        copy.write(out)


def _microseconds(moment: datetime) -> int:
    return (moment - _POSTGRESQL_EPOCH) // timedelta(microseconds=1)


def refresh_hashes(
    connection: Connection, database: Database, dataset_id: int, hashes: Sequence[tuple[str, bytes, bytes]]
) -> None:
    """Records whose text changed but not their content: remember the new text's hash and the content's, no more.

    A mark that was set meanwhile stays.
    """
    if database.is_postgresql:
        driver(connection).execute(
            "UPDATE _nango_raw SET byte_hash = found.new_byte_hash, content_hash = found.new_content_hash FROM ("
            "SELECT place, n.byte_hash AS new_byte_hash, n.content_hash AS new_content_hash "
            "FROM unnest(%s::text[], %s::bytea[], %s::bytea[]) AS n (key, byte_hash, content_hash), LATERAL ("
            "SELECT ctid AS place FROM _nango_raw WHERE dataset_id = %s AND external_id = n.key "
            f"AND length(byte_hash) = {_HASH_BYTES} LIMIT 1) AS one"
            ") AS found WHERE ctid = place",
            (*map(list, zip(*hashes, strict=True)), dataset_id),
            prepare=False,
        )
        return
    driver(connection).executemany(
        "UPDATE _nango_raw SET byte_hash = ?, content_hash = ? WHERE dataset_id = ? AND external_id = ? "
        f"AND length(byte_hash) = {_HASH_BYTES}",
        ((byte_hash, content_hash, dataset_id, key) for key, byte_hash, content_hash in hashes),
    )


def prune(
    connection: Connection,
    database: Database,
    dataset_id: int,
    keys: Sequence[str],
    moment: datetime,
    *,
    restorable: bool,
) -> None:
    """Remove the payloads of these records; with `restorable` their hashes are marked."""
    if database.is_postgresql:
        marked = ", byte_hash = byte_hash || decode('00', 'hex')" if restorable else ""
        driver(connection).execute(
            f"UPDATE _nango_raw SET data = NULL, pruned_at = %s{marked} WHERE {_places()}",
            (moment, list(keys), dataset_id),
            prepare=False,
        )
        return
    marked = ", byte_hash = CAST(byte_hash || x'00' AS BLOB)" if restorable else ""
    for piece in in_pieces(keys):
        marks = ",".join("?" * len(piece))
        driver(connection).execute(
            f"UPDATE _nango_raw SET data = NULL, pruned_at = ?{marked} "
            f"WHERE dataset_id = ? AND external_id IN ({marks})",
            (moment.strftime(SQLITE_TIME), dataset_id, *piece),
        )


def want_back(connection: Connection, database: Database, dataset_id: int, keys: Sequence[str]) -> None:
    """Mark the hashes of pruned records, so that their payloads come back."""
    if database.is_postgresql:
        driver(connection).execute(
            "UPDATE _nango_raw SET byte_hash = byte_hash || decode('00', 'hex') "
            f"WHERE {_places()} AND data IS NULL AND length(byte_hash) = {_HASH_BYTES}",
            (list(keys), dataset_id),
            prepare=False,
        )
        return
    for piece in in_pieces(keys):
        marks = ",".join("?" * len(piece))
        driver(connection).execute(
            "UPDATE _nango_raw SET byte_hash = CAST(byte_hash || x'00' AS BLOB) WHERE dataset_id = ? "
            f"AND external_id IN ({marks}) AND data IS NULL AND length(byte_hash) = {_HASH_BYTES}",
            (dataset_id, *piece),
        )


def restore(connection: Connection, database: Database, dataset_id: int, rows: Sequence[RawRow]) -> None:
    """Give pruned records their payloads back; nothing else of them changes."""
    if database.is_postgresql:
        texts = [row.data.decode() for row in rows]
        columns = [row.external_id for row in rows], [row.byte_hash for row in rows], [row.content_hash for row in rows]
        driver(connection).execute(
            "UPDATE _nango_raw SET data = found.text::json, byte_hash = found.new_byte_hash, pruned_at = NULL, "
            "content_hash = coalesce(found.new_content_hash, content_hash) FROM ("
            "SELECT place, n.byte_hash AS new_byte_hash, n.content_hash AS new_content_hash, n.text "
            "FROM unnest(%s::text[], %s::bytea[], %s::bytea[], %s::text[]) AS n (key, byte_hash, content_hash, text), "
            "LATERAL ("
            "SELECT ctid AS place FROM _nango_raw WHERE dataset_id = %s AND external_id = n.key LIMIT 1) AS one"
            ") AS found WHERE ctid = place",
            (*columns, texts, dataset_id),
            prepare=False,
        )
        return
    driver(connection).executemany(
        "UPDATE _nango_raw SET data = CAST(? AS TEXT), byte_hash = ?, pruned_at = NULL, "
        "content_hash = coalesce(?, content_hash) WHERE dataset_id = ? AND external_id = ?",
        ((row.data, row.byte_hash, row.content_hash, dataset_id, row.external_id) for row in rows),
    )


def delete_softly(
    connection: Connection,
    database: Database,
    dataset_id: int,
    keys: Sequence[str],
    moment: datetime,
    *,
    keep_data: bool,
) -> None:
    """Mark live records as deleted at `moment`; without `keep_data` their payload goes."""
    empty = "" if keep_data else ", data = NULL"
    if database.is_postgresql:
        driver(connection).execute(
            f"UPDATE _nango_raw SET deleted_at = %s, last_modified_at = %s{empty} WHERE {_places()}",
            (moment, moment, list(keys), dataset_id),
            prepare=False,
        )
        return
    now = moment.strftime(SQLITE_TIME)
    for piece in in_pieces(keys):
        marks = ",".join("?" * len(piece))
        driver(connection).execute(
            f"UPDATE _nango_raw SET deleted_at = ?, last_modified_at = ?{empty} "
            f"WHERE dataset_id = ? AND external_id IN ({marks})",
            (now, now, dataset_id, *piece),
        )


def live_keys(connection: Connection, database: Database, dataset_id: int, size: int = 5000) -> Iterator[list[str]]:
    """The keys of all live records, in order, some at a time."""
    mark = "%s" if database.is_postgresql else "?"
    query = (
        f"SELECT external_id FROM _nango_raw WHERE dataset_id = {mark} AND external_id > {mark} "
        f"AND deleted_at IS NULL ORDER BY external_id LIMIT {mark}"
    )
    after = ""
    while keys := [row[0] for row in driver(connection).execute(query, (dataset_id, after, size)).fetchall()]:
        yield keys
        after = keys[-1]


def live_rows(connection: Connection, database: Database, dataset_id: int, columns: str) -> Iterator[tuple[Any, ...]]:
    """These columns of all live records, in no order, without having them all in memory."""
    query = f"SELECT {columns} FROM _nango_raw WHERE deleted_at IS NULL AND dataset_id = {dataset_id:d}"
    if not database.is_postgresql:
        yield from driver(connection).execute(query)
        return
    with driver(connection).cursor(name="nango_live_rows") as cursor:
        cursor.itersize = 5000
        yield from cursor.execute(query, binary=True)


def copy(connection: Connection, table: str, columns: str, data: bytes, *, csv: bool) -> None:
    """Rows in COPY's own text, or as `mapping.as_csv` writes them, into a table; both names come quoted."""
    how = r" (FORMAT csv, NULL 'null', ESCAPE E'\\')" if csv else ""
    with driver(connection).cursor().copy(f"COPY {table} ({columns}) FROM STDIN{how}") as sink:
        sink.write(data)


def texts(connection: Connection, database: Database, dataset_id: int, keys: Sequence[str]) -> dict[str, bytes]:
    """The stored JSON of these records, where they have one."""
    found: dict[str, bytes] = {}
    for piece in in_pieces(keys):
        query = select(schema.raw.c.external_id, DATA_TEXT).where(
            schema.raw.c.dataset_id == dataset_id, schema.raw.c.external_id.in_(piece), schema.raw.c.data.is_not(None)
        )
        found.update((key, data.encode()) for key, data in connection.execute(query))
    return found
