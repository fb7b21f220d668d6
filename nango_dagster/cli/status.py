"""`status`: how the syncs are doing, and with a name, each connection of one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..errors import ConfigError
from . import status_tables
from .command import Session, command, complete_sync
from .formatting import iso, no_such_sync
from .syncs import Known, known

if TYPE_CHECKING:
    from ..store import Database
    from ..store.jobs import Job
    from ..store.queue import Hold
    from ..store.status import Status, Summary
    from ..store.sync_row import SyncRow

COUNTS = ("added", "updated", "deleted", "unchanged", "rejected", "fetched", "pages", "requests", "retries")


@command("status", example="status")
@click.argument("name", metavar="[SYNC]", required=False, shell_complete=complete_sync)
@click.option("--connection", "connection_id", metavar="ID", help="Only this connection, of one sync or of all.")
@click.option("--variant", metavar="VARIANT", help="Only this variant.")
@click.option("--integration", metavar="KEY", help="Only syncs of this integration.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", default=50, show_default=True, help="Connections in the table."
)
def status(
    session: Session,
    name: str | None,
    connection_id: str | None,
    variant: str | None,
    integration: str | None,
    limit: int,
) -> None:
    """Show how each sync is doing.

    Its state, its last job, when it runs next or why it does not, and what went wrong. States: scheduled, running,
    paused, stopped (in Dagster), disabled, new (never stored), no connections, on demand (an asset of your own), "not
    configured" and "of another project". One that is due waits for a run that takes it: `nango-dagster dev`, or the
    daemon of your Dagster. On a terminal of fewer than 100 columns the tables are shorter.

    A sync of an integration is shown in numbers of its connections, of which each variant counts as one. With SYNC or
    --connection there is a line for each of them, those that failed first.

    With --json, for each sync: name, integration, state, next_run_at (past when it is due), no_next_run (why), error
    (of the last job), last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason, warnings, added,
    updated, deleted, unchanged, rejected, fetched, pages, requests, retries); of an integration's also connections
    (total, succeeded, failed, never_run, running, paused, due, needs_reauthorisation, lost, records). With SYNC one of
    these, and in it statuses, all of them: connection_id, variant, state (RUNNING, PAUSED, STOPPED, ERROR or SUCCESS),
    due, needs_reauthorisation, frequency, next_run_at, no_next_run, records, lost_runs, error, last_job.
    """
    session.warn_of_configs()
    with session.database() as database:
        states = _states(session, database, name, integration, connection_id, variant)
    in_detail = any(wanted is not None for wanted in (name, connection_id, variant))
    documents = [state.document(in_detail=in_detail) for state in states]
    now = datetime.now(timezone.utc)
    tables = status_tables.Tables(now, is_narrow=session.console.width < status_tables.WIDE)
    shown = tables.in_detail(states, limit, named=name is not None) if in_detail else tables.overview(states)
    session.answer(documents[0] if name is not None else documents, *shown)


def _states(
    session: Session,
    database: Database,
    name: str | None,
    integration: str | None,
    connection_id: str | None,
    variant: str | None,
) -> list[State]:
    """How the syncs are doing that are meant, as their configs say them now."""
    from ..store import queue
    from ..store import status as stored

    queue.reap(database)
    every = [one for one in known(session, database) if integration in (None, one.sync.integration_key)]
    found = [one for one in every if name in (None, one.sync.name)]
    if name is not None and len(found) != 1:
        raise ConfigError(_no_one(session, name, every, found))
    rows = [replace(one.row, sync=one.sync) for one in found if one.row is not None]
    of_sync: dict[int, list[Status]] = defaultdict(list)
    for status in stored.read(database, rows, connection_id, variant):
        of_sync[status.row.id].append(status)
    if not of_sync and (connection_id, variant) != (None, None):
        raise _nobody(database, rows, connection_id, variant)
    now = datetime.now(timezone.utc)
    return [State.of(one, of_sync.get(one.id or 0, []), now) for one in found]


def _no_one(session: Session, name: str, every: Sequence[Known], found: Sequence[Known]) -> str:
    if found:
        integrations = ", ".join(sorted(one.sync.integration_key for one in found))
        return f"several integrations have a sync {name}: {integrations}; name one with --integration."
    folder = os.path.relpath(session.settings.configs)
    return no_such_sync(name, f"in {folder} or the database", [one.sync.name for one in every])


def _nobody(database: Database, rows: Sequence[SyncRow], connection_id: str | None, variant: str | None) -> ConfigError:
    """What there is, where a connection or variant is named that no sync has."""
    from ..control.selection import select

    if len(rows) == 1:
        try:
            select(database, rows[0], connection_id, variant)
        except ConfigError as unknown:
            return unknown
    what = f"variant {variant!r}" if connection_id is None else f"connection {connection_id!r}"
    return ConfigError(f"no sync runs for a {what}; `nango-dagster connections list` and `variants list` have all.")


# --- how a sync is doing ----------------------------------------------------------------------------------------------


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
    def of(cls, one: Known, statuses: Sequence[Status], now: datetime) -> State:
        """The state that follows from what the store says."""
        from ..store.status import summary

        state = _state(one, statuses)
        next_run = None
        if state in ("scheduled", "new", "running") and one.is_configured:
            next_runs = [status.next_run_at for status in statuses if status.next_run_at is not None]
            next_run = min(next_runs, default=None if statuses else one.sync.next_slot(now))
        owner = one.row.owner if one.row else None
        return cls(one.sync, state, next_run, statuses, summary(statuses), owner)

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
            "no connections": f"nango-dagster connections add --integration {integration} --connection ID adds one",
        }
        return reasons.get(self.state) or (no_next_run(next(iter(holds)), name) if len(holds) == 1 else None)

    @property
    def job(self) -> Job | None:
        """The last job of all."""
        jobs = [status.job for status in self.statuses if status.job is not None]
        return max(jobs, key=lambda job: job.id, default=None)

    @property
    def error(self) -> str | None:
        """What went wrong the last time."""
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


def _state(one: Known, statuses: Sequence[Status]) -> str:
    if any(status.is_held for status in statuses):
        return "running"
    if one.is_foreign:
        return "of another project"
    if not one.is_configured:
        return "not configured"
    if not one.sync.enabled:
        return "disabled"
    if one.origin == "asset":
        return "on demand"
    if not statuses:
        return "no connections" if one.sync.partitioned and one.row else "new"
    if one.row is not None and one.row.is_stopped:
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
