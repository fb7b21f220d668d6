"""One request of a script, and its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import msgspec

from ..errors import ScriptError
from ..http import Params, Request, Response, looks_secret, query_pairs
from ..http.request import FORM

_ABSOLUTE: Final = ("https://", "http://")


@dataclass(frozen=True)
class Call:
    """A request as a script describes it; the options are those of Nango's proxy.

    >>> Call("GET", "/issues", params={"state": "open", "labels": ["a", "b"], "page": None}).pairs
    (('state', 'open'), ('labels', 'a'), ('labels', 'b'))
    """

    method: str
    endpoint: str
    """The path behind the base URL, or a whole URL."""
    params: Mapping[str, Any] | str | None = field(default=None, repr=False)
    """The query: by name, where a list repeats it and None leaves it out, or as text."""
    data: Any = field(default=None, repr=False)
    """The body: bytes or text as they are, anything else as JSON, or as a form where the Content-Type says so."""
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    retries: int | None = None
    """None for the number of the sync's config."""
    retry_on: tuple[int, ...] = ()
    """Statuses that are retried besides 429 and 5xx."""
    base_url: str | None = None
    """The base URL of this request alone; the connection's credentials go there only if its origin is allowed."""
    retry_header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The names of headers that tell the wait: `after` in seconds, `at` as a time."""

    @property
    def is_absolute(self) -> bool:
        """Whether the endpoint is a whole URL."""
        return self.endpoint.lower().startswith(_ABSOLUTE)

    @property
    def pairs(self) -> Params:
        """The query as pairs of texts."""
        if isinstance(self.params, str):
            return ()
        return query_pairs(dict(self.params or {}))

    @property
    def path(self) -> str:
        """The endpoint with a query that was given as text."""
        if not isinstance(self.params, str) or not self.params:
            return self.endpoint
        return self.endpoint + ("&" if "?" in self.endpoint else "?") + self.params.lstrip("?")

    @property
    def header_texts(self) -> dict[str, str]:
        """The headers as texts; None leaves one out."""
        return {name: str(value) for name, value in self.headers.items() if value is not None}

    @property
    def body(self) -> Any:
        """The body of the request: text becomes bytes, so that it is sent as it is."""
        return self.data.encode() if isinstance(self.data, str) else self.data

    def with_param(self, name: str, value: Any) -> Call:
        """This call with one query parameter."""
        params = dict(_parsed(self.params)) if isinstance(self.params, str) else dict(self.params or {})
        return replace(self, params={**params, name: value})

    def request(self, url: str, headers: Mapping[str, str], params: Params = ()) -> Request:
        """The request to a URL; the call's own headers and parameters replace those of the API."""
        own, named = self.header_texts, {name for name, _ in self.pairs}
        replaced = {name.lower() for name in own}
        merged = {name: value for name, value in headers.items() if name.lower() not in replaced} | own
        if isinstance(self.data, str) and not any(name.lower() == "content-type" for name in merged):
            merged["Content-Type"] = "application/json" if self.data.lstrip()[:1] in ("{", "[") else FORM
        pairs = (*(pair for pair in params if pair[0] not in named), *self.pairs)
        return Request(self.method.upper(), url, merged, pairs, self.body).with_query_as_params()


@dataclass(frozen=True)
class ScriptAnswer:
    """The answer to a request of a script: `status`, `headers` with names in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)
    url: str
    rest: Iterator[bytes] | None = field(default=None, repr=False, compare=False)
    """The pieces of the body after `content`, where the client streams."""

    @classmethod
    def of(cls, response: Response) -> ScriptAnswer:
        """The answer that a response holds."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        return cls(response.status, headers, response.content, response.url, response.rest)

    @cached_property
    def data(self) -> Any:
        """The body as Python values where it is JSON, else as text; empty text for an empty body.

        >>> ScriptAnswer(200, {}, b'{"items": [1.5]}', "").data, ScriptAnswer(200, {}, b"plain", "").data
        ({'items': [1.5]}, 'plain')
        """
        text = self.content.strip()
        if text[:1] in (b"<", b""):
            return self.text
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):
                return self.text

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The body as Python values. Raises ScriptError where it is no JSON."""
        if isinstance(self.data, str) and self.content.strip()[:1] != b'"':
            raise ScriptError(f"{self.url.partition('?')[0]} answered with no JSON; it begins {self.text[:60]!r}.")
        return self.data


def _parsed(query: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(query.lstrip("?"), keep_blank_values=True)


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with the values starred that look secret by their names, for recordings.

    >>> public_headers({"Authorization": "Bearer t", "Accept": "*/*"})
    {'Authorization': '***', 'Accept': '*/*'}
    """
    return {name: "***" if looks_secret(name) else value for name, value in headers.items()}
