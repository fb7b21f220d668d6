"""A JSON record becomes a flat row, and a value a column type; pure, without a database.

The rules are those of the sync guide ("JSON-to-SQL schema mapping"): nested fields are joined with `_`, list items
get their index, null is left out, and a value that does not fit its column's type is NULL there and counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from itertools import count, product
from typing import Any

from .errors import RecordRejected
from .paths import MISSING, Step, follow
from .records import encode

Steps = tuple[Step, ...]

MAX_COLUMNS = 1400
MAX_NAME_BYTES = 63
MAX_DIGITS = 1000
MAX_PLACES = 4 * MAX_COLUMNS  # fields that are remembered; a field per record would fill the memory
MAX_DEPTH = 100
MAX_PATH_BYTES = 2000  # what an index of PostgreSQL holds
MAX_ROW_BYTES = 7800  # a PostgreSQL page holds 8 kB, and a row must fit one
_SURELY_FITS = 300  # values a row; even at 25 bytes each they fit
SCALAR_COLUMN = "value"  # where a record that is no object goes


class Type(str, Enum):
    """What a column holds; the names are the ones `mapping:` accepts."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    STRING = "string"
    TIMESTAMP = "timestamp"


# --- paths and names ----------------------------------------------------------------------------------------------

# What stands in a path as it is; the rest is quoted, so that any database keeps it.
_PLAIN = re.compile(r'[^.\[\]"\\\x00-\x1f\ud800-\udfff]+')


def path_text(steps: Steps) -> str:
    """Where a column's values stand in the record.

    >>> path_text(("list", 0, "id")), path_text(("a.b", "c"))
    ('list[0].id', '["a.b"].c')
    """
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step)}]"
    return text


def path_steps(text: str) -> Steps:
    """The inverse of `path_text`.

    >>> path_steps('["a.b"].c[0]')
    ('a.b', 'c', 0)
    """
    steps: list[str | int] = []
    for quoted, index, plain in re.findall(r'\[("(?:[^"\\]|\\.)*")\]|\[(\d+)\]|\.?([^.\[\]"]+)', text):
        steps.append(json.loads(quoted) if quoted else int(index) if index else plain)
    return tuple(steps)


def column_name(steps: Steps, taken: Collection[str], fold: Callable[[str], str]) -> str:
    """The column's name: the steps joined with `_`, and a hash where that alone is no free, valid name.

    >>> column_name(("parent", "nested"), {}, str), column_name(("a_b",), {"a_b": ("a", "b")}, str)
    ('parent_nested', 'a_b_c311a49b')
    """
    name = "_".join(map(str, steps))
    if _is_valid(name) and fold(name) not in taken:
        return name
    clean = name.encode("utf-8", "ignore").replace(b"\x00", b"")[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore")
    hashes = (blake2b(f"{path_text(steps)}{'#' * again}".encode(), digest_size=4).hexdigest() for again in count())
    return next(name for hash_ in hashes if fold(name := f"{clean}_{hash_}") not in taken)


# Columns that every table of PostgreSQL has.
_RESERVED = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})


def _is_valid(name: str) -> bool:
    if not name or name in _RESERVED or name.lower().startswith("_nango_") or "\x00" in name:
        return False
    try:
        return len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        return False


# --- types ----------------------------------------------------------------------------------------------------------

_HOUR_MINUTE = r"(?:[01]\d|2[0-3]):[0-5]\d"
_IS_TIMESTAMP = re.compile(
    rf"\d{{4}}-\d\d-\d\d(?:[T ]{_HOUR_MINUTE}(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?", re.ASCII
).fullmatch
_IS_UTC_SECONDS = re.compile(rf"\d{{4}}-\d\d-\d\dT{_HOUR_MINUTE}:[0-5]\dZ", re.ASCII).fullmatch


def parse_timestamp(text: str) -> datetime | None:
    """The point in time that `text` names, in UTC, or None when it is no timestamp we know.

    >>> parse_timestamp("2024-01-15T10:30:00+02:00").isoformat()
    '2024-01-15T08:30:00+00:00'
    >>> parse_timestamp("yesterday") is None
    True
    """
    try:
        if len(text) == 20 and _IS_UTC_SECONDS(text):  # by far the most common spelling
            return datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
        if not _IS_TIMESTAMP(text):
            return None
        when = datetime.fromisoformat(_for_fromisoformat(text))
        return when.astimezone(timezone.utc) if when.tzinfo else when.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        return None


def _for_fromisoformat(text: str) -> str:
    """The spelling that Python 3.10 understands: six digits of fraction, a colon in the zone."""
    date, clock = text[:10], text[11:]
    if not clock:
        return date
    if clock[-1] == "Z":
        clock, zone = clock[:-1], "+00:00"
    elif len(clock) > 5 and (sign := max(clock.find("+"), clock.find("-"))) > 0:
        clock, zone = clock[:sign], clock[sign:]
        zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
    else:
        zone = ""
    clock, _, fraction = clock.partition(".")
    return f"{date}T{clock}{'.' + fraction[:6].ljust(6, '0') if fraction else ''}{zone}"


def infer(values: Iterable[Any]) -> Type:
    """The type of a new column from the first values seen: the first one decides, strings only together.

    >>> infer([23, 182, "nango is great"]).value, infer(["2024-01-15", "soon"]).value
    ('number', 'string')
    """
    found = list(values)
    first = found[0]
    if isinstance(first, bool):
        return Type.BOOLEAN
    if isinstance(first, (int, Decimal, float)):
        return Type.NUMBER
    strings = [value for value in found if isinstance(value, str)]
    return Type.TIMESTAMP if all(parse_timestamp(value) for value in strings) else Type.STRING


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


# --- records to rows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of a mapped table and the place in the record that its values come from."""

    name: str
    type: Type
    path: str


_BY_HAND = "[mapping]"  # no path of a field begins like that


@dataclass(frozen=True)
class Declared:
    """One entry of `mapping.columns`: the column's name, where its values stand, and its type."""

    name: str
    steps: Steps
    type: Type

    @property
    def path(self) -> str:
        """How the column is known in `_nango_columns`; two may read the same place."""
        return f"{_BY_HAND}{self.name}"


@dataclass(frozen=True)
class Plan:
    """What a config says about its mapped table."""

    declared: tuple[Declared, ...] = ()
    extra: str = "evolve"  # fields that are not declared: evolve | ignore | fail
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def constants(self) -> dict[str, Any]:
        """The metadata as column values; nested ones as JSON text."""
        return {
            key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else _exact(value)
            for key, value in self.metadata.items()
            if value is not None
        }


def _exact(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


class Place:
    """A place in the records: what lies inside it, and the column it goes to (`at`, -1 for none)."""

    __slots__ = ("at", "convert", "fractional", "inside", "skipped", "steps")

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.inside: dict[str | int, Place] = {}
        self.at = -1
        self.convert: Convert | None = None
        self.skipped = False
        self.fractional = False  # numbers here have been seen that are no integers


@dataclass
class Flat:
    """Flattened records: a row each, as wide as the table was, and the values that have no column yet."""

    rows: list[list[Any]]
    homeless: list[tuple[int, Place, Any]]  # the row, the place in the record, the value
    misfits: Counter[str]


@dataclass
class Rows:
    """Rows for one table: values in the order of the layout's columns, and how many values had to stay out."""

    values: list[list[Any]]
    misfits: Counter[str]


class Layout:
    """How the records of one sync fall into the columns of its mapped table; it grows with what it sees.

    >>> layout = Layout(TO_SQLITE)
    >>> record = {"field": True, "parent": {"nested": "string_value"}, "nullField": None, "list": [1, 2]}
    >>> flat = layout.flatten([record])
    >>> layout.add(layout.new_columns(flat))
    >>> [(column.name, column.type.value) for column in layout.columns]
    [('field', 'boolean'), ('parent_nested', 'string'), ('list_0', 'number'), ('list_1', 'number')]
    >>> layout.rows(flat).values
    [[True, 'string_value', 1, 2]]
    """

    def __init__(
        self,
        converters: Mapping[Type, Convert],
        plan: Plan | None = None,
        *,
        nothing: Any = None,
        fold: Callable[[str], str] = str,
        max_row_bytes: int | None = None,
    ) -> None:
        self.columns: list[Column] = []
        self.plan = plan or Plan()
        self._converters = converters
        self.nothing = nothing
        self._fold = fold
        self._max_row_bytes = max_row_bytes
        self._taken: set[str] = set()
        self._by_path: dict[str, int] = {}
        self.root = Place(())
        self._fields = 0
        self._fractions = 0
        self._constants = self.plan.constants()
        self._by_hand = Place(())
        for declared in self.plan.declared:
            self._by_hand.inside[declared.path] = Place((declared.path,))
            for steps in product(*map(_spellings, declared.steps)):
                place = self._field(steps)
                place.skipped = not self._is_constant(steps)

    # what is known

    def add(self, columns: Iterable[Column]) -> None:
        """Take columns that the table has into the layout."""
        for column in columns:
            at = len(self.columns)
            self.columns.append(column)
            self._taken.add(self._fold(column.name))
            self._by_path[column.path] = at
            if place := self._place_of(column.path):
                place.at, place.convert = at, self._converters[column.type]

    def _place_of(self, path: str) -> Place | None:
        """The place whose values go to the column of this path; None where the column belongs to another sync."""
        if path.startswith(_BY_HAND):
            return self._by_hand.inside.get(path)
        place = self._field(path_steps(path))
        return place if self._is_wanted(place) else None

    def reserve(self, names: Iterable[str]) -> None:
        """Give no new column one of these names: the table has them already."""
        self._taken.update(map(self._fold, names))

    def has(self, column: Column) -> bool:
        """Whether the table has a column of this path, as far as the layout knows."""
        return column.path in self._by_path

    def mistyped(self) -> Column | None:
        """A column by hand that the table has with another type."""
        there = [column for column in self._columns_by_hand() if column.path in self._by_path]
        return next((column for column in there if self.columns[self._by_path[column.path]].type != column.type), None)

    @property
    def constants(self) -> dict[str, tuple[int, Any]]:
        """The metadata by name: its column, -1 for none, and its value."""
        return {name: (self._field((name,)).at, value) for name, value in self._constants.items()}

    @property
    def state(self) -> tuple[int, int, int]:
        """Changes whenever the layout does."""
        return len(self.columns), self._fields, self._fractions

    def _field(self, steps: Steps) -> Place:
        here = self.root
        for depth, step in enumerate(steps):
            if step not in here.inside:
                here.inside[step] = Place(steps[: depth + 1])
                self._fields += 1
            here = here.inside[step]
        return here

    # what is new

    def flatten(self, records: Iterable[Any]) -> Flat:
        """A row for each record; null and empty values are left out."""
        flat = Flat([], [], Counter())
        blank = [self.nothing] * len(self.columns)
        for record in records:
            flat.rows.append(blank.copy())
            whole = record if record.__class__ is dict else {SCALAR_COLUMN: record}
            if self.plan.declared:
                self._place(self._declared_items(whole, flat), self._by_hand, flat)
            if self._constants:
                whole = {**whole, **self._constants}
            self._place(whole.items(), self.root, flat)
        return flat

    def _declared_items(self, record: Any, flat: Flat) -> Iterator[tuple[str, Any]]:
        """The values that the config names, by their column's path; an object or a list is its JSON text."""
        for declared in self.plan.declared:
            value = follow(record, declared.steps)
            if value is MISSING:
                continue
            try:
                yield declared.path, encode(value).decode() if isinstance(value, (dict, list)) else value
            except RecordRejected:
                flat.misfits[declared.name] += 1

    def _place(self, items: Iterable[tuple[Any, Any]], here: Place, flat: Flat) -> None:
        """Put the values inside one object or list where they belong; the innermost loop of a sync's first load."""
        inside = here.inside
        row = flat.rows[-1]
        for key, value in items:
            place = inside.get(key) or self._new_field(here, key, value, flat)
            if place is None or value is None:
                continue
            kind = value.__class__
            if kind is dict or kind is list:
                if not place.skipped:
                    self._place(value.items() if kind is dict else enumerate(value), place, flat)
            elif place.convert is not None:
                if kind is Decimal:
                    self._saw_fraction(place)
                try:
                    row[place.at] = place.convert(value)
                except Misfit:
                    flat.misfits[self.columns[place.at].name] += 1
            elif not place.skipped:
                flat.homeless.append((len(flat.rows) - 1, place, value))

    def _saw_fraction(self, place: Place) -> None:
        if not place.fractional:
            place.fractional = True
            self._fractions += 1

    def _new_field(self, here: Place, key: str | int, value: Any, flat: Flat) -> Place | None:
        steps = (*here.steps, key)
        if self._fields < MAX_PLACES and len(steps) <= MAX_DEPTH and len(path_text(steps).encode()) <= MAX_PATH_BYTES:
            return self._field(steps)
        if value is not None and self.plan.extra != "ignore":
            flat.misfits[path_text(here.steps) or "(the record)"] += 1
        return None

    def new_columns(self, flat: Flat) -> list[Column]:
        """The columns that `flat` needs beyond those there are, named and typed, in the order they appear."""
        seen: dict[Steps, list[Any]] = {}
        for _, place, value in flat.homeless:
            if place.convert is None and self._is_wanted(place):
                seen.setdefault(place.steps, []).append(value)
        new = [column for column in self._columns_by_hand() if column.path not in self._by_path]
        taken = self._taken.union(self._fold(column.name) for column in new)
        for steps in sorted(seen, key=lambda steps: not self._is_constant(steps)):  # metadata wins a name
            if len(self.columns) + len(new) >= MAX_COLUMNS:
                break
            name = column_name(steps, taken, self._fold)
            new.append(Column(name, self._infer(steps, seen[steps]), path_text(steps)))
            taken.add(self._fold(name))
        return new

    def _columns_by_hand(self) -> list[Column]:
        return [Column(declared.name, declared.type, declared.path) for declared in self.plan.declared]

    def clash(self, new: Sequence[Column]) -> str | None:
        """The name of a new column by hand that cannot be: it is taken, twice there, or the database's own."""
        counts = Counter(self._fold(column.name) for column in new)
        for column in new:
            name = self._fold(column.name)
            if name in self._taken or counts[name] > 1 or column.name in _RESERVED:
                return column.name
        return None

    def _infer(self, steps: Steps, values: list[Any]) -> Type:
        found = infer(values)
        return Type.STRING if found is Type.TIMESTAMP and self._is_constant(steps) else found

    def _is_constant(self, steps: Steps) -> bool:
        return len(steps) == 1 and steps[0] in self._constants

    def _is_wanted(self, place: Place) -> bool:
        """Whether a column is made for the place without being asked for by name."""
        if self._is_constant(place.steps):
            return True
        return self.plan.extra == "evolve" and not place.skipped and not self._is_by_hand(place)

    def _is_by_hand(self, place: Place) -> bool:
        return self._by_hand.inside.get(place.steps[0]) is place

    def undeclared(self, flat: Flat) -> list[str]:
        """The places of values that no column was declared for: what `extra: fail` complains about."""
        found = {place for _, place, _ in flat.homeless if not self._is_by_hand(place)}
        return sorted(path_text(place.steps) for place in found if not self._is_constant(place.steps))

    # rows

    def rows(self, flat: Flat) -> Rows:
        """The rows as wide as the table is now; what does not fit, or has no column, is counted."""
        misfits = Counter(flat.misfits)
        width = len(self.columns)
        for row in flat.rows:
            row.extend([self.nothing] * (width - len(row)))
        for number, place, value in flat.homeless:
            if place.convert is None:
                if self.plan.extra != "ignore":
                    misfits[path_text(place.steps)] += 1
                continue
            if value.__class__ is Decimal:
                self._saw_fraction(place)
            try:
                flat.rows[number][place.at] = place.convert(value)
            except Misfit:
                misfits[self.columns[place.at].name] += 1
        if self._max_row_bytes is not None and width > _SURELY_FITS:
            for row in flat.rows:
                self._narrow(row, self._max_row_bytes, misfits)
        return Rows(flat.rows, misfits)

    def _narrow(self, row: list[Any], most: int, misfits: Counter[str]) -> None:
        """Leave out, from the end, what no longer fits one page of the database."""
        width = 0
        for at, value in enumerate(row):
            if value is self.nothing:
                continue
            more = _stored_bytes(value, self.columns[at].type, width)
            if width + more <= most:
                width += more
            else:
                row[at] = self.nothing
                misfits[self.columns[at].name] += 1


def _spellings(step: Step) -> set[Step]:
    """A number in a path may be an index or a key."""
    return {step, str(step), int(step)} if str(step).isdecimal() else {step}


def _stored_bytes(value: Any, type_: Type, before: int) -> int:
    """What a value takes in a PostgreSQL row after so many bytes; measured, see docs/decisions.md."""
    if type_ is Type.BOOLEAN:
        return 1
    if type_ is Type.TIMESTAMP:
        return -before % 8 + 8
    if type_ is Type.NUMBER:
        return len(value) // 2 + 8
    length = len(value.encode())
    return length + 1 if length <= 24 else 18


def flatten(record: Any) -> dict[str, Any]:
    """One record as a flat row, the way the first one of a new table would be.

    >>> flatten({"a": {"b": {"c": 1}}, "list": [{"id": 7}], "nothing": None})
    {'a_b_c': 1, 'list_0_id': 7}
    """
    layout = Layout(TO_SQLITE)
    flat = layout.flatten([record])
    layout.add(layout.new_columns(flat))
    names = [column.name for column in layout.columns]
    return {name: value for name, value in zip(names, layout.rows(flat).values[0], strict=True) if value is not None}


def columns_of(records: Sequence[Any], plan: Plan | None = None) -> list[Column]:
    """The columns that a new table would get from these records; what a dry run shows."""
    layout = Layout(TO_SQLITE, plan)
    return layout.new_columns(layout.flatten(records))
