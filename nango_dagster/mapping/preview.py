"""The rows and columns that records would get in a new table, for a dry run and a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .layout import Layout
from .plan import Column, Plan
from .values import TO_SQLITE


def flatten(record: Any) -> dict[str, Any]:
    """A record as the first row of a new table, by column name and without nulls.

    >>> flatten({"a": {"b": {"c": 1}}, "list": [{"id": 7}], "nothing": None})
    {'a_b_c': 1, 'list_0_id': 7}
    """
    layout = Layout(TO_SQLITE)
    flat = layout.flatten([record])
    layout.add(layout.new_columns(flat))
    names = [column.name for column in layout.columns]
    return {name: value for name, value in zip(names, layout.rows(flat).values[0], strict=True) if value is not None}


def columns_of(records: Sequence[Any], plan: Plan | None = None) -> list[Column]:
    """The columns that a new table would get from these records."""
    layout = Layout(TO_SQLITE, plan)
    return layout.new_columns(layout.flatten(records))
