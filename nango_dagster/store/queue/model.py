"""The values of the queue: rows of its tables as they were when they were read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, case, false, null, or_

from .. import schema
from ..target import Target

CANCEL_SECONDS = 2
"""Seconds between two checks of an execution for a cancellation."""
HEARTBEAT_SECONDS = 20
LEASE_SECONDS = 90  # a worker that was not heard from for so long is dead
STUCK_SECONDS = 60  # a transaction in which nothing happens for so long is ended by the server
AT_ONCE = 500  # rows in one claim or one step of the reaper, which takes one of the server's locks for each
REAUTHORISE_AFTER = 3
"""So many authentication failures in a row, and a connection waits for new credentials."""

State = Literal["STARTED", "PAUSED"]
Shown = Literal["MATERIALIZED", "FAILED"]
"""How Dagster shows a partition."""


@dataclass(frozen=True)
class Worker:
    """One run, while it works on one sync."""

    id: int
    sync_id: int
    run_id: str | None
    host: str
    pid: int

    @property
    def name(self) -> str:
        """The name in messages; a run has the one that the Dagster UI shows.

        >>> Worker(1, 1, "0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77", "web1", 42).name
        'run 0f6e3c1a'
        """
        if self.run_id is None:
            return f"process {self.pid} on {self.host}"
        is_uuid = len(self.run_id) == 36 and self.run_id.count("-") == 4
        return f"run {self.run_id[:8] if is_uuid else self.run_id}"


@dataclass(frozen=True)
class Claim:
    """A worker's right to execute one schedule, as long as `check` confirms it."""

    schedule_id: int
    sync_id: int
    connection_id: str
    variant: str
    worker_id: int
    fence: int
    reset: bool
    empty_cache: bool
    losses: int
    checkpoint: str | None
    failures: int = 0
    """How many executions before this one failed in a row."""
    frequency: str | None = None
    created_at: datetime | None = None
    """When the schedule was made, from which its own `frequency` counts."""
    shown_state: Shown | None = None
    shown_at: datetime | None = None
    """When Dagster was last told how this went."""

    @property
    def target(self) -> Target:
        """The target that it executes."""
        return Target.of(self)


@dataclass(frozen=True)
class Holder:
    """The worker that executes a schedule, since when, and the time since its last heartbeat."""

    worker: Worker
    since: datetime
    silence: timedelta
    has_ended: bool = False
    """Whether the run's process is known to have ended."""


@dataclass(frozen=True)
class Lost:
    """An execution whose run died."""

    target: Target
    job_id: int
    worker: Worker
    last_heard_at: datetime


@dataclass(frozen=True)
class Schedule:
    """A sync for one connection and variant: its state, its requests, and the run that executes it."""

    id: int
    sync_id: int
    connection_id: str
    variant: str
    state: State
    frequency: str | None
    triggered_at: datetime | None
    reset: bool
    empty_cache: bool
    cancelled_at: datetime | None
    last_started_at: datetime | None
    last_ended_at: datetime | None
    failures: int
    losses: int
    checkpoint: str | None
    worker_id: int | None
    claimed_at: datetime | None
    run_id: str | None
    created_at: datetime
    not_before: datetime | None
    due_at: datetime | None


WORKER_COLUMNS = tuple(
    schema.workers.c[name].label(f"worker_{name}") for name in ("id", "sync_id", "run_id", "host", "pid")
)


def worker_of(row: Any) -> Worker:
    """The worker in a row that was selected with WORKER_COLUMNS."""
    named = row._mapping
    return Worker(*(named[column.name] for column in WORKER_COLUMNS))


FREED: dict[str, Any] = {"worker_id": None, "claimed_at": None, "cancelled_at": None}

IS_CANCELLED = schema.schedules.c.cancelled_at.is_not(None)
# A reset during the execution: it cancelled the execution, and the next one answers it.
ASKED_AGAIN = and_(IS_CANCELLED, schema.schedules.c.triggered_at == schema.schedules.c.cancelled_at)


def requests(kept: ColumnElement[bool]) -> dict[str, Any]:
    """The values that keep a schedule's requests where `kept` is true, and drop them elsewhere.

    If a pause has dropped the trigger meanwhile, the reset that came with it is dropped, too; not after a second loss,
    which has postponed the trigger to the next slot.
    """
    of = schema.schedules.c
    whole = and_(kept, or_(of.triggered_at.is_not(None), of.losses >= 2))
    return {
        "triggered_at": case((kept, of.triggered_at), else_=null()),
        "reset": case((whole, of.reset), else_=false()),
        "empty_cache": case((whole, of.empty_cache), else_=false()),
    }
