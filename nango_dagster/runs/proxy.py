"""One request with the credentials of a connection, for a caller of the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config import Sync
from ..errors import ConfigError
from ..node.source import api_of, provider_of
from ..scripts import Call, ScriptAnswer
from ..scripts.sending import ScriptClient
from ..settings import Settings
from ..sources import SourceContext
from ..store import Database, integrations
from ..store.sync_row import SyncRow
from .access import of_connection, reach_of
from .limits import limiter_of


def send(
    database: Database, settings: Settings, rows: Sequence[SyncRow], names: tuple[str, str], call: Call
) -> ScriptAnswer:
    """Send a request to the API of an integration, under the rules of its syncs: limits, origins and addresses.

    `rows` are the syncs of the integration, and `names` its key and the connection's id. Raises ApiError with the
    `answer` of the API for any status but 2xx, and ConfigError where no base URL is known.
    """
    sync = _sync(database, rows, names[0])
    access = of_connection(database, settings, sync, names[1])
    reach = reach_of(database, settings)
    with limiter_of(database, sync, names[1]) as limiter:
        context = SourceContext(names[1], access=access, limiter=limiter, reach=reach, facts=access.facts)
        client = ScriptClient(sync, context, api_of(sync, provider_of(sync, settings.home), context))
        try:
            return client.send(replace(call, retries=call.retries or 0))
        finally:
            client.close()


def _sync(database: Database, rows: Sequence[SyncRow], integration: str) -> Sync:
    """A sync that stands for the API: one with a base URL, else one for the declared base URL."""
    for row in rows:
        if row.sync.script is not None and row.sync.base_url is not None:
            return row.sync
    declared = integrations.list_integrations(database, integration)
    base_url = declared[0].base_url if declared else None
    if base_url is None:
        raise ConfigError(
            f"the integration {integration} has no base URL; give it base_url in integrations.yaml, or load a script "
            "of it whose provider has one."
        )
    return Sync(name="proxy", integration=integration, url="", script="proxy:proxy", base_url=base_url)
