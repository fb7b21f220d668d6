"""How far an execution has read: one flat JSON object for each sync, connection and variant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from ..checkpoint import Checkpoint, check_flat
from . import schema


@dataclass(frozen=True)
class Change:
    """The checkpoint before and after an execution that saved or deleted it; None for no checkpoint."""

    before: Checkpoint | None
    after: Checkpoint | None


def to_text(checkpoint: Checkpoint) -> str:
    """The checkpoint as it is stored. Raises ConfigError where it is not a flat object within Nango's limits.

    >>> to_text({"updated_after": "2026-01-01T00:00:00Z", "page": 3})
    '{"updated_after": "2026-01-01T00:00:00Z", "page": 3}'
    """
    check_flat(checkpoint)
    return json.dumps(dict(checkpoint))


def of_text(text: str | None) -> Checkpoint | None:
    """The checkpoint that was stored as this text; None for none."""
    checkpoint: Checkpoint | None = None if text is None else json.loads(text)
    return checkpoint


def save(connection: Connection, schedule_id: int, checkpoint: Checkpoint | None) -> None:
    """Replace a schedule's checkpoint, or forget it. The caller has checked its claim in the same transaction."""
    text = None if checkpoint is None else to_text(checkpoint)
    schedules = schema.schedules
    connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(checkpoint=text))


def forget(connection: Connection, schedule_id: int) -> None:
    """Forget a schedule's checkpoint and the date of its last sync."""
    schedules = schema.schedules
    begun = {"checkpoint": None, "last_sync_at": None}
    connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(begun))


def last_sync_at(connection: Connection, schedule_id: int) -> datetime | None:
    """When a schedule's last successful execution began; None before the first and after a reset."""
    schedules = schema.schedules.c
    return connection.execute(select(schedules.last_sync_at).where(schedules.id == schedule_id)).scalar()
