"""The kinds of credentials, as Nango has them: the fields each needs, and how it authenticates a request."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config import FORBIDDEN_HEADERS
from ..errors import ConfigError
from ..http import Request, looks_secret, origin, query_of
from .oauth1 import authorization

Credentials = Mapping[str, Any]


OVER_HTTP = "came_over_http"
"""The field that marks credentials which came over HTTP: a URL in them may not lead to every address."""


@dataclass(frozen=True)
class Kind:
    """The fields that credentials of one type must have, and how they authenticate a request."""

    sign: Callable[[Request, Credentials], Request] | None
    needs: tuple[str, ...] = ()
    url: str | None = None
    one_of: tuple[str, ...] = ()
    refreshed_by: tuple[str, ...] = ()
    """The fields that it must have besides, once it has a refresh_token."""


_REFRESHED = frozenset({"access_token", "token", "expires_at", "expires_in", "expiresAt"})
"""The fields that a refresh replaces, besides a refresh token that the server rotates."""


# --- how a request is signed ----------------------------------------------------------------------------------------


def signed(request: Request, held: Credentials) -> Request:
    """The request with these credentials; a header or parameter that the request has already stays.

    >>> signed(Request("GET", "https://a.example"), {"type": "BEARER", "token": "t1"}).headers["Authorization"]
    'Bearer t1'
    """
    name = held.get("type")
    if name is None:
        return request
    kind = KINDS.get(name)
    sign = _by_token if kind is None else kind.sign
    return request if sign is None else sign(request, held)


def token_of(held: Credentials) -> str | None:
    """The access token among credentials, by the names that kinds and servers have for it."""
    token = held.get("access_token") or (held.get("token") if held.get("type") else None)
    return token if isinstance(token, str) else None


def can_refresh(held: Credentials) -> bool:
    """Whether the credentials hold what a request for another token needs."""
    if not held.get("token_url"):
        return False
    return held.get("type") == "OAUTH2_CC" or (held.get("type") == "OAUTH2" and bool(held.get("refresh_token")))


def lasting(held: Credentials) -> Credentials:
    """The credentials that stay when the token is refreshed; the token itself is empty.

    >>> dict(lasting({"type": "BEARER", "token": "t"}))
    {'type': 'BEARER', 'token': 't'}
    >>> client = {"type": "OAUTH2_CC", "token_url": "https://a.example/token", "client_id": "c", "access_token": "t"}
    >>> lasting(client)["access_token"], lasting(client)["client_id"]
    ('', 'c')
    """
    return {name: "" if name in _REFRESHED else value for name, value in held.items()} if can_refresh(held) else held


def _by_token(request: Request, held: Credentials) -> Request:
    token = token_of(held)
    return _with_header(request, "Authorization", f"Bearer {token}") if token else request


def _by_api_key(request: Request, held: Credentials) -> Request:
    key = str(held.get("apiKey", ""))
    if name := held.get("query"):
        names = {name for name, _ in (*query_of(request.url), *request.params)}
        return request if name in names else replace(request, params=(*request.params, (name, key)))
    header = held.get("header")
    return _with_header(request, header or "Authorization", key if header else f"Bearer {key}")


def _by_password(request: Request, held: Credentials) -> Request:
    pair = b64encode(_pair(held).encode()).decode()
    return _with_header(request, "Authorization", f"Basic {pair}")


def _pair(held: Credentials) -> str:
    return f"{held.get('username', '')}:{held.get('password', '')}"


def _by_signature(request: Request, held: Credentials) -> Request:
    if request.header("Authorization") is not None:
        return request
    if not held.get("consumer_key"):
        raise ConfigError(
            "OAuth 1 signs requests with the application's consumer_key and consumer_secret, which the connection's "
            "credentials lack; add them there."
        )
    return _with_header(request, "Authorization", authorization(request, held))


def _by_token_pair(request: Request, held: Credentials) -> Request:
    """NetSuite's token-based authentication: OAuth 1 with other names and HMAC-SHA256."""
    names = {"oauth_token": "token_id", "oauth_token_secret": "token_secret"}
    renamed = {name: held.get(stored) for name, stored in names.items()}
    header = authorization(request, {**held, **renamed}, method="HMAC-SHA256")
    return _with_header(request, "Authorization", header)


def _by_session(request: Request, held: Credentials) -> Request:
    """The session of Bill, and the key of the developer."""
    return _with_header(_with_header(request, "devKey", held["dev_key"]), "sessionId", held["session_id"])


def _with_header(request: Request, name: str, value: str) -> Request:
    if request.header(name) is not None:
        return request
    return replace(request, headers={**request.headers, name: value})


# --- what they must hold --------------------------------------------------------------------------------------------


_APPLICATION = ("token_url", "client_id")
KINDS: Mapping[str, Kind] = {
    "API_KEY": Kind(_by_api_key, ("apiKey",)),
    "BASIC": Kind(_by_password, ("username",)),
    "BEARER": Kind(_by_token, ("token",)),
    "OAUTH2": Kind(_by_token, (), "token_url", ("access_token", "refresh_token"), _APPLICATION),
    "OAUTH2_CC": Kind(_by_token, (*_APPLICATION, "client_secret"), "token_url"),
    "OAUTH1": Kind(_by_signature, ("oauth_token", "oauth_token_secret", "consumer_key", "consumer_secret")),
    "TBA": Kind(_by_token_pair, ("token_id", "token_secret", "consumer_key", "consumer_secret", "realm")),
    "BILL": Kind(_by_session, ("dev_key", "session_id")),
    "APP": Kind(_by_token, ("access_token",)),
    **{name: Kind(_by_token, ("token",)) for name in ("TWO_STEP", "JWT", "SIGNATURE")},
    "PIZZLY": Kind(None),
    "NANGO": Kind(None, ("host", "secret_key"), "host"),
}


def check_credentials(given: Any) -> dict[str, Any]:
    """Credentials that can be used. Raises ConfigError with the fields they lack; no value is shown.

    >>> check_credentials({"type": "BASIC"})
    Traceback (most recent call last):
    nango_dagster.errors.ConfigError: credentials of type BASIC lack username; docs/reference/connections.md shows them.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(
            f'credentials are a {type(given).__name__}; wanted a JSON object such as {{"type": "BEARER"}}.'
        )
    name = given.get("type")
    if name is None:
        return dict(given)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ConfigError(
            f"credentials have the type {str(name)[:30]!r}; wanted one of {', '.join(KINDS)}, or no type for values "
            "that only ${credentials.NAME} reads."
        )
    _check(name, kind, given)
    return dict(given)


def _check(name: str, kind: Kind, given: Credentials) -> None:
    needs = [*kind.needs, *(kind.refreshed_by if given.get("refresh_token") else ())]
    lacks = [need for need in needs if not _is_text(given.get(need))]
    if kind.one_of and not any(_is_text(given.get(field)) for field in kind.one_of):
        lacks.append(" or ".join(kind.one_of))
    if lacks:
        fields = " and ".join(lacks)
        raise ConfigError(f"credentials of type {name} lack {fields}; docs/reference/connections.md shows them.")
    if str(given.get("header") or "").lower() in FORBIDDEN_HEADERS:
        raise ConfigError(f"credentials of type {name} name the header {given['header']}, which only the client sets.")
    if given.get("header") and given.get("query"):
        raise ConfigError(f"credentials of type {name} say both header and query; keep the one that the API reads.")
    if kind.url and given.get(kind.url):
        _check_url(name, kind.url, given[kind.url])


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _check_url(name: str, field: str, url: Any) -> None:
    try:
        origin(str(url))
        return
    except ConfigError as error:
        sentence = str(error)
    raise ConfigError(f"credentials of type {name}: {field}: {sentence}")


# --- secrets --------------------------------------------------------------------------------------------------------


# Fields that give nobody access.
_PUBLIC = frozenset(
    {
        "type",
        OVER_HTTP,
        "header",
        "query",
        "username",
        "host",
        "token_url",
        "token_auth",
        "token_type",
        "scope",
        "scopes",
        "expires_at",
        "expires_in",
        "expiresAt",
        "connection_id",
        "provider_config_key",
    }
)


def secrets_in(held: Credentials) -> Iterator[str]:
    """The values among credentials that have to be starred."""
    yield from _secrets(held)
    if held.get("type") == "BASIC":
        yield _pair(held)
        if not held.get("password"):  # then the name is the key
            yield str(held.get("username", ""))


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if name in _PUBLIC:
        return
    if isinstance(value, Mapping):
        for inner_name, inner in value.items():
            yield from _secrets(inner, str(inner_name))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, name)
    elif isinstance(value, str) or (looks_secret(name) and value is not None and not isinstance(value, bool)):
        yield str(value)
