"""Integrations: the APIs that syncs and connections name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from . import schema
from .database import Database


@dataclass(frozen=True)
class Integration:
    """An API, known since the first sync or connection that named it."""

    name: str
    created_at: datetime
    updated_at: datetime


def list_integrations(db: Database, name: str | None = None) -> list[Integration]:
    """All integrations in the order of their names, or only the one with this name."""
    named = [
        sa.select(table.c.integration, table.c.created_at, table.c.updated_at)
        for table in (schema.syncs, schema.connections)
    ]
    of = sa.union_all(*named).subquery().c
    query = (
        sa.select(of.integration, sa.func.min(of.created_at), sa.func.max(of.updated_at))
        .where(sa.true() if name is None else of.integration == name)
        .group_by(of.integration)
        .order_by(of.integration)
    )
    with db.connect() as connection:
        return [Integration(*row) for row in connection.execute(query)]
