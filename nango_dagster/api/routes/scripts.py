"""`GET /scripts/config`: which syncs each integration has, as Nango's client asks for them."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from ...store import status, syncs
from ...store.syncs import SyncRow
from ..docs.openapi import ERRORS
from ..input.models import only
from ..service import Nango

router = APIRouter(prefix="/scripts", tags=["integrations"], responses=ERRORS)


class ShownScript(BaseModel):
    """A sync, as its integration's list has it."""

    id: int
    name: str
    type: Literal["sync"] = "sync"
    runs: str = Field(description="Its frequency.", examples=["every hour"])
    auto_start: bool
    enabled: bool
    track_deletes: bool
    sync_type: Literal["full", "incremental"] = Field(description="`incremental` where it asks for what is new.")
    returns: list[str] = Field(description="Its model.", examples=[["GithubIssue"]])
    endpoints: list[Any] = Field([], description="There are none.")
    json_schema: None = None
    sdk_version: None = None
    features: list[Any] = Field([], description="There are none.")


class ShownScripts(BaseModel):
    """The syncs of an integration."""

    model_config = ConfigDict(serialize_by_alias=True)

    providerConfigKey: str
    provider: str
    syncs: list[ShownScript]
    actions: list[Any] = Field([], description="There are none.")
    on_events: list[Any] = Field([], serialization_alias="on-events", description="There are none.")


class Functions(BaseModel):
    """What Nango offers to a language model: actions, of which there are none."""

    data: list[Any] = []


@router.get("/config", summary="List syncs by integration", dependencies=[only("format")])
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
        runs=status.frequency_of(sync),
        auto_start=sync.auto_start,
        enabled=sync.enabled,
        track_deletes=sync.track_deletes is not None,
        sync_type=sync.sync_type,
        returns=[sync.model],
    )
