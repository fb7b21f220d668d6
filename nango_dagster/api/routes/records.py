"""`GET /records`: the records of a model in the order of their changes, for readers that store a cursor.

`PATCH /records/prune` removes payloads that a reader has processed.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, Field

from ... import records
from ...errors import ConfigError, Problem
from ...partition_keys import BASE
from ...store import datasets, listing, pruning, syncs
from ...store.changes import Cursor, Record
from ...store.datasets import Dataset
from ...store.listing import Names, Page, RecordSelection
from ..answers import PrunedRecords, RecordList, iso
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.bodies import Body
from ..input.models import Strict, body_of, described, only
from ..input.records_query import MOST_CURSOR, ModelName, RecordsQuery, VariantName, parameters
from ..input.selection import check_connection, header_text
from ..service import Nango, Service

JSON = "application/json"
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_IS_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?").fullmatch

router = APIRouter(tags=["records"], responses=ERRORS)
ConnectionId = Annotated[str, Header(alias="Connection-Id", min_length=1, max_length=255), AfterValidator(header_text)]
ProviderConfigKey = Annotated[
    str, Header(alias="Provider-Config-Key", min_length=1, max_length=255), AfterValidator(header_text)
]


class _DirectRoute(APIRoute):
    """A route whose function reads the request itself, without the framework's parameters."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function of the route."""
        function: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return function


async def list_records(request: Request) -> Response:
    """The records of a connection and model, in the order of their changes.

    Store `next_cursor`, or the cursor of the last record, and continue there: no change is skipped. A record that
    changes meanwhile is listed again.
    """
    query = RecordsQuery.read(request)
    service: Service = request.app.state.service
    page = (service, query.dataset, query.selection(), query.limit)
    return Response(await to_thread.run_sync(_page, *page, limiter=service.readers), media_type=JSON)


router.add_api_route(
    "/records",
    list_records,
    methods=["GET"],
    summary="List records",
    responses={200: {"model": RecordList}},
    openapi_extra={"parameters": parameters()},
    route_class_override=_DirectRoute,
)


class ToPrune(Strict):
    """The records of a model whose payloads are removed."""

    model: ModelName
    variant: VariantName = BASE
    until_cursor: Annotated[
        str, Field(min_length=1, max_length=MOST_CURSOR, description="A record's cursor; that record is included.")
    ]
    limit: Annotated[int | None, Field(ge=1, description="By default all records up to the cursor.")] = None


@router.patch(
    "/records/prune",
    summary="Remove payloads",
    response_model=PrunedRecords,
    dependencies=[only()],
    openapi_extra=described(ToPrune),
)
def prune_records(
    nango: Nango, body: Body, connection_id: ConnectionId, provider_config_key: ProviderConfigKey
) -> dict[str, Any]:
    """Remove the payloads of the records up to a cursor, in the order of their changes; the records stay.

    Their times and the mapped rows do not change. A payload is stored again when a sync reads the record again.
    """
    request = _read_prune(body)
    try:
        until = Cursor.read(request.until_cursor)
    except ConfigError as error:
        raise _invalid_cursor(error) from None
    dataset = _dataset(nango, Names(provider_config_key, connection_id, request.variant, request.model))
    if dataset is None:
        return {"count": 0, "has_more": False}
    try:
        pruned = pruning.prune(nango.database, dataset, until, request.limit)
    except ConfigError as error:
        raise _invalid_cursor(error) from None
    return {"count": pruned.count, "has_more": pruned.has_more}


_read_prune = body_of(ToPrune)


def _invalid_cursor(error: ConfigError) -> HttpError:
    return HttpError(400, "invalid_body", str(error), [Problem(str(error), field="until_cursor")])


def _page(nango: Service, names: Names, selection: RecordSelection, limit: int) -> bytes:
    """The answer with a page. Raises HttpError for an unknown connection, and for a cursor of another dataset."""
    try:
        page = listing.page_of(nango.database, names, selection, limit) if _can_exist(names) else None
        if page is not None:
            return _body(*page)
        dataset = _dataset(nango, names)
        if dataset is not None:
            selection.check_dataset(dataset.id)
    except ConfigError as error:
        raise HttpError(400, "invalid_query_params", str(error), error.problems) from None
    return _body(Page([], None), own_id=False)


def _can_exist(names: Names) -> bool:
    """Whether the database can compare the names; PostgreSQL accepts no NUL character."""
    return "\0" not in names.integration + names.connection_id


def _dataset(nango: Service, names: Names) -> Dataset | None:
    """The dataset of these names; None when nothing was stored yet. Raises HttpError for an unknown connection."""
    if not _can_exist(names):
        return None
    integration, connection_id, variant, model = names.integration, names.connection_id, names.variant, names.model
    dataset = datasets.find(nango.database, integration, connection_id, variant, model)
    if dataset is None:
        check_connection(nango.database, syncs.of_integration(nango.database, integration), integration, connection_id)
    return dataset


# --- the stored text of a record is returned unchanged ------------------------------------------------------------


def _body(page: Page, own_id: bool) -> bytes:
    """The answer as JSON. Records of one transaction share their times, so the text of the times is made once."""
    times: Any = None
    metadata = prefix = b""
    texts: list[bytes] = []
    for record in page.records:
        if record[1:5] != times:
            times = record[1:5]
            metadata, prefix = _metadata(record), record.cursor(page.dataset_id).prefix.encode()
        cursor = b2a_base64(prefix + record.external_id.encode(), newline=False).translate(_URL_SAFE)
        texts.append(_text(record, b'%b"%b"}' % (metadata, cursor), own_id))
    return b'{"records":[%b],"next_cursor":%b}' % (b",".join(texts), _json(str(page.next) if page.next else None))


def _text(record: Record, metadata: bytes, own_id: bool) -> bytes:
    """The record's text with the metadata at its end; it is parsed only where its `id` has to be replaced."""
    text = (record.text or "").strip().encode()
    if not text.startswith(b"{"):
        value = b',"value":' + text if text else b""
        return b'{"id":%b%b,"_nango_metadata":%b}' % (_id(record), value, metadata)
    if own_id and "_nango_metadata" not in (record.text or ""):
        return b'%b,"_nango_metadata":%b}' % (text[:-1], metadata)
    if own_id:
        return records.with_fields(text, {"_nango_metadata": metadata})
    payload_id = records.text_at(text, ("id",))
    if payload_id is not None:
        metadata = b'%b,"payload_id":%b}' % (metadata[:-1], payload_id)
    return records.with_fields(text, {"id": _json(record.external_id), "_nango_metadata": metadata})


def _id(record: Record) -> bytes:
    """The `id` of a record without fields, with the JSON type that it had in its payload."""
    is_number = record.id_is_number and _IS_NUMBER(record.external_id)
    return record.external_id.encode() if is_number else _json(record.external_id)


def _metadata(record: Record) -> bytes:
    """The metadata of a record up to the value of its cursor."""
    times = {
        "first_seen_at": iso(record.first_seen_at),
        "last_modified_at": iso(record.last_modified_at),
        "last_action": record.action.upper(),
        "deleted_at": iso(record.deleted_at),
        "pruned_at": iso(record.pruned_at),
    }
    return b'%b,"cursor":' % _json(times)[:-1]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
