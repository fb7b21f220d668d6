"""The name and the plan of a sync's mapped table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ... import mapping, paths
from ...config import Sync
from ...models import ModelField, RecordModel

Transform = Callable[[Any], Any]


def table_name(sync: Sync, sync_id: int) -> str:
    """The name of a sync's mapped table."""
    return sync.mapped_table or f"_nango_sync_{sync_id}"


def plan_of(sync: Sync) -> mapping.Plan:
    """The plan of the columns that the sync's config and its record model declare."""
    return mapping.Plan(
        declared=tuple(
            mapping.Declared(name, paths.ways(column.path), mapping.Type(column.type))
            for name, column in (sync.mapping.columns if sync.mapping else {}).items()
        ),
        extra=sync.mapping.extra if sync.mapping else "ignore" if sync.mapped_model else "evolve",
        fields=tuple(_fields(sync, sync.mapped_model)) if sync.mapped_model else (),
        metadata=sync.metadata or {},
    )


def _fields(sync: Sync, model: RecordModel) -> Iterator[mapping.Field]:
    """The fields of the model, and the one that `for_each` adds to each child."""
    yield from map(_field, model.fields)
    if sync.for_each is not None and all(field.steps != (sync.for_each.field,) for field in model.fields):
        yield mapping.Field((sync.for_each.field,), mapping.Type.STRING, as_json=True)


def _field(field: ModelField) -> mapping.Field:
    is_json = field.kind == "json"
    type_ = mapping.Type.STRING if is_json else mapping.Type(field.kind)
    return mapping.Field(field.steps, type_, as_json=is_json, comment=field.description)
