"""Requests to schedules: start, pause, trigger, cancel, and a frequency of their own.

Each request is one short transaction that locks nothing but rows of `_nango_schedules`. On PostgreSQL no batch locks
those rows, so a request never waits for a batch. SQLite has one writer at a time: a request waits there until the
batch is committed, and a process that serves requests raises StoreUnavailable after some seconds
(docs/explanation/decisions.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Update, and_, bindparam, case, func, literal, or_, select, update

from ...checkpoint import Checkpoint
from ...config.frequency import interval_of
from .. import checkpoints, schema, windows
from ..database import Database
from ..target import Target
from ..types import UtcTime
from .due import own_slot
from .model import State

_table = schema.schedules
_of = schema.schedules.c
_is_held = _of.worker_id.is_not(None)


def set_state(
    db: Database,
    sync_id: int,
    state: State,
    connection_id: str | None = None,
    variant: str | None = None,
    *,
    ids: Sequence[int] | None = None,
) -> int:
    """Start or pause a sync's schedules, all of them unless named; returns how many there are.

    A running execution goes on to its end. A pause drops requests that have not begun. A start makes a paused
    schedule due at once.
    """
    schedules = update(_table).where(*named(sync_id, connection_id, variant, ids))

    def start(connection: Connection) -> int:
        runs_already = or_(_is_held, _of.state == "STARTED")
        triggered_at = case((runs_already, _of.triggered_at), else_=literal(db.now(connection), UtcTime))
        return connection.execute(schedules.values(state="STARTED", triggered_at=triggered_at)).rowcount

    def pause(connection: Connection) -> int:
        kept = {"reset": and_(_is_held, _of.reset), "empty_cache": and_(_is_held, _of.empty_cache)}
        return connection.execute(schedules.values(state="PAUSED", triggered_at=None, **kept)).rowcount

    return db.transact(start if state == "STARTED" else pause)


def trigger(
    db: Database,
    sync_id: int,
    connection_id: str | None = None,
    variant: str | None = None,
    *,
    ids: Sequence[int] | None = None,
    reset: bool = False,
    empty_cache: bool = False,
) -> int:
    """Request an execution now, also of paused schedules; returns how many schedules accepted it.

    A schedule that is being executed ignores it. A `reset` cancels a running execution, and the next one begins
    without a checkpoint; `empty_cache` deletes the records before that, and does nothing without `reset`.
    """
    schedules = named(sync_id, connection_id, variant, ids)

    def request(connection: Connection) -> int:
        now = literal(db.now(connection), UtcTime)
        if reset:
            return connection.execute(_reset(schedules, now, empty_cache)).rowcount
        # PostgreSQL: an execution that ended while this statement waited for the row's lock was running when asked.
        was_free = and_(~_is_held, or_(_of.last_ended_at.is_(None), _of.last_ended_at <= now))
        free = update(_table).where(*schedules, was_free)
        triggered_at = func.coalesce(_of.triggered_at, now)
        return connection.execute(free.values(triggered_at=triggered_at, not_before=None)).rowcount

    return db.transact(request)


def _reset(schedules: list[ColumnElement[bool]], now: ColumnElement[datetime], empty_cache: bool) -> Update:
    return (
        update(_table)
        .where(*schedules)
        .values(
            triggered_at=now,
            not_before=None,
            cancelled_at=case((_is_held, now), else_=_of.cancelled_at),
            reset=True,
            empty_cache=or_(_of.empty_cache, literal(empty_cache)),
        )
    )


def cancel(
    db: Database,
    sync_id: int,
    connection_id: str | None = None,
    variant: str | None = None,
    *,
    ids: Sequence[int] | None = None,
) -> int:
    """Cancel running executions and drop requests that have not begun; returns how many executions are running."""
    schedules = named(sync_id, connection_id, variant, ids)

    def request(connection: Connection) -> int:
        waiting = update(_table).where(*schedules, ~_is_held)
        connection.execute(waiting.values(triggered_at=None, reset=False, empty_cache=False))
        running = update(_table).where(*schedules, _is_held)
        return connection.execute(running.values(cancelled_at=literal(db.now(connection), UtcTime))).rowcount

    return db.transact(request)


def set_frequency(
    db: Database, sync_id: int, connection_id: str | None, variant: str | None, frequency: str | None
) -> int:
    """Set the own frequency of a sync's schedules, such as "every 5 minutes"; None removes it.

    Returns how many schedules there are; running executions go on. Raises ConfigError for text that is no frequency.
    """
    if frequency is not None:
        interval_of(frequency)

    def request(connection: Connection) -> int:
        now = db.now(connection)
        schedules = select(_of.id, _of.created_at, _of.frequency).where(*named(sync_id, connection_id, variant))
        rows = connection.execute(schedules.with_for_update()).all()
        changes = [
            {"row_id": row.id, "new": frequency, "slot": frequency and own_slot(frequency, row.created_at, now)}
            for row in rows
            if row.frequency != frequency
        ]
        if changes:
            change = update(_table).where(_of.id == bindparam("row_id"))
            connection.execute(change.values(frequency=bindparam("new"), due_at=bindparam("slot")), changes)
        return len(rows)

    return db.transact(request)


def set_checkpoint(
    db: Database,
    sync_id: int,
    connection_id: str | None,
    variant: str | None,
    checkpoint: Checkpoint | None,
    *,
    ids: Sequence[int] | None = None,
) -> int:
    """Replace the checkpoints of a sync's schedules, or delete them with None; returns how many were free for it.

    A schedule that is being executed keeps its own. Deletion windows are closed: they belong to the checkpoint before.
    Raises ConfigError for a checkpoint that is not flat.
    """
    text = None if checkpoint is None else checkpoints.to_text(checkpoint)
    free = [*named(sync_id, connection_id, variant, ids), ~_is_held]

    def request(connection: Connection) -> int:
        targets = select(_of.sync_id, _of.connection_id, _of.variant).where(*free).with_for_update()
        for row in connection.execute(targets).all():
            windows.drop_of(connection, Target.of(row))
        return connection.execute(update(_table).where(*free).values(checkpoint=text)).rowcount

    return db.transact(request)


def named(
    sync_id: int, connection_id: str | None, variant: str | None, ids: Sequence[int] | None = None
) -> list[ColumnElement[bool]]:
    """The SQL conditions for a sync's schedules: all of them unless named, or given by their ids."""
    conditions = [_of.sync_id == sync_id]
    if connection_id is not None:
        conditions.append(_of.connection_id == connection_id)
    if variant is not None:
        conditions.append(_of.variant == variant)
    if ids is not None:
        conditions.append(_of.id.in_(ids))
    return conditions
