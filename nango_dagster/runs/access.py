"""The credentials of an execution, and the count of refused ones on the connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timezone
from functools import partial
from typing import Any

from .. import clock
from ..auth import (
    OVER_HTTP,
    Access,
    CredentialSource,
    NangoServer,
    OAuth2,
    Pizzly,
    ServerConnection,
    StaticCredentials,
    TokenStore,
)
from ..config import Sync
from ..errors import AuthenticationFailed, ConfigError, StoreUnavailable
from ..http import Reach
from ..partition_keys import BASE
from ..settings import Settings
from ..store import Database, connections, credential_state, reach
from ..store.queue import Claim
from ..store.sync_row import SyncRow
from ..templates import env_variables, host_variables
from ..vault import Vault, hash_key, vault_of

SINCE_EVER = "1970-01-01T00:00:00Z"
"""The value of `${last_sync_date}` and `${since}` outside of an execution."""
_KEEP_SECONDS = 20.0  # a refreshed token is stored, also while the database restarts


class ConnectionAccess(Access):
    """The access of one execution, with facts about its connection."""

    auth_failures: int = 0
    """How often in a row the credentials were refused before."""
    has_webhook_url: bool = False


def access_of(
    database: Database,
    settings: Settings,
    row: SyncRow,
    claim: Claim,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> ConnectionAccess:
    """The access for the requests of an execution.

    It takes one query for a connection, and none for a sync of one account.
    """
    names = (claim.connection_id, claim.variant)
    if row.sync.partitioned:
        stored = _stored(database, row.sync, claim.connection_id)
        return _with_stored(database, settings, row.sync, names, stored, cancelled)
    return ConnectionAccess(
        row.sync,
        _facts(settings, names),
        _pizzly_of(row.sync, settings, cancelled),
        partial(hash_key, settings),
    )


def of_connection(database: Database, settings: Settings, sync: Sync, connection_id: str) -> ConnectionAccess:
    """The access with the credentials of a connection, outside of an execution.

    Raises ConfigError when the connection does not exist.
    """
    stored = _stored(database, sync, connection_id)
    return _with_stored(database, settings, sync, (connection_id, BASE), stored, lambda: False)


def of_account(settings: Settings, sync: Sync) -> ConnectionAccess:
    """The access of a sync of one account, outside of an execution."""
    source = _pizzly_of(sync, settings, lambda: False)
    return ConnectionAccess(sync, _facts(settings, (sync.connection_key, BASE)), source, partial(hash_key, settings))


def _stored(database: Database, sync: Sync, connection_id: str) -> connections.Secrets:
    """The stored row of a connection. Raises ConfigError where there is none."""
    integration = sync.integration_key
    stored = connections.secrets(database, integration, connection_id)
    if stored is None:
        raise ConfigError(
            f"{sync.display_name}: {integration} has no connection {connection_id!r}; make it with: nango-dagster "
            f"connections add --integration {integration} --connection {connection_id}"
        )
    return stored


def _with_stored(
    database: Database,
    settings: Settings,
    sync: Sync,
    names: tuple[str, str],
    stored: connections.Secrets,
    cancelled: Callable[[], bool],
) -> ConnectionAccess:
    credentials = None if stored.credentials is None else vault_of(settings).decrypt(stored.credentials)
    source = None
    if credentials is not None:
        named = (sync.integration_key, names[0])
        source = _kept_source(database, settings, named, credentials, sync.display_name, cancelled)
    facts = {**_facts(settings, names), "metadata": stored.metadata, "connection_config": stored.config}
    source = source or _pizzly_of(sync, settings, cancelled)
    access = ConnectionAccess(sync, facts, source, partial(hash_key, settings))
    access.hide(credentials or {})
    access.auth_failures, access.has_webhook_url = stored.auth_failures, stored.has_webhook_url
    return access


def _facts(settings: Settings, names: tuple[str, str]) -> dict[str, Any]:
    """The values of placeholders that are no credentials; `names` are the connection and variant.

    The date is that of a first execution; an incremental one has its own (sources/bounds.py).
    """
    return {
        "connection_id": names[0],
        "variant": names[1],
        "last_sync_date": SINCE_EVER,
        "since": SINCE_EVER,
        "until": clock.now().astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **env_variables(settings.env),
    }


def note(
    database: Database, row: SyncRow, claim: Claim, error: BaseException | None, access: ConnectionAccess | None
) -> None:
    """Count refused credentials on the connection, or reset the count; without either there is no query.

    After three refusals in a row the connection needs new credentials.
    """
    if not row.sync.partitioned:
        return
    if isinstance(error, AuthenticationFailed):
        credential_state.note_auth_failure(database, row.integration, claim.connection_id)
    elif error is None and access is not None and access.auth_failures > 0:
        credential_state.clear_auth_failures(database, row.integration, claim.connection_id)


# --- sources of credentials ------------------------------------------------------------------------------------


def credentials_of(
    database: Database, settings: Settings, integration: str, connection_id: str, *, fresh: bool = False
) -> Mapping[str, Any] | None:
    """The credentials of a connection as an execution would use them, refreshed where they expire or with `fresh`.

    None where the connection has none. Raises AuthenticationFailed where they are refused.
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
    """The source of a connection's credentials: the store, or the server that the stored ones name.

    `name` is the first word of its errors.
    """
    kind = given.get("type")
    where = reach_of(database, settings) if given.get(OVER_HTTP) else "anywhere"
    if kind in ("OAUTH2", "OAUTH2_CC"):
        tokens = _token_store(database, vault_of(settings), *named)
        return OAuth2(given, tokens, name=name, reach=where, cancelled=cancelled)
    if kind not in ("PIZZLY", "NANGO"):
        return StaticCredentials(given)
    connection = ServerConnection(
        str(given.get("provider_config_key") or named[0]),
        str(given.get("connection_id") or named[1]),
        given,
        name,
        cancelled=cancelled,
    )
    # The operator's settings have the address of Pizzly, the stored credentials that of a Nango server.
    return _pizzly(settings, connection) if kind == "PIZZLY" else NangoServer(replace(connection, reach=where))


def keep_reach(database: Database, settings: Settings) -> None:
    """Store which addresses URLs of others may reach, as the rule for every process of this database.

    Only an API with a key stores the rule: one without a key may be a developer's, beside one that has a key.
    """
    if settings.secret_keys:
        reach.keep(database, _own_reach(settings))


def reach_of(database: Database, settings: Settings) -> Reach:
    """Which addresses URLs may reach that arrived over HTTP, usually in another process.

    Where no API ever had a key, they come from this machine.
    """
    return "private" if settings.allow_private_hosts else reach.kept(database) or _own_reach(settings)


def _own_reach(settings: Settings) -> Reach:
    return "private" if settings.allow_private_hosts or not settings.secret_keys else "public"


def reach_of_sync(database: Database, settings: Settings, sync: Sync, *, posted: bool) -> Reach:
    """Which addresses the requests of a sync may reach; a posted sync may come from a stranger."""
    return "anywhere" if has_own_host(sync) and not posted else reach_of(database, settings)


def has_own_host(sync: Sync) -> bool:
    """Whether the config file itself names the host.

    A host from a connection's metadata, credentials or name may be a stranger's: these come over HTTP.
    """
    return all(name.startswith("env.") or name == "last_sync_date" for url in sync.urls for name in host_variables(url))


def _pizzly_of(sync: Sync, settings: Settings, cancelled: Callable[[], bool]) -> CredentialSource | None:
    key, connection_id = sync.pizzly_provider_config_key, sync.pizzly_connection_id
    if key is None or connection_id is None:
        return None
    return _pizzly(settings, ServerConnection(key, connection_id, name=sync.display_name, cancelled=cancelled))


def _pizzly(settings: Settings, connection: ServerConnection) -> Pizzly:
    if settings.pizzly_base_url is None:
        raise ConfigError(
            f"{connection.name}: the token comes from Pizzly, and PIZZLY_BASE_URL is not set; wanted the URL of "
            "your Pizzly server, such as http://localhost:3004"
        )
    return Pizzly(settings.pizzly_base_url, settings.pizzly_secret_key, connection)


def _token_store(database: Database, vault: Vault, integration: str, connection_id: str) -> TokenStore:
    named = (integration, connection_id)
    return TokenStore(
        load=partial(connections.credentials, database, vault, *named),
        begin=partial(credential_state.begin_refresh, database, *named),
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
    """Store refreshed tokens, and wait for the database meanwhile: the old refresh token is used up."""
    deadline = clock.monotonic() + _KEEP_SECONDS
    while True:
        try:
            return credential_state.end_refresh(database, vault, integration, connection_id, owner, new)
        except StoreUnavailable:
            if new is None or clock.monotonic() > deadline:
                raise
            time.sleep(0.5)
