"""Given a page, the request for the next one, or none: one small frozen class per style.

A style only reads and places. The guards against lists that never end stand once, in
:mod:`nango_dagster.fetch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nango_dagster.config import Sync
from nango_dagster.errors import ApiError
from nango_dagster.http import Request, Response
from nango_dagster.paths import MISSING
from nango_dagster.records import Envelope


@dataclass(frozen=True)
class Answer:
    """One page as paging sees it: what was asked and what came back."""

    request: Request
    response: Response
    envelope: Envelope
    number: int
    """1 for the first page of the pull."""
    total: int
    """Records so far, this page's included."""

    @property
    def size(self) -> int:
        """How many records the API sent in this page, usable or not."""
        return len(self.envelope.records) + len(self.envelope.rejected)


class Paging(Protocol):
    """How one API leads from page to page."""

    @property
    def ends(self) -> str:
        """Why a pull is over when there is no next request."""
        ...

    @property
    def in_body(self) -> bool:
        """Whether an answer with the same body, which is what an ETag stands for, leads to the same next page."""
        ...

    def first(self, request: Request) -> Request:
        """The request for the first page."""
        ...

    def after(self, page: Answer) -> Request | None:
        """The request for the page after this one, or None at the end of the list."""
        ...


class Style:
    """What most styles share: the first request is the sync's own."""

    ends = "no_cursor"
    in_body = True

    def first(self, request: Request) -> Request:
        return request


@dataclass(frozen=True)
class SinglePage(Style):
    """No paging: the first answer is all there is.

    `{"results": [...]}`
    """

    ends = "single_page"

    def after(self, page: Answer) -> Request | None:
        return None


@dataclass(frozen=True)
class CursorInBody(Style):
    """`paging_cursor_metadata_response_path`: a cursor beside the records.

    `{"results": [...], "paging": {"next": {"after": "NTI1"}}}`
    """

    path: str
    request_path: str

    def after(self, page: Answer) -> Request | None:
        return _with_cursor(page, self.request_path, page.envelope.dig(self.path))


@dataclass(frozen=True)
class CursorInLastRecord(Style):
    """`paging_cursor_object_response_path`: a cursor inside the last record.

    `{"results": [..., {"id": 7, "cursor": "NTI1"}]}`
    """

    path: str
    request_path: str

    def after(self, page: Answer) -> Request | None:
        return _with_cursor(page, self.request_path, page.envelope.dig_last(self.path))


@dataclass(frozen=True)
class CursorInHeader(Style):
    """`paging_header_cursor`: a cursor in a header of the answer.

    `X-Next-Cursor: NTI1`
    """

    header: str
    request_path: str
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return _with_cursor(page, self.request_path, page.response.headers.get(self.header))


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
    """

    rel: str
    ends = "no_next_url"
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return _at_url(page, page.response.links.get(self.rel.lower()), "the Link header")


@dataclass(frozen=True)
class UrlInHeader(Style):
    """`paging_header_url`: the next page's URL in a header of its own.

    `X-Next-Page: /items?page=2`
    """

    header: str
    ends = "no_next_url"
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return _at_url(page, page.response.headers.get(self.header), f"the header {self.header}")


@dataclass(frozen=True)
class CursorOrUrlInBody(Style):
    """`paging_response_path`, an older field: a URL is followed, anything else is sent as a cursor.

    Only a whole URL is told from a cursor; with no place to send a cursor to, a relative one is followed too.
    """

    path: str
    request_path: str | None

    def after(self, page: Answer) -> Request | None:
        found = page.envelope.dig(self.path)
        if self.request_path is None or _is_whole_url(found):
            return _at_url(page, found, f'paging_response_path "{self.path}"')
        return _with_cursor(page, self.request_path, found)


@dataclass(frozen=True)
class PageNumber(Style):
    """`paging_page_request_path`: pages are numbered, and the list ends with an empty one.

    A short page is not the end: an API may filter what it has counted. `?page=1`, `?page=2`, ...
    """

    request_path: str
    start: int | None = None

    def first(self, request: Request) -> Request:
        return _started(request, self.request_path, self.start, 1)

    def after(self, page: Answer) -> Request | None:
        if page.size == 0:
            return None
        return page.request.with_value(self.request_path, _number(page.request, self.request_path) + 1)


@dataclass(frozen=True)
class Offset(Style):
    """`paging_offset_request_path`: how many records were already seen; the list ends with an empty page.

    It moves by what the API sent, not by the size asked for, so that a short page skips nothing.
    `?offset=0`, `?offset=100`, ...
    """

    request_path: str
    start: int | None = None

    def first(self, request: Request) -> Request:
        return _started(request, self.request_path, self.start, 0)

    def after(self, page: Answer) -> Request | None:
        if page.size == 0:
            return None
        return page.request.with_value(self.request_path, _number(page.request, self.request_path) + page.size)


@dataclass(frozen=True)
class Sized:
    """`paging_limit` with any style: the size of a page is sent along.

    `?limit=100`
    """

    style: Paging
    request_path: str
    limit: int

    @property
    def ends(self) -> str:
        return self.style.ends

    @property
    def in_body(self) -> bool:
        return self.style.in_body

    def first(self, request: Request) -> Request:
        return self.style.first(request.with_value(self.request_path, self.limit))

    def after(self, page: Answer) -> Request | None:
        return self.style.after(page)


def style(sync: Sync) -> Paging:
    """How a sync's fields say that its API pages.

    >>> style(Sync(url="https://pokeapi.co/api/v2/pokemon", paging_url_path="next"))
    UrlInBody(path='next')
    """
    found = _style(sync)
    if sync.paging_limit_request_path is not None and sync.paging_limit is not None:
        return Sized(found, sync.paging_limit_request_path, sync.paging_limit)
    return found


_CURSORS: dict[str, Callable[[str, str], Paging]] = {
    "paging_cursor_metadata_response_path": CursorInBody,
    "paging_cursor_object_response_path": CursorInLastRecord,
    "paging_header_cursor": CursorInHeader,
}
_URLS: dict[str, Callable[[str], Paging]] = {
    "paging_url_path": UrlInBody,
    "paging_header_link_rel": UrlInLinkHeader,
    "paging_header_url": UrlInHeader,
}


def _style(sync: Sync) -> Paging:
    cursor_goes_to = sync.paging_cursor_request_path
    for field, cursor_style in _CURSORS.items():
        if getattr(sync, field) is not None and cursor_goes_to is not None:
            return cursor_style(getattr(sync, field), cursor_goes_to)
    for field, url_style in _URLS.items():
        if getattr(sync, field) is not None:
            return url_style(getattr(sync, field))
    if sync.paging_response_path is not None:
        return CursorOrUrlInBody(sync.paging_response_path, cursor_goes_to)
    if sync.paging_page_request_path is not None:
        return PageNumber(sync.paging_page_request_path, sync.paging_page_start)
    if sync.paging_offset_request_path is not None:
        return Offset(sync.paging_offset_request_path, sync.paging_offset_start)
    return SinglePage()


def says_no_more(found: Any) -> bool:
    """Whether the value at `paging_has_more_response_path` ends the list; a missing one says nothing.

    >>> [says_no_more(found) for found in (False, None, "false", 0, True, "yes", MISSING)]
    [True, True, True, True, False, False, False]
    """
    if isinstance(found, str):
        return found.strip().lower() in ("", "false", "no", "n", "0")
    return found is not MISSING and not found


def _is_end(found: Any) -> bool:
    """Nothing, null, empty text, or the `false` that some APIs write for "no next page"; 0 is a cursor."""
    return found is MISSING or found is None or found is False or found == ""


def _with_cursor(page: Answer, request_path: str, cursor: Any) -> Request | None:
    return None if _is_end(cursor) else page.request.with_value(request_path, cursor)


def _at_url(page: Answer, found: Any, where: str) -> Request | None:
    if _is_end(found):
        return None
    if not isinstance(found, str):
        raise ApiError(f"{where} holds {_kind(found)}; wanted the URL of the next page.")
    return page.request.follow(found, page.response.url)


def _is_whole_url(found: Any) -> bool:
    return isinstance(found, str) and found.strip().lower().startswith(("https://", "http://"))


def _started(request: Request, path: str, start: int | None, default: int) -> Request:
    """The request with its first number: the one given, else the one it has already, else the default."""
    if start is None and request.value(path) is not MISSING:
        return request
    return request.with_value(path, default if start is None else start)


def _number(request: Request, path: str) -> int:
    found = request.value(path)
    try:
        return int(found)
    except (TypeError, ValueError):
        raise ApiError(f'"{path}" of the request is {found!r}; wanted a number to count on from.') from None


def _kind(found: Any) -> str:
    return {dict: "an object", list: "a list", bool: "true"}.get(type(found), "a number")
