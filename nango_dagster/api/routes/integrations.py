"""`GET /integrations`: the APIs that syncs and connections belong to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from ...config.source import quoted
from ...sentences import suggestion
from ...store import integrations
from ...store.integrations import Integration
from ..answers import IntegrationList, OneIntegration, ShownIntegration, iso
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import only
from ..service import Nango

router = APIRouter(tags=["integrations"], responses=ERRORS)


@router.get("/integrations", summary="List integrations", dependencies=[only()])
def list_integrations(nango: Nango) -> IntegrationList:
    """The integrations of files, syncs and connections; `default` is that of syncs without one."""
    return IntegrationList(data=[_shown(integration) for integration in integrations.list_integrations(nango.database)])


@router.get(
    "/integrations/{key}", summary="Look at an integration", dependencies=[only("include", repeatable="include")]
)
def get_integration(
    nango: Nango,
    key: Annotated[str, Path(min_length=1, max_length=255)],
    include: Annotated[list[str] | None, Query(description="Nothing more is kept here.")] = None,
) -> OneIntegration:
    """One integration."""
    matches = [] if "\0" in key else integrations.list_integrations(nango.database, key)
    if not matches:
        known = [integration.name for integration in integrations.list_integrations(nango.database)]
        raise HttpError(404, "not_found", f"there is no integration {quoted(key)}; {suggestion(key, known)}")
    return OneIntegration(data=_shown(matches[0]))


def _shown(integration: Integration) -> ShownIntegration:
    return ShownIntegration(
        unique_key=integration.name,
        display_name=integration.display_name or integration.name,
        provider=integration.provider or integration.name,
        base_url=integration.base_url,
        created_at=iso(integration.created_at) or "",
        updated_at=iso(integration.updated_at) or "",
    )
