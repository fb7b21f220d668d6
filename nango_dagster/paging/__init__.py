"""Given a page, the request for the next one, or none: one small frozen class per style.

A style only reads and places. The guards against lists that never end stand once, in :mod:`nango_dagster.fetch`.
"""

from .answer import Answer, Paging, SinglePage, Style, says_no_more
from .counted import Offset, PageNumber, Sized
from .cursors import CursorInBody, CursorInHeader, CursorInLastRecord
from .styles import style
from .urls import CursorOrUrlInBody, UrlInBody, UrlInHeader, UrlInLinkHeader

__all__ = [
    "Answer",
    "CursorInBody",
    "CursorInHeader",
    "CursorInLastRecord",
    "CursorOrUrlInBody",
    "Offset",
    "PageNumber",
    "Paging",
    "SinglePage",
    "Sized",
    "Style",
    "UrlInBody",
    "UrlInHeader",
    "UrlInLinkHeader",
    "says_no_more",
    "style",
]
