"""Partial records: fields that are merged into what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records import decode, encode


def merged(stored: bytes, change: bytes) -> bytes:
    """The stored record with the change's fields: objects are merged, lists and plain values replaced.

    >>> merged(b'{"id": 1, "tags": ["a"], "owner": {"name": "Ada", "age": 36}}', b'{"tags": [], "owner": {"age": 37}}')
    b'{"id":1,"tags":[],"owner":{"name":"Ada","age":37}}'

    Raises RecordRejected where one of them cannot be decoded.
    """
    return encode(_merged(decode(stored), decode(change)))


def _merged(stored: Any, change: Any) -> Any:
    if not isinstance(stored, Mapping) or not isinstance(change, Mapping):
        return change
    return {**stored, **{name: _merged(stored.get(name), value) for name, value in change.items()}}
