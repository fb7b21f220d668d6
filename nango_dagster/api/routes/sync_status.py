"""`GET /sync/status`: how syncs are doing, connection by connection; no record is counted for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
    summary="Look at syncs",
    response_model=StatusList,
    dependencies=[only("provider_config_key", "syncs", "connection_id")],
)
def sync_status(
    nango: Nango,
    provider_config_key: Annotated[str, Query(min_length=1, max_length=255)],
    syncs: Annotated[str, Query(description="Names and `name::variant`, separated by commas; `*` for all.")],
    connection_id: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
) -> Response:
    """How syncs are doing, for one connection or for all. Names that there are not are left out."""
    found = _found(nango, provider_config_key, syncs, connection_id)
    return Response(msgspec.json.encode({"syncs": [shown(one) for one in found]}), media_type="application/json")


def _found(nango: Service, integration: str, names: str, connection_id: str | None) -> Iterator[Status]:
    db = nango.database
    rows = syncs.of_integration(db, integration)
    if connection_id is not None:
        try:
            check_connection(db, rows, integration, connection_id)
        except HttpError as unknown:
            raise HttpError(400, "invalid_body", f"Connection not found: {unknown}") from None
    wanted = None if names == "*" else [SyncName.parse(name) for name in names.split(",")]
    those = rows if wanted is None else [row for row in rows if any(one.name == row.name for one in wanted)]
    return (one for one in status.read(db, those, connection_id) if _is_among(one, wanted))


def _is_among(one: Status, wanted: Sequence[SyncName] | None) -> bool:
    return wanted is None or any((each.name, each.variant) == (one.row.name, one.variant) for each in wanted)


def shown(one: Status) -> dict[str, Any]:
    """What Nango's client reads of it."""
    return {
        "id": sync_id(one),
        "connection_id": one.connection_id,
        "name": one.row.name,
        "variant": one.variant,
        "type": "INITIAL" if _is_first(one) else "INCREMENTAL",
        "status": one.state,
        "frequency": one.frequency,
        "nextScheduledSyncAt": iso(one.next_run_at),
        "recordCount": {one.row.sync.model: one.live_count},
        "checkpoint": json.loads(one.checkpoint) if one.checkpoint else None,
        **_last(one.job),
    }


def _is_first(one: Status) -> bool:
    return one.job is None or (one.job.status != "succeeded" and one.live_count == 0)


def _last(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"latestResult": {}}
    result = {"added": job.added, "updated": job.updated, "deleted": job.deleted}
    status = {"running": "RUNNING", "succeeded": "SUCCESS"}.get(job.status, "STOPPED")
    ended = {} if job.ended_at is None else {"finishedAt": iso(job.ended_at)}
    return {"latestResult": {job.model: result}, "latestExecutionStatus": status, **ended}
