"""`list` and `status`: which syncs there are, and how they are doing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..config import Sync
from ..http import public_url
from .command import Session, command, grid
from .words import clock, iso

if TYPE_CHECKING:
    from ..store import Database
    from ..store.jobs import Job
    from ..store.queue import Schedule
    from ..store.syncs import SyncRow

COUNTS = ("added", "updated", "deleted", "unchanged", "rejected", "fetched", "pages", "requests", "retries")
SHOWN_COUNTS = COUNTS[:5]


@dataclass(frozen=True)
class Known:
    """A sync that is configured, or that the store knows, or both."""

    sync: Sync
    row: SyncRow | None
    is_configured: bool
    """Not where its file is gone and its rows are still there."""

    @property
    def id(self) -> int | None:
        """Its id in the store; None before it is first stored."""
        return self.row.id if self.row else None

    @property
    def origin(self) -> str:
        """Where it comes from: a `file`, over `http`, or from an `asset` of somebody's own."""
        return self.row.origin if self.row else "file"

    @property
    def table(self) -> str | None:
        """Its mapped table; a new sync's has no name yet."""
        if not self.sync.auto_mapping:
            return None
        return self.sync.mapped_table or (f"_nango_sync_{self.id}" if self.row else None)


def known(session: Session, database: Database) -> list[Known]:
    """Every sync: those of the files first, then those that only the store knows."""
    from ..store import syncs

    rows = {(row.integration, row.name): row for row in syncs.all(database)}
    configured = {(sync.integration_key, sync.name): sync for sync in session.configs.syncs}
    found = [Known(sync, rows.get(key), is_configured=True) for key, sync in configured.items()]
    others = [row for key, row in rows.items() if key not in configured]
    return found + [Known(row.sync, row, is_configured=row.origin != "file") for row in others]


@command("list", example="list --json")
def list_syncs(session: Session) -> None:
    """List the syncs.

    Those of config files, those posted over HTTP, and assets of your own that the IO manager writes. A sync whose file
    is gone is "not configured" and does not run any more, but its rows stay until `nango-dagster remove`.

    With --json, for each sync: name, id (null before it is first stored), integration, origin (file, http or asset),
    configured, enabled, url, mode, unique_key, schedule, table.
    """
    session.warn_of_configs()
    with session.database() as database:
        found = known(session, database)
    rows = [(one.sync.name, _origin(one), one.sync.mode, _schedule(one), one.table, _url(one)) for one in found]
    headings = ["sync", "origin", "mode", "schedule", "table", "url"]
    session.answer([_listed(one) for one in found], grid(headings, rows) if rows else "no syncs")


def _listed(one: Known) -> dict[str, Any]:
    return {
        "name": one.sync.name,
        "id": one.id,
        "integration": one.sync.integration_key,
        "origin": one.origin,
        "configured": one.is_configured,
        "enabled": one.sync.enabled,
        "url": _url(one),
        "mode": one.sync.mode,
        "unique_key": one.sync.unique_key,
        "schedule": _schedule(one),
        "table": one.table,
    }


def _origin(one: Known) -> str:
    origin = {"http": "posted"}.get(one.origin, one.origin) if one.is_configured else "not configured"
    return origin if one.sync.enabled else f"{origin}, disabled"


def _url(one: Known) -> str | None:
    return None if one.origin == "asset" else public_url(one.sync.url)


def _schedule(one: Known) -> str | None:
    """When it runs, as people say it; an asset runs when Dagster materializes it."""
    return None if one.origin == "asset" else frequency(one.sync)


def frequency(sync: Sync) -> str:
    """How often a sync runs.

    >>> frequency(Sync(url="https://api.example.com/items", frequency="every 2 hours"))
    'every 2 hours'
    """
    interval = sync.interval
    if interval is None:
        return f"{sync.cron} {sync.timezone or ''}".strip()
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if interval % length == timedelta(0):
            count = interval // length
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"every {interval}"


@command("status", example="status")
def status(session: Session) -> None:
    """Show how each sync is doing.

    Its state, its last job, when it runs next, and what went wrong. States: scheduled, running, paused, disabled,
    new (never stored), on demand (an asset of your own) and "not configured". One that is due waits for a run that
    takes it: `nango-dagster dev`, or the daemon of your Dagster.

    With --json, for each sync: name, integration, state, next_run_at (past when it is due), error (of the last job),
    last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason, warnings, added, updated, deleted,
    unchanged, rejected, fetched, pages, requests, retries).
    """
    from ..store import jobs, queue

    session.warn_of_configs()
    with session.database() as database:
        queue.reap(database)
        found = known(session, database)
        schedules, last = defaultdict(list), defaultdict(list)
        for schedule in queue.schedules(database):
            schedules[schedule.sync_id].append(schedule)
        for job in jobs.latest(database).values():
            last[job.sync_id].append(job)
    now = datetime.now(timezone.utc)
    states = [State.of(one, schedules.get(one.id or 0, ()), last.get(one.id or 0, ()), now) for one in found]
    session.answer([state.document() for state in states], *_for_people(states, now))


@dataclass(frozen=True)
class State:
    """How one sync is doing."""

    sync: Sync
    state: str
    next_run_at: datetime | None
    job: Job | None

    @classmethod
    def of(cls, one: Known, schedules: Sequence[Schedule], jobs: Sequence[Job], now: datetime) -> State:
        """The state that follows from what the store says; an asset has a schedule and a job for each partition."""
        state = _state(one, schedules)
        next_run = _next_run(one.sync, schedules, now) if state in ("scheduled", "new") else None
        return cls(one.sync, state, next_run, max(jobs, key=lambda job: job.id, default=None))

    @property
    def error(self) -> str | None:
        """What went wrong the last time."""
        return self.job.error_message if self.job else None

    def document(self) -> dict[str, Any]:
        """The state for machines."""
        return {
            "name": self.sync.name,
            "integration": self.sync.integration_key,
            "state": self.state,
            "next_run_at": iso(self.next_run_at),
            "error": self.error,
            "last_job": job_document(self.job) if self.job else None,
        }


def _state(one: Known, schedules: Sequence[Schedule]) -> str:
    if any(schedule.worker_id is not None for schedule in schedules):
        return "running"
    if not one.is_configured:
        return "not configured"
    if not one.sync.enabled:
        return "disabled"
    if one.origin == "asset":
        return "on demand"
    if not schedules:
        return "new"
    return "paused" if all(schedule.state == "PAUSED" for schedule in schedules) else "scheduled"


def _next_run(sync: Sync, schedules: Sequence[Schedule], now: datetime) -> datetime:
    """The slot that it waits for; a past one where it is due and no run has taken it yet."""
    return min((_next_of(sync, schedule, now) for schedule in schedules), default=sync.next_slot(now))


def _next_of(sync: Sync, schedule: Schedule, now: datetime) -> datetime:
    if schedule.triggered_at is not None:
        return schedule.triggered_at
    if schedule.last_started_at is None:
        return schedule.created_at
    return min(sync.next_slot(schedule.last_started_at), sync.next_slot(now))


def _for_people(states: Sequence[State], now: datetime) -> list[Any]:
    if not states:
        return ["no syncs"]
    some_rejected = any(state.job and state.job.rejected for state in states)
    counts = SHOWN_COUNTS if some_rejected else SHOWN_COUNTS[:-1]  # a table for terminals of 80 columns
    table = grid(
        ["sync", "state", "last job", *counts, "next run"],
        [_row(state, counts, now) for state in states],
        right=counts,
    )
    errors = [_error_line(state) for state in states if state.error]
    return [table, *([""] if errors else []), *errors]


def _error_line(state: State) -> str:
    """The error, which may begin with the sync's name already."""
    text = state.error or ""
    return text if text.startswith(f"{state.sync.display_name}: ") else f"{state.sync.name}: {text}"


def _row(state: State, counts: Sequence[str], now: datetime) -> list[object]:
    job = state.job
    last = f"{job.status} {clock(job.started_at, now)}" if job else ""
    due = state.next_run_at is not None and state.next_run_at <= now
    next_run = "due now" if due else clock(state.next_run_at, now)
    return [state.sync.name, state.state, last, *(getattr(job, name) if job else None for name in counts), next_run]


def job_document(job: Job) -> dict[str, Any]:
    """A job for machines."""
    return {
        "id": job.id,
        "run_id": job.run_id,
        "status": job.status,
        "started_at": iso(job.started_at),
        "ended_at": iso(job.ended_at),
        "attempt": job.attempt,
        "stop_reason": job.stop_reason,
        "warnings": job.warnings,
        **{name: getattr(job, name) for name in COUNTS},
    }
