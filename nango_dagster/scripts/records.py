"""Records of a script as JSON texts: those of an answer stay as the API sent them until the script reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, MutableSequence, Sequence
from typing import Any, Final, SupportsIndex, overload

import msgspec

from ..errors import RecordRejected, ScriptError
from ..records import decode, encode, text_at

MAX_RECORD_BYTES: Final = 5_000_000
"""The largest record that a script may save; a larger one is rejected."""
METADATA: Final = "_nango_metadata"
_METADATA_BYTES: Final = METADATA.encode()
_decode = msgspec.json.Decoder().decode


class Records(MutableSequence[Any]):
    """A page of records, which reads like a list of dictionaries.

    A record that the script does not look at is never decoded, and is saved as the API sent it.

    >>> page = Records([b'{"id": 1, "price": 1.10}', b'{"id": 2}'])
    >>> len(page), page[-1]["id"]
    (2, 2)
    >>> page[1]["seen"] = True
    >>> page.texts()
    [b'{"id": 1, "price": 1.10}', b'{"id":2,"seen":true}']
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        """`items` are JSON texts as bytes, or records of any kind that `as_text` takes."""
        self._items = list(items)

    def texts(self) -> list[bytes]:
        """Each record as its JSON text. Raises ScriptError for a value that is no record."""
        return [item if item.__class__ is bytes else as_text(item) for item in self._items]

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return Records(self._items[index])
        item = self._items[index]
        if item.__class__ is bytes:
            item = self._items[index] = _decode(item)
        return item

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = list(value) if isinstance(index, slice) else value

    def __delitem__(self, index: Any) -> None:
        del self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for index, item in enumerate(self._items):
            if item.__class__ is bytes:
                item = self._items[index] = _decode(item)
            yield item

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Insert a record before an index."""
        self._items.insert(index, value)

    def __add__(self, other: Iterable[Any]) -> Records:
        return Records([*self._items, *(other._items if isinstance(other, Records) else other)])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple | Records) else NotImplemented

    def __repr__(self) -> str:
        return f"Records({len(self)})"


def texts_of(records: Any) -> list[bytes]:
    """The JSON texts of one record or of several. Raises ScriptError for anything else."""
    if isinstance(records, Records):
        return records.texts()
    if records is None:
        return []
    if isinstance(records, Mapping) or not isinstance(records, Iterable) or _is_model(records):
        return [as_text(records)]
    if isinstance(records, str | bytes):
        raise ScriptError(f"a record is {type(records).__name__}; wanted an object, or a list of them.")
    return [item if item.__class__ is bytes else as_text(item) for item in records]


def as_text(record: Any) -> bytes:
    """The JSON text of a record: a dictionary, a pydantic model, a dataclass or a msgspec struct.

    Raises ScriptError where it is none of these, or holds a value that JSON has no form for.

    >>> as_text({"id": 1, "name": None})
    b'{"id":1,"name":null}'
    """
    if record.__class__ is not dict:  # the most frequent kind of record needs no look
        dump = getattr(record, "model_dump_json", None)
        if callable(dump) and not isinstance(record, type):
            text: str = dump(by_alias=True)
            return text.encode()
        if not (isinstance(record, Mapping | msgspec.Struct) or _is_model(record)):
            raise ScriptError(
                f"a record is {type(record).__name__}; wanted a dictionary, a pydantic model, a dataclass or a msgspec "
                "struct."
            )
    try:
        return encode(record)
    except RecordRejected as error:
        raise ScriptError(f"a record cannot be saved: {error}.") from None


def plain_object(value: Any) -> Mapping[str, Any]:
    """A dictionary as it is, or the fields of an object that `as_text` takes."""
    if isinstance(value, Mapping):
        return value
    fields: Mapping[str, Any] = msgspec.json.decode(as_text(value))
    return fields


def _is_model(record: Any) -> bool:
    is_dataclass = dataclasses.is_dataclass(record) and not isinstance(record, type)
    return is_dataclass or isinstance(record, msgspec.Struct) or hasattr(record, "model_dump_json")


def keyed(records: Any, key_fields: Sequence[str]) -> list[bytes]:
    """The JSON texts of records, or of bare ids where the model has one key field."""
    items = list(records) if isinstance(records, list | tuple | set | frozenset) else [records]
    if isinstance(records, Records):
        return records.texts()
    plain = [
        {key_fields[0]: item} if isinstance(item, str | int) and not isinstance(item, bool) else item for item in items
    ]
    return texts_of(plain)


def defect_of(record: bytes) -> str | None:
    """Why a script may not save a record's text; None where it may."""
    if len(record) > MAX_RECORD_BYTES:
        return f"it has {len(record):,} bytes; a script may save at most {MAX_RECORD_BYTES:,} in a record"
    return None if record[:1] == b"{" else "it is no object; wanted an object with fields"


def without_metadata(record: bytes) -> bytes:
    """The record without the metadata that stored records have."""
    if _METADATA_BYTES not in record or text_at(record, [METADATA]) is None:
        return record
    return encode({name: value for name, value in decode(record).items() if name != METADATA})
