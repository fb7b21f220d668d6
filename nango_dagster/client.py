"""The Python client of the HTTP API, for programs that add syncs for their own users."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .errors import ApiError, AuthenticationFailed, ConfigError, NangoError, Refused, StoreUnavailable
from .http import Policy, Request, Response, json_bytes
from .http.service import ServiceClient

Json = dict[str, Any]


class NotFound(NangoError):
    """There is no such sync."""


_ERRORS: Mapping[int, type[NangoError]] = {
    400: ConfigError,
    404: NotFound,
    409: Refused,
    413: ConfigError,
    503: StoreUnavailable,
}


@dataclass(frozen=True)
class Nango:
    """A nango-dagster API, and what can be asked of it; may be shared by threads.

    Every error is a NangoError with the server's own sentence: ConfigError for a config that is wrong, Refused for
    one that clashes with another sync, NotFound, AuthenticationFailed, StoreUnavailable while its database is down.

    >>> nango = Nango("http://localhost:3003", secret_key="s3cret")
    >>> nango
    Nango(host='http://localhost:3003')
    """

    host: str = "http://localhost:3003"
    secret_key: str | None = field(default=None, repr=False)

    def sync(self, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Add a sync of a URL and run it at once; its id.

        A config with a `name` is known by it: the same name again changes that sync. Without a name, the same URL
        and config again are the same sync, and any others are a new one.
        """
        return self._id(self._send("POST", "/v1/syncs", body={**(config or {}), "url": url}))

    def syncs(
        self,
        *,
        name: str | None = None,
        url: str | None = None,
        friendly_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Json]:
        """The syncs that fit, or all of them: how each is called, when it runs next, how its last job ended."""
        wanted = {"name": name, "url": url, "friendly_name": friendly_name}
        given = [(key, value) for key, value in wanted.items() if value is not None]
        if metadata is not None:
            given.append(("metadata", json.dumps(dict(metadata))))
        found: list[Json] = self._send("GET", "/v1/syncs", params=tuple(given))["syncs"]
        return found

    def get_sync(self, sync_id: int) -> Json:
        """A sync with its config, in which secrets read `***`, and its last job."""
        return self._send("GET", f"/v1/syncs/{int(sync_id)}")

    def update_sync(self, sync_id: int, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Give a sync another config and run it at once; its id. A `***` keeps the secret that is stored."""
        return self._id(self._send("PUT", f"/v1/syncs/{int(sync_id)}", body={**(config or {}), "url": url}))

    def delete_sync(self, sync_id: int) -> None:
        """Delete a sync with all that it stored."""
        self._send("DELETE", f"/v1/syncs/{int(sync_id)}")

    def _send(
        self, method: str, path: str, *, params: tuple[tuple[str, str], ...] = (), body: Json | None = None
    ) -> Json:
        headers = {"Authorization": f"Bearer {self.secret_key}"} if self.secret_key else {}
        url = self.host.rstrip("/") + path
        # After a broken connection it is tried again, which finds the same sync: nothing is done twice.
        policy = Policy(name="Nango", retries=2, backoff=0.5)
        with ServiceClient(policy) as client:
            response = client.send(Request(method, url, headers, params, _checked(body)))
        if response.status >= 300:
            raise _error(response)
        return _decoded(response)

    def _id(self, answer: Json) -> int:
        found: int = answer["sync_id"]
        return found


def _checked(body: Json | None) -> Json | None:
    """The body, if it can be sent."""
    try:
        json_bytes(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"the config cannot be sent as JSON: {error}.") from None
    return body


def _error(response: Response) -> NangoError:
    """The server's error, in its own words."""
    try:
        sentence = str(_decoded(response)["error"]["message"])
    except (ApiError, LookupError, TypeError):
        return ApiError(f"Nango: {response.url.partition('?')[0]} answered {response.status}.", response.status)
    if response.status in (401, 403):
        return AuthenticationFailed(sentence, response.status)
    kind = _ERRORS.get(response.status)
    return kind(sentence) if kind else ApiError(sentence, response.status)


def _decoded(response: Response) -> Json:
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        where = response.url.partition("?")[0]
        raise ApiError(f"Nango: {where} did not answer as a nango-dagster API does.", response.status) from None
