"""The layout of a mapped table: which column each value of a record goes to, and which columns are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from typing import Any

from ..errors import RecordRejected
from ..paths import MISSING, follow
from ..records import encode
from .names import RESERVED, Steps, column_name, path_steps, path_text
from .places import Place, Places
from .plan import DECLARED, MAX_COLUMNS, Column, Plan
from .types import Type, infer
from .values import Convert, Misfit, json_text
from .widths import SURELY_FIT, narrow

SCALAR_COLUMN = "value"  # the column of records that are not objects


@dataclass
class Flat:
    """Flattened records: one row each, as wide as the table was before, and the values without a column."""

    rows: list[list[Any]]
    unplaced: list[tuple[int, Place, Any]]  # row number, place in the record, value
    misfits: Counter[str]
    without_column: set[str] = field(default_factory=set)


@dataclass
class Rows:
    """Rows for one table, with values in the order of the layout's columns, and the number of values left out."""

    values: list[list[Any]]
    misfits: Counter[str]
    without_column: set[str]
    """The keys of `misfits` that are paths of values without a column."""


class Layout:
    """The columns of a sync's mapped table and their places in the records; it grows with the records.

    >>> from nango_dagster.mapping import TO_SQLITE
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
        self._places = Places()
        self.root = self._places.root
        self._fractions = 0
        self._constants = self.plan.constants()
        self._declared_root = Place(())
        for declared in self.plan.declared:
            self._declared_root.inside[declared.path] = Place((declared.path,))
            for place in chain.from_iterable(map(self._places.meant, declared.ways)):
                place.skipped = not self._is_constant(place.steps)
        self._fields = {field.steps: field for field in self.plan.fields if self._is_free(field.steps)}
        for steps, in_model in self._fields.items():
            self._places.at(steps).as_json = in_model.as_json

    # --- known columns ---

    def add(self, columns: Iterable[Column]) -> None:
        """Add columns of the table to the layout."""
        comments = {in_model.path: in_model.comment for in_model in self._fields.values()}
        for column in columns:
            at = len(self.columns)
            self.columns.append(replace(column, comment=comments[column.path]) if column.path in comments else column)
            self._taken.add(self._fold(column.name))
            self._by_path[column.path] = at
            if place := self._place_of(column.path):
                convert = self._converters[column.type]
                place.at, place.convert = at, _json_text(convert) if place.as_json else convert

    def _place_of(self, path: str) -> Place | None:
        """The place with the values of a column; None where the column belongs to another sync."""
        if path.startswith(DECLARED):
            return self._declared_root.inside.get(path)
        place = self._places.at(path_steps(path))
        return place if self._gets_column(place) else None

    def reserve(self, names: Iterable[str]) -> None:
        """Exclude names that the table has already from those of new columns."""
        self._taken.update(map(self._fold, names))

    def has(self, column: Column) -> bool:
        """Whether the layout has a column of the same path."""
        return column.path in self._by_path

    def mistyped(self) -> list[tuple[Column, Type]]:
        """The columns that the table has with another type than their declaration or model, and that type."""
        fields = [(field.path, field.type) for field in self._fields.values()]
        types = [*((declared.path, declared.type) for declared in self.plan.declared), *fields]
        existing = [(self.columns[self._by_path[path]], type_) for path, type_ in types if path in self._by_path]
        return [(column, type_) for column, type_ in existing if column.type != type_]

    @property
    def constants(self) -> dict[str, tuple[int, Any]]:
        """The column number (-1 for none) and value of each metadata field, by name."""
        return {name: (self._places.at((name,)).at, value) for name, value in self._constants.items()}

    @property
    def state(self) -> tuple[int, int, int]:
        """A value that changes with the layout."""
        return len(self.columns), self._places.count, self._fractions

    # --- new columns ---

    def flatten(self, records: Iterable[Any]) -> Flat:
        """Flatten records into one row each; null and empty values are left out."""
        flat = Flat([], [], Counter())
        blank = [self.nothing] * len(self.columns)
        for record in records:
            flat.rows.append(blank.copy())
            whole = record if record.__class__ is dict else {SCALAR_COLUMN: record}
            if self.plan.declared:
                self._place(self._declared_items(whole, flat), self._declared_root, flat)
            if self._constants:
                whole = {**whole, **self._constants}
            self._place(whole.items(), self.root, flat)
        return flat

    def _declared_items(self, record: Any, flat: Flat) -> Iterator[tuple[str, Any]]:
        """The values of declared columns by column path; objects and lists as JSON text."""
        for declared in self.plan.declared:
            first = declared.ways[0]
            value = follow(record, first if first[0] in record else declared.steps)
            if value is MISSING:
                continue
            try:
                yield declared.path, encode(value).decode() if isinstance(value, (dict, list)) else value
            except RecordRejected:
                flat.misfits[declared.name] += 1

    def _place(self, items: Iterable[tuple[Any, Any]], here: Place, flat: Flat) -> None:
        """Put the values of one object or list into the last row; the innermost loop of a sync's first load."""
        inside = here.inside
        row = flat.rows[-1]
        for key, value in items:
            place = inside.get(key) or self._new_place(here, key, value, flat)
            if place is None or value is None:
                continue
            kind = value.__class__
            if (kind is dict or kind is list) and not place.as_json:
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
                flat.unplaced.append((len(flat.rows) - 1, place, value))

    def _saw_fraction(self, place: Place) -> None:
        if not place.fractional:
            place.fractional = True
            self._fractions += 1

    def _new_place(self, here: Place, key: str | int, value: Any, flat: Flat) -> Place | None:
        place = self._places.new(here, key)
        if place is None and value is not None and self.plan.extra != "ignore":
            path = path_text(here.steps) or "(the record)"
            flat.misfits[path] += 1
            flat.without_column.add(path)
        return place

    def new_columns(self, flat: Flat) -> list[Column]:
        """The columns that `flat` needs and the layout lacks, with names and types, in the order of their values."""
        seen: dict[Steps, list[Any]] = {}
        for _, place, value in flat.unplaced:
            if place.convert is None and place.steps not in self._fields and self._gets_column(place):
                seen.setdefault(place.steps, []).append(value)
        new = [column for column in self._declared_columns() if column.path not in self._by_path]
        taken = self._taken.union(self._fold(column.name) for column in new)
        for steps, in_model in self._fields.items():
            if in_model.path not in self._by_path:
                name = column_name(steps, taken, self._fold)
                new.append(Column(name, in_model.type, in_model.path, in_model.comment))
                taken.add(self._fold(new[-1].name))
        for steps in sorted(seen, key=lambda steps: not self._is_constant(steps)):  # metadata wins a name
            if len(self.columns) + len(new) >= MAX_COLUMNS:
                break
            name = column_name(steps, taken, self._fold)
            new.append(Column(name, self._infer(steps, seen[steps]), path_text(steps)))
            taken.add(self._fold(name))
        return new

    def _declared_columns(self) -> list[Column]:
        return [Column(declared.name, declared.type, declared.path) for declared in self.plan.declared]

    @property
    def model_columns(self) -> list[Column]:
        """The columns of the model's fields, as far as the table has them."""
        known = [in_model.path for in_model in self._fields.values() if in_model.path in self._by_path]
        return [self.columns[self._by_path[path]] for path in known]

    @property
    def filled_columns(self) -> list[Column]:
        """The columns that records may have values for."""
        return [column for column in self.columns if self._place_of(column.path) is not None]

    def clash(self, new: Sequence[Column]) -> str | None:
        """The name of the first new column that cannot be created: it exists, occurs twice, or is reserved."""
        counts = Counter(self._fold(column.name) for column in new)
        for column in new:
            name = self._fold(column.name)
            if name in self._taken or counts[name] > 1 or column.name in RESERVED:
                return column.name
        return None

    def _infer(self, steps: Steps, values: list[Any]) -> Type:
        type_ = infer(values)
        return Type.STRING if type_ is Type.TIMESTAMP and self._is_constant(steps) else type_

    def _is_constant(self, steps: Steps) -> bool:
        return len(steps) == 1 and steps[0] in self._constants

    def _gets_column(self, place: Place) -> bool:
        """Whether the place gets a column without a declaration."""
        if self._is_constant(place.steps) or place.steps in self._fields:
            return True
        return self.plan.extra == "evolve" and not place.skipped and not self._is_declared(place)

    def _is_free(self, steps: Steps) -> bool:
        """Whether a field of the model is neither metadata nor declared by hand."""
        return not self._is_constant(steps) and not self._places.at(steps).skipped

    def _is_declared(self, place: Place) -> bool:
        return self._declared_root.inside.get(place.steps[0]) is place

    def undeclared(self, flat: Flat) -> list[str]:
        """The paths of values without a declared column; `extra: fail` reports them."""
        places = {place for _, place, _ in flat.unplaced if not self._is_declared(place)}
        known = [place for place in places if self._is_constant(place.steps) or place.steps in self._fields]
        return sorted(path_text(place.steps) for place in places.difference(known))

    # --- rows ---

    def rows(self, flat: Flat) -> Rows:
        """Complete the rows to the table's width; values that do not fit, or have no column, are counted."""
        misfits, without_column = Counter(flat.misfits), set(flat.without_column)
        width = len(self.columns)
        for row in flat.rows:
            row.extend([self.nothing] * (width - len(row)))
        for number, place, value in flat.unplaced:
            if place.convert is None:
                if self.plan.extra != "ignore":
                    misfits[path_text(place.steps)] += 1
                    without_column.add(path_text(place.steps))
                continue
            if value.__class__ is Decimal:
                self._saw_fraction(place)
            try:
                flat.rows[number][place.at] = place.convert(value)
            except Misfit:
                misfits[self.columns[place.at].name] += 1
        if self._max_row_bytes is not None and width > SURELY_FIT:
            for row in flat.rows:
                narrow(row, self.columns, self.nothing, self._max_row_bytes, misfits)
        return Rows(flat.rows, misfits, without_column)


def _json_text(convert: Convert) -> Convert:
    return lambda value: convert(json_text(value))
