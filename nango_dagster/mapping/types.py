"""The type that a new column gets."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from typing import Any

from ..timestamps import parse_timestamp


class Type(str, Enum):
    """The types of columns, with the names that `mapping:` accepts."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    TIMESTAMP = "timestamp"


def infer(values: Iterable[Any]) -> Type:
    """The type of a new column from the first values seen: the first one decides, strings only together.

    `false` and `""` decide only where there is nothing else: many APIs send them in place of a value.

    >>> infer([23, 182, "nango is great"]).value, infer(["2024-01-15", "soon"]).value, infer([False, "", 12.5]).value
    ('number', 'string', 'number')
    """
    seen = list(values)
    decisive = [value for value in seen if value is not False and value != ""] or seen
    first = decisive[0]
    if isinstance(first, bool):
        return Type.BOOLEAN
    if isinstance(first, (int, Decimal, float)):
        return Type.NUMBER
    strings = [value for value in decisive if isinstance(value, str)]
    return Type.TIMESTAMP if all(parse_timestamp(value) for value in strings) else Type.STRING
