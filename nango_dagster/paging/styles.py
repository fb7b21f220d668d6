"""The paging style that a sync's fields describe."""

from __future__ import annotations

from collections.abc import Callable

from ..config import Sync
from .answer import Paging, SinglePage
from .counted import Offset, PageNumber
from .cursors import CursorInBody, CursorInHeader, CursorInLastRecord, Destination, RequestHeader, RequestPath
from .urls import CursorOrUrlInBody, UrlInBody, UrlInHeader, UrlInLinkHeader

_CURSORS: dict[str, Callable[[str, Destination], Paging]] = {
    "paging_cursor_metadata_response_path": CursorInBody,
    "paging_cursor_object_response_path": CursorInLastRecord,
    "paging_header_cursor": CursorInHeader,
}
_URLS: dict[str, Callable[[str], Paging]] = {
    "paging_url_path": UrlInBody,
    "paging_header_link_rel": UrlInLinkHeader,
    "paging_header_url": UrlInHeader,
}


def style(sync: Sync) -> Paging:
    """How a sync's fields say that its API pages.

    >>> style(Sync(url="https://pokeapi.co/api/v2/pokemon", paging_url_path="next"))
    UrlInBody(path='next')
    """
    destination = _destination(sync)
    for field, cursor_style in _CURSORS.items():
        if getattr(sync, field) is not None and destination is not None:
            return cursor_style(getattr(sync, field), destination)
    for field, url_style in _URLS.items():
        if getattr(sync, field) is not None:
            return url_style(getattr(sync, field))
    if sync.paging_response_path is not None:
        return CursorOrUrlInBody(sync.paging_response_path, destination)
    if sync.paging_page_request_path is not None:
        return PageNumber(sync.paging_page_request_path, sync.paging_page_start)
    if sync.paging_offset_request_path is not None:
        return Offset(sync.paging_offset_request_path, sync.paging_offset_start)
    return SinglePage()


def _destination(sync: Sync) -> Destination | None:
    if sync.paging_cursor_request_header is not None:
        return RequestHeader(sync.paging_cursor_request_header)
    return None if sync.paging_cursor_request_path is None else RequestPath(sync.paging_cursor_request_path)


def body_path(sync: Sync) -> str | None:
    """The path in the answer's body at which the next page's cursor or URL stands; None for all other styles."""
    return sync.paging_cursor_metadata_response_path or sync.paging_url_path or sync.paging_response_path
