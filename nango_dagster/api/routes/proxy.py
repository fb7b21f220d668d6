"""`/proxy/PATH`: a request to the API of an integration, with the credentials of a connection."""

from __future__ import annotations

import asyncio
import logging
import math
import tempfile
from collections.abc import Iterator
from typing import IO, Annotated

from anyio import CancelScope, CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ... import clock
from ...errors import ApiError, ConfigError, QuotaSpent
from ...http import TRANSPORT_ERRORS, FileBody
from ...runs import proxy
from ...scripts import Call, ScriptAnswer
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.selection import check_connection, header_text, syncs_of
from ..service import Service

log = logging.getLogger(__name__)

MOST_SECONDS = 120.0
AT_ONCE = 16
"""Requests to APIs, with their answers, at the same time; others wait for them."""
_IN_MEMORY = 1_000_000
"""A longer body of a request waits in a file."""
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
    """Send a request to the API, and pass its answer on while it arrives, whatever its status.

    The path and query follow the base URL of the integration. Headers `Nango-Proxy-NAME` are sent as NAME. Rate limits,
    allowed origins and address rules of the integration's syncs apply.
    """
    service: Service = request.app.state.service
    names = (header_text(integration), header_text(connection_id))
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        call = Call(
            request.method,
            _endpoint(request),
            params=request.scope["query_string"].decode("latin-1") or None,
            data=await _body(request, file, service.settings.proxy_bytes),
            headers=dict(_headers(request)),
            retries=retries,
            retry_on=_statuses(retry_on),
            base_url=base_url or None,
        )
        turn = object()
        await _sending.acquire_on_behalf_of(turn)
        try:
            answer = await to_thread.run_sync(_send, service, names, call)
        except BaseException:
            _sending.release_on_behalf_of(turn)
            raise
    return _Answer(answer, turn)


class _Answer(StreamingResponse):
    """An answer of an API on its way through; its connection and its turn are free at its end, also an early one."""

    def __init__(self, streamed: proxy.StreamedAnswer, turn: object) -> None:
        answer = streamed.answer
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        super().__init__(self._pieces(), answer.status, headers)
        self._streamed, self._turn = streamed, turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except _BrokenOff:
            return  # the server closes the connection of an answer that was not ended
        finally:
            _sending.release_on_behalf_of(self._turn)
            with CancelScope(shield=True):
                await to_thread.run_sync(self._streamed.close)

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self._streamed.pieces()
        except TRANSPORT_ERRORS as error:
            # The status was sent: only an end in the middle tells the caller that the body is not whole.
            reason = type(error).__name__
            log.warning("/proxy: the answer of %s broke off: %s", self._streamed.answer.url.partition("?")[0], reason)
            raise _BrokenOff from None


class _BrokenOff(Exception):
    """An answer has begun and cannot be passed on to its end."""


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


def _send(service: Service, names: tuple[str, str], call: Call) -> proxy.StreamedAnswer:
    rows = syncs_of(service.database, names[0])
    check_connection(service.database, rows, *names, 404)
    try:
        return proxy.send(service.database, service.settings, rows, names, call)
    except QuotaSpent as spent:
        wait = max(1, math.ceil((spent.until - clock.now()).total_seconds()))
        raise HttpError(429, "too_many_request", str(spent), headers={"Retry-After": str(wait)}) from None
    except ApiError as error:
        if isinstance(error.answer, ScriptAnswer):
            return proxy.StreamedAnswer(error.answer)
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


async def _body(request: Request, file: IO[bytes], most_bytes: int) -> bytes | FileBody | None:
    """The body that arrives, by way of a file; a short one is read from there."""
    try:
        size = await asyncio.wait_for(_read(request, file, most_bytes), MOST_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):  # two classes on Python 3.10
        raise HttpError(408, "request_timeout", "the body has not arrived in time.") from None
    if size > _IN_MEMORY:
        return FileBody(file, size)
    file.seek(0)
    return file.read() or None


async def _read(request: Request, file: IO[bytes], most_bytes: int) -> int:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise HttpError(413, "request_too_large", f"the body has more than {most_bytes:,} bytes.")
        file.write(part)
    return size
