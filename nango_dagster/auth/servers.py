"""Servers that store credentials: Pizzly and Nango."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..errors import ApiError, AuthenticationFailed, ConfigError
from ..http import Client, Policy, Reach, Request, Response
from .kinds import secrets_in
from .oauth2 import answered, is_expired

# Names of Pizzly 0.3.
_OLDER_NAMES = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "expiresAt": "expires_at",
    "oAuthToken": "oauth_token",
    "oAuthTokenSecret": "oauth_token_secret",
}
_TEMPORARY = frozenset({408, 425, 429})


@dataclass(frozen=True)
class ServerConnection:
    """A connection of a server, and the conditions of the requests for its credentials."""

    key: str
    """The integration's name on the server, its `provider_config_key`."""
    connection_id: str
    stored: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The credentials in our store, such as the server's address and values of the application."""
    name: str = ""
    """The first word of errors."""
    reach: Reach = "anywhere"
    cancelled: Callable[[], bool] = lambda: False

    @property
    def path(self) -> str:
        """The end of the URL of its credentials."""
        return f"{quote(self.connection_id, safe='')}?provider_config_key={quote(self.key, safe='')}"


class _Server:
    """Request the credentials of one connection from a server, over one HTTP connection that is kept open."""

    def __init__(self, title: str, headers: Mapping[str, str], connection: ServerConnection) -> None:
        self._title = title
        self._headers = headers
        self._stored = connection.stored
        self._policy = Policy(
            f"{connection.name}: no credentials from {title}",
            timeout=20,
            retries=2,
            max_bytes=1_000_000,
            reach=connection.reach,
        )
        self._cancelled = connection.cancelled
        self._client: Client | None = None

    def request(self, *urls: str) -> Mapping[str, Any]:
        """The credentials from the first of these URLs that exists."""
        if self._client is None:
            self._client = Client(self._policy, cancelled=self._cancelled)
            self._client.hide(*secrets_in(self._stored))
        last_error = ApiError()
        for url in urls:
            request = Request("GET", url, self._headers)
            try:
                return self._read(request, self._client.send(request))
            except ApiError as error:
                last_error = error
            if last_error.status != 404:
                break
        # Outside of the except clause, so that the traceback is of one error.
        raise self._failure(last_error)

    def _failure(self, error: ApiError) -> Exception:
        """The error for the person who can act: the operator for a refused key, else the owner of the connection."""
        status = error.status or 0
        if status in (401, 403):
            return ConfigError(f"{error} The secret key of {self._title} is wrong or missing.")
        if 400 <= status < 500 and status not in _TEMPORARY:
            return AuthenticationFailed(str(error), error.status)
        return ApiError(str(error), error.status)

    def _read(self, request: Request, response: Response) -> Mapping[str, Any]:
        row = answered(response)
        credentials = row.get("credentials")
        if not isinstance(credentials, Mapping):
            keys = ", ".join(map(repr, row)) or "no JSON object"
            raise ApiError(f"{self._policy.name}: {request} answered without credentials; the answer has {keys}.")
        named = {_OLDER_NAMES.get(name, name): value for name, value in credentials.items()}
        # Values of the application, such as the consumer_key of OAuth 1, are stored beside the address of the server.
        own = {name: value for name, value in self._stored.items() if name not in ("type", "secret_key")}
        return {**own, **credentials, **named}

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class Pizzly:
    """The tokens of a Pizzly server, which refreshes them itself; they are requested before every request.

    >>> Pizzly("http://localhost:3004", None, ServerConnection("github", "user 1")).url
    'http://localhost:3004/connection/user%201?provider_config_key=github'
    """

    def __init__(self, base_url: str, secret_key: str | None, connection: ServerConnection) -> None:
        headers = {"Content-Type": "application/json"}
        if secret_key:
            headers["Authorization"] = f"Basic {b64encode(f'{secret_key}:'.encode()).decode()}"
        self.url = f"{base_url}/connection/{connection.path}"
        self._server = _Server("Pizzly", headers, connection)

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        return self._server.request(self.url)

    def close(self) -> None:
        self._server.close()


class NangoServer:
    """The credentials of a connection of a Nango server, which refreshes them itself.

    They are requested once, and again when they expire or the API has refused them. The stored credentials hold the
    server's `host` and `secret_key`.
    """

    def __init__(self, connection: ServerConnection) -> None:
        headers = {"Authorization": f"Bearer {connection.stored['secret_key']}"}
        self._path = connection.path
        self._host = str(connection.stored["host"]).rstrip("/")
        self._server = _Server("the Nango server", headers, connection)
        self._credentials: Mapping[str, Any] | None = None

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        if self._credentials is None or fresh or _has_expired(self._credentials):
            path = f"{self._path}&force_refresh=true" if fresh else self._path
            urls = (f"{self._host}/connections/{path}", f"{self._host}/connection/{path}")  # of new and of old servers
            self._credentials = self._server.request(*urls)
        return self._credentials

    def close(self) -> None:
        self._server.close()


def _has_expired(credentials: Mapping[str, Any]) -> bool:
    return "expires_at" in credentials and is_expired(credentials)
