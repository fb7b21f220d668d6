"""JSON lines and CSV become the text of one JSON list."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ..errors import ApiError
from .formats import is_json
from .members import check_records

_quoted = msgspec.json.Encoder().encode
_SEPARATOR_LINE: Final = re.compile(rb"sep=([,;|\t])\r?\n", re.IGNORECASE)  # Excel's first line, in place of a header
_MAX_CELL: Final = 100_000_000  # characters; the limit of a whole answer applies first


def lines_as_list(text: bytes, max_records: int) -> bytes:
    """The JSON values of a text with one on each line, as a list; empty lines are skipped.

    A line that is no JSON becomes a record that cannot be read, and so costs only itself. The last one may be cut off,
    or be the server's remark that the export was ended early: then the answer is not the whole list.

    >>> lines_as_list(b'{"id": 1}\\n{"id": 2}\\n', 10)
    b'[{"id": 1},{"id": 2}]'
    """
    check_records(text.count(b"\n"), max_records)
    lines = [stripped for line in text.split(b"\n") if (stripped := line.strip(b" \t\r\x1e"))]
    if lines and not is_json(lines[-1]):
        raise ApiError(f"the response is JSON lines, and the last line is no JSON: {_excerpt(lines[-1])}.")
    if lines and not is_json(lines[0]):
        raise ApiError(f"the response was read as JSON lines, and line 1 is no JSON: {_excerpt(lines[0])}.")
    return b"[" + b",".join(line if is_json(line) else _unreadable(line) for line in lines) + b"]"


def _unreadable(line: bytes) -> bytes:
    """An object that no parser accepts, and whose brackets and quotes match."""
    return b"{" + _quoted(line.decode(errors="replace")) + b"}"


def rows_as_list(text: bytes, delimiter: str | None, max_records: int, max_bytes: int) -> bytes:
    """The rows of a CSV text as a list of objects; the first row names the fields.

    Every value is text, and an empty cell is null: CSV knows no types. Missing cells at a row's end are null, but a
    last row that lacks cells is the end of a text that was cut off, or an error message, unless other rows lack cells
    and the text ends with a line break.

    >>> rows_as_list(b"id,name\\r\\n007,Ann\\r\\n8,\\r\\n", None, 10, 1000)
    b'[{"id":"007","name":"Ann"},{"id":"8","name":null}]'
    """
    if separator := _SEPARATOR_LINE.match(text):
        text, delimiter = text[separator.end() :], separator[1].decode()
    # A byte that is no UTF-8 stays in its cell, so that it costs only its own record.
    stream = io.TextIOWrapper(io.BytesIO(text), "utf-8", errors="surrogateescape", newline="")
    start = text[: text.find(b"\n") + 1 or None].decode(errors="replace")
    csv.field_size_limit(_MAX_CELL)
    rows = csv.reader(stream, delimiter=delimiter or _delimiter(start), strict=True)
    try:
        return _objects(rows, max_records, max_bytes, may_end_short=text.endswith((b"\n", b"\r")))
    except csv.Error as error:
        raise ApiError(f"the response is no complete CSV: line {rows.line_num}: {error}.") from None


def _objects(rows: Iterator[list[str]], max_records: int, max_bytes: int, *, may_end_short: bool) -> bytes:
    header = next((row for row in rows if row), None)
    if header is None:
        raise ApiError("the response is empty; wanted CSV with a line of column names.")
    names = [_json_string(name) + b":" for name in _column_names(header)]
    objects = bytearray(b"[")
    count = 0
    last: list[str] = []
    is_any_short = False  # of the rows before the last one
    for row in rows:
        if not row:
            continue
        count += 1
        is_any_short |= count > 1 and len(last) < len(names)
        last = row
        check_records(count, max_records)
        if len(row) > len(names):
            raise ApiError(f"row {count:,} of the CSV has {len(row):,} cells, and the header has {len(names):,}.")
        objects += b",{" if count > 1 else b"{"
        objects += b",".join(name + _cell(row, index) for index, name in enumerate(names))
        objects += b"}"
        if len(objects) > max_bytes:
            raise ApiError(f"the CSV is more than {max_bytes:,} bytes as JSON, its max_page_bytes.")
    if not count:
        _check_header(header)
    elif len(last) < len(names) and not (may_end_short and is_any_short):
        raise ApiError(
            f"the CSV was cut off: its last row has {len(last):,} cells, and the header has {len(names):,}: "
            f"{_excerpt(','.join(last).encode(errors='replace'))}."
        )
    objects += b"]"
    return bytes(objects)


def _cell(row: list[str], index: int) -> bytes:
    return _json_string(row[index]) if index < len(row) and row[index] else b"null"


def _json_string(text: str) -> bytes:
    try:
        return _quoted(text)
    except UnicodeEncodeError:
        # The bytes as they came, in quotes; the record is rejected by whoever decodes it.
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return b'"' + escaped.replace("\t", "\\t").encode(errors="surrogateescape") + b'"'


def _column_names(header: Iterable[str]) -> list[str]:
    """The names of the columns: a missing one gets its number, and a repeated one another ending.

    >>> _column_names(["id", "", "id"])
    ['id', 'column_2', 'id_2']
    """
    names: dict[str, None] = {}
    for number, cell in enumerate(header, start=1):
        name = cell.strip() or f"column_{number}"
        unique, ending = name, 2
        while unique in names:
            unique, ending = f"{name}_{ending}", ending + 1
        names[unique] = None
    return list(names)


def _check_header(header: list[str]) -> None:
    """Refuse a text without rows whose only line reads like a sentence: it is a message, and no empty table."""
    if len(header) < 2 or any(cell != cell.strip() or len(cell) > 200 for cell in header):
        raise ApiError(f"the response is one line of text, and no CSV: {_excerpt(','.join(header).encode())}.")


def _delimiter(header: str) -> str:
    """The delimiter that the line of column names has most often."""
    return max((",", ";", "\t", "|"), key=header.count)


def _excerpt(line: bytes) -> str:
    text = " ".join(line[:200].decode(errors="replace").split())
    return f'"{text}"' if len(line) <= 200 else f'"{text}…"'
