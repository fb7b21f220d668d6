"""Which project a sync belongs to, so that two projects with one database do not overwrite each other's syncs.

The owner of a sync is the project whose config file it has: `NANGO_PROJECT`, or the folder that holds the sync configs.
A posted sync belongs to nobody: everybody who has the API's key may change it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from . import schema
from .database import Database
from .sync_row import Origin, SyncRow

_table = schema.syncs


def is_foreign(db: Database, row: Any) -> bool:
    """Whether a sync belongs to another project than the one that this process works for."""
    return bool(row.owner and db.project and row.owner != db.project)


def refusal(db: Database, row: Any) -> str:
    """Why this project does not change a sync, and what its user can do."""
    return (
        f"sync {row.name} belongs to project {row.owner}; this project, {db.project}, has another config for it. "
        f"Rename the sync here, or use another schema (NANGO_DB_SCHEMA); if both are the same project, set "
        f"NANGO_PROJECT={row.owner}; to take the sync and its rows over: nango-dagster adopt {row.name}"
    )


def columns(db: Database, origin: Origin, owner: str | None) -> dict[str, str | None]:
    """The owner to store with a sync that this project writes; `owner` is the one it had."""
    return {"owner": None if origin == "http" else db.project or owner}


def adopt(db: Database, row: SyncRow) -> None:
    """Let a sync belong to this project from now on."""
    change = sa.update(_table).where(_table.c.id == row.id).values(owner=db.project or None, updated_at=db.clock())
    db.transact(lambda connection: connection.execute(change))
