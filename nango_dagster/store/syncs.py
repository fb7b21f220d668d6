"""The stored syncs: a permanent id, the config, and its origin (a file, HTTP, or an asset)."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..config import Sync, from_document
from ..errors import ConfigError, Refused
from ..http import public_config, public_url
from ..partition_keys import BASE
from . import datasets, ownership, queue, scheduling, schema, sealing, tables
from .database import Database
from .sync_row import Origin, SyncRow
from .target import Target

log = logging.getLogger(__name__)

_table = schema.syncs
_of = schema.syncs.c
_schedules = schema.schedules


# --- from files -----------------------------------------------------------------------------------------------------


def register(
    db: Database,
    syncs: Iterable[Sync],
    origin: Origin = "file",
    *,
    on_refused: Callable[[str], object] | None = None,
) -> dict[str, SyncRow]:
    """Store the configs of this project's syncs and return their rows by name; unchanged ones are not written.

    A sync is known by its integration and name, or by the name it had before (`renamed_from`). One that is not
    partitioned gets its schedule. Several processes may do this at once. (Of two integrations' syncs of one name,
    both are stored and the last is returned.)

    A sync of another project with another config is left alone; the others are stored. `on_refused` is called with the
    sentence about it; without it, Refused is raised.
    """
    configs = list(syncs)
    rows, refusals = db.transact(lambda connection: _register(connection, db, configs, origin))
    if refusals and on_refused is None:
        raise Refused(" ".join(refusals))
    for refusal in refusals:
        assert on_refused is not None
        on_refused(refusal)
    return {row.name: row for row in rows}


def _register(
    connection: Connection, db: Database, syncs: Sequence[Sync], origin: Origin
) -> tuple[list[SyncRow], list[str]]:
    lock(connection, db)
    known = {(row.integration, row.name): row for row in connection.execute(sa.select(_table))}
    configured = {(sync.integration_key, sync.name) for sync in syncs}
    rows, changed, refusals = [], [], []
    for sync in syncs:
        row = known.get((sync.integration_key, sync.name))
        former = (sync.integration_key, sync.renamed_from)
        if row is None and former not in configured:
            row = known.get(former)
        if row is not None and ownership.is_foreign(db, row):
            if _changes(db, row, _values(db, sync, origin, None)):
                refusals.append(ownership.refusal(db, row))
            else:  # the same config: it does not matter which project runs it
                rows.append(SyncRow.of(row, sync))
            continue
        rows.append(_write(connection, db, sync, origin, row))
        if row is None or rows[-1].updated_at != row.updated_at:
            changed.append(rows[-1])
    scheduling.schedule_syncs(connection, db, rows)
    scheduling.schedule_partitioned(connection, db, changed)
    return rows, refusals


# --- assets of users ---------------------------------------------------------------------------------------


def register_asset(db: Database, sync: Sync, connection_id: str) -> SyncRow:
    """Store an asset that writes through the IO manager, with the schedule of one of its partitions.

    The schedule is paused: only Dagster executes it.
    """
    return db.transact(lambda connection: _register_asset(connection, db, sync, connection_id))


def _register_asset(connection: Connection, db: Database, sync: Sync, connection_id: str) -> SyncRow:
    lock(connection, db)
    row = _write(connection, db, sync, "asset", _find(connection, sync.integration_key, sync.name))
    key = {"sync_id": row.id, "connection_id": connection_id, "variant": BASE}
    conditions = [_schedules.c[column] == value for column, value in key.items()]
    if connection.execute(sa.select(_schedules.c.id).where(*conditions)).first() is None:
        connection.execute(sa.insert(_schedules).values(**key, state="PAUSED", created_at=db.now(connection)))
    return row


# --- over HTTP ------------------------------------------------------------------------------------------------------


def post(db: Database, sync: Sync, *, named: bool) -> SyncRow:
    """Store a sync that arrived over HTTP.

    With a `name` in the body (`named`), a later body with this name changes the sync. Without, an equal body is the
    same sync, and any other body is a new one.

    Raises Refused when the name is a config file's, or the model another sync's.
    """
    return db.transact(lambda connection: _post(connection, db, sync, named))


def _post(connection: Connection, db: Database, sync: Sync, named: bool) -> SyncRow:
    lock(connection, db)
    body_hash = None if named else sync.fingerprint()
    if body_hash is None:
        row = _find(connection, sync.integration_key, sync.name)
        _refuse_file(row)
    else:
        same = _of.origin == "http", _of.body_hash == body_hash
        if row := connection.execute(sa.select(_table).where(*same).limit(1)).one_or_none():
            return _row(db, row)
        if sync.unnamed:
            row = _insert(connection, db, sync.with_name(f"unnamed-{uuid.uuid4().hex}"), "http", body_hash)
        sync = _with_free_name(connection, sync, f"sync-{row.id}" if row else sync.name)
    _refuse_taken_model(connection, sync, row)
    written = _write(connection, db, sync, "http", row, body_hash)
    scheduling.schedule_syncs(connection, db, [written])
    scheduling.schedule_partitioned(connection, db, [written])
    return written


def replace(db: Database, id: int, sync: Sync) -> SyncRow | None:
    """Replace the config of a posted sync; its id and name stay. None when there is no such sync.

    Raises Refused when it is a config file's, or the integration has another sync of its name or model.
    """
    return db.transact(lambda connection: _replace(connection, db, id, sync))


def _replace(connection: Connection, db: Database, id: int, sync: Sync) -> SyncRow | None:
    lock(connection, db)
    row = connection.execute(sa.select(_table).where(_of.id == id)).one_or_none()
    if row is None:
        return None
    _refuse_file(row)
    sync = sync.with_name(row.name)
    other = _find(connection, sync.integration_key, sync.name)
    if other is not None and other.id != id:
        raise Refused(f"integration {other.integration} has a sync {other.name} already, with id {other.id}.")
    _refuse_taken_model(connection, sync, row)
    written = _write(connection, db, sync, "http", row)
    scheduling.schedule_syncs(connection, db, [written])
    scheduling.schedule_partitioned(connection, db, [written])
    return written


def _with_free_name(connection: Connection, sync: Sync, base: str) -> Sync:
    """The sync under the first of `base`, `base-2`, `base-3`... that clashes with no name and no model."""
    others = connection.execute(sa.select(_of.name, _of.model).where(_of.integration == sync.integration_key)).all()
    names, models = {other.name for other in others}, {other.model for other in others}
    if sync.models or "model" in sync.document():
        models.clear()  # a model of the config does not depend on the name
    return next(
        candidate
        for name in _numbered(base)
        if name not in names and (candidate := sync.with_name(name)).model not in models
    )


def _numbered(base: str) -> Iterator[str]:
    return chain([base], (f"{base[:240]}-{number}" for number in count(2)))


def _refuse_file(row: Any) -> None:
    if row is not None and row.origin == "file":
        raise Refused(f"{row.name} is a sync of a config file; change it there, or post it under another name.")


def _refuse_taken_model(connection: Connection, sync: Sync, row: Any) -> None:
    """Raise Refused where another sync has the model: both would write the same records."""
    same = _of.integration == sync.integration_key, _of.model == sync.model
    query = sa.select(_of.name).where(*same, _of.id != (row.id if row else 0))
    if taken := connection.execute(query.limit(1)).scalar():
        raise Refused(
            f"model {sync.model} of integration {sync.integration_key} belongs to sync {taken}; "
            "choose another model or change that sync."
        )


def set_stopped(db: Database, is_stopped: Mapping[int, bool]) -> None:
    """Record whether the schedules of these syncs, by id, are stopped in Dagster; only changes are written."""
    with db.ask() as connection:
        stored = connection.execute(sa.select(_of.id, _of.is_stopped)).all()
    changes = [
        {"sync_id": row.id, "stopped": is_stopped[row.id]}
        for row in stored
        if is_stopped.get(row.id, row.is_stopped) != row.is_stopped
    ]
    if changes:
        change = sa.update(_table).where(_of.id == sa.bindparam("sync_id")).values(is_stopped=sa.bindparam("stopped"))
        db.transact(lambda connection: connection.execute(change, changes))


# --- reading --------------------------------------------------------------------------------------------------------


def get(db: Database, id: int) -> SyncRow | None:
    """The sync of this id."""
    rows = _read(db, _of.id == id)
    return rows[0] if rows else None


def by_name(db: Database, name: str, integration: str | None = None) -> SyncRow | None:
    """The sync of this name.

    Raises Refused when several integrations have one and none of them is named.
    """
    rows = _read(db, _of.name == name, *([] if integration is None else [_of.integration == integration]))
    if len(rows) > 1:
        integrations = ", ".join(row.integration for row in rows)
        raise Refused(f"several integrations have a sync {name}: {integrations}; say which one is meant.")
    return rows[0] if rows else None


def all(db: Database) -> list[SyncRow]:
    """Every sync, in the order of their ids."""
    return _read(db)


def of_integration(db: Database, integration: str) -> list[SyncRow]:
    """The syncs of an integration."""
    return _read(db, _of.integration == integration)


def posted(db: Database) -> list[SyncRow]:
    """The syncs that arrived over HTTP."""
    return _read(db, _of.origin == "http")


def _read(db: Database, *conditions: sa.ColumnElement[bool]) -> list[SyncRow]:
    with db.connect() as connection:
        rows = connection.execute(sa.select(_table).where(*conditions).order_by(_of.id)).all()
    syncs = []
    for row in rows:
        try:
            syncs.append(_row(db, row))
        except ConfigError as error:
            # Written by another release; it must not hide the others.
            log.warning("sync %s (id %s) is left out, its stored config cannot be read: %s", row.name, row.id, error)
    return syncs


def _row(db: Database, row: Any) -> SyncRow:
    document = sealing.unseal(json.loads(row.config), db.vault)
    sync = Sync.model_validate(document) if row.origin == "asset" else from_document(document)
    return SyncRow.of(row, sync)


# --- deleting -------------------------------------------------------------------------------------------------------


def delete(db: Database, id: int) -> bool:
    """Delete a sync with its records, mapped rows, own table and jobs. False when there is none.

    A run that is executing it loses its lease and writes nothing more. Raises StoreUnavailable when it holds the lock
    of a dataset for too long.
    """
    return db.transact(lambda connection: _delete(connection, db, id))


def _delete(connection: Connection, db: Database, id: int) -> bool:
    lock(connection, db)
    with queue.deleting(connection, db, _written_for(connection, id)):
        tables.forget(connection, db, id)
        own = schema.datasets.c.sync_id == id
        for table in schema.OF_DATASET:
            ids = sa.select(schema.datasets.c.id).where(own)
            connection.execute(sa.delete(table).where(table.c.dataset_id.in_(ids)))
        connection.execute(sa.delete(schema.datasets).where(own))
        connection.execute(sa.delete(schema.jobs).where(schema.jobs.c.sync_id == id))
        connection.execute(sa.delete(_schedules).where(_schedules.c.sync_id == id))
        forget_notifications(connection, id)
        return connection.execute(sa.delete(_table).where(_of.id == id)).rowcount == 1


def forget_notifications(connection: Connection, id: int, *conditions: sa.ColumnElement[bool]) -> None:
    """Delete the waiting notifications of a sync, or those that meet the conditions."""
    webhooks = schema.webhooks.c
    named = sa.select(_of.integration, _of.name).where(_of.id == id)
    of_sync = sa.tuple_(webhooks.integration, webhooks.sync_name).in_(named)
    connection.execute(sa.delete(schema.webhooks).where(of_sync, *conditions))


def _written_for(connection: Connection, id: int) -> set[Target]:
    """The targets of the sync that have a schedule or records."""
    query = sa.select(_schedules.c.connection_id, _schedules.c.variant).where(_schedules.c.sync_id == id)
    scheduled = {Target(id, row.connection_id, row.variant) for row in connection.execute(query)}
    stored = {Target.of(dataset) for dataset in datasets.of_sync(connection, id)}
    return scheduled | stored


# --- writing --------------------------------------------------------------------------------------------------------


def lock(connection: Connection, db: Database) -> None:
    """Lock all syncs: no other transaction adds, changes or deletes one until this one ends."""
    db.lock(connection, "syncs")


def _find(connection: Connection, integration: str, name: str) -> Any:
    query = sa.select(_table).where(_of.integration == integration, _of.name == name)
    return connection.execute(query).one_or_none()


def _write(
    connection: Connection, db: Database, sync: Sync, origin: Origin, row: Any, body_hash: str | None = None
) -> SyncRow:
    """Insert the sync, or update its `row` where that differs."""
    if row is None:
        row = _insert(connection, db, sync, origin, body_hash)
    else:
        values = _values(db, sync, origin, body_hash) | ownership.columns(db, origin, row.owner)
        if _changes(db, row, values):
            connection.execute(sa.update(_table).where(_of.id == row.id).values(**values, updated_at=db.clock()))
            row = connection.execute(sa.select(_table).where(_of.id == row.id)).one()
    return SyncRow.of(row, sync)


def _insert(connection: Connection, db: Database, sync: Sync, origin: Origin, body_hash: str | None) -> Any:
    now = db.now(connection)
    values = _values(db, sync, origin, body_hash) | ownership.columns(db, origin, None)
    result = connection.execute(sa.insert(_table).values(**values, created_at=now, updated_at=now))
    assert result.inserted_primary_key is not None
    return connection.execute(sa.select(_table).where(_of.id == result.inserted_primary_key[0])).one()


def _changes(db: Database, row: Any, values: Mapping[str, Any]) -> bool:
    """Whether the row has other values than these."""
    if any(row._mapping[column] != value for column, value in values.items() if column != "config"):
        return True
    return not sealing.is_same(json.loads(row.config), json.loads(values["config"]), db.vault)


def _values(db: Database, sync: Sync, origin: Origin, body_hash: str | None) -> dict[str, Any]:
    """The values of the columns: the config with its secrets encrypted, and fields of it for people and queries."""
    document = {**sync.document(), "name": sync.name}
    return {
        "integration": sync.integration_key,
        "name": sync.name,
        "friendly_name": sync.friendly_name,
        "model": sync.model,
        "url": public_url(sync.address),
        "method": sync.method,
        "unique_key": sync.key_name,
        "frequency": "when Dagster materializes it" if origin == "asset" else sync.schedule_text,
        "mapped_table": sync.mapped_table,
        "origin": origin,
        "body_hash": body_hash,
        "config": json.dumps(sealing.seal(document, public_config(document), db.vault)),
    }
