"""The claim that lets only one run execute a sync for a connection and variant at a time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from .. import clock
from ..errors import Refused
from ..settings import Settings
from ..sources import Source
from ..store import Database, queue
from ..store.queue import HEARTBEAT_SECONDS, LEASE_SECONDS, Claim, Holder, Worker
from ..store.syncs import SyncRow
from .execution import Execution
from .values import BASE, Due, Wishes

_CLAIMING_SECONDS = 5  # another run's claim is not told of before it is committed


@contextlib.contextmanager
def claimed(
    database: Database,
    settings: Settings,
    row: SyncRow,
    *,
    run_id: str | None = None,
    wishes: Wishes | None = None,
    due: Due | None = None,
    connection_id: str | None = None,
    source: Source | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Execution]:
    """The sync's execution, for whoever was asked to run it now: a click, or `run SYNC`; or only if it is `due`.

    Raises Refused when another run is at it, or when it is not due.
    """
    names = (connection_id or row.sync.connection_key, BASE)
    queue.reap(database)
    stopping = threading.Event()
    with _working(database, row.id, run_id, stopping) as worker:
        claim = _claim(database, worker, row, *names) if due is None else _claim_due(database, worker, row, due, *names)
        yield Execution(database, settings, row, claim, run_id, stopping, wishes or Wishes(), source, cancelled)


def _claim(database: Database, worker: Worker, row: SyncRow, connection_id: str, variant: str) -> Claim:
    """The claim. Raises Refused with the name of the run that has it, which may be committing its own right now."""
    deadline = clock.monotonic() + _CLAIMING_SECONDS
    while True:
        claims = queue.claim(database, worker, limit=1, slot=None, only=[(connection_id, variant)], force=True)
        if claims:
            return claims[0]
        holder = queue.holder(database, row.id, connection_id, variant)
        if holder is not None or clock.monotonic() > deadline:
            raise Refused(held_sentence(row, connection_id, variant, holder))
        time.sleep(0.05)


def _claim_due(database: Database, worker: Worker, row: SyncRow, due: Due, connection_id: str, variant: str) -> Claim:
    """The claim of what is still due. Raises Refused when it is not, or another run has it."""
    claims = queue.claim(database, worker, limit=1, slot=due.slot, only=[(connection_id, variant)])
    if claims:
        return claims[0]
    holder = queue.holder(database, row.id, connection_id, variant)
    if holder is not None:
        raise Refused(held_sentence(row, connection_id, variant, holder))
    raise Refused(f"{row.sync.display_name}: it is not due any more; nothing was done.")


@contextlib.contextmanager
def _working(database: Database, sync_id: int, run_id: str | None, stopping: threading.Event) -> Iterator[Worker]:
    """A worker row with a heartbeat; `stopping` is set when the row is lost or somebody cancels."""
    worker = queue.start_worker(database, sync_id, run_id)
    try:
        with queue.heartbeat(database, worker, stopping.set):
            yield worker
    finally:
        queue.end_worker(database, worker)


def held_sentence(row: SyncRow, connection_id: str, variant: str, holder: Holder | None) -> str:
    """Why nothing was done for a connection and variant that another run has."""
    name = connection_id if variant == BASE else f"{connection_id}|{variant}"
    if holder is None:
        return f"{row.sync.display_name}: {name} is being synced by another run; nothing was done."
    who, since = holder.worker.name, holder.since.astimezone().strftime("%H:%M")
    sentence = f"{row.sync.display_name}: {name} is being synced by {who} since {since}; nothing was done."
    if holder.silence < 2 * timedelta(seconds=HEARTBEAT_SECONDS):
        return sentence
    silence = f"{holder.silence.total_seconds():.0f} seconds"
    return f"{sentence} It was last heard from {silence} ago: {LEASE_SECONDS} seconds, and it is taken for dead."
