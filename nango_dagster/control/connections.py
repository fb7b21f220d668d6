"""Create, change and delete connections."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import webhooks
from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..http import is_url, public_json
from ..http.redaction import STARS
from ..sentences import number_of, suggestion
from ..settings import Settings
from ..store import Database, connections, status, syncs
from ..store.announcing import OVERRIDE
from ..store.connections import ConnectionRow, NewConnection
from ..store.sealing import SEALED
from ..store.sync_row import SyncRow
from ..vault import Vault, vault_of
from .report import SOON, Report
from .selection import no_connections

KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
"""Names of JSON types in sentences; every other value is a number."""
_MOST_NAMED = 5  # syncs and integrations in one sentence


class UnknownConnection(ConfigError):
    """An integration has no connection of this name."""


# --- create and change ------------------------------------------------------------------------------------------------


def add(db: Database, settings: Settings, new: NewConnection, *, replace: bool = False) -> Report:
    """Create a connection, or with `replace` change the existing one; fields that are None stay as they are.

    Raises Refused when there is one already, and ConfigError on PostgreSQL without a key for its credentials.
    """
    existed = connections.get(db, new.integration, new.connection_id) is not None
    if existed and not replace:
        check_webhook_url(new.config)
        raise Refused(
            f"{new.integration} has a connection {quoted(new.connection_id)} already; say replace (--replace), and it "
            "gets what is named, and keeps the rest."
        )
    put(db, settings, new)
    document = {"integration": new.integration, "connection_id": new.connection_id, "created": not existed}
    if existed:
        return Report(f"Changed {new.connection_id} of {new.integration}.", "", document)
    names = _started_syncs(db, new.integration)
    sentence = f"Added {new.connection_id} to {new.integration}."
    return Report(sentence, _next_runs(db, new.integration, names), {**document, "syncs": names})


def put(db: Database, settings: Settings, new: NewConnection) -> ConnectionRow:
    """Create a connection or change the existing one, and return it; fields that are None stay as they are.

    Raises ConfigError for a webhook URL that is none, and Refused for names that cannot be stored.
    """
    check_webhook_url(new.config)
    return connections.add(db, _vault_for(settings, [new]), new)


def add_all(db: Database, settings: Settings, several: Sequence[NewConnection]) -> Report:
    """Create these connections, and change those that exist."""
    for new in several:
        check_webhook_url(new.config)
    created = connections.add_all(db, _vault_for(settings, several), several)
    integrations = sorted({new.integration for new in several})
    changed = len(several) - created
    document = {"created": created, "changed": changed, "integrations": integrations}
    sentence = f"Added {number_of(created, 'connection')}" + (f" and changed {changed:,}" if changed else "") + "."
    next_runs = [_next_runs(db, name, _started_syncs(db, name)) for name in integrations[:_MOST_NAMED] if created]
    return Report(sentence, " ".join(next_runs), document)


def set_metadata(
    db: Database, integration: str, connection_ids: Sequence[str], metadata: Mapping[str, Any], *, merge: bool = False
) -> Report:
    """Replace the metadata of connections, or with `merge` set the given keys only.

    Raises UnknownConnection before anything is changed when one of them does not exist.
    """
    for connection_id in connection_ids:
        get(db, integration, connection_id)
    change = connections.update_metadata if merge else connections.set_metadata
    for connection_id in connection_ids:
        if not change(db, integration, connection_id, metadata):
            raise unknown_connection(db, integration, connection_id)
    connection_id = connection_ids[-1]
    stored = public_json(get(db, integration, connection_id).metadata)
    document = {"integration": integration, "connection_id": connection_id, "metadata": stored}
    return Report(f"{connection_id} of {integration} has the metadata {json_line(stored)}.", "", document)


def delete(db: Database, integration: str, connection_id: str) -> Report:
    """Delete a connection with its records, rows and jobs. Raises UnknownConnection."""
    records = count_records(db, integration, connection_id)
    if not connections.remove(db, integration, connection_id):
        raise unknown_connection(db, integration, connection_id)
    document = {"integration": integration, "connection_id": connection_id, "removed": True, "records": records}
    return Report(f"Deleted {connection_id} of {integration} with its {number_of(records, 'record')}.", "", document)


def _vault_for(settings: Settings, several: Sequence[NewConnection]) -> Vault | None:
    return vault_of(settings) if any(new.credentials is not None for new in several) else None


def _started_syncs(db: Database, integration: str) -> list[str]:
    """The names of the syncs that start by themselves for each new connection."""
    return [row.name for row in partitioned_syncs(db, integration) if row.sync.enabled and row.sync.auto_start]


def _next_runs(db: Database, integration: str, names: Sequence[str]) -> str:
    """The sentence about the syncs that run for a new connection."""
    if not names:
        integrations = {row.integration for row in syncs.all(db) if row.sync.partitioned}
        is_unknown = bool(integrations) and integration not in integrations
        hint = f"; {suggestion(integration, integrations)}" if is_unknown else "."
        return f"No sync with integration: {integration} starts by itself yet{hint}"
    more = f" and {len(names) - _MOST_NAMED} more syncs" if len(names) > _MOST_NAMED else ""
    verb = "run" if len(names) > 1 else "runs"
    return f"{', '.join(names[:_MOST_NAMED])}{more} {verb} for each new connection {SOON}."


# --- check ------------------------------------------------------------------------------------------------------------


def checked_object(value: Any, name: str) -> dict[str, Any]:
    """Return `value` if it is a JSON object that can be stored as metadata or config; `name` is its name in errors.

    Raises ConfigError for another type, for stars in place of a secret, and for the key that the store reserves.
    """
    if not isinstance(value, dict):
        kind = KINDS.get(type(value), "a number")
        raise ConfigError(f'{name} is {kind}; wanted a JSON object such as {{"region": "eu"}}.')
    if _has_stars(value):
        raise ConfigError(f"{name} has {STARS}, which stands for a secret that was not shown; give the value itself.")
    if SEALED in value:
        raise ConfigError(f"{name} has {SEALED}, the name under which secrets are kept; choose another.")
    return value


def _has_stars(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == STARS or any(map(_has_stars, items))


def check_webhook_url(config: Mapping[str, Any] | None) -> None:
    """Raise ConfigError where a connection's config names a webhook URL that is none; the error does not show it."""
    url = (config or {}).get(OVERRIDE)
    if url is not None and not (isinstance(url, str) and is_url(url)):
        raise ConfigError(f"{OVERRIDE} cannot be used; wanted a URL such as https://example.com/hook.")


# --- read -------------------------------------------------------------------------------------------------------------


def get(db: Database, integration: str, connection_id: str) -> ConnectionRow:
    """Return a connection. Raises UnknownConnection with the existing ones."""
    row = connections.get(db, integration, connection_id)
    if row is None:
        raise unknown_connection(db, integration, connection_id)
    return row


def unknown_connection(db: Database, integration: str, connection_id: str) -> UnknownConnection:
    """The error about a connection that does not exist, with the existing ones."""
    rows = connections.list_connections(db)
    names = [row.connection_id for row in rows if row.integration == integration]
    if names:
        return UnknownConnection(
            f"{integration} has no connection {quoted(connection_id)}; {suggestion(connection_id, names)}"
        )
    integrations = {row.integration for row in rows}
    if integrations:
        return UnknownConnection(
            f"no connection is of integration {quoted(integration)}; {suggestion(integration, integrations)}"
        )
    return UnknownConnection(no_connections(integration))


def partitioned_syncs(db: Database, integration: str) -> list[SyncRow]:
    """The syncs that run for each connection of an integration."""
    return [row for row in syncs.of_integration(db, integration) if row.sync.partitioned]


def count_records(db: Database, integration: str, connection_id: str) -> int:
    """The number of records that are stored for a connection and not deleted."""
    states = status.read(db, partitioned_syncs(db, integration), connection_id)
    return sum(state.live_count for state in states)


def credentials_summary(db: Database, settings: Settings, row: ConnectionRow) -> dict[str, Any] | None:
    """The type of a connection's credentials and the names of their fields; None where it has none."""
    if not row.has_credentials:
        return None
    try:
        credentials = connections.credentials(db, vault_of(settings), row.integration, row.connection_id) or {}
    except ConfigError as unreadable:
        return {"type": None, "fields": [], "unreadable": str(unreadable)}
    return {"type": credentials.get("type"), "fields": sorted(name for name in credentials if name != "type")}


def credentials_type(db: Database, settings: Settings, integration: str, connection_id: str) -> str:
    """The type of a connection's credentials; NONE where it has none or does not exist."""
    row = connections.get(db, integration, connection_id)
    summary = None if row is None else credentials_summary(db, settings, row)
    return "NONE" if summary is None else str(summary["type"])


def public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A connection's config without secrets, and with only the origin of its webhook URL."""
    url = config.get(OVERRIDE)
    webhook = {OVERRIDE: webhooks.shown(url)} if isinstance(url, str) and is_url(url) else {}
    return {**public_json(config), **webhook}


def json_line(document: Mapping[str, Any]) -> str:
    """JSON in one line, for people."""
    return json.dumps(document, ensure_ascii=False)
