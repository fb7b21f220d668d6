"""The state of a connection's credentials: failures in a row, and the right to refresh its token."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..vault import Vault
from . import announcing, schema
from .database import Database
from .queue import REAUTHORISE_AFTER

_table = schema.connections
_of = schema.connections.c


def note_auth_failure(db: Database, integration: str, connection_id: str) -> int:
    """Count an authentication failure; returns the number of failures in a row."""

    def work(connection: Connection) -> int:
        named = _named(integration, connection_id)
        connection.execute(sa.update(_table).where(*named).values(auth_failures=_of.auth_failures + 1))
        failures: int = connection.execute(sa.select(_of.auth_failures).where(*named)).scalar() or 0
        if failures == REAUTHORISE_AFTER:
            announcing.announce_reauthorisation(connection, db, integration, connection_id)
        return failures

    return db.transact(work)


def clear_auth_failures(db: Database, integration: str, connection_id: str) -> None:
    """Record that the credentials work: the next failure is the first again."""
    named = (*_named(integration, connection_id), _of.auth_failures > 0)
    db.transact(lambda connection: connection.execute(sa.update(_table).where(*named).values(auth_failures=0)))


def begin_refresh(db: Database, integration: str, connection_id: str, owner: str, seconds: float) -> bool:
    """Take the right to refresh the connection's token for so many seconds; False while another owner has it."""

    def work(connection: Connection) -> bool:
        # The clock after the wait for SQLite's lock: otherwise the right could end before it is used.
        free = sa.or_(_of.refresh_until.is_(None), _of.refresh_until < db.clock())
        take = sa.update(_table).where(*_named(integration, connection_id), free)
        until = db.clock(-timedelta(seconds=seconds))
        return connection.execute(take.values(refresh_owner=owner, refresh_until=until)).rowcount == 1

    return db.transact(work)


def end_refresh(
    db: Database, vault: Vault, integration: str, connection_id: str, owner: str, new: Mapping[str, Any] | None
) -> bool:
    """Give the right back and store the `new` credentials; False, with nothing stored, when the right was lost."""
    values: dict[str, Any] = {"refresh_owner": None, "refresh_until": None}
    if new is not None:
        values["credentials"] = vault.encrypt(new)
    statement = sa.update(_table).where(*_named(integration, connection_id), _of.refresh_owner == owner)
    return db.transact(lambda connection: connection.execute(statement.values(**values)).rowcount == 1)


def _named(integration: str, connection_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return _of.integration == integration, _of.connection_id == connection_id
