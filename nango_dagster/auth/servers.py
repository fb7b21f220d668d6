"""Servers that keep credentials: Pizzly, and Nango itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ..errors import ApiError, AuthenticationFailed, ConfigError
from ..http import Client, Policy, Reach, Request, Response
from .kinds import secrets_in
from .oauth2 import answered, is_expired

# How Pizzly 0.3 spelled them.
_OLDER_NAMES = {
    "accessToken": "access_token",
    "refreshToken": "refresh_token",
    "expiresAt": "expires_at",
    "oAuthToken": "oauth_token",
    "oAuthTokenSecret": "oauth_token_secret",
}
_TEMPORARY = frozenset({408, 425, 429})


class _Server:
    """Requests the credentials of one connection from a server, over one HTTP connection that is kept open."""

    def __init__(
        self,
        what: str,
        headers: Mapping[str, str],
        given: Mapping[str, Any],
        *,
        name: str,
        cancelled: Callable[[], bool],
        reach: Reach = "anywhere",
    ) -> None:
        self._what = what
        self._headers = headers
        self._given = given
        self._policy = Policy(
            f"{name}: no credentials from {what}", timeout=20, retries=2, max_bytes=1_000_000, reach=reach
        )
        self._cancelled = cancelled
        self._client: Client | None = None

    def request(self, *urls: str) -> Mapping[str, Any]:
        """The credentials from the first of these URLs that exists."""
        if self._client is None:
            self._client = Client(self._policy, cancelled=self._cancelled)
            self._client.hide(*secrets_in(self._given))
        failed = ApiError()
        for url in urls:
            request = Request("GET", url, self._headers)
            try:
                return self._read(request, self._client.send(request))
            except ApiError as error:
                failed = error
            if failed.status != 404:
                break
        # Outside of the except clause, so that the traceback is of one error.
        raise self._failure(failed)

    def _failure(self, error: ApiError) -> Exception:
        """The error by who can act: the operator where the key is refused, else the connection's owner."""
        status = error.status or 0
        if status in (401, 403):
            return ConfigError(f"{error} The secret key of {self._what} is wrong or missing.")
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
        # Values of the application, such as the consumer_key of OAuth 1, stand beside the address of the server.
        own = {name: value for name, value in self._given.items() if name not in ("type", "secret_key")}
        return {**own, **credentials, **named}

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class Pizzly:
    """The tokens of a Pizzly server, which refreshes them itself; they are requested before every request.

    >>> Pizzly("http://localhost:3004", None, "github", "user 1", {}, name="items").url
    'http://localhost:3004/connection/user%201?provider_config_key=github'
    """

    def __init__(
        self,
        base_url: str,
        secret_key: str | None,
        key: str,
        connection_id: str,
        given: Mapping[str, Any],
        *,
        name: str,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        headers = {"Content-Type": "application/json"}
        if secret_key:
            headers["Authorization"] = f"Basic {b64encode(f'{secret_key}:'.encode()).decode()}"
        self.url = f"{base_url}/connection/{_part(connection_id)}?provider_config_key={_part(key)}"
        self._server = _Server("Pizzly", headers, given, name=name, cancelled=cancelled)

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        return self._server.request(self.url)

    def close(self) -> None:
        self._server.close()


class NangoServer:
    """The credentials of a connection of a Nango server, which refreshes them itself.

    They are requested once, and again when they expire or the API has refused them.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        key: str,
        connection_id: str,
        *,
        name: str,
        reach: Reach = "anywhere",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        headers = {"Authorization": f"Bearer {given['secret_key']}"}
        self._tail = f"{_part(connection_id)}?provider_config_key={_part(key)}"
        self._host = str(given["host"]).rstrip("/")
        self._server = _Server("the Nango server", headers, given, name=name, cancelled=cancelled, reach=reach)
        self._now: Mapping[str, Any] | None = None

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        if self._now is None or fresh or _has_expired(self._now):
            tail = f"{self._tail}&force_refresh=true" if fresh else self._tail
            # Older servers know only the second.
            self._now = self._server.request(f"{self._host}/connections/{tail}", f"{self._host}/connection/{tail}")
        return self._now

    def close(self) -> None:
        self._server.close()


def _has_expired(held: Mapping[str, Any]) -> bool:
    return "expires_at" in held and is_expired(held)


def _part(text: str) -> str:
    return quote(text, safe="")
