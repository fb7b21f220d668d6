"""The tables that `status` prints for people: in full, or for a narrow terminal with fewer columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..config import Sync
from ..partition_keys import BASE
from .command import grid
from .formatting import local_time, number_of
from .sync_states import State

if TYPE_CHECKING:
    from ..store.jobs import Job
    from ..store.status import Status, Summary

WIDE = 100
"""Columns of a terminal from which on the tables are printed in full."""
SHOWN_WARNINGS = 3
"""The number of warnings of a job that are printed."""
_COUNTS = ("added", "updated", "deleted", "unchanged", "rejected")
_RARE = ("failed", "never_run", "running", "paused", "due", "needs_reauthorisation", "lost")
_WORDS = {"total": "connections", "needs_reauthorisation": "refused", "never_run": "never run"}


@dataclass(frozen=True)
class Tables:
    """Prints states as of one moment."""

    now: datetime
    is_narrow: bool

    # --- all syncs ----------------------------------------------------------------------------------------------------

    def overview(self, states: Sequence[State]) -> list[Any]:
        """A line for each sync: those of one account, then those of many connections in numbers; then sentences."""
        if not states:
            return ["no syncs"]
        single = [state for state in states if not state.sync.partitioned]
        several = [state for state in states if state.sync.partitioned]
        tables = [*([self._jobs(single)] if single else []), *([self._numbers(several)] if several else [])]
        errors = [_error_line(state.sync, state.error) for state in single if state.error]
        warnings = [line for state in single for line in warning_lines(state.sync.name, state.job)]
        hints = [_hint(state) for state in several if state.summary.failed or state.summary.needs_reauthorisation]
        return _apart([*tables, _reasons(states), [*errors, *hints], warnings])

    def _jobs(self, states: Sequence[State]) -> Any:
        """Syncs of one account: the last job and what it did."""
        counts = self._counts(state.job for state in states)
        rows = [(state.sync.name, state.state, *self._result(state.job, counts), self._next(state)) for state in states]
        return grid(["sync", "state", "last job", *counts, "next run"], rows, right=counts)

    def _numbers(self, states: Sequence[State]) -> Any:
        """Syncs of many connections: how many are how; a column that is empty for all of them is left out."""
        if self.is_narrow:
            rows = [
                (state.sync.name, state.state, _troubles(state.summary), state.summary.records, self._next(state))
                for state in states
            ]
            return grid(["sync", "state", "connections", "records", "next run"], rows, right=["records"])
        names = ["total", "succeeded"]
        names += [name for name in _RARE if any(getattr(state.summary, name) for state in states)]
        headings = [_WORDS.get(name, name) for name in [*names, "records"]]
        rows = [
            (
                state.sync.name,
                state.state,
                *(getattr(state.summary, name) for name in [*names, "records"]),
                self._next(state),
            )
            for state in states
        ]
        return grid(["sync", "state", *headings, "next run"], rows, right=headings)

    # --- each connection ----------------------------------------------------------------------------------------------

    def in_detail(self, states: Sequence[State], limit: int, *, named: bool) -> list[Any]:
        """A line for each connection and variant, those that need attention first; then sentences."""
        statuses = sorted((status for state in states for status in state.statuses), key=_urgency)
        if not statuses:
            return self.overview(states)
        shown = statuses[:limit]
        parts: list[Any] = [self._numbers(states)] if named and states[0].sync.partitioned else []
        parts.append(self._connections(shown, named=named))
        if len(statuses) > limit:
            parts.append([f"and {number_of(len(statuses) - limit, 'more', 'more')}; --limit shows more, --json all."])
        parts.append(_reasons(states))
        parts.append([f"{_name_of(status)} has read to {status.checkpoint}" for status in shown if status.checkpoint])
        errors = [(status, status.job.error_message) for status in shown if status.job and status.job.error_message]
        parts.append([_error_line(status.row.sync, error, _name_of(status)) for status, error in errors])
        parts.append([line for status in shown for line in warning_lines(_name_of(status), status.job)])
        return _apart(parts)

    def _connections(self, shown: Sequence[Status], *, named: bool) -> Any:
        counts = self._counts(status.job for status in shown)
        before = [] if named else ["sync"]
        after = ["frequency"] if any(status.own_frequency for status in shown) and not self.is_narrow else []
        rows = [
            (
                *([] if named else [status.row.name]),
                _partition_of(status),
                state_word(status),
                *self._result(status.job, counts),
                status.live_count,
                self._next(status),
                *([status.frequency] if after else []),
            )
            for status in shown
        ]
        headings = [*before, "connection", "state", "last job", *counts, "records", "next run", *after]
        return grid(headings, rows, right=[*counts, "records"])

    # --- cells --------------------------------------------------------------------------------------------------------

    def _counts(self, jobs: Iterable[Job | None]) -> Sequence[str]:
        """The headings of what a job did."""
        if self.is_narrow:
            return ("changes",)
        return _COUNTS if any(job and job.rejected for job in jobs) else _COUNTS[:-1]

    def _result(self, job: Job | None, counts: Sequence[str]) -> list[object]:
        if job is None:
            return ["", *("" for _ in counts)]
        last = f"{job.status} {self._time(job.started_at)}"
        if self.is_narrow:
            return [last, f"+{job.added:,} ~{job.updated:,} -{job.deleted:,}"]
        return [last, *(getattr(job, name) for name in counts)]

    def _next(self, state: State | Status) -> str:
        moment = state.next_run_at
        if moment is None:
            return "none"
        return "due now" if moment <= self.now else self._time(moment)

    def _time(self, moment: datetime) -> str:
        text = local_time(moment, self.now)
        return text[5:] if self.is_narrow and len(text) > 5 else text  # without the year


def _apart(parts: Iterable[Any]) -> list[Any]:
    """Tables and groups of lines, with an empty line between them."""
    lines: list[Any] = []
    for part in parts:
        if part != []:
            lines += [*([""] if lines else []), *(part if isinstance(part, list) else [part])]
    return lines


def _reasons(states: Sequence[State]) -> list[str]:
    """Why syncs have no next run."""
    return [f"{state.sync.name} has no next run: {state.no_next_run}." for state in states if state.no_next_run]


def _troubles(summary: Summary) -> str:
    """The number of a sync's connections, and of those that need attention."""
    rare = [(name, getattr(summary, name)) for name in ("failed", "needs_reauthorisation", "lost", "running", "due")]
    parts = [f"{count:,} {_WORDS.get(name, name)}" for name, count in rare if count]
    return f"{summary.total:,}" + (f": {', '.join(parts)}" if parts else "")


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


def _urgency(status: Status) -> tuple[bool, ...]:
    """The sort key that puts what needs attention first."""
    return (
        status.state != "ERROR",
        not status.needs_reauthorisation,
        status.losses == 0,
        status.state != "RUNNING",
        not status.is_due,
    )


def state_word(status: Status) -> str:
    """The state of a connection's sync for people; one that has never run is new."""
    word = {"SUCCESS": "ok" if status.job else "new", "ERROR": "failed"}.get(status.state, status.state.lower())
    refused = ", needs other credentials" if status.needs_reauthorisation else ""
    lost = f", {number_of(status.losses, 'run')} lost" if status.losses else ""
    return word + refused + lost


def _partition_of(status: Status) -> str:
    return status.connection_id if status.variant == BASE else f"{status.connection_id}, {status.variant}"


def _name_of(status: Status) -> str:
    return _partition_of(status) if status.row.sync.partitioned else status.row.name
