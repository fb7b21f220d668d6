"""The status of syncs, for each connection and variant, from schedules, jobs and datasets; no record is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa

from ..partition_keys import key_of
from . import jobs, schema
from .database import Database
from .jobs import Job
from .queue import REAUTHORISE_AFTER, Slots, Timing
from .sync_row import SyncRow
from .target import Target

State = Literal["RUNNING", "PAUSED", "STOPPED", "ERROR", "SUCCESS"]

_LONGEST_ERROR = 500  # characters; a sync may have 100,000 failing connections
_schedules = schema.schedules
_of = schema.schedules.c


@dataclass(frozen=True, kw_only=True)
class Status(Timing):
    """A sync for one connection and variant: how it went, and what comes next."""

    id: int
    """The id of its schedule."""
    row: SyncRow
    connection_id: str
    variant: str
    checkpoint: str | None
    """How far a script came, as the JSON text it is kept as."""
    live_count: int
    job: Job | None
    """The last job, without its `error_stack`."""

    @property
    def target(self) -> Target:
        """The target that has this status."""
        return Target(self.row.id, self.connection_id, self.variant)

    @property
    def state(self) -> State:
        """The state in Nango's words; STOPPED is a sync that its config or Dagster does not run any more."""
        if self.job is not None and self.job.status == "running":
            return "RUNNING"
        if self.hold in ("disabled", "stopped"):
            return "STOPPED"
        if self.started == "PAUSED":
            return "PAUSED"
        return "ERROR" if self.job is not None and self.job.status in ("failed", "cancelled") else "SUCCESS"

    @property
    def frequency(self) -> str:
        """How often it runs, in the words of configs."""
        return self.own_frequency or self.row.sync.schedule_text


@dataclass(frozen=True)
class Summary:
    """A sync for all its connections, in numbers; each connection and variant counts as one."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    never_run: int = 0
    running: int = 0
    paused: int = 0
    due: int = 0
    needs_reauthorisation: int = 0
    lost: int = 0
    records: int = 0


@dataclass(frozen=True)
class Totals:
    """The numbers of a sync that are cheap to read, however many connections it has."""

    connections: int
    """Connections and variants."""
    failing: int
    """Those whose last execution failed."""
    records: int


def totals(db: Database, sync_id: int) -> Totals:
    """The numbers of a sync over all connections and variants, in one query."""
    dataset = schema.datasets.c
    records = sa.select(sa.func.coalesce(sa.func.sum(dataset.live_count), 0)).where(dataset.sync_id == sync_id)
    failing = sa.func.coalesce(sa.func.sum(sa.case((_of.failures > 0, 1), else_=0)), 0)
    query = sa.select(sa.func.count(), failing, records.scalar_subquery()).where(_of.sync_id == sync_id)
    with db.ask() as connection:
        connections, failed, live_count = connection.execute(query).one()
    return Totals(int(connections), int(failed), int(live_count))


def failing(db: Database, sync_id: int) -> dict[str, str]:
    """The beginning of the error of each connection and variant whose last execution failed, by its partition key."""
    error = sa.func.substr(sa.func.coalesce(schema.jobs.c.error_message, ""), 1, _LONGEST_ERROR)
    query = (
        sa.select(_of.connection_id, _of.variant, error)
        .select_from(_schedules)
        .join(schema.jobs, schema.jobs.c.id == jobs.newest(_schedules))
        .where(_of.sync_id == sync_id, _of.failures > 0)
    )
    with db.ask() as connection:
        rows = connection.execute(query).all()
    return {key_of(connection_id, variant): message for connection_id, variant, message in rows}


def read(
    db: Database, rows: Iterable[SyncRow], connection_id: str | None = None, variant: str | None = None
) -> list[Status]:
    """The status of these syncs' schedules, for all connections and variants unless named, in the order of their ids.

    It is one query, however many syncs there are.
    """
    by_id = {row.id: row for row in rows}
    query = _query(sorted(by_id), connection_id, variant)
    with db.ask() as connection:
        now = db.now(connection)
        schedules = connection.execute(query).all()
    slots = {id: Slots.of(row, now) for id, row in by_id.items()}
    return [_status(schedule, by_id[schedule.sync_id], slots[schedule.sync_id]) for schedule in schedules]


def summaries(statuses: Iterable[Status]) -> dict[int, Summary]:
    """The numbers of each sync, by its id."""
    ordered = sorted(statuses, key=lambda status: status.row.id)
    return {id: summary(list(group)) for id, group in groupby(ordered, key=lambda status: status.row.id)}


def summary(statuses: Sequence[Status]) -> Summary:
    """The numbers of one sync."""
    ended = [status.job.status if status.job else None for status in statuses]
    return Summary(
        total=len(statuses),
        succeeded=ended.count("succeeded"),
        failed=ended.count("failed") + ended.count("cancelled"),
        never_run=ended.count(None),
        running=ended.count("running"),
        paused=sum(status.started == "PAUSED" for status in statuses),
        due=sum(status.is_due for status in statuses),
        needs_reauthorisation=sum(status.needs_reauthorisation for status in statuses),
        lost=sum(status.losses > 0 for status in statuses),
        records=sum(status.live_count for status in statuses),
    )


# --- the query --------------------------------------------------------------------------------------------------------


_JOB = [
    (sa.null() if name == "error_stack" else column).label(f"job_{name}")
    for name, column in zip(Job.__dataclass_fields__, jobs.COLUMNS, strict=True)
]
_OWN = [
    _of[name].label(name)
    for name in (
        *("id", "sync_id", "connection_id", "variant", "checkpoint", "losses"),
        *("triggered_at", "last_started_at", "created_at", "not_before", "due_at"),
    )
]


def _query(sync_ids: Sequence[int], connection_id: str | None, variant: str | None) -> sa.Select[Any]:
    """One row for each schedule; each look-up for it uses an index."""
    sync, account, dataset = schema.syncs.c, schema.connections.c, schema.datasets.c
    live = sa.select(sa.func.coalesce(sa.func.sum(dataset.live_count), 0)).where(
        dataset.integration == sync.integration,
        dataset.connection_id == _of.connection_id,
        dataset.variant == _of.variant,
        dataset.sync_id == _of.sync_id,
    )
    of_it = sa.and_(account.integration == sync.integration, account.connection_id == _of.connection_id)
    query = (
        sa.select(
            *_OWN,
            *_JOB,
            _of.state.label("started"),
            _of.frequency.label("own_frequency"),
            _of.worker_id.is_not(None).label("is_held"),
            (sa.func.coalesce(account.auth_failures, 0) >= REAUTHORISE_AFTER).label("needs_reauthorisation"),
            live.correlate(schema.syncs, _schedules).scalar_subquery().label("live_count"),
        )
        .select_from(_schedules)
        .join(schema.syncs, sync.id == _of.sync_id)
        .outerjoin(schema.jobs, schema.jobs.c.id == jobs.newest(_schedules))
        .outerjoin(schema.connections, of_it)
        .where(_of.sync_id.in_(sync_ids))
        .order_by(_of.sync_id, _of.id)
    )
    for column, name in ((_of.connection_id, connection_id), (_of.variant, variant)):
        if name is not None:
            query = query.where(column == name)
    return query


def _status(schedule: Any, row: SyncRow, slots: Slots) -> Status:
    named = schedule._mapping
    return Status(
        row=row,
        started=schedule.started,
        own_frequency=schedule.own_frequency,
        live_count=int(schedule.live_count),
        needs_reauthorisation=bool(schedule.needs_reauthorisation),
        is_held=bool(schedule.is_held),
        job=_job(named) if schedule.job_id is not None else None,
        slots=slots,
        **{column.name: named[column.name] for column in _OWN if column.name != "sync_id"},
    )


def _job(named: Any) -> Job:
    values = {name: named[f"job_{name}"] for name in Job.__dataclass_fields__}
    return Job(**{**values, "warnings": json.loads(values["warnings"])})
