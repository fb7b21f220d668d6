"""How an execution gets at its connection's credentials, and what becomes of a connection whose are refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

from ..auth import OVER_HTTP, Access, CredentialSource, NangoServer, OAuth2, Pizzly, StaticCredentials, TokenStore
from ..config import Sync, placeholders
from ..errors import AuthenticationFailed, ConfigError, StoreUnavailable
from ..http import Reach
from ..partition_keys import BASE
from ..settings import Settings
from ..store import Database, connections, jobs, reach
from ..store.queue import Claim
from ..store.sync_row import SyncRow
from ..templates import env_variables, host_variables
from ..vault import Vault, hash_key, vault_of

SINCE_EVER = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""What `${last_sync_date}` says before an execution has succeeded."""
_KEEP_SECONDS = 20.0  # a token that was refreshed is kept also when the database is just being started again


class ConnectionAccess(Access):
    """The access of one execution, which knows a little more of its connection."""

    auth_failures: int = 0
    """How often in a row its credentials were refused before."""
    has_webhook_url: bool = False


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
    since = (row.id, claim.variant) if _uses(row.sync, "last_sync_date") and not anew else None
    if row.sync.partitioned:
        return of_connection(
            database, settings, row.sync, claim.connection_id, claim.variant, since=since, cancelled=cancelled
        )
    last = jobs.last_success(database, claim.target) if since else None
    return open_access(row.sync, settings, claim.connection_id, claim.variant, last, cancelled=cancelled)


def of_connection(
    database: Database,
    settings: Settings,
    sync: Sync,
    connection_id: str,
    variant: str = BASE,
    *,
    since: tuple[int, str] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ConnectionAccess:
    """The access that a connection of the sync's integration gives.

    `since` is the sync's id and the variant where it matters when it last succeeded. Raises ConfigError when there is
    no such connection.
    """
    integration = sync.integration_key
    kept = connections.secrets(database, integration, connection_id, since)
    if kept is None:
        raise ConfigError(
            f"{sync.display_name}: {integration} has no connection {connection_id!r}; make it with: nango-dagster "
            f"connections add --integration {integration} --connection {connection_id}"
        )
    given = None if kept.credentials is None else vault_of(settings).decrypt(kept.credentials)
    access = open_access(
        sync,
        settings,
        connection_id,
        variant,
        kept.last_success,
        metadata=kept.metadata,
        source=None
        if given is None
        else _kept_source(database, settings, (integration, connection_id), given, sync.display_name, cancelled),
    )
    access.hide(given or {})
    access.auth_failures, access.has_webhook_url = kept.auth_failures, kept.has_webhook_url
    return access


def open_access(
    sync: Sync,
    settings: Settings,
    connection_id: str,
    variant: str = BASE,
    last_success: datetime | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    source: CredentialSource | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ConnectionAccess:
    """The access that a source of credentials gives: by default the sync's own connection in Pizzly, if it has one."""
    facts: dict[str, Any] = {
        "connection_id": connection_id,
        "variant": variant,
        "last_sync_date": _iso(last_success or SINCE_EVER),
        **env_variables(settings.env),
        **({} if metadata is None else {"metadata": metadata}),
    }
    source = source or _pizzly_of(sync, settings, cancelled)
    return ConnectionAccess(sync, facts, source, partial(hash_key, settings))


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


def credentials_of(
    database: Database, settings: Settings, integration: str, connection_id: str, *, fresh: bool = False
) -> Mapping[str, Any] | None:
    """The credentials of a connection as an execution would use them now, refreshed where that is due or `fresh`.

    None where the connection has none. Raises AuthenticationFailed where they are good no more.
    """
    given = connections.credentials(database, vault_of(settings), integration, connection_id)
    if given is None:
        return None
    source = _kept_source(database, settings, (integration, connection_id), given, integration, lambda: False)
    try:
        return source.credentials(fresh)
    finally:
        source.close()


def _kept_source(
    database: Database,
    settings: Settings,
    named: tuple[str, str],
    given: Mapping[str, Any],
    name: str,
    cancelled: Callable[[], bool],
) -> CredentialSource:
    """What gives the credentials that the store keeps for an integration's connection, or that it says who keeps.

    `name` begins its errors.
    """
    kind = given.get("type")
    where = reach_of(database, settings) if given.get(OVER_HTTP) else "anywhere"
    if kind in ("OAUTH2", "OAUTH2_CC"):
        tokens = _token_store(database, vault_of(settings), *named)
        return OAuth2(given, tokens, name=name, reach=where, cancelled=cancelled)
    key = str(given.get("provider_config_key") or named[0])
    there = str(given.get("connection_id") or named[1])
    if kind == "PIZZLY":
        return _pizzly(name, settings, key, there, given, cancelled)
    if kind == "NANGO":
        return NangoServer(given, key, there, name=name, reach=where, cancelled=cancelled)
    return StaticCredentials(given)


def keep_reach(database: Database, settings: Settings) -> None:
    """Have every process of the database follow the rule of an API that has a key, and so others' URLs.

    One without a key leaves the rule as it is: it may be a developer's, beside an API that has one.
    """
    if settings.secret_keys:
        reach.keep(database, _own_reach(settings))


def reach_of(database: Database, settings: Settings) -> Reach:
    """Where URLs may lead that arrived over HTTP, most often at another process than this one.

    Where no API ever had a key, whoever sends them sits at this machine.
    """
    return "private" if settings.allow_private_hosts else reach.kept(database) or _own_reach(settings)


def _own_reach(settings: Settings) -> Reach:
    return "private" if settings.allow_private_hosts or not settings.secret_keys else "public"


def reach_of_sync(database: Database, settings: Settings, sync: Sync, *, posted: bool) -> Reach:
    """Where a sync's requests may lead; that of a posted one may be a stranger's."""
    return "anywhere" if has_own_host(sync) and not posted else reach_of(database, settings)


def has_own_host(sync: Sync) -> bool:
    """Whether the host in a config file is the operator's own.

    One that a file leaves to its connections may be a stranger's: their metadata and credentials, and their names,
    come over HTTP.
    """
    return all(name.startswith("env.") or name == "last_sync_date" for url in sync.urls for name in host_variables(url))


def _pizzly_of(sync: Sync, settings: Settings, cancelled: Callable[[], bool]) -> CredentialSource | None:
    key, connection_id = sync.pizzly_provider_config_key, sync.pizzly_connection_id
    if key is None or connection_id is None:
        return None
    return _pizzly(sync.display_name, settings, key, connection_id, {}, cancelled)


def _pizzly(
    name: str,
    settings: Settings,
    key: str,
    connection_id: str,
    given: Mapping[str, Any],
    cancelled: Callable[[], bool],
) -> Pizzly:
    if settings.pizzly_base_url is None:
        raise ConfigError(
            f"{name}: the token comes from Pizzly, and PIZZLY_BASE_URL is not set; wanted the URL of "
            "your Pizzly server, such as http://localhost:3004"
        )
    return Pizzly(
        settings.pizzly_base_url,
        settings.pizzly_secret_key,
        key,
        connection_id,
        given,
        name=name,
        cancelled=cancelled,
    )


def _token_store(database: Database, vault: Vault, integration: str, connection_id: str) -> TokenStore:
    named = (integration, connection_id)
    return TokenStore(
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


def _uses(sync: Sync, name: str) -> bool:
    return name in placeholders(sync.templates)


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
