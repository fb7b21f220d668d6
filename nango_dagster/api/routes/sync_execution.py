"""`/sync/...`: trigger, start, pause and cancel syncs, and change their frequency."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Response
from pydantic import AfterValidator, BeforeValidator, Field

from ...config.source import quoted
from ...control import syncs
from ...control.selection import Selection, check_may_run
from ...partition_keys import BASE
from ..answers import Active
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import Strict, body_of, described, only
from ..input.selection import Key, NamedSync, Syncs, header_text, select, sync_of_connection
from ..service import Nango

router = APIRouter(prefix="/sync", tags=["sync execution"], responses=ERRORS)
_Text = AfterValidator(lambda text: text and header_text(text))


class Opts(Strict):
    """Options of a trigger."""

    reset: bool = Field(False, description="Forget how far earlier executions came; one that runs is cancelled.")
    emptyCache: bool = Field(False, description="With `reset`: delete the records before that.")


class SelectedSyncs(Strict):
    """The syncs that an operation is about."""

    provider_config_key: Key = Field(description="The integration.")
    connection_id: Key | None = Field(None, description="Without it, all connections are meant.")
    syncs: Syncs


def _drop_other_fields(value: Any) -> Any:
    """As in Nango, a trigger's objects of name and variant may hold more fields; start and pause are strict."""
    if not isinstance(value, list):
        return value
    return [
        {key: item[key] for key in item if key in NamedSync.model_fields} if isinstance(item, dict) else item
        for item in value
    ]


class Trigger(Strict):
    """The syncs that shall run now, and how they begin."""

    provider_config_key: Key | None = Field(None, description="The integration; may be a header instead.")
    connection_id: Key | None = Field(None, description="Without it, all connections are meant.")
    syncs: Annotated[Syncs, BeforeValidator(_drop_other_fields)]
    opts: Opts | None = None
    full_resync: bool | None = Field(None, description="The older name of `opts.reset`.")
    sync_mode: Literal["incremental", "full_refresh", "full_refresh_and_clear_cache"] | None = Field(
        None, description="The older way to say `opts`."
    )


def _with_unit(text: str) -> str:
    """Refuse a bare number, which has no unit in Nango either, and strip blanks."""
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


@router.post("/trigger", summary="Trigger syncs", dependencies=[only()], openapi_extra=described(Trigger))
def trigger(
    nango: Nango,
    body: Annotated[Trigger, Depends(body_of(Trigger))],
    provider_config_key: Annotated[str | None, Header(alias="provider-config-key"), _Text] = None,
    connection_id: Annotated[str | None, Header(alias="connection-id"), _Text] = None,
) -> Response:
    """Run syncs now, also while they are paused; answers at once, with an empty body.

    A running execution is left alone, except by `opts.reset`, which has it begin again.
    """
    integration = body.provider_config_key or provider_config_key
    if integration is None:
        raise HttpError(400, "missing_provider_config_key", "provider_config_key is missing; wanted an integration.")
    opts = _opts(body)
    connection = body.connection_id or connection_id
    for selection in select(nango.database, integration, body.syncs, connection, runnable=True):
        syncs.trigger(selection, reset=opts.reset, empty_cache=opts.reset and opts.emptyCache)
    return Response()


def _opts(body: Trigger) -> Opts:
    if body.full_resync is None and body.sync_mode is None:
        return body.opts or Opts()
    if body.opts is not None:
        raise HttpError(400, "invalid_body", "Cannot use opts with deprecated sync_mode/full_resync parameters")
    reset = bool(body.full_resync) or (body.sync_mode or "incremental") != "incremental"
    return Opts(reset=reset, emptyCache=body.sync_mode == "full_refresh_and_clear_cache")


@router.post("/start", summary="Start syncs", dependencies=[only()], openapi_extra=described(SelectedSyncs))
def start(nango: Nango, body: Annotated[SelectedSyncs, Depends(body_of(SelectedSyncs))]) -> Response:
    """Let syncs run at their times; paused ones run at once. Answers with an empty body."""
    for selection in select(nango.database, body.provider_config_key, body.syncs, body.connection_id, runnable=True):
        syncs.start(selection)
    return Response()


@router.post("/pause", summary="Pause syncs", dependencies=[only()], openapi_extra=described(SelectedSyncs))
def pause(nango: Nango, body: Annotated[SelectedSyncs, Depends(body_of(SelectedSyncs))]) -> Response:
    """Stop syncs from running at their times; a running execution goes on to its end. Answers with an empty body."""
    for selection in select(nango.database, body.provider_config_key, body.syncs, body.connection_id):
        syncs.pause(selection)
    return Response()


@router.post("/cancel", summary="Cancel executions", dependencies=[only()], openapi_extra=described(SelectedSyncs))
def cancel(nango: Nango, body: Annotated[SelectedSyncs, Depends(body_of(SelectedSyncs))]) -> Response:
    """Stop running executions at their next page, and drop requests that wait. Answers with an empty body."""
    for selection in select(nango.database, body.provider_config_key, body.syncs, body.connection_id):
        syncs.cancel(selection)
    return Response()


@router.put("/update-connection-frequency", dependencies=[only()], openapi_extra=described(Frequency))
def update_connection_frequency(nango: Nango, body: Annotated[Frequency, Depends(body_of(Frequency))]) -> Active:
    """Give a sync another frequency for one connection."""
    row = sync_of_connection(nango.database, body.provider_config_key, body.connection_id, body.sync_name)
    check_may_run(row)
    selection = Selection(nango.database, row, body.connection_id, body.sync_variant)
    if not selection.statuses:
        sentence = f"{row.name} does not run for {body.connection_id} as variant {quoted(body.sync_variant)}."
        raise HttpError(400, "unknown_sync", sentence)
    syncs.set_frequency(selection, body.frequency)
    return Active(frequency=body.frequency or row.sync.schedule_text)
