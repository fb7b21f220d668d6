"""Connections: the customers' accounts that partitioned syncs run for, and the variants of those syncs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from . import datasets, scheduling, schema, sealing, syncs
from .announcing import OVERRIDE, WebhookUrlSource
from .database import Database
from .erasure import erase
from .queue import REAUTHORISE_AFTER

MOST_BYTES = 255
"""The longest name in bytes, so that Dagster accepts it as part of a partition's key."""

AT_ONCE = 500
"""Connections in one transaction."""

_table = schema.connections
_of = schema.connections.c
_schedules = schema.schedules.c


@dataclass(frozen=True)
class Secrets:
    """The fields of a connection that an execution needs; the credentials are encrypted."""

    credentials: str | None = field(repr=False)
    metadata: dict[str, Any]
    config: dict[str, Any]
    auth_failures: int
    has_webhook_url: bool


@dataclass(frozen=True)
class ConnectionRow:
    """A stored connection without its credentials."""

    id: int
    integration: str
    connection_id: str
    metadata: dict[str, Any]
    config: dict[str, Any]
    webhook_url_source: WebhookUrlSource | None
    """The source of the `webhook_url_override` of its config; None if it has none."""
    has_credentials: bool
    auth_failures: int
    created_at: datetime
    updated_at: datetime

    @property
    def needs_reauthorisation(self) -> bool:
        """Whether its credentials were refused so often that its syncs wait for new ones."""
        return self.auth_failures >= REAUTHORISE_AFTER


@dataclass(frozen=True)
class NewConnection:
    """A connection to create, or the fields to change of an existing one; a field that is None stays as it is."""

    integration: str
    connection_id: str
    credentials: Mapping[str, Any] | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    config: Mapping[str, Any] | None = field(default=None, repr=False)
    webhook_url_source: WebhookUrlSource = "operator"
    """The source of the `webhook_url_override` in `config`."""

    @property
    def name(self) -> tuple[str, str]:
        """The integration and the connection's id."""
        return self.integration, self.connection_id


# --- create and change ---------------------------------------------------------------------------------------------


def add(db: Database, vault: Vault | None, new: NewConnection) -> ConnectionRow:
    """Create a connection, or change the fields of the existing one that `new` has.

    The same transaction gives it a schedule for every partitioned sync of its integration, due at once where the sync
    has `auto_start`. `vault` is needed only with credentials. Raises Refused for a name that cannot be stored.
    """
    _check_names(new)
    values = _values(db, vault, new)

    def work(connection: Connection) -> ConnectionRow:
        _write(connection, db, [(new, values)])
        return _row(db, connection.execute(_read.where(*_named(*new.name))).one())

    return db.transact(work)


def add_all(db: Database, vault: Vault | None, several: Sequence[NewConnection]) -> int:
    """Create or change connections as `add` does, in transactions of `AT_ONCE`; return how many are new.

    Each name occurs once. `vault` is needed only where one has credentials. Raises Refused for a name that cannot be
    stored.
    """
    for new in several:
        _check_names(new)
    count = 0
    for start in range(0, len(several), AT_ONCE):
        batch = [(new, _values(db, vault, new)) for new in several[start : start + AT_ONCE]]
        count += db.transact(lambda connection, batch=batch: _write(connection, db, batch))  # type: ignore[misc]
    return count


def _check_names(new: NewConnection) -> None:
    _check_name("connection", new.connection_id)
    _check_name("integration", new.integration)


def _check_name(kind: str, name: str) -> None:
    fits = len(name.encode(errors="replace")) <= MOST_BYTES
    if not name.strip() or not fits or "\x00" in name or any("\ud800" <= char <= "\udfff" for char in name):
        raise Refused(f"{name[:60]!r} is no name of {kind}; wanted 1 to {MOST_BYTES} bytes of text that is not blank.")


def _write(connection: Connection, db: Database, batch: Sequence[tuple[NewConnection, dict[str, Any]]]) -> int:
    """Insert or update connections with their column values, and schedule the new ones; return how many are new."""
    syncs.lock(connection, db)
    now = db.now(connection)
    existing = _existing_names(connection, [new for new, _ in batch])
    inserted = [
        {**_EMPTY, "integration": new.integration, "connection_id": new.connection_id, **values}
        for new, values in batch
        if new.name not in existing
    ]
    if inserted:
        connection.execute(sa.insert(_table).values(created_at=now, updated_at=now), inserted)
    for new, values in batch:
        if values and new.name in existing:
            connection.execute(sa.update(_table).where(*_named(*new.name)).values(**values, updated_at=now))
    connection_id = inserted[0]["connection_id"] if len(inserted) == 1 else None
    for integration in sorted({row["integration"] for row in inserted}):
        scheduling.schedule_connections(connection, db, integration=integration, connection_id=connection_id)
    return len(inserted)


_FRESH: dict[str, Any] = {"auth_failures": 0, "refresh_owner": None, "refresh_until": None}
_EMPTY = {**_FRESH, "credentials": None, "metadata": "{}", "config": "{}", "webhook_url_source": None}


def _values(db: Database, vault: Vault | None, new: NewConnection) -> dict[str, Any]:
    """The values of the columns that `new` sets."""
    values: dict[str, Any] = {}
    if new.credentials is not None:
        assert vault is not None
        values |= _replaced(vault, new.credentials)
    if new.metadata is not None:
        values["metadata"] = _sealed(db, new.metadata)
    if new.config is not None:
        values["config"] = _sealed(db, new.config)
        values["webhook_url_source"] = new.webhook_url_source if new.config.get(OVERRIDE) else None
    return values


def _sealed(db: Database, document: Mapping[str, Any]) -> str:
    """The stored form of metadata or config: values with the name of a secret are encrypted."""
    return json.dumps(sealing.seal(document, public_json(document), db.vault))


def _existing_names(connection: Connection, several: Sequence[NewConnection]) -> set[tuple[str, str]]:
    existing: set[tuple[str, str]] = set()
    for integration in {new.integration for new in several}:
        names = [new.connection_id for new in several if new.integration == integration]
        query = sa.select(_of.connection_id).where(_of.integration == integration, _of.connection_id.in_(names))
        existing |= {(integration, name) for name in connection.execute(query).scalars()}
    return existing


def set_credentials(
    db: Database, vault: Vault, integration: str, connection_id: str, credentials: Mapping[str, Any]
) -> bool:
    """Replace the credentials and forget refusals of the old ones. False when there is no such connection."""
    return _update(db, integration, connection_id, _replaced(vault, credentials))


def _replaced(vault: Vault, credentials: Mapping[str, Any]) -> dict[str, Any]:
    """The values of new credentials; a refresh of the old ones that is under way must not overwrite them."""
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
    _of.webhook_url_source,
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


_SECRETS = sa.select(
    *(_of.credentials, _of.metadata, _of.config, _of.auth_failures),
    _of.webhook_url_source.is_not(None).label("has_webhook_url"),
).where(_of.integration == sa.bindparam("integration"), _of.connection_id == sa.bindparam("connection_id"))


def secrets(db: Database, integration: str, connection_id: str) -> Secrets | None:
    """The secrets of a connection; None where it does not exist."""
    with db.ask() as connection:
        row = connection.execute(_SECRETS, {"integration": integration, "connection_id": connection_id}).one_or_none()
    if row is None:
        return None
    metadata, config = (sealing.unseal(json.loads(text), db.vault) for text in (row.metadata, row.config))
    return Secrets(row.credentials, metadata, config, row.auth_failures, bool(row.has_webhook_url))


def _named(integration: str, connection_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _of.integration == integration, _of.connection_id == connection_id


def _readable(db: Database, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata or config; where its key is missing, with stars in place of secrets."""
    try:
        return sealing.unseal(stored, db.vault)
    except ConfigError:
        return sealing.with_stars(stored)


def _row(db: Database, row: Any) -> ConnectionRow:
    values = dict(row._mapping)
    values |= {name: _readable(db, json.loads(values[name])) for name in ("metadata", "config")}
    return ConnectionRow(**values | {"has_credentials": bool(values["has_credentials"])})


# --- delete ------------------------------------------------------------------------------------------------------


def remove(db: Database, integration: str, connection_id: str) -> bool:
    """Delete a connection with its records, mapped rows and jobs. False when there is none.

    A run that is executing one of its syncs loses its lease and writes nothing more.
    Raises StoreUnavailable when an execution holds the lock of a dataset for too long.
    """

    def work(connection: Connection) -> bool:
        syncs.lock(connection, db)
        ids = connection.execute(sa.select(schema.syncs.c.id).where(schema.syncs.c.integration == integration))
        scheduled = _schedules.connection_id == connection_id
        erase(connection, db, ids.scalars().all(), scheduled, lambda dataset: dataset.connection_id == connection_id)
        webhooks = schema.webhooks.c
        of_it = (webhooks.integration == integration, webhooks.connection_id == connection_id)
        connection.execute(sa.delete(schema.webhooks).where(*of_it))
        return connection.execute(sa.delete(_table).where(*_named(integration, connection_id))).rowcount == 1

    return db.transact(work)


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
    """Delete a variant with its records, mapped rows and jobs; False when there is none.

    Raises Refused for the base, which belongs to the connection, and StoreUnavailable when an execution holds the lock
    of its dataset for too long.
    """
    if variant == BASE:
        raise Refused("the variant base belongs to the connection and goes with it: connections remove.")

    def work(connection: Connection) -> bool:
        syncs.lock(connection, db)
        scheduled = sa.and_(_schedules.connection_id == connection_id, _schedules.variant == variant)

        def is_deleted(dataset: datasets.Dataset) -> bool:
            return (dataset.connection_id, dataset.variant) == (connection_id, variant)

        count = erase(connection, db, [sync_id], scheduled, is_deleted)
        webhooks = schema.webhooks.c
        of_it = (webhooks.connection_id == connection_id, webhooks.variant == variant)
        syncs.forget_notifications(connection, sync_id, *of_it)
        return count > 0

    return db.transact(work)
