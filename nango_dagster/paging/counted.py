"""Styles that count: page numbers and offsets."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ApiError
from ..http import Request
from ..paths import MISSING
from .answer import Answer, Style


@dataclass(frozen=True)
class PageNumber(Style):
    """`paging_page_request_path`: pages are numbered, and the list ends with an empty one.

    A short page is not the end: an API may filter what it has counted. Nor is an empty page where the API says that
    there is more. `?page=1`, `?page=2`, ...
    """

    request_path: str
    start: int | None = None
    counts = True

    def first(self, request: Request) -> Request:
        return _started(request, self.request_path, self.start, 1)

    def after(self, page: Answer) -> Request | None:
        if page.size == 0 and page.more is not True:
            return None
        return page.continued.with_value(self.request_path, _number(page.request, self.request_path) + 1)


@dataclass(frozen=True)
class Offset(Style):
    """`paging_offset_request_path`: how many records were already seen; the list ends with an empty page.

    It moves by what the API sent, not by the size asked for, so that a short page skips nothing; an empty page where
    the API says that there is more moves it by the size of the largest page so far. `?offset=0`, `?offset=100`, ...
    """

    request_path: str
    start: int | None = None
    counts = True

    def first(self, request: Request) -> Request:
        return _started(request, self.request_path, self.start, 0)

    def after(self, page: Answer) -> Request | None:
        step = page.size or (page.step if page.more is True else 0)
        if step == 0:
            return None
        return page.continued.with_value(self.request_path, _number(page.request, self.request_path) + step)


def _started(request: Request, path: str, start: int | None, default: int) -> Request:
    """The request with its first number: the one given, else the one it has already, else the default."""
    if start is None and request.value(path) is not MISSING:
        return request
    return request.with_value(path, default if start is None else start)


def _number(request: Request, path: str) -> int:
    value = request.value(path)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ApiError(f'"{path}" of the request is {value!r}; wanted a number to count on from.') from None
