"""One page as paging sees it, and what every paging style offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..http import Request, Response
from ..paths import MISSING
from ..records import Envelope


@dataclass(frozen=True)
class Answer:
    """One page as paging sees it: what was sent and what came back."""

    request: Request
    response: Response
    envelope: Envelope
    number: int
    """1 for the first page of the pull."""
    total: int
    """Records so far that can be used, this page's included."""
    base: Request | None = None
    """The request that the next one is made from, where it is not `request`."""
    more: bool | None = None
    """Whether the API says that there is more; None where it says nothing."""
    seen: int = 0
    """Records so far, this page's included, usable or not."""
    highest_total: int = 0
    """The highest number of records in the whole list that the pages before said."""
    step: int = 0
    """The number of records that a page has at most, as far as that is known: how far an empty page leads on."""

    @property
    def size(self) -> int:
        """How many records the API sent in this page, usable or not."""
        return len(self.envelope.records) + len(self.envelope.rejected)

    @property
    def continued(self) -> Request:
        """The request that the next one is made from."""
        return self.base or self.request


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

    @property
    def counts(self) -> bool:
        """Whether it counts pages or records, so that it always knows a next request."""
        ...

    def first(self, request: Request) -> Request:
        """The request for the first page."""
        ...

    def after(self, page: Answer) -> Request | None:
        """The request for the page after this one, or None at the end of the list."""
        ...


class Style:
    """The common part of most styles: the first request is the sync's own."""

    ends = "no_cursor"
    in_body = True
    counts = False

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


_NULL_TEXTS = ("", "null", "none", "undefined", "false")


def is_end(value: Any) -> bool:
    """Nothing, null, empty text, or the `false` that some APIs write for "no next page"; 0 is a cursor."""
    return value is MISSING or value is None or value is False or value == ""


def is_end_beside_records(value: Any) -> bool:
    """As `is_end`, and null or white space as a text, `{}` and `[]`; a cursor inside a record may be any text.

    >>> [is_end_beside_records(value) for value in (None, "null", " ", {}, "c2", 0)]
    [True, True, True, True, False, False]
    """
    if isinstance(value, dict | list):
        return not value
    return is_end(value) or (isinstance(value, str) and value.strip().lower() in _NULL_TEXTS)
