"""Styles that follow a URL: it stands beside the records, in the Link header, or in a header of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from ..errors import ApiError
from ..http import Request, parse_links, unread_text
from .answer import Answer, Style, is_end_beside_records
from .cursors import Destination, with_cursor

LISTED: Final = 20  # names of fields in a sentence
_NO = ("false", "no", "0")
_LEADS_SOMEWHERE = ("results", "has_more", "has-more", "more", "exists")
"""The parameters of a link that say with one of `_NO` that it leads to nothing."""


@dataclass(frozen=True)
class UrlInBody(Style):
    """`paging_url_path`: the next page's URL beside the records, relative or whole.

    `{"results": [...], "next": "https://pokeapi.co/api/v2/pokemon?offset=20"}`
    """

    path: str
    ends = "no_next_url"

    def after(self, page: Answer) -> Request | None:
        return _at_url(page, page.envelope.dig(self.path), f'paging_url_path "{self.path}"')


@dataclass(frozen=True)
class UrlInLinkHeader(Style):
    """`paging_header_link_rel`: the next page's URL in the Link header.

    `Link: <https://api.github.com/user/repos?page=2>; rel="next"`

    A link with `results="false"`, as Sentry writes it, or the like leads to nothing and ends the list.
    """

    rel: str
    ends = "no_next_url"
    in_body = False

    def after(self, page: Answer) -> Request | None:
        header = page.response.headers.get("Link", "")
        for link in parse_links(header):
            if self._is_named(link.relations):
                if any(link.parameters.get(name, "").lower() in _NO for name in _LEADS_SOMEWHERE):
                    return None
                return _at_url(page, link.url, "the Link header")
        if re.search(rf"\b{re.escape(self.rel)}\b", unread_text(header), re.IGNORECASE):
            raise ApiError(f'the Link header names "{self.rel}", but its URL cannot be read: {header[:200]!r}.')
        return None

    def _is_named(self, relations: Sequence[str]) -> bool:
        """Whether a link has the relation, by its name or as the URL of one, such as `https://a.example/rels/next`."""
        name = self.rel.lower()
        return any(
            relation == name or relation.endswith((f"/{name}", f"#{name}", f":{name}")) for relation in relations
        )


@dataclass(frozen=True)
class UrlInHeader(Style):
    """`paging_header_url`: the next page's URL in a header of its own.

    `X-Next-Page: /items?page=2`
    """

    header: str
    ends = "no_next_url"
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return _at_url(page, page.response.header(self.header), f"the header {self.header}")


@dataclass(frozen=True)
class CursorOrUrlInBody(Style):
    """`paging_response_path`, an older field: a URL is followed, anything else is sent as a cursor.

    Only a whole URL is told from a cursor; with no place to send a cursor to, a relative one is followed too.
    """

    path: str
    destination: Destination | None

    def after(self, page: Answer) -> Request | None:
        value = page.envelope.dig(self.path)
        if self.destination is None or _is_whole_url(value):
            return _at_url(page, value, f'paging_response_path "{self.path}"')
        return with_cursor(page, self.destination, value)


def _at_url(page: Answer, value: Any, where: str) -> Request | None:
    if is_end_beside_records(value) or value == "#":
        return None
    if not isinstance(value, str):
        raise ApiError(f"{where} holds {_kind(value)}; wanted the URL of the next page.{_hint(value, where)}")
    return page.continued.follow(value, page.response.url)


def _hint(value: Any, where: str) -> str:
    """The field that reads such a value, for a sentence."""
    field, _, path = where.partition(' "')
    path = path.removesuffix('"')
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return (
            f" If it is a cursor or a page number, set paging_cursor_metadata_response_path: {path} and "
            "paging_cursor_request_path to the parameter that it goes to."
        )
    if isinstance(value, list):
        return f' Set {field}: "{path}[0]" for its first value.' if isinstance(value[0], str) else ""
    if not isinstance(value, dict):
        return ""
    name = next((name for name in ("href", "url", "uri", "link") if isinstance(value.get(name), str)), None)
    return f" Set {field}: {path}.{name}." if name else f" It has {', '.join(list(value)[:LISTED])}."


def _is_whole_url(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower().startswith(("https://", "http://"))


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", bool: "true"}.get(type(value), "a number")
