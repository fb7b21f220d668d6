"""The cursor values in the records of a list: the greatest value, the order, and the records without a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..errors import RecordRejected
from ..records import decode
from ..sentences import number_of
from .values import Cursor, cursor_of

Reader = Callable[[Sequence[bytes]], list[bytes]]
"""Reads the JSON text of one field of many records; empty where it is missing."""


@dataclass
class Tracking:
    """Follows one field over the pages of a list."""

    read: Reader
    form: str | None
    now: datetime
    """The start of the execution; later values are in the future."""
    highest: Cursor | None = None
    missing: int = 0
    """Records without a value."""
    future: int = 0
    """Records with a value after the start of the execution."""
    odd: int = 0
    """Records whose value cannot be compared with the others."""
    is_ascending: bool = True
    is_descending: bool = True
    last: Cursor | None = field(default=None, repr=False)
    """The value of the last record that had one."""

    def see(self, records: Sequence[bytes]) -> list[bool]:
        """Take a page into account; which of its records have a value."""
        present = []
        for token in self.read(records):
            cursor = self._cursor(token)
            present.append(cursor is not None)
            if cursor is None:
                self.missing += 1
            elif self.highest is not None and cursor.kind != self.highest.kind:
                self.odd += 1
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
                "cursor stops at the start."
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
        if cursor.kind == "time" and cursor.value > self.now:
            self.future += 1
        if self.last is not None:
            self.is_ascending &= bool(cursor.value >= self.last.value)
            self.is_descending &= bool(cursor.value <= self.last.value)
        self.last = cursor
        if self.highest is None or cursor.value > self.highest.value:
            self.highest = cursor
