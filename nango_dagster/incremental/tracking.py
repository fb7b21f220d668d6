"""The cursor values in the records of a list: the greatest value, the order, and the records without a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from ..errors import RecordRejected
from ..records import decode
from ..sentences import number_of
from .values import Cursor, cursor_of, of_one_kind

_LOOKS_LIKE_TIME: Final = re.compile(
    r"\d{1,2}[/.-]\d{1,2}[/.-]\d{4}|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|\d:\d\d", re.ASCII
).search

Reader = Callable[[Sequence[bytes]], list[bytes]]
"""Reads the JSON text of one field of many records; empty where it is missing."""


@dataclass
class Tracking:
    """Follows one field over the pages of a list."""

    read: Reader
    form: str | None
    now: datetime
    """The start of the execution; later values are in the future."""
    greatest: Cursor | None = None
    """The greatest value, however late it is."""
    missing: int = 0
    """Records without a value."""
    future: int = 0
    """Records with a time after the start of the execution."""
    doubtful: int = 0
    """Records with a number that would be a time in the future."""
    odd: int = 0
    """Records whose value cannot be compared with the others."""
    is_ascending: bool = True
    is_descending: bool = True
    last: Cursor | None = field(default=None, repr=False)
    """The value of the last record that had one."""
    _greatest_past: Cursor | None = field(default=None, init=False, repr=False)
    """The greatest value that is, or may be, a time before the start of the execution."""

    def __post_init__(self) -> None:
        if self.greatest is not None:
            self._note_past(self.greatest)

    @property
    def highest(self) -> Cursor | None:
        """The value that a cursor may move to: the greatest one, but none of the future beside those of the past."""
        if self.greatest is None or self._greatest_past is None or not self.greatest.is_after(self.now):
            return self.greatest
        return self._greatest_past

    def see(self, records: Sequence[bytes]) -> list[bool]:
        """Take a page into account; which of its records have a value."""
        present = []
        for token in self.read(records):
            cursor = self._cursor(token)
            present.append(cursor is not None)
            if cursor is None:
                self.missing += 1
            else:
                self._add(cursor)
        return present

    def oddities(self, name: str) -> list[str]:
        """Sentences about unusual values of the field of this name."""
        sentences = []
        if self.missing:
            sentences.append(f"{number_of(self.missing, 'record')} had no value at {name}.")
        if self.future:
            sentences.append(
                f"{number_of(self.future, 'record')} had a time at {name} after the start of the execution; the "
                "cursor stays before it."
            )
        if self.doubtful and self._greatest_past is not None:
            sentences.append(
                f"{number_of(self.doubtful, 'record')} had a number at {name} that would be a time in the future; the "
                "cursor stays before it. Give incremental.format: unix for times, or number for other numbers."
            )
        if self.greatest is not None and self.greatest.kind == "text" and _LOOKS_LIKE_TIME(str(self.greatest.written)):
            sentences.append(
                f"the values at {name}, such as {str(self.greatest.written)[:40]!r}, are compared as texts and have no "
                "lag. Give incremental.format if these are times, such as %m/%d/%Y."
            )
        if self.odd:
            sentences.append(
                f"{number_of(self.odd, 'record')} had another kind of value at {name} than the others; the cursor "
                "stays. Give incremental.format if these are times."
            )
        return sentences

    def _cursor(self, token: bytes) -> Cursor | None:
        if not token:
            return None
        try:
            return cursor_of(decode(token), self.form)
        except RecordRejected:
            return None

    def _add(self, cursor: Cursor) -> None:
        pair = None if self.greatest is None else of_one_kind(cursor, self.greatest)
        if self.greatest is not None and pair is None:
            self.odd += 1
            return
        if cursor.is_after(self.now):
            self.future += cursor.kind == "time"
            self.doubtful += cursor.kind == "number"
        self._note_past(cursor)
        self._note_order(cursor)
        if pair is None or pair[0].value > pair[1].value:
            self.greatest = cursor

    def _note_past(self, cursor: Cursor) -> None:
        moment, past = cursor.moment, self._greatest_past
        if moment is not None and moment <= self.now and (past is None or cursor.value > past.value):
            self._greatest_past = cursor

    def _note_order(self, cursor: Cursor) -> None:
        if self.last is not None:
            last, new = of_one_kind(self.last, cursor) or (self.last, self.last)
            self.is_ascending &= bool(last.value <= new.value)
            self.is_descending &= bool(last.value >= new.value)
        self.last = cursor
