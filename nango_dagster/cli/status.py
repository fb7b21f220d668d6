"""`status`: how the syncs are doing, and with a name, each connection of one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..errors import ConfigError
from ..partition_keys import BASE
from .command import Session, command, complete_sync, grid
from .formatting import iso, local_time, no_such_sync, number_of
from .syncs import Known, known

if TYPE_CHECKING:
    from ..store import Database
    from ..store.jobs import Job
    from ..store.status import Status, Summary
    from ..store.sync_row import SyncRow

COUNTS = ("added", "updated", "deleted", "unchanged", "rejected", "fetched", "pages", "requests", "retries")
SHOWN_WARNINGS = 3
"""So many warnings of a job are shown."""
SHOWN_COUNTS = COUNTS[:5]
RARE = ("failed", "never_run", "running", "paused", "due", "needs_reauthorisation", "lost")


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

    Its state, its last job, when it runs next, and what went wrong. States: scheduled, running, paused, disabled,
    new (never stored), no connections, on demand (an asset of your own) and "not configured". One that is due waits for
    a run that takes it: `nango-dagster dev`, or the daemon of your Dagster.

    A sync of an integration is shown in numbers of its connections, of which each variant counts as one. With SYNC or
    --connection there is a line for each of them, those that failed first.

    With --json, for each sync: name, integration, state, next_run_at (past when it is due), error (of the last job),
    last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason, warnings, added, updated, deleted,
    unchanged, rejected, fetched, pages, requests, retries); of an integration's also connections (total, succeeded,
    failed, never_run, running, paused, due, needs_reauthorisation, lost, records). With SYNC one of these, and in it
    statuses, all of them: connection_id, variant, state (RUNNING, PAUSED, STOPPED, ERROR or SUCCESS), due,
    needs_reauthorisation, frequency, next_run_at, records, lost_runs, error, last_job.
    """
    session.warn_of_configs()
    with session.database() as database:
        states = _states(session, database, name, integration, connection_id, variant)
    in_detail = any(wanted is not None for wanted in (name, connection_id, variant))
    documents = [state.document(in_detail=in_detail) for state in states]
    now = datetime.now(timezone.utc)
    shown = _in_detail(states, now, limit, named=name is not None) if in_detail else _overview(states, now)
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

    @classmethod
    def of(cls, one: Known, statuses: Sequence[Status], now: datetime) -> State:
        """The state that follows from what the store says."""
        from ..store.status import summary

        state = _state(one, statuses)
        next_run = None
        if state in ("scheduled", "new"):
            coming = [status.next_run_at for status in statuses if status.next_run_at is not None]
            next_run = min(coming, default=None if statuses else one.sync.next_slot(now))
        return cls(one.sync, state, next_run, statuses, summary(statuses))

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
    if not one.is_configured:
        return "not configured"
    if not one.sync.enabled:
        return "disabled"
    if one.origin == "asset":
        return "on demand"
    if not statuses:
        return "no connections" if one.sync.partitioned and one.row else "new"
    return "paused" if all(status.started == "PAUSED" for status in statuses) else "scheduled"


def _status_document(status: Status) -> dict[str, Any]:
    return {
        "connection_id": status.connection_id,
        "variant": status.variant,
        "state": status.state,
        "due": status.is_due,
        "needs_reauthorisation": status.needs_reauthorisation,
        "frequency": status.frequency,
        "next_run_at": iso(status.next_run_at),
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


# --- for people: all syncs --------------------------------------------------------------------------------------------


def _overview(states: Sequence[State], now: datetime) -> list[Any]:
    if not states:
        return ["no syncs"]
    single = [state for state in states if not state.sync.partitioned]
    several = [state for state in states if state.sync.partitioned]
    tables = [*([_table(single, now)] if single else []), *([_numbers(several, now)] if several else [])]
    errors = [_error_line(state.sync, state.error) for state in single if state.error]
    warnings = [line for state in single for line in warning_lines(state.sync.name, state.job)]
    hints = [_hint(state) for state in several if state.summary.failed or state.summary.needs_reauthorisation]
    return _apart([*tables, [*errors, *hints], warnings])


def _apart(parts: Iterable[Any]) -> list[Any]:
    """Tables and groups of lines, with an empty line between them."""
    lines: list[Any] = []
    for part in parts:
        if part != []:
            lines += [*([""] if lines else []), *(part if isinstance(part, list) else [part])]
    return lines


def _table(states: Sequence[State], now: datetime) -> Any:
    """One account each: the last job and what it did."""
    counts = _counts(state.job for state in states)
    rows = [(state.sync.name, state.state, *_result(state.job, counts, now), _next(state, now)) for state in states]
    return grid(["sync", "state", "last job", *counts, "next run"], rows, right=counts)


def _numbers(states: Sequence[State], now: datetime) -> Any:
    """Many connections each: how many are how; what no sync has is left out."""
    names = ["total", "succeeded", *(name for name in RARE if any(getattr(state.summary, name) for state in states))]
    headings = [{"total": "connections", "needs_reauthorisation": "refused"}.get(name, name) for name in names]
    headings = [heading.replace("_", " ") for heading in [*headings, "records"]]
    rows = [
        (
            state.sync.name,
            state.state,
            *(getattr(state.summary, name) for name in [*names, "records"]),
            _next(state, now),
        )
        for state in states
    ]
    return grid(["sync", "state", *headings, "next run"], rows, right=headings)


def _hint(state: State) -> str:
    numbers, name = state.summary, state.sync.name
    count = numbers.needs_reauthorisation
    refused = f", {count:,} {'needs' if count == 1 else 'need'} other credentials" if count else ""
    return f"{name}: {numbers.failed:,} of {numbers.total:,} failed{refused}; see nango-dagster status {name}"


def _error_line(sync: Sync, error: str | None, of: str = "") -> str:
    """The error, which may begin with the sync's name already; `of` names the connection in its stead."""
    text = error or ""
    if of:
        text = text.removeprefix(f"{sync.display_name}: ")
    name = of or sync.name
    return text if text.startswith((f"{sync.display_name}: ", f"{name}: ")) else f"{name}: {text}"


def warning_lines(name: str, job: Job | None) -> list[str]:
    """The first warnings of a job that succeeded, each with the name of its sync or connection."""
    if job is None or job.status != "succeeded":
        return []
    lines = [f"{name}: warning: {warning}" for warning in job.warnings[:SHOWN_WARNINGS]]
    hidden = len(job.warnings) - len(lines)
    return [*lines, f"{name}: {hidden:,} more warnings; --json shows all."] if hidden else lines


def _counts(jobs: Iterable[Job | None]) -> Sequence[str]:
    """The counts that are shown; a table for terminals of 80 columns."""
    return SHOWN_COUNTS if any(job and job.rejected for job in jobs) else SHOWN_COUNTS[:-1]


def _result(job: Job | None, counts: Sequence[str], now: datetime) -> list[object]:
    last = f"{job.status} {local_time(job.started_at, now)}" if job else ""
    return [last, *(getattr(job, name) if job else None for name in counts)]


def _next(state: State | Status, now: datetime) -> str:
    moment = state.next_run_at
    return "due now" if moment is not None and moment <= now else local_time(moment, now)


# --- for people: each connection --------------------------------------------------------------------------------------


def _in_detail(states: Sequence[State], now: datetime, limit: int, *, named: bool) -> list[Any]:
    found = sorted((status for state in states for status in state.statuses), key=_urgency)
    if not found:
        return _overview(states, now)
    shown = found[:limit]
    parts: list[Any] = [_numbers(states, now)] if named and states[0].sync.partitioned else []
    parts.append(_connections(shown, now, named=named))
    if len(found) > limit:
        parts.append([f"and {number_of(len(found) - limit, 'more', 'more')}; --limit shows more, --json all."])
    errors = [(one, one.job.error_message) for one in shown if one.job is not None and one.job.error_message]
    parts.append([_error_line(one.row.sync, error, _of(one)) for one, error in errors])
    parts.append([line for one in shown for line in warning_lines(_of(one) or one.row.sync.name, one.job)])
    return _apart(parts)


def _urgency(status: Status) -> tuple[bool, ...]:
    """What somebody should look at comes first."""
    return (
        status.state != "ERROR",
        not status.needs_reauthorisation,
        status.losses == 0,
        status.state != "RUNNING",
        not status.is_due,
    )


def _connections(shown: Sequence[Status], now: datetime, *, named: bool) -> Any:
    counts = _counts(one.job for one in shown)
    before = [] if named else ["sync"]
    after = ["frequency"] if any(one.own_frequency for one in shown) else []
    rows = [
        (
            *([] if named else [one.row.name]),
            one.connection_id if one.variant == BASE else f"{one.connection_id}, {one.variant}",
            state_word(one),
            *_result(one.job, counts, now),
            one.live_count,
            _next(one, now),
            *([one.frequency] if after else []),
        )
        for one in shown
    ]
    headings = [*before, "connection", "state", "last job", *counts, "records", "next run", *after]
    return grid(headings, rows, right=[*counts, "records"])


def state_word(status: Status) -> str:
    """How a connection's sync is doing, for people; one that has never run is new."""
    word = {"SUCCESS": "ok" if status.job else "new", "ERROR": "failed"}.get(status.state, status.state.lower())
    refused = ", needs other credentials" if status.needs_reauthorisation else ""
    lost = f", {number_of(status.losses, 'run')} lost" if status.losses else ""
    return word + refused + lost


def _of(status: Status) -> str:
    if not status.row.sync.partitioned:
        return status.row.name
    return status.connection_id if status.variant == BASE else f"{status.connection_id}, {status.variant}"
