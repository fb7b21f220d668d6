"""A response body becomes records: each one's own JSON text.

Nothing is decoded that need not be. A body is cut into the records' own bytes; their hash alone tells most of
them unchanged. A page that holds one unreadable record is cut again by a tolerant splitter, so that this record
costs only itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..bodies import MAX_MEMBERS
from ..errors import ApiError, RecordRejected
from ..paths import MISSING, parse
from .decoding import decode
from .raw_json import NOT_STRICT, Fields, Malformed, items_of, parts_of, split, text_at


@dataclass(frozen=True)
class Rejected:
    """A record that cannot be stored: its place in the page, counted from 0, and why."""

    position: int
    reason: str


@dataclass
class Envelope:
    """One response: the records in it, and whatever else paging wants to read.

    >>> page = read(b'{"results": [{"id": 1}, {"id": 2}], "next": null}', None)
    >>> page.records
    [b'{"id": 1}', b'{"id": 2}']
    >>> page.dig("next") is None, page.dig_last("id")
    (True, 2)
    """

    records: list[bytes]
    rejected: list[Rejected] = field(default_factory=list)
    _fields: Fields = field(default_factory=dict)

    def dig(self, path: str) -> Any:
        """The value at `path` in the response, or MISSING.

        Raises ApiError when the value there cannot be read.
        """
        return _dig(self._fields, path)

    def dig_last(self, path: str) -> Any:
        """The same in the last record."""
        return _dig(parts_of(self.records[-1]), path) if self.records else MISSING


def _dig(fields: Fields, path: str) -> Any:
    """Only the value itself is decoded, nothing on the way to it."""
    first, *rest = (path,) if path in fields else parse(path)
    if str(first) not in fields:
        return MISSING
    try:
        text = text_at(bytes(fields[str(first)]), rest)
        return MISSING if text is None else decode(text)
    except (RecordRejected, Malformed) as reason:
        raise ApiError(f'the value at "{path}" in the response cannot be read: {reason}.') from None


def read(body: bytes, response_path: str | None, max_records: int = MAX_MEMBERS) -> Envelope:
    """Cut `body` into records: the list at `response_path`, else a list at the root, else the one at "results".

    A record's own text is not looked into: whether it is valid UTF-8 is found out by who decodes it. Raises ApiError
    when there is no JSON, nothing at the path, or more than `max_records`.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if body[:1] not in (b"{", b"["):
        raise ApiError(_no_json(body))
    try:
        likely = str(parse(response_path)[0]) if response_path else "results"
        fields = parts_of(body, likely) if body[:1] == b"{" else {}
        found = body if response_path is None and body[:1] == b"[" else _descend(body, fields, response_path)
        if found == b"null" and (instead := _errors_instead(fields)):
            raise ApiError(instead)
        return _envelope(found, fields, max_records)
    except Malformed as reason:
        raise ApiError(f"the response is no complete JSON: {reason}.") from None


def _envelope(found: bytes, fields: Fields, max_records: int) -> Envelope:
    if found == b"null":
        return Envelope([], [], fields)
    try:
        if found[:1] == b"[":
            return Envelope([bytes(raw) for raw in items_of(found, max_records)], [], fields)
        texts = iter([found])  # one object, or one scalar, is one record
    except NOT_STRICT:
        texts = split(found)
    page = Envelope([], [], fields)
    for position, text in enumerate(texts):
        try:
            decode(text)
            page.records.append(text)
        except RecordRejected as reason:
            page.rejected.append(Rejected(position, str(reason)))
    return page


def _descend(body: bytes, fields: Fields, response_path: str | None) -> bytes:
    """The text of the value at the path."""
    path = response_path or "results"
    here, inside = body, fields or parts_of(body)
    for depth, step in enumerate((path,) if path in inside else parse(path)):
        inside = inside if depth == 0 else parts_of(here, str(step))
        if str(step) not in inside:
            raise ApiError(_errors_instead(fields) or _nothing_there(response_path, inside, here))
        here = bytes(inside[str(step)])
    return here


def _errors_instead(fields: Fields) -> str | None:
    """What the API says in place of a list, as GraphQL does with the status 200."""
    text = bytes(fields.get("errors", b""))
    first = text_at(text, [0]) if text[:1] == b"[" else None
    if first is None:
        return None
    message = text_at(first, ["message"]) or first
    try:
        said = decode(message)
    except RecordRejected:
        said = None
    said = said if isinstance(said, str) else message.decode(errors="replace")
    said = "".join(character if character.isprintable() else " " for character in said)
    return f'the response has errors and no records; the first: "{said}".'


def _nothing_there(response_path: str | None, inside: Fields, text: bytes) -> str:
    if text[:1] == b"[":
        have = f"a list of {len(inside):,} there"
    elif inside:
        have = _listed(inside)
    else:
        have = "an empty object there" if text[:1] == b"{" else "no object there"
    if response_path is None:
        return f'no records: response_path is not set and there is no "results"; the response has {have}.'
    return f'nothing at response_path "{response_path}"; the response has {have}.'


def fields_of(record: bytes) -> str:
    """The names of a record's fields, for a sentence.

    >>> fields_of(b'{"id": 7, "name": "x"}'), fields_of(b"7")
    ('"id", "name"', 'no fields')
    """
    try:
        return (_listed(parts_of(record)) if record[:1] == b"{" else "") or "no fields"
    except Malformed:
        return "no fields"


def _listed(inside: Fields) -> str:
    return ", ".join(f'"{name}"' for name in list(inside)[:20])


def _no_json(body: bytes) -> str:
    if not body:
        return "the response is empty; wanted JSON."
    if body[:1] == b"<":
        return "the response is HTML or XML; wanted JSON."
    return "the response is no JSON object or list."
