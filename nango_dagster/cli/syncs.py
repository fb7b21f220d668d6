"""`list`: which syncs there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..http import public_url
from .command import Session, command, grid

if TYPE_CHECKING:
    from ..store import Database
    from ..store.sync_row import SyncRow


@dataclass(frozen=True)
class Known:
    """A sync that is configured, or that the store knows, or both."""

    sync: Sync
    row: SyncRow | None
    is_configured: bool
    """Not where its file is gone and its rows are still there."""
    is_foreign: bool = False
    """Whether it belongs to another project, which has another config for it."""

    @property
    def id(self) -> int | None:
        """Its id in the store; None before it is first stored."""
        return self.row.id if self.row else None

    @property
    def origin(self) -> str:
        """Where it comes from: a `file`, over `http`, or from an `asset` of somebody's own."""
        return self.row.origin if self.row else "file"

    @property
    def table(self) -> str | None:
        """Its mapped table; a new sync's has no name yet."""
        if not self.sync.auto_mapping:
            return None
        return self.sync.mapped_table or (f"_nango_sync_{self.id}" if self.row else None)


def known(session: Session, database: Database) -> list[Known]:
    """Every sync: those of the files first, then those that only the store knows."""
    from ..store import ownership, syncs

    rows = {(row.integration, row.name): row for row in syncs.all(database)}
    configured = {(sync.integration_key, sync.name): sync for sync in session.configs.syncs}

    def is_foreign(key: tuple[str, str]) -> bool:
        row, sync = rows.get(key), configured.get(key)
        return row is not None and ownership.is_foreign(database, row) and (sync is None or sync != row.sync)

    found = [
        Known(sync, rows.get(key), is_configured=True, is_foreign=is_foreign(key)) for key, sync in configured.items()
    ]
    others = [row for key, row in rows.items() if key not in configured]
    return found + [
        Known(row.sync, row, is_configured=row.origin != "file", is_foreign=is_foreign((row.integration, row.name)))
        for row in others
    ]


@command("list", example="list --json")
def list_syncs(session: Session) -> None:
    """List the syncs.

    Those of config files, those posted over HTTP, and assets of your own that the IO manager writes. A sync whose file
    is gone is "not configured" and does not run any more, but its rows stay until `nango-dagster remove`.

    With --json, for each sync: name, id (null before it is first stored), integration, origin (file, http or asset),
    project (the owner; null for a posted sync), configured, enabled, url, mode, unique_key, schedule, table.
    """
    session.warn_of_configs()
    with session.database() as database:
        found = known(session, database)
    rows = [
        (sync.sync.name, _origin(sync), _project(sync), sync.sync.mode, _schedule(sync), sync.table, _url(sync))
        for sync in found
    ]
    headings = ["sync", "origin", "project", "mode", "schedule", "table", "url"]
    session.answer([_listed(one) for one in found], grid(headings, rows) if rows else "no syncs")


@command("adopt", example="adopt issues")
@click.argument("name", metavar="SYNC")
@click.option("--integration", metavar="KEY", help="The sync's integration, where several have one of this name.")
def adopt(session: Session, name: str, integration: str | None) -> None:
    """Take over a sync that belongs to another project, with its rows.

    A sync belongs to the project whose config file it has: NANGO_PROJECT, or the name of the folder that holds
    sync_configs. From here on this project's config counts, and the other project is refused.

    With --json: name, integration, project, previous_project.
    """
    from ..control.selection import find_sync
    from ..store import ownership, syncs

    with session.database() as database:
        row = find_sync(syncs.all(database), name, integration)
        ownership.adopt(database, row)
    document = {
        "name": row.name,
        "integration": row.integration,
        "project": session.settings.project,
        "previous_project": row.owner,
    }
    session.answer(document, f"{row.name} belongs to project {session.settings.project} now.")


def _listed(one: Known) -> dict[str, Any]:
    return {
        "name": one.sync.name,
        "id": one.id,
        "integration": one.sync.integration_key,
        "origin": one.origin,
        "project": _project(one),
        "configured": one.is_configured,
        "enabled": one.sync.enabled,
        "url": _url(one),
        "mode": one.sync.mode,
        "unique_key": one.sync.key_name,
        "schedule": _schedule(one),
        "table": one.table,
    }


def _origin(one: Known) -> str:
    origin = {"http": "posted"}.get(one.origin, one.origin) if one.is_configured else "not configured"
    return origin if one.sync.enabled else f"{origin}, disabled"


def _project(sync: Known) -> str | None:
    return sync.row.owner if sync.row else None


def _url(one: Known) -> str | None:
    return None if one.origin == "asset" else public_url(one.sync.url)


def _schedule(one: Known) -> str | None:
    """When it runs, as people say it; an asset runs when Dagster materializes it."""
    return None if one.origin == "asset" else one.sync.schedule_text
