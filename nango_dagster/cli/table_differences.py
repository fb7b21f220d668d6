"""The changes that configs would make in mapped tables, for `validate --diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .command import Session
from .formatting import number_of

if TYPE_CHECKING:
    from ..mapping import Column
    from ..store.tables import ModelDiff


def table_differences(session: Session) -> list[tuple[str, ModelDiff]]:
    """The name of each sync whose table would change, and the changes."""
    from ..store import syncs
    from ..store.tables import model_diff

    with session.database() as database:
        rows = {(row.integration, row.name): row for row in syncs.all(database)}
        differences = [
            (sync.name, model_diff(database, sync, rows.get((sync.integration_key, sync.name))))
            for sync in session.configs.syncs
            if sync.auto_mapping
        ]
    return [(name, difference) for name, difference in differences if difference]


def difference_document(name: str, difference: ModelDiff) -> dict[str, Any]:
    """The changes of one table as JSON."""
    return {
        "sync": name,
        "table": difference.table or None,
        "is_new": difference.is_new,
        "added": [_column(column) for column in difference.added],
        "retyped": [
            {"name": column.name, "path": column.path, "from": column.type.value, "to": type_.value}
            for column, type_ in difference.retyped
        ],
        "unfilled": [_column(column) for column in difference.unfilled],
        "commented": [{"name": column.name, "comment": column.comment} for column in difference.commented],
        "mapped_again": difference.mapped_again,
    }


def difference_lines(name: str, difference: ModelDiff) -> Iterator[str]:
    """The changes of one table for people: `+` a new column, `~` another type or comment, `-` no values any more."""
    again = f"; {number_of(difference.mapped_again, 'record')} to map again" if difference.mapped_again else ""
    yield f"{name}: {'new ' if difference.is_new else ''}table {difference.table}".rstrip() + again
    yield from (f"  + {column.name} {column.type.value}, from {column.path}" for column in difference.added)
    for column, type_ in difference.retyped:
        yield f"  ~ {column.name} {column.type.value} -> {type_.value}; first: nango-dagster tables rebuild {name}"
    for column in difference.commented:
        yield f"  ~ {column.name}: " + (f"comment {column.comment!r}" if column.comment else "no comment any more")
    yield from (f"  - {column.name} {column.type.value}: no values any more" for column in difference.unfilled)


def _column(column: Column) -> dict[str, str]:
    return {"name": column.name, "type": column.type.value, "path": column.path}
