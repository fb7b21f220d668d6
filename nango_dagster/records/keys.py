"""The keys that tell records apart, read from many records at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ..errors import RecordRejected
from ..paths import Step, ways
from .decoding import decode
from .hashes import encode_sorted
from .raw_json import NOT_STRICT, Malformed, parts_of, text_at

MAX_KEY_BYTES = 1024

NUMBER_AS_TEXT = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", re.ASCII).fullmatch
"""Matches the text that a number has as a key."""
_MOST_DIGITS = 400  # of a number that is written out


class QuotedKey(str):
    """A key that is a text and looks like a number: "1" is another key than 1, and has the same text."""


KeyReader = Callable[[Sequence[bytes]], "list[str | RecordRejected]"]


def key_reader(unique_key: str | Sequence[str]) -> KeyReader:
    """A function that reads the keys of many records at once; a record without one gets the reason instead.

    The key of several fields is a JSON list of their values.

    >>> read_keys = key_reader("profile.email")
    >>> read_keys([b'{"profile": {"email": "a@b.c"}}', b'{"profile": null}'])
    ['a@b.c', RecordRejected('unique_key "profile.email" is missing')]
    >>> key_reader(["ad", "day"])([b'{"ad": 7, "day": "2024-05-01"}', b'{"ad": 7}'])
    ['[7,"2024-05-01"]', RecordRejected('unique_key "day" is missing')]
    """
    paths = [unique_key] if isinstance(unique_key, str) else list(unique_key)
    readers = [token_reader(path) for path in paths]

    def read_keys(records: Sequence[bytes]) -> list[str | RecordRejected]:
        tokens = [read(records) for read in readers]
        if len(paths) == 1:
            return [_key_text(token, paths[0]) for token in tokens[0]]
        return [_composed(row, paths) for row in zip(*tokens, strict=True)]

    return read_keys


def _composed(tokens: Sequence[bytes], paths: Sequence[str]) -> str | RecordRejected:
    """The key of several values: a JSON list, so that no two lists of values have the same key."""
    parts = []
    for token, path in zip(tokens, paths, strict=True):
        text = _key_text(token, path)
        if isinstance(text, RecordRejected):
            return text
        parts.append(token if token[:1] in (b'"', b"{", b"[") else text.encode())
    return _key_text(b"[" + b",".join(parts) + b"]", ", ".join(paths))


def token_reader(path: str) -> Callable[[Sequence[bytes]], list[bytes]]:
    """A function that reads the JSON texts of one field of many records; empty where it is missing."""
    means = ways(path)
    shapes = _key_shapes(means)
    leaf = _leaf if len(means) == 1 else _whole_or_leaf
    depth = len(means[-1])

    def read_tokens(records: Sequence[bytes]) -> list[bytes]:
        try:
            return [leaf(shape, depth) for shape in shapes(b"[" + b",".join(records) + b"]")]
        except NOT_STRICT:
            return [_one_key(record, means) for record in records]

    return read_tokens


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
        inside = parts_of(record)
        first, *rest = means[0 if str(means[0][0]) in inside else -1]
        return (str(first) in inside and text_at(bytes(inside[str(first)]), rest)) or b""
    except Malformed:
        return b""


_IDS = frozenset({"id", "_id", "uuid", "guid"})


def has_id(record: bytes) -> bool:
    """Whether a record has a field that usually identifies it, in any case, so that equal records are the same one.

    >>> has_id(b'{"ID": 7}'), has_id(b'{"value": 7}'), has_id(b'{"id": null}')
    (True, False, False)
    """
    try:
        fields = parts_of(record)
    except Malformed:
        return False
    return any(name.lower() in _IDS and bytes(text)[:1] not in (b"n", b"{", b"[", b"") for name, text in fields.items())


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
        text = token[1:-1].decode() if b"\\" not in token else str(json.loads(token))
        return QuotedKey(text) if NUMBER_AS_TEXT(text) else text
    if token[:1] in (b"{", b"["):
        return bytes(encode_sorted(decode(token))).decode()
    return token.decode() if token.isdigit() or not token[-1:].isdigit() else _number(token.decode())


def _number(text: str) -> str:
    """A number's one text: 1, 1.0 and 1e0 are the same key.

    >>> _number("1.0"), _number("-2.50"), _number("1e3")
    ('1', '-2.5', '1000')
    """
    try:
        number = Decimal(text)
        if not -_MOST_DIGITS < number.adjusted() < _MOST_DIGITS:
            return text
    except InvalidOperation:  # its exponent has more digits than Python's have
        return text
    digits = f"{number:f}"
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits in ("-0", "") else digits
