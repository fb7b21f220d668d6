"""A record's JSON text as Python values, and back."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from ..bodies import MAX_VALUES, check_values
from ..errors import RecordRejected

_LONGEST_INT = 4000  # digits; Python refuses to convert longer texts to int
TOO_DEEP = "it is nested too deeply"
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=lambda value: _as_plain(value)).encode


def decode(record: bytes) -> Any:
    """The record as Python values; numbers are int or Decimal, never a float.

    Raises RecordRejected where the text is no JSON that a database stores.

    >>> decode(b'{"price": 1.10, "n": 123456789012345678901}')
    {'price': Decimal('1.10'), 'n': 123456789012345678901}
    """
    if len(record) > MAX_VALUES:
        check_values(record)
    try:
        return _decode(record)
    except UnicodeDecodeError:
        raise RecordRejected("it is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError, ValueError, ArithmeticError):
        return _decode_tolerantly(record)


def _decode_tolerantly(record: bytes) -> Any:
    """The record by Python's parser, which also accepts lone surrogates and numbers of thousands of digits."""
    try:
        text = record.decode()
        return json.loads(text, parse_float=Decimal, parse_int=_int_or_decimal, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RecordRejected("it is not valid UTF-8") from None
    except RecursionError:
        raise RecordRejected(TOO_DEEP) from None
    except ArithmeticError:
        raise RecordRejected("it holds a number that is too large to be read") from None
    except ValueError as error:
        raise RecordRejected(f"it is no valid JSON: {error}") from None


def _int_or_decimal(text: str) -> int | Decimal:
    return int(text) if len(text) < _LONGEST_INT else Decimal(text)


def _no_number(text: str) -> Any:
    raise RecordRejected(f"{text} is no JSON number")


def encode(record: Any) -> bytes:
    """A Python value of a script or an asset as compact JSON text.

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
    """A value of pandas or numpy as a JSON value; neither of them has to be installed."""
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
    """Whether the record is valid UTF-8."""
    try:
        return record.isascii() or bool(record.decode())
    except UnicodeDecodeError:
        return False
