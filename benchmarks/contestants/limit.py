"""The bare limit: the rows that one wants, by hand and for this one list, with nothing that can be left out.

All hashes are read at the beginning. A page is cut into records; one whose hash is known is not looked at. The others
are decoded into a row of typed columns, which goes, with the JSON as it was sent, straight into the table: by COPY, or
executemany. Changed and gone rows are deleted at the end, and the changed ones written anew, all in one transaction.

There is no place for a column that nobody knew of, no bound on memory, no retry, and a run that fails leaves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import psycopg

from . import Task

Row = tuple[Any, ...]
Known = dict[int, bytes]  # the hash of each id
Write = Callable[[Iterable[Row]], object]

# Each part of a record with the fields that become columns, and their types.
USER: Final = "login:text id:bigint avatar_url:text html_url:text type:text site_admin:boolean"
COLUMNS: Final = {
    "": "id:bigint number:bigint node_id:text url:text repository_url:text labels_url:text comments_url:text"
    " events_url:text html_url:text title:text state:text state_reason:text locked:boolean comments:bigint"
    " created_at:timestamptz updated_at:timestamptz closed_at:timestamptz author_association:text"
    " active_lock_reason:text draft:boolean body:text estimate_hours:numeric score:numeric performed_via_app:text",
    "user": USER,
    "assignee": USER,
    "milestone": "id:bigint title:text due_on:timestamptz open_issues:bigint",
    "reactions": "total_count:bigint +1:bigint -1:bigint laugh:bigint heart:bigint eyes:bigint",
    "sub_issues_summary": "total:bigint percent_completed:numeric",
}


def main() -> None:
    """Pull the list of the task."""
    task = Task.read()
    (in_postgresql if task.dialect == "postgresql" else in_sqlite)(task)


def pull(task: Task, known: Known, write: Write) -> tuple[list[Row], list[int]]:
    """Write what is new; give the rows that changed, and the ids that have to go: of those, and of what is gone."""
    changed: list[Row] = []
    unseen = dict(known)
    for page in pages(task.list_url):
        new: list[Row] = []
        for data in page:
            id_, hash_ = _key(data).id, hashlib.md5(data).digest()
            found = unseen.pop(id_, None)
            if found != hash_:
                (new if found is None else changed).append(_row(data, hash_))
        if new:
            write(new)
    return changed, [*unseen, *(row[2] for row in changed)]


# From the API


class Key(msgspec.Struct):
    """The fields that are read of every record."""

    id: int


class Next(msgspec.Struct):
    """The beginning of the next page."""

    after: str | int


class Paging(msgspec.Struct):
    """The cursor, null on the last page."""

    next: Next | None


class Page(msgspec.Struct):
    """An answer, its records left as they are."""

    results: list[msgspec.Raw]
    paging: Paging


_page = msgspec.json.Decoder(Page).decode
_key = msgspec.json.Decoder(Key).decode
_record = msgspec.json.Decoder(dict[str, Any]).decode


def pages(list_url: str) -> Iterator[list[bytes]]:
    """The list, page by page, on one connection; the next page is on its way while one is worked on."""
    address = urlsplit(list_url)
    first = f"{address.path}?{address.query}"
    with contextlib.closing(http.client.HTTPConnection(address.netloc)) as connection:
        connection.request("GET", first)
        while True:
            page = _page(connection.getresponse().read())
            following = page.paging.next
            if following:
                connection.request("GET", f"{first}&after={following.after}")
            yield [bytes(record) for record in page.results]
            if not following:
                return


# To a row

_fields = {part: [column.split(":") for column in columns.split()] for part, columns in COLUMNS.items()}
_read = [(part, itemgetter(*(name for name, _ in fields)), (None,) * len(fields)) for part, fields in _fields.items()]

TYPED: Final = [
    f'"{part}_{name}" {type_}' if part else f"{name} {type_}"
    for part, fields in _fields.items()
    for name, type_ in fields
]


def _row(data: bytes, hash_: bytes) -> Row:
    """The hash, the JSON, the typed columns."""
    record = _record(data)
    values: list[Any] = [hash_, data.decode()]
    for part, fields, nothing in _read:
        found = record[part] if part else record
        values += fields(found) if found else nothing
    return tuple(values)


# Into a database

_HAS_LZ4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"


def in_postgresql(task: Task) -> None:
    """COPY into the table itself: what is new can have no conflict."""
    with psycopg.connect(task.database_url) as connection, connection.cursor(binary=True) as cursor:
        compressed = "COMPRESSION lz4" if cursor.execute(_HAS_LZ4).fetchone() == (True,) else ""
        columns = ["hash bytea", f"data json {compressed}", *TYPED]
        cursor.execute(f"CREATE TABLE IF NOT EXISTS issues ({', '.join(columns)}, PRIMARY KEY (id))".encode())
        known: Known = dict(cursor.execute("SELECT id, hash FROM issues").fetchall())
        with _copying(cursor) as write:
            changed, out = pull(task, known, write)
        cursor.execute("DELETE FROM issues WHERE id = ANY (%s)", [out])
        with _copying(cursor) as write:
            write(changed)


@contextlib.contextmanager
def _copying(cursor: psycopg.Cursor[Any]) -> Iterator[Write]:
    with cursor.copy("COPY issues FROM STDIN") as copy:

        def write(rows: Iterable[Row]) -> None:
            for row in rows:
                copy.write_row(row)

        yield write


def in_sqlite(task: Task) -> None:
    """executemany of a prepared statement."""
    with contextlib.closing(sqlite3.connect(task.file)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        columns = ["hash BLOB", "data TEXT", *TYPED]
        connection.execute(f"CREATE TABLE IF NOT EXISTS issues ({', '.join(columns)}, PRIMARY KEY (id))")
        insert = f"INSERT INTO issues VALUES ({', '.join('?' * len(columns))})"
        known: Known = dict(connection.execute("SELECT id, hash FROM issues"))
        changed, out = pull(task, known, lambda rows: connection.executemany(insert, rows))
        connection.executemany("DELETE FROM issues WHERE id = ?", [(id_,) for id_ in out])
        connection.executemany(insert, changed)


if __name__ == "__main__":
    main()
