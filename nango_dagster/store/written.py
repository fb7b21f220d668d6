"""Pages of records that the database itself writes down, each record's JSON with our metadata at its end.

What the busiest route needs is then one value instead of a hundred rows, and no record's text passes through Python's
hands. Where a record has to be taken apart, `listing` reads it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from .database import Database
from .listing import MOST_BYTES, Names, Those, Wanted, asked, bounded, query_postgresql, query_sqlite

_BETWEEN = b"\x1e"  # ASCII's record separator; no JSON has it as it is
_TIMES = ("first_seen_at", "last_modified_at", "deleted_at", "pruned_at")
_IN_ORDER = "ORDER BY last_modified_at, external_id"


class Written(NamedTuple):
    """The JSON of each record, and the cursor of the next page if there is one."""

    records: list[bytes]
    next: bytes | None


def page_of(database: Database, names: Names, wanted: Wanted, limit: int) -> Written | None:
    """The same records as `listing.page_of`; None where one of them has to be taken apart to be written."""
    those, values = asked(database, "named", vars(names), wanted, limit)
    with database.driver() as connection:
        found = (_ask_postgresql if database.is_postgresql else _ask_sqlite)(connection, those, values)
    if found is None:
        return None
    text, written, there, cut = found
    if written < there:
        return None
    texts = bytes(text).split(_BETWEEN) if there else []
    cut = cut or len(texts) > limit
    del texts[limit:]
    size = sum(map(len, texts))
    while size > MOST_BYTES and len(texts) > 1:
        size -= len(texts.pop())
        cut = True
    return Written(texts, texts[-1].rsplit(b'"', 2)[1] if cut else None)


_Found = tuple[Any, int, int, bool]
"""The texts in one, how many they are, how many records there are, and whether there are more behind them."""


def _ask_postgresql(connection: Any, those: Those, values: Mapping[str, Any]) -> _Found | None:
    found: _Found = connection.cursor(binary=True).execute(_query_postgresql(*those), values).fetchone()
    return found


@cache
def _query_postgresql(*those: Any) -> str:
    rows, own_id = query_postgresql(*those)

    def time(column: str, places: str = "MS") -> str:
        return f'to_char({column}, \'YYYY-MM-DD"T"HH24:MI:SS.{places}"Z"\')'

    fields = _fields(
        *(f"""coalesce('"' || {time(column)} || '"', 'null')""" for column in _TIMES),
        cursor=f"encode(convert_to({time('last_modified_at', 'US')} || '||' || external_id, 'UTF8'), 'hex')",
    )
    is_plain = "left(text, 1) = '{' AND right(text, 1) = '}' AND strpos(text, '_nango_metadata') = 0"
    begin = (
        f"CASE WHEN text IS NULL THEN '{{\"id\":' || to_json(external_id)::text "
        f"WHEN {own_id} AND {is_plain} THEN left(text, -1) END"
    )
    # OFFSET 0: a text is taken out of its row once, not wherever it is named.
    return (
        f"SELECT convert_to(string_agg(record, chr(30) {_IN_ORDER}), 'UTF8'), count(record), count(*), "
        f"bool_and(has_more) FROM (SELECT {begin} || {fields} AS record, last_modified_at, external_id, has_more "
        f"FROM (SELECT *, data::text AS text FROM {rows} OFFSET 0) AS texts) AS records"
    )


def _ask_sqlite(connection: sqlite3.Connection, those: Those, values: Mapping[str, Any]) -> _Found | None:
    try:
        with bounded(connection):
            text, written, there = connection.execute(_query_sqlite(*those), values).fetchone()
    except sqlite3.DataError:
        return None  # it is too long for one row
    return text, written, there, False


@cache
def _query_sqlite(*those: Any) -> str:
    rows, own_id = query_sqlite(*those)

    def time(column: str, length: int = 12) -> str:
        return f"substr({column}, 1, 10) || 'T' || substr({column}, 12, {length}) || 'Z'"

    fields = _fields(
        *(f"""coalesce('"' || {time(column)} || '"', 'null')""" for column in _TIMES),
        cursor=f"lower(hex({time('last_modified_at', 15)} || '||' || external_id))",
    )
    is_plain = "substr(data, 1, 1) = '{' AND substr(data, -1) = '}' AND instr(data, '_nango_metadata') = 0"
    begin = (
        f"CASE WHEN data IS NULL THEN '{{\"id\":' || json_quote(external_id) "
        f"WHEN {own_id} AND {is_plain} THEN substr(data, 1, length(data) - 1) END"
    )
    return (
        f"SELECT CAST(group_concat(record, char(30)) AS BLOB), count(record), count(*) "
        f"FROM (SELECT {begin} || {fields} AS record FROM ({rows}))"
    )


def _fields(first_seen: str, modified: str, deleted: str, pruned: str, *, cursor: str) -> str:
    """What is said of a record at the end of its text, as an expression; the API writes the same where it has to."""
    action = (
        "CASE WHEN deleted_at IS NOT NULL THEN 'DELETED' WHEN first_seen_at = last_modified_at THEN 'ADDED' "
        "ELSE 'UPDATED' END"
    )
    return (
        f"""',"_nango_metadata":{{"first_seen_at":' || {first_seen} || ',"last_modified_at":' || {modified}"""
        f""" || ',"last_action":"' || {action} || '","deleted_at":' || {deleted} || ',"pruned_at":' || {pruned}"""
        f""" || ',"cursor":"' || {cursor} || '"}}}}'"""
    )
