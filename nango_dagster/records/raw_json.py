"""JSON text cut into its parts without decoding them, also where some of it cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from ..bodies import MAX_MEMBERS, check_members, check_records
from ..paths import Step

Fields = Mapping[str, msgspec.Raw]
"""The fields of an object, or the items of a list by their index, as the text that they are."""

_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items_of = msgspec.json.Decoder(list[msgspec.Raw]).decode


def text_at(text: bytes, steps: Sequence[Step]) -> bytes | None:
    """The text of the value at the steps of a path, or None."""
    for step in steps:
        inside = parts_of(text, str(step))
        if str(step) not in inside:
            return None
        text = bytes(inside[str(step)])
    return text


def items_of(text: bytes, most: int = MAX_MEMBERS) -> list[msgspec.Raw]:
    """The items of a list. Raises one of NOT_STRICT, and ApiError where there are more than `most`."""
    check_members(text, most)
    items = _items_of(text)
    check_records(len(items), most)
    return items


def parts_of(text: bytes, likely: str | None = None) -> Fields:
    """The members of an object or a list by their names or indexes; a scalar has none.

    `likely` names the field that holds most of a large object. Raises ApiError for more than MAX_MEMBERS members.
    """
    if len(text) > MAX_MEMBERS and text[:1] == b"{":
        check_members(text, likely=likely)
    try:
        if text[:1] == b"{":
            return _fields_of(text)
        return _by_index(items_of(text)) if text[:1] == b"[" else {}
    except NOT_STRICT:
        return _split_object(text) if text[:1] == b"{" else _by_index(map(msgspec.Raw, split(text)))


def _by_index(items: Iterable[msgspec.Raw]) -> Fields:
    return {str(index): item for index, item in enumerate(items)}


def with_fields(record: bytes, fields: Mapping[str, bytes]) -> bytes:
    """An object's text with fields replaced or added; all other fields keep their bytes.

    >>> with_fields(b'{"id": 7, "price": 1.10}', {"id": b'"a"', "seen": b"true"})
    b'{"id":"a","price":1.10,"seen":true}'
    """
    own = {name: bytes(value) for name, value in parts_of(record).items()}
    members = (json.dumps(name).encode() + b":" + value for name, value in {**own, **fields}.items())
    return b"{" + b",".join(members) + b"}"


# --- the tolerant splitter --------------------------------------------------------------------------------------

NOT_STRICT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*'
# A string without its end reaches to the end of the text, so that looking for the end costs once.
_SIGN = re.compile(rb"[\[\]{},]|" + _STRING + rb'"?', re.DOTALL)
_MEMBER = re.compile(rb"(" + _STRING + rb'")\s*:\s*(.+)', re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


class Malformed(Exception):
    """The text ends too early, or its brackets and quotes do not match."""


def split(text: bytes) -> Iterator[bytes]:
    """The texts between the commas of an object or list; only brackets and quotes are read."""
    depth, start = 0, 1
    for sign in _SIGN.finditer(text):
        depth += _DEPTH.get(sign.group(), 0)
        if depth == 0:
            break
        if depth == 1 and sign.group() == b",":
            yield text[start : sign.start()].strip()
            start = sign.end()
    else:
        raise Malformed("it ends too early")
    if sign.group() != {b"{": b"}", b"[": b"]"}[text[:1]] or text[sign.end() :].strip():
        raise Malformed("its brackets or quotes do not match")
    last = text[start : sign.start()].strip()
    if last or start > 1:
        yield last


def _split_object(text: bytes) -> Fields:
    fields = {}
    for part in split(text):
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise Malformed("a field has no name or no value")
        fields[_name(member[1])] = msgspec.Raw(member[2])
    return fields


def _name(token: bytes) -> str:
    try:
        return str(json.loads(token.decode(errors="replace"), strict=False))
    except ValueError:
        raise Malformed("a field's name cannot be read") from None
