"""`GET /records`: what changed in a model, in the order it changed, for readers who follow it with a cursor.

And `PATCH /records/prune`, for what they have taken over.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, Field

from ... import records
from ...config.source import quoted
from ...errors import ConfigError, Problem
from ...partition_keys import BASE
from ...store import datasets, listing, pruning, syncs
from ...store.changes import ACTIONS, Action, Cursor, Record, in_utc
from ...store.datasets import Dataset
from ...store.listing import Names, Page, Wanted
from ..answers import PrunedRecords, RecordList, iso
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.bodies import Body
from ..input.models import Digits, Strict, body_of, described, only
from ..input.selection import check_connection, header_text
from ..service import Nango, Service

JSON = "application/json"
MOST_RECORDS = 500
MOST_IDS = 100
_MOST_OF_NAME = 255
_MOST_OF_CURSOR = 2000  # characters; an id has up to 1,024 bytes
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_PARAMETERS = ("model", "variant", "modified_after", "delta", "filter", "cursor", "limit", "ids")

router = APIRouter(tags=["records"], responses=ERRORS)


class _Quick(APIRoute):
    """The route that is asked most often: a plain request for a page needs no more than this to be understood.

    What the framework finds out about ten parameters takes longer than the database needs for a page. Any other
    request, and each that is wrong, goes its way.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        careful = super().get_route_handler()

        async def handle(request: Request) -> Response:
            asked = _plain(request)
            if asked is None:
                return await careful(request)
            names, filter, cursor, limit = asked
            wanted = _wanted(None, filter, cursor, None)
            service: Service = request.app.state.service
            body = await to_thread.run_sync(_page, service, names, wanted, limit, limiter=service.readers)
            return Response(body, media_type=JSON)

        return handle


_Plain = tuple[Names, "str | None", "str | None", int]
_OFTEN = frozenset({"model", "variant", "filter", "cursor", "limit"})


def _plain(request: Request) -> _Plain | None:
    """The parameters of a request that has the usual ones, each once and as it should be; None for any other."""
    given = request.query_params.multi_items()
    query, headers = dict(given), request.headers
    if len(query) < len(given) or not _OFTEN.issuperset(query):
        return None
    model, variant, limit = query.get("model", ""), query.get("variant", BASE), query.get("limit", "100")
    named = [headers.getlist(name) for name in ("provider-config-key", "connection-id")]
    fit = (
        all(len(one) == 1 and one[0].isascii() and 0 < len(one[0]) <= _MOST_OF_NAME for one in named)
        and len(model) <= _MOST_OF_NAME >= len(variant)
        and re.fullmatch(_MODEL[1:-1], model)
        and re.fullmatch(_NAME[1:-1], variant)
        and re.fullmatch("[1-9][0-9]{0,2}", limit)
        and int(limit) <= MOST_RECORDS
        and 0 < len(query.get("cursor", "-")) <= _MOST_OF_CURSOR
    )
    if not fit:
        return None
    return Names(named[0][0], named[1][0], variant, model), query.get("filter"), query.get("cursor"), int(limit)


_MODEL, _NAME = r"^[A-Z][a-zA-Z0-9_-]*$", r"^[a-zA-Z0-9_-]+$"
Model = Annotated[str, Query(pattern=_MODEL, max_length=255, examples=["GithubIssue"])]
Variant = Annotated[str, Query(pattern=_NAME, max_length=255)]
ConnectionId = Annotated[
    str,
    Header(alias="Connection-Id", min_length=1, max_length=255, description="`default` for a sync of one account."),
    AfterValidator(header_text),
]
ProviderConfigKey = Annotated[
    str,
    Header(
        alias="Provider-Config-Key",
        min_length=1,
        max_length=255,
        description="The integration; `default` for a sync without one.",
    ),
    AfterValidator(header_text),
]


class ToPrune(Strict):
    """Which payloads are removed: of a model's records up to a cursor."""

    model: Annotated[str, Field(pattern=_MODEL, max_length=255, examples=["GithubIssue"])]
    variant: Annotated[str, Field(pattern=_NAME, max_length=255)] = BASE
    until_cursor: Annotated[
        str, Field(min_length=1, max_length=_MOST_OF_CURSOR, description="A record's cursor; that record is included.")
    ]
    limit: Annotated[int | None, Field(ge=1, description="All of them where it is not given.")] = None


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
    """Empty the payloads of the records up to a cursor, in the order they changed; the records stay.

    Neither their times nor the mapped rows change. A payload comes back when a sync sees the record again.
    """
    wanted = _read_prune(body)
    try:
        until = Cursor.read(wanted.until_cursor)
    except ConfigError as error:
        problem = Problem(str(error), field="until_cursor")
        raise HttpError(400, "invalid_body", str(error), [problem]) from None
    dataset = _dataset(nango, provider_config_key, connection_id, wanted.variant, wanted.model)
    if dataset is None:
        return {"count": 0, "has_more": False}
    done = pruning.prune(nango.database, dataset, until, wanted.limit)
    return {"count": done.count, "has_more": done.has_more}


_read_prune = body_of(ToPrune)


def list_records(
    nango: Nango,
    connection_id: ConnectionId,
    provider_config_key: ProviderConfigKey,
    model: Model,
    variant: Variant = BASE,
    modified_after: Annotated[str | None, Query(description="An ISO 8601 time; that very time is included.")] = None,
    delta: Annotated[str | None, Query(deprecated=True, description="The older name of `modified_after`.")] = None,
    filter: Annotated[
        str | None, Query(description="`added`, `updated` and `deleted`, separated by commas: those with any of them.")
    ] = None,
    cursor: Annotated[str | None, Query(min_length=1, max_length=_MOST_OF_CURSOR)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_RECORDS), Digits] = 100,
    ids: Annotated[list[str] | None, Query(max_length=MOST_IDS)] = None,
) -> Response:
    """Records of a connection and model, in the order they changed.

    Keep `next_cursor`, or the cursor of the last record, and go on from there: no change is skipped. A record that
    changes while it is being read comes again.
    """
    wanted = _wanted(modified_after if delta is None else delta, filter, cursor, ids)
    return Response(
        _page(nango, Names(provider_config_key, connection_id, variant, model), wanted, limit), media_type=JSON
    )


router.add_api_route(
    "/records",
    list_records,
    methods=["GET"],
    summary="List records",
    responses={200: {"model": RecordList}},
    dependencies=[only(*_PARAMETERS, often="ids")],
    route_class_override=_Quick,
)


def _page(nango: Service, names: Names, wanted: Wanted, limit: int) -> bytes:
    """The answer with a page. Raises HttpError for an unknown connection."""
    found = None
    if "\0" not in names.integration + names.connection_id:
        found = listing.page_of(nango.database, names, wanted, limit)
    if found is None:
        _dataset(nango, names.integration, names.connection_id, names.variant, names.model)
        return _body(Page([], None), own_id=False)
    return _body(*found)


def _wanted(modified_after: str | None, filter: str | None, cursor: str | None, ids: list[str] | None) -> Wanted:
    try:
        return Wanted(
            after=Cursor.read(cursor) if cursor else None,
            modified_after=None if modified_after is None else _moment(modified_after),
            actions=ACTIONS if filter is None else _actions(filter),
            ids=ids and [_id(one) for one in ids],
        )
    except ConfigError as error:
        raise HttpError(400, "invalid_query_params", str(error), error.problems) from None


def _moment(text: str) -> datetime:
    found = _MOMENT.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        day, minutes, seconds, fraction, zone = found.groups(default="")
        moment = f"{day}T{minutes or '00:00'}{seconds or ':00'}.{fraction:0<6.6}"
        offset = zone.upper().replace("Z", "+00:00") or "+00:00"
        return in_utc(datetime.fromisoformat(moment + offset))
    except ValueError:
        sentence = f"modified_after is {quoted(text)}; wanted a time such as 2024-01-15T10:31:00.000Z."
        raise ConfigError.of(Problem(sentence, field="modified_after")) from None


def _actions(text: str) -> Sequence[Action]:
    given = [one.lower() if one.isupper() else one for one in text.split(",")]
    for one in given:
        if one not in ACTIONS:
            sentence = f"filter holds {quoted(one)}; wanted {', '.join(ACTIONS)}, separated by commas."
            raise ConfigError.of(Problem(sentence, field="filter"))
    return [action for action in ACTIONS if action in given]


def _id(text: str) -> str:
    if text and len(text.encode()) <= records.MAX_KEY_BYTES and "\0" not in text:
        return text
    sentence = f"ids holds {quoted(text)}; wanted an id of 1 to {records.MAX_KEY_BYTES:,} bytes."
    raise ConfigError.of(Problem(sentence, field="ids"))


def _dataset(nango: Service, integration: str, connection_id: str, variant: str, model: str) -> Dataset | None:
    """The dataset of these names; None when nothing was stored yet. Raises HttpError for an unknown connection."""
    found = None
    if "\0" not in integration + connection_id:
        found = datasets.find(nango.database, integration, connection_id, variant, model)
        if found is None:
            check_connection(
                nango.database, syncs.of_integration(nango.database, integration), integration, connection_id
            )
    return found


# --- a record's text is passed on as it is ----------------------------------------------------------------------


def _body(page: Page, own_id: bool) -> bytes:
    """Records that follow each other often share their times: what is said of these is then written once."""
    times: Any = None
    metadata = moment = b""
    texts: list[bytes] = []
    for record in page.records:
        if record[1:5] != times:
            times = record[1:5]
            metadata, moment = _said(record)
        cursor = b2a_base64(moment + record.external_id.encode(), newline=False).translate(_URL_SAFE)
        texts.append(_text(record, b'%b"%b"}' % (metadata, cursor), own_id))
    return b'{"records":[%b],"next_cursor":%b}' % (b",".join(texts), _json(str(page.next) if page.next else None))


def _text(record: Record, metadata: bytes, own_id: bool) -> bytes:
    """The record's text, with our metadata at its end; only where `id` must be put in its place is it taken apart."""
    text = (record.text or "").strip().encode()
    if not text.startswith(b"{"):
        value = b',"value":' + text if text else b""
        return b'{"id":%b%b,"_nango_metadata":%b}' % (_json(record.external_id), value, metadata)
    if own_id and "_nango_metadata" not in (record.text or ""):
        return b'%b,"_nango_metadata":%b}' % (text[:-1], metadata)
    if own_id:
        return records.with_fields(text, {"_nango_metadata": metadata})
    payload_id = records.text_at(text, ("id",))
    if payload_id is not None:
        metadata = b'%b,"payload_id":%b}' % (metadata[:-1], payload_id)
    return records.with_fields(text, {"id": _json(record.external_id), "_nango_metadata": metadata})


def _said(record: Record) -> tuple[bytes, bytes]:
    """The metadata of records with these times up to their cursor, and the time as cursors have it."""
    known = {
        "first_seen_at": iso(record.first_seen_at),
        "last_modified_at": iso(record.last_modified_at),
        "last_action": record.action.upper(),
        "deleted_at": iso(record.deleted_at),
        "pruned_at": iso(record.pruned_at),
    }
    return b'%b,"cursor":' % _json(known)[:-1], f"{record.cursor.time}||".encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
