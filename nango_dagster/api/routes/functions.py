"""`/integrations/{key}/functions`: an integration's syncs, as the newest client of Nango asks for functions.

There are syncs alone, no actions and no event functions; the code of a sync is its config.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from ...config.source import quoted
from ...sentences import suggestion
from ...store.sync_row import SyncRow
from ..answers import DeployedFunction, FunctionCode, FunctionList, OneFunction, Pagination, iso
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import Digits, only
from ..input.secrets import starred
from ..input.selection import syncs_of
from ..service import Nango, Service

Key = Annotated[str, Path(min_length=1, max_length=255)]
Name = Annotated[str, Path(min_length=1, max_length=255)]
Type = Annotated[Literal["sync", "action", "on-event"] | None, Query(description="Only of this type.")]

router = APIRouter(prefix="/integrations/{key}/functions", tags=["integrations"], responses=ERRORS)


@router.get("", summary="List functions", dependencies=[only("type", "search", "page", "limit")])
def list_functions(
    nango: Nango,
    key: Key,
    type: Type = None,
    search: Annotated[str | None, Query(min_length=1, max_length=255, description="A part of the name.")] = None,
    page: Annotated[int, Query(ge=0, le=2**31), Digits] = 0,
    limit: Annotated[int, Query(ge=1, le=100), Digits] = 20,
) -> FunctionList:
    """The syncs of an integration."""
    rows = [row for row in _rows(nango, key, type) if search is None or search.lower() in row.name.lower()]
    data = [_function(row) for row in rows[page * limit : (page + 1) * limit]]
    return FunctionList(data=data, pagination=Pagination(total=len(rows), page=page, limit=limit))


@router.get("/{name}", summary="Look at a function", dependencies=[only("type")])
def get_function(nango: Nango, key: Key, name: Name, type: Type = None) -> OneFunction:
    """A sync of an integration."""
    return OneFunction(data=_function(_row(nango, key, name, type)))


@router.get("/{name}/code", summary="Look at a function's code", dependencies=[only("type")])
def get_function_code(nango: Nango, key: Key, name: Name, type: Type = None) -> FunctionCode:
    """The config of a sync. Secrets read `***`."""
    config = starred(_row(nango, key, name, type).sync)
    return FunctionCode(code=json.dumps(config, indent=2, ensure_ascii=False))


def _rows(nango: Service, key: str, type: str | None) -> list[SyncRow]:
    """The syncs of an integration, by name. Raises HttpError when there is no such integration."""
    try:
        rows = [] if "\0" in key else syncs_of(nango.database, key)
    except HttpError as unknown:
        raise HttpError(404, "not_found", str(unknown)) from None
    return sorted((row for row in rows if row.origin != "asset" and type in (None, "sync")), key=lambda row: row.name)


def _row(nango: Service, key: str, name: str, type: str | None) -> SyncRow:
    rows = _rows(nango, key, type)
    for row in rows:
        if row.name == name:
            return row
    names = [row.name for row in rows]
    raise HttpError(404, "not_found", f"{key} has no function {quoted(name)}; {suggestion(name, names)}")


def _function(row: SyncRow) -> DeployedFunction:
    return DeployedFunction(
        id=row.id,
        name=row.name,
        enabled=row.sync.enabled,
        last_deployed=iso(row.updated_at) or "",
        returns=[row.sync.model],
        runs=row.sync.schedule_text,
        auto_start=row.sync.auto_start,
        track_deletes=row.sync.track_deletes is not None,
    )
