"""Which schedules a sync has: one, or where it is partitioned, one for each connection of its integration.

All functions run in a transaction that holds the lock on all syncs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..config import Sync
from ..partition_keys import BASE
from . import schema, sealing
from .database import Database
from .sync_row import SyncRow

_table = schema.syncs
_of = schema.syncs.c
_schedules = schema.schedules


def schedule_syncs(connection: Connection, db: Database, rows: Sequence[SyncRow]) -> None:
    """Give each sync that is not partitioned its one schedule; those of a connection it had before are deleted."""
    single = {row.id: row.sync for row in rows if not row.sync.partitioned}
    stored = connection.execute(sa.select(_schedules).where(_schedules.c.sync_id.in_(single))).all()
    scheduled = {row.sync_id for row in stored if _is_of(row, single[row.sync_id])}
    # A schedule that is being executed is deleted when the sync is next registered.
    obsolete = [row.id for row in stored if not _is_of(row, single[row.sync_id])]
    connection.execute(sa.delete(_schedules).where(_schedules.c.id.in_(obsolete), _schedules.c.worker_id.is_(None)))
    now = db.now(connection)
    missing = [
        {
            "sync_id": id,
            "connection_id": sync.connection_key,
            "variant": BASE,
            "state": initial_state(sync),
            "created_at": now,
        }
        for id, sync in single.items()
        if id not in scheduled
    ]
    if missing:
        connection.execute(sa.insert(_schedules), missing)


def initial_state(sync: Sync) -> str:
    """The state of a new schedule of a sync."""
    return "STARTED" if sync.auto_start else "PAUSED"


def _is_of(row: Any, sync: Sync) -> bool:
    return (row.connection_id, row.variant) == (sync.connection_key, BASE)


def schedule_partitioned(connection: Connection, db: Database, rows: Sequence[SyncRow]) -> None:
    """Give each partitioned sync a schedule for every connection of its integration, and none for others."""
    of = schema.connections.c
    for row in rows:
        if row.sync.partitioned:
            here = sa.select(of.connection_id).where(of.integration == row.integration)
            others = (_schedules.c.sync_id == row.id, _schedules.c.connection_id.not_in(here))
            connection.execute(sa.delete(_schedules).where(*others, _schedules.c.worker_id.is_(None)))
            schedule_connections(connection, db, row)


def schedule_connections(
    connection: Connection,
    db: Database,
    row: SyncRow | None = None,
    *,
    integration: str | None = None,
    connection_id: str | None = None,
) -> None:
    """Schedule a sync for all connections of its integration, or all syncs of an `integration` for one connection.

    Existing schedules stay.
    """
    if row is None:
        stored = connection.execute(sa.select(_table).where(_of.integration == integration, _of.origin != "asset"))
        syncs = [
            (other.id, other.integration, Sync.model_validate(sealing.unseal(json.loads(other.config), db.vault)))
            for other in stored
        ]
    else:
        syncs = [(row.id, row.integration, row.sync)]
    of = schema.connections.c
    for id, of_integration, sync in syncs:
        if not (sync.partitioned and sync.enabled):
            continue
        values = [sa.literal(id), of.connection_id, sa.literal(BASE), sa.literal(initial_state(sync)), db.clock()]
        is_scheduled = sa.exists().where(
            _schedules.c.sync_id == id,
            _schedules.c.connection_id == of.connection_id,
            _schedules.c.variant == BASE,
        )
        missing = sa.select(*values).where(of.integration == of_integration, ~is_scheduled)
        if connection_id is not None:
            missing = missing.where(of.connection_id == connection_id)
        columns = ["sync_id", "connection_id", "variant", "state", "created_at"]
        connection.execute(sa.insert(_schedules).from_select(columns, missing))
