"""`/connections`: the customers' accounts that syncs read, with their credentials and metadata."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Discriminator, Field, Tag

from ...auth import OVER_HTTP, Credentials, check_credentials
from ...control import connections as control
from ...control.connections import UnknownConnection
from ...errors import ApiError, AuthenticationFailed, ConfigError, Refused
from ...http import public_json
from ...runs.access import credentials_of
from ...runs.connection_answer import shown_credentials
from ...store import Database, connections
from ...store.announcing import OVERRIDE, WebhookUrlSource
from ...store.connections import ConnectionRow
from ..answers import ConnectionList, ListedConnection, Success, Trouble, WholeConnection, iso
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.addresses import check_credential_urls, check_webhook_url
from ..input.models import Digits, Strict, body_of, described, only
from ..input.selection import Key, syncs_of, unknown_connection
from ..service import Nango, Service

MOST_LISTED = 10_000
MOST_A_PAGE = 2_000
Id = Annotated[str, Path(alias="id", min_length=1, max_length=255)]
Integration = Annotated[str, Query(alias="provider_config_key", min_length=1, max_length=255)]

router = APIRouter(tags=["connections"], responses=ERRORS)


class NewConnection(Strict):
    """A new connection, or changes to an existing one, which keeps the fields that are not given."""

    provider_config_key: Key = Field(description="The integration.")
    connection_id: Key | None = Field(None, description="A new UUID by default.")
    credentials: dict[str, Any] | None = Field(
        None,
        description="By `type`, as docs/reference/connections.md shows them.",
        examples=[{"type": "API_KEY", "apiKey": "k1"}],
    )
    metadata: dict[str, Any] | None = None
    connection_config: dict[str, Any] | None = None
    webhook_url_override: str | None = Field(
        None,
        description="The URL for its webhooks, in place of the URLs of the settings; null removes it.",
        examples=["https://acme.example.com/hook"],
    )


class ChangedConnection(Strict):
    """Changes to a connection, which keeps the fields that are not given."""

    webhook_url_override: str | None = Field(
        None, description="The URL for its webhooks, in place of the URLs of the settings; null removes it."
    )


def _one_or_several(value: Any) -> str | None:
    return "(one)" if isinstance(value, str) else "(several)" if isinstance(value, list) else None


Ids = Annotated[
    Annotated[Key, Tag("(one)")] | Annotated[list[Key], Field(min_length=1, max_length=1000), Tag("(several)")],
    Discriminator(_one_or_several, custom_error_type="ids_type", custom_error_message="be text or a list of texts"),
]


class NewMetadata(Strict):
    """Metadata for one or several connections."""

    provider_config_key: Key
    connection_id: Ids
    metadata: dict[str, Any]


# --- read -----------------------------------------------------------------------------------------------------------

_FILTERS = ("connectionId", "search", "endUserId", "integrationId", "endUserOrganizationId", "limit", "page")


@router.get("/connections", summary="List connections", dependencies=[only(*_FILTERS, prefix="tags[")])
@router.get("/connection", include_in_schema=False, dependencies=[only(*_FILTERS, prefix="tags[")])
def list_connections(
    nango: Nango,
    request: Request,
    connection_id: Annotated[
        str | None, Query(alias="connectionId", description="The connection with this id.")
    ] = None,
    search: Annotated[str | None, Query(description="Connections with this text in their id.")] = None,
    integrations: Annotated[
        str | None, Query(alias="integrationId", description="Connections of these integrations, separated by commas.")
    ] = None,
    limit: Annotated[
        int | None, Query(ge=1, le=MOST_A_PAGE, description=f"By default {MOST_LISTED:,}."), Digits
    ] = None,
    page: Annotated[int, Query(ge=0, le=2**31), Digits] = 0,
    end_user: Annotated[
        str | None, Query(alias="endUserId", description="There are no end users, so the list is empty.")
    ] = None,
    organization: Annotated[
        str | None, Query(alias="endUserOrganizationId", description="There are none; the list is empty.")
    ] = None,
) -> ConnectionList:
    """The connections that fit all filters, in the order of their creation."""
    if (
        end_user is not None
        or organization is not None
        or any(name.startswith("tags[") for name in request.query_params)
    ):
        return ConnectionList(connections=[])
    named = None if integrations is None else integrations.split(",")
    rows = [
        row
        for row in connections.list_connections(nango.database)
        if (named is None or row.integration in named)
        and connection_id in (None, row.connection_id)
        and (search is None or search.lower() in row.connection_id.lower())
    ]
    size = limit or MOST_LISTED
    return ConnectionList(connections=[_listed(row) for row in rows[page * size : (page + 1) * size]])


def _listed(row: ConnectionRow) -> ListedConnection:
    return ListedConnection(**_shown(row), metadata=public_json(row.metadata), created=iso(row.created_at) or "")


def _shown(row: ConnectionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "connection_id": row.connection_id,
        "provider_config_key": row.integration,
        "provider": row.integration,
        "errors": [Trouble(type="auth", log_id="")] if row.needs_reauthorisation else [],
    }


_GET = ("provider_config_key", "force_refresh", "refresh_token", "refresh_github_app_jwt_token")


@router.get("/connections/{id:path}", summary="Get a connection", dependencies=[only(*_GET)])
@router.get("/connection/{id:path}", include_in_schema=False, dependencies=[only(*_GET)])
def get_connection(
    nango: Nango,
    id: Id,
    integration: Integration,
    force_refresh: Annotated[bool, Query(description="Get a new token although the stored one is valid.")] = False,
    refresh_token: Annotated[bool, Query(description="Return the refresh token too.")] = False,
    refresh_github_app_jwt_token: Annotated[bool, Query(description="Has no effect.")] = False,
) -> WholeConnection:
    """A connection with its credentials; an expiring token is refreshed first."""
    row = connections.get(nango.database, integration, id)
    if row is None:
        raise _not_found(nango.database, integration, id)
    credentials = _credentials(nango, row, fresh=force_refresh)
    shown = {} if credentials is None else dict(shown_credentials(credentials, refresh_token=refresh_token))
    return _whole(row, shown)


def _whole(row: ConnectionRow, credentials: dict[str, Any]) -> WholeConnection:
    return WholeConnection(
        **_shown(row),
        metadata=row.metadata,
        created_at=iso(row.created_at) or "",
        updated_at=iso(row.updated_at) or "",
        last_fetched_at=iso(row.updated_at) or "",
        connection_config={name: value for name, value in row.config.items() if name != OVERRIDE},
        webhook_url_override=row.config.get(OVERRIDE),
        credentials=credentials,
    )


def _credentials(nango: Service, row: ConnectionRow, *, fresh: bool) -> Credentials | None:
    """The valid credentials of a connection. Raises HttpError where they are refused."""
    if not row.has_credentials:
        return None
    try:
        return credentials_of(nango.database, nango.settings, row.integration, row.connection_id, fresh=fresh)
    except AuthenticationFailed as error:
        raise HttpError(400, "invalid_credentials", str(error)) from None
    except ApiError as error:
        raise HttpError(502, "server_error", str(error)) from None


# --- create, change and delete ----------------------------------------------------------------------------------------


@router.post(
    "/connections",
    status_code=201,
    summary="Import a connection",
    dependencies=[only()],
    openapi_extra=described(NewConnection),
)
@router.post("/connection", status_code=201, include_in_schema=False, dependencies=[only()])
def post_connection(nango: Nango, body: Annotated[NewConnection, Depends(body_of(NewConnection))]) -> WholeConnection:
    """Create or change a connection; every sync of its integration runs for a new one at once."""
    credentials = _checked(nango, body.credentials)
    row = _stored(nango, body, credentials)
    return _whole(row, {} if credentials is None else dict(shown_credentials(credentials, refresh_token=False)))


def _checked(nango: Service, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The checked credentials, marked as received over HTTP; None for none, which Nango's clients send as type NONE."""
    if given is None or given == {"type": "NONE"}:
        return None
    credentials = check_credentials(given)
    check_credential_urls(credentials, nango.reach)
    return {**credentials, OVER_HTTP: True}


def _stored(nango: Service, body: NewConnection, credentials: dict[str, Any] | None) -> ConnectionRow:
    """Create or change the connection. Raises HttpError for a name that cannot be stored."""
    config, source = _config(nango, body)
    new = connections.NewConnection(
        body.provider_config_key,
        body.connection_id or str(uuid.uuid4()),
        credentials,
        None if body.metadata is None else control.checked_object(body.metadata, "metadata"),
        config,
        source,
    )
    try:
        return control.put(nango.database, nango.settings, new)
    except Refused as error:
        raise HttpError(400, "invalid_body", str(error)) from None


def _config(nango: Service, body: NewConnection) -> tuple[dict[str, Any] | None, WebhookUrlSource]:
    """The config to store with the connection's own webhook URL, and the source of that URL.

    The config is None, and the stored one stays, where the body has neither.
    """
    has_url = "webhook_url_override" in body.model_fields_set
    if body.connection_config is None and not has_url:
        return None, "http"
    row = connections.get(nango.database, body.provider_config_key, body.connection_id or "")
    stored = {} if row is None else row.config
    config = stored if body.connection_config is None else body.connection_config
    if body.connection_config is not None and OVERRIDE in config:
        raise ConfigError(f"connection_config cannot hold {OVERRIDE}; give it beside connection_config.")
    url = _checked_url(nango, body.webhook_url_override) if has_url else stored.get(OVERRIDE)
    source = "http" if has_url or row is None else row.webhook_url_source or "http"
    rest = {name: value for name, value in config.items() if name != OVERRIDE}
    own = {} if url is None else {OVERRIDE: url}
    return control.checked_object({**rest, **own}, "connection_config"), source


def _checked_url(nango: Service, url: str | None) -> str | None:
    if url is not None:
        control.check_webhook_url({OVERRIDE: url})
        check_webhook_url(url, nango.reach)
    return url


@router.delete("/connections/{id:path}", summary="Delete a connection", dependencies=[only("provider_config_key")])
@router.delete("/connection/{id:path}", include_in_schema=False, dependencies=[only("provider_config_key")])
def delete_connection(nango: Nango, id: Id, integration: Integration) -> Success:
    """Delete a connection and everything that was stored for it."""
    try:
        control.delete(nango.database, integration, id)
    except UnknownConnection:
        raise unknown_connection(integration, id) from None
    return Success(success=True)


@router.post(
    "/connections/metadata",
    status_code=201,
    summary="Replace metadata",
    dependencies=[only()],
    openapi_extra=described(NewMetadata),
)
@router.post("/connection/metadata", status_code=201, include_in_schema=False, dependencies=[only()])
def set_metadata(nango: Nango, body: Annotated[NewMetadata, Depends(body_of(NewMetadata))]) -> dict[str, Any]:
    """Replace the metadata of connections: of all, or of none if one of them does not exist."""
    _change_metadata(nango.database, body)
    return body.model_dump()


@router.patch(
    "/connections/metadata", summary="Change metadata", dependencies=[only()], openapi_extra=described(NewMetadata)
)
@router.patch("/connection/metadata", include_in_schema=False, dependencies=[only()])
def update_metadata(nango: Nango, body: Annotated[NewMetadata, Depends(body_of(NewMetadata))]) -> dict[str, Any]:
    """Set these keys of the metadata of connections; other keys stay."""
    _change_metadata(nango.database, body, merge=True)
    return body.model_dump()


# After /connections/metadata, whose path would fit this route too.
@router.patch(
    "/connections/{id:path}",
    summary="Change a connection",
    dependencies=[only("provider_config_key")],
    openapi_extra=described(ChangedConnection),
)
@router.patch("/connection/{id:path}", include_in_schema=False, dependencies=[only("provider_config_key")])
def patch_connection(
    nango: Nango,
    id: Id,
    integration: Integration,
    body: Annotated[ChangedConnection, Depends(body_of(ChangedConnection))],
) -> Success:
    """Set or remove a connection's own URL for webhooks."""
    if connections.get(nango.database, integration, id) is None:
        raise _not_found(nango.database, integration, id)
    changes = body.model_dump(exclude_unset=True)
    _stored(nango, NewConnection(provider_config_key=integration, connection_id=id, **changes), None)
    return Success(success=True)


def _not_found(db: Database, integration: str, id: str) -> HttpError:
    """The error for a connection that does not exist. Raises HttpError where the integration does not exist either."""
    syncs_of(db, integration)
    return HttpError(404, "not_found", str(unknown_connection(integration, id)))


def _change_metadata(db: Database, body: NewMetadata, *, merge: bool = False) -> None:
    """Change the metadata of all connections of the body. Raises HttpError where one of them does not exist."""
    metadata = control.checked_object(body.metadata, "metadata")
    names = [body.connection_id] if isinstance(body.connection_id, str) else list(dict.fromkeys(body.connection_id))
    for name in names:
        if connections.get(db, body.provider_config_key, name) is None:
            raise unknown_connection(body.provider_config_key, name, 404)
    try:
        control.set_metadata(db, body.provider_config_key, names, metadata, merge=merge)
    except UnknownConnection as error:  # it was deleted in the meantime
        raise HttpError(404, "unknown_connection", str(error)) from None
