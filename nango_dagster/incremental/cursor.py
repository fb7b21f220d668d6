"""The rules of one config's cursor: its form, the later of two values, and the lower bound of the next list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..config import Incremental, start_at
from .state import Scalar, State, moment_of
from .values import Cursor, bound, capped, cursor_of, of_moment, of_one_kind, written_time


@dataclass(frozen=True)
class CursorRules:
    """The rules of a config's block `incremental` in an execution; without a block there is no cursor.

    >>> from datetime import timezone
    >>> rules = CursorRules(Incremental(field="updated_at"), datetime(2026, 5, 4, tzinfo=timezone.utc))
    >>> rules.lower_bound(State("a1b2", cursor="2026-05-01T00:05:00Z")).written
    '2026-05-01T00:04:00Z'
    """

    block: Incremental | None
    started_at: datetime
    """The start of the execution."""

    @property
    def form(self) -> str | None:
        """The format of the cursor's values; None for the format that the records have."""
        block = self.block
        if block is None or block.format is not None or block.from_ != "run_start":
            return block.format if block else None
        return "iso_seconds"

    def cursor(self, value: Scalar) -> Cursor:
        """A stored cursor; a token of the API is no value to compare."""
        is_token = self.block is not None and self.block.from_ == "response"
        known = None if is_token else cursor_of(value, self.form)
        return known or Cursor(value, "text", str(value))

    def later(self, cursor: Scalar | None, new: Cursor) -> Scalar:
        """The later one of the stored cursor and another one."""
        known = None if cursor is None else self.cursor(cursor)
        pair = None if known is None else of_one_kind(new, known)
        return new.written if known is None or pair is None or pair[0].value >= pair[1].value else known.written

    def first_bound(self) -> Cursor | None:
        """The lower bound of the whole list, which is `start`."""
        if self.block is None or self.block.start is None:
            return None
        start = start_at(self.block.start, self.started_at)
        if not isinstance(start, datetime):
            return self.cursor(start)
        return Cursor(written_time(start, self.form or "iso_seconds"), "time", start)

    def lower_bound(self, state: State) -> Cursor | None:
        """The lower bound of the changes; None where the whole list has to be read first."""
        block = self.block
        if block is None:
            return None
        lag = None if block.lag is None else timedelta(seconds=block.lag)
        if state.cursor is not None:
            cursor = self.cursor(state.cursor)
            return cursor if block.from_ == "response" else bound(cursor, lag, self.started_at)
        if state.started_at is not None and block.from_ == "run_start":
            return bound(of_moment(moment_of(state.started_at)), lag, self.started_at)
        if state.started_at is not None and state.highest is not None and block.from_ == "record":
            return bound(capped(self.cursor(state.highest), moment_of(state.started_at)), lag, self.started_at)
        return self.first_bound() if block.step is not None else None
