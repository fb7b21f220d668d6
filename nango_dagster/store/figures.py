"""Figures for monitoring: numbers of each sync from schedules, jobs and datasets; no record is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from . import jobs, queue, schema, syncs
from .database import Database
from .queue import REAUTHORISE_AFTER
from .sync_row import SyncRow
from .types import UtcTime

NEVER = "never"

_schedules = schema.schedules
_of = schema.schedules.c


@dataclass(frozen=True)
class SyncFigures:
    """The figures of a sync over its schedules, one for each connection and variant."""

    row: SyncRow
    last: Mapping[str, int]
    """The number of schedules by the status of their last job, or `never`."""
    last_success: datetime | None
    waiting_since: datetime | None
    """Since when the schedule that has waited longest waits for a run; None where none is due."""
    records: int


@dataclass(frozen=True)
class Figures:
    """The figures at one moment."""

    now: datetime
    syncs: list[SyncFigures]
    needs_reauthorisation: Mapping[str, int]
    """The number of connections that wait for other credentials, by integration."""


@dataclass
class Reader:
    """Reads the figures repeatedly, and decodes a sync's config only when it has changed."""

    database: Database
    _known: dict[int, SyncRow] = field(default_factory=dict)

    def read(self) -> Figures:
        """Read the figures."""
        db = self.database
        rows = self._rows()
        waiting = queue.waiting(db)
        with db.ask() as connection:
            now = db.now(connection)
            ended = connection.execute(_ENDED).all()
            records = {row.sync_id: int(row.records) for row in connection.execute(_RECORDS)}
            refused = {row.integration: row.number for row in connection.execute(_REFUSED)}
        last: dict[int, dict[str, int]] = {}
        success: dict[int, datetime] = {}
        for row in ended:
            last.setdefault(row.sync_id, {})[row.status or NEVER] = row.number
            if row.succeeded_at is not None:
                success[row.sync_id] = max(row.succeeded_at, success.get(row.sync_id, row.succeeded_at))
        figures = [
            SyncFigures(
                row,
                last.get(row.id, {}),
                success.get(row.id),
                waiting[row.id].since(row.sync.latest_slot(now)) if row.id in waiting and _runs(row) else None,
                records.get(row.id, 0),
            )
            for row in rows
        ]
        return Figures(now, figures, refused)

    def _rows(self) -> list[SyncRow]:
        """All syncs; those that are new or have changed are decoded."""
        of = schema.syncs.c
        with self.database.ask() as connection:
            updated_at = {row.id: row.updated_at for row in connection.execute(sa.select(of.id, of.updated_at))}
        stale = [id for id, at in updated_at.items() if id not in self._known or self._known[id].updated_at != at]
        if stale:
            self._known = {row.id: row for row in syncs.all(self.database)}
        return [row for id, row in self._known.items() if id in updated_at]


def _runs(row: SyncRow) -> bool:
    return row.sync.enabled and row.origin != "asset"


def _ended() -> sa.Select[Any]:
    job, older = schema.jobs.c, schema.jobs.alias("older").c
    same = (older.sync_id == _of.sync_id, older.connection_id == _of.connection_id, older.variant == _of.variant)
    # Usually the first row of the index, unless the sync has failed for long.
    before = (
        sa.select(older.ended_at)
        .where(*same, older.status == "succeeded")
        .order_by(older.id.desc())
        .limit(1)
        .correlate(_schedules)
        .scalar_subquery()
    )
    succeeded = sa.case((job.status == "succeeded", job.ended_at), else_=before)
    return (
        sa.select(
            _of.sync_id,
            job.status,
            sa.func.count().label("number"),
            sa.type_coerce(sa.func.max(succeeded), UtcTime).label("succeeded_at"),
        )
        .select_from(_schedules)
        .outerjoin(schema.jobs, job.id == jobs.newest(_schedules))
        .group_by(_of.sync_id, job.status)
    )


_ENDED = _ended()
_RECORDS = sa.select(
    schema.datasets.c.sync_id, sa.func.coalesce(sa.func.sum(schema.datasets.c.live_count), 0).label("records")
).group_by(schema.datasets.c.sync_id)
_REFUSED = (
    sa.select(schema.connections.c.integration, sa.func.count().label("number"))
    .where(schema.connections.c.auth_failures >= sa.literal_column(str(REAUTHORISE_AFTER)))  # as the index has it
    .group_by(schema.connections.c.integration)
)
