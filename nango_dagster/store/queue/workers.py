"""Workers: one row each, its heartbeat, and the reaper that ends the executions of dead workers."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, insert, not_, or_, select, update

from .. import datasets, schema
from ..announcing import Ended, announce
from ..database import Database
from ..target import Target
from . import processes
from .model import (
    ASKED_AGAIN,
    AT_ONCE,
    FREED,
    HEARTBEAT_SECONDS,
    IS_CANCELLED,
    LEASE_SECONDS,
    STUCK_SECONDS,
    WORKER_COLUMNS,
    Claim,
    Lost,
    Worker,
    requests,
    worker_of,
)

log = logging.getLogger(__name__)

_LEASE = timedelta(seconds=LEASE_SECONDS)
_workers = schema.workers
_schedules = schema.schedules
_jobs = schema.jobs


def start_worker(db: Database, sync_id: int, run_id: str | None, *, drains: bool = False) -> Worker:
    """Record that this process begins to work on a sync; with `drains`, on all its schedules that are due."""
    host, pid = socket.gethostname(), os.getpid()

    def work(connection: Connection) -> Worker:
        now = db.now(connection)
        values: dict[str, Any] = {"sync_id": sync_id, "run_id": run_id, "host": host, "pid": pid, "drains": drains}
        values |= {"process": processes.identity_of(pid), "started_at": now, "heartbeat_at": now}
        made = connection.execute(insert(_workers).values(values))
        assert made.inserted_primary_key is not None
        return Worker(made.inserted_primary_key[0], sync_id, run_id, host, pid)

    return db.transact(work)


def end_worker(db: Database, worker: Worker) -> None:
    """Remove a worker that has finished: its claims are free again, and executions that it left open have failed."""
    _bury(db, worker, f"{worker.name} ended before this execution did.", _workers.c.id == worker.id)


def give_up(db: Database, worker: Worker, claim: Claim, sentence: str) -> None:
    """End an execution that could not record its own end, as the reaper would, while its worker goes on.

    A claim that was not begun stays: a free one would be claimed again at once, for ever.
    """
    held = select(_schedules).where(
        _schedules.c.id == claim.schedule_id, _schedules.c.worker_id == worker.id, _schedules.c.fence == claim.fence
    )

    def work(connection: Connection) -> None:
        db.lock(connection, *claim.target.lock_names)
        _end_begun(connection, db, worker, connection.execute(held).all(), sentence)

    db.transact(work)


def beat(db: Database, worker: Worker) -> bool:
    """Record the worker's heartbeat; False when it was taken for dead and has lost its claims."""
    return db.transact(lambda connection: beat_in(connection, db, worker))


def beat_in(connection: Connection, db: Database, worker: Worker) -> bool:
    """Record the worker's heartbeat in the caller's transaction, which locks the worker's row from here on."""
    alive = update(_workers).where(_workers.c.id == worker.id).values(heartbeat_at=db.clock())
    return connection.execute(alive).rowcount == 1


def beat_along(connection: Connection, db: Database, worker: Worker, heard: datetime) -> None:
    """Record a heartbeat in a transaction of a single-writer database, if the last one is half an interval old.

    Many transactions one after the other would keep the heartbeat's own thread waiting for the write lock for longer
    than the lease.
    """
    if db.engine.single_writer and db.now(connection) - heard > timedelta(seconds=HEARTBEAT_SECONDS / 2):
        beat_in(connection, db, worker)


def forgive_silence(connection: Connection, db: Database) -> None:
    """Extend all leases by the time in which this transaction held the only write lock, so that no heartbeat passed.

    The silence before the transaction still counts: a series of such transactions keeps no dead worker's claims.
    """
    if not db.engine.single_writer:
        return
    began, now = db.held_since(connection), db.now(connection)
    if now - began < timedelta(seconds=HEARTBEAT_SECONDS):
        return
    of = _workers.c
    for id_, heard in connection.execute(select(of.id, of.heartbeat_at).where(of.heartbeat_at >= began - _LEASE)).all():
        silent = max(began - heard, timedelta(0))
        connection.execute(update(_workers).where(of.id == id_).values(heartbeat_at=now - silent))


@contextlib.contextmanager
def heartbeat(
    db: Database, worker: Worker, on_lost: Callable[[], None], interval: float = HEARTBEAT_SECONDS
) -> Iterator[None]:
    """Send heartbeats from a separate thread while the block runs; call `on_lost` once when the lease is lost.

    A database that does not answer is tried again at the next interval: every write of the worker is checked anyway.
    """
    ended = threading.Event()

    def beats() -> None:
        while not ended.wait(interval):
            try:
                alive = beat(db.separate, worker)
            except Exception as error:
                # Any error: if the thread ended, the worker would lose its lease.
                log.warning("%s: no heartbeat: %s", worker.name, error)
                continue
            if not alive:
                on_lost()
                return

    thread = threading.Thread(target=beats, name=f"nango heartbeat {worker.id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def live_workers(db: Database, sync_id: int, *, drains: bool | None = None) -> list[Worker]:
    """The live workers of a sync, the oldest first: those that drain, those that do not, or all."""
    query = (
        select(*WORKER_COLUMNS)
        .where(_workers.c.sync_id == sync_id, _workers.c.heartbeat_at >= db.clock(_LEASE))
        .order_by(_workers.c.id)
    )
    if drains is not None:
        query = query.where(_workers.c.drains == drains)
    with db.connect() as connection:
        return [worker_of(row) for row in connection.execute(query)]


def drained(db: Database) -> set[int]:
    """The ids of the syncs that a live worker drains."""
    query = select(_workers.c.sync_id).where(_workers.c.drains, _workers.c.heartbeat_at >= db.clock(_LEASE))
    with db.connect() as connection:
        return set(connection.execute(query).scalars())


# --- the reaper -----------------------------------------------------------------------------------------------------


def reap(db: Database) -> list[Lost]:
    """End the executions of dead workers: their jobs have failed and their claims are free.

    A worker is dead when its heartbeat is older than its lease, or when its process on this machine has ended. A lost
    execution is due again at once; after a second loss in a row it waits for the next slot and is then claimed
    alone. Any process may call this at any time; a loss that two callers find is counted once.
    """
    with db.connect() as connection:
        columns = (_workers.c.heartbeat_at, _workers.c.process, _is_silent(db).label("is_silent"))
        rows = connection.execute(select(*WORKER_COLUMNS, *columns)).all()
    lost: list[Lost] = []
    for row in rows:
        worker = worker_of(row)
        this_worker = _workers.c.id == worker.id
        where = f"{worker.name} (process {worker.pid} on {worker.host})" if worker.run_id else worker.name
        if row.is_silent:
            sentence = f"run lost: {where} was last heard from at {row.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC."
            lost += _bury(db, worker, sentence, and_(this_worker, _is_silent(db)))
        elif processes.has_ended(row.process):
            lost += _bury(db, worker, f"run lost: {where} was ended from outside, as by kill -9.", this_worker)
    return lost


def _is_silent(db: Database) -> ColumnElement[bool]:
    return _workers.c.heartbeat_at < db.clock(_LEASE)


def _bury(db: Database, worker: Worker, sentence: str, condition: ColumnElement[bool]) -> list[Lost]:
    """Free a worker's claims in steps, as long as the condition is true for it, and delete it after the last step."""
    lost: list[Lost] = []
    while True:
        ended, freed = db.transact(lambda connection: _free_some(connection, db, worker, sentence, condition))
        lost += ended
        if freed < AT_ONCE:
            return lost


def _free_some(
    connection: Connection, db: Database, worker: Worker, sentence: str, condition: ColumnElement[bool]
) -> tuple[list[Lost], int]:
    """Free up to AT_ONCE claims whose dataset's lock is free; returns the lost executions and the number of claims."""
    # The lock on the worker's row keeps out its own heartbeat, its own claims and other reapers.
    locked = select(_workers.c.heartbeat_at).where(condition).with_for_update(skip_locked=True)
    heard = connection.execute(locked).scalar()
    if heard is None:
        return [], 0
    held = select(_schedules).where(_schedules.c.worker_id == worker.id).limit(AT_ONCE)
    rows = connection.execute(held.order_by(_schedules.c.id).with_for_update(skip_locked=True)).all()
    rows = _unlocked(connection, db, rows)
    begun = _end_begun(connection, db, worker, rows, sentence)
    _free_waiting(connection, [row.id for row in rows if row not in begun])
    if connection.execute(held.limit(1)).first() is None:
        connection.execute(delete(_workers).where(_workers.c.id == worker.id))
    lost = [Lost(Target.of(row), job_id, worker, heard) for row, job_id in begun.items()]
    return lost, len(rows)


def _unlocked(connection: Connection, db: Database, rows: Sequence[Any]) -> list[Any]:
    """The rows whose dataset's lock was free; this transaction holds those locks from here on."""
    row_of = {Target.of(row).lock_names: row for row in rows}
    taken = db.try_locks(connection, row_of)
    if len(taken) < len(row_of):
        db.end_stuck_holders(connection, row_of, STUCK_SECONDS)
    return [row for names, row in row_of.items() if names in taken]


def _end_begun(
    connection: Connection, db: Database, worker: Worker, rows: Sequence[Any], sentence: str
) -> dict[Any, int]:
    """Free the claims that the worker has begun and end their jobs as failed; returns row and job id of each."""
    job_ids = _running_jobs(connection, worker)
    begun = {row: job_ids[key] for row in rows if (key := _job_key(row)) in job_ids}
    _free_begun(connection, db, [row.id for row in begun])
    connection.execute(
        update(_jobs)
        .where(_jobs.c.id.in_(begun.values()))
        .values(status="failed", ended_at=db.clock(), error_message=sentence)
    )
    _announce(connection, db, begun, sentence)
    return begun


def _announce(connection: Connection, db: Database, begun: Mapping[Any, int], sentence: str) -> None:
    """Announce the changes of the lost executions, and their failure."""
    for row, job_id in begun.items():
        of = schema.syncs.c
        query = select(of.name, of.integration, of.model).where(of.id == row.sync_id)
        name, integration, model = connection.execute(query).one()
        ended = Ended(
            job_id=job_id,
            sync_id=row.sync_id,
            sync_name=name,
            integration=integration,
            connection_id=row.connection_id,
            variant=row.variant,
            model=model,
            succeeded=False,
            error=sentence,
        )
        stored = datasets.of_one(connection, Target.of(row))
        announce(connection, db, ended, stored[0] if stored else None)


def _running_jobs(connection: Connection, worker: Worker) -> dict[Any, int]:
    """The ids of the jobs that the worker has begun and not ended."""
    query = select(_jobs).where(_jobs.c.worker_id == worker.id, _jobs.c.status == "running")
    return {_job_key(job): job.id for job in connection.execute(query)}


def _job_key(row: Any) -> tuple[int, str, str, int]:
    return (row.sync_id, row.connection_id, row.variant, row.fence)


def _free_begun(connection: Connection, db: Database, ids: Sequence[int]) -> None:
    of = _schedules.c
    connection.execute(
        update(_schedules)
        .where(of.id.in_(ids))
        .values(
            **FREED,
            **requests(kept=or_(ASKED_AGAIN, not_(IS_CANCELLED))),
            last_ended_at=db.clock(),
            failures=of.failures + 1,
            # A cancelled execution whose run was killed is not repeated at once.
            losses=case((IS_CANCELLED, 0), else_=of.losses + 1),
        )
    )
    # Lost twice in a row: it waits for the next slot, also if it was triggered.
    connection.execute(update(_schedules).where(of.id.in_(ids), of.losses >= 2).values(triggered_at=None))


def _free_waiting(connection: Connection, ids: Sequence[int]) -> None:
    """Free claims that were not begun: they did not cause the worker's death, and are as due as before."""
    kept = requests(kept=or_(ASKED_AGAIN, not_(IS_CANCELLED)))
    connection.execute(update(_schedules).where(_schedules.c.id.in_(ids)).values(**FREED, **kept))
