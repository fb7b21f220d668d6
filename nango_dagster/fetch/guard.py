"""Guards against lists that never end, for all paging styles."""

from __future__ import annotations

from array import array
from typing import Final, Literal

from ..config import Sync
from ..http import Request
from ..paging import Answer, Paging
from ..records import has_id

SAME_AGAIN: Final = 3
"""So many equal pages in a row mean that the API does not understand how it is asked for the next one."""
SAME_AGAIN_IF_ALIKE: Final = 1000
"""As many where two pages of the list can be equal, because their records are and have neither a key nor an `id`."""
ROUND_AGAIN: Final = 100
"""So many pages that can be equal have to repeat the pages before in their order; that is hardly a coincidence."""
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

    Two pages of a real list may be equal where all their records are, as in a list of plain values that is read one by
    one. Unless these records have a key or an `id`, many more pages have to repeat the ones before.
    """

    def __init__(self, sync: Sync, paging: Paging) -> None:
        self._sync = sync
        self._paging = paging
        self._sent: set[str] = set()
        self._last: list[bytes] = []
        self._tail: list[bytes] = []
        """The last records of the list, without pages that repeat them: as many as the largest page has."""
        self._first: list[bytes] = []
        """The first page that cannot come twice in a list."""
        self._rounds = 0
        self._sequence: _Sequence | None = _Sequence()  # until there is a page that cannot come twice
        self._can_recur = False
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

    @property
    def begins_again(self) -> bool:
        """Whether the list begins with its first page again and again."""
        return self._rounds >= SAME_AGAIN or (self._sequence is not None and self._sequence.rounds > 0)

    @property
    def rounds(self) -> int:
        """How often the first page came again after other pages; 0 where that may be the list itself."""
        return self._rounds if self._sequence is None else self._sequence.rounds

    def see(self, page: Answer) -> None:
        """Remember a page."""
        records = page.envelope.records
        self._empty = 0 if page.size else self._empty + 1
        self._can_recur = self._sync.unique_key is None and _are_alike(records)
        is_again = records == self._last or (not self._can_recur and self._has_come_before(records))
        self._times = self._times + 1 if is_again else 1
        if records and not self._can_recur:
            self._sequence = None
            self._rounds += records == self._first and records != self._last
            self._first = self._first or records
        elif records and self._sequence is not None:
            self._sequence.add(hash((len(records), records[0])))
        self._last = records
        self.largest = max(self.largest, page.size)
        if not is_again:
            self._tail = (self._tail + records)[-self.largest :] if self._paging.counts else []
        self._first_size = self._first_size or page.size

    def _has_come_before(self, records: list[bytes]) -> bool:
        """Whether these are the last records of the list so far, or its first page."""
        return self._paging.counts and bool(records) and records in (self._tail[-len(records) :], self._first)

    def repetition(self, page: Answer) -> Repetition:
        """Whether the page repeats the one before, and what that means."""
        if not page.envelope.records:
            return "none"
        if self.begins_again:
            return "stuck"
        if self._times == 1:
            return "none"
        if self._can_be_last_page_again(page):
            return "end" if self._times >= SAME_AGAIN else "held"
        is_stuck = self._times >= (SAME_AGAIN_IF_ALIKE if self._can_recur else SAME_AGAIN)
        return "stuck" if is_stuck else "none"

    def _can_be_last_page_again(self, page: Answer) -> bool:
        is_short = page.size < (self._sync.paging_limit or 0)
        if page.number == self._times and not is_short:  # there was no other page
            return False
        return self._paging.counts and (not self._can_recur or page.size < self._first_size)


def _are_alike(records: list[bytes]) -> bool:
    """Whether all records are equal, and nothing in them says that they are the same one."""
    return all(record == records[0] for record in records) and not (records and has_id(records[0]))


class _Sequence:
    """Pages that can be equal in a real list, to find out that they come again and again in the same order.

    >>> pages = _Sequence()
    >>> for number in range(150): pages.add(number % 3)
    >>> pages.rounds
    49
    """

    def __init__(self) -> None:
        self._pages = array("q")
        self._borders = array("q")  # of each beginning: its longest end that the list also begins with (Knuth)
        self._distinct: set[int] = set()

    def add(self, page: int) -> None:
        """Take the hash of the next page."""
        border = self._borders[-1] if self._borders else 0
        while border and self._pages[border] != page:
            border = self._borders[border - 1]
        self._borders.append(border + 1 if self._pages and self._pages[border] == page else 0)
        self._pages.append(page)
        self._distinct.add(page)

    @property
    def rounds(self) -> int:
        """How often the pages began again; 0 while that may be the list itself.

        They are no rounds where all pages are equal, before `ROUND_AGAIN` pages came again, or, if pages of one round
        are equal, before it came three times.
        """
        again = self._borders[-1] if self._borders else 0
        period = len(self._pages) - again
        if period < 2 or again < ROUND_AGAIN or (len(self._distinct) < period and again < 2 * period):
            return 0
        return (len(self._pages) - 1) // period


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
        "paging_has_more_response_path, also if 0 or -1 as the cursor says so; if it gives one cursor for all pages, "
        "set paging_cursor_repeats: true; if a page begins with the record that its cursor names, set "
        "paging_inclusive: true."
    )
