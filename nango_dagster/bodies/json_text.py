"""From an answer to the JSON text that records are cut from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from ..errors import ApiError
from ..http import Response
from .charsets import as_utf8
from .formats import FORMAT_NAMES, Format, declared_format, is_json_lines, refusal
from .gzip_files import SIGNATURE, unpacked
from .members import MAX_MEMBERS
from .tables import lines_as_list, rows_as_list

# Put before JSON so that a page of another site cannot run it as a script: Angular, Google, Facebook, Gerrit.
_GUARD_PREFIX: Final = re.compile(rb"\)\]\}'?,?|while\s*\(1\);|for\s*\(;;\);|\{\}\s*&&|/\*\*/")


@dataclass(frozen=True)
class BodyLimits:
    """The limits of a body: its unpacked bytes, and its records."""

    max_bytes: int = 100_000_000
    max_records: int = MAX_MEMBERS


def json_text(response: Response, format: Format | None = None, limits: BodyLimits | None = None) -> bytes:
    """The body as JSON text in UTF-8; JSON lines and CSV as the text of a list.

    `format` is what the sync says. Without it, the Content-Type counts where it is certain, then the file name at the
    end of the URL, else the body is JSON. Raises ApiError with the format that the body seems to have.

    >>> json_text(Response(200, {"Content-Type": "application/x-ndjson"}, b'{"id": 1}\\n{"id": 2}', ""))
    b'[{"id": 1},{"id": 2}]'
    >>> json_text(Response(200, {"Content-Type": "application/json"}, b")]}'\\n[1]", ""))
    b'[1]'
    """
    limits = limits or BodyLimits()
    content_type = response.headers.get("Content-Type", "")
    content = response.content
    is_file = content.startswith(SIGNATURE)
    if is_file:
        content = unpacked(content, limits.max_bytes)
    content = as_utf8(content, content_type)
    declared = declared_format(content_type, response.url, is_file=is_file)
    format = format or declared or "json"
    if format in ("csv", "tsv"):
        return _rows(content, format, limits)
    content = _without_prefix(content)
    if format == "json":
        return _checked_json(content, content_type)
    if content[:1] == b"<":
        raise ApiError(f"the response is HTML or XML; wanted {FORMAT_NAMES[format]}, as format says.")
    return _lines(content, limits, is_declared=declared == "jsonl")


def _without_prefix(text: bytes) -> bytes:
    text = text.strip()
    if text[:1] in (b"[", b'"') or (text[:1] == b"{" and text[:2] != b"{}"):
        return text
    prefix = _GUARD_PREFIX.match(text)
    return text[prefix.end() :].strip() if prefix else text


def _checked_json(text: bytes, content_type: str) -> bytes:
    if text == b"null":  # whether that is an empty list is the reader's to say
        return text
    if text[:1] not in (b"{", b"["):
        raise ApiError(refusal(text, content_type))
    if is_json_lines(text):
        raise ApiError("the response is JSON lines, one JSON value on each line; set format: jsonl.")
    return text


def _rows(text: bytes, format: Format, limits: BodyLimits) -> bytes:
    """A table; JSON where that came in its place, since an error as JSON is no table without rows."""
    start = text[:1000].lstrip()[:1]
    if start == b"<":
        raise ApiError(f"the response is HTML or XML; wanted {FORMAT_NAMES[format]}, as format says.")
    if start in (b"{", b"["):
        return text.strip()
    return rows_as_list(text, "\t" if format == "tsv" else None, limits.max_records, limits.max_bytes)


def _lines(text: bytes, limits: BodyLimits, *, is_declared: bool) -> bytes:
    """JSON lines; a JSON list where that is what came in spite of the sync's format."""
    if text[:1] == b"[" and not is_json_lines(text):
        return text
    if not is_declared and _is_error(text):
        raise ApiError("the response is one object with an error, and no JSON lines.")
    return lines_as_list(text, limits.max_records)


class _ErrorObject(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")
    errors: msgspec.Raw = msgspec.Raw(b"null")


_error_object = msgspec.json.Decoder(_ErrorObject).decode


def _is_error(text: bytes) -> bool:
    """Whether all of the text is one object that holds an error."""
    try:
        value = _error_object(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return {bytes(value.error), bytes(value.errors)} != {b"null"}
