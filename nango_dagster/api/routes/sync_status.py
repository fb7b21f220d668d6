"""`GET /sync/status`: the state of each sync for each connection, without counting records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Response

from ...control.selection import SyncName
from ...store import status, syncs
from ...store.jobs import Job
from ...store.status import Status
from ..answers import StatusList, iso, sync_id
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import only
from ..input.selection import check_connection
from ..service import Nango, Service

router = APIRouter(prefix="/sync", tags=["sync execution"], responses=ERRORS)


@router.get(
    "/status",
    summary="Get the status of syncs",
    response_model=StatusList,
    dependencies=[only("provider_config_key", "syncs", "connection_id")],
)
def sync_status(
    nango: Nango,
    provider_config_key: Annotated[str, Query(min_length=1, max_length=255)],
    syncs: Annotated[str, Query(description="Names and `name::variant`, separated by commas; `*` for all.")],
    connection_id: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
) -> Response:
    """The state of syncs, for one connection or for all. Unknown names are left out."""
    statuses = _statuses(nango, provider_config_key, syncs, connection_id)
    return Response(msgspec.json.encode({"syncs": [*map(sync_status_json, statuses)]}), media_type="application/json")


def _statuses(nango: Service, integration: str, names: str, connection_id: str | None) -> Iterable[Status]:
    db = nango.database
    rows = syncs.of_integration(db, integration)
    if connection_id is not None:
        try:
            check_connection(db, rows, integration, connection_id)
        except HttpError as error:
            raise HttpError(400, "invalid_body", f"Connection not found: {error}") from None
    if names == "*":
        return status.read(db, rows, connection_id)
    selected = {(name.name, name.variant) for name in map(SyncName.parse, names.split(","))}
    sync_names = {name for name, _ in selected}
    statuses = status.read(db, [row for row in rows if row.name in sync_names], connection_id)
    return (status for status in statuses if (status.row.name, status.variant) in selected)


def sync_status_json(status: Status) -> dict[str, Any]:
    """The status in the shape that Nango's client reads."""
    return {
        "id": sync_id(status),
        "connection_id": status.connection_id,
        "name": status.row.name,
        "variant": status.variant,
        "type": "INITIAL" if _is_first(status) else "INCREMENTAL",
        "status": status.state,
        "frequency": status.frequency,
        "nextScheduledSyncAt": iso(status.next_run_at),
        "recordCount": {status.row.sync.model: status.live_count},
        "checkpoint": json.loads(status.checkpoint) if status.checkpoint else None,
        **_last(status.job),
    }


def _is_first(status: Status) -> bool:
    return status.job is None or (status.job.status != "succeeded" and status.live_count == 0)


def _last(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"latestResult": {}}
    result = {"added": job.added, "updated": job.updated, "deleted": job.deleted}
    status = {"running": "RUNNING", "succeeded": "SUCCESS"}.get(job.status, "STOPPED")
    ended = {} if job.ended_at is None else {"finishedAt": iso(job.ended_at)}
    return {"latestResult": {job.model: result}, "latestExecutionStatus": status, **ended}
