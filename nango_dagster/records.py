"""A response body becomes records: each one's own JSON text, its key and its hashes.

Nothing is decoded that need not be. A body is cut into the records' own bytes; their hash alone tells most of
them unchanged. A page that holds one unreadable record is cut again by a tolerant splitter, so that this record
costs only itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from .errors import ApiError, RecordRejected
from .paths import MISSING, Step, parse, ways

MAX_KEY_BYTES = 1024
_LONGEST_INT = 4000  # digits; Python refuses to convert longer texts to int


Fields = Mapping[str, msgspec.Raw]
"""The fields of an object, or the items of a list by their index, as the text that they are."""


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
        return _dig(_inside(self.records[-1]), path) if self.records else MISSING


def _dig(fields: Fields, path: str) -> Any:
    """Only the value itself is decoded, nothing on the way to it."""
    first, *rest = (path,) if path in fields else parse(path)
    if str(first) not in fields:
        return MISSING
    try:
        text = _text_at(bytes(fields[str(first)]), rest)
        return MISSING if text is None else decode(text)
    except (RecordRejected, _Malformed) as reason:
        raise ApiError(f'the value at "{path}" in the response cannot be read: {reason}.') from None


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
        fields = _inside(body) if body[:1] == b"{" else {}
        found = body if response_path is None and body[:1] == b"[" else _descend(body, fields, response_path)
        if found == b"null" and (instead := _errors_instead(fields)):
            raise ApiError(instead)
        return _envelope(found, fields)
    except _Malformed as reason:
        raise ApiError(f"the response is no complete JSON: {reason}.") from None


def _envelope(found: bytes, fields: Fields) -> Envelope:
    if found == b"null":
        return Envelope([], [], fields)
    try:
        if found[:1] == b"[":
            return Envelope([bytes(raw) for raw in _items_of(found)], [], fields)
        texts = iter([found])  # one object, or one scalar, is one record
    except _NOT_STRICT:
        texts = _split(found)
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
    here, inside = body, fields or _inside(body)
    for depth, step in enumerate((path,) if path in inside else parse(path)):
        inside = inside if depth == 0 else _inside(here)
        if str(step) not in inside:
            raise ApiError(_errors_instead(fields) or _nothing_there(response_path, inside, here))
        here = bytes(inside[str(step)])
    return here


def _text_at(text: bytes, steps: Sequence[Step]) -> bytes | None:
    """The text of the value at the steps of a path, or None."""
    for step in steps:
        inside = _inside(text)
        if str(step) not in inside:
            return None
        text = bytes(inside[str(step)])
    return text


def _inside(text: bytes) -> Fields:
    """What is directly inside an object or a list; nothing is inside anything else."""
    try:
        if text[:1] == b"{":
            return _fields_of(text)
        return _by_index(_items_of(text)) if text[:1] == b"[" else {}
    except _NOT_STRICT:
        return _split_object(text) if text[:1] == b"{" else _by_index(map(msgspec.Raw, _split(text)))


def _by_index(items: Iterable[msgspec.Raw]) -> Fields:
    return {str(index): item for index, item in enumerate(items)}


def _errors_instead(fields: Fields) -> str | None:
    """What the API says in place of a list, as GraphQL does with the status 200."""
    text = bytes(fields.get("errors", b""))
    first = _text_at(text, [0]) if text[:1] == b"[" else None
    if first is None:
        return None
    message = _text_at(first, ["message"]) or first
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
        return (_listed(_inside(record)) if record[:1] == b"{" else "") or "no fields"
    except _Malformed:
        return "no fields"


def _listed(inside: Fields) -> str:
    return ", ".join(f'"{name}"' for name in list(inside)[:20])


def _no_json(body: bytes) -> str:
    if not body:
        return "the response is empty; wanted JSON."
    if body[:1] == b"<":
        return "the response is HTML or XML; wanted JSON."
    return "the response is no JSON object or list."


def with_fields(record: bytes, fields: Mapping[str, bytes]) -> bytes:
    """An object's text with these fields in the place of its own, or behind them; all else stays byte by byte.

    >>> with_fields(b'{"id": 7, "price": 1.10}', {"id": b'"a"', "seen": b"true"})
    b'{"id":"a","price":1.10,"seen":true}'
    """
    own = {name: bytes(value) for name, value in _inside(record).items()}
    members = (json.dumps(name).encode() + b":" + value for name, value in {**own, **fields}.items())
    return b"{" + b",".join(members) + b"}"


# --- the tolerant splitter --------------------------------------------------------------------------------------

_NOT_STRICT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*'
# A string without its end reaches to the end of the text, so that looking for the end costs once.
_SIGN = re.compile(rb"[\[\]{},]|" + _STRING + rb'"?', re.DOTALL)
_MEMBER = re.compile(rb"(" + _STRING + rb'")\s*:\s*(.+)', re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


class _Malformed(Exception):
    """The text ends too early, or its brackets and quotes do not match."""


def _split(text: bytes) -> Iterator[bytes]:
    """The texts between the commas of an object or list, told by brackets and quotes alone."""
    depth, start = 0, 1
    for sign in _SIGN.finditer(text):
        depth += _DEPTH.get(sign.group(), 0)
        if depth == 0:
            break
        if depth == 1 and sign.group() == b",":
            yield text[start : sign.start()].strip()
            start = sign.end()
    else:
        raise _Malformed("it ends too early")
    if sign.group() != {b"{": b"}", b"[": b"]"}[text[:1]] or text[sign.end() :].strip():
        raise _Malformed("its brackets or quotes do not match")
    last = text[start : sign.start()].strip()
    if last or start > 1:
        yield last


def _split_object(text: bytes) -> Fields:
    fields = {}
    for part in _split(text):
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise _Malformed("a field has no name or no value")
        fields[_name(member[1])] = msgspec.Raw(member[2])
    return fields


def _name(token: bytes) -> str:
    try:
        return str(json.loads(token.decode(errors="replace"), strict=False))
    except ValueError:
        raise _Malformed("a field's name cannot be read") from None


# --- decoding, keys, hashes -------------------------------------------------------------------------------------

_TOO_DEEP = "it is nested too deeply"
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode
_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=lambda value: _as_plain(value)).encode


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
    except (msgspec.DecodeError, RecursionError, ValueError, ArithmeticError):
        return _decode_tolerantly(record)


def _decode_tolerantly(record: bytes) -> Any:
    """What Python's own parser accepts beyond msgspec: lone surrogates, and numbers of thousands of digits."""
    try:
        text = record.decode()
        return json.loads(text, parse_float=Decimal, parse_int=_int_or_decimal, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RecordRejected("it is not valid UTF-8") from None
    except RecursionError:
        raise RecordRejected(_TOO_DEEP) from None
    except ArithmeticError:
        raise RecordRejected("it holds a number that is too large to be read") from None
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
        text: bytes = _encode(record)
        if b"NaN" in text or b"Infinity" in text:  # a Decimal that is one of these is written like that
            _is_json(text)
        return text
    except (TypeError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError) as error:
        raise RecordRejected(f"it cannot be written as JSON: {error}") from None


def _as_plain(value: Any) -> Any:
    """A value of pandas or numpy as one that JSON has; they need not be installed for that."""
    kind = type(value).__name__
    if kind in ("NaTType", "NAType") or (kind == "datetime64" and str(value) == "NaT"):
        return None
    if kind == "datetime64":
        return str(value)
    for method in ("isoformat", "tolist"):  # Timestamp and Timedelta; numpy's numbers and arrays
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError(f"objects of type {type(value).__name__} have no form in JSON")


def is_utf8(record: bytes) -> bool:
    """Whether the record is text at all."""
    try:
        return record.isascii() or bool(record.decode())
    except UnicodeDecodeError:
        return False


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
        means = _ways_of(path)
        is_key = isinstance(value, dict) and means[0][0] in value
        value = _without(value, means[0 if is_key else -1])
    try:
        text = _encode_sorted(value)
    except (ValueError, RecursionError):  # lone surrogates, numbers of thousands of digits
        text = _dump_sorted(value)
    return blake2b(text, digest_size=16).digest()


def content_hash_of(record: bytes, ignore_fields: Sequence[str] = ()) -> bytes:
    """The same of a record's text; of its bytes where it is too deep to look inside."""
    try:
        return content_hash(decode(record), ignore_fields)
    except RecordRejected:
        return byte_hash(record)


_ways_of = lru_cache(ways)  # asked for again with every record


def _dump_sorted(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, default=lambda number: {"decimal": str(number)}).encode()
    except RecursionError:
        raise RecordRejected(_TOO_DEEP) from None


def _without(value: Any, steps: Sequence[Step]) -> Any:
    """A copy of `value` without the field at `steps`; a key inside a list means that of every item."""
    step, rest = str(steps[0]), steps[1:]
    if isinstance(value, dict):
        if step not in value:
            return value
        if rest:
            return {**value, step: _without(value[step], rest)}
        return {key: item for key, item in value.items() if key != step}
    if isinstance(value, list):
        if not step.isdecimal():
            return [_without(item, steps) for item in value]
        items = enumerate(value)
        return [_without(item, rest) if at == int(step) else item for at, item in items if rest or at != int(step)]
    return value


KeyReader = Callable[[Sequence[bytes]], "list[str | RecordRejected]"]


def key_reader(unique_key: str) -> KeyReader:
    """A function that reads the keys of many records at once; a record without one gets the reason instead.

    >>> read_keys = key_reader("profile.email")
    >>> read_keys([b'{"profile": {"email": "a@b.c"}}', b'{"profile": null}'])
    ['a@b.c', RecordRejected('unique_key "profile.email" is missing')]
    """
    means = ways(unique_key)
    shapes = _key_shapes(means)
    leaf = _leaf if len(means) == 1 else _whole_or_leaf
    depth = len(means[-1])

    def read_keys(records: Sequence[bytes]) -> list[str | RecordRejected]:
        try:
            found = [leaf(shape, depth) for shape in shapes(b"[" + b",".join(records) + b"]")]
        except _NOT_STRICT:
            found = [_one_key(record, means) for record in records]
        return [_key_text(token, unique_key) for token in found]

    return read_keys


def _key_shapes(means: Sequence[Sequence[Step]]) -> Callable[[bytes], list[Any]]:
    """A decoder of a list of records that makes just their keys."""
    *whole, steps = means
    shape: Any = msgspec.Raw
    default: Any = msgspec.Raw()
    try:
        for step in reversed(steps[1:]):
            shape, default = _shape(step=(step, shape, default)), None
        fields = {"step": (steps[0], shape, default)}
        if whole:
            fields["whole"] = (whole[0][0], msgspec.Raw, msgspec.Raw())
        shape = _shape(**fields)
    except ValueError:  # msgspec takes no name with a quote or a backslash in it
        return _refuse
    return msgspec.json.Decoder(list[shape]).decode


def _shape(**fields: tuple[Step, Any, Any]) -> Any:
    """A type of objects with these fields, or null; each has its name in JSON, its type and its default."""
    own = [(name, shape, default) for name, (_, shape, default) in fields.items()]
    return msgspec.defstruct("Key", own, rename={name: str(step) for name, (step, _, _) in fields.items()}) | None


def _refuse(records: bytes) -> list[Any]:
    raise msgspec.DecodeError


def _leaf(shape: Any, depth: int) -> bytes:
    for _ in range(depth):
        if shape is None:
            return b""
        shape = shape.step
    return bytes(shape)


def _whole_or_leaf(shape: Any, depth: int) -> bytes:
    return (shape is not None and bytes(shape.whole)) or _leaf(shape, depth)


def _one_key(record: bytes, means: Sequence[Sequence[Step]]) -> bytes:
    """The key's JSON text, also where the path indexes a list or the record is no object."""
    try:
        inside = _inside(record)
        first, *rest = means[0 if str(means[0][0]) in inside else -1]
        return (str(first) in inside and _text_at(bytes(inside[str(first)]), rest)) or b""
    except _Malformed:
        return b""


def _key_text(token: bytes, unique_key: str) -> str | RecordRejected:
    reason = {b"": "is missing", b"null": "is null", b'""': "is empty"}.get(token)
    if reason is None:
        try:
            text = _text_of(token)
            if len(text.encode()) <= MAX_KEY_BYTES and "\x00" not in text:
                return text
            reason = "contains a NUL character" if "\x00" in text else f"is longer than {MAX_KEY_BYTES:,} bytes"
        except (ValueError, RecursionError, RecordRejected):
            reason = "is not valid text"
    return RecordRejected(f'unique_key "{unique_key}" {reason}')


def _text_of(token: bytes) -> str:
    if token[:1] == b'"':
        return token[1:-1].decode() if b"\\" not in token else str(json.loads(token))
    if token[:1] in (b"{", b"["):
        return bytes(_encode_sorted(decode(token))).decode()
    return token.decode()
