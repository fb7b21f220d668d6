"""Questions about schedules; none of them waits for a batch that is being written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import func, select, update

from .. import schema
from ..database import Database
from ..target import Target
from .model import (
    AT_ONCE,
    LEASE_SECONDS,
    WORKER_COLUMNS,
    Holder,
    Schedule,
    Shown,
    State,
    Worker,
    worker_of,
)
from .processes import has_ended
from .requests import named

_table = schema.schedules
_of = schema.schedules.c
_is_held = _of.worker_id.is_not(None)
_COLUMNS = [schema.workers.c.run_id if name == "run_id" else _of[name] for name in Schedule.__dataclass_fields__]


def holder(db: Database, target: Target) -> Holder | None:
    """The run that executes a target, if one does."""
    query = (
        select(*WORKER_COLUMNS, _of.claimed_at, schema.workers.c.heartbeat_at, schema.workers.c.process)
        .join(_table, _of.worker_id == schema.workers.c.id)
        .where(target.condition(_of))
    )
    with db.connect() as connection:
        row = connection.execute(query).one_or_none()
        now = db.now(connection)
    if row is None:
        return None
    return Holder(worker_of(row), row.claimed_at, now - row.heartbeat_at, has_ended(row.process))


def runs_at_work(db: Database) -> set[str]:
    """The ids of the runs that have a live worker."""
    of = schema.workers.c
    lately = of.heartbeat_at >= db.clock(timedelta(seconds=LEASE_SECONDS))
    with db.connect() as connection:
        return set(connection.execute(select(of.run_id).where(of.run_id.is_not(None), lately)).scalars())


def show(db: Database, state: Shown, schedule_ids: Sequence[int]) -> None:
    """Record how Dagster shows these schedules' partitions from now on."""
    for start in range(0, len(schedule_ids), AT_ONCE):
        some = update(_table).where(_of.id.in_(schedule_ids[start : start + AT_ONCE]))
        told = some.values(shown_state=state, shown_at=db.clock())
        db.transact(lambda connection, told=told: connection.execute(told))  # type: ignore[misc]


def partitions(db: Database, sync_id: int, connection_id: str | None = None) -> list[tuple[str, str]]:
    """The connections and variants of a sync, or the variants of one connection, in the order they were added."""
    conditions = named(sync_id, connection_id, None)
    query = select(_of.connection_id, _of.variant).where(*conditions).order_by(_of.id)
    with db.connect() as connection:
        return [(row.connection_id, row.variant) for row in connection.execute(query)]


def versions(db: Database) -> dict[int, tuple[int, int]]:
    """Two numbers for each sync that change whenever its schedules are added or removed."""
    query = select(_of.sync_id, func.count(), func.max(_of.id)).group_by(_of.sync_id)
    with db.connect() as connection:
        return {sync_id: (count, newest) for sync_id, count, newest in connection.execute(query)}


def count_states(db: Database, sync_id: int) -> dict[State, int]:
    """The number of a sync's schedules by state."""
    query = select(_of.state, func.count()).where(_of.sync_id == sync_id).group_by(_of.state)
    with db.ask() as connection:
        return {row.state: row[1] for row in connection.execute(query)}


def held_by(db: Database, worker: Worker) -> int:
    """The number of schedules that a worker has claimed."""
    with db.connect() as connection:
        return connection.execute(select(func.count()).where(_of.worker_id == worker.id)).scalar_one()


def schedules(db: Database, sync_ids: Collection[int] | None = None) -> list[Schedule]:
    """The schedules of these syncs, or of all, in the order they were made."""
    query = select(*_COLUMNS).outerjoin(schema.workers, schema.workers.c.id == _of.worker_id).order_by(_of.id)
    if sync_ids is not None:
        query = query.where(_of.sync_id.in_(sync_ids))
    with db.ask() as connection:
        return [Schedule(**row._mapping) for row in connection.execute(query)]


def state_of(db: Database, target: Target) -> tuple[State, bool] | None:
    """The state of a target's schedule, and whether its last execution succeeded; None where it has none."""
    with db.ask() as connection:
        query = select(_of.state, _of.last_ended_at, _of.failures).where(target.condition(_of))
        row = connection.execute(query).one_or_none()
    return None if row is None else (row.state, row.last_ended_at is not None and row.failures == 0)
