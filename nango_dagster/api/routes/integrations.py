"""`GET /integrations`: the APIs that syncs and connections belong to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ...config.source import quoted
from ...sentences import suggestion
from ...store import integrations
from ...store.integrations import Integration
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import only
from ..service import Nango
from .sync_status import iso

router = APIRouter(tags=["integrations"], responses=ERRORS)


class ShownIntegration(BaseModel):
    """An integration; it is there as long as a sync or a connection names it."""

    unique_key: str = Field(examples=["github"])
    display_name: str = Field(description="The same.")
    provider: str = Field(description="The same.")
    logo: str = Field("", description="There is none.")
    forward_webhooks: bool = False
    created_at: str
    updated_at: str


class IntegrationList(BaseModel):
    """Integrations in the order of their names."""

    data: list[ShownIntegration]


class OneIntegration(BaseModel):
    """An integration."""

    data: ShownIntegration


@router.get("/integrations", summary="List integrations", dependencies=[only()])
def list_integrations(nango: Nango) -> IntegrationList:
    """The integrations that syncs and connections name; that of syncs without one is `default`."""
    return IntegrationList(data=[_shown(one) for one in integrations.list_integrations(nango.database)])


@router.get("/integrations/{key}", summary="Look at an integration", dependencies=[only("include", often="include")])
def get_integration(
    nango: Nango,
    key: Annotated[str, Path(min_length=1, max_length=255)],
    include: Annotated[list[str] | None, Query(description="Nothing more is kept here.")] = None,
) -> OneIntegration:
    """One integration."""
    found = [] if "\0" in key else integrations.list_integrations(nango.database, key)
    if not found:
        known = [one.name for one in integrations.list_integrations(nango.database)]
        raise HttpError(404, "not_found", f"there is no integration {quoted(key)}; {suggestion(key, known)}")
    return OneIntegration(data=_shown(found[0]))


def _shown(one: Integration) -> ShownIntegration:
    return ShownIntegration(
        unique_key=one.name,
        display_name=one.name,
        provider=one.name,
        created_at=iso(one.created_at) or "",
        updated_at=iso(one.updated_at) or "",
    )
