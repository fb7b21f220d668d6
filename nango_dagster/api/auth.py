"""Who may come in: holders of a key; without one, only what runs on this machine."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from .errors import HttpError

_OPEN_TO_ALL = frozenset({"/health"})
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class Door:
    """Lets a request in, or says why not."""

    keys: tuple[str, ...]

    def refusal(self, request: HTTPConnection) -> HttpError | None:
        """Why this request is not answered; None when it is."""
        if request.scope["path"] in _OPEN_TO_ALL:
            return None
        return self._without_key(request) if self.keys else _from_elsewhere(request)

    def _without_key(self, request: HTTPConnection) -> HttpError | None:
        header = request.headers.get("authorization")
        if header is None:
            return _unauthorized("missing_auth_header", "the Authorization header is missing; wanted: Bearer KEY.")
        found = re.fullmatch(r"bearer +(\S+) *", header, re.IGNORECASE)
        if found is None:
            return _unauthorized("malformed_auth_header", "the Authorization header has no key; wanted: Bearer KEY.")
        if not self._knows(found[1]):
            return _unauthorized("unknown_account", "the key is not one of those in NANGO_SECRET_KEY.")
        return None

    def _knows(self, key: str) -> bool:
        """Takes as long for a wrong key as for a right one, whichever of the keys it is."""
        return sum(hmac.compare_digest(known.encode(), key.encode()) for known in self.keys) > 0


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name; no name is looked up.

    >>> [is_loopback(host) for host in ("localhost", "127.1.2.3", "[::1]", "10.0.0.1", "localhost.example.com")]
    [True, True, True, False, False]
    """
    name = host.lower().rstrip(".").removeprefix("[").removesuffix("]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _from_elsewhere(request: HTTPConnection) -> HttpError | None:
    """Without a key, whoever comes from elsewhere is refused; also a web page that the browser here shows.

    A page may send requests to localhost, with its own `Origin`, or under a name of its own that leads here.
    """
    client = request.client.host if request.client else "localhost"
    origin = request.headers.get("origin")
    if not is_loopback(client):
        return _forbidden(f"{client} is another machine")
    if not is_loopback(_host(f"//{request.headers.get('host', 'localhost')}")):
        return _forbidden("the Host header names another machine")
    if origin is not None and not is_loopback(_host(origin)):
        return _forbidden("the Origin header names another site")
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _unauthorized(code: str, message: str) -> HttpError:
    return HttpError(401, code, message, headers=_CHALLENGE)


def _forbidden(reason: str) -> HttpError:
    sentence = f"{reason}, and without a key only this machine may use the API; set NANGO_SECRET_KEY."
    return HttpError(403, "forbidden", sentence)
