"""Map records of a known shape to rows without a Python loop over their values.

Most records of a list have the same shape. Once a table's layout is known, msgspec decodes records into a struct made
for that layout, each value as the type of its column. A record with unknown fields or other types is refused and mapped
by `Layout`, value by value. A test compares the rows of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from ..errors import RecordRejected
from ..records import decode
from .layout import Layout
from .places import Place
from .plan import Column
from .types import Type
from .values import TO_POSTGRESQL, TO_SQLITE, Misfit, json_text
from .widths import MAX_ROW_BYTES

MOST_COLUMNS = MAX_ROW_BYTES // 26
"""With this number of columns the widest row still fits a page of the database."""
MOST_PLACES = 2000

_NUL = b"\\u0000"
_MOST_DIGITS = 100


@dataclass(frozen=True)
class FastRows:
    """Makes rows of records for one state of one layout.

    >>> layout = Layout(TO_SQLITE)
    >>> layout.add([Column("id", Type.NUMBER, "id"), Column("user_login", Type.STRING, "user.login")])
    >>> rows = fast_rows_of(layout, csv=False)
    >>> rows([b'{"id": 7, "user": {"login": "ann"}}', b'{"id": "seven"}', b'{"id": 8, "new": 1}'])
    [[7, 'ann'], None, None]
    """

    columns: tuple[Column, ...]
    """The columns in the order of a row's values."""
    _decode_list: Callable[[bytes], Any]
    _decode_record: Callable[[bytes], Any]
    _shape: _Shape
    _converted: tuple[tuple[int, Callable[[Any], Any]], ...]
    _constants: tuple[Any, ...]
    _csv: bool

    def __call__(self, texts: Sequence[bytes]) -> list[Any]:
        """A row for each record: a line of CSV for PostgreSQL, values for SQLite, None where `Layout` has to map it."""
        return [self._row(value) for value in self._decoded(texts)]

    def _decoded(self, texts: Sequence[bytes]) -> list[Any]:
        try:
            text = b"[" + b",".join(texts) + b"]"
            if _NUL not in text:
                values: list[Any] = self._decode_list(text)
                return values
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        return [self._decoded_record(text) for text in texts]

    def _decoded_record(self, text: bytes) -> Any:
        try:
            return None if _NUL in text else self._decode_record(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _row(self, value: Any) -> Any:
        if value is None:
            return None
        row = _values(value, self._shape)
        try:
            for at, convert in self._converted:
                if row[at] is not None:
                    row[at] = convert(row[at])
            row += self._constants
            return as_csv(row) if self._csv else row
        except Misfit:
            return None


def fast_rows_of(layout: Layout, *, csv: bool) -> FastRows | None:
    """The `FastRows` of the layout's current state; None where `Layout` has to map every record."""
    columns, places, _ = layout.state
    if layout.plan.declared or places > MOST_PLACES:
        return None
    if layout.plan.extra != "evolve" and not (layout.plan.extra == "ignore" and layout.plan.fields):
        return None
    constants = layout.constants
    try:
        fixed = [_fixed(layout, at, value, csv) for at, value in constants.values()]
        shape = _shape_of(layout, layout.root, constants) if 0 < columns <= MOST_COLUMNS else None
    except (Misfit, ValueError):  # msgspec accepts no quote, backslash or surrogate in a name
        return None
    if shape is None:
        return None
    order = shape.order()
    converters = _TO_CSV if csv else _TO_VALUE
    kinds = [_kind(layout, place) for place in order]
    return FastRows(
        columns=(*(layout.columns[place.at] for place in order), *(column for column, _ in fixed)),
        _decode_list=msgspec.json.Decoder(list[shape.struct]).decode,  # type: ignore[name-defined]
        _decode_record=msgspec.json.Decoder(shape.struct).decode,
        _shape=shape,
        _converted=tuple((at, converters[kind]) for at, kind in enumerate(kinds) if kind in converters),
        _constants=tuple(value for _, value in fixed),
        _csv=csv,
    )


def _fixed(layout: Layout, at: int, value: Any, csv: bool) -> tuple[Column, Any]:
    """The column of a metadata value, and the value in the form of the database.

    Raises Misfit for a value without a column, or of another type: `Layout` adds the column, or counts the value.
    """
    if at < 0:
        raise Misfit
    column = layout.columns[at]
    if not csv:
        return column, TO_SQLITE[column.type](value)
    text = TO_POSTGRESQL[column.type](value)
    as_csv([value])
    return column, text if column.type is Type.TIMESTAMP else value


# --- the shape of a record ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """An object or list in the records: its fields that are columns, and its nested objects and lists."""

    struct: Any
    leaves: tuple[tuple[int, Place], ...]  # with their positions in the struct
    nested: tuple[tuple[int, _Shape], ...]
    nulls: list[None]

    def order(self) -> list[Place]:
        """The places in the order of the values of `_values`."""
        return [*(place for _, place in self.leaves), *(place for _, inner in self.nested for place in inner.order())]


class _Empty(msgspec.Struct, forbid_unknown_fields=True):
    """An object without fields."""


_NOTHING = None | _Empty | list[None]
_FRACTION = "fraction"  # a number column with values that are no integers
_JSON = "json"  # a string column with values of any type
_TYPES: dict[Type | str, Any] = {
    Type.BOOLEAN: bool | None,
    Type.NUMBER: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    Type.STRING: str | None,
    Type.TIMESTAMP: str | None,
    _FRACTION: msgspec.Raw,
    _JSON: msgspec.Raw,
}


def _kind(layout: Layout, place: Place) -> Type | str:
    type_ = layout.columns[place.at].type
    if place.as_json:
        return _JSON
    return _FRACTION if type_ is Type.NUMBER and place.fractional else type_


def _shape_of(layout: Layout, place: Place, skipped: Collection[str] = ()) -> _Shape | None:
    """The shape of a place; None where it has plain values in some records, and objects or lists in others.

    Without `extra: evolve` it consists of columns alone, and other fields are skipped.
    """
    is_open = layout.plan.extra == "evolve"
    steps = _steps(place) if is_open else [step for step in place.inside if _has_column(place.inside[step])]
    if steps is None:
        return None
    types: list[Any] = []
    leaves: list[tuple[int, Place]] = []
    nested: list[tuple[int, _Shape]] = []
    for at, step in enumerate(steps):
        inner = place.inside.get(step)
        if step in skipped:
            types.append(msgspec.Raw)
        elif inner is None or (inner.at < 0 and not inner.inside):
            types.append(_NOTHING)
        elif not inner.inside or inner.as_json or not (is_open or any(map(_has_column, inner.inside.values()))):
            types.append(_TYPES[_kind(layout, inner)])
            leaves.append((at, inner))
        else:
            shape = _shape_of(layout, inner) if inner.at < 0 else None
            if shape is None:
                return None
            types.append(shape.struct | None)
            nested.append((at, shape))
    width = len(leaves) + sum(len(shape.nulls) for _, shape in nested)
    return _Shape(_struct(steps, types, is_open=is_open), tuple(leaves), tuple(nested), [None] * width)


def _has_column(place: Place) -> bool:
    """Whether a place, or one inside it, has a column."""
    return place.at >= 0 or any(map(_has_column, place.inside.values()))


def _steps(place: Place) -> list[Any] | None:
    """The keys, or the indexes from 0 on, inside a place; None where it has both."""
    indexes = [step for step in place.inside if isinstance(step, int)]
    if not indexes:
        return list(place.inside)
    return list(range(max(indexes) + 1)) if len(indexes) == len(place.inside) else None


def _struct(steps: Sequence[Any], types: Sequence[Any], *, is_open: bool) -> Any:
    """A struct that decodes these fields, by name or by position, and refuses others where they would get columns."""
    names = [f"f{at}" for at in range(len(steps))]
    is_list = any(isinstance(step, int) for step in steps)
    return msgspec.defstruct(
        "Shape",
        [(name, type_, None) for name, type_ in zip(names, types, strict=True)],
        rename=None if is_list else dict(zip(names, steps, strict=True)),
        array_like=is_list,
        forbid_unknown_fields=is_open,
        gc=False,
    )


def _values(value: Any, shape: _Shape) -> list[Any]:
    """The values of a record's columns; None for a missing value."""
    parts = msgspec.structs.astuple(value)
    values = [parts[at] for at, _ in shape.leaves]
    for at, inner in shape.nested:
        part = parts[at]
        values += inner.nulls if part is None else _values(part, inner)
    return values


# --- values in the form of the database ------------------------------------------------------------------------------


def _csv_fraction(token: Any) -> Any:
    """The text of a number unchanged; PostgreSQL stores all of its digits."""
    text = bytes(token)
    if text == b"null":
        return None
    if text[:1] not in b"-0123456789" or len(text) > _MOST_DIGITS or b"e" in text.lower():
        raise Misfit  # `Layout` has the limits of numbers
    return token


def _sqlite_fraction(token: Any) -> Any:
    text = bytes(token)
    if text == b"null":
        return None
    if text[:1] not in b"-0123456789":
        raise Misfit
    if text.isdigit() and len(text) <= 18:
        return int(text)
    double = float(text)
    if repr(double).encode() == text:  # the shortest form, as Python and most others write it
        return double
    try:
        return TO_SQLITE[Type.NUMBER](decode(text))
    except RecordRejected:
        raise Misfit from None


# The most common form with a valid date; other forms and the 29th of February are parsed more slowly.
_UTC_SECONDS = re.compile(
    r"(?!0000)\d{4}-"
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ",
    re.ASCII,
).fullmatch


def _csv_timestamp(text: str) -> Any:
    return text if _UTC_SECONDS(text) else TO_POSTGRESQL[Type.TIMESTAMP](text)


def _sqlite_timestamp(text: str) -> Any:
    if _UTC_SECONDS(text):
        return f"{text[:10]} {text[11:19]}.000000+00:00"
    return TO_SQLITE[Type.TIMESTAMP](text)


def _any_as_text(token: Any) -> Any:
    try:
        value = decode(bytes(token))
    except RecordRejected:
        raise Misfit from None
    return None if value is None else json_text(value)


_TO_CSV: dict[Type | str, Callable[[Any], Any]] = {
    Type.TIMESTAMP: _csv_timestamp,
    _FRACTION: _csv_fraction,
    _JSON: _any_as_text,
}
_TO_VALUE: dict[Type | str, Callable[[Any], Any]] = {
    Type.TIMESTAMP: _sqlite_timestamp,
    _FRACTION: _sqlite_fraction,
    _JSON: _any_as_text,
}

_encode = msgspec.json.Encoder(decimal_format="number").encode
_ESCAPE = re.compile(rb"\\(.)")
_WRITTEN = {b'"': b'\\"', b"\\": b"\\\\", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def as_csv(row: Sequence[Any]) -> bytes:
    """A row as COPY reads it with `FORMAT csv, NULL 'null', ESCAPE '\\'`: a list's JSON without its brackets.

    >>> as_csv([1, None, True, 'say "hi"', "a\\nb"])
    b'1,null,true,"say \\\\"hi\\\\"","a\\nb"'

    Raises Misfit for control characters that JSON writes as numbers.
    """
    text: bytes = _encode(row)[1:-1]
    return _ESCAPE.sub(_written, text) if b"\\" in text else text


def _written(escape: re.Match[bytes]) -> bytes:
    try:
        return _WRITTEN[escape[1]]
    except KeyError:
        raise Misfit from None
