"""How an execution gets at its connection's credentials, and what becomes of a connection whose are refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..auth import Access, Keeper, NangoServer, OAuth2, Pizzly, Source, Stored
from ..config import Sync, placeholders
from ..errors import AuthenticationFailed, ConfigError, StoreUnavailable
from ..partition_keys import BASE
from ..settings import Settings
from ..store import Database, connections, jobs
from ..store.connections import Secrets
from ..store.queue import Claim
from ..store.syncs import SyncRow
from ..templates import env_variables
from ..vault import Vault

SINCE_EVER = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""What `${last_sync_date}` says before an execution has succeeded."""
_KEEP_SECONDS = 20.0  # a token that was refreshed is kept also when the database is just being started again


class ConnectionAccess(Access):
    """The access of one execution, which knows how often the connection's credentials were refused before."""

    auth_failures: int = 0


def access_of(
    database: Database,
    settings: Settings,
    row: SyncRow,
    claim: Claim,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    anew: bool = False,
) -> ConnectionAccess:
    """What an execution's requests need; `anew` where it has to read the whole list, whatever was read before.

    It costs one question to the database for a connection, and none for a sync of one account.
    """
    asks_since = _uses(row.sync, "last_sync_date")
    job_of = (row.id, claim.variant) if asks_since and not anew else None
    if not row.sync.partitioned:
        last = jobs.last_success(database, row.id, claim.connection_id, claim.variant) if job_of else None
        return open_access(row.sync, settings, None, claim.connection_id, claim.variant, last, cancelled=cancelled)
    kept = connections.secrets(database, row.integration, claim.connection_id, job_of)
    if kept is None:
        raise ConfigError(
            f"{row.sync.display_name}: integration {row.integration} has no connection {claim.connection_id!r}; make "
            f"it with: nango-dagster connections add --integration {row.integration} "
            f"--connection {claim.connection_id}"
        )
    return open_access(
        row.sync,
        settings,
        kept,
        claim.connection_id,
        claim.variant,
        kept.last_success,
        database=database,
        cancelled=cancelled,
    )


def open_access(
    sync: Sync,
    settings: Settings,
    kept: Secrets | None,
    connection_id: str,
    variant: str = BASE,
    last_success: datetime | None = None,
    *,
    database: Database | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ConnectionAccess:
    """The access that a connection of the store gives, or, without one, Pizzly or the environment alone."""
    facts: dict[str, Any] = {
        "connection_id": connection_id,
        "variant": variant,
        "last_sync_date": _iso(last_success or SINCE_EVER),
        **env_variables(settings.env),
    }
    if kept is None:
        return ConnectionAccess(sync, facts, _pizzly_of(sync, settings, cancelled))
    facts["metadata"] = kept.metadata
    source: Source | None = None
    if kept.credentials is not None:
        vault = vault_of(settings)
        keeper = _keeper(database, vault, sync.integration_key, connection_id) if database else None
        source = _source(sync, settings, vault.decrypt(kept.credentials), connection_id, keeper, cancelled)
    access = ConnectionAccess(sync, facts, source)
    access.auth_failures = kept.auth_failures
    return access


def note(
    database: Database, row: SyncRow, claim: Claim, error: BaseException | None, access: ConnectionAccess | None
) -> None:
    """Count an end by refused credentials, or note that they work again; says nothing to the database otherwise.

    From the third in a row on, the connection needs others.
    """
    if not row.sync.partitioned:
        return
    if isinstance(error, AuthenticationFailed):
        connections.note_auth_failure(database, row.integration, claim.connection_id)
    elif error is None and access is not None and access.auth_failures > 0:
        connections.clear_auth_failures(database, row.integration, claim.connection_id)


# --- where credentials come from ------------------------------------------------------------------------------------


def _source(
    sync: Sync,
    settings: Settings,
    given: Mapping[str, Any],
    connection_id: str,
    keeper: Keeper | None,
    cancelled: Callable[[], bool],
) -> Source:
    kind = given.get("type")
    key = str(given.get("provider_config_key") or sync.integration_key)
    there = str(given.get("connection_id") or connection_id)
    name = sync.display_name
    if kind in ("OAUTH2", "OAUTH2_CC") and keeper is not None:
        return OAuth2(given, keeper, name=name, cancelled=cancelled)
    if kind == "PIZZLY":
        return _pizzly(sync, settings, key, there, given, cancelled)
    if kind == "NANGO":
        return NangoServer(given, key, there, name=name, cancelled=cancelled)
    return Stored(given)


def _pizzly_of(sync: Sync, settings: Settings, cancelled: Callable[[], bool]) -> Source | None:
    key, connection_id = sync.pizzly_provider_config_key, sync.pizzly_connection_id
    if key is None or connection_id is None:
        return None
    return _pizzly(sync, settings, key, connection_id, {}, cancelled)


def _pizzly(
    sync: Sync,
    settings: Settings,
    key: str,
    connection_id: str,
    given: Mapping[str, Any],
    cancelled: Callable[[], bool],
) -> Pizzly:
    if settings.pizzly_base_url is None:
        raise ConfigError(
            f"{sync.display_name}: the token comes from Pizzly, and PIZZLY_BASE_URL is not set; wanted the URL of "
            "your Pizzly server, such as http://localhost:3004"
        )
    return Pizzly(
        settings.pizzly_base_url,
        settings.pizzly_secret_key,
        key,
        connection_id,
        given,
        name=sync.display_name,
        cancelled=cancelled,
    )


def _keeper(database: Database, vault: Vault, integration: str, connection_id: str) -> Keeper:
    named = (integration, connection_id)
    return Keeper(
        load=partial(connections.credentials, database, vault, *named),
        begin=partial(connections.begin_refresh, database, *named),
        end=partial(_end_surely, database, vault, *named),
    )


def _end_surely(
    database: Database,
    vault: Vault,
    integration: str,
    connection_id: str,
    owner: str,
    new: Mapping[str, Any] | None,
) -> bool:
    """A refresh token that has been used up is worth waiting for the database, to keep its successor."""
    deadline = time.monotonic() + _KEEP_SECONDS
    while True:
        try:
            return connections.end_refresh(database, vault, integration, connection_id, owner, new)
        except StoreUnavailable:
            if new is None or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def vault_of(settings: Settings) -> Vault:
    """The vault of these settings, opened once for all connections of a run."""
    return _vault(settings.encryption_keys, settings.db_url, settings.home)


@lru_cache(maxsize=8)
def _vault(keys: tuple[str, ...], db_url: str, home: Path) -> Vault:
    return Vault.open(Settings(db_url=db_url, home=home, encryption_keys=keys))


def _uses(sync: Sync, name: str) -> bool:
    return name in placeholders([sync.url, sync.headers, sync.query_params, sync.body])


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
