"""How many members a list or an object has, found out before they are built.

A member costs about 110 bytes of memory however short it is: the text `[0,0,0]` would need 50 times its size. Texts
with few commas are accepted at once; the exact count of others needs one pass without a Python object for each value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from ..errors import ApiError, RecordRejected

MAX_MEMBERS: Final = 100_000
"""Members of any list or object that is opened, where no field of the sync says another limit."""
MAX_VALUES: Final = 300_000
"""Values in one record; 300,000 numbers need about 35 MB."""
_MEMBER_BYTES: Final = 4  # of the shortest member with its comma: `"":0,` has five, `{},` three, `0,` two
_ALWAYS_FEW: Final = 8  # bytes of text for each allowed member; a text without more is accepted at once
_SAFE_ITEM: Final = 16  # bytes a comma: the items of a list need at most seven times the text
_SAFE_FIELD: Final = 24  # the same for the fields of an object, which cost twice as much
_DENSE: Final = 8  # bytes a comma: with more commas the quick pass would need too much memory itself

# Brackets and commas outside of strings. A string without its end reaches to the end of the text.
_SIGN: Final = re.compile(rb'[\[\]{},]|"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OPENING: Final = frozenset({b"{", b"["})
_CLOSING: Final = frozenset({b"}", b"]"})


class _AnyObject(msgspec.Struct, gc=False):
    """An object of which nothing is kept: 16 bytes each."""


_count_objects = msgspec.json.Decoder(list[_AnyObject]).decode


def check_members(text: bytes, most: int = MAX_MEMBERS, likely: str | None = None) -> None:
    """Raise ApiError when a list or an object has more than `most` members, and these could fill the memory.

    A text of few bytes for each allowed member passes, and so does one whose members are long: their memory is bounded.
    `likely` names the field of an object that holds most of it, such as the list of records.

    >>> check_members(b"[0,0,0,0,0]", 1)
    Traceback (most recent call last):
    nango_dagster.errors.ApiError: a page holds more than 1 records; ask for smaller pages, or set max_page_records.
    """
    if len(text) <= _ALWAYS_FEW * most:
        return
    commas = text.count(b",")
    if commas < most or commas * (_SAFE_ITEM if text[:1] == b"[" else _SAFE_FIELD) < len(text):
        return
    if _has_few(text, most, commas, likely) or not _exceeds(text, most):
        return
    if text[:1] == b"[":
        check_records(most + 1, most)
    raise ApiError(f"an object in the response has more than {most:,} fields.")


def check_records(count: int, most: int) -> None:
    """Raise ApiError when a page of `count` records holds more than `most`."""
    if count > most:
        raise ApiError(f"a page holds more than {most:,} records; ask for smaller pages, or set max_page_records.")


def check_values(record: bytes) -> None:
    """Raise RecordRejected when a record holds more than MAX_VALUES values; each costs up to 110 bytes once decoded."""
    if record.count(b",") + record.count(b"[") + record.count(b"{") <= MAX_VALUES:
        return
    values = 0
    for sign in _SIGN.finditer(record):
        values += sign.group() in _OPENING or sign.group() == b","
        if values > MAX_VALUES:
            raise RecordRejected(f"it holds more than {MAX_VALUES:,} values")


def _has_few(text: bytes, most: int, commas: int, likely: str | None) -> bool:
    """Whether a quick pass shows that there are at most `most` members; False where it cannot tell."""
    try:
        if text[:1] == b"[":
            return commas * _DENSE < len(text) and len(_count_objects(text)) <= most
        if likely is None:
            return False
        others = len(text) - len(memoryview(_field_decoder(likely)(text).value))
        return others // _MEMBER_BYTES < most
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return False


@lru_cache(maxsize=256)
def _field_decoder(name: str) -> Any:
    """A decoder that takes the text of one field out of an object."""
    shape = msgspec.defstruct("Field", [("value", msgspec.Raw, msgspec.Raw())], rename={"value": name})
    return msgspec.json.Decoder(shape).decode


def _exceeds(text: bytes, most: int) -> bool:
    """Count the commas directly inside the text's brackets, until there are too many."""
    depth, members = 0, 1
    for sign in _SIGN.finditer(text):
        token = sign.group()
        if token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
        elif depth == 1 and token == b",":
            members += 1
            if members > most:
                return True
    return False
