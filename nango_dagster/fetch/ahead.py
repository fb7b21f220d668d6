"""An iterator that is read in a thread, a little ahead of its reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from ..errors import Cancelled

AHEAD_BYTES: Final = 8_000_000
"""While the pages that wait for their reader are smaller than this together, up to two of them may wait."""


T = TypeVar("T")


class Ahead(Generic[T]):
    """Reads an iterator in a thread, a little ahead of its own reader.

    An error is raised after all items that were read before it; Cancelled is raised at once.
    """

    def __init__(self, items: Iterator[T], size: Callable[[T], int], cancelled: Callable[[], bool]) -> None:
        self._items = items
        self._size = size
        self._cancelled = cancelled
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._done = False
        self._error: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="nango-fetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while self._wait_for_next():
            with self._changed:
                item = self._ready.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # A connection that is just being opened is waited for, but not for ever; the thread ends after it.
        self._thread.join(timeout=15)

    def _wait_for_next(self) -> bool:
        """Whether there is another item; waits until that is known."""
        while True:
            if self._cancelled():
                raise Cancelled
            with self._changed:
                if self._changed.wait_for(lambda: self._ready or self._done, timeout=0.2):
                    return bool(self._ready)

    def _work(self) -> None:
        try:
            for item in self._items:
                if not self._hand_over(item):
                    break
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _hand_over(self, item: T) -> bool:
        """Add an item, then wait until there is room for another one; False after `close`."""
        with self._changed:
            self._ready.append(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closed or self._has_room())
            return not self._closed

    def _has_room(self) -> bool:
        return not self._ready or (len(self._ready) < 2 and sum(map(self._size, self._ready)) < AHEAD_BYTES)
