"""Remove old payloads, the records of datasets that are not executed any more, and old jobs.

Only jobs are removed by default; the settings switch the rest on, because the store belongs to the user. Small
transactions keep no writer waiting for long; an interrupted removal continues the next time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, select, update

from .. import clock
from ..errors import StoreUnavailable
from ..sentences import number_of
from ..settings import Settings
from . import datasets, jobs, pruning, schema, tables
from .changes import Cursor
from .database import Database
from .datasets import Dataset
from .rows import KeyRange

log = logging.getLogger(__name__)

KEEP_JOBS = timedelta(days=31)
_FIRST = 200  # records of a first batch
_raw = schema.raw
_schedules = schema.schedules.c


@dataclass(frozen=True)
class Removed:
    """The numbers of what was removed."""

    payloads: int = 0
    records: int = 0
    jobs: int = 0

    def __str__(self) -> str:
        counts = number_of(self.payloads, "payload"), number_of(self.records, "record"), number_of(self.jobs, "job")
        return f"removed {', '.join(counts)}."


def retain(database: Database, settings: Settings) -> Removed:
    """Remove what is older than the settings allow; a dataset that an execution has locked waits for the next time."""
    removed = Removed(jobs=jobs.purge(database, KEEP_JOBS))
    with database.connect() as connection:
        now = database.now(connection)
        all_ = datasets.written(connection)
    for dataset in all_:
        try:
            if settings.delete_after_days:
                before = now - timedelta(days=settings.delete_after_days)
                removed = replace(removed, records=removed.records + delete_unused(database, dataset, before))
            if settings.prune_after_days:
                before = now - timedelta(days=settings.prune_after_days)
                removed = replace(removed, payloads=removed.payloads + prune_old(database, dataset, before))
        except StoreUnavailable as busy:
            log.warning("%s", busy)
    return removed


def prune_old(database: Database, dataset: Dataset, before: datetime) -> int:
    """Remove the payloads of records that have not changed since `before`; returns how many."""
    until = Cursor(before, "")
    if not pruning.has_payloads(database, dataset, until):
        return 0
    count = pruning.prune(database, dataset, until, restorable=False).count
    log.info("%s: pruned %s.", _name(dataset), number_of(count, "payload"))
    return count


def delete_unused(database: Database, dataset: Dataset, before: datetime) -> int:
    """Delete all records of a dataset that has not changed and was not executed since `before`; returns how many.

    The dataset's last_modified_at stays, so that a reader's cursor is valid also for later changes.
    """
    if dataset.last_modified_at is None or dataset.last_modified_at >= before:
        return 0
    count, size, after = 0, _FIRST, ""
    while True:
        began = clock.monotonic()
        keys = pruning.under_lock(database, dataset, partial(_delete_some, database, dataset, before, after, size))
        if keys:
            count, after = count + len(keys), keys[-1]
        if len(keys) < size:
            break
        size = pruning.paced(size, clock.monotonic() - began)
    if count:
        log.info("%s: deleted %s; it was not executed for too long.", _name(dataset), number_of(count, "record"))
    return count


def _delete_some(
    database: Database, dataset: Dataset, before: datetime, after: str, most: int, connection: Connection
) -> list[str]:
    """Delete up to `most` records after a key; none when the sync is, or was meanwhile, executed."""
    if not _is_unused(connection, dataset, before):
        return []
    of = _raw.c
    query = select(of.external_id, of.deleted_at).where(of.dataset_id == dataset.id, of.external_id > after)
    rows = connection.execute(query.order_by(of.external_id).limit(most)).all()
    keys = [row.external_id for row in rows]
    if keys:
        deleted = (of.dataset_id == dataset.id, of.external_id > after, of.external_id <= keys[-1])
        connection.execute(delete(_raw).where(*deleted))
        tables.forget_dataset(connection, database, dataset, KeyRange(after, keys[-1]))
        datasets.shrunk(connection, dataset.id, by=sum(row.deleted_at is None for row in rows))
    if len(keys) < most:
        tables.forget_dataset(connection, database, dataset)
        datasets.empty(connection, dataset.id)
        connection.execute(update(schema.schedules).where(*_of(dataset)).values(checkpoint=None))
    return keys


def _is_unused(connection: Connection, dataset: Dataset, before: datetime) -> bool:
    """Whether nothing has changed since `before`; no worker can claim the sync until the transaction ends."""
    current = datasets.read_or_none(connection, dataset.id)
    if current is None or current.last_modified_at is None or current.last_modified_at >= before:
        return False
    rows = connection.execute(
        select(_schedules.worker_id, _schedules.created_at, _schedules.last_started_at, _schedules.last_ended_at)
        .where(*_of(dataset))
        .with_for_update()
    ).all()
    times = [time for row in rows for time in row[1:] if time is not None]
    return all(row.worker_id is None for row in rows) and all(time < before for time in times)


def _of(dataset: Dataset) -> list[Any]:
    return [
        _schedules.sync_id == dataset.sync_id,
        _schedules.connection_id == dataset.connection_id,
        _schedules.variant == dataset.variant,
    ]


def _name(dataset: Dataset) -> str:
    parts = (dataset.integration, dataset.model, dataset.connection_id, dataset.variant)
    return "/".join(parts)
