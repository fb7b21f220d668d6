"""Hashes of records: of their bytes, and of their content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import msgspec

from ..errors import RecordRejected
from ..paths import Step, ways
from .decoding import TOO_DEEP, decode

encode_sorted = msgspec.json.Encoder(decimal_format="number", order="sorted").encode


def byte_hash(record: bytes) -> bytes:
    """A hash of 16 bytes of the record's text."""
    return blake2b(record, digest_size=16).digest()


def content_hash(value: Any, ignore_fields: Sequence[str] = ()) -> bytes:
    """A hash of 16 bytes of the content; neither the order of the fields nor an ignored field changes it.

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
        text = encode_sorted(value)
    except (ValueError, RecursionError):  # lone surrogates, numbers of thousands of digits
        text = _dump_sorted(value)
    return blake2b(text, digest_size=16).digest()


def content_hash_of(record: bytes, ignore_fields: Sequence[str] = ()) -> bytes:
    """The `content_hash` of a record's text, or the hash of its bytes where it is nested too deeply."""
    try:
        return content_hash(decode(record), ignore_fields)
    except RecordRejected:
        return byte_hash(record)


_ways_of = lru_cache(ways)  # needed again for every record


def _dump_sorted(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, default=lambda number: {"decimal": str(number)}).encode()
    except RecursionError:
        raise RecordRejected(TOO_DEEP) from None


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
