"""How far a pull of a list is, and why it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Envelope, has_id


@dataclass(frozen=True)
class Stop:
    """Why a pull is over, and whether the whole list was seen.

    The reasons: `single_page`, `no_cursor`, `no_next_url`, `empty_page`, `has_more_false`, `end` (a flag is true),
    `total_reached`, `last_page` (by the number of pages), `last_page_again`, `cursor_stays`, `end_rule` (a rule or a
    status says that there are no more pages) and `not_modified`; never complete are `max_total`, `max_pages`,
    `empty_pages`, `skipped` (a rule left a page out), and `more_left`, where the API says that there is more and not
    how to get it.
    """

    reason: str
    complete: bool = True


MORE_LEFT = Stop("more_left", complete=False)


@dataclass
class Progress:
    """How far a pull is: counts, and what the next page needs to know of the one before."""

    number: int = 0
    is_counted: bool = False
    """Whether the requests count pages or records."""
    total: int = 0
    """Records that can be used."""
    seen: int = 0
    """All records that the API sent."""
    highest_total: int = 0
    """The highest number of records in the whole list that a page said."""
    is_last: bool = False
    """Whether the page before said that it is the last one."""
    is_skipped: bool = False
    """Whether a rule left this page out."""
    overlap: int = 0
    """How many records this page began with that ended the page before."""
    size: int = 0
    """The number of records in this page."""
    _any_skipped: bool = False
    _previous: frozenset[bytes] = frozenset()
    _last: Sequence[bytes] = ()

    def add(self, envelope: Envelope, *, is_skipped: bool, is_inclusive: bool) -> None:
        """Count a page without the records that came before.

        With `is_inclusive` these are the ones that it shares with the end of the page before; else all, where pages are
        counted, the page equals the one before and its records have ids, as where page 0 and page 1 are the same.
        """
        records = envelope.records
        if is_inclusive:
            self.overlap = next((at for at, record in enumerate(records) if record not in self._previous), len(records))
            self._previous = frozenset(records)
        else:
            is_again = self.is_counted and bool(records) and records == self._last and has_id(records[0])
            self.overlap = len(records) if is_again else 0
            self._last = records
        self.number += 1
        self.total += len(records) - self.overlap
        self.size = len(records) + len(envelope.rejected)
        self.seen += self.size - self.overlap
        self.is_skipped = is_skipped
        self._any_skipped |= is_skipped

    def final(self, stop: Stop) -> Stop:
        """The end of the pull; not complete where a page was left out."""
        return Stop("skipped", complete=False) if self._any_skipped else stop
