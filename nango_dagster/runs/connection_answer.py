"""A connection with its credentials, in the form that Nango's API and its scripts have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from ..auth import OVER_HTTP
from ..store.announcing import OVERRIDE
from ..store.connections import ConnectionRow


def connection_document(
    row: ConnectionRow, credentials: Mapping[str, Any] | None, *, provider: str, refresh_token: bool
) -> dict[str, Any]:
    """The connection as a script reads it."""
    shown = {} if credentials is None else dict(shown_credentials(credentials, refresh_token=refresh_token))
    return {
        "id": row.id,
        "connection_id": row.connection_id,
        "provider_config_key": row.integration,
        "provider": provider,
        "errors": [],
        "end_user": None,
        "tags": {},
        "metadata": row.metadata,
        "connection_config": {name: value for name, value in row.config.items() if name != OVERRIDE},
        "created_at": _text(row.created_at),
        "updated_at": _text(row.updated_at),
        "last_fetched_at": _text(row.updated_at),
        "credentials": shown,
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Fields of the application rather than of the customer; a client that needs the token does not need them.
_OF_THE_APPLICATION = frozenset({OVER_HTTP, "client_id", "client_secret", "token_url", "token_auth", "scope", "scopes"})
_OF_THE_SERVER = frozenset({"host", "secret_key", "connection_id", "provider_config_key"})
_OF_OAUTH1 = frozenset({"consumer_key", "consumer_secret"})


def shown_credentials(credentials: Mapping[str, Any], *, refresh_token: bool) -> Iterator[tuple[str, Any]]:
    """The fields that a request to the API needs, under the names that Nango's client reads."""
    kind = credentials.get("type")
    hidden = _OF_THE_APPLICATION if kind in ("OAUTH2", "OAUTH2_CC", "NANGO", "PIZZLY") else {OVER_HTTP}
    hidden = {
        *hidden,
        *(_OF_THE_SERVER if kind in ("NANGO", "PIZZLY") else ()),
        *(_OF_OAUTH1 if kind in ("OAUTH1", "TBA") else ()),
    }
    if not refresh_token and kind not in (None, "CUSTOM"):
        hidden.add("refresh_token")
    shown = {name: value for name, value in credentials.items() if name not in hidden}
    if not str(kind).startswith("OAUTH"):
        yield from shown.items()
        return
    # The life of a token stands in the raw answer alone, as in Nango's.
    yield from ((name, value) for name, value in shown.items() if name != "expires_in")
    if kind == "OAUTH2_CC" and "access_token" in shown:
        yield "token", shown["access_token"]
    yield "raw", {name: value for name, value in shown.items() if name not in ("type", "raw")}
