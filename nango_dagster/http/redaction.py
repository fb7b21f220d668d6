"""Secrets become `***` before any text leaves the package."""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus

STARS = "***"
_SECRET = re.compile(
    r"key|token|secret|passw|passphrase|pwd|auth|signature|credential|cookie|session|bearer|jwt|hmac|webhook_?url"
    r"|^(sig|code|pass|pin|sid)$",
    re.IGNORECASE,
)
# These only say where the next page begins; an error about paging needs them.
_CURSOR = re.compile(r"^(next|prev|previous)?[-_]?(page|sync|continuation)?[-_]?token$", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"(\b(basic|bearer|token|token=)\s+)?\$\{[^{}]*\}", re.IGNORECASE)
_WORDS = frozenset({"true", "false", "null", "none", "basic", "bearer", "application/json"})


def looks_secret(name: str) -> bool:
    """Whether a header, parameter or field of that name holds a credential.

    >>> [name for name in ("X-Api-Key", "Authorization", "pageToken", "limit") if looks_secret(name)]
    ['X-Api-Key', 'Authorization']
    """
    if _CURSOR.match(name) and name.lower() != "token":
        return False
    return _SECRET.search(name) is not None


def public_url(url: str) -> str:
    """The URL with its userinfo and secret-looking parameters starred, and without its fragment.

    >>> public_url("https://me:pw@api.example.com/items?api_key=k&page=2")
    'https://***@api.example.com/items?api_key=***&page=2'
    """
    path, mark, query = url.partition("#")[0].partition("?")
    scheme, slashes, rest = path.partition("//")
    host, slash, tail = rest.partition("/")
    if "@" in host:
        host = f"{STARS}@{host.rpartition('@')[2]}"
    return scheme + slashes + host + slash + tail + mark + "&".join(map(_public_part, query.split("&")))


def _public_part(part: str) -> str:
    name, _, value = part.partition("=")
    return f"{name}={STARS}" if looks_secret(unquote_plus(name)) and _is_literal(value) else part


def _is_literal(value: str) -> bool:
    """Whether the value is a secret itself, and not only a placeholder for one, such as `Bearer ${access_token}`."""
    return _PLACEHOLDER.sub("", value).strip() != ""


def public_json(value: Any, *, secret: bool = False) -> Any:
    """JSON with each value starred that looks secret by the names it is under.

    >>> public_json({"team": 7, "api_key": "k", "auth": {"user": "me", "password": "${credentials.password}"}})
    {'team': 7, 'api_key': '***', 'auth': {'user': '***', 'password': '${credentials.password}'}}
    """
    if isinstance(value, Mapping):
        return {name: public_json(item, secret=secret or looks_secret(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [public_json(item, secret=secret) for item in value]
    if isinstance(value, str):
        return STARS if secret and _is_literal(value) else value
    return STARS if secret and value is not None else value


def public_config(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a sync with each value starred that looks secret by its name.

    >>> public_config({"url": "https://api.example.com/items?key=k", "headers": {"Authorization": "Bearer t"}})
    {'url': 'https://api.example.com/items?key=***', 'headers': {'Authorization': '***'}}
    """
    shown = {name: public_json(document[name]) for name in ("headers", "query_params", "body") if name in document}
    if isinstance(document.get("next_request"), Mapping):
        shown["next_request"] = public_config(document["next_request"])
    return {**document, **({"url": public_url(document["url"])} if "url" in document else {}), **shown}


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret starred, also where it stands URL-encoded, escaped or in base64.

    >>> redact('{"echo": "a%2Fb+c", "url": "/items?k=a/b c"}', ["a/b c"])
    '{"echo": "***", "url": "/items?k=***"}'
    """
    pattern = _pattern(frozenset(secrets))
    return pattern.sub(STARS, text) if pattern else text


@lru_cache(maxsize=256)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in _forms(secret)}
    if not forms:
        return None
    # The longest first, so that no half of a secret stays.
    alternatives = (_alternative(form) for form in sorted(forms, key=lambda form: (-len(form), form)))
    return re.compile("|".join(alternatives), re.IGNORECASE)


def _alternative(form: str) -> str:
    # Starring every "1" would hide the whole text; a short secret is starred where it stands alone.
    return re.escape(form) if len(form) > 3 else rf"(?<!\w){re.escape(form)}(?!\w)"


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written in a URL, in JSON, in HTML, in a traceback or in a header."""
    secret = secret.strip()
    if _is_literal(secret) and secret.lower() not in _WORDS:  # a placeholder names a secret, and holds none
        for plain in {secret, unquote(secret), unquote_plus(secret)}:
            yield from _forms_of(plain)


def _forms_of(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="", errors="replace")
    yield quote(secret, safe="/", errors="replace")
    yield quote_plus(secret, errors="replace")
    yield html.escape(secret)
    yield repr(secret)[1:-1]
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1].replace("/", "\\/")
    yield b64encode(secret.encode(errors="replace")).decode()


def header_secrets(value: str) -> Iterator[str]:
    """The secrets in a header's value: all of it, and the part after its scheme.

    The forms are `Bearer abc`, `Basic dTpw` and `sid=1; theme=dark`.
    """
    yield value
    scheme, _, credentials = value.partition(" ")
    if credentials:
        yield credentials
    if scheme.lower() == "basic":
        yield from _basic_secrets(credentials)
    for part in value.split(";"):
        _, mark, cookie = part.partition("=")
        if mark:
            yield cookie


def _basic_secrets(credentials: str) -> Iterator[str]:
    try:
        user, _, password = b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return
    yield password or user


def url_secrets(url: str) -> Iterator[str]:
    """The user name, password and secret-looking parameters of a URL."""
    head, _, query = url.partition("#")[0].partition("?")
    host = head.partition("//")[2].partition("/")[0]
    if "@" in host:
        userinfo = host.rpartition("@")[0]
        user, _, password = userinfo.partition(":")
        yield from (userinfo, unquote(password or user))
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if looks_secret(unquote_plus(name)):
            yield unquote_plus(value)


def body_secrets(value: Any, *, secret: bool = False) -> Iterator[str]:
    """The values of a body that stand under a secret-looking name, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from body_secrets(inner, secret=secret or looks_secret(str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from body_secrets(inner, secret=secret)
    elif secret and value is not None and not isinstance(value, bool):
        yield str(value)
