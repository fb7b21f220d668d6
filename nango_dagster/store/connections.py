"""Connections: the customers' accounts that partitioned syncs run for, and the variants of those syncs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..config import Sync
from ..errors import ConfigError, Refused
from ..http import public_json
from ..partition_keys import BASE
from ..vault import Vault
from . import announcing, datasets, jobs, queue, scheduling, schema, sealing, syncs, tables
from .database import Database
from .queue import REAUTHORISE_AFTER
from .target import Target
from .types import UtcTime

MOST_BYTES = 255
"""As long a name may be, so that Dagster takes it as part of a partition's key."""

AT_ONCE = 500
"""Connections in one transaction."""

_table = schema.connections
_of = schema.connections.c
_schedules = schema.schedules.c


@dataclass(frozen=True)
class Secrets:
    """What an execution needs of its connection, in one answer; the credentials are encrypted."""

    credentials: str | None = field(repr=False)
    metadata: dict[str, Any]
    auth_failures: int
    has_webhook_url: bool
    last_success: datetime | None
    """When the last execution that succeeded began, if that was asked for."""


@dataclass(frozen=True)
class ConnectionRow:
    """A connection as anybody may see it: without its credentials."""

    id: int
    integration: str
    connection_id: str
    metadata: dict[str, Any]
    config: dict[str, Any]
    has_credentials: bool
    auth_failures: int
    created_at: datetime
    updated_at: datetime

    @property
    def needs_reauthorisation(self) -> bool:
        """Whether its credentials were refused so often that its syncs wait for others."""
        return self.auth_failures >= REAUTHORISE_AFTER


@dataclass(frozen=True)
class NewConnection:
    """A connection that somebody wants; what is None stays as it is where there is one already."""

    integration: str
    connection_id: str
    credentials: Mapping[str, Any] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    config: Mapping[str, Any] | None = field(default=None, repr=False)


# --- made and changed ---------------------------------------------------------------------------------------------


def add(
    db: Database,
    vault: Vault | None,
    integration: str,
    connection_id: str,
    *,
    credentials: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> ConnectionRow:
    """Make a connection, or give the one that is there what is named here; what is not named stays.

    In the same step it gets a schedule for every partitioned sync of its integration, due at once where the sync
    has `auto_start`. `vault` is needed only with `credentials`.
    """
    one = NewConnection(integration, connection_id, credentials, metadata, config)
    _check_names(one)
    given = [(one, _given(db, vault, one))]

    def work(connection: Connection) -> ConnectionRow:
        _add_some(connection, db, given)
        return _row(db, connection.execute(_read.where(*_named(integration, connection_id))).one())

    return db.transact(work)


def _check_names(one: NewConnection) -> None:
    _check_name("connection", one.connection_id)
    _check_name("integration", one.integration)


def _check_name(what: str, name: str) -> None:
    fits = len(name.encode(errors="replace")) <= MOST_BYTES
    if not name.strip() or not fits or "\x00" in name or any("\ud800" <= char <= "\udfff" for char in name):
        raise Refused(f"{name[:60]!r} is no name of {what}; wanted 1 to {MOST_BYTES} bytes of text that is not blank.")


def add_all(db: Database, vault: Vault | None, wanted: Sequence[NewConnection]) -> int:
    """Make these connections, each as `add` does, in a transaction for some hundreds; how many were not there before.

    No two of them have the same names. `vault` is needed only where one has credentials.
    """
    for one in wanted:
        _check_names(one)
    new = 0
    for start in range(0, len(wanted), AT_ONCE):
        given = [(one, _given(db, vault, one)) for one in wanted[start : start + AT_ONCE]]
        new += db.transact(lambda connection, given=given: _add_some(connection, db, given))  # type: ignore[misc]
    return new


def _add_some(connection: Connection, db: Database, given: Sequence[tuple[NewConnection, dict[str, Any]]]) -> int:
    syncs.lock(connection, db)
    now = db.now(connection)
    there = _which_are_there(connection, [one for one, _ in given])
    missing = [
        {**_EMPTY, "integration": one.integration, "connection_id": one.connection_id, **values}
        for one, values in given
        if (one.integration, one.connection_id) not in there
    ]
    if missing:
        connection.execute(sa.insert(_table).values(created_at=now, updated_at=now), missing)
    for one, values in given:
        if values and (one.integration, one.connection_id) in there:
            named = _named(one.integration, one.connection_id)
            connection.execute(sa.update(_table).where(*named).values(**values, updated_at=now))
    only = missing[0]["connection_id"] if len(missing) == 1 else None
    for integration in sorted({one["integration"] for one in missing}):
        scheduling.schedule_connections(connection, db, integration=integration, connection_id=only)
    return len(missing)


_FRESH: dict[str, Any] = {"auth_failures": 0, "refresh_owner": None, "refresh_until": None}
_EMPTY = {**_FRESH, "credentials": None, "metadata": "{}", "config": "{}"}


def _given(db: Database, vault: Vault | None, one: NewConnection) -> dict[str, Any]:
    """The columns that it names."""
    given: dict[str, Any] = {}
    if one.credentials is not None:
        assert vault is not None
        given |= _replaced(vault, one.credentials)
    for name, value in (("metadata", one.metadata), ("config", one.config)):
        if value is not None:
            given[name] = _sealed(db, value)
    return given


def _sealed(db: Database, document: Mapping[str, Any]) -> str:
    """Metadata as it is stored: what looks secret by its name is encrypted."""
    return json.dumps(sealing.seal(document, public_json(document), db.vault))


def _which_are_there(connection: Connection, wanted: Sequence[NewConnection]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for integration in {one.integration for one in wanted}:
        names = [one.connection_id for one in wanted if one.integration == integration]
        query = sa.select(_of.connection_id).where(_of.integration == integration, _of.connection_id.in_(names))
        found |= {(integration, name) for name in connection.execute(query).scalars()}
    return found


def set_credentials(
    db: Database, vault: Vault, integration: str, connection_id: str, credentials: Mapping[str, Any]
) -> bool:
    """Replace the credentials; a connection that needed others works again. False when there is no such connection."""
    return _update(db, integration, connection_id, _replaced(vault, credentials))


def _replaced(vault: Vault, credentials: Mapping[str, Any]) -> dict[str, Any]:
    """Other credentials, which whoever refreshes the old ones right now must not overwrite."""
    return {**_FRESH, "credentials": vault.encrypt(credentials)}


def set_metadata(db: Database, integration: str, connection_id: str, metadata: Mapping[str, Any]) -> bool:
    """Replace the whole metadata. False when there is no such connection."""
    return _update(db, integration, connection_id, {"metadata": _sealed(db, metadata)})


def update_metadata(db: Database, integration: str, connection_id: str, metadata: Mapping[str, Any]) -> bool:
    """Set these keys of the metadata and leave the others. False when there is no such connection."""

    def work(connection: Connection) -> bool:
        query = sa.select(_of.metadata).where(*_named(integration, connection_id)).with_for_update()
        stored = connection.execute(query).scalar()
        if stored is None:
            return False
        merged = _sealed(db, {**sealing.unseal(json.loads(stored), db.vault), **metadata})
        return _change(connection, db, integration, connection_id, {"metadata": merged})

    return db.transact(work)


def _update(db: Database, integration: str, connection_id: str, values: Mapping[str, Any]) -> bool:
    return db.transact(lambda connection: _change(connection, db, integration, connection_id, values))


def _change(
    connection: Connection, db: Database, integration: str, connection_id: str, values: Mapping[str, Any]
) -> bool:
    statement = sa.update(_table).where(*_named(integration, connection_id))
    return connection.execute(statement.values(**values, updated_at=db.clock())).rowcount == 1


# --- read ---------------------------------------------------------------------------------------------------------


_read = sa.select(
    _of.id,
    _of.integration,
    _of.connection_id,
    _of.metadata,
    _of.config,
    _of.credentials.is_not(None).label("has_credentials"),
    _of.auth_failures,
    _of.created_at,
    _of.updated_at,
)


def get(db: Database, integration: str, connection_id: str) -> ConnectionRow | None:
    """The connection of this name."""
    with db.connect() as connection:
        row = connection.execute(_read.where(*_named(integration, connection_id))).one_or_none()
    return _row(db, row) if row else None


def list_connections(db: Database, integration: str | None = None) -> list[ConnectionRow]:
    """The connections of an integration, or all, in the order they were made."""
    query = _read if integration is None else _read.where(_of.integration == integration)
    with db.connect() as connection:
        return [_row(db, row) for row in connection.execute(query.order_by(_of.id))]


def credentials(db: Database, vault: Vault, integration: str, connection_id: str) -> dict[str, Any] | None:
    """The credentials, decrypted; None where there are none.

    Raises ConfigError when they were encrypted with a key that is not there.
    """
    with db.connect() as connection:
        stored = connection.execute(sa.select(_of.credentials).where(*_named(integration, connection_id))).scalar()
    return None if stored is None else vault.decrypt(stored)


def secrets(
    db: Database, integration: str, connection_id: str, job_of: tuple[int, str] | None = None
) -> Secrets | None:
    """What an execution needs, and with `job_of`, a sync's id and a variant, when it last succeeded."""
    last = sa.null()
    if job_of is not None:
        last = jobs.last_success_query(Target(job_of[0], connection_id, job_of[1]))
    overridden = _of.config.contains(announcing.OVERRIDE, autoescape=True).label("overridden")
    last_at = sa.type_coerce(last, UtcTime).label("last")
    query = sa.select(_of.credentials, _of.metadata, _of.auth_failures, overridden, last_at)
    with db.ask() as connection:
        row = connection.execute(query.where(*_named(integration, connection_id))).one_or_none()
    if row is None:
        return None
    metadata = sealing.unseal(json.loads(row.metadata), db.vault)
    return Secrets(row.credentials, metadata, row.auth_failures, bool(row.overridden), row.last)


def _named(integration: str, connection_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _of.integration == integration, _of.connection_id == connection_id


def _readable(db: Database, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata, or where its key is lost, what may be read of it."""
    try:
        return sealing.unseal(kept, db.vault)
    except ConfigError:
        return sealing.with_stars(kept)


def _row(db: Database, row: Any) -> ConnectionRow:
    named = dict(row._mapping)
    named |= {name: _readable(db, json.loads(named[name])) for name in ("metadata", "config")}
    return ConnectionRow(**named | {"has_credentials": bool(named["has_credentials"])})


# --- removed ------------------------------------------------------------------------------------------------------


def remove(db: Database, integration: str, connection_id: str) -> bool:
    """Delete a connection with all that was stored for it: records, mapped rows, jobs. False when there is none.

    A run that is executing one of its syncs finds its lease lost and writes nothing more.
    Raises StoreUnavailable when an execution keeps what is stored locked.
    """

    def work(connection: Connection) -> bool:
        syncs.lock(connection, db)
        ids = connection.execute(sa.select(schema.syncs.c.id).where(schema.syncs.c.integration == integration))
        scheduled = _schedules.connection_id == connection_id
        _forget(connection, db, ids.scalars().all(), scheduled, lambda one: one.connection_id == connection_id)
        told = schema.webhooks.c
        waiting = (told.integration == integration, told.connection_id == connection_id)
        connection.execute(sa.delete(schema.webhooks).where(*waiting))
        return connection.execute(sa.delete(_table).where(*_named(integration, connection_id))).rowcount == 1

    return db.transact(work)


def _forget(
    connection: Connection, db: Database, sync_ids: Iterable[int], scheduled: sa.ColumnElement[bool], is_one: Any
) -> int:
    """Delete those schedules of the syncs, and what was stored and noted for them; how many schedules there were."""
    ids = sorted(sync_ids)
    query = sa.select(_schedules.id, _schedules.sync_id, _schedules.connection_id, _schedules.variant)
    rows = connection.execute(query.where(_schedules.sync_id.in_(ids), scheduled)).all()
    stored = [dataset for id in ids for dataset in datasets.of_sync(connection, id) if is_one(dataset)]
    targets = {Target.of(row) for row in [*rows, *stored]}
    with queue.deleting(connection, db, targets):
        for target in targets:
            connection.execute(sa.delete(schema.jobs).where(target.condition(schema.jobs.c)))
        for dataset in stored:
            tables.forget_dataset(connection, db, dataset)
            for table in schema.OF_DATASET:
                connection.execute(sa.delete(table).where(table.c.dataset_id == dataset.id))
            connection.execute(sa.delete(schema.datasets).where(schema.datasets.c.id == dataset.id))
        _delete_schedules(connection, [row.id for row in rows])
    return len(rows)


def _delete_schedules(connection: Connection, ids: Collection[int]) -> None:
    connection.execute(sa.delete(schema.schedules).where(_schedules.id.in_(ids)))


# --- variants -----------------------------------------------------------------------------------------------------


def add_variant(db: Database, sync_id: int, connection_id: str, variant: str) -> bool:
    """Add a variant of a sync to a connection; False when the connection has it already.

    The variant has a schedule of its own: it starts at once if the sync has `auto_start`, whether or not the base is
    paused. Raises Refused when the sync does not run for that connection.
    """
    _check_name("variant", variant)

    def work(connection: Connection) -> bool:
        syncs.lock(connection, db)
        of_it = (_schedules.sync_id == sync_id, _schedules.connection_id == connection_id)
        variants = connection.execute(sa.select(_schedules.variant).where(*of_it)).scalars().all()
        if BASE not in variants:
            raise Refused(f"this sync does not run for a connection {connection_id!r}; add the connection first.")
        if variant in variants:
            return False
        config = connection.execute(sa.select(schema.syncs.c.config).where(schema.syncs.c.id == sync_id)).scalar_one()
        sync = Sync.model_validate(sealing.unseal(json.loads(config), db.vault))
        target = {"sync_id": sync_id, "connection_id": connection_id, "variant": variant}
        state = scheduling.initial_state(sync)
        connection.execute(sa.insert(schema.schedules).values(**target, state=state, created_at=db.now(connection)))
        return True

    return db.transact(work)


def remove_variant(db: Database, sync_id: int, connection_id: str, variant: str) -> bool:
    """Delete a variant with all that was stored for it; False when there is none.

    Raises Refused for the base, which is as old as the connection, and StoreUnavailable when an execution keeps what
    is stored locked.
    """
    if variant == BASE:
        raise Refused("the variant base belongs to the connection and goes with it: connections remove.")

    def work(connection: Connection) -> bool:
        syncs.lock(connection, db)
        scheduled = sa.and_(_schedules.connection_id == connection_id, _schedules.variant == variant)

        def is_one(dataset: datasets.Dataset) -> bool:
            return (dataset.connection_id, dataset.variant) == (connection_id, variant)

        count = _forget(connection, db, [sync_id], scheduled, is_one)
        told = schema.webhooks.c
        syncs.forget_notifications(connection, sync_id, told.connection_id == connection_id, told.variant == variant)
        return count > 0

    return db.transact(work)
