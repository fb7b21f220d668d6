"""The due rule: whether a schedule is due, since when, and when it runs next. Nothing else in the package says it.

A schedule is due while nobody holds it and it is not postponed (`not_before`), if

- somebody has triggered it, or
- it runs by itself, and it has never begun, its slot has come since it last began, its last execution was lost once,
  or it was postponed.

A schedule runs by itself unless its sync is disabled or an asset of the user's own, its Dagster schedule is stopped, it
is paused, or its connection needs other credentials. After a second loss in a row it waits for its next slot. Slots
are those of its own frequency, if it has one, else those of its sync.

`Timing` is the rule in Python, for everybody who shows it. `is_due` and `waiting` are the same rule in SQL, for claims
and for the dispatcher; tests/test_due.py compares the three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import ColumnElement, and_, case, false, func, literal_column, or_, select, type_coerce

from ...config.frequency import interval_of
from .. import schema
from ..database import Database
from ..types import UtcTime
from .model import REAUTHORISE_AFTER, Claim, State

if TYPE_CHECKING:
    from ..sync_row import SyncRow

_table = schema.schedules
_of = schema.schedules.c

Hold = Literal["disabled", "on demand", "stopped", "paused", "credentials"]
"""Why a schedule does not run by itself: `stopped` in Dagster; `credentials` were refused and wait for others."""


def own_slot(frequency: str, created_at: datetime, after: datetime) -> datetime:
    """The first slot after a moment of a schedule with its own frequency; its grid begins when the schedule was made.

    >>> at = datetime.fromisoformat
    >>> own_slot("every 5 minutes", at("2024-01-01T00:01:30"), at("2024-01-01T00:11:30")).isoformat()
    '2024-01-01T00:16:30'
    """
    step = interval_of(frequency)
    return created_at + ((after - created_at) // step + 1) * step


def next_due_at(claim: Claim, now: datetime) -> dict[str, Any]:
    """The new `due_at` of a schedule with its own frequency, as a value to update; nothing for other schedules."""
    if claim.frequency is None or claim.created_at is None:
        return {}
    return {"due_at": own_slot(claim.frequency, claim.created_at, now)}


@dataclass(frozen=True)
class Slots:
    """A sync's slots around a moment, and why its schedules do not run by themselves, if so."""

    now: datetime
    latest: datetime
    next: datetime
    hold: Hold | None = None

    @classmethod
    def of(cls, row: SyncRow, now: datetime) -> Slots:
        """The last slot that has come, and the next one."""
        hold: Hold | None = "stopped" if row.is_stopped else None
        if not row.sync.enabled:
            hold = "disabled"
        elif row.origin == "asset":
            hold = "on demand"
        return cls(now, row.sync.latest_slot(now), row.sync.next_slot(now), hold)


@dataclass(frozen=True)
class Timing:
    """The inputs of the rule: fields of a schedule, of its connection and of its sync's slots."""

    started: State
    own_frequency: str | None
    """Its own frequency, where it does not follow the sync's."""
    is_held: bool
    """Whether a run has claimed it."""
    losses: int
    """How many runs in a row died while they executed it."""
    needs_reauthorisation: bool
    triggered_at: datetime | None
    last_started_at: datetime | None
    created_at: datetime
    not_before: datetime | None
    due_at: datetime | None
    """The next slot of its own frequency."""
    slots: Slots

    @property
    def hold(self) -> Hold | None:
        """Why it does not run by itself; None where it does."""
        if self.slots.hold is not None:
            return self.slots.hold
        if self.started == "PAUSED":
            return "paused"
        return "credentials" if self.needs_reauthorisation else None

    @property
    def is_due(self) -> bool:
        """Whether it waits for a run to take it."""
        return self.due_since is not None

    @cached_property
    def due_since(self) -> datetime | None:
        """Since when it waits for a run; None where it does not."""
        is_postponed = self.not_before is not None and self.not_before > self.slots.now
        if self.is_held or is_postponed or self.slots.hold in ("disabled", "on demand"):
            return None
        moments = [] if self.triggered_at is None else [self.triggered_at]
        if self.hold is None:
            moments += self._missed()
        return min(moments, default=None)

    @property
    def next_run_at(self) -> datetime | None:
        """When it runs next, a past moment where it is due; None where it does not run by itself, see `hold`."""
        if self.due_since is not None:
            return self.due_since
        if self.hold is not None:
            return None
        now = self.slots.now
        if self.not_before is not None and self.not_before > now:
            return self.not_before
        if self.own_frequency is None:
            return self.slots.next
        return self.due_at if self.due_at and self.due_at > now else own_slot(self.own_frequency, self.created_at, now)

    def _missed(self) -> Iterator[datetime]:
        """Since when it waits by itself, for each reason."""
        if self.last_started_at is None:
            yield self.created_at
            return
        if self.due_at is None and self.last_started_at < self.slots.latest:
            yield self.slots.latest
        if self.due_at is not None and self.due_at <= self.slots.now:
            yield self.due_at
        if self.losses == 1:
            yield self.last_started_at
        if self.not_before is not None:
            yield self.not_before


# --- in SQL -----------------------------------------------------------------------------------------------------------


def is_due(db: Database, sync_id: int, slot: datetime | None) -> ColumnElement[bool]:
    """The condition that a schedule of this sync is due.

    `slot` is the sync's latest slot; None where only triggered schedules are meant.
    """
    # Read once for the statement, not for each row.
    is_stopped = select(schema.syncs.c.is_stopped).where(schema.syncs.c.id == sync_id).scalar_subquery()
    is_triggered = _of.triggered_at.is_not(None)
    by_itself: ColumnElement[bool] = false()
    if slot is not None:
        missed = or_(
            _of.last_started_at.is_(None),
            and_(_of.due_at.is_(None), _of.last_started_at < slot),
            _of.due_at <= db.clock(),
            _of.losses == 1,
            _of.not_before.is_not(None),
        )
        by_itself = and_(_of.state == "STARTED", ~is_stopped, missed, _has_credentials())
    return and_(_of.sync_id == sync_id, *_is_free(db), or_(is_triggered, by_itself))


def _is_free(db: Database) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _of.worker_id.is_(None), or_(_of.not_before.is_(None), _of.not_before <= db.clock())


def _has_credentials() -> ColumnElement[bool]:
    """The condition that the schedule's connection, if it has one, does not need other credentials."""
    refused, of = schema.connections.c, schema.syncs.c
    integration = select(of.integration).where(of.id == _of.sync_id).correlate(_table).scalar_subquery()
    refusals = select(refused.id).where(
        refused.integration == integration,
        refused.connection_id == _of.connection_id,
        refused.auth_failures >= literal_column(str(REAUTHORISE_AFTER)),  # as the index has it
    )
    return ~refusals.correlate(_table).exists()


@dataclass(frozen=True)
class Waiting:
    """Since when the schedules of a sync have waited, the first for each reason; None where none does."""

    triggered: datetime | None
    new: datetime | None
    """It has never been executed."""
    own: datetime | None
    """The slot of its own frequency has come."""
    lost: datetime | None
    """The run that executed it died."""
    postponed: datetime | None
    """The time until which it was postponed is over."""
    begun: datetime | None
    """When the one that has not begun for longest began: it is due if a slot of its sync has come since."""

    def since(self, slot: datetime | None) -> datetime | None:
        """The time since which one of the schedules is due, None where none is; `slot` is the sync's latest slot."""
        behind = slot if slot is not None and self.begun is not None and self.begun < slot else None
        moments = (self.triggered, self.new, self.own, self.lost, self.postponed, behind)
        return min((moment for moment in moments if moment is not None), default=None)


def waiting(db: Database) -> dict[int, Waiting]:
    """The waiting schedules of each sync, by the sync's id; the caller leaves out disabled syncs."""
    sync = schema.syncs.c
    by_itself = and_(_of.state == "STARTED", ~sync.is_stopped, _has_credentials())
    free = (
        select(*(_of[name] for name in ("sync_id", "triggered_at", "last_started_at", "created_at")))
        .add_columns(_of.due_at, _of.not_before, _of.losses, by_itself.label("by_itself"))
        .join(schema.syncs, sync.id == _of.sync_id)
        .where(*_is_free(db))
        .subquery()
    )
    row = free.c
    has_begun = row.last_started_at.is_not(None)
    moments = {
        "triggered": row.triggered_at,
        "new": case((and_(row.by_itself, ~has_begun), row.created_at)),
        "own": case((and_(row.by_itself, has_begun, row.due_at <= db.clock()), row.due_at)),
        "lost": case((and_(row.by_itself, has_begun, row.losses == 1), row.last_started_at)),
        "postponed": case((and_(row.by_itself, has_begun), row.not_before)),
        "begun": case((and_(row.by_itself, row.due_at.is_(None)), row.last_started_at)),
    }
    query = (
        select(row.sync_id, *(type_coerce(func.min(moment), UtcTime).label(name) for name, moment in moments.items()))
        .where(or_(row.triggered_at.is_not(None), row.by_itself))
        .group_by(row.sync_id)
    )
    with db.ask() as connection:
        return {row.sync_id: Waiting(*row[1:]) for row in connection.execute(query)}
