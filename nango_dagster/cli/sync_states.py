"""The state of a sync over all its connections, for `status`, and as a document for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..config import Sync
from .formatting import iso
from .syncs import Known

if TYPE_CHECKING:
    from ..store.jobs import Job
    from ..store.queue import Hold
    from ..store.status import Status, Summary

NOT_LOADED = "not loaded yet"
"""The state of a sync whose file was added, and that no process has written into the store."""

COUNTS = ("added", "updated", "deleted", "unchanged", "rejected", "fetched", "pages", "requests", "retries")


@dataclass(frozen=True)
class State:
    """How one sync is doing, for one account or for all its connections."""

    sync: Sync
    state: str
    next_run_at: datetime | None
    statuses: Sequence[Status]
    summary: Summary
    owner: str | None = None
    """The project that it belongs to."""

    @classmethod
    def of(cls, entry: Known, statuses: Sequence[Status]) -> State:
        """The state that follows from what the store says."""
        from ..store.status import summary

        state = _state(entry, statuses)
        next_run = None
        if state in ("scheduled", "running") and entry.is_configured:
            next_runs = [status.next_run_at for status in statuses if status.next_run_at is not None]
            next_run = min(next_runs, default=None)
        owner = entry.row.owner if entry.row else None
        return cls(entry.sync, state, next_run, statuses, summary(statuses), owner)

    @property
    def no_next_run(self) -> str | None:
        """Why it does not run again by itself; None where it does."""
        if self.next_run_at is not None:
            return None
        name, integration = self.sync.name, self.sync.integration_key
        holds = {status.hold for status in self.statuses}
        reasons = {
            "not configured": f"no config has it any more; nango-dagster remove {name} deletes its rows",
            "of another project": f"it belongs to project {self.owner}; nango-dagster adopt {name} takes it over",
            NOT_LOADED: "no process has loaded its file yet; `nango-dagster dev` does so within seconds, "
            "any other Dagster when its code location is reloaded",
            "no connections": f"nango-dagster connections add --integration {integration} --connection ID adds one",
        }
        return reasons.get(self.state) or (no_next_run(next(iter(holds)), name) if len(holds) == 1 else None)

    @property
    def job(self) -> Job | None:
        """The last job of all connections and variants."""
        jobs = [status.job for status in self.statuses if status.job is not None]
        return max(jobs, key=lambda job: job.id, default=None)

    @property
    def error(self) -> str | None:
        """The error of the last job."""
        return self.job.error_message if self.job else None

    def document(self, *, in_detail: bool) -> dict[str, Any]:
        """The state for machines."""
        document: dict[str, Any] = {
            "name": self.sync.name,
            "integration": self.sync.integration_key,
            "state": self.state,
            "next_run_at": iso(self.next_run_at),
            "no_next_run": self.no_next_run,
            "error": self.error,
            "last_job": job_document(self.job) if self.job else None,
        }
        if self.sync.partitioned:
            document["connections"] = asdict(self.summary)
        if in_detail:
            document["statuses"] = [_status_document(status) for status in self.statuses]
        return document


def _state(entry: Known, statuses: Sequence[Status]) -> str:
    if any(status.is_held for status in statuses):
        return "running"
    if entry.is_foreign:
        return "of another project"
    if not entry.is_configured:
        return "not configured"
    if not entry.sync.enabled:
        return "disabled"
    if entry.origin == "asset":
        return "on demand"
    if entry.row is None:
        return NOT_LOADED
    if not statuses and entry.sync.partitioned:
        return "no connections"
    if entry.row.is_stopped:
        return "stopped"
    return "paused" if all(status.started == "PAUSED" for status in statuses) else "scheduled"


def no_next_run(hold: Hold | None, name: str) -> str | None:
    """The sentence about a schedule that does not run by itself, with the way to start it."""
    reasons: dict[Hold | None, str] = {
        "disabled": "its config says enabled: false",
        "on demand": "it runs when Dagster materializes it",
        "stopped": "its schedule is stopped in Dagster; start it there",
        "paused": f"it is paused; nango-dagster start {name} starts it",
        "credentials": "its credentials were refused; nango-dagster connections add gives it others",
    }
    return reasons.get(hold)


def _status_document(status: Status) -> dict[str, Any]:
    return {
        "connection_id": status.connection_id,
        "variant": status.variant,
        "state": status.state,
        "due": status.is_due,
        "needs_reauthorisation": status.needs_reauthorisation,
        "frequency": status.frequency,
        "next_run_at": iso(status.next_run_at),
        "no_next_run": None if status.next_run_at else no_next_run(status.hold, status.row.name),
        "records": status.live_count,
        "lost_runs": status.losses,
        "checkpoint": None if status.checkpoint is None else json.loads(status.checkpoint),
        "error": status.job.error_message if status.job else None,
        "last_job": job_document(status.job) if status.job else None,
    }


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
