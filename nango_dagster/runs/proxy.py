"""One request with the credentials of a connection, for a caller of the HTTP API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ..config import Sync
from ..errors import ConfigError
from ..node.source import api_of, provider_of
from ..scripts import Call, ScriptAnswer
from ..scripts.sending import ScriptClient
from ..settings import Settings
from ..sources import SourceContext
from ..store import Database, integrations
from ..store.sync_row import SyncRow
from .access import of_connection, reach_of_sync
from .limits import limiter_of


@dataclass(frozen=True)
class StreamedAnswer:
    """The answer of an API whose body is read while it arrives; `close` it in any case."""

    answer: ScriptAnswer
    client: ScriptClient | None = field(default=None, repr=False)
    """None where the whole body was read, as that of an error."""

    def pieces(self) -> Iterator[bytes]:
        """The body. An API that breaks off, or sends more than the limit, raises one of its transport's errors."""
        yield self.answer.content
        yield from self.answer.rest or ()

    def close(self) -> None:
        """Release the connection; the rest of the body is not read."""
        if self.client is not None:
            self.client.close()


def send(
    database: Database, settings: Settings, rows: Sequence[SyncRow], names: tuple[str, str], call: Call
) -> StreamedAnswer:
    """Send a request to the API of an integration, under the rules of its syncs: limits, origins and addresses.

    `rows` are the syncs of the integration, and `names` its key and the connection's id. Raises ApiError with the
    `answer` of the API for any status but 2xx, and ConfigError where no base URL is known.
    """
    row = next((row for row in rows if row.sync.script is not None and row.sync.base_url is not None), None)
    sync = _declared(database, names[0], [row.sync for row in rows]) if row is None else row.sync
    access = of_connection(database, settings, sync, names[1])
    is_posted = (row is not None and row.origin == "http") or call.base_url is not None
    reach = reach_of_sync(database, settings, sync, posted=is_posted)
    with limiter_of(database, sync, names[1]) as limiter:
        context = SourceContext(names[1], access=access, limiter=limiter, reach=reach, facts=access.facts)
        api = api_of(sync, provider_of(sync, settings.home), context)
        client = ScriptClient(sync, context, api, streamed_bytes=settings.proxy_bytes)
        try:
            return StreamedAnswer(client.send(replace(call, retries=call.retries or 0)), client)
        except BaseException:
            client.close()
            raise


_SHARED: Final = ("rate_limit", "daily_quota", "allowed_origins", "timeout")


def _declared(database: Database, integration: str, syncs: Sequence[Sync]) -> Sync:
    """A sync that stands for the API that `integrations.yaml` declares, with the rules that its syncs have from there.

    Of their headers it has those that are equal in all of them.
    """
    declared = integrations.list_integrations(database, integration)
    base_url = declared[0].base_url if declared else None
    if base_url is None:
        raise ConfigError(
            f"the integration {integration} has no base URL; give it base_url in integrations.yaml, or load a script "
            "of it whose provider has one."
        )
    sync = Sync(name="proxy", integration=integration, url="", script="proxy:proxy", base_url=base_url)
    if not syncs:
        return sync
    first = syncs[0]
    headers = {k: v for k, v in first.headers.items() if all(other.headers.get(k) == v for other in syncs)}
    return sync.model_copy(update={"headers": headers, **{name: getattr(first, name) for name in _SHARED}})
