"""What somebody asks of schedules, as a value, and the statements that do it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, literal, or_, select, update

from .. import schema
from ..types import UtcTime
from .grid import next_slot

_table = schema.schedules
_of = schema.schedules.c
_is_held = _of.worker_id.is_not(None)


@dataclass(frozen=True)
class Asked:
    """Something that is asked of a sync's schedules, all of them unless named."""

    what: Literal["start", "pause", "trigger", "reset", "cancel", "frequency"]
    sync_id: int
    connection_id: str | None = None
    variant: str | None = None
    empty_cache: bool = False
    frequency: str | None = None

    @property
    def _named(self) -> list[ColumnElement[bool]]:
        return named(self.sync_id, self.connection_id, self.variant)

    def concerns(self, sync_ids: Collection[int] | None, connection_id: str | None, variant: str | None) -> bool:
        """Whether it is asked of some of these syncs' schedules, of that connection and variant where they are named.

        >>> acme = Asked("pause", 1, "acme")
        >>> acme.concerns([1], "beta", None), acme.concerns(None, None, "base")
        (False, True)
        """
        names = ((self.connection_id, connection_id), (self.variant, variant))
        is_of = sync_ids is None or self.sync_id in sync_ids
        return is_of and all(None in pair or pair[0] == pair[1] for pair in names)

    def do(self, connection: Connection, at: datetime) -> int:
        """Do it, as of the moment it was asked; of how many schedules it was asked, or how many it concerns."""
        done: int = getattr(self, f"_{self.what}")(connection, literal(at, UtcTime), at)
        return done

    def _start(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        as_it_is = or_(_is_held, _of.state == "STARTED")
        begin = case((as_it_is, _of.triggered_at), else_=now)
        started = update(_table).where(*self._named).values(state="STARTED", triggered_at=begin)
        return connection.execute(started).rowcount

    def _pause(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        kept = {"reset": and_(_is_held, _of.reset), "empty_cache": and_(_is_held, _of.empty_cache)}
        paused = update(_table).where(*self._named).values(state="PAUSED", triggered_at=None, **kept)
        return connection.execute(paused).rowcount

    def _trigger(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        # One that was being executed then is left alone, also if that has ended before this is done.
        was_free = and_(~_is_held, or_(_of.last_ended_at.is_(None), _of.last_ended_at <= now))
        free = update(_table).where(*self._named, was_free)
        asked = free.values(triggered_at=func.coalesce(_of.triggered_at, now), not_before=None)
        return connection.execute(asked).rowcount

    def _reset(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        again = (
            update(_table)
            .where(*self._named)
            .values(
                triggered_at=now,
                not_before=None,
                cancelled_at=case((_is_held, now), else_=_of.cancelled_at),
                reset=True,
                empty_cache=or_(_of.empty_cache, literal(self.empty_cache)),
            )
        )
        return connection.execute(again).rowcount

    def _cancel(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        drop = update(_table).where(*self._named, ~_is_held)
        connection.execute(drop.values(triggered_at=None, reset=False, empty_cache=False))
        stop = update(_table).where(*self._named, _is_held).values(cancelled_at=now)
        return connection.execute(stop).rowcount

    def _frequency(self, connection: Connection, now: ColumnElement[datetime], at: datetime) -> int:
        new = self.frequency
        found = select(_of.id, _of.created_at, _of.frequency).where(*self._named).with_for_update()
        rows = connection.execute(found).all()
        changed = [
            {"row_id": row.id, "new": new, "slot": new and next_slot(new, row.created_at, at)}
            for row in rows
            if row.frequency != new
        ]
        if changed:
            one = update(_table).where(_of.id == bindparam("row_id"))
            connection.execute(one.values(frequency=bindparam("new"), due_at=bindparam("slot")), changed)
        return len(rows)


def named(sync_id: int, connection_id: str | None, variant: str | None) -> list[ColumnElement[bool]]:
    """Which schedules of a sync are meant: all of them, unless named."""
    conditions = [_of.sync_id == sync_id]
    if connection_id is not None:
        conditions.append(_of.connection_id == connection_id)
    if variant is not None:
        conditions.append(_of.variant == variant)
    return conditions
