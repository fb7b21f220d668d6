"""The columns of a mapped table, and the mapping that a sync's config declares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .names import Steps, path_text
from .types import Type

MAX_COLUMNS = 1400  # PostgreSQL holds 1,600, and counts dropped ones too


@dataclass(frozen=True)
class Column:
    """A column of a mapped table and the path of its values in a record."""

    name: str
    type: Type
    path: str
    comment: str | None = field(default=None, compare=False)
    """The description of its field in the record model."""


DECLARED = "[mapping]"  # the prefix of declared columns' paths; no path of a field begins with it


@dataclass(frozen=True)
class Declared:
    """One entry of `mapping.columns`: name, path and type of a column."""

    name: str
    ways: tuple[Steps, ...]  # as `paths.ways` has them
    type: Type

    @property
    def steps(self) -> Steps:
        """The path of the values, unless the record has the whole path as one key."""
        return self.ways[-1]

    @property
    def path(self) -> str:
        """The column's path in `_nango_columns`; it has the name, as two columns may read the same place."""
        return f"{DECLARED}{self.name}"


@dataclass(frozen=True)
class Field:
    """A field of a record model, whose column has the name that its path gives."""

    steps: Steps
    type: Type
    as_json: bool = False
    """Whether the column holds the value as JSON text, unless it is a text."""
    comment: str | None = None

    @property
    def path(self) -> str:
        """The column's path in `_nango_columns`."""
        return path_text(self.steps)


@dataclass(frozen=True)
class Plan:
    """The mapping of a sync's config and its record model."""

    declared: tuple[Declared, ...] = ()
    extra: str = "evolve"  # fields that are not declared and not in the model: evolve | ignore | fail
    fields: tuple[Field, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def constants(self) -> dict[str, Any]:
        """The metadata as column values; objects and lists as JSON text."""
        return {
            key: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else _exact(value)
            for key, value in self.metadata.items()
            if value is not None
        }


def _exact(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value
