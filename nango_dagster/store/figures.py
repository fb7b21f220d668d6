"""What monitoring asks for: numbers of each sync from schedules, jobs and datasets; no record is read for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ..config import Sync
from . import jobs, queue, schema, syncs
from .database import Database
from .queue import REAUTHORISE_AFTER
from .syncs import SyncRow
from .types import UtcTime

NEVER = "never"

_schedules = schema.schedules
_of = schema.schedules.c


@dataclass(frozen=True)
class SyncFigures:
    """A sync for all its connections and variants, each of which counts as one."""

    row: SyncRow
    last: Mapping[str, int]
    """How many there are by how their last execution ended, `running` and `never` among it."""
    last_success: datetime | None
    waiting_since: datetime | None
    """Since when that one waits for a run that has waited longest; None where none is due."""
    records: int


@dataclass(frozen=True)
class Figures:
    """What is known at one moment."""

    now: datetime
    syncs: list[SyncFigures]
    needs_reauthorisation: Mapping[str, int]
    """Connections that wait for other credentials, by integration."""


@dataclass
class Reader:
    """Reads them again and again, and a sync's config only when it has changed."""

    database: Database
    _known: dict[int, SyncRow] = field(default_factory=dict)

    def read(self) -> Figures:
        """What it is now."""
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
        found = [
            SyncFigures(
                row,
                last.get(row.id, {}),
                success.get(row.id),
                _since(row.sync, waiting[row.id], now) if row.id in waiting and _runs(row) else None,
                records.get(row.id, 0),
            )
            for row in rows
        ]
        return Figures(now, found, refused)

    def _rows(self) -> list[SyncRow]:
        """All syncs, of which only those are decoded that are new or have changed."""
        of = schema.syncs.c
        with self.database.ask() as connection:
            there = {row.id: row.updated_at for row in connection.execute(sa.select(of.id, of.updated_at))}
        stale = [id for id, at in there.items() if id not in self._known or self._known[id].updated_at != at]
        if stale:
            self._known = {row.id: row for row in syncs.all(self.database)}
        return [row for id, row in self._known.items() if id in there]


def _runs(row: SyncRow) -> bool:
    return row.sync.enabled and row.origin != "asset"


def _since(sync: Sync, waiting: queue.Waiting, now: datetime) -> datetime | None:
    slot = sync.latest_slot(now)
    behind = slot if waiting.begun is not None and waiting.begun < slot else None
    moments = [waiting.asked, waiting.new, waiting.lost, waiting.own, behind]
    return min((moment for moment in moments if moment is not None), default=None)


def _ended() -> sa.Select[Any]:
    job, older = schema.jobs.c, schema.jobs.alias("older").c
    same = (older.sync_id == _of.sync_id, older.connection_id == _of.connection_id, older.variant == _of.variant)
    # The first row of the index that is looked at, unless it has failed for long.
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
