"""`/v1/syncs`: post a sync, look at it, change it, delete it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from ...config import Sync, from_body
from ...config.source import quoted
from ...control import syncs as control
from ...control.report import Report
from ...control.selection import Selection, select
from ...errors import ConfigError, Problem, Refused
from ...http import public_url
from ...store import Database, queue, syncs
from ...store.sync_row import SyncRow
from ..answers import Performed, ShownSync, StoredSync, SyncList
from ..docs.openapi import ERRORS, SYNC_BODY
from ..errors import HttpError
from ..input.addresses import check_addresses
from ..input.bodies import Body
from ..input.models import Digits, Strict, body_of, described, only
from ..input.secrets import unstarred
from ..service import Nango, Service
from .sync_answers import listed, shown

log = logging.getLogger(__name__)


router = APIRouter(prefix="/v1/syncs", tags=["syncs"], responses=ERRORS)
SyncId = Annotated[int, Path(alias="id", ge=1, le=2**63 - 1), Digits]


@router.post("", summary="Add a sync", dependencies=[only()], openapi_extra=SYNC_BODY)
def post_sync(body: Body, nango: Nango) -> StoredSync:
    """Keep a sync and run it at once; it gets its own asset in Dagster soon after.

    A body with a `name` is known by it: the same name again changes that sync, which keeps its id. Without a name,
    the same body again is the same sync, and any other body is a new one.
    """
    sync = _sync(unstarred(body), nango)
    named = body.get("name") is not None
    return _kept(nango, lambda db: syncs.post(db, sync, named=named))


class Action(Strict):
    """A sync and the operation on it."""

    sync_id: int = Field(ge=1, le=2**63 - 1)
    action: Literal["pause", "resume", "cancel", "trigger"]


_ACTIONS: Mapping[str, Callable[[Selection], Report]] = {
    "pause": control.pause,
    "resume": control.start,
    "cancel": control.cancel,
    "trigger": control.trigger,
}


@router.put("", summary="Steer a sync", dependencies=[only()], openapi_extra=described(Action))
def steer_sync(nango: Nango, body: Annotated[Action, Depends(body_of(Action))]) -> Performed:
    """Pause, resume, cancel or trigger a sync, for all connections where it has some; answers at once."""
    row = _row(nango.database, body.sync_id)
    _ACTIONS[body.action](select(nango.database, row))
    return Performed(message=f"Successfully performed action '{body.action}' on Sync {body.sync_id}")


@router.get("", summary="List syncs", dependencies=[only("name", "url", "friendly_name", "metadata")])
def list_syncs(
    nango: Nango,
    name: Annotated[str | None, Query(description="Only the sync of this name.")] = None,
    url: Annotated[str | None, Query(description="Only syncs of exactly this URL.")] = None,
    friendly_name: Annotated[str | None, Query(description="Only syncs of this friendly name.")] = None,
    metadata: Annotated[
        str | None, Query(description="A JSON object; only syncs whose metadata holds all of it.")
    ] = None,
) -> SyncList:
    """All syncs, or those that fit: for example to see whether there is one already before posting another."""
    wanted = _object(metadata)
    rows = [
        row
        for row in syncs.all(nango.database)
        if name in (None, row.name)
        and url in (None, row.sync.address, public_url(row.sync.address))
        and friendly_name in (None, row.sync.friendly_name)
        and _holds(row.sync.metadata, wanted)
    ]
    return SyncList(syncs=listed(nango.database, rows))


@router.get("/{id}", summary="Look at a sync", dependencies=[only()])
def get_sync(id: SyncId, nango: Nango) -> ShownSync:
    """A sync with its config and its last job. Secrets read `***`."""
    return shown(nango.database, _row(nango.database, id))


@router.put("/{id}", summary="Change a sync", dependencies=[only()], openapi_extra=SYNC_BODY)
def put_sync(id: SyncId, body: Body, nango: Nango) -> StoredSync:
    """Give a sync another config and run it at once; its id, its name and its rows stay.

    Where the body has `***` for a secret, as the config that was shown has, the secret stays as it is.
    """
    row = _row(nango.database, id)
    sync = _sync(unstarred(body, row.sync), nango)
    if body.get("name") not in (None, row.name):
        sentence = f"name is {quoted(sync.name)}, but sync {id} is called {row.name}, and keeps its name; leave it out."
        raise ConfigError.of(Problem(sentence, field="name"))
    return _kept(nango, lambda db: syncs.replace(db, id, sync) or _missing(id))


@router.delete("/{id}", summary="Delete a sync", dependencies=[only()])
def delete_sync(id: SyncId, nango: Nango) -> StoredSync:
    """Delete a sync with all that it stored: records, rows of its table, jobs."""
    row = _row(nango.database, id)
    if row.origin == "file":
        raise Refused(f"{row.name} is a sync of a config file; remove it there.")
    if not syncs.delete(nango.database, id):
        _missing(id)
    nango.changed()
    return StoredSync(sync_id=id, name=row.name, message=f"Sync {id} and its rows were deleted.")


def _sync(body: dict[str, Any], nango: Service) -> Sync:
    sync = from_body(body)
    check_addresses(sync, nango.reach)
    return sync


def _kept(nango: Service, keep: Callable[[Database], SyncRow]) -> StoredSync:
    """Keep a sync; if that changed anything, have it run now and be known everywhere."""
    db = nango.database
    with db.connect() as connection:
        before = db.now(connection)
    row = keep(db)
    if row.updated_at < before:
        return StoredSync(sync_id=row.id, name=row.name, message=f"Sync {row.id} is the same as before.")
    done = "created" if row.created_at >= before else "changed"
    if row.sync.enabled:
        queue.trigger(db, row.id)
    due = "its next run is due now" if row.sync.enabled else "it is not enabled, so nothing runs"
    nango.changed()
    return StoredSync(sync_id=row.id, name=row.name, message=f"Sync {row.id} was {done}; {due}.")


def _row(db: Database, id: int) -> SyncRow:
    return syncs.get(db, id) or _missing(id)


def _missing(id: int) -> Any:
    raise HttpError(404, "not_found", f"there is no sync {id}; GET /v1/syncs lists those there are.")


def _object(text: str | None) -> dict[str, Any]:
    """The JSON object in a query parameter."""
    try:
        value = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        problem = Problem('metadata is no JSON object; wanted one such as {"company_id": 123}.', field="metadata")
        raise HttpError(400, "invalid_query_params", problem.sentence, [problem])
    return value


def _holds(metadata: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(name in metadata and _is_same(metadata[name], value) for name, value in wanted.items())


def _is_same(one: Any, other: Any) -> bool:
    """As JSON compares them: 1 is not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
