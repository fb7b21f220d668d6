"""The integrations, connections and syncs that a request names, and Nango's errors for unknown ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ...config.source import quoted
from ...control.selection import Selection, SyncName, may_run, select_named
from ...partition_keys import BASE
from ...sentences import suggestion
from ...store import Database, connections, syncs
from ...store.sync_row import SyncRow
from ..errors import HttpError
from .models import Strict

Key = Annotated[str, Field(min_length=1, max_length=255)]


class NamedSync(Strict):
    """A sync's name and a variant of it."""

    name: Key
    variant: Key = BASE


def header_text(text: str) -> str:
    """The text of a header that was sent as UTF-8 or as Latin-1; the server decodes both as Latin-1.

    >>> header_text("acme-Ã¼"), header_text("acme-ü")
    ('acme-ü', 'acme-ü')
    """
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _named_sync(value: Any) -> Any:
    if isinstance(value, str):
        name, variant = SyncName.parse(value)
        return NamedSync.model_construct(name=name, variant=variant)
    if isinstance(value, dict) and set(value) == {"name", "variant"}:
        return value
    raise ValueError("be a sync's name, or an object of name and variant")


Syncs = Annotated[
    list[Annotated[NamedSync, BeforeValidator(_named_sync, json_schema_input_type=str | NamedSync)]],
    Field(
        max_length=256,
        description="Names, `name::variant`, or objects of both; none of them means all.",
        examples=[["issues"]],
    ),
]


def syncs_of(db: Database, integration: str) -> list[SyncRow]:
    """Return the syncs of an integration. Raises HttpError when there is no such integration."""
    rows = syncs.of_integration(db, integration)
    if not rows and not connections.list_connections(db, integration):
        known = sorted({row.integration for row in syncs.all(db)})
        sentence = f"there is no integration {quoted(integration)}; {suggestion(integration, known)}"
        raise HttpError(400, "unknown_provider_config", sentence)
    return rows


def check_connection(
    db: Database, rows: Sequence[SyncRow], integration: str, connection_id: str, status: int = 400
) -> None:
    """Raise HttpError with this status when the integration has no such connection.

    A sync without connections has its one account under a name of its own.
    """
    if connections.get(db, integration, connection_id) is not None:
        return
    if any(row.sync.connection_key == connection_id for row in rows if not row.sync.partitioned):
        return
    raise unknown_connection(integration, connection_id, status)


def unknown_connection(integration: str, connection_id: str, status: int = 400) -> HttpError:
    """The error about a connection that does not exist."""
    sentence = f"{integration} has no connection {quoted(connection_id)}; GET /connections lists those there are."
    payload = {"connectionId": connection_id, "providerConfigKey": integration}
    return HttpError(status, "unknown_connection", sentence, fields={"payload": payload})


def select(
    db: Database,
    integration: str,
    named: Sequence[NamedSync],
    connection_id: str | None,
    *,
    runnable: bool = False,
) -> list[Selection]:
    """Select the syncs of a request, with `runnable` only those that the dispatcher executes; without names, all.

    Raises HttpError for an unknown integration, connection or sync.
    """
    rows = syncs_of(db, integration)
    if connection_id is not None:
        check_connection(db, rows, integration, connection_id, 404)
    candidates = [row for row in rows if may_run(row) or not runnable]
    names = [SyncName(sync.name, sync.variant) for sync in named]
    selections = list(select_named(db, candidates, names, connection_id))
    selected = {(selection.row.name, selection.variant) for selection in selections}
    missing = [name for name in names if name not in selected]
    # For all connections, one of several names may be unknown; for one connection, none.
    if (missing and (connection_id is not None or not selections)) or not (selections or connection_id):
        hint = _hint(missing[0], candidates, runnable) if missing else ""
        raise HttpError(400, "no_syncs_found", f"No syncs found given the inputs. {hint}".strip())
    return selections


def _hint(missing: SyncName, rows: Sequence[SyncRow], runnable: bool) -> str:
    """The sentence about an unknown name, with the existing ones."""
    names = [row.name for row in rows]
    if missing.name in names:
        return f"{missing.name} does not run there as variant {quoted(missing.variant)}."
    return f"There is no sync {quoted(missing.name)}{' to run' if runnable else ''}; {suggestion(missing.name, names)}"


def syncs_of_connection(db: Database, integration: str, connection_id: str) -> list[SyncRow]:
    """Return the syncs of a connection's integration. Raises HttpError for an unknown connection."""
    rows = syncs.of_integration(db, integration)
    check_connection(db, rows, integration, connection_id)
    return rows


def sync_of_connection(db: Database, integration: str, connection_id: str, name: str) -> SyncRow:
    """Return the sync of this name. Raises HttpError for an unknown connection or sync."""
    rows = syncs_of_connection(db, integration, connection_id)
    for row in rows:
        if row.name == name:
            return row
    sentence = f"{integration} has no sync {quoted(name)}; {suggestion(name, [row.name for row in rows])}"
    raise HttpError(400, "unknown_sync", sentence)
