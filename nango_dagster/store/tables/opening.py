"""Open the mapped table of a sync: create it, complete it, or refuse a table that no sync created."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, insert

from ... import mapping
from ...config import Sync
from ...errors import ConfigError
from .. import schema
from ..database import Database
from ..engine import Engine
from ..rows import driver
from ..system_columns import SYSTEM_COLUMNS
from .columns import actual_columns, ask_for_rebuild, forget_columns, registered
from .names import Transform, plan_of, table_name
from .table import LayoutCache, MappedTable, create_statement


def open_table(
    database: Database,
    sync_id: int,
    sync: Sync,
    transform: Transform | None = None,
    starred: Callable[[str], str] = str,
    *,
    allow_other_types: bool = False,
) -> MappedTable | None:
    """Open the sync's mapped table and create it where it is missing; None when auto_mapping is off.

    The columns of a record model exist afterwards. `starred` removes secrets from the text of errors that the
    transform raises.

    Raises ConfigError when no sync created the table of that name, or a column has another type than its declaration
    or model, unless `allow_other_types`.
    """
    if not sync.auto_mapping:
        return None
    table = replace(_fresh(database, sync_id, sync, transform), starred=starred)
    with database.ask() as connection:
        actual, noted = actual_columns(connection, database, table.name), registered(connection, table.name)
    if actual is None or noted is None or not _agree(actual, noted):
        actual, noted = database.transact(lambda connection: _make(connection, database, table))
    elif cached := _from_cache(table, noted):
        table = cached
    is_new = not table.layout.columns
    if is_new:
        positions = {name: position for position, name in enumerate(actual)}
        table.layout.add(sorted(noted, key=lambda column: positions[column.name]))
    table.layout.reserve(actual)
    if not allow_other_types:
        _refuse_other_types(table)
    if is_new and not allow_other_types:
        table.complete()
    return table


def _refuse_other_types(table: MappedTable) -> None:
    sync = table.sync
    for column, type_ in table.layout.mistyped():
        if column.path.startswith(mapping.DECLARED):
            raise ConfigError(
                f"{sync.display_name}: mapping.columns.{column.name} is declared as {type_.value}, but table "
                f"{table.name} has it with another type; choose another name, or drop the column: it is made anew then."
            )
        raise ConfigError(
            f"{sync.display_name}: {column.path} is {type_.value} in the model {sync.model}, but column {column.name} "
            f"of table {table.name} is {column.type.value}; nango-dagster tables rebuild {sync.name} gives it the type "
            "of the model."
        )


def _fresh(database: Database, sync_id: int, sync: Sync, transform: Transform | None) -> MappedTable:
    """The table with an empty layout."""
    rows = database.rows
    layout = mapping.Layout(
        rows.converters, plan_of(sync), nothing=rows.nothing, fold=rows.fold, max_row_bytes=rows.most_row_bytes
    )
    return MappedTable(database, sync_id, sync, table_name(sync, sync_id), layout, transform)


# Layouts of ended executions; the next one reuses them, since a thousand connections send records of the same shape.
_MOST_CACHED = 32
_caches: WeakKeyDictionary[Engine, dict[int, list[tuple[str, LayoutCache]]]] = WeakKeyDictionary()
_caches_lock = threading.Lock()


def cache_layout(table: MappedTable) -> None:
    """Keep the table's layout for another execution of this process; the caller does not use the table any more."""
    if table.incomplete:
        return
    version = table.version
    with _caches_lock:
        entries = _caches.setdefault(table.database.engine, {}).setdefault(table.sync_id, [])
        entries[:] = [entry for entry in entries if entry[0] == version][-_MOST_CACHED:]
        entries.append((version, table.cache))


def _from_cache(fresh: MappedTable, noted: Sequence[mapping.Column]) -> MappedTable | None:
    """The table with a cached layout, which no other execution gets; None where the mapping or a column changed."""
    with _caches_lock:
        entries = _caches.get(fresh.database.engine, {}).get(fresh.sync_id, [])
        version, cache = entries.pop() if entries else ("", fresh.cache)
    is_valid = version == fresh.version and {*cache.layout.columns} == {*noted}
    return fresh.with_cache(cache) if is_valid else None


def _agree(actual: Sequence[str], noted: Sequence[mapping.Column]) -> bool:
    return {*actual} >= {*SYSTEM_COLUMNS, *(column.name for column in noted)}


def _make(connection: Connection, database: Database, table: MappedTable) -> tuple[list[str], list[mapping.Column]]:
    """Create the table, or register that it or columns of it were dropped; return its actual and noted columns."""
    database.rows.hold_columns(connection, table.name)
    noted = registered(connection, table.name)
    actual = actual_columns(connection, database, table.name)
    _refuse_foreign(connection, table, actual, noted)
    if noted is None:
        now = database.now(connection)
        connection.execute(insert(schema.mapped_tables).values(table_name=table.name, created_at=now))
    if actual is None:
        driver(connection).execute(create_statement(database, table.name))
    dropped = [column for column in noted or [] if actual is None or column.name not in actual]
    kept = [column for column in noted or [] if column not in dropped]
    if dropped or actual is None:
        forget_columns(connection, table.name, dropped)
        ask_for_rebuild(connection, table.name)
    return actual or list(SYSTEM_COLUMNS), kept


def _refuse_foreign(
    connection: Connection,
    table: MappedTable,
    actual: Sequence[str] | None,
    noted: Sequence[mapping.Column] | None,
) -> None:
    """Raise ConfigError for a table, view or internal table of SQLite that no sync created."""
    if actual:
        is_ours = noted is not None and {*actual} >= {*SYSTEM_COLUMNS}
    else:
        is_ours = not table.database.rows.is_taken(connection, table.name)
    if not is_ours:
        raise ConfigError(
            f"{table.sync.display_name}: mapped_table is {table.name!r}, a table that exists already and was not made "
            "by a sync; choose a name that is free."
        )
