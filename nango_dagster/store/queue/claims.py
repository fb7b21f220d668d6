"""One execution in the queue: claim, begin, check before each write, release."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)

from ...errors import LeaseLost
from .. import schema
from ..database import Database
from ..target import Target
from . import due, workers
from .model import (
    ASKED_AGAIN,
    AT_ONCE,
    FREED,
    LEASE_SECONDS,
    STUCK_SECONDS,
    WORKER_COLUMNS,
    Claim,
    Worker,
    requests,
    worker_of,
)

_table = schema.schedules
_of = schema.schedules.c
_PAIRS = 250  # two parameters each, and an old SQLite takes 999


def claim(
    db: Database,
    worker: Worker,
    *,
    limit: int,
    slot: datetime | None,
    only: Sequence[tuple[str, str]] | None = None,
    force: bool = False,
) -> list[Claim]:
    """Claim up to `limit` due schedules that nobody holds, triggered ones first.

    `slot` is the sync's latest slot, None when its schedule is stopped. `only` names the (connection, variant) pairs
    to choose from; with `force` they are taken also when they are paused or not due. A schedule whose last execution
    was lost is claimed alone, by a worker that holds nothing else, so that it costs no other schedule a second loss. An
    empty list means that nothing is due, or nothing before this worker has released its claims.

    Raises LeaseLost when the worker was taken for dead.
    """
    if limit < 1:
        return []
    free = [_of.sync_id == worker.sync_id, _of.worker_id.is_(None)]
    if not force:
        free = [due.is_due(db, worker.sync_id, slot)]
    return db.transact(lambda connection: _claim(connection, db, worker, min(limit, AT_ONCE), free, only))


def _claim(
    connection: Connection,
    db: Database,
    worker: Worker,
    limit: int,
    free: Sequence[ColumnElement[bool]],
    only: Sequence[tuple[str, str]] | None,
) -> list[Claim]:
    """Claim up to `limit` free schedules; one whose execution was lost before is claimed alone.

    The lock on the worker's row serializes the claims of its threads. Raises LeaseLost when the worker counts as dead.
    """
    if not workers.beat_in(connection, db, worker):
        raise LeaseLost(f"{worker.name} was not heard from for {LEASE_SECONDS} seconds and was taken for dead.")
    losses_of_claims = connection.execute(select(_of.losses).where(_of.worker_id == worker.id)).scalars().all()
    if any(losses_of_claims):
        return []
    rows = _take(connection, [*free, _of.losses == 0], only, limit)
    if not rows and not losses_of_claims:
        rows = _take(connection, [*free, _of.losses > 0], only, 1)
    if not rows:
        return []
    connection.execute(
        update(_table)
        .where(_of.id.in_([row.id for row in rows]))
        .values(worker_id=worker.id, fence=_of.fence + 1, claimed_at=db.clock(), cancelled_at=None)
    )
    return [_as_claim(row, worker) for row in rows]


def _take(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    only: Sequence[tuple[str, str]] | None,
    limit: int,
) -> list[Any]:
    """Up to `limit` rows, locked until the transaction ends; rows that others have locked are skipped."""
    query = (
        select(_of.id, _of.sync_id, _of.connection_id, _of.variant, _of.fence)
        .add_columns(_of.reset, _of.empty_cache, _of.losses, _of.checkpoint)
        .add_columns(_of.failures, _of.frequency, _of.created_at, _of.shown_state, _of.shown_at)
        .where(*conditions)
        # NULLs said outright: the two databases sort them to different ends.
        .order_by(_of.triggered_at.is_(None), _of.last_started_at.is_not(None), _of.last_started_at, _of.id)
        .with_for_update(skip_locked=True)
    )
    if only is None:
        return list(connection.execute(query.limit(limit)))
    rows: list[Any] = []
    for start in range(0, len(only), _PAIRS):
        named = tuple_(_of.connection_id, _of.variant).in_(only[start : start + _PAIRS])
        rows += connection.execute(query.where(named).limit(limit - len(rows)))
        if len(rows) == limit:
            break
    return rows


def _as_claim(row: Any, worker: Worker) -> Claim:
    return Claim(
        schedule_id=row.id,
        sync_id=row.sync_id,
        connection_id=row.connection_id,
        variant=row.variant,
        worker_id=worker.id,
        fence=row.fence + 1,
        reset=row.reset,
        empty_cache=row.empty_cache,
        losses=row.losses,
        checkpoint=None if row.reset else row.checkpoint,
        failures=row.failures,
        frequency=row.frequency,
        created_at=row.created_at,
        shown_state=row.shown_state,
        shown_at=row.shown_at,
    )


def count_due(db: Database, sync_id: int, slot: datetime | None) -> int:
    """How many of a sync's schedules are due; `slot` is the sync's latest."""
    query = select(func.count()).select_from(_table).where(due.is_due(db, sync_id, slot))
    with db.ask() as connection:
        return connection.execute(query).scalar_one()


def lock_dataset(
    connection: Connection,
    db: Database,
    target: Target,
    patience: float | None = None,
) -> None:
    """Take the lock on a target's dataset: nobody else writes it until the transaction ends.

    Take it before anything else in the transaction, as the package says. Raises Busy after some seconds, or after
    `patience`, as `Database.lock` does.
    """
    db.lock(connection, *target.lock_names, patience=patience, idle_limit=STUCK_SECONDS)


# Built once: an execution sends these several times, and building a statement costs as much as sending it.
_mine = _of.id == bindparam("schedule_id")
_CHECK = (
    select(_of.worker_id.label("holder_id"), _of.fence, _of.cancelled_at)
    .add_columns(*WORKER_COLUMNS, schema.workers.c.heartbeat_at)
    .outerjoin(schema.workers, schema.workers.c.id == _of.worker_id)
    .where(_mine)
)
_IS_CANCELLED = select(_of.cancelled_at).where(_mine, _of.fence == bindparam("held_fence"))


def check(connection: Connection, db: Database, claim: Claim) -> bool:
    """Prove that the claim still holds; the caller holds the dataset's lock and goes on to write.

    Returns whether the execution was cancelled. Raises LeaseLost when another run may have the claim.
    """
    row = connection.execute(_CHECK, {"schedule_id": claim.schedule_id}).one_or_none()
    if row is None:
        raise LeaseLost("lease lost: the sync was removed while it was being executed.")
    if (row.holder_id, row.fence) == (claim.worker_id, claim.fence):
        workers.beat_along(connection, db, worker_of(row), row.heartbeat_at)
        return row.cancelled_at is not None
    if row.worker_id is not None and row.worker_id != claim.worker_id:
        raise LeaseLost(f"lease lost to {worker_of(row).name}.")
    raise LeaseLost(f"lease lost: this run was not heard from for {LEASE_SECONDS} seconds and was taken for dead.")


def begin_execution(connection: Connection, db: Database, claim: Claim) -> None:
    """Record that a claimed schedule begins now; a reset deletes its checkpoint."""
    values: dict[str, Any] = {"checkpoint": None, "last_sync_at": None} if claim.reset else {}
    values |= due.next_due_at(claim, db.now(connection))
    mine = update(_table).where(_of.id == claim.schedule_id)
    connection.execute(mine.values(last_started_at=db.clock(), not_before=None, **values))


def release(
    connection: Connection,
    db: Database,
    claim: Claim,
    *,
    succeeded: bool | None,
    not_before: datetime | None = None,
    is_interrupted: bool = False,
) -> None:
    """Release a claim at the end of its execution; `succeeded` is None when it was cancelled or postponed.

    An interrupted execution is due again at once, unless it was paused, and does not move the date of the last sync.
    The caller holds the dataset's lock, has checked the claim, and commits soon: the row is locked from here on.
    """
    failures: dict[bool | None, Any] = {True: 0, False: _of.failures + 1, None: _of.failures}
    kept_requests = requests(kept=ASKED_AGAIN)
    if is_interrupted:
        kept_requests["triggered_at"] = case((_of.state == "STARTED", db.clock()), else_=kept_requests["triggered_at"])
    moved = {"last_sync_at": _of.last_started_at} if succeeded and not is_interrupted else {}
    connection.execute(
        update(_table)
        .where(_of.id == claim.schedule_id)
        .values(
            **FREED,
            **kept_requests,
            **moved,
            **due.next_due_at(claim, db.now(connection)),
            last_ended_at=db.clock(),
            failures=failures[succeeded],
            losses=0,
            not_before=not_before,
        )
    )


def put_off(
    db: Database,
    worker: Worker,
    until: datetime,
    slot: datetime | None,
    *,
    connection_id: str | None = None,
    claimed: Sequence[Claim] = (),
) -> None:
    """Postpone the due schedules of the worker's sync until a moment: all of them, or those of one connection.

    `claimed` are claims of this worker that it will not begin; they are free again.
    """
    waiting = update(_table).where(due.is_due(db, worker.sync_id, slot))
    if connection_id is not None:
        waiting = waiting.where(_of.connection_id == connection_id)
    ids = [claim.schedule_id for claim in claimed]
    ours = update(_table).where(_of.id.in_(ids), _of.worker_id == worker.id)

    def work(connection: Connection) -> None:
        connection.execute(waiting.values(not_before=until))
        connection.execute(ours.values(**FREED, not_before=until))

    db.transact(work)


def is_cancelled(db: Database, claim: Claim) -> bool:
    """Whether the execution was cancelled."""
    mine = {"schedule_id": claim.schedule_id, "held_fence": claim.fence}
    with db.ask() as connection:
        return connection.execute(_IS_CANCELLED, mine).scalar() is not None
