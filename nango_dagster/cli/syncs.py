"""`list` and `adopt`: the syncs and their projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..http import public_url
from .command import Session, command, grid, sync_argument

if TYPE_CHECKING:
    from ..store import Database
    from ..store.sync_row import SyncRow


@dataclass(frozen=True)
class Known:
    """A sync that has a config file, or a row in the store, or both."""

    sync: Sync
    row: SyncRow | None
    is_configured: bool
    """False if its config file is gone; its rows may still be stored."""
    is_foreign: bool = False
    """Whether it belongs to another project, which has another config for it."""

    @property
    def id(self) -> int | None:
        """Its id in the store; None before it is first stored."""
        return self.row.id if self.row else None

    @property
    def origin(self) -> str:
        """Its origin: a `file`, `http` (posted), or an `asset` of the user."""
        return self.row.origin if self.row else "file"

    @property
    def table(self) -> str | None:
        """The name of its mapped table; None for a new sync without `mapped_table`."""
        if not self.sync.auto_mapping:
            return None
        return self.sync.mapped_table or (f"_nango_sync_{self.id}" if self.row else None)


def known(session: Session, database: Database) -> list[Known]:
    """All syncs: first those with a config file, then those that are only in the store."""
    from ..store import ownership, syncs

    rows = {(row.integration, row.name): row for row in syncs.all(database)}
    configured = {(sync.integration_key, sync.name): sync for sync in session.configs.syncs}

    def is_foreign(key: tuple[str, str]) -> bool:
        row, sync = rows.get(key), configured.get(key)
        return row is not None and ownership.is_foreign(database, row) and (sync is None or sync != row.sync)

    listed = [
        Known(sync, rows.get(key), is_configured=True, is_foreign=is_foreign(key)) for key, sync in configured.items()
    ]
    others = [row for key, row in rows.items() if key not in configured]
    return listed + [
        Known(row.sync, row, is_configured=row.origin != "file", is_foreign=is_foreign((row.integration, row.name)))
        for row in others
    ]


@command("list", example="list --json")
@click.option("--integrations", "of_integrations", is_flag=True, help="List the integrations.")
def list_syncs(session: Session, of_integrations: bool) -> None:
    """List the syncs.

    It lists the syncs of config files, the syncs posted over HTTP, and your own assets that the IO manager writes. A
    sync whose file is deleted is "not configured": it does not run any more, but its rows stay until `nango-dagster
    remove`. A second table shows the integrations that files declare.

    With --integrations: only the integrations, also those without a declaration. With --json, for each: name,
    display_name, provider, base_url, declared (by a file), syncs (names).

    With --json, for each sync: name, id (null before it is first stored), integration, origin (file, http or asset),
    project (the owner; null for a posted sync), configured, enabled, url, mode, unique_key, schedule, table.
    """
    session.warn_of_configs()
    with session.database() as database:
        all_syncs = known(session, database)
        listed = _integrations(session, database, all_syncs)
    declared = [row for row in listed if row["declared"] or of_integrations]
    table = grid(
        ["integration", "provider", "base URL", "syncs"],
        [(row["name"], row["provider"], row["base_url"], ", ".join(row["syncs"])) for row in declared],
    )
    if of_integrations:
        session.answer(listed, table if declared else "no integrations")
        return
    rows = [
        (sync.sync.name, _origin(sync), _project(sync), sync.sync.mode, _schedule(sync), sync.table, _url(sync))
        for sync in all_syncs
    ]
    headings = ["sync", "origin", "project", "mode", "schedule", "table", "url"]
    parts = [grid(headings, rows) if rows else "no syncs", *(["", table] if declared else [])]
    session.answer([_listed(known_sync) for known_sync in all_syncs], *parts)


def _integrations(session: Session, database: Database, all_syncs: Sequence[Known]) -> list[dict[str, Any]]:
    """The integrations of files, then those that only the store knows."""
    from ..store import integrations

    stored = {row.name: row for row in integrations.list_integrations(database)}
    declared = {one.name: one for one in session.configs.integrations}
    documents = []
    for name in [*declared, *(name for name in stored if name not in declared)]:
        value = declared.get(name) or stored[name]
        documents.append(
            {
                "name": name,
                "display_name": value.display_name or name,
                "provider": value.provider or name,
                "base_url": public_url(value.base_url) if value.base_url else None,
                "declared": name in declared,
                "syncs": [known.sync.name for known in all_syncs if known.sync.integration_key == name],
            }
        )
    return documents


@command("adopt", example="adopt issues")
@sync_argument
@click.option("--integration", metavar="KEY", help="The sync's integration, if several have a sync of this name.")
def adopt(session: Session, name: str, integration: str | None) -> None:
    """Take over a sync that belongs to another project, with its rows.

    A sync belongs to the project that has its config file: NANGO_PROJECT, or the name of the folder that contains
    sync_configs. `adopt` gives the sync to this project. Afterwards this project's config is used, and the other
    project is refused.

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


def _listed(known_sync: Known) -> dict[str, Any]:
    return {
        "name": known_sync.sync.name,
        "id": known_sync.id,
        "integration": known_sync.sync.integration_key,
        "origin": known_sync.origin,
        "project": _project(known_sync),
        "configured": known_sync.is_configured,
        "enabled": known_sync.sync.enabled,
        "url": _url(known_sync),
        "mode": known_sync.sync.mode,
        "unique_key": known_sync.sync.key_name,
        "schedule": _schedule(known_sync),
        "table": known_sync.table,
    }


def _origin(known_sync: Known) -> str:
    origin = (
        {"http": "posted"}.get(known_sync.origin, known_sync.origin) if known_sync.is_configured else "not configured"
    )
    return origin if known_sync.sync.enabled else f"{origin}, disabled"


def _project(sync: Known) -> str | None:
    return sync.row.owner if sync.row else None


def _url(known_sync: Known) -> str | None:
    return None if known_sync.origin == "asset" else public_url(known_sync.sync.address)


def _schedule(known_sync: Known) -> str | None:
    """The schedule as text; None for an asset, which runs when Dagster materializes it."""
    return None if known_sync.origin == "asset" else known_sync.sync.schedule_text
