"""Frequencies of their own: a schedule's slots on a grid that starts when the schedule was made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from ...config.frequency import minutes
from .. import schema
from ..database import Database
from .values import Claim

_table = schema.schedules
_of = schema.schedules.c


def set_frequency(
    db: Database, sync_id: int, connection_id: str | None, variant: str | None, frequency: str | None
) -> int:
    """Give schedules of a sync a frequency of their own, such as "every 5 minutes", or None for the sync's again.

    Of how many; what is being executed goes on. Raises ConfigError when it is no frequency.
    """
    if frequency is not None:
        minutes(frequency)
    named = [_of.sync_id == sync_id]
    named += [] if connection_id is None else [_of.connection_id == connection_id]
    named += [] if variant is None else [_of.variant == variant]

    def work(connection: Connection) -> int:
        now = db.now(connection)
        rows = connection.execute(select(_of.id, _of.created_at, _of.frequency).where(*named).with_for_update()).all()
        changed = [
            {"row_id": row.id, "new": frequency, "slot": frequency and next_slot(frequency, row.created_at, now)}
            for row in rows
            if row.frequency != frequency
        ]
        if changed:
            one = update(_table).where(_of.id == bindparam("row_id"))
            connection.execute(one.values(frequency=bindparam("new"), due_at=bindparam("slot")), changed)
        return len(rows)

    return db.transact(work)


def next_slot(frequency: str, since: datetime, now: datetime) -> datetime:
    """The first slot after a moment.

    >>> at = datetime.fromisoformat
    >>> next_slot("every 5 minutes", at("2024-01-01T00:01:30"), at("2024-01-01T00:11:30")).isoformat()
    '2024-01-01T00:16:30'
    """
    step = timedelta(minutes=minutes(frequency))
    return since + ((now - since) // step + 1) * step


def following(connection: Connection, db: Database, claim: Claim) -> dict[str, Any]:
    """The new `due_at` of a schedule with a frequency of its own; nothing for the others."""
    if claim.frequency is None or claim.created_at is None:
        return {}
    return {"due_at": next_slot(claim.frequency, claim.created_at, db.now(connection))}
