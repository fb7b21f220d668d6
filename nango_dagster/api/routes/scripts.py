"""`GET /scripts/config`: which syncs each integration has, as Nango's client asks for them."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from ...store import syncs
from ...store.sync_row import SyncRow
from ..answers import Functions, ShownScript, ShownScripts
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import only
from ..service import Nango

router = APIRouter(tags=["integrations"], responses=ERRORS)
_DEPLOY = (
    "scripts are not deployed to this server: it reads them from their folder. Put the project at NANGO_SCRIPTS (by "
    "default ./nango-integrations) of the server, and run: nango-dagster validate"
)


@router.get("/scripts/config", summary="List syncs by integration", dependencies=[only("format")])
def scripts_config(
    nango: Nango, format: Annotated[Literal["nango", "openai"], Query()] = "nango"
) -> list[ShownScripts] | Functions:
    """Which syncs each integration has, and how they are set."""
    if format == "openai":
        return Functions()
    rows = sorted(syncs.all(nango.database), key=lambda row: (row.integration, row.name))
    known = groupby((row for row in rows if row.origin != "asset"), key=lambda row: row.integration)
    return [
        ShownScripts(providerConfigKey=integration, provider=integration, syncs=[_shown(row) for row in those])
        for integration, those in known
    ]


def _shown(row: SyncRow) -> ShownScript:
    sync = row.sync
    return ShownScript(
        id=row.id,
        name=row.name,
        runs=sync.schedule_text,
        auto_start=sync.auto_start,
        enabled=sync.enabled,
        track_deletes=sync.track_deletes is not None,
        sync_type=sync.sync_type,
        returns=[sync.model],
    )


@router.post("/sync/deploy", summary="Refuse to deploy scripts", status_code=400)
@router.post("/sync/deploy/confirmation", summary="Refuse to confirm a deployment", status_code=400)
def refuse_deployment() -> None:
    """Tell Nango's command line how scripts get here. Always an error, `not_deployed`."""
    raise HttpError(400, "not_deployed", _DEPLOY)
