"""A sync's mapped table is opened: made when there is none, completed, or refused when it is not one of ours."""

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
from .table import Learnt, MappedTable, create_statement


def open_table(
    database: Database,
    sync_id: int,
    sync: Sync,
    transform: Transform | None = None,
    starred: Callable[[str], str] = str,
) -> MappedTable | None:
    """The sync's mapped table, made when there is none; None when auto_mapping is off.

    `starred` takes the secrets out of what the transform raises.

    Raises ConfigError when a table of that name exists that is not ours.
    """
    if not sync.auto_mapping:
        return None
    table = replace(_fresh(database, sync_id, sync, transform), starred=starred)
    with database.ask() as connection:
        actual, noted = actual_columns(connection, database, table.name), registered(connection, table.name)
    if actual is None or noted is None or not _agree(actual, noted):
        actual, noted = database.transact(lambda connection: _make(connection, database, table))
    elif used := _take(table, noted):
        table = used
    if not table.layout.columns:
        position = {column: at for at, column in enumerate(actual)}
        table.layout.add(sorted(noted, key=lambda column: position[column.name]))
    table.layout.reserve(actual)
    if wrong := table.layout.mistyped():
        raise ConfigError(
            f"{sync.display_name}: mapping.columns.{wrong.name} is declared as {wrong.type.value}, but table "
            f"{table.name} has it with another type; choose another name, or drop the column: it is made anew then."
        )
    return table


def _fresh(database: Database, sync_id: int, sync: Sync, transform: Transform | None) -> MappedTable:
    """The table as nothing is known of it yet."""
    rows = database.rows
    layout = mapping.Layout(
        rows.converters, plan_of(sync), nothing=rows.nothing, fold=rows.fold, max_row_bytes=rows.most_row_bytes
    )
    return MappedTable(database, sync_id, sync, table_name(sync, sync_id), layout, transform)


# What executions have learnt of a table's records is of use to the next: a thousand connections send the same shape.
_MOST_IDLE = 32
_idle: WeakKeyDictionary[Engine, dict[int, list[tuple[str, Learnt]]]] = WeakKeyDictionary()
_idle_lock = threading.Lock()


def put_aside(table: MappedTable) -> None:
    """Let another execution of this process go on with what this one knows of the table; this one is done with it."""
    if table.incomplete:
        return
    version = table.version
    with _idle_lock:
        idle = _idle.setdefault(table.database.engine, {}).setdefault(table.sync_id, [])
        idle[:] = [entry for entry in idle if entry[0] == version][-_MOST_IDLE:]
        idle.append((version, table.learnt))


def _take(fresh: MappedTable, noted: Sequence[mapping.Column]) -> MappedTable | None:
    """One that was put aside, if the table and its mapping are still what they were."""
    with _idle_lock:
        idle = _idle.get(fresh.database.engine, {}).get(fresh.sync_id, [])
        version, learnt = idle.pop() if idle else ("", fresh.learnt)
    still = version == fresh.version and {*learnt.layout.columns} == {*noted}
    return fresh.going_on(learnt) if still else None


def _agree(actual: Sequence[str], noted: Sequence[mapping.Column]) -> bool:
    return {*actual} >= {*SYSTEM_COLUMNS, *(column.name for column in noted)}


def _make(connection: Connection, database: Database, table: MappedTable) -> tuple[list[str], list[mapping.Column]]:
    """Make the table, or complete it after somebody dropped it or a column of it; its columns."""
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
    """Raise ConfigError for what was not made by a sync: a table, a view, or SQLite's own."""
    if actual:
        is_ours = noted is not None and {*actual} >= {*SYSTEM_COLUMNS}
    else:
        is_ours = not table.database.rows.is_taken(connection, table.name)
    if not is_ours:
        raise ConfigError(
            f"{table.sync.display_name}: mapped_table is {table.name!r}, a table that exists already and was not made "
            "by a sync; choose a name that is free."
        )
