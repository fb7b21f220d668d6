"""Whose a mapped table is: made when there is none, made whole again, or left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, insert

from ... import mapping
from ...config import Sync
from ...errors import ConfigError
from .. import bulk, schema
from ..database import Database
from ..engine import Engine
from .names import SYSTEM_COLUMNS, Transform, plan_of, table_name
from .table import NOTHING, Learnt, MappedTable, create_statement
from .there import ask_for_rebuild, columns_there, forget_columns, hold, is_taken, registered


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
        there, known = columns_there(connection, table.name), registered(connection, table.name)
    if there is None or known is None or not _agree(there, known):
        there, known = database.transact(lambda connection: _make(connection, database, table))
    elif used := _take(table, known):
        table = used
    if not table.layout.columns:
        position = {column: at for at, column in enumerate(there)}
        table.layout.add(sorted(known, key=lambda column: position[column.name]))
    table.layout.reserve(there)
    if wrong := table.layout.mistyped():
        raise ConfigError(
            f"{sync.display_name}: mapping.columns.{wrong.name} is declared as {wrong.type.value}, but table "
            f"{table.name} has it with another type; choose another name, or drop the column: it is made anew then."
        )
    return table


def _fresh(database: Database, sync_id: int, sync: Sync, transform: Transform | None) -> MappedTable:
    """The table as nothing is known of it yet."""
    is_postgresql = database.is_postgresql
    layout = mapping.Layout(
        mapping.TO_POSTGRESQL if is_postgresql else mapping.TO_SQLITE,
        plan_of(sync),
        nothing=NOTHING if is_postgresql else None,
        fold=str if is_postgresql else str.lower,  # SQLite knows no two columns that differ by case alone
        max_row_bytes=mapping.MAX_ROW_BYTES if is_postgresql else None,
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
        idle[:] = [one for one in idle if one[0] == version][-_MOST_IDLE:]
        idle.append((version, table.learnt))


def _take(fresh: MappedTable, known: Sequence[mapping.Column]) -> MappedTable | None:
    """One that was put aside, if the table and its mapping are still what they were."""
    with _idle_lock:
        idle = _idle.get(fresh.database.engine, {}).get(fresh.sync_id, [])
        version, learnt = idle.pop() if idle else ("", fresh.learnt)
    still = version == fresh.version and {*learnt.layout.columns} == {*known}
    return fresh.going_on(learnt) if still else None


def _agree(there: Sequence[str], known: Sequence[mapping.Column]) -> bool:
    return {*there} >= {*SYSTEM_COLUMNS, *(column.name for column in known)}


def _make(connection: Connection, database: Database, table: MappedTable) -> tuple[list[str], list[mapping.Column]]:
    """Make the table, or make it whole again after somebody dropped it or a column of it; its columns."""
    hold(connection, database, table.name)
    known = registered(connection, table.name)
    there = columns_there(connection, table.name)
    _refuse_foreign(connection, table, there, known)
    if known is None:
        now = database.now(connection)
        connection.execute(insert(schema.mapped_tables).values(table_name=table.name, created_at=now))
    if there is None:
        bulk.driver(connection).execute(create_statement(database, table.name))
    gone = [column for column in known or [] if there is None or column.name not in there]
    kept = [column for column in known or [] if column not in gone]
    if gone or there is None:
        forget_columns(connection, table.name, gone)
        ask_for_rebuild(connection, table.name)
    return there or list(SYSTEM_COLUMNS), kept


def _refuse_foreign(
    connection: Connection,
    table: MappedTable,
    there: Sequence[str] | None,
    known: Sequence[mapping.Column] | None,
) -> None:
    """Leave alone what was not made by a sync: a table, a view, or SQLite's own."""
    ours = known is not None and {*there} >= {*SYSTEM_COLUMNS} if there else not is_taken(connection, table.name)
    if not ours:
        raise ConfigError(
            f"{table.sync.display_name}: mapped_table is {table.name!r}, a table that exists already and was not made "
            "by a sync; choose a name that is free."
        )
