"""Styles that send a cursor: it stands beside the records, in the last of them, or in a header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..http import Request
from .answer import Answer, Style, is_end


@dataclass(frozen=True)
class CursorInBody(Style):
    """`paging_cursor_metadata_response_path`: a cursor beside the records.

    `{"results": [...], "paging": {"next": {"after": "NTI1"}}}`
    """

    path: str
    request_path: str

    def after(self, page: Answer) -> Request | None:
        return with_cursor(page, self.request_path, page.envelope.dig(self.path))


@dataclass(frozen=True)
class CursorInLastRecord(Style):
    """`paging_cursor_object_response_path`: a cursor inside the last record.

    `{"results": [..., {"id": 7, "cursor": "NTI1"}]}`
    """

    path: str
    request_path: str

    def after(self, page: Answer) -> Request | None:
        return with_cursor(page, self.request_path, page.envelope.dig_last(self.path))


@dataclass(frozen=True)
class CursorInHeader(Style):
    """`paging_header_cursor`: a cursor in a header of the answer.

    `X-Next-Cursor: NTI1`
    """

    header: str
    request_path: str
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return with_cursor(page, self.request_path, page.response.headers.get(self.header))


def with_cursor(page: Answer, request_path: str, cursor: Any) -> Request | None:
    return None if is_end(cursor) else page.request.with_value(request_path, cursor)
