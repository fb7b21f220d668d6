"""A response body becomes records: each one's own JSON text, its key and its hashes.

Nothing is decoded that need not be. A body is cut into the records' own bytes; their hash alone tells most of
them unchanged. A page that holds one unreadable record is cut again by a tolerant splitter, so that this record
costs only itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from .errors import ApiError, RecordRejected
from .paths import MISSING, Step, dig, follow, parse

MAX_KEY_BYTES = 1024
_LONGEST_INT = 4000  # digits; Python refuses to convert longer texts to int


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
    _fields: dict[str, msgspec.Raw] = field(default_factory=dict)

    def dig(self, path: str) -> Any:
        """The value at `path` in the response, or MISSING."""
        first, *rest = (path,) if path in self._fields else parse(path)
        if first not in self._fields:
            return MISSING
        return follow(decode(bytes(self._fields[str(first)])), rest)

    def dig_last(self, path: str) -> Any:
        """The value at `path` in the last record, or MISSING."""
        return dig(decode(self.records[-1]), path) if self.records else MISSING


# --- from a body to records -------------------------------------------------------------------------------------

_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items_of = msgspec.json.Decoder(list[msgspec.Raw]).decode


def read(body: bytes, response_path: str | None) -> Envelope:
    """Cut `body` into records: the list at `response_path`, else a list at the root, else the one at "results".

    A record's own text is not looked into: whether it is valid UTF-8 is found out by who decodes it. Raises ApiError
    when there is no JSON, or nothing at the path.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if body[:1] not in (b"{", b"["):
        raise ApiError(_no_json(body))
    try:
        fields: dict[str, msgspec.Raw] = _fields_of(body) if body[:1] == b"{" else {}
        return _envelope(_descend(body, fields, response_path, _fields_of), fields)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_tolerantly(body, response_path)


def _envelope(found: bytes, fields: dict[str, msgspec.Raw]) -> Envelope:
    if found[:1] == b"[":
        return Envelope([bytes(raw) for raw in _items_of(found)], [], fields)
    if found == b"null":
        return Envelope([], [], fields)
    return Envelope([found], [], fields)  # one object, or one scalar, is one record


def _descend(
    body: bytes,
    fields: dict[str, msgspec.Raw],
    response_path: str | None,
    fields_of: Callable[[bytes], dict[str, msgspec.Raw]],
) -> bytes:
    """The text of the value at the path."""
    if response_path is None and body[:1] == b"[":
        return body
    here: bytes = body
    names: Sequence[str] = [str(step) for step in parse(response_path or "results")]
    for depth, name in enumerate(names):
        inside = fields if depth == 0 else _fields_or_items(here, fields_of)
        if name not in inside:
            raise ApiError(_nothing_there(response_path, inside, here))
        here = bytes(inside[name])
    return here


def _fields_or_items(text: bytes, fields_of: Callable[[bytes], dict[str, msgspec.Raw]]) -> dict[str, msgspec.Raw]:
    if text[:1] == b"{":
        return fields_of(text)
    if text[:1] == b"[":
        return {str(index): item for index, item in enumerate(_items_of(text))}
    return {}


def _nothing_there(response_path: str | None, inside: dict[str, msgspec.Raw], text: bytes) -> str:
    if inside:
        have = ", ".join(f'"{name}"' for name in list(inside)[:20])
    else:
        have = {b"[": "a list", b"{": "an empty object"}.get(text[:1], "no object")
    if response_path is None:
        return f'no records: response_path is not set and there is no "results"; the response has {have}.'
    return f'nothing at response_path "{response_path}"; the response has {have}.'


# --- the tolerant splitter --------------------------------------------------------------------------------------

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRUCTURE = re.compile(rb"[\[\]{}]|" + _STRING, re.DOTALL)
_SCALAR = re.compile(_STRING + rb"|[^\s,:\[\]{}\"]+", re.DOTALL)
_BLANK = re.compile(rb"[\s,:]*")


def _read_tolerantly(body: bytes, response_path: str | None) -> Envelope:
    try:
        fields = _split_object(body) if body[:1] == b"{" else {}
        found = _descend(body, fields, response_path, _split_object)
        texts = list(_split(found)) if found[:1] == b"[" else [found]
    except _Truncated:
        raise ApiError("the response is no complete JSON; it ends too early or is malformed.") from None
    page = Envelope([], [], fields)
    for position, text in enumerate(texts):
        try:
            decode(text)
            page.records.append(text)
        except RecordRejected as reason:
            page.rejected.append(Rejected(position, str(reason)))
    return page


def _no_json(body: bytes) -> str:
    if not body:
        return "the response is empty; wanted JSON."
    if body[:1] == b"<":
        return "the response is HTML or XML; wanted JSON."
    return "the response is no JSON object or list."


class _Truncated(Exception):
    pass


def _split_object(text: bytes) -> dict[str, msgspec.Raw]:
    parts = list(_split(text))
    if len(parts) % 2:
        raise _Truncated
    try:
        names = [json.loads(part) for part in parts[::2]]
    except ValueError:
        raise _Truncated from None
    return {str(name): msgspec.Raw(value) for name, value in zip(names, parts[1::2], strict=True)}


def _split(text: bytes) -> Iterator[bytes]:
    """The values directly inside an object or list, keys included, by brackets and quotes alone."""
    closing = {b"{": b"}", b"[": b"]"}[text[:1]]
    at = _skip_blank(text, 1)
    while text[at : at + 1] != closing:
        end = _end_of_value(text, at)
        yield text[at:end]
        at = _skip_blank(text, end)
    if text[at + 1 :].strip():
        raise _Truncated


def _skip_blank(text: bytes, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _end_of_value(text: bytes, at: int) -> int:
    if text[at : at + 1] not in (b"{", b"["):
        scalar = _SCALAR.match(text, at)
        if scalar is None:
            raise _Truncated
        return scalar.end()
    depth = 0
    for token in _STRUCTURE.finditer(text, at):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token.group()[:1], 0)
        if depth == 0:
            return token.end()
    raise _Truncated


# --- decoding, keys, hashes -------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def decode(record: bytes) -> Any:
    """The record as Python values; numbers are int or Decimal, never a float.

    Raises RecordRejected where the text is no JSON that a database stores.

    >>> decode(b'{"price": 1.10, "n": 123456789012345678901}')
    {'price': Decimal('1.10'), 'n': 123456789012345678901}
    """
    try:
        return _decode(record)
    except UnicodeDecodeError:
        raise RecordRejected("it is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _decode_tolerantly(record)


def _decode_tolerantly(record: bytes) -> Any:
    """What Python's own parser accepts beyond msgspec: lone surrogates, and numbers of thousands of digits."""
    try:
        text = record.decode()
        return json.loads(text, parse_float=Decimal, parse_int=_int_or_decimal, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RecordRejected("it is not valid UTF-8") from None
    except RecursionError:
        raise RecordRejected("it is nested too deeply") from None
    except ValueError as error:
        raise RecordRejected(f"it is no valid JSON: {error}") from None


def _int_or_decimal(text: str) -> int | Decimal:
    return int(text) if len(text) < _LONGEST_INT else Decimal(text)


def _no_number(text: str) -> Any:
    raise RecordRejected(f"{text} is no JSON number")


def encode(record: Any) -> bytes:
    """A Python value as compact JSON text, as a script or an asset hands it in.

    >>> encode({"id": 1, "price": Decimal("1.10")})
    b'{"id":1,"price":1.10}'
    """
    try:
        return _encode(record)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise RecordRejected(f"it cannot be written as JSON: {error}") from None


def byte_hash(record: bytes) -> bytes:
    """16 bytes that change whenever a byte of the record's text does."""
    return blake2b(record, digest_size=16).digest()


def content_hash(value: Any, ignore_fields: Sequence[str] = ()) -> bytes:
    """16 bytes that change when the content does: not with the order of the fields, nor with an ignored one.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    >>> content_hash({"a": 1, "seen": 5}, ["seen"]) == content_hash({"a": 1, "seen": 6}, ["seen"])
    True
    """
    for path in ignore_fields:
        value = _without(value, parse(path))
    try:
        text = _encode_sorted(value)
    except (
        UnicodeEncodeError,
        ValueError,
        RecursionError,
    ):  # lone surrogates, numbers of thousands of digits
        text = json.dumps(value, sort_keys=True, default=str).encode()
    return blake2b(text, digest_size=16).digest()


def _without(value: Any, steps: Sequence[Step]) -> Any:
    """A copy of `value` without the field at `steps`."""
    step, rest = steps[0], steps[1:]
    if isinstance(value, dict) and step in value:
        if not rest:
            return {key: item for key, item in value.items() if key != step}
        return {**value, step: _without(value[step], rest)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value) and rest:
        return [*value[:step], _without(value[step], rest), *value[step + 1 :]]
    return value


KeyReader = Callable[[Sequence[bytes]], "list[str | RecordRejected]"]


def key_reader(unique_key: str) -> KeyReader:
    """A function that reads the keys of many records at once; a record without one gets the reason instead.

    >>> read_keys = key_reader("profile.email")
    >>> read_keys([b'{"profile": {"email": "a@b.c"}}', b'{"profile": null}'])
    ['a@b.c', RecordRejected('unique_key "profile.email" is missing')]
    """
    steps = parse(unique_key)
    many, one = _key_decoders(steps)

    def read_keys(records: Sequence[bytes]) -> list[str | RecordRejected]:
        try:
            found = [_leaf(shape, len(steps)) for shape in many(b"[" + b",".join(records) + b"]")]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = [_one_key(record, one, steps) for record in records]
        return [_key_text(token, unique_key) for token in found]

    return read_keys


def _key_decoders(steps: Sequence[Step]) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """Decoders of just the key: of a list of records, and of one."""
    shape: Any = msgspec.Raw
    default: Any = msgspec.Raw()
    for step in reversed(steps):
        shape = msgspec.defstruct("Key", [("step", shape, default)], rename={"step": str(step)}) | None
        default = None
    return msgspec.json.Decoder(list[shape]).decode, msgspec.json.Decoder(shape).decode


def _leaf(shape: Any, depth: int) -> bytes:
    for _ in range(depth):
        if shape is None:
            return b""
        shape = shape.step
    return bytes(shape)


def _one_key(record: bytes, one: Callable[[bytes], Any], steps: Sequence[Step]) -> bytes:
    """The key's JSON text, also where the path indexes a list or the record is no object."""
    try:
        return _leaf(one(record), len(steps))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            value = follow(decode(record), steps)
            return b"" if value is MISSING else json.dumps(value, sort_keys=True, default=str).encode()
        except RecordRejected:
            return b""


def _key_text(token: bytes, unique_key: str) -> str | RecordRejected:
    if token in (b"", b"null"):
        return RecordRejected(
            f'unique_key "{unique_key}" is missing' if not token else f'unique_key "{unique_key}" is null'
        )
    try:
        text = _text_of(token)
        if len(text.encode()) > MAX_KEY_BYTES:
            return RecordRejected(f'unique_key "{unique_key}" is longer than {MAX_KEY_BYTES:,} bytes')
    except (UnicodeError, RecordRejected):
        return RecordRejected(f'unique_key "{unique_key}" is not valid text')
    if not text:
        return RecordRejected(f'unique_key "{unique_key}" is empty')
    if "\x00" in text:
        return RecordRejected(f'unique_key "{unique_key}" contains a NUL character')
    return text


def _text_of(token: bytes) -> str:
    if token[:1] == b'"':
        return token[1:-1].decode() if b"\\" not in token else str(json.loads(token))
    if token[:1] in (b"{", b"["):
        return bytes(_encode_sorted(decode(token))).decode()
    return token.decode()
