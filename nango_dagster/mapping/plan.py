"""A mapped table's columns: those there are, and those that the config asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .names import Steps
from .types import Type

MAX_COLUMNS = 1400  # PostgreSQL holds 1,600, and counts dropped ones too


@dataclass(frozen=True)
class Column:
    """A column of a mapped table and the place in the record that its values come from."""

    name: str
    type: Type
    path: str


BY_HAND = "[mapping]"  # no path of a field begins like that


@dataclass(frozen=True)
class Declared:
    """One entry of `mapping.columns`: the column's name, where its values stand, and its type."""

    name: str
    ways: tuple[Steps, ...]  # as `paths.ways` has them
    type: Type

    @property
    def steps(self) -> Steps:
        """Where the values stand, unless a key is called like the whole path."""
        return self.ways[-1]

    @property
    def path(self) -> str:
        """How the column is known in `_nango_columns`; two may read the same place."""
        return f"{BY_HAND}{self.name}"


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
