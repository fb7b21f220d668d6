"""What is sent and what comes back: frozen values, before and after the wire."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlencode, urljoin

import msgspec
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from ..errors import ConfigError
from ..paths import MISSING, dig, put
from .redaction import public_url

NO_BODY: Final = frozenset({"GET", "DELETE", "HEAD"})
FORM: Final = "application/x-www-form-urlencoded"
Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request; its `params` are added to the URL's query where the URL does not name them already.

    URL, headers, params and body may hold `${...}` placeholders. What comes from an API, through `with_value`
    and `follow`, is escaped, so that it never becomes one.

    >>> Request("GET", "https://api.example.com/items?page=2", params=(("page", "1"), ("api_key", "k")))
    Request(GET https://api.example.com/items?page=2&api_key=***)
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Params = ()
    body: Any = None

    def __repr__(self) -> str:
        return f"Request({self})"

    def __str__(self) -> str:
        return f"{self.method} {public_url(self.full_url)}"

    @property
    def full_url(self) -> str:
        """The URL with the params that it lacks."""
        have = {name for name, _ in query_of(self.url)}
        return _extended(self.url, tuple(pair for pair in self.params if pair[0] not in have))

    @property
    def in_query(self) -> bool:
        """Whether paging values go into the query; else they go into the JSON body."""
        return self.method in NO_BODY

    @property
    def has_body(self) -> bool:
        """Whether a body goes along; with a DELETE only one that was given."""
        return not self.in_query or (self.method == "DELETE" and self.body is not None)

    def with_value(self, path: str, value: Any) -> Request:
        """The same request with a value for paging: a query parameter of that name, or a place in the body.

        >>> Request("GET", "https://a.example?page=1").with_value("page", 2).full_url
        'https://a.example?page=2'
        >>> Request("POST", "https://a.example", body={"limit": 5}).with_value("paging.after", "c2").body
        {'limit': 5, 'paging': {'after': 'c2'}}
        """
        if not self.in_query:
            return replace(self, body=put({} if self.body is None else self.body, path, _literal(value)))
        others = tuple(pair for pair in self.params if pair[0] != path)
        text = _literal(query_text(value))
        return replace(self, url=_without(self.url, path), params=(*others, (path, text)))

    def value(self, path: str) -> Any:
        """The value that stands there now, or MISSING; out of a query it is text."""
        if not self.in_query:
            return dig(self.body, path)
        given = dict(self.params) | dict(query_of(self.url))
        return given.get(path, MISSING)

    def follow(self, url: str, base: str | None = None) -> Request:
        """The same request to another URL, which may be relative.

        >>> Request("GET", "https://a.example/items", params=(("api_key", "k"),)).follow("?page=2").full_url
        'https://a.example/items?page=2&api_key=k'
        """
        target = joined(base or self.url, url).replace("${", "$%7B")
        userinfo = _userinfo(self.url)
        if userinfo and not _userinfo(target) and "${" not in _host(self.url) and origin(self.url) == origin(target):
            target = target.replace("//", f"//{userinfo}@", 1)
        return replace(self, url=target)

    def with_query_as_params(self) -> Request:
        """The same request, keeping both where the URL and the params name the same parameter.

        >>> Request("GET", "https://a.example?tag=a", params=(("tag", "b"),)).with_query_as_params().full_url
        'https://a.example?tag=a&tag=b'
        """
        names = {name for name, _ in self.params}
        doubled = tuple((name, value) for name, value in query_of(self.url) if name in names)
        url = self.url
        for name, _ in doubled:
            url = _without(url, name)
        return replace(self, url=url, params=(*doubled, *self.params))

    def with_userinfo_in_header(self) -> Request:
        """`https://user:password@host` as a header, which is how it is sent."""
        userinfo = _userinfo(self.url)
        if not userinfo:
            return self
        bare = replace(self, url=self.url.replace(f"{userinfo}@", "", 1))
        if any(name.lower() == "authorization" for name in self.headers):
            return bare
        basic = b64encode(unquote(userinfo).encode()).decode()
        return replace(bare, headers={**self.headers, "Authorization": f"Basic {basic}"})

    def fingerprint(self) -> str:
        """A hash that two requests share exactly when they ask the same."""
        parts = (self.method, self.full_url, sorted(self.headers.items()), self.body)
        return hashlib.blake2b(json_bytes(parts), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Response:
    """One answer: the body is decompressed, and header names match in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    url: str

    @cached_property
    def links(self) -> Mapping[str, str]:
        """The URLs of the Link header by their `rel`.

        >>> header = '<https://a.example?page=2>; rel="next", <https://a.example?page=9>; rel="last"'
        >>> Response(200, {"Link": header}, b"", "").links["next"]
        'https://a.example?page=2'
        """
        return links(self.headers.get("Link", ""))


# One link: a URL in angle brackets, then its parameters; commas may stand in both.
_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"[^"]*"|[^\s;,]*))?)*)')
_PARAMETER = re.compile(r';\s*([^\s=;,]+)(?:\s*=\s*(?:"([^"]*)"|([^\s;,]*)))?')


def links(header: str) -> dict[str, str]:
    """`rel` -> URL; the first of a rel counts, and one link may have several."""
    found: dict[str, str] = {}
    for url, parameters in _LINK.findall(header):
        for name, quoted, plain in _PARAMETER.findall(parameters):
            for rel in (quoted or plain).split() if name.lower() == "rel" else ():
                found.setdefault(rel.lower(), url)
    return found


@dataclass(frozen=True)
class Place:
    """The parts of a URL that decide where a request goes, read by the parser that also connects."""

    scheme: str
    host: str
    port: int

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def split(url: str) -> Place:
    """Where a URL leads. Raises ConfigError for anything but http and https."""
    return _split(url.partition("#")[0].partition("?")[0])


@lru_cache(maxsize=1024)
def _split(url: str) -> Place:
    # Raised after each except clause, so that no traceback holds the URL with its secrets.
    try:
        parts = parse_url(url)
    except LocationParseError:
        parts = None
    if parts is None:
        raise ConfigError(f"{public_url(url)!r} is no URL; wanted https://host/path.")
    if parts.scheme not in ("http", "https") or not parts.host:
        found = public_url(url)
        raise ConfigError(f"{found!r} cannot be fetched; wanted a URL that begins with https:// or http://.")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return Place(parts.scheme, parts.host.lower().rstrip("."), port)


def _authority(url: str) -> str:
    """`user:password@host:port`, as the parser that connects cuts it out."""
    return re.split(r"[/?#\\]", url.partition("//")[2], maxsplit=1)[0]


def _userinfo(url: str) -> str:
    return _authority(url).rpartition("@")[0]


def _host(url: str) -> str:
    return _authority(url).rpartition("@")[2]


def joined(base: str, url: str) -> str:
    """Where a URL that may be relative leads. Raises ConfigError for anything but http and https."""
    target: str | None
    try:
        target = urljoin(base, url.strip()).partition("#")[0]
    except ValueError:
        target = None
    if target is None:
        raise ConfigError(f"{public_url(url)!r} is no URL; wanted https://host/path.")
    split(target)
    return target


def origin(url: str) -> str:
    """Scheme, host and port, in one spelling.

    >>> origin("HTTPS://API.example.com/items?page=2")
    'https://api.example.com:443'
    """
    return split(url).origin


def is_url(text: str) -> bool:
    """Whether something can be asked of it.

    >>> [is_url(text) for text in ("https://a.example/hook?token=k", "a.example/hook", "ftp://a.example", "http://")]
    [True, False, False, False]
    """
    try:
        split(text)
    except ConfigError:
        return False
    return not re.search(r"\s", text)


def query_of(url: str) -> list[tuple[str, str]]:
    """The decoded parameters of a URL's query, in order.

    >>> query_of("https://a.example?filter[id]=1&tag=a%20b#top")
    [('filter[id]', '1'), ('tag', 'a b')]
    """
    return [(unquote_plus(name), unquote_plus(value)) for name, value in _raw_query(url)]


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


def form_pairs(request: Request) -> Params:
    """The fields of a body that is sent as a form; none where it is sent as JSON.

    >>> form_pairs(Request("POST", "https://a.example", {"Content-Type": FORM}, body={"a": 1, "b": [True, "x"]}))
    (('a', '1'), ('b', 'true'), ('b', 'x'))
    """
    return query_pairs(request.body) if _is_form(request) and isinstance(request.body, Mapping) else ()


def body_bytes(request: Request) -> bytes:
    """The body as it is sent: a form where the Content-Type says so, else JSON."""
    if _is_form(request) and not isinstance(request.body, list | tuple):
        return urlencode(form_pairs(request), errors=_LONE).encode()
    return json_bytes({} if request.body is None else request.body)


def _is_form(request: Request) -> bool:
    kind = next((value for name, value in request.headers.items() if name.lower() == "content-type"), "")
    return kind.partition(";")[0].strip().lower() == FORM


_LONE: Final = "surrogatepass"  # a cursor goes back as it came, even half a character
_encode = msgspec.json.Encoder(decimal_format="number").encode


def json_bytes(value: Any) -> bytes:
    """Compact JSON with exact numbers."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        raise ConfigError("a text in the request holds a lone surrogate, which cannot be sent as JSON.") from None


def _literal(value: Any) -> Any:
    """The value, such that a template gives it back as it is."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {name: _literal(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_literal(item) for item in value]
    return value


def _raw_query(url: str) -> Iterator[tuple[str, str]]:
    query = url.partition("#")[0].partition("?")[2]
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            yield name, value


def _without(url: str, name: str) -> str:
    """The URL without the parameters of that name; the rest stays as it is written."""
    path, _, query = url.partition("#")[0].partition("?")
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) != name]
    return f"{path}?{'&'.join(kept)}" if kept else path


def _extended(url: str, params: Params) -> str:
    url = url.partition("#")[0]
    if not params:
        return url
    glue = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    # Brackets, colons and commas stay readable, as APIs document them.
    pairs = (
        f"{quote(name, safe='[]$:,@', errors=_LONE)}={quote_plus(value, '[]$:,', errors=_LONE)}"
        for name, value in params
    )
    return url + glue + "&".join(pairs)
