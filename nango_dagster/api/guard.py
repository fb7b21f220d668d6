"""Around every request: who may come in, one spelling of paths, a line in the log, and never a stack for the caller."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from time import monotonic

from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import Door
from .errors import answer, server_error

log = logging.getLogger(__name__)


class Guard:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # `/v1/syncs/` is `/v1/syncs`: clients send both, and not all of them follow a redirect of a POST.
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        sending = _Sending(send)
        began = monotonic()
        try:
            await self._answer(scope, receive, sending)
        except ClientDisconnect:
            log.debug("%s %s: the client went away.", scope["method"], scope["path"])
        except Exception as error:
            log.error("%s %r: %s", scope["method"], scope["path"], "".join(frames(error)))
            if sending.status is None:
                await server_error()(scope, receive, sending)
        # Without its query, which may hold secrets; and a probe every few seconds is no news.
        level = logging.DEBUG if scope["path"] == "/health" else logging.INFO
        took = 1000 * (monotonic() - began)
        log.log(level, "%s %r %s %.0f ms", scope["method"], scope["path"], sending.status, took)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._door.refusal(HTTPConnection(scope))
        await (self._app if refused is None else answer(refused))(scope, receive, send)


class _Sending:
    """Passes an answer on, and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def frames(error: BaseException) -> Iterator[str]:
    """The error's class and where it was raised; not its words, for a database's quote the row, secrets and all."""
    yield f"{type(error).__module__}.{type(error).__qualname__}\n"
    yield from traceback.format_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield "because of "
        yield from frames(cause)
