"""Guards against lists that never end, for all paging styles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import NangoError, PagingRepeats
from ..http import Request
from ..paging import Answer

SAME_AGAIN: Final = 3
"""So often the same page in a row means that the API does not understand how it is asked for the next one."""
SAME_AGAIN_IF_ALIKE: Final = 1000
"""The same where all records of the page are alike, so that two pages of them can be."""
EMPTY_AGAIN: Final = 10
"""So many empty pages in a row are no list that will come to an end."""


class Guard:
    """What no paging style has to think of: a list that leads back to where it has been."""

    def __init__(self, error: Callable[[type[NangoError], Request, str], NangoError]) -> None:
        self._error = error
        self._been: set[str] = set()
        self._last: list[bytes] = []
        self._times = 1
        self._empty = 0

    def before(self, request: Request) -> None:
        """Remember a request that is sent."""
        self._been.add(request.fingerprint())

    def was_sent(self, request: Request) -> bool:
        return request.fingerprint() in self._been

    def is_all_empty(self, page: Answer) -> bool:
        """Whether so many pages in a row were empty that this leads nowhere; to be asked once for each page."""
        self._empty = 0 if page.size else self._empty + 1
        return self._empty >= EMPTY_AGAIN

    def after(self, page: Answer, following: Request) -> NangoError | None:
        """What is wrong when the next request was sent before, or makes no difference to the API."""
        if self.was_sent(following):
            sentence = f"paging repeats: page {page.number} leads back to {following}."
        elif self._is_stuck(page):
            pages = f"pages {page.number - self._times + 1} to {page.number}"
            sentence = f"paging repeats: {pages} hold the same records; does the API know the paging parameter?"
        else:
            return None
        return self._error(PagingRepeats, page.request, sentence)

    def _is_stuck(self, page: Answer) -> bool:
        found = page.envelope.records
        self._times = self._times + 1 if found == self._last else 1
        self._last = found
        if self._times < SAME_AGAIN or not found:
            return False
        return self._times >= SAME_AGAIN_IF_ALIKE or any(record != found[0] for record in found)
