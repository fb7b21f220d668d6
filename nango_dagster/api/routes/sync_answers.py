"""Syncs of the store as answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ...http import public_url
from ...store import Database, jobs, status
from ...store.status import Status
from ...store.sync_row import SyncRow
from ..answers import LastJob, ListedSync, ShownSync
from ..input.secrets import starred


def listed(db: Database, rows: Sequence[SyncRow]) -> list[ListedSync]:
    """The syncs as a list shows them."""
    return [ListedSync(**fields) for fields in _fields(db, rows)]


def shown(db: Database, row: SyncRow) -> ShownSync:
    """A sync with its config."""
    (fields,) = _fields(db, [row])
    return ShownSync(**fields, config=starred(row.sync))


def _fields(db: Database, rows: Sequence[SyncRow]) -> list[dict[str, Any]]:
    states = {id: list(group) for id, group in groupby(status.read(db, rows), key=lambda state: state.row.id)}
    return [_fields_of(row, states.get(row.id, [])) for row in rows]


def _fields_of(row: SyncRow, states: Sequence[Status]) -> dict[str, Any]:
    """The fields of a sync; its next run is the first of its connections and variants, its last job their newest."""
    last_jobs = [state.job for state in states if state.job is not None]
    next_runs = [state.next_run_at for state in states if state.next_run_at is not None]
    return {
        "id": row.id,
        "name": row.name,
        "friendly_name": row.sync.friendly_name,
        "origin": row.origin,
        "url": public_url(row.sync.address),
        "metadata": row.sync.metadata,
        "frequency": row.sync.schedule_text,
        "enabled": row.sync.enabled,
        "next_run_at": min(next_runs, default=None),
        "last_job": _last_job(max(last_jobs, key=lambda job: job.id)) if last_jobs else None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _last_job(job: jobs.Job) -> LastJob:
    return LastJob(**{name: getattr(job, name) for name in LastJob.model_fields})
