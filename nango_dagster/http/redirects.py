"""Redirects, and which parts of a request another server may see."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from .request import NO_BODY, Request
from .urls import Server, joined, server_of

MAX_REDIRECTS: Final = 10
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# The only headers that go to a server which is not the API's own.
_HARMLESS: Final = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})


def redirected(request: Request, status: int, location: str) -> Request:
    """The request to send after a redirect; only a 303 turns it into a GET. Raises ConfigError for no http URL.

    The query is kept where the server leaves it out, because it says which page was requested.

    >>> redirected(Request("GET", "http://a.example/items?page=2"), 301, "/items/")
    Request(GET http://a.example/items/?page=2)
    """
    source = request.full_url
    target = joined(source, location)
    if status == 303 and request.method not in NO_BODY:
        return replace(request, method="GET", url=target, params=(), body=None)
    query = urlsplit(source).query
    if query and "?" not in target and _same_host(server_of(source), server_of(target)):
        target = f"{target}?{query}"
    return replace(request, url=target, params=() if "?" in target else request.params)


def is_at_home(server: Server, home: frozenset[str]) -> bool:
    """Whether a server has one of these origins, or is the https version of one."""
    return server.origin in home or any(_same_host(server_of(origin), server) for origin in home)


def without_credentials(request: Request) -> Request:
    """The request without anything that another server may not see."""
    harmless = {name: value for name, value in request.headers.items() if name.lower() in _HARMLESS}
    return replace(request, headers=harmless, params=())


def _same_host(source: Server, target: Server) -> bool:
    """Whether both have the same origin, or the target is the same host on https."""
    upgrade = (source.scheme, source.port, target.scheme, target.port) == ("http", 80, "https", 443)
    return source.origin == target.origin or (upgrade and source.host == target.host)
