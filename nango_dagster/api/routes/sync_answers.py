"""What the API answers: the shapes that /docs shows, made from rows of the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

from ...config import Sync
from ...http import public_url
from ...store import Database, jobs, queue
from ...store.syncs import Origin, SyncRow
from ..input.secrets import starred


class Kept(BaseModel):
    """The answer to a sync that was posted, put or deleted."""

    sync_id: int = Field(examples=[1])
    name: str = Field(description="What the sync is called, also in Dagster.", examples=["my-sync"])
    message: str = Field(examples=["Sync 1 was created; its first run is due now."])


class LastJob(BaseModel):
    """The last execution of a sync."""

    id: int
    status: jobs.Status
    started_at: datetime
    ended_at: datetime | None
    attempt: int = Field(description="Counts on while executions fail.")
    error_message: str | None
    run_id: str | None = Field(description="The run in Dagster.")
    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    pages: int
    stop_reason: str | None
    warnings: list[str]


class ListedSync(BaseModel):
    """A sync and how it fares."""

    id: int
    name: str
    friendly_name: str | None
    origin: Origin = Field(description="`http` if it was posted; one of a `file` can only be changed there.")
    url: str = Field(description="Without its secrets.")
    metadata: dict[str, Any]
    frequency: str = Field(examples=["every 60 minutes", "0 6 * * *"])
    enabled: bool
    next_run_at: datetime | None = Field(description="In the past when it is due and waits for a run.")
    last_job: LastJob | None
    created_at: datetime
    updated_at: datetime


class ShownSync(ListedSync):
    """The same with the whole config."""

    config: dict[str, Any] = Field(description="What was posted; secrets read `***`.")


class SyncList(BaseModel):
    """The syncs that were asked for, in the order they became known."""

    syncs: list[ListedSync]


_FEW = 1000  # ids that are worth naming; for more, all are read


def listed(db: Database, rows: list[SyncRow]) -> list[ListedSync]:
    """The syncs as a list shows them."""
    return [ListedSync(**parts) for parts in _parts(db, rows)]


def shown(db: Database, row: SyncRow) -> ShownSync:
    """One sync with its config."""
    (parts,) = _parts(db, [row])
    return ShownSync(**parts, config=starred(row.sync))


def _parts(db: Database, rows: list[SyncRow]) -> Iterable[dict[str, Any]]:
    ids = [row.id for row in rows] if len(rows) <= _FEW else None
    last_jobs: dict[int, jobs.Job] = {}
    for job in sorted(jobs.latest(db, ids).values(), key=lambda job: job.id):
        last_jobs[job.sync_id] = job
    schedules: dict[int, list[queue.Schedule]] = {}
    for schedule in queue.schedules(db, ids):
        schedules.setdefault(schedule.sync_id, []).append(schedule)
    for row in rows:
        yield _part(row, last_jobs.get(row.id), schedules.get(row.id, []))


def _part(row: SyncRow, last_job: jobs.Job | None, schedules: list[queue.Schedule]) -> dict[str, Any]:
    sync = row.sync
    return {
        "id": row.id,
        "name": row.name,
        "friendly_name": sync.friendly_name,
        "origin": row.origin,
        "url": public_url(sync.url),
        "metadata": sync.metadata,
        "frequency": sync.cron or f"every {(sync.interval or timedelta()) // timedelta(minutes=1)} minutes",
        "enabled": sync.enabled,
        "next_run_at": _next_run_at(sync, schedules),
        "last_job": _last_job(last_job) if last_job else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _last_job(job: jobs.Job) -> LastJob:
    return LastJob(**{name: getattr(job, name) for name in LastJob.model_fields})


def _next_run_at(sync: Sync, schedules: Iterable[queue.Schedule]) -> datetime | None:
    """When the first of its schedules is due; None while none is to run."""
    times = [due for schedule in schedules if (due := _due_at(sync, schedule)) is not None]
    return min(times, default=None) if sync.enabled else None


def _due_at(sync: Sync, schedule: queue.Schedule) -> datetime | None:
    if schedule.triggered_at is not None:
        return schedule.triggered_at
    if schedule.state == "PAUSED":
        return None
    if schedule.last_started_at is None:
        return schedule.created_at  # a first run does not wait for a slot
    return sync.next_slot(schedule.last_started_at)
