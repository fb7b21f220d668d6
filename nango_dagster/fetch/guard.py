"""Guards against lists that never end, for all paging styles."""

from __future__ import annotations

from typing import Final, Literal

from ..config import Sync
from ..http import Request
from ..paging import Answer, Paging

SAME_AGAIN: Final = 3
"""So many equal pages in a row mean that the API does not understand how it is asked for the next one."""
SAME_AGAIN_IF_ALIKE: Final = 1000
"""As many where all records of the page are alike, so that two pages of the list can be equal."""
EMPTY_AGAIN: Final = 10
"""So many empty pages in a row are no list that will come to an end."""

Repetition = Literal["none", "held", "end", "stuck"]
"""`held`: a page may be the last one again. `end`: it is. `stuck`: paging does not move."""


class Guard:
    """The requests that were sent and the pages that came, to find paging that does not end.

    An API that answers a page number or an offset beyond the end with its last records, or with its first page, does so
    for ever: the list ends when `SAME_AGAIN` such pages came in a row, the true one included, if there was another page
    before them. Without such a page, the API may as well not understand the paging parameter. An offset beyond the end
    can give a page that begins inside of the page before the last one, so a page is compared with as many of the last
    records as it has.
    """

    def __init__(self, sync: Sync, paging: Paging) -> None:
        self._sync = sync
        self._paging = paging
        self._sent: set[str] = set()
        self._last: list[bytes] = []
        self._tail: list[bytes] = []
        """The last records of the list, without pages that repeat them: as many as the largest page has."""
        self._first: list[bytes] = []
        self.rounds = 0
        """How often the first page came again after another one."""
        self._times = 1
        self._empty = 0
        self._first_size = 0
        self.largest = 0
        """The number of records in the largest page so far."""

    def before(self, request: Request) -> None:
        """Remember a request that is sent."""
        self._sent.add(request.fingerprint())

    def was_sent(self, request: Request) -> bool:
        return request.fingerprint() in self._sent

    @property
    def is_all_empty(self) -> bool:
        """Whether so many pages in a row were empty that this leads nowhere."""
        return self._empty >= EMPTY_AGAIN

    @property
    def times(self) -> int:
        """How many equal pages have come in a row."""
        return self._times

    def see(self, page: Answer) -> None:
        """Remember a page."""
        records = page.envelope.records
        self._empty = 0 if page.size else self._empty + 1
        is_again = records == self._last or self._has_come_before(records)
        self._times = self._times + 1 if is_again else 1
        if records and records == self._first and records != self._last:
            self.rounds += 1
        self._first = self._first or records
        self._last = records
        self.largest = max(self.largest, page.size)
        if not is_again:
            self._tail = (self._tail + records)[-self.largest :] if self._paging.counts else []
        self._first_size = self._first_size or page.size

    def _has_come_before(self, records: list[bytes]) -> bool:
        """Whether these are the last records of the list so far, or its first page; equal records do not tell."""
        if not self._paging.counts or not records or _are_alike(records):
            return False
        return records in (self._tail[-len(records) :], self._first)

    def repetition(self, page: Answer) -> Repetition:
        """Whether the page repeats the one before, and what that means."""
        if not page.envelope.records:
            return "none"
        are_alike = _are_alike(page.envelope.records)
        if self.rounds >= SAME_AGAIN and not are_alike:
            return "stuck"
        if self._times == 1:
            return "none"
        if self._can_be_last_page_again(page, are_alike):
            return "end" if self._times >= SAME_AGAIN else "held"
        is_stuck = self._times >= (SAME_AGAIN_IF_ALIKE if are_alike else SAME_AGAIN)
        return "stuck" if is_stuck else "none"

    def _can_be_last_page_again(self, page: Answer, are_alike: bool) -> bool:
        has_key = self._sync.unique_key is not None
        is_short = page.size < (self._sync.paging_limit or 0)
        if page.number == self._times and not is_short:  # there was no other page
            return False
        return self._paging.counts and (has_key or not are_alike or page.size < self._first_size)


def _are_alike(records: list[bytes]) -> bool:
    return all(record == records[0] for record in records)


def remedies(sync: Sync, paging: Paging) -> str:
    """The fields that say where a list ends, for the error of one that does not."""
    if paging.counts:
        return (
            "If the API says how many records or pages there are, name the place with paging_total_response_path, "
            "paging_header_total or paging_total_pages_response_path; if it answers with another status after the last "
            "page, with a rule in responses (action: end)."
        )
    return (
        "If the API says in another place that this was the last page, name it with paging_end_response_path or "
        "paging_has_more_response_path; if it gives one cursor for all pages, set paging_cursor_repeats: true; if a "
        "page begins with the record that its cursor names, set paging_inclusive: true."
    )
