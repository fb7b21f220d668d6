"""Authentication: a request needs one of the keys; without keys, only clients on this machine are allowed."""

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
"""Paths that monitoring requests every few seconds."""
_WITHOUT_KEY = frozenset({"/", "/health", "/ready"})
_PAGES = ("/docs", "/openapi.json")
"""Pages for a browser. It cannot send a key as `Bearer`, so they also accept the key as a password. No other path
accepts a password: a script of another page could use the one that the browser stores."""


@dataclass(frozen=True)
class Authentication:
    """The accepted keys, and the paths that need none."""

    keys: tuple[str, ...]
    without_key: frozenset[str] = _WITHOUT_KEY

    @classmethod
    def of(cls, settings: Settings) -> Authentication:
        """The authentication that the settings describe."""
        return cls(settings.secret_keys, _WITHOUT_KEY | ({"/metrics"} if settings.metrics_without_key else set()))

    def key_index(self, request: HTTPConnection) -> int:
        """The index of the key that a request has; 0 where none is needed. Raises HttpError when it is refused."""
        if request.scope["path"] in self.without_key:
            return 0
        if self.keys:
            return self._index(request, in_browser=_is_page(request.scope["path"]))
        _check_is_local(request)
        return 0

    def _index(self, request: HTTPConnection, *, in_browser: bool) -> int:
        challenge = 'Basic realm="NANGO_SECRET_KEY as the password", charset="UTF-8"' if in_browser else "Bearer"
        try:
            key = _sent_key(request.headers.getlist("authorization"), in_browser=in_browser)
            # Compares with all keys, so that the duration tells nothing about them.
            matches = [hmac.compare_digest(known.encode(), key) for known in self.keys]
            if not any(matches):
                raise HttpError(401, "unknown_account", "the key is not one of those in NANGO_SECRET_KEY.")
        except HttpError as refusal:
            refusal.headers["WWW-Authenticate"] = challenge
            raise
        return matches.index(True)


def _is_page(path: str) -> bool:
    return path in _PAGES or path.startswith("/docs/")


def _sent_key(headers: Sequence[str], *, in_browser: bool) -> bytes:
    """The key in the only Authorization header. Raises HttpError where there is no key."""
    if not headers:
        raise HttpError(401, "missing_auth_header", "the Authorization header is missing; wanted: Bearer KEY.")
    if len(headers) > 1:
        raise HttpError(401, "malformed_auth_header", "there are several Authorization headers; wanted one.")
    match = re.fullmatch(r"(bearer|basic) +(\S+) *", headers[0], re.IGNORECASE)
    if match is not None and match[1].lower() == "bearer":
        return match[2].encode()
    if match is not None and in_browser:
        with contextlib.suppress(ValueError):  # not Base64
            return base64.b64decode(match[2]).partition(b":")[2]
    raise HttpError(401, "malformed_auth_header", "the Authorization header has no key; wanted: Bearer KEY.")


def _check_is_local(request: HTTPConnection) -> None:
    """Raise HttpError for a request from another machine, or from a web page in a browser of this machine.

    A page can send requests to localhost with its own `Origin`, or to a host name of its own that resolves to it.
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
