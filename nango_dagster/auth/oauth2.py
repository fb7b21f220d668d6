"""OAuth 2: an access token that is refreshed before it expires, by one process at a time."""

from __future__ import annotations

import json
import math
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from .. import clock
from ..errors import ApiError, AuthenticationFailed, Cancelled, ConfigError
from ..http import Client, Policy, Reach, Request, Response, secrets_of
from .kinds import can_refresh, secrets_in, token_of

MARGIN: Final = 60.0
"""Seconds before its end at which a token counts as expired; for a short-lived one a quarter of its life."""
REQUEST: Final = 45.0
"""Seconds that the request for a new token may take, retries included."""
LEASE: Final = 60.0
"""Seconds for which a process may keep the others from refreshing; a dead process holds them up no longer."""
GRACE: Final = 5.0
"""Seconds that a refresh gets to finish after it was cancelled: its refresh token may be the only valid one."""
_POLL_SECONDS: Final = 0.25
_CENTURY: Final = 3e9  # seconds; longer lives need not be told apart
_TEMPORARY: Final = frozenset({408, 425, 429})


@dataclass(frozen=True)
class TokenStore:
    """A connection's credentials as all processes share them; one process at a time may refresh them."""

    load: Callable[[], Mapping[str, Any] | None]
    """The credentials as they are stored now."""
    begin: Callable[[str, float], bool]
    """Take the right to refresh, for a name of the holder and a number of seconds; False while another holds it."""
    end: Callable[[str, Mapping[str, Any] | None], bool]
    """Return the right, with the new credentials if any; False when it was lost, and they are not stored."""


class OAuth2:
    """Credentials of type OAUTH2 or OAUTH2_CC.

    The token is refreshed shortly before it expires; one without a known end after the API has refused it. `name`
    begins every error.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        store: TokenStore,
        *,
        name: str,
        reach: Reach = "anywhere",
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._credentials = given
        self._store = store
        self._name = name
        self._reach = reach
        self._cancelled = cancelled
        self._closed = False

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        """The credentials with a token that is valid for a while. Raises AuthenticationFailed where there is none."""
        if can_refresh(self._credentials) and (fresh or is_expired(self._credentials)):
            self._credentials = self._renewed(self._credentials)
        return self._credentials

    def close(self) -> None:
        """Give up waiting for a token."""
        self._closed = True

    def _is_cancelled(self) -> bool:
        return self._closed or self._cancelled()

    def _renewed(self, old: Mapping[str, Any]) -> Mapping[str, Any]:
        """Credentials with another token: refreshed here, or meanwhile by another process."""
        owner = uuid.uuid4().hex
        deadline = clock.monotonic() + 2 * LEASE
        while not self._store.begin(owner, LEASE):
            time.sleep(_POLL_SECONDS)
            kept = self._kept()
            if _is_newer(kept, old):
                return kept
            if self._is_cancelled():
                raise Cancelled
            if clock.monotonic() > deadline:
                raise ApiError(self._sentence(f"another run has been refreshing it for {2 * LEASE:g} s."))
        return self._refreshed(owner, old)

    def _refreshed(self, owner: str, old: Mapping[str, Any]) -> Mapping[str, Any]:
        new: Mapping[str, Any] | None = None
        try:
            kept = self._kept()
            if _is_newer(kept, old):
                return kept
            new = self._request_token(kept)
        finally:
            is_kept = self._store.end(owner, new)
        return new if is_kept else self._kept()  # the connection has been given other credentials

    def _kept(self) -> Mapping[str, Any]:
        kept = self._store.load()
        if kept is None:
            raise ConfigError(self._sentence("the connection has no credentials any more."))
        return kept

    def _request_token(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The credentials with the token that the token endpoint gives for them."""
        named = f"{self._name}: no new access token"
        policy = Policy(
            named, timeout=10, retries=2, max_bytes=1_000_000, secrets=tuple(secrets_in(given)), reach=self._reach
        )
        request = token_request(given)
        failed: ApiError
        with Client(policy, cancelled=self._time_limit()) as client:
            try:
                return self._read(client, request, client.send(request), given)
            except ApiError as error:
                failed = error
            except Cancelled:
                if self._is_cancelled():
                    raise
                failed = ApiError(self._sentence(f"{request} gave none within {REQUEST:g} s."))
        status = failed.status or 0
        refused = 400 <= status < 500 and status not in _TEMPORARY
        # Outside of the except clause, so that the traceback is of one error.
        raise (AuthenticationFailed if refused else type(failed))(str(failed), failed.status)

    def _read(
        self, client: Client, request: Request, response: Response, given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        answer = answered(response)
        if not token_of(answer):
            # GitHub answers 200 with {"error": "bad_refresh_token"}.
            client.hide(*secrets_of(Request("POST", request.url, body=answer)))
            excerpt = client.excerpt(request, response)
            raise AuthenticationFailed(self._sentence(f"{request} answered without an access_token: {excerpt}."))
        return refreshed(given, answer, clock.now().timestamp())

    def _time_limit(self) -> Callable[[], bool]:
        """A function that tells whether the request has taken too long."""
        deadline = clock.monotonic() + REQUEST

        def is_over() -> bool:
            nonlocal deadline
            if self._is_cancelled():
                deadline = min(deadline, clock.monotonic() + GRACE)
            return clock.monotonic() > deadline

        return is_over

    def _sentence(self, sentence: str) -> str:
        return f"{self._name}: no new access token: {sentence}"


def token_request(given: Mapping[str, Any]) -> Request:
    """The request for a new token (RFC 6749, sections 4.4 and 6).

    >>> request = token_request({"type": "OAUTH2", "refresh_token": "r", "client_id": "c", "token_url": "https://a/t"})
    >>> request.body
    {'grant_type': 'refresh_token', 'refresh_token': 'r', 'client_id': 'c'}
    """
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body: dict[str, Any] = {"grant_type": "client_credentials"}
    if given.get("type") == "OAUTH2":
        body = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    scope = given.get("scope") or given.get("scopes")
    if scope:
        body["scope"] = scope if isinstance(scope, str) else " ".join(map(str, scope))
    client = {name: given[name] for name in ("client_id", "client_secret") if given.get(name)}
    if given.get("token_auth") == "basic":
        pair = f"{client.get('client_id', '')}:{client.get('client_secret', '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        body |= client
    return Request("POST", str(given["token_url"]), headers, body=body)


def refreshed(given: Mapping[str, Any], answer: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The credentials with the answer of a token endpoint; a refresh token that the answer lacks stays.

    >>> refreshed({"access_token": "a", "refresh_token": "r"}, {"access_token": "b", "expires_in": 60}, 0.0)
    {'access_token': 'b', 'refresh_token': 'r', 'expires_at': '1970-01-01T00:01:00Z', 'expires_in': 60.0}
    """
    new = {name: value for name, value in given.items() if name not in ("expires_at", "expires_in", "token")}
    new["access_token"] = token_of(answer)
    if isinstance(answer.get("refresh_token"), str) and answer["refresh_token"]:
        new["refresh_token"] = answer["refresh_token"]
    seconds = _number(answer.get("expires_in"))
    if seconds is not None:
        at = datetime.fromtimestamp(now + min(seconds, _CENTURY), timezone.utc)
        new["expires_at"] = at.isoformat(timespec="seconds").replace("+00:00", "Z")
        new["expires_in"] = seconds
    return new


def is_expired(given: Mapping[str, Any]) -> bool:
    """Whether there is no token, or one that expires within MARGIN, or within a quarter of a shorter life.

    >>> is_expired({"access_token": "t", "expires_at": clock.now().timestamp() + 40, "expires_in": 60})
    False
    """
    at = expiry(given)
    life = _number(given.get("expires_in"))
    margin = MARGIN if life is None else min(MARGIN, life / 4)
    return token_of(given) is None or (at is not None and at - clock.now().timestamp() < margin)


def expiry(given: Mapping[str, Any]) -> float | None:
    """The end of the token in seconds since 1970; None where it is not known.

    >>> expiry({"expires_at": "1970-01-01T00:01:00.000Z"}), expiry({"expires_at": 60_000_000_000_000}), expiry({})
    (60.0, 60000000000.0, None)
    """
    at = given.get("expires_at") or given.get("expiresAt")
    seconds = _number(at)
    if seconds is not None:
        return seconds / 1000 if seconds > 1e11 else seconds  # JavaScript counts milliseconds
    try:
        moment = datetime.fromisoformat(str(at).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _is_newer(kept: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether the stored credentials can be used instead of the old ones."""
    return not can_refresh(kept) or (token_of(kept) != token_of(old) and not is_expired(kept))


def answered(response: Response) -> Mapping[str, Any]:
    """The JSON object of an answer; empty where there is none."""
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, Mapping) else {}


def _number(value: Any) -> float | None:
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
