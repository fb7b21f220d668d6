"""The records of one sync and the columns of its mapped table: where each value goes, and which columns it needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import Any

from ..errors import RecordRejected
from ..paths import MISSING, follow
from ..records import encode
from .names import RESERVED, Steps, column_name, path_steps, path_text
from .places import Place, Places
from .plan import BY_HAND, MAX_COLUMNS, Column, Plan
from .types import Type, infer
from .values import Convert, Misfit
from .widths import SURELY_FIT, narrow

SCALAR_COLUMN = "value"  # where a record that is no object goes


@dataclass
class Flat:
    """Flattened records: a row each, as wide as the table was, and the values that have no column yet."""

    rows: list[list[Any]]
    homeless: list[tuple[int, Place, Any]]  # the row, the place in the record, the value
    misfits: Counter[str]
    without_column: set[str] = field(default_factory=set)


@dataclass
class Rows:
    """Rows for one table: values in the order of the layout's columns, and how many values had to stay out."""

    values: list[list[Any]]
    misfits: Counter[str]
    without_column: set[str]
    """Those of the misfits that are paths of values without a column."""


class Layout:
    """How the records of one sync fall into the columns of its mapped table; it grows with what it sees.

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
        self._by_hand = Place(())
        for declared in self.plan.declared:
            self._by_hand.inside[declared.path] = Place((declared.path,))
            for place in chain.from_iterable(map(self._places.meant, declared.ways)):
                place.skipped = not self._is_constant(place.steps)

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
        if path.startswith(BY_HAND):
            return self._by_hand.inside.get(path)
        place = self._places.at(path_steps(path))
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
        return {name: (self._places.at((name,)).at, value) for name, value in self._constants.items()}

    @property
    def state(self) -> tuple[int, int, int]:
        """Changes whenever the layout does."""
        return len(self.columns), self._places.count, self._fractions

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
            first = declared.ways[0]
            value = follow(record, first if first[0] in record else declared.steps)
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
            place = inside.get(key) or self._new_place(here, key, value, flat)
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

    def _new_place(self, here: Place, key: str | int, value: Any, flat: Flat) -> Place | None:
        place = self._places.new(here, key)
        if place is None and value is not None and self.plan.extra != "ignore":
            path = path_text(here.steps) or "(the record)"
            flat.misfits[path] += 1
            flat.without_column.add(path)
        return place

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
            if name in self._taken or counts[name] > 1 or column.name in RESERVED:
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
        misfits, without_column = Counter(flat.misfits), set(flat.without_column)
        width = len(self.columns)
        for row in flat.rows:
            row.extend([self.nothing] * (width - len(row)))
        for number, place, value in flat.homeless:
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
