"""Styles that send a cursor: it stands beside the records, in the last of them, or in a header."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import ApiError
from ..http import Request, query_text
from .answer import Answer, Style, is_end, is_end_beside_records


class Destination(Protocol):
    """The place of a cursor in the next request."""

    def put(self, request: Request, cursor: Any) -> Request:
        """The request with the cursor."""
        ...


@dataclass(frozen=True)
class RequestPath:
    """`paging_cursor_request_path`: a query parameter, or a path in the body.

    >>> RequestPath("after").put(Request("GET", "https://a.example/items"), "c2").full_url
    'https://a.example/items?after=c2'
    """

    path: str

    def put(self, request: Request, cursor: Any) -> Request:
        return request.with_value(self.path, cursor)


@dataclass(frozen=True)
class RequestHeader:
    """`paging_cursor_request_header`: a header, such as `Range` or `x-ms-continuation`.

    >>> RequestHeader("Range").put(Request("GET", "https://a.example/items", {"range": "id ..;"}), "id b..;").headers
    {'Range': 'id b..;'}
    """

    name: str

    def put(self, request: Request, cursor: Any) -> Request:
        others = {name: value for name, value in request.headers.items() if name.lower() != self.name.lower()}
        return replace(request, headers={**others, self.name: query_text(cursor).replace("${", "$${")})


@dataclass(frozen=True)
class CursorInBody(Style):
    """`paging_cursor_metadata_response_path`: a cursor beside the records.

    `{"results": [...], "paging": {"next": {"after": "NTI1"}}}`
    """

    path: str
    destination: Destination

    def after(self, page: Answer) -> Request | None:
        return with_cursor(page, self.destination, page.envelope.dig(self.path))


@dataclass(frozen=True)
class CursorInLastRecord(Style):
    """`paging_cursor_object_response_path`: a cursor inside the last record.

    `{"results": [..., {"id": 7, "cursor": "NTI1"}]}`

    A page whose last record cannot be used goes on with the one before it, and never ends the list.
    """

    path: str
    destination: Destination

    def after(self, page: Answer) -> Request | None:
        cursor = page.envelope.dig_last(self.path)
        if is_end(cursor) and page.more is not False and (reason := page.envelope.last_rejected):
            raise ApiError(
                "the last record of the page cannot be used, so that there is no cursor at "
                f'paging_cursor_object_response_path "{self.path}": {reason}.'
            )
        return None if is_end(cursor) else self.destination.put(page.continued, cursor)


@dataclass(frozen=True)
class CursorInHeader(Style):
    """`paging_header_cursor`: a cursor in a header of the answer.

    `X-Next-Cursor: NTI1`
    """

    header: str
    destination: Destination
    in_body = False

    def after(self, page: Answer) -> Request | None:
        return with_cursor(page, self.destination, page.response.headers.get(self.header))


def with_cursor(page: Answer, destination: Destination, cursor: Any) -> Request | None:
    """The next request with a cursor from beside the records; None where there is no cursor."""
    return None if is_end_beside_records(cursor) else destination.put(page.continued, cursor)
