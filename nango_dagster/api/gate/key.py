"""Who may come in: holders of a key; without one, only what runs on this machine."""

from __future__ import annotations

import base64
import contextlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from ...http.addresses import is_loopback
from ...settings import Settings
from ..errors import HttpError

PROBES = frozenset({"/health", "/ready", "/metrics"})
"""What machines ask every few seconds."""
_OPEN_TO_ALL = frozenset({"/", "/health", "/ready"})
_FOR_PEOPLE = ("/docs", "/openapi.json")
"""What a browser shows, which asks for a password and has no way to send a key as `Bearer`. Nothing else takes one: a
script of the page could use it."""


@dataclass(frozen=True)
class Door:
    """Lets a request in, or says why not."""

    keys: tuple[str, ...]
    open_to_all: frozenset[str] = _OPEN_TO_ALL

    @classmethod
    def of(cls, settings: Settings) -> Door:
        """The door that the settings describe."""
        return cls(settings.secret_keys, _OPEN_TO_ALL | ({"/metrics"} if settings.metrics_without_key else set()))

    def enter(self, request: HTTPConnection) -> int:
        """Which of the keys a request has, 0 where none is needed. Raises HttpError when it is not let in."""
        if request.scope["path"] in self.open_to_all:
            return 0
        if self.keys:
            return self._key(request, in_browser=_is_for_people(request.scope["path"]))
        _check_is_here(request)
        return 0

    def _key(self, request: HTTPConnection, *, in_browser: bool) -> int:
        challenge = 'Basic realm="NANGO_SECRET_KEY as the password", charset="UTF-8"' if in_browser else "Bearer"
        try:
            key = _given(request.headers.getlist("authorization"), in_browser=in_browser)
            # Takes as long for a wrong key as for a right one, whichever of the keys it is.
            fits = [hmac.compare_digest(known.encode(), key) for known in self.keys]
            if not any(fits):
                raise HttpError(401, "unknown_account", "the key is not one of those in NANGO_SECRET_KEY.")
        except HttpError as refused:
            refused.headers["WWW-Authenticate"] = challenge
            raise
        return fits.index(True)


def _is_for_people(path: str) -> bool:
    return path in _FOR_PEOPLE or path.startswith("/docs/")


def _given(headers: Sequence[str], *, in_browser: bool) -> bytes:
    """The key in the one Authorization header. Raises HttpError where there is none."""
    if not headers:
        raise HttpError(401, "missing_auth_header", "the Authorization header is missing; wanted: Bearer KEY.")
    if len(headers) > 1:
        raise HttpError(401, "malformed_auth_header", "there are several Authorization headers; wanted one.")
    found = re.fullmatch(r"(bearer|basic) +(\S+) *", headers[0], re.IGNORECASE)
    if found is not None and found[1].lower() == "bearer":
        return found[2].encode()
    if found is not None and in_browser:
        with contextlib.suppress(ValueError):  # what is no Base64
            return base64.b64decode(found[2]).partition(b":")[2]
    raise HttpError(401, "malformed_auth_header", "the Authorization header has no key; wanted: Bearer KEY.")


def _check_is_here(request: HTTPConnection) -> None:
    """Raise HttpError for whoever comes from elsewhere; also for a web page that the browser here shows.

    A page may send requests to localhost, with its own `Origin`, or under a name of its own that leads here.
    """
    client = request.client.host if request.client else "localhost"
    origin = request.headers.get("origin")
    if not is_loopback(client):
        raise _forbidden(f"{client} is another machine")
    if not is_loopback(_host(f"//{request.headers.get('host', 'localhost')}")):
        raise _forbidden("the Host header names another machine")
    if origin is not None and not is_loopback(_host(origin)):
        raise _forbidden("the Origin header names another site")


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _forbidden(reason: str) -> HttpError:
    sentence = f"{reason}, and without a key only this machine may use the API; set NANGO_SECRET_KEY."
    return HttpError(403, "forbidden", sentence)
