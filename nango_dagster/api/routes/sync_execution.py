"""`/sync/...`: trigger, start, pause and cancel syncs, give them another frequency, make and delete variants."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from ...config.source import quoted
from ...control import connections as connecting
from ...control.syncs import check_may_run
from ...errors import NangoError, StoreUnavailable
from ...partition_keys import BASE
from ...sentences import suggestion
from ...store import queue, status, syncs
from ...store.syncs import SyncRow
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import Strict, body_of, described, only
from ..input.selection import Key, Named, Syncs, account_of, header_text, meant
from ..service import Nango, Service

MOST_VARIANTS = 100
"""Of a sync for one connection, the base among them."""

router = APIRouter(prefix="/sync", tags=["sync execution"], responses=ERRORS)
_Text = AfterValidator(lambda text: text and header_text(text))
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]+$", max_length=255)]


class Opts(Strict):
    """How a triggered execution begins."""

    reset: bool = Field(False, description="Forget how far earlier executions came; one that runs is cancelled.")
    emptyCache: bool = Field(False, description="With `reset`: delete the records before that.")


class Whom(Strict):
    """Which syncs are meant."""

    provider_config_key: Key = Field(description="The integration.")
    connection_id: Key | None = Field(None, description="Without it, all connections are meant.")
    syncs: Syncs


def _no_more_than_named(value: Any) -> Any:
    """As Nango has it, a trigger's objects of name and variant may hold more; start and pause are strict."""
    if not isinstance(value, list):
        return value
    return [
        {key: one[key] for key in one if key in Named.model_fields} if isinstance(one, dict) else one for one in value
    ]


class Trigger(Strict):
    """Which syncs shall run now, and how."""

    provider_config_key: Key | None = Field(None, description="The integration; may be a header instead.")
    connection_id: Key | None = Field(None, description="Without it, all connections are meant.")
    syncs: Annotated[Syncs, BeforeValidator(_no_more_than_named)]
    opts: Opts | None = None
    full_resync: bool | None = Field(None, description="The older name of `opts.reset`.")
    sync_mode: Literal["incremental", "full_refresh", "full_refresh_and_clear_cache"] | None = Field(
        None, description="The older way to say `opts`."
    )


def _with_unit(text: str) -> str:
    """A frequency without blanks around it. Not a bare number: Nango has no unit that it could be of."""
    if not any(map(str.isalpha, text)):
        raise ValueError('name a unit, as "every 15 minutes" does')
    return text.strip()


class Frequency(Strict):
    """Another frequency for a connection."""

    provider_config_key: Key
    connection_id: Key
    sync_name: Key
    sync_variant: Key = BASE
    frequency: Annotated[Key, AfterValidator(_with_unit)] | None = Field(
        examples=["every 30 minutes"], description="null for that of the sync again."
    )


class Active(BaseModel):
    """The frequency from now on."""

    frequency: str = Field(examples=["every 30 minutes"])


class Account(Strict):
    """A connection."""

    provider_config_key: Key
    connection_id: Key


class Variant(BaseModel):
    """A variant that was made."""

    id: str
    name: str
    variant: str


# --- execution ------------------------------------------------------------------------------------------------------


@router.post("/trigger", summary="Trigger syncs", dependencies=[only()], openapi_extra=described(Trigger))
def trigger(
    nango: Nango,
    body: Annotated[Trigger, Depends(body_of(Trigger))],
    provider_config_key: Annotated[str | None, Header(alias="provider-config-key"), _Text] = None,
    connection_id: Annotated[str | None, Header(alias="connection-id"), _Text] = None,
) -> Response:
    """Run syncs now, also while they are paused; answers at once, with an empty body.

    What is being executed right now is left alone, except by `opts.reset`, which has it begin again.
    """
    integration = body.provider_config_key or provider_config_key
    if integration is None:
        raise HttpError(400, "missing_provider_config_key", "provider_config_key is missing; wanted an integration.")
    opts = _opts(body)
    db, empty = nango.database, opts.reset and opts.emptyCache
    for one in meant(db, integration, body.syncs, body.connection_id or connection_id, to_run=True):
        queue.trigger(db, *one.names, reset=opts.reset, empty_cache=empty)
    return Response()


def _opts(body: Trigger) -> Opts:
    if body.full_resync is None and body.sync_mode is None:
        return body.opts or Opts()
    if body.opts is not None:
        raise HttpError(400, "invalid_body", "Cannot use opts with deprecated sync_mode/full_resync parameters")
    reset = bool(body.full_resync) or (body.sync_mode or "incremental") != "incremental"
    return Opts(reset=reset, emptyCache=body.sync_mode == "full_refresh_and_clear_cache")


@router.post("/start", summary="Start syncs", dependencies=[only()], openapi_extra=described(Whom))
def start(nango: Nango, body: Annotated[Whom, Depends(body_of(Whom))]) -> Response:
    """Let syncs run at their times; what was paused runs at once. Answers with an empty body."""
    db = nango.database
    for one in meant(db, body.provider_config_key, body.syncs, body.connection_id, to_run=True):
        queue.set_state(db, one.row.id, "STARTED", one.connection_id, one.variant)
    return Response()


@router.post("/pause", summary="Pause syncs", dependencies=[only()], openapi_extra=described(Whom))
def pause(nango: Nango, body: Annotated[Whom, Depends(body_of(Whom))]) -> Response:
    """Let syncs run at their times no more; what is being executed goes on to its end. Answers with an empty body."""
    db = nango.database
    for one in meant(db, body.provider_config_key, body.syncs, body.connection_id):
        queue.set_state(db, one.row.id, "PAUSED", one.connection_id, one.variant)
    return Response()


@router.post("/cancel", summary="Cancel executions", dependencies=[only()], openapi_extra=described(Whom))
def cancel(nango: Nango, body: Annotated[Whom, Depends(body_of(Whom))]) -> Response:
    """Stop what is being executed at its next page, and drop what was asked for. Answers with an empty body."""
    db = nango.database
    for one in meant(db, body.provider_config_key, body.syncs, body.connection_id):
        queue.cancel(db, *one.names)
    return Response()


@router.put("/update-connection-frequency", dependencies=[only()], openapi_extra=described(Frequency))
def update_connection_frequency(nango: Nango, body: Annotated[Frequency, Depends(body_of(Frequency))]) -> Active:
    """Give a sync another frequency for one connection."""
    row = _sync(nango, body.provider_config_key, body.connection_id, body.sync_name)
    check_may_run(row)
    if queue.set_frequency(nango.database, row.id, body.connection_id, body.sync_variant, body.frequency) == 0:
        sentence = f"{row.name} does not run for {body.connection_id} as variant {quoted(body.sync_variant)}."
        raise HttpError(400, "unknown_sync", sentence)
    return Active(frequency=body.frequency or status.frequency_of(row.sync))


def _sync(nango: Service, integration: str, connection_id: str, name: str) -> SyncRow:
    """The sync of this name for a connection; HttpError says which of them there is not."""
    rows = _rows(nango, integration, connection_id)
    for row in rows:
        if row.name == name:
            return row
    sentence = f"{integration} has no sync {quoted(name)}; {suggestion(name, [row.name for row in rows])}"
    raise HttpError(400, "unknown_sync", sentence)


def _rows(nango: Service, integration: str, connection_id: str) -> list[SyncRow]:
    """The syncs of a connection's integration. Raises HttpError where there is no such connection."""
    rows = syncs.of_integration(nango.database, integration)
    account_of(nango.database, rows, integration, connection_id)
    return rows


# --- variants -------------------------------------------------------------------------------------------------------


@router.post(
    "/{name}/variant/{variant}", summary="Create a variant", dependencies=[only()], openapi_extra=described(Account)
)
def create_variant(
    nango: Nango, name: Name, variant: Name, body: Annotated[Account, Depends(body_of(Account))]
) -> Variant:
    """Have a sync run once more for a connection, with records and a schedule of its own; its first run is due now."""
    if variant.lower() == BASE:
        raise HttpError(400, "invalid_variant", f'Variant name "{variant}" is protected.')
    row = _sync(nango, body.provider_config_key, body.connection_id, name)
    there = [one.variant for one in status.read(nango.database, [row], body.connection_id)]
    if variant in there:
        sentence = f"{name} has the variant {quoted(variant)} for {body.connection_id} already."
        raise HttpError(400, "sync_variant_already_exists", sentence)
    if len(there) >= MOST_VARIANTS:
        raise HttpError(
            400, "resource_capped", f"{name} has {len(there)} variants for {body.connection_id}, the most there may be."
        )
    try:
        connecting.add_variant(nango.database, row, body.connection_id, variant)
    except StoreUnavailable:
        raise
    except NangoError as error:
        raise HttpError(400, "failed_sync_variant_creation", str(error)) from None
    (made,) = status.read(nango.database, [row], body.connection_id, variant)
    return Variant(id=id_of(made), name=name, variant=variant)


@router.delete(
    "/{name}/variant/{variant}", summary="Delete a variant", dependencies=[only()], openapi_extra=described(Account)
)
def delete_variant(
    nango: Nango, name: Name, variant: Name, body: Annotated[Account, Depends(body_of(Account))]
) -> Response:
    """Delete a variant with all records of it. Answers with an empty body."""
    if variant.lower() == BASE:
        raise HttpError(400, "invalid_variant", f'Cannot delete protected variant "{variant}".')
    rows = _rows(nango, body.provider_config_key, body.connection_id)
    row = next((row for row in rows if row.name == name), None)
    if row is None or not status.read(nango.database, [row], body.connection_id, variant):
        sentence = f"{body.connection_id} has no variant {quoted(variant)} of a sync {quoted(name)}."
        raise HttpError(404, "not_found", sentence)
    connecting.remove_variant(nango.database, row, body.connection_id, variant)
    return Response()


def id_of(one: status.Status) -> str:
    """How Nango's routes call a sync for one connection and variant."""
    return f"sync_{one.id}"
