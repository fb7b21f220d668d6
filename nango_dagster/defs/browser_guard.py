"""A guard for a webserver without a login: it refuses requests that a page of another site can make a browser send.

Dagster executes GraphQL mutations that arrive by GET, for any Host and from any Origin. So a page that somebody opens
while the webserver runs could launch jobs: by an image whose URL holds a mutation, by a form, or under a host name of
its own that it lets point to this machine (DNS rebinding). The rules are those of Jupyter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..http.addresses import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class BrowserGuard:
    """ASGI middleware that answers 403 to requests and websockets of other sites."""

    app: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        reason = refusal(scope) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})  # before it is accepted: 403
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": f"{reason}\n".encode()})


def refusal(scope: Mapping[str, Any]) -> str | None:
    """The sentence that says why a request is refused; None for one that is served.

    >>> refusal({"type": "http", "method": "GET", "headers": [(b"host", b"evil.example:3000")], "query_string": b""})
    'The Host header names another machine; open http://localhost or http://127.0.0.1 with the port.'
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    if not is_loopback(_hostname(f"//{host}")):
        return "The Host header names another machine; open http://localhost or http://127.0.0.1 with the port."
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return "The Origin header names another site, and only pages of this server may use it."
    is_read = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
    if is_read and "query" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        return "A GraphQL query in a URL is refused, for it may be a mutation; send it by POST."
    return None


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
