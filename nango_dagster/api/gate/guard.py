"""The outermost layer of the app: key, limits, one spelling of paths, a line in the log, and the metrics.

No answer shows a stack.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import clock
from ..errors import HttpError, answer, server_error
from .key import PROBES, Authentication
from .limits import Rates, check_request

log = logging.getLogger(__name__)


class CountRequest(Protocol):
    """Counts a request."""

    def __call__(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """`route` is the template of the path."""


@dataclass(frozen=True)
class Guard:
    """The outermost layer of the app."""

    app: ASGIApp
    authentication: Authentication
    rates: Rates
    count: CountRequest
    keep_alive: int
    """Seconds for which the server keeps an idle connection; clients read it from the header Keep-Alive."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        # `/v1/syncs/` is `/v1/syncs`: clients send both, and not all of them follow a redirect of a POST.
        # HEAD is GET to the routes; the server leaves the body out.
        # A `%2F` at the end is not that slash: it belongs to a connection's id.
        raw = scope.get("raw_path") or scope["path"].encode()
        path = scope["path"][: len(scope["path"]) - len(raw) + len(raw.rstrip(b"/"))] or "/"
        scope = {**scope, "path": path, "method": "GET" if method == "HEAD" else method}
        sending = _Sending(send, {"Keep-Alive": f"timeout={self.keep_alive}"})
        began = clock.monotonic()
        try:
            await self._answer(scope, receive, sending)
        except ClientDisconnect:
            log.debug("%s %s: the client closed the connection.", method, path)
        except Exception as error:
            log.error("%s %r: %s", method, path, "".join(frames(error)))
            if sending.status is None:
                await server_error()(scope, receive, sending)
        seconds = clock.monotonic() - began
        self.count(method, getattr(scope.get("route"), "path", "none"), sending.status, seconds)
        # Without the query, which may have secrets; probes come every few seconds.
        level = logging.DEBUG if path in PROBES else logging.INFO
        log.log(level, "%s %r %s %.0f ms", method, path, sending.status, 1000 * seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: _Sending) -> None:
        request = HTTPConnection(scope)
        try:
            check_request(scope)
            key = self.authentication.key_index(request)
            if scope["path"] not in PROBES:
                send.headers.update(self.rates.count(key, scope))
        except HttpError as refusal:
            await answer(refusal)(scope, receive, send)
            return
        await self.app(scope, receive, send)


class _Sending:
    """Sends an answer with additional headers, and keeps its status."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self._send = send
        self.status: int | None = None
        self.headers = headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            ours = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        await self._send(message)


def frames(error: BaseException) -> Iterator[str]:
    """The error's class and its stack, without its message: that of a database quotes rows, with their secrets."""
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"
    yield from traceback.format_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield "because of "
        yield from frames(cause)
