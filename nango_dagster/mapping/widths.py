"""The limit on the width of a row: in PostgreSQL it must fit one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from .plan import Column
from .types import Type

MAX_ROW_BYTES = 7800  # of a page's 8 kB
SURELY_FIT = 300  # values of at most 25 bytes each


def narrow(row: list[Any], columns: Sequence[Column], nothing: Any, max_bytes: int, misfits: Counter[str]) -> None:
    """Replace the values that exceed `max_bytes` together with those before them by `nothing`, and count them."""
    width = 0
    for at, value in enumerate(row):
        if value is nothing:
            continue
        size = _stored_bytes(value, columns[at].type, width)
        if width + size <= max_bytes:
            width += size
        else:
            row[at] = nothing
            misfits[columns[at].name] += 1


def _stored_bytes(value: Any, type_: Type, before: int) -> int:
    """The bytes of a value in a PostgreSQL row after `before` others; measured, see docs/explanation/decisions.md."""
    if type_ is Type.BOOLEAN:
        return 1
    if type_ is Type.TIMESTAMP:
        return -before % 8 + 8
    if type_ is Type.NUMBER:
        return len(value) // 2 + 8
    length = len(value.encode())
    return length + 1 if length <= 24 else 18
