"""A value becomes what its column holds, exactly, or it is a misfit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..errors import RecordRejected
from ..records import encode
from ..timestamps import parse_timestamp
from .types import Type

MAX_DIGITS = 1000


class Misfit(Exception):
    """A value that its column cannot hold; the row gets NULL there, and the raw record keeps it."""


Convert = Callable[[Any], Any]


def _boolean(value: Any) -> bool:
    if value.__class__ is bool:
        return bool(value)
    raise Misfit


def _number(value: Any) -> int | Decimal:
    if value.__class__ is int:
        if -(10**18) < value < 10**18 or len(str(abs(value))) <= MAX_DIGITS:
            return int(value)
    elif value.__class__ is Decimal:
        _, digits, exponent = value.as_tuple()
        if isinstance(exponent, int) and max(len(digits) + exponent, len(digits), -exponent) <= MAX_DIGITS:
            return Decimal(value)
    raise Misfit


def _string(value: Any) -> Any:
    if value.__class__ is not str or "\x00" in value:
        raise Misfit
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit from None
    return value


def _timestamp(value: Any) -> datetime:
    when = parse_timestamp(value) if value.__class__ is str else None
    if when is None:
        raise Misfit
    return when


def json_text(value: Any) -> str:
    """The text of a value of any type: a string as it is, everything else as JSON.

    >>> json_text("a"), json_text(["a", 1])
    ('a', '["a",1]')
    """
    if value.__class__ is str:
        return str(value)
    try:
        return encode(value).decode()
    except (RecordRejected, UnicodeDecodeError):
        raise Misfit from None


def _copy_string(value: Any) -> Any:
    if value.__class__ is str and value.isprintable() and "\\" not in value:
        return value if value.isascii() else _string(value)
    escaped = _string(value).replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace("\r", "\\r").replace("\t", "\\t")


def _copy_timestamp(value: Any) -> Any:
    when = _timestamp(value)
    return value if len(value) <= 20 else when.isoformat(" ", "microseconds")


def _copy_number(value: Any) -> str:
    if value.__class__ is int and -(10**18) < value < 10**18:
        return str(value)
    return str(_number(value))


def _sqlite_number(value: Any) -> Any:
    if value.__class__ is int and -(2**63) <= value < 2**63:
        return value
    number = _number(value)
    try:
        double = float(number)
    except OverflowError:
        raise Misfit from None
    if double in (float("inf"), float("-inf")):
        raise Misfit
    held = int(double) if isinstance(number, int) else Decimal(repr(double))
    if held != number:
        raise Misfit
    return double


def _sqlite_timestamp(value: Any) -> str:
    return _timestamp(value).isoformat(" ", "microseconds")


# For COPY: the text of a field. For SQLite: the value that its driver binds.
TO_POSTGRESQL: dict[Type, Convert] = {
    Type.BOOLEAN: lambda value: "t" if _boolean(value) else "f",
    Type.NUMBER: _copy_number,
    Type.STRING: _copy_string,
    Type.TIMESTAMP: _copy_timestamp,
}
TO_SQLITE: dict[Type, Convert] = {
    Type.BOOLEAN: _boolean,
    Type.NUMBER: _sqlite_number,
    Type.STRING: _string,
    Type.TIMESTAMP: _sqlite_timestamp,
}
