"""How syncs are doing, for each connection and variant, from what is known of schedules and jobs: no record is read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa

from ..config import Sync
from . import jobs, schema
from .database import Database
from .jobs import Job
from .queue import REAUTHORISE_AFTER
from .queue.model import State as Started
from .syncs import SyncRow

State = Literal["RUNNING", "PAUSED", "STOPPED", "ERROR", "SUCCESS"]

_schedules = schema.schedules
_of = schema.schedules.c


@dataclass(frozen=True)
class Slots:
    """The slots of a sync around a moment."""

    now: datetime
    latest: datetime
    next: datetime

    @classmethod
    def of(cls, sync: Sync, now: datetime) -> Slots:
        """The last one that has come, and the one that comes next."""
        return cls(now, sync.latest_slot(now), sync.next_slot(now))


@dataclass(frozen=True)
class Status:
    """A sync for one connection and variant: how it went, and what comes next."""

    id: int
    """Its schedule's."""
    row: SyncRow
    connection_id: str
    variant: str
    checkpoint: str | None
    """How far a script came, as the JSON text it is kept as."""
    started: Started
    """Whether it is started or paused."""
    own_frequency: str | None
    """Its own frequency, where it does not follow the sync's."""
    losses: int
    """How many runs in a row died while they executed it."""
    live_count: int
    needs_reauthorisation: bool
    is_held: bool
    """Whether a run has claimed it."""
    job: Job | None
    """The last job, without its `error_stack`."""
    triggered_at: datetime | None
    last_started_at: datetime | None
    created_at: datetime
    not_before: datetime | None
    due_at: datetime | None
    slots: Slots

    @property
    def state(self) -> State:
        """In Nango's words; STOPPED is what the config does not run any more."""
        if self.job is not None and self.job.status == "running":
            return "RUNNING"
        if not self.row.sync.enabled:
            return "STOPPED"
        if self.started == "PAUSED":
            return "PAUSED"
        return "ERROR" if self.job is not None and self.job.status in ("failed", "cancelled") else "SUCCESS"

    @property
    def frequency(self) -> str:
        """How often it runs."""
        return self.own_frequency or frequency_of(self.row.sync)

    @property
    def is_due(self) -> bool:
        """Whether it waits for a run to take it; `queue.is_due` says the same to the database."""
        return self._due_since is not None

    @property
    def next_run_at(self) -> datetime | None:
        """When it runs next, a past moment where it is due; None while it is paused or needs other credentials."""
        if self._due_since is not None:
            return self._due_since
        if self.started == "PAUSED" or self.needs_reauthorisation or not self.row.sync.enabled:
            return None
        if self.not_before is not None and self.not_before > self.slots.now:
            return self.not_before
        return self.due_at if self.due_at is not None and self.due_at > self.slots.now else self.slots.next

    @cached_property
    def _due_since(self) -> datetime | None:
        """Since when it waits; None where it does not."""
        now = self.slots.now
        if self.is_held or not self.row.sync.enabled or (self.not_before is not None and self.not_before > now):
            return None
        moments = [self.triggered_at]
        if self.started == "STARTED" and not self.needs_reauthorisation:
            moments += self._missed(now)
        return min((moment for moment in moments if moment is not None), default=None)

    def _missed(self, now: datetime) -> list[datetime | None]:
        """Since when it waits by its own time, for each reason there can be."""
        if self.last_started_at is None:
            return [self.created_at]
        behind = self.due_at is None and self.last_started_at < self.slots.latest
        return [
            self.slots.latest if behind else None,
            self.due_at if self.due_at is not None and self.due_at <= now else None,
            self.last_started_at if self.losses == 1 else None,
            self.not_before,
        ]


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


def read(
    db: Database, rows: Iterable[SyncRow], connection_id: str | None = None, variant: str | None = None
) -> list[Status]:
    """How these syncs are doing, for all connections and variants unless named; sync by sync, as they were made.

    Two queries, however many there are.
    """
    by_id = {row.id: row for row in rows}
    query = _query(sorted(by_id), connection_id, variant)
    with db.ask() as connection:
        now = db.now(connection)
        found = connection.execute(query).all()
    slots = {id: Slots.of(row.sync, now) for id, row in by_id.items()}
    return [_status(row, by_id[row.sync_id], slots[row.sync_id]) for row in found]


def summaries(statuses: Iterable[Status]) -> dict[int, Summary]:
    """The numbers of each sync, by its id."""
    ordered = sorted(statuses, key=lambda one: one.row.id)
    return {id: summary(list(those)) for id, those in groupby(ordered, key=lambda one: one.row.id)}


def summary(statuses: Sequence[Status]) -> Summary:
    """The numbers of one sync."""
    ended = [one.job.status if one.job else None for one in statuses]
    return Summary(
        total=len(statuses),
        succeeded=ended.count("succeeded"),
        failed=ended.count("failed") + ended.count("cancelled"),
        never_run=ended.count(None),
        running=ended.count("running"),
        paused=sum(one.started == "PAUSED" for one in statuses),
        due=sum(one.is_due for one in statuses),
        needs_reauthorisation=sum(one.needs_reauthorisation for one in statuses),
        lost=sum(one.losses > 0 for one in statuses),
        records=sum(one.live_count for one in statuses),
    )


def frequency_of(sync: Sync) -> str:
    """How often a sync runs.

    >>> frequency_of(Sync(url="https://api.example.com/items", frequency="every 2 hours"))
    'every 2 hours'
    """
    if sync.interval is None:
        return f"{sync.cron} {sync.timezone or ''}".strip()
    return every(sync.interval)


def every(interval: timedelta) -> str:
    """An interval in the words of configs.

    >>> every(timedelta(minutes=5)), every(timedelta(hours=1))
    ('every 5 minutes', 'every hour')
    """
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if interval % length == timedelta(0):
            count = interval // length
            return f"every {unit}" if count == 1 else f"every {count} {unit}s"
    return f"every {interval}"


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
    """One row for each schedule; what is looked up for it is found by an index."""
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
    for column, wanted in ((_of.connection_id, connection_id), (_of.variant, variant)):
        if wanted is not None:
            query = query.where(column == wanted)
    return query


def _status(found: Any, row: SyncRow, slots: Slots) -> Status:
    named = found._mapping
    return Status(
        row=row,
        started=found.started,
        own_frequency=found.own_frequency,
        live_count=int(found.live_count),
        needs_reauthorisation=bool(found.needs_reauthorisation),
        is_held=bool(found.is_held),
        job=_job(named) if found.job_id is not None else None,
        slots=slots,
        **{column.name: named[column.name] for column in _OWN if column.name != "sync_id"},
    )


def _job(named: Any) -> Job:
    given = {name: named[f"job_{name}"] for name in Job.__dataclass_fields__}
    return Job(**{**given, "warnings": json.loads(given["warnings"])})
