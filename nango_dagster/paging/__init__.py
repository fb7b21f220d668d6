"""Given a page, the request for the next one, or none: one small frozen class per style.

A style only reads and places. The guards against lists that never end stand once, in :mod:`nango_dagster.fetch`.
"""

from .answer import Answer, Paging, SinglePage, Style, is_end_beside_records
from .counted import Offset, PageNumber
from .cursors import CursorInBody, CursorInHeader, CursorInLastRecord, RequestHeader, RequestPath
from .ending import Ending, Said, says_no
from .styles import body_path, style
from .urls import CursorOrUrlInBody, UrlInBody, UrlInHeader, UrlInLinkHeader

__all__ = [
    "Answer",
    "CursorInBody",
    "CursorInHeader",
    "CursorInLastRecord",
    "CursorOrUrlInBody",
    "Ending",
    "Offset",
    "PageNumber",
    "Paging",
    "RequestHeader",
    "RequestPath",
    "Said",
    "SinglePage",
    "Style",
    "UrlInBody",
    "UrlInHeader",
    "UrlInLinkHeader",
    "body_path",
    "is_end_beside_records",
    "says_no",
    "style",
]
