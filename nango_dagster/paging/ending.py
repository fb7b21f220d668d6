"""The signs of the end of a list in an answer, beside the next cursor, URL or number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from ..config import Sync
from ..errors import ApiError
from ..paths import MISSING
from .answer import Answer

_NO = ("", "false", "no", "n", "off", "none", "null", "0", "-1")
# WordPress and GitLab name the number of pages of every list in these.
_KNOWN_TOTAL_PAGES = ("X-WP-TotalPages", "X-Total-Pages")


@dataclass(frozen=True)
class Said:
    """Whether there is more, None where the answer says nothing, and the reason of a Stop where there is not."""

    more: bool | None = None
    reason: str = ""
    is_total_reached: bool = False
    """Whether a total says that this is all, which does not end a list that still gives a cursor."""
    total: int | None = None
    """The number of records in the whole list, as the answer says."""


@dataclass(frozen=True)
class Ending:
    """The fields of a sync that say where its list ends.

    `paging_has_more_response_path`: `{"has_more": false}` on the last page.
    `paging_end_response_path`: `{"end_of_stream": true}` on the last page.
    `paging_total_response_path`, `paging_header_total`: `{"total_count": 7}` on every page.
    `paging_total_pages_response_path`, `paging_header_total_pages`: `X-Total-Pages: 3` on every page.
    """

    has_more: str | None = None
    end: str | None = None
    total: str | None = None
    header_total: str | None = None
    total_pages: str | None = None
    header_total_pages: str | None = None
    by_number: bool = False
    """Whether pages are numbered, so that well-known headers with their number count."""
    is_counted: bool = False
    """Whether the next request is made by counting pages or records."""

    @classmethod
    def of(cls, sync: Sync) -> Ending:
        """The fields of a sync."""
        return cls(
            sync.paging_has_more_response_path,
            sync.paging_end_response_path,
            sync.paging_total_response_path,
            sync.paging_header_total,
            sync.paging_total_pages_response_path,
            sync.paging_header_total_pages,
            sync.paging_page_request_path is not None,
            sync.paging_page_request_path is not None or sync.paging_offset_request_path is not None,
        )

    def said(self, page: Answer) -> Said:
        """The sign of the end in an answer. If its total says that there is more, other signs of an end are doubtful.

        A total ends only a list whose pages are counted: some APIs stop counting at 10,000 and still give a cursor. It
        does not end one whose total shrank while it was read, for records may have moved to the page before.
        Raises ApiError where a total is no number.
        """
        total = self._records(page)
        if total is not None and page.seen < total:
            return Said(True, total=total)
        if total is not None and (page.seen > total or total < page.highest_total):
            total = None  # it counts something else, such as the page's records, or the list has changed meanwhile
        flag = self._flag(page)
        if flag.more is False:
            return flag
        pages = self._pages(page)
        if pages is not None and pages < page.number:
            pages = None  # it counts something else, too
        if total is None and pages is None:
            return flag
        is_reached = total is not None or pages == page.number
        if not self.is_counted:
            return replace(flag, is_total_reached=is_reached, total=total)
        reason = "last_page" if total is None else "total_reached"
        return Said(False, reason, total=total) if is_reached else Said(True)

    def _flag(self, page: Answer) -> Said:
        ends: list[Said] = []
        if self.has_more is not None:
            value = page.envelope.dig(self.has_more)
            ends.append(Said(False, "has_more_false") if says_no(value) else Said(True if value else None))
        if self.end is not None:
            value = page.envelope.dig(self.end)
            ends.append(Said(None if value is MISSING else True) if not value or says_no(value) else Said(False, "end"))
        return min(ends, key=lambda said: {False: 0, True: 1, None: 2}[said.more], default=Said())

    def _records(self, page: Answer) -> int | None:
        if self.total is not None:
            return _number(page.envelope.dig(self.total), f'paging_total_response_path "{self.total}"', "records")
        if self.header_total is not None:
            text = page.response.headers.get(self.header_total)
            return _number(text, f"the header {self.header_total}", "records")
        return None

    def _pages(self, page: Answer) -> int | None:
        if self.total_pages is not None:
            where = f'paging_total_pages_response_path "{self.total_pages}"'
            return _number(page.envelope.dig(self.total_pages), where, "pages")
        if self.header_total_pages is not None:
            text = page.response.headers.get(self.header_total_pages)
            return _number(text, f"the header {self.header_total_pages}", "pages")
        if self.by_number:
            known = (page.response.headers.get(name) for name in _KNOWN_TOTAL_PAGES)
            return next((int(text) for text in known if text and text.isascii() and text.isdigit()), None)
        return None


def says_no(value: Any) -> bool:
    """Whether the value of a flag means no; a missing one says nothing. A number is the next position, or -1 for none.

    >>> [says_no(value) for value in (False, None, "off", 0, -1, True, "yes", 25, MISSING)]
    [True, True, True, True, True, False, False, False, False]
    """
    if isinstance(value, str):
        return value.strip().lower() in _NO
    if isinstance(value, int | Decimal) and value < 0:
        return True
    return value is not MISSING and not value


def _number(value: Any, where: str, noun: str) -> int | None:
    """A total; None where the answer has none. Content-Range writes it behind a slash: `items 0-24/573`."""
    if value is MISSING or value is None:
        return None
    text = str(value).rpartition("/")[2].strip().replace(",", "").removesuffix(".0")
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        if text in ("*", "-1"):  # not known
            return None
        raise ApiError(f"{where} holds {value!r:.80}; wanted the number of {noun} in the list.")
    return int(text)
