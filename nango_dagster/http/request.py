"""Requests and responses as frozen values."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import IO, Any, Final
from urllib.parse import unquote, urlencode

from ..paths import MISSING, dig, put
from .links import links, utf8_text
from .redaction import body_secrets, header_secrets, looks_secret, public_url, url_secrets
from .urls import (
    LONE_SURROGATES,
    Params,
    host_text,
    joined,
    json_bytes,
    origin,
    query_of,
    query_pairs,
    query_text,
    userinfo,
    with_parameters,
    without_parameter,
)

NO_BODY: Final = frozenset({"GET", "DELETE", "HEAD"})
FORM: Final = "application/x-www-form-urlencoded"
# The access token of a connection, which may be refreshed between two pages.
_ACCESS_TOKEN: Final = re.compile(r"\$\{(access_token|pizzlyAccessToken|credentials\b)")


@dataclass(frozen=True)
class FileBody:
    """A long body in a file, which each try sends from its beginning."""

    file: IO[bytes] = field(repr=False)
    size: int


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request; its `params` are added to the URL's query where the URL does not name them already.

    URL, headers, params and body may hold `${...}` placeholders. Values of an API, given to `with_value` and `follow`,
    are escaped, so that they never become placeholders.

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
        names = {name for name, _ in query_of(self.url)}
        return with_parameters(self.url, tuple(pair for pair in self.params if pair[0] not in names))

    @property
    def in_query(self) -> bool:
        """Whether paging values go into the query; else they go into the JSON body."""
        return self.method in NO_BODY

    @property
    def has_body(self) -> bool:
        """Whether a body is sent; with a DELETE only one that was given."""
        return not self.in_query or (self.method == "DELETE" and self.body is not None)

    def header(self, name: str) -> str | None:
        """The value of a header; its name matches in any case."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    def with_value(self, path: str, value: Any) -> Request:
        """This request with a value for paging: a query parameter of that name, or a place in the body.

        >>> Request("GET", "https://a.example?page=1").with_value("page", 2).full_url
        'https://a.example?page=2'
        >>> Request("POST", "https://a.example", body={"limit": 5}).with_value("paging.after", "c2").body
        {'limit': 5, 'paging': {'after': 'c2'}}
        """
        if not self.in_query:
            return replace(self, body=put({} if self.body is None else self.body, path, _escaped(value)))
        others = tuple(pair for pair in self.params if pair[0] != path)
        text = _escaped(query_text(value))
        return replace(self, url=without_parameter(self.url, path), params=(*others, (path, text)))

    def value(self, path: str) -> Any:
        """The present value at a place of `with_value`, or MISSING; a value of the query is text."""
        if not self.in_query:
            return dig(self.body, path)
        parameters = dict(self.params) | dict(query_of(self.url))
        return parameters.get(path, MISSING)

    def follow(self, url: str, base: str | None = None) -> Request:
        """This request with another URL, which may be relative.

        A URL of the API's own that repeats an access token gets the connection's present one in its place: that in
        the URL may have run out.

        >>> Request("GET", "https://a.example/items", params=(("api_key", "k"),)).follow("?page=2").full_url
        'https://a.example/items?page=2&api_key=k'
        >>> Request("GET", "${env.API}/items").follow("https://a.example/items?page=2").full_url
        'https://a.example/items?page=2'
        >>> Request("GET", "https://a.example/items?t=${access_token}").follow("?page=2&t=old").full_url
        'https://a.example/items?page=2&t=$%7Baccess_token%7D'
        """
        target = joined(base or self.url, url).replace("${", "$%7B")
        host = host_text(self.url)
        host_is_known = host != "" and "${" not in host
        if host_is_known and origin(self.url) != origin(target):
            return replace(self, url=target)
        if host_is_known and userinfo(self.url) and not userinfo(target):
            target = target.replace("//", f"//{userinfo(self.url)}@", 1)
        pairs = (*self.params, *query_of(self.url))
        tokens = {name: value for name, value in pairs if _ACCESS_TOKEN.search(value)}
        for name in tokens:
            target = without_parameter(target, name)
        others = tuple(pair for pair in self.params if pair[0] not in tokens)
        return replace(self, url=target, params=(*others, *tokens.items()))

    def with_query_as_params(self) -> Request:
        """This request, with both values where the URL and the params name the same parameter.

        >>> Request("GET", "https://a.example?tag=a", params=(("tag", "b"),)).with_query_as_params().full_url
        'https://a.example?tag=a&tag=b'
        """
        names = {name for name, _ in self.params}
        doubled = tuple((name, value) for name, value in query_of(self.url) if name in names)
        url = self.url
        for name, _ in doubled:
            url = without_parameter(url, name)
        return replace(self, url=url, params=(*doubled, *self.params))

    def with_userinfo_in_header(self) -> Request:
        """This request with the user and password of its URL in the Authorization header."""
        user = userinfo(self.url)
        if not user:
            return self
        bare = replace(self, url=self.url.replace(f"{user}@", "", 1))
        if self.header("Authorization") is not None:
            return bare
        basic = b64encode(unquote(user).encode()).decode()
        return replace(bare, headers={**self.headers, "Authorization": f"Basic {basic}"})

    def fingerprint(self) -> str:
        """A hash of everything that is sent: equal requests have the same."""
        parts = (self.method, self.full_url, sorted(self.headers.items()), self.body)
        return hashlib.blake2b(json_bytes(parts), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Response:
    """One answer: the body is decompressed, and header names match in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    url: str
    rest: Iterator[bytes] | None = field(default=None, repr=False, compare=False)
    """The pieces of the body after `content`, where the policy streams: read them to their end, or close the client."""

    @cached_property
    def links(self) -> Mapping[str, str]:
        """The URLs of the Link header by their `rel`; `parse_links` gives their other parameters.

        >>> header = '<https://a.example?page=2>; rel="next", <https://a.example?page=9>; rel="last"'
        >>> Response(200, {"Link": header}, b"", "").links["next"]
        'https://a.example?page=2'
        """
        return links(self.header("Link"))

    def header(self, name: str) -> str:
        """A header's value as text, also where its bytes are UTF-8; empty where it is missing."""
        return utf8_text(self.headers.get(name, ""))


# --- bodies ----------------------------------------------------------------------------------------------------


def form_pairs(request: Request) -> Params:
    """The fields of a body that is sent as a form; none where it is sent as JSON.

    >>> form_pairs(Request("POST", "https://a.example", {"Content-Type": FORM}, body={"a": 1, "b": [True, "x"]}))
    (('a', '1'), ('b', 'true'), ('b', 'x'))
    """
    return query_pairs(request.body) if _is_form(request) and isinstance(request.body, Mapping) else ()


def body_bytes(request: Request) -> bytes:
    """The body as it is sent: bytes as they are, a form where the Content-Type says so, else JSON."""
    if isinstance(request.body, bytes):
        return request.body
    if isinstance(request.body, FileBody):
        request.body.file.seek(0)
        return request.body.file.read()
    if _is_form(request) and not isinstance(request.body, list | tuple):
        return urlencode(form_pairs(request), errors=LONE_SURROGATES).encode()
    return json_bytes({} if request.body is None else request.body)


def _is_form(request: Request) -> bool:
    return (request.header("content-type") or "").partition(";")[0].strip().lower() == FORM


def _escaped(value: Any) -> Any:
    """The value in a form that a template renders as the value itself."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


# --- secrets ----------------------------------------------------------------------------------------------------


def secrets_of(request: Request) -> Iterator[str]:
    """The values in a request that look like credentials by the names they stand under."""
    for name, value in request.headers.items():
        if looks_secret(name):
            yield from header_secrets(value)
    for name, value in request.params:
        if looks_secret(name):
            yield value
    yield from url_secrets(request.url)
    yield from body_secrets(request.body)
