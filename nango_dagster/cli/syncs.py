"""`list` and `status`: which syncs there are, and how they are doing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..config import Sync
from ..http import public_url
from .command import Session, command, grid
from .words import iso, local

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
    origin: str
    """`file`, `posted`, or `not configured`: its file is gone and its rows are still there."""

    @property
    def table(self) -> str | None:
        """Its mapped table; a new sync's has no name yet."""
        if not self.sync.auto_mapping:
            return None
        return self.sync.mapped_table or (f"_nango_sync_{self.row.id}" if self.row else None)

    def is_on(self) -> bool:
        """Whether its schedule may run it."""
        return self.sync.enabled and self.origin != "not configured"


def known(session: Session, database: Database) -> list[Known]:
    """Every sync: those of the files first, then those that only the store knows."""
    from ..store import syncs

    rows = {(row.integration, row.name): row for row in syncs.all(database)}
    configured = {(sync.integration_key, sync.name): sync for sync in session.configs.syncs}
    found = [Known(sync, rows.get(key), "file") for key, sync in configured.items()]
    others = [row for key, row in rows.items() if key not in configured]
    return found + [Known(row.sync, row, "posted" if row.origin == "http" else "not configured") for row in others]


@command("list", example="list --json")
def list_syncs(session: Session) -> None:
    """List the syncs.

    Those of config files, those posted over HTTP, and those whose file is gone: they are "not configured" and do not
    run any more, but their rows stay until `nango-dagster remove`.

    With --json, for each sync: name, id (null before it is first stored), integration, origin (file, posted or not
    configured), enabled, url, mode, unique_key, schedule, table.
    """
    session.warn_of_configs()
    with session.database() as database:
        found = known(session, database)
    rows = [
        (one.sync.name, _origin(one), one.sync.mode, _schedule(one.sync), one.table, public_url(one.sync.url))
        for one in found
    ]
    headings = ["sync", "origin", "mode", "schedule", "table", "url"]
    session.answer([_listed(one) for one in found], grid(headings, rows) if rows else "no syncs")


def _listed(one: Known) -> dict[str, Any]:
    return {
        "name": one.sync.name,
        "id": one.row.id if one.row else None,
        "integration": one.sync.integration_key,
        "origin": one.origin,
        "enabled": one.sync.enabled,
        "url": public_url(one.sync.url),
        "mode": one.sync.mode,
        "unique_key": one.sync.unique_key,
        "schedule": _schedule(one.sync),
        "table": one.table,
    }


def _origin(one: Known) -> str:
    return one.origin if one.sync.enabled else f"{one.origin}, disabled"


def _schedule(sync: Sync) -> str:
    """The frequency as people say it.

    >>> _schedule(Sync(url="https://api.example.com/items", frequency="every 2 hours"))
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
    new (never stored) and "not configured". A sync that is due waits for a run that takes it: `nango-dagster dev`,
    or the daemon of your Dagster.

    With --json, for each sync: name, integration, state, next_run_at (past when it is due), error (of the last job),
    last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason, warnings, added, updated, deleted,
    unchanged, rejected, fetched, pages, requests, retries).
    """
    from ..store import jobs, queue

    session.warn_of_configs()
    with session.database() as database:
        queue.reap(database)
        found = known(session, database)
        schedules = {schedule.sync_id: schedule for schedule in queue.schedules(database)}
        last = {job.sync_id: job for job in jobs.latest(database).values()}
    now = datetime.now(timezone.utc)
    states = [State.of(one, schedules, last, now) for one in found]
    session.answer([state.document() for state in states], *_for_people(states, now))


@dataclass(frozen=True)
class State:
    """How one sync is doing."""

    sync: Sync
    state: str
    next_run_at: datetime | None
    job: Job | None

    @classmethod
    def of(cls, one: Known, schedules: dict[int, Schedule], jobs: dict[int, Job], now: datetime) -> State:
        """The state that follows from what the store says."""
        schedule = schedules.get(one.row.id) if one.row else None
        state = _state(one, schedule)
        next_run = _next_run(one.sync, schedule, now) if state in ("scheduled", "new") else None
        return cls(one.sync, state, next_run, jobs.get(one.row.id) if one.row else None)

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


def _state(one: Known, schedule: Schedule | None) -> str:
    if schedule is not None and schedule.worker_id is not None:
        return "running"
    if not one.is_on():
        return "disabled" if one.origin != "not configured" else one.origin
    if schedule is None:
        return "new"
    return "paused" if schedule.state == "PAUSED" else "scheduled"


def _next_run(sync: Sync, schedule: Schedule | None, now: datetime) -> datetime:
    """The slot that it waits for; a past one where it is due and no run has taken it yet."""
    if schedule is None:
        return sync.next_slot(now)
    if schedule.triggered_at is not None:
        return schedule.triggered_at
    if schedule.last_started_at is None:
        return schedule.created_at
    return min(sync.next_slot(schedule.last_started_at), sync.next_slot(now))


def _for_people(states: Sequence[State], now: datetime) -> list[Any]:
    if not states:
        return ["no syncs"]
    headings = ["sync", "state", "last job", "at", *SHOWN_COUNTS, "next run"]
    errors = [f"{state.sync.name}: {state.error}" for state in states if state.error]
    return [
        grid(headings, [_row(state, now) for state in states], right=SHOWN_COUNTS),
        *([""] if errors else []),
        *errors,
    ]


def _row(state: State, now: datetime) -> list[object]:
    job = state.job
    counts = [getattr(job, name) if job else None for name in SHOWN_COUNTS]
    due = state.next_run_at is not None and state.next_run_at <= now
    next_run = "due now" if due else local(state.next_run_at)
    return [
        state.sync.name,
        state.state,
        job.status if job else "",
        local(job.started_at if job else None),
        *counts,
        next_run,
    ]


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
