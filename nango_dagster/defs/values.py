"""What an asset of somebody's own hands to the IO manager becomes pages of records, like an API's answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, RecordRejected
from ..fetch import Page, Stop
from ..records import Rejected, encode
from ..store.tables import SYSTEM_COLUMNS

if TYPE_CHECKING:
    from pandas import DataFrame

PAGE_RECORDS = 1000
PAGE_SECONDS = 2.0
_WANTED = "an iterable of dicts, of lists of dicts or of DataFrames, a DataFrame, or a function that returns one"
_OURS = frozenset(SYSTEM_COLUMNS)


class Values:
    """The records of an iterable of dicts, a DataFrame or a lazy pull, at most 1,000 on a page.

    >>> values = Values("orders", [{"id": 1}, {"id": 2}])
    >>> [page.records for page in values], values.stop
    ([[b'{"id":1}', b'{"id":2}']], Stop(reason='end_of_values', complete=True))
    """

    requests = 0
    retries = 0

    def __init__(
        self,
        name: str,
        value: Any,
        foreign: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """`foreign` is open while code that is not ours gives the next value."""
        self.stop: Stop | None = None
        self.pages = 0
        self.records = 0
        self._name = name
        self._value = value
        self._foreign = foreign

    def __iter__(self) -> Iterator[Page]:
        pieces = self._pieces()
        while items := self._next(pieces):
            page = self._page(items)
            self.pages += 1
            self.records += len(page.records)
            yield page
        self.stop = Stop("end_of_values")

    def _next(self, pieces: Iterator[Any]) -> list[Any]:
        """The records of the next page: 1,000, or fewer where they come slowly."""
        items: list[Any] = []
        until = monotonic() + PAGE_SECONDS
        with self._foreign():  # a signal interrupts whoever is being waited for
            for item in pieces:
                items.append(item)
                if len(items) == PAGE_RECORDS or monotonic() > until:
                    break
        return items

    def close(self) -> None:
        """Close a generator that was not read to its end."""
        if callable(close := getattr(self._value, "close", None)):
            close()

    def _page(self, items: list[Any]) -> Page:
        records: list[bytes] = []
        rejected: list[Rejected] = []
        for position, item in enumerate(items):
            try:
                records.append(encode(item))
            except RecordRejected as reason:
                rejected.append(Rejected(position, str(reason)))
        return Page(self.pages + 1, records, rejected, sum(map(len, records)))

    def _pieces(self) -> Iterator[Mapping[Any, Any]]:
        """Each record, whatever it came in."""
        self._value = value = self._value() if callable(self._value) else self._value
        for piece in [value] if isinstance(value, Mapping) or _is_frame(value) else self._each(value):
            if _is_frame(piece):
                yield from _rows(piece)
            elif isinstance(piece, Mapping):
                yield _without_ours(piece)
            elif isinstance(piece, list | tuple):
                yield from (_without_ours(item) if isinstance(item, Mapping) else self._refuse(item) for item in piece)
            else:
                self._refuse(piece)

    def _each(self, value: Any) -> Iterable[Any]:
        return value if isinstance(value, Iterable) else self._refuse(value)

    def _refuse(self, value: Any) -> Any:
        what = "nothing" if value is None else f"a value of type {type(value).__name__}"
        raise ConfigError(f"{self._name}: the asset returned {what}; wanted {_WANTED}.")


def _without_ours(record: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The record without the columns that every mapped table has: rows that were read from one come back."""
    return record if _OURS.isdisjoint(record) else {name: record[name] for name in record if name not in _OURS}


def _is_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame; pandas is not imported to find out."""
    return any(
        kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame" for kind in type(value).__mro__
    )


def _rows(frame: DataFrame) -> Iterator[Mapping[Any, Any]]:
    """The rows of a DataFrame; an index that has a name is a field, too."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame = frame.set_axis(
        ["_".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame], axis=1
    )
    if not frame.columns.is_unique:
        double = sorted({name for name in frame.columns if list(frame.columns).count(name) > 1})
        raise ConfigError(f"the DataFrame has several columns {', '.join(double)}; wanted each name once.")
    frame = frame[[name for name in frame.columns if name not in _OURS]]
    for start in range(0, len(frame), PAGE_RECORDS):
        yield from frame.iloc[start : start + PAGE_RECORDS].to_dict("records")
