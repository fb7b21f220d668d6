"""Integrations: the APIs that config files declare, and those that syncs and connections name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from ..config import Integration as Declaration
from ..http import public_url
from . import schema
from .database import Database

_table = schema.integrations
_NAMES = ("display_name", "provider", "base_url")


@dataclass(frozen=True)
class Integration:
    """An API, known since a file declared it, or since the first sync or connection that named it."""

    name: str
    created_at: datetime
    updated_at: datetime
    display_name: str | None = None
    provider: str | None = None
    base_url: str | None = None
    """Without secrets; None where no file declares it."""


def declare(db: Database, declared: Iterable[Declaration]) -> None:
    """Store integrations as files declare them; unchanged ones are not written.

    An integration that no file declares any more keeps its names while syncs and connections name it.
    """
    values = {
        declaration.name: {
            "display_name": declaration.display_name,
            "provider": declaration.provider,
            "base_url": None if declaration.base_url is None else public_url(declaration.base_url),
        }
        for declaration in declared
    }
    query = sa.select(_table).where(_table.c.integration.in_(values))
    with db.ask() as connection:
        stored = {row.integration: {name: row._mapping[name] for name in _NAMES} for row in connection.execute(query)}
    changed = {name: fields for name, fields in values.items() if stored.get(name) != fields}
    if changed:
        db.transact(lambda connection: _write(connection, db, changed))


def _write(connection: Connection, db: Database, changed: dict[str, dict[str, Any]]) -> None:
    """Update the rows of these integrations, and insert the missing ones; several processes may do so at once."""
    now = db.now(connection)
    names = ", ".join(("integration", *_NAMES, "created_at", "updated_at"))
    replaced = ", ".join(f"{name} = excluded.{name}" for name in (*_NAMES, "updated_at"))
    upsert = sa.text(
        f"INSERT INTO _nango_integrations ({names}) VALUES (:integration, :display_name, :provider, :base_url, :now, "
        f":now) ON CONFLICT (integration) DO UPDATE SET {replaced}"
    ).bindparams(sa.bindparam("now", type_=_table.c.created_at.type))
    connection.execute(upsert, [{"integration": name, **fields, "now": now} for name, fields in changed.items()])


def list_integrations(db: Database, name: str | None = None) -> list[Integration]:
    """All integrations in the order of their names, or only the one with this name."""
    named = [
        sa.select(table.c.integration, table.c.created_at, table.c.updated_at)
        for table in (schema.syncs, schema.connections, _table)
    ]
    of = sa.union_all(*named).subquery().c
    times = (
        sa.select(of.integration, sa.func.min(of.created_at).label("first"), sa.func.max(of.updated_at).label("last"))
        .where(sa.true() if name is None else of.integration == name)
        .group_by(of.integration)
        .subquery()
    )
    declared = [_table.c[column] for column in _NAMES]
    joined = times.outerjoin(_table, _table.c.integration == times.c.integration)
    query = sa.select(times.c.integration, times.c.first, times.c.last, *declared).select_from(joined)
    with db.connect() as connection:
        return [Integration(*row) for row in connection.execute(query.order_by(times.c.integration))]
