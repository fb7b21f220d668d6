"""A list of which an execution reads what changed, and a whole list that several executions read.

An execution reads the changes first, where there is a cursor. Then, where the whole list has never been read to its
end, or `full_refresh` is due, it reads the whole list, for as long as there is time until the next execution. So a slow
reading of everything goes on beside fast ones of what changed: they are never at work at the same time, share the rate
budget, and what either saves counts as present at the source. The cursor of the changes is at most the start of that
reading, so that no change of a record that was read before is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from .. import clock, records
from ..config import Incremental, Sync, interval_of
from ..errors import ApiError
from ..fetch import Fetch, Page, Place, first_request, opening_request
from ..http import secrets_of
from ..incremental import (
    Cursor,
    CursorRules,
    State,
    Tracking,
    belongs_to,
    block_of,
    capped,
    definition_of,
    is_surely_before,
    moment_of,
    of_position,
    position_of,
    written_like,
    written_time,
)
from ..paging import style
from .bounds import BoundAccess, Bounds
from .change_token import is_storable, token_of, token_problem
from .saving import PageSaver
from .source import PAGING_NOT_FOUND, Ending, Model, Sink, SourceContext

PAUSED: Final = "paused"
"""The reading of the whole list goes on in the next execution, after the changes."""
OLDER: Final = "older"
"""The rest of a list in descending order is older than the cursor."""

OnPage = Callable[[Page, "Tracking | None"], None]
"""Called with each page that was handed to the sink."""


@dataclass(frozen=True)
class IncrementalList:
    """The list of a config with `incremental`, `${last_sync_date}` or `resumable`."""

    sync: Sync
    models: tuple[Model, ...] = ()
    needs_access: bool = True

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Read the changes, and the whole list where it is time for that."""
        return _Reading(self.sync, context, sink).read()


@dataclass(frozen=True)
class _List:
    """The end of reading one list: why, and whether all of it was read."""

    reason: str
    complete: bool
    doubt: str | None
    pages: int
    token: Any = None
    """The last token in its answers."""
    tracking: Tracking | None = None

    @property
    def is_whole(self) -> bool:
        """Whether a cursor may move over it."""
        return self.complete and self.doubt is None and not (self.tracking and self.tracking.odd)

    def ending(self, **fields: Any) -> Ending:
        """The ending of an execution that ends with this list."""
        reason = PAGING_NOT_FOUND if self.doubt else self.reason
        return Ending(reason, **{"complete": False, "doubt": self.doubt, **fields})


class _Reading:
    """One execution."""

    def __init__(self, sync: Sync, context: SourceContext, sink: Sink) -> None:
        self._sync = sync
        self._context = context
        self._sink = sink
        self._block = block_of(sync)
        self._now = context.started_at or clock.now()
        self._rules = CursorRules(self._block, self._now)
        self._state = State.of(context.checkpoint, definition_of(sync, context.facts))
        self._saver = PageSaver(sync, sink)
        self._warnings: list[str] = []
        if context.checkpoint is not None and not belongs_to(context.checkpoint, self._state.definition):
            self._warnings.append("the request or its definition has changed; everything is read again.")
        self._counts_pages = style(sync).counts
        self._next_at = clock.monotonic() + (sync.next_slot(self._now) - self._now).total_seconds()
        """When the next execution is due, by the monotonic clock."""
        self._reads_whole = False
        self._pending: State | None = None
        """The state behind the last page, which is stored with the next one: only then all rejections are known."""

    def read(self) -> Ending:
        before = self._state
        changes = self._changes()
        if changes is not None and changes.reason in ("max_pages", "max_total"):
            self._warnings.append(
                f"{changes.reason} ended the list of changes; the rest is read the next time. Where it is smaller than "
                "the list of one incremental.lag, the cursor never moves."
            )
        if changes is not None and not (changes.is_whole and self._is_whole_due()):
            state = self._state.checkpoint()
            return changes.ending(saves_checkpoint=changes.is_whole, checkpoint=state, warnings=self._said())
        self._sink.commit()
        if self._sink.rejections():
            self._state = replace(self._state, cursor=before.cursor, unconfirmed=before.unconfirmed)
        return self._read_whole()

    def _said(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._warnings))

    # --- the changes --------------------------------------------------------------------------------------------------

    def _changes(self) -> _List | None:
        """Read what changed since the cursor; None where there is none, or the API refuses it as too old."""
        block, lower = self._block, self._rules.lower_bound(self._state)
        if block is None or lower is None:
            return None
        refusals = block.reset_on if block.reset_on is not None else [410] if block.from_ == "response" else []
        try:
            if block.step is not None:
                return self._windows(block, lower)
            changes = self._list(Bounds(lower, self._now), self._move if self._moves_by_page else None)
        except ApiError as error:
            if error.status not in refusals:
                raise
            self._warnings.append(f"the API refused the cursor with {error.status}; everything is read again.")
            self._state, self._pending = State(self._state.definition), None
            return None
        if changes.is_whole:
            self._advance(changes, self._now)
        return changes

    @property
    def _moves_by_page(self) -> bool:
        """Whether the cursor moves with each page: the order is as declared, and no page can skip a record."""
        block = self._block
        return bool(block and block.order == "asc" and not self._state.is_unordered and not self._counts_pages)

    def _windows(self, block: Incremental, lower: Cursor) -> _List:
        """Read the time from the cursor to now window by window; the cursor moves with each."""
        if lower.kind != "time":
            raise ApiError(
                f"{self._sync.display_name}: incremental.step is a time, and the cursor is {lower.written!r}; give "
                "incremental.format, such as unix, which says what it means."
            )
        start = lower.value
        while True:
            end = min(start + timedelta(seconds=block.step or 0), self._now)
            begin = Cursor(written_like(lower.written, start), "time", start)
            window = self._list(Bounds(begin, end))
            if window.is_whole and self._counts_pages and window.pages > 1:
                window = self._list(Bounds(begin, end))  # a record may have moved between pages
            if not window.is_whole:
                return window
            self._state = replace(self._state, cursor=written_time(end, "iso"))
            if end >= self._now:
                self._note_all_read()
                return window
            self._sink.commit()
            if not self._sink.rejections():
                self._sink.save_checkpoint(self._state.checkpoint())
            start = end

    def _move(self, page: Page, tracking: Tracking | None) -> None:
        """Move the cursor over the page before: records come in ascending order."""
        assert tracking is not None
        if self._state.is_unordered:
            return
        before = self._pending or self._state
        if not tracking.is_ascending:
            self._state = replace(self._state, is_unordered=True)
            self._pending = None
            self._sink.save_checkpoint(self._state.without_whole().checkpoint())
            self._warnings.append(
                "incremental.order is asc, and the records came in another order; the cursor moves at the end of lists."
            )
            return
        self._store_pending()
        if tracking.highest is not None:
            highest = self._rules.later(before.cursor, capped(tracking.highest, self._now))
            self._pending = replace(self._state.without_whole(), cursor=highest)

    def _store_pending(self) -> None:
        """Store the state behind the last page, where all its records are stored, together with this page."""
        if self._pending is None:
            self._sink.commit()
        elif not self._sink.rejections():
            self._sink.save_checkpoint(self._pending.checkpoint())

    def _advance(self, read: _List, started_at: datetime) -> None:
        """Move the cursor over a list that was read to its end and began at a time."""
        new = self._cursor_behind(read, started_at)
        if new is None:
            return
        state = self._state
        if self._counts_pages and read.pages > 1:
            self._state = replace(state, cursor=state.unconfirmed or state.cursor, unconfirmed=new)
        else:
            self._state = replace(state, cursor=new, unconfirmed=None)
        if self._moves_by_page:
            self._note_all_read()

    def _note_all_read(self) -> None:
        """In ascending order and in windows all has been read when the changes have."""
        if self._state.refreshed_at is None:
            self._state = replace(self._state, refreshed_at=self._now.isoformat())

    def _cursor_behind(self, read: _List, started_at: datetime) -> str | int | float | None:
        block, cursor = self._block, self._state.cursor
        if block is None:
            return None
        if block.from_ == "run_start":
            return written_time(started_at, "iso")
        if block.from_ == "response":
            return self._later_token(read.token, block)
        highest = read.tracking.highest if read.tracking else None
        return cursor if highest is None else self._rules.later(cursor, capped(highest, started_at))

    def _later_token(self, token: Any, block: Incremental) -> str | int | float | None:
        """The API's token; the one before stays if this one cannot be stored."""
        problem = token_problem(token, block, self._secrets())
        if problem is None:
            later: str | int | float = token
            return later
        self._warnings.append(problem)
        return self._state.cursor

    def _secrets(self) -> set[str]:
        access = self._context.access
        return {*(access.secrets() if access else ()), *secrets_of(first_request(self._sync))}

    # --- the whole list -----------------------------------------------------------------------------------------------

    def _is_whole_due(self) -> bool:
        block, state = self._block, self._state
        if state.started_at is not None:
            return True
        if block is None or block.full_refresh is None:
            return False
        last = state.refreshed_at
        return last is None or self._now - moment_of(last) >= interval_of(block.full_refresh)

    def _read_whole(self) -> Ending:
        """Read the whole list, or go on with it."""
        state = self._state
        goes_on = self._sync.resumable and state.position is not None
        if not goes_on:
            self._state = state = replace(state.without_whole(), started_at=self._now.isoformat())
        assert state.started_at is not None
        started_at, self._pending = moment_of(state.started_at), None
        is_compared = self._open_window(goes_on=goes_on) if self._sync.resumable else True
        start = None
        if goes_on and state.position is not None:
            start = Place(of_position(state.position, opening_request(self._sync)), state.page, state.seen)
        moves = self._moves_by_page and state.cursor is None
        on_page = self._move_whole if self._sync.resumable and not moves else self._move if moves else None
        pages_before, self._reads_whole = self._saver.pages, True
        try:
            read = self._list(Bounds(self._rules.first_bound(), self._now), on_page, start)
        except ApiError as error:
            if not goes_on or self._saver.pages > pages_before or error.status not in (400, 404, 410, 416, 422):
                raise
            self._warnings.append(f"the API refused to go on in the list ({error.status}); it is read from the start.")
            self._state = self._state.without_whole()
            return self._read_whole()
        if not read.is_whole:
            return self._broken(read)
        self._end_whole(read, started_at)
        checkpoint = None if self._block is None else self._state.checkpoint()
        return read.ending(complete=is_compared, saves_checkpoint=True, checkpoint=checkpoint, warnings=self._said())

    def _open_window(self, *, goes_on: bool) -> bool:
        """Keep the keys of the whole list, where its end needs them; whether they are those of all its pages."""
        if not (self._sync.track_deletes or self._context.needs_all):
            self._sink.drop_window()
            return not goes_on
        if not goes_on:
            self._sink.drop_window()
            self._sink.open_window()
            return True
        if self._sink.open_window():
            return True
        self._sink.drop_window()
        return False

    def _move_whole(self, page: Page, tracking: Tracking | None) -> None:
        """Keep the request of the next page."""
        if self._pending is not None:
            self._pending = replace(self._pending, has_rejected=self._state.has_rejected or self._sink.rejections() > 0)
            self._sink.save_checkpoint(self._pending.checkpoint())
        else:
            self._sink.commit()
        position = None if page.next is None else position_of(page.next, opening_request(self._sync))
        if position is None or not is_storable(position, self._secrets()):
            self._pending = None
            return
        highest = tracking.highest.written if tracking and tracking.highest else None
        self._pending = replace(self._state, position=position, page=page.number + 1, seen=page.seen, highest=highest)

    def _broken(self, read: _List) -> Ending:
        """The end of a part of the whole list."""
        if self._pending is not None and self._sync.resumable and read.reason in (PAUSED, "max_pages"):
            self._sink.commit()
            rejected = self._state.has_rejected or self._sink.rejections() > 0
            self._sink.save_checkpoint(replace(self._pending, has_rejected=rejected).checkpoint())
        return read.ending(warnings=self._said())

    def _end_whole(self, read: _List, started_at: datetime) -> None:
        """The state behind the whole list; a record that was rejected in it keeps the first cursor from being set."""
        state = self._state
        if state.has_rejected:
            self._warnings.append("the whole list is read again: a record was rejected in it.")
        else:
            if state.cursor is None:
                self._advance(read, started_at)
            self._state = replace(self._state, refreshed_at=started_at.isoformat())
        self._state = self._state.without_whole()

    # --- one list -----------------------------------------------------------------------------------------------------

    def _list(self, bounds: Bounds, on_page: OnPage | None = None, start: Place | None = None) -> _List:
        """Read one list to its end, and hand its records to the sink."""
        tracking, form = self._tracking(), self._rules.form
        token = stopped = None
        pages = 0
        fetch = Fetch(
            self._sync,
            access=BoundAccess(self._context.access, bounds.values(form)),
            cancelled=self._context.is_stopped,
            reach=self._context.reach,
            limiter=self._context.limiter,
            start=start or Place(bounds.request(self._sync, self._block, form)),
            note=partial(token_of, block=self._block),
        )
        try:
            with fetch:
                for page in fetch:
                    pages += 1
                    token = token if page.note is None else page.note
                    self._saver.save(fetch, page, self._stored(page, tracking))
                    if on_page is not None:
                        on_page(page, tracking)
                    stopped = self._stop(page, bounds, tracking)
                    if stopped is not None:
                        break
        finally:
            self._saver.end(fetch)
        if tracking is not None and self._block is not None:
            self._warnings += tracking.oddities(f'incremental.field "{self._block.field}"')
        if stopped is not None:
            return _List(stopped, stopped == OLDER, None, pages, token, tracking)
        assert fetch.stop is not None, "a fetch that ends without an error says why"
        return _List(fetch.stop.reason, fetch.stop.complete, fetch.paging_doubt, pages, token, tracking)

    def _tracking(self) -> Tracking | None:
        """The object that follows the cursor's field; None where the cursor is not in the records."""
        if self._block is None or self._block.field is None:
            return None
        highest = None if self._state.highest is None else self._rules.cursor(self._state.highest)
        return Tracking(records.token_reader(self._block.field), self._rules.form, self._now, highest)

    def _stored(self, page: Page, tracking: Tracking | None) -> Sequence[bytes]:
        """The page's records without those that the config leaves out."""
        if self._block is None or tracking is None:
            return page.records
        has_cursor = tracking.see(page.records)
        if all(has_cursor) or self._block.missing == "keep":
            return page.records
        if self._block.missing == "skip":
            return [text for text, present in zip(page.records, has_cursor, strict=True) if present]
        raise ApiError(
            f"{self._sync.display_name}: record {has_cursor.index(False)} of page {page.number} has no value at "
            f'incremental.field "{self._block.field}"; missing: keep or missing: skip accepts such records.'
        )

    def _stop(self, page: Page, bounds: Bounds, tracking: Tracking | None) -> str | None:
        """Why no further page is read, although there may be one."""
        lower, last = bounds.lower, tracking and tracking.last
        is_descending = self._block is not None and self._block.order == "desc" and tracking and tracking.is_descending
        if is_descending and lower and last and is_surely_before(last, lower):
            return OLDER
        is_slow = self._reads_whole and self._sync.resumable and self._block is not None
        if is_slow and self._pending is not None and page.next is not None and clock.monotonic() >= self._next_at:
            return PAUSED
        return None
