"""`/proxy/PATH`: a request to the API of an integration, with the credentials of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from ...errors import ApiError, ConfigError
from ...runs import proxy
from ...scripts import Call, ScriptAnswer
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.selection import check_connection, header_text, syncs_of
from ..service import Service

MOST_BYTES = 50_000_000
"""The largest body of a request."""
MOST_SECONDS = 120.0
AT_ONCE = 16
"""Requests that wait for their APIs at the same time; others wait for them."""
_PIECE = 65_536
_PREFIX = "nango-proxy-"
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "te", "trailer", "upgrade"}
)
_sending = CapacityLimiter(AT_ONCE)

router = APIRouter(tags=["proxy"], responses=ERRORS)
ConnectionId = Annotated[str, Header(alias="Connection-Id", min_length=1, max_length=255)]
IntegrationKey = Annotated[str, Header(alias="Provider-Config-Key", min_length=1, max_length=255)]
BaseUrl = Annotated[str | None, Header(alias="Base-Url-Override", description="Instead of the integration's own.")]
Retries = Annotated[int, Header(alias="Retries", ge=0, le=20)]
RetryOn = Annotated[str | None, Header(alias="Retry-On", description="Further statuses to retry, such as `409,423`.")]


async def send_to_api(
    request: Request,
    path: str,
    connection_id: ConnectionId,
    integration: IntegrationKey,
    base_url: BaseUrl = None,
    retries: Retries = 0,
    retry_on: RetryOn = None,
) -> StreamingResponse:
    """Send a request to the API, and return its answer whatever its status.

    The path and query follow the base URL of the integration. Headers `Nango-Proxy-NAME` are sent as NAME. Rate limits,
    allowed origins and address rules of the integration's syncs apply.
    """
    service: Service = request.app.state.service
    names = (header_text(integration), header_text(connection_id))
    call = Call(
        request.method,
        _endpoint(request),
        params=request.scope["query_string"].decode("latin-1") or None,
        data=await _body(request),
        headers=dict(_headers(request)),
        retries=retries,
        retry_on=_statuses(retry_on),
        base_url=base_url or None,
    )
    answer = await to_thread.run_sync(_send, service, names, call, limiter=_sending)
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
    return StreamingResponse(_pieces(answer.content), answer.status, headers)


for _method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
    router.add_api_route(
        "/proxy/{path:path}",
        send_to_api,
        methods=[_method],
        summary=f"Send a {_method} request to an API",
        operation_id=f"proxy_{_method.lower()}",
        response_class=StreamingResponse,
        responses={200: {"description": "The answer of the API.", "content": {"*/*": {}}}},
    )


def _send(service: Service, names: tuple[str, str], call: Call) -> ScriptAnswer:
    rows = syncs_of(service.database, names[0])
    check_connection(service.database, rows, *names, 404)
    try:
        return proxy.send(service.database, service.settings, rows, names, call)
    except ApiError as error:
        if isinstance(error.answer, ScriptAnswer):
            return error.answer
        raise HttpError(502, "upstream_unreachable", str(error)) from None
    except ConfigError as error:
        raise HttpError(400, "invalid_request", str(error)) from None


def _endpoint(request: Request) -> str:
    """The path behind `/proxy` as it was sent, with its percent-encoding."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1").removeprefix("/proxy")


def _headers(request: Request) -> Iterator[tuple[str, str]]:
    for name, value in request.headers.items():
        if name.startswith(_PREFIX):
            yield name.removeprefix(_PREFIX), value
        elif name in ("content-type", "accept"):
            yield name, value


def _statuses(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) == 3 for part in parts):
        raise HttpError(400, "invalid_headers", "Retry-On has statuses, separated by commas, such as 409,423.")
    return tuple(map(int, parts))


async def _body(request: Request) -> bytes | None:
    try:
        return await asyncio.wait_for(_read(request), MOST_SECONDS) or None
    except (asyncio.TimeoutError, TimeoutError):  # two classes on Python 3.10
        raise HttpError(408, "request_timeout", "the body has not arrived in time.") from None


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HttpError(413, "request_too_large", f"the body has more than {MOST_BYTES:,} bytes.")
    return bytes(body)


def _pieces(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), _PIECE):
        yield content[at : at + _PIECE]
