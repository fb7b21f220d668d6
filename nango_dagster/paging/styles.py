"""The paging style that a sync's fields describe."""

from __future__ import annotations

from collections.abc import Callable

from ..config import Sync
from .answer import Paging, SinglePage
from .counted import Offset, PageNumber, Sized
from .cursors import CursorInBody, CursorInHeader, CursorInLastRecord
from .urls import CursorOrUrlInBody, UrlInBody, UrlInHeader, UrlInLinkHeader


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
