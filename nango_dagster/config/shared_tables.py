"""Mapped tables that several syncs fill: their models have to agree on the types of common columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nango_dagster.config.sync import Sync
from nango_dagster.errors import Problem


def conflict(sync: Sync, others: Iterable[Sync]) -> Problem | None:
    """The problem of a sync whose model gives a column of a shared table another type than an earlier sync's model."""
    if sync.mapped_table is None:
        return None
    types = _types(sync)
    for other in others:
        if other.mapped_table != sync.mapped_table:
            continue
        for path, type_ in _types(other).items():
            if types.get(path, type_) != type_:
                sentence = (
                    f"mapped_table {sync.mapped_table} is filled by {other.name}, too, and {path} is {type_} in its "
                    f"model {other.model} and {types[path]} in {sync.model}; wanted the same type, or another table."
                )
                return Problem(sentence, field="mapped_table", found=sync.mapped_table)
    return None


def unmodelled(syncs: Sequence[Sync]) -> Iterator[str]:
    """A sentence for each table that several syncs fill, one of them without a model."""
    tables: dict[str, list[Sync]] = {}
    for sync in syncs:
        if sync.mapped_table is not None and sync.auto_mapping:
            tables.setdefault(sync.mapped_table, []).append(sync)
    for table, sharing in tables.items():
        without = [sync.name for sync in sharing if sync.mapped_model is None]
        if len(sharing) > 1 and without:
            names = ", ".join(sync.name for sync in sharing)
            yield (
                f"table {table} is filled by {names}; {', '.join(without)} has no model, so that the first value of a "
                "field decides the type of the column that they share. Models make the types agree."
            )


def _types(sync: Sync) -> dict[str, str]:
    """The types of the columns that the sync's model declares, by path."""
    model = sync.mapped_model if sync.auto_mapping else None
    return {field.name: "string" if field.kind == "json" else field.kind for field in model.fields} if model else {}
