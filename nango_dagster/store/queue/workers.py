"""Workers: a row each, a heartbeat, and the reaper for those that were not heard from any more."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, insert, not_, or_, select, text, update

from .. import datasets, schema
from ..announcing import Ended, announce
from ..database import Database
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
    lock_names,
    requests,
    worker_of,
)

log = logging.getLogger(__name__)

_LEASE = timedelta(seconds=LEASE_SECONDS)
_workers = schema.workers
_schedules = schema.schedules
_jobs = schema.jobs


def start_worker(db: Database, sync_id: int, run_id: str | None, *, drains: bool = False) -> Worker:
    """Note that this process begins to work on a sync; on all that is due, if it `drains`."""
    host, pid = socket.gethostname(), os.getpid()

    def work(connection: Connection) -> Worker:
        now = db.now(connection)
        values = {"sync_id": sync_id, "run_id": run_id, "host": host, "pid": pid, "drains": drains}
        made = connection.execute(insert(_workers).values(**values, started_at=now, heartbeat_at=now))
        assert made.inserted_primary_key is not None
        return Worker(made.inserted_primary_key[0], sync_id, run_id, host, pid)

    return db.transact(work)


def end_worker(db: Database, worker: Worker) -> None:
    """Note that it is done: what it still holds is free again, and executions that it left open have failed."""
    _bury(db, worker, f"{worker.name} ended before this execution did.", _workers.c.id == worker.id)


def give_up(db: Database, worker: Worker, claim: Claim, sentence: str) -> None:
    """End one of its executions that could not record its own end, as the reaper would, while the worker goes on.

    A claim that was not begun stays: to free it now would have it claimed again at once, for ever.
    """
    held = select(_schedules).where(
        _schedules.c.id == claim.schedule_id, _schedules.c.worker_id == worker.id, _schedules.c.fence == claim.fence
    )

    def work(connection: Connection) -> None:
        db.lock(connection, *lock_names(claim.sync_id, claim.connection_id, claim.variant))
        _end_begun(connection, db, worker, connection.execute(held).all(), sentence)

    db.transact(work)


def beat(db: Database, worker: Worker) -> bool:
    """Say that the worker is alive; False when it was taken for dead and holds nothing any more."""
    return db.transact(lambda connection: beat_in(connection, db, worker))


def beat_in(connection: Connection, db: Database, worker: Worker) -> bool:
    """The same inside the caller's transaction, which holds the worker's row from here on."""
    alive = update(_workers).where(_workers.c.id == worker.id).values(heartbeat_at=db.clock())
    return connection.execute(alive).rowcount == 1


def beat_along(connection: Connection, db: Database, worker: Worker, heard: datetime) -> None:
    """The same on SQLite in a transaction that writes anyway, where the worker was last heard from a while ago.

    Many of these, one after the other, would keep its heartbeat waiting for the one lock for longer than its lease.
    """
    if not db.is_postgresql and db.now(connection) - heard > timedelta(seconds=HEARTBEAT_SECONDS / 2):
        beat_in(connection, db, worker)


def forgive_silence(connection: Connection, db: Database) -> None:
    """Let the time not count in which this transaction held SQLite's write lock, and nobody could say it was alive.

    The silence before it does: one such transaction after the other keeps no dead worker's claims.
    """
    if db.is_postgresql:
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
    """Beat from a thread of its own while the block runs; when the worker was taken for dead, call `on_lost` once.

    A database that does not answer is asked again at the next beat: whatever the worker writes is checked anyway.
    """
    ended = threading.Event()

    def beats() -> None:
        while not ended.wait(interval):
            try:
                alive = beat(db.separate, worker)
            except Exception as error:
                # Whatever it was: a thread that ends silently would cost the worker its lease.
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
    """The workers of a sync that were heard from lately, the oldest first; those that do or do not drain, or all."""
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
    """The syncs that some live worker drains."""
    query = select(_workers.c.sync_id).where(_workers.c.drains, _workers.c.heartbeat_at >= db.clock(_LEASE))
    with db.connect() as connection:
        return set(connection.execute(query).scalars())


# --- the reaper -----------------------------------------------------------------------------------------------------


def reap(db: Database) -> list[Lost]:
    """End what dead workers were executing: their jobs have failed, and what they held is free.

    A lost execution is due again at once; after a second loss in a row it waits for the next slot and is then claimed
    alone. Anybody may call this at any time; what two callers find is counted once.
    """
    with db.connect() as connection:
        query = select(*WORKER_COLUMNS, _workers.c.heartbeat_at).where(_is_dead(db))
        dead = connection.execute(query).all()
    lost: list[Lost] = []
    for row in dead:
        worker = worker_of(row)
        where = f"{worker.name} (process {worker.pid} on {worker.host})" if worker.run_id else worker.name
        sentence = f"run lost: {where} was last heard from at {row.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC."
        lost += _bury(db, worker, sentence, and_(_workers.c.id == worker.id, _is_dead(db)))
    return lost


def _is_dead(db: Database) -> ColumnElement[bool]:
    return _workers.c.heartbeat_at < db.clock(_LEASE)


def _bury(db: Database, worker: Worker, sentence: str, found: ColumnElement[bool]) -> list[Lost]:
    """Free what a worker holds, step by step, as long as it is `found`; delete it after the last step."""
    lost: list[Lost] = []
    while True:
        ended, freed = db.transact(lambda connection: _free_some(connection, db, worker, sentence, found))
        lost += ended
        if freed < AT_ONCE:
            return lost


def _free_some(
    connection: Connection, db: Database, worker: Worker, sentence: str, found: ColumnElement[bool]
) -> tuple[list[Lost], int]:
    """Free up to AT_ONCE of its claims that no transaction is writing for; the lost executions, and how many."""
    # The lock on the worker's row keeps out its own heartbeat, its own claims and other reapers.
    locked = select(_workers.c.heartbeat_at).where(found).with_for_update(skip_locked=True)
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
    lost = [Lost(row.sync_id, row.connection_id, row.variant, job_id, worker, heard) for row, job_id in begun.items()]
    return lost, len(rows)


def _unlocked(connection: Connection, db: Database, rows: Sequence[Any]) -> list[Any]:
    """Those rows whose dataset's lock is free; it is ours from here to the end of the transaction."""
    if not db.is_postgresql:
        return list(rows)
    keys = {db.lock_key(*lock_names(row.sync_id, row.connection_id, row.variant)): row for row in rows}
    query = text("SELECT key FROM unnest(CAST(:keys AS bigint[])) AS key WHERE pg_try_advisory_xact_lock(key)")
    free = connection.execute(query, {"keys": list(keys)}).scalars().all()
    if len(free) < len(keys):
        connection.execute(_END_STUCK, {"keys": list(keys), "stuck": timedelta(seconds=STUCK_SECONDS)})
    return [keys[key] for key in free]


# The server itself ends a transaction in which nothing happens, but not one whose COPY waits for the rest of its rows
# from a process that was stopped in the middle of it.
_END_STUCK = text(
    "SELECT pg_terminate_backend(lock.pid) FROM pg_locks lock JOIN pg_stat_activity session USING (pid) "
    "WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1 "
    "AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (lock.classid::bigint << 32) | lock.objid::bigint = ANY(CAST(:keys AS bigint[])) "
    "AND session.usename = current_user AND session.wait_event = 'ClientRead' "
    "AND session.query_start < clock_timestamp() - :stuck"
)


def _end_begun(
    connection: Connection, db: Database, worker: Worker, rows: Sequence[Any], sentence: str
) -> dict[Any, int]:
    """Free those that the worker has begun, and say why their jobs have failed; each with its job."""
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
    """Tell of what the executions had written before they were lost, and that they were."""
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
        found = datasets.of_one(connection, row.sync_id, row.connection_id, row.variant)
        announce(connection, db, ended, found[0] if found else None)


def _running_jobs(connection: Connection, worker: Worker) -> dict[Any, int]:
    """The jobs that the worker has open: what it has begun, of all that it has claimed."""
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
            # Who cancels an execution and then kills its run does not want to see it again at once.
            losses=case((IS_CANCELLED, 0), else_=of.losses + 1),
        )
    )
    # Twice in a row: it waits for the next slot, also when somebody had asked for it.
    connection.execute(update(_schedules).where(of.id.in_(ids), of.losses >= 2).values(triggered_at=None))


def _free_waiting(connection: Connection, ids: Sequence[int]) -> None:
    """Free claims that were not begun: they had no part in the worker's death, and are as due as before."""
    kept = requests(kept=or_(ASKED_AGAIN, not_(IS_CANCELLED)))
    connection.execute(update(_schedules).where(_schedules.c.id.in_(ids)).values(**FREED, **kept))
