"""Delete schedules and datasets of syncs with all that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sqlalchemy as sa
from sqlalchemy import Connection

from . import datasets, queue, schema, tables
from .database import Database
from .target import Target

_schedules = schema.schedules.c


def erase(
    connection: Connection,
    db: Database,
    sync_ids: Iterable[int],
    scheduled: sa.ColumnElement[bool],
    is_deleted: Callable[[datasets.Dataset], bool],
) -> int:
    """Delete schedules and datasets of syncs with their jobs, records and rows; return the number of schedules.

    `scheduled` selects the schedules, `is_deleted` the datasets.
    """
    ids = sorted(sync_ids)
    query = sa.select(_schedules.id, _schedules.sync_id, _schedules.connection_id, _schedules.variant)
    rows = connection.execute(query.where(_schedules.sync_id.in_(ids), scheduled)).all()
    stored = [dataset for id in ids for dataset in datasets.of_sync(connection, id) if is_deleted(dataset)]
    targets = {Target.of(row) for row in [*rows, *stored]}
    with queue.deleting(connection, db, targets):
        for target in targets:
            connection.execute(sa.delete(schema.jobs).where(target.condition(schema.jobs.c)))
        for dataset in stored:
            tables.forget_dataset(connection, db, dataset)
            for table in schema.OF_DATASET:
                connection.execute(sa.delete(table).where(table.c.dataset_id == dataset.id))
            connection.execute(sa.delete(schema.datasets).where(schema.datasets.c.id == dataset.id))
        connection.execute(sa.delete(schema.schedules).where(_schedules.id.in_([row.id for row in rows])))
    return len(rows)
