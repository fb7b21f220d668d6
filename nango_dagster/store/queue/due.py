"""Frequencies of their own: a schedule's slots on a grid that starts when the schedule was made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from ...config.frequency import minutes
from .. import schema
from ..database import Database
from .model import Claim

_table = schema.schedules
_of = schema.schedules.c


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
