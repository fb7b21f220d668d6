"""URLs and their queries, read by the parser that also connects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote_plus, urljoin

import msgspec
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from ..errors import ConfigError
from .redaction import public_url

Params = tuple[tuple[str, str], ...]
"""Query parameters in their order; a name may be repeated."""


@dataclass(frozen=True)
class Server:
    """The parts of a URL that decide which server a request goes to."""

    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def server_of(url: str) -> Server:
    """The server that a URL leads to. Raises ConfigError for anything but http and https."""
    return _server_of(url.partition("#")[0].partition("?")[0])


@lru_cache(maxsize=1024)
def _server_of(url: str) -> Server:
    # Raised after each except clause, so that no traceback holds the URL with its secrets.
    try:
        parts = parse_url(url)
    except LocationParseError:
        parts = None
    if parts is None:
        raise ConfigError(f"{public_url(url)!r} is no URL; wanted https://host/path.")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ConfigError(f"{public_url(url)!r} cannot be fetched; wanted a URL that begins with https:// or http://.")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return Server(parts.scheme, parts.host.lower().rstrip("."), port)


def origin(url: str) -> str:
    """Scheme, host and port of a URL, in one spelling.

    >>> origin("HTTPS://API.example.com/items?page=2")
    'https://api.example.com:443'
    """
    return server_of(url).origin


def is_url(text: str) -> bool:
    """Whether the text is a URL that can be requested.

    >>> [is_url(text) for text in ("https://a.example/hook?token=k", "a.example/hook", "ftp://a.example", "http://")]
    [True, False, False, False]
    """
    try:
        server_of(text)
    except ConfigError:
        return False
    return not re.search(r"\s", text)


def joined(base: str, url: str) -> str:
    """The absolute URL of one that may be relative. Raises ConfigError for anything but http and https."""
    target: str | None
    try:
        target = urljoin(base, url.strip()).partition("#")[0]
    except ValueError:
        target = None
    if target is None:
        raise ConfigError(f"{public_url(url)!r} is no URL; wanted https://host/path.")
    server_of(target)
    return target


def _authority(url: str) -> str:
    """`user:password@host:port`, as the parser that connects cuts it out."""
    return re.split(r"[/?#\\]", url.partition("//")[2], maxsplit=1)[0]


def userinfo(url: str) -> str:
    """`user:password` of a URL, percent-encoded as it stands there."""
    return _authority(url).rpartition("@")[0]


def host_text(url: str) -> str:
    """`host:port` as the URL has it; it may hold a placeholder."""
    return _authority(url).rpartition("@")[2]


# --- queries ----------------------------------------------------------------------------------------------------


def query_of(url: str) -> list[tuple[str, str]]:
    """The decoded parameters of a URL's query, in order.

    >>> query_of("https://a.example?filter[id]=1&tag=a%20b#top")
    [('filter[id]', '1'), ('tag', 'a b')]
    """
    return [(unquote_plus(name), unquote_plus(value)) for name, value in _raw_query(url)]


def _raw_query(url: str) -> Iterator[tuple[str, str]]:
    query = url.partition("#")[0].partition("?")[2]
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield name, value


def query_pairs(params: Mapping[str, Any]) -> Params:
    """Query parameters as the config has them: a list repeats the name, null leaves it out."""
    return tuple(
        (name, query_text(item))
        for name, value in params.items()
        for item in (value if isinstance(value, list | tuple) else [value])
        if item is not None
    )


def query_text(value: Any) -> str:
    """A JSON value as the text of a query parameter.

    >>> query_text(0), query_text(True), query_text({"id": 7})
    ('0', 'true', '{"id":7}')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return json_bytes(value).decode()


def without_parameter(url: str, name: str) -> str:
    """The URL without the parameters of that name; the rest stays as it is written."""
    path, _, query = url.partition("#")[0].partition("?")
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) != name]
    return f"{path}?{'&'.join(kept)}" if kept else path


LONE_SURROGATES: Final = "surrogatepass"
"""How text is encoded that an API sent: a cursor goes back as it came, even with half a character in it."""


def with_parameters(url: str, params: Params) -> str:
    """The URL with these parameters at the end of its query."""
    url = url.partition("#")[0]
    if not params:
        return url
    glue = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    # Brackets, colons and commas stay readable, as APIs document them.
    pairs = (
        f"{quote(name, safe='[]$:,@', errors=LONE_SURROGATES)}={quote_plus(value, '[]$:,', errors=LONE_SURROGATES)}"
        for name, value in params
    )
    return url + glue + "&".join(pairs)


# --- JSON in requests ----------------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder(decimal_format="number").encode


def json_bytes(value: Any) -> bytes:
    """Compact JSON with exact numbers. Raises ConfigError for text that is not Unicode."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        raise ConfigError("a text in the request holds a lone surrogate, which cannot be sent as JSON.") from None
