"""The changes that the next execution of a sync would make in its mapped table; computing them changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from ... import mapping
from ...config import Sync
from .. import datasets
from ..database import Database
from ..sync_row import SyncRow
from .columns import changed_comments, registered
from .names import plan_of, table_name


@dataclass(frozen=True)
class ModelDiff:
    """The changes of one mapped table."""

    table: str
    is_new: bool
    added: tuple[mapping.Column, ...] = ()
    """Columns that the model or the mapping has and the table lacks."""
    retyped: tuple[tuple[mapping.Column, mapping.Type], ...] = ()
    """Columns with another type than the model says; the sync fails until `tables rebuild` changes them."""
    unfilled: tuple[mapping.Column, ...] = ()
    """Columns that stay, and have no values of this sync any more."""
    commented: tuple[mapping.Column, ...] = ()
    """Columns that get another comment, where the database has comments."""
    mapped_again: int = 0
    """How many records are mapped again."""

    def __bool__(self) -> bool:
        return bool(self.added or self.retyped or self.unfilled or self.commented or self.mapped_again)


def model_diff(database: Database, sync: Sync, row: SyncRow | None) -> ModelDiff:
    """Compare the config of a sync with its table; `row` is the stored sync, None before its first registration."""
    if not sync.auto_mapping or (row is None and sync.mapped_table is None):
        return ModelDiff("", is_new=True, added=_columns(database, sync, ()))
    name = table_name(sync, row.id if row else 0)
    with database.ask() as connection:
        existing = registered(connection, name)
        stored = datasets.of_sync(connection, row.id) if row else []
    version = sync.mapping_version()
    count = sum(
        dataset.live_count
        for dataset in stored
        if dataset.live_count
        and (dataset.mapped_table, (dataset.mapping_version or "")[: len(version)]) != (name, version)
    )
    if existing is None:
        return ModelDiff(name, is_new=True, added=_columns(database, sync, ()), mapped_again=count)
    layout, before = _layout(database, sync, existing), _layout(database, row.sync if row else sync, existing)
    filled = {column.path for column in layout.filled_columns}
    unfilled = tuple(column for column in before.filled_columns if column.path not in filled)
    added = _columns(database, sync, existing)
    comments = changed_comments(database, name, layout)
    commented = tuple(column for column in layout.model_columns if column.name in comments)
    return ModelDiff(name, False, added, tuple(layout.mistyped()), unfilled, commented, count)


def _columns(
    database: Database, sync: Sync, existing: tuple[mapping.Column, ...] | list[mapping.Column]
) -> tuple[mapping.Column, ...]:
    layout = _layout(database, sync, existing)
    return tuple(layout.new_columns(layout.flatten([])))


def _layout(
    database: Database, sync: Sync, existing: tuple[mapping.Column, ...] | list[mapping.Column]
) -> mapping.Layout:
    layout = mapping.Layout(database.rows.converters, plan_of(sync), fold=database.rows.fold)
    layout.add(existing)
    return layout
