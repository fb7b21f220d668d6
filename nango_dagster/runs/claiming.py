"""The claim that lets only one run execute a sync for a connection and variant at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from .. import clock
from ..errors import Refused
from ..settings import Settings
from ..store import Database, queue
from ..store.queue import HEARTBEAT_SECONDS, LEASE_SECONDS, Claim, Holder, Worker
from ..store.sync_row import SyncRow
from ..store.target import Target
from .execution import Execution
from .values import BASE, Due

_CLAIMING_SECONDS = 5  # how long another run's claim may take to be committed


@contextlib.contextmanager
def claimed(
    database: Database,
    settings: Settings,
    row: SyncRow,
    *,
    run_id: str | None = None,
    connection_id: str | None = None,
    variant: str = BASE,
    due: Due | None = None,
) -> Iterator[Execution]:
    """Claim a connection and variant of the sync for one execution: at once, or only if it is `due`.

    The caller may replace the `wishes` and the `source` of the execution before it runs.

    Raises Refused when another run executes it, or when it is not due.
    """
    target = Target(row.id, connection_id or row.sync.connection_key, variant)
    queue.reap(database)
    stopping = threading.Event()
    with _worker(database, row.id, run_id, stopping) as worker:
        claim = _claim(database, worker, row, target) if due is None else _claim_due(database, worker, row, due, target)
        yield Execution(database, settings, row, claim, run_id, stopping)


def _claim(database: Database, worker: Worker, row: SyncRow, target: Target) -> Claim:
    """Claim the target. Raises Refused with the name of the run that holds it, once its claim is committed."""
    deadline = clock.monotonic() + _CLAIMING_SECONDS
    while True:
        claims = queue.claim(database, worker, limit=1, slot=None, only=[target[1:]], force=True)
        if claims:
            return claims[0]
        queue.reap(database)  # a killed process's last transaction may have held the lock a moment ago
        holder = queue.holder(database, target)
        if holder is not None and holder.has_ended and clock.monotonic() < deadline:
            time.sleep(0.05)
            continue
        if holder is not None or clock.monotonic() > deadline:
            raise Refused(held_sentence(row, target, holder))
        time.sleep(0.05)


def _claim_due(database: Database, worker: Worker, row: SyncRow, due: Due, target: Target) -> Claim:
    """Claim the target if it is still due. Raises Refused when it is not, or when another run holds it."""
    claims = queue.claim(database, worker, limit=1, slot=due.slot, only=[target[1:]])
    if claims:
        return claims[0]
    holder = queue.holder(database, target)
    if holder is not None:
        raise Refused(held_sentence(row, target, holder))
    raise Refused(f"{row.sync.display_name}: it is not due any more; nothing was done.")


@contextlib.contextmanager
def _worker(database: Database, sync_id: int, run_id: str | None, stopping: threading.Event) -> Iterator[Worker]:
    """A worker with a heartbeat; `stopping` is set when its lease is lost."""
    worker = queue.start_worker(database, sync_id, run_id)
    try:
        with queue.heartbeat(database, worker, stopping.set):
            yield worker
    finally:
        queue.end_worker(database, worker)


def held_sentence(row: SyncRow, target: Target, holder: Holder | None) -> str:
    """Why nothing was done for a target that another run holds."""
    name = target.connection_id if target.variant == BASE else f"{target.connection_id}|{target.variant}"
    if holder is None:
        return f"{row.sync.display_name}: {name} is being synced by another run; nothing was done."
    who, since = holder.worker.name, holder.since.astimezone().strftime("%H:%M")
    sentence = f"{row.sync.display_name}: {name} is being synced by {who} since {since}; nothing was done."
    if holder.silence < 2 * timedelta(seconds=HEARTBEAT_SECONDS):
        return sentence
    silence = f"{holder.silence.total_seconds():.0f} seconds"
    return f"{sentence} It was last heard from {silence} ago: {LEASE_SECONDS} seconds, and it is taken for dead."
