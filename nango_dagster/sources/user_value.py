"""The value that a user's asset hands to the IO manager, as a source of records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import clock
from ..errors import ConfigError, RecordRejected
from ..records import Rejected, encode
from .source import Ending, Model, Numbers, Sink, SourceContext

if TYPE_CHECKING:
    from pandas import DataFrame

PAGE_RECORDS = 1000
PAGE_SECONDS = 2.0
_WANTED = "an iterable of dicts, of lists of dicts or of DataFrames, a DataFrame, or a function that returns one"


class UserValue:
    """The records of an iterable of dicts, a DataFrame or a function that returns one, at most 1,000 on a page.

    >>> value = UserValue("orders", [{"id": 1}, {"id": 2}])
    >>> [page.records for page in value.pages()]
    [[b'{"id":1}', b'{"id":2}']]
    """

    models: tuple[Model, ...] = ()
    needs_access = False

    def __init__(
        self,
        name: str,
        value: Any,
        *,
        system_columns: Collection[str] = (),
        during_user_code: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """Records leave out `system_columns`, so that rows of a mapped table can be written back.

        `during_user_code` is open while the user's code gives the next values.
        """
        self._name = name
        self._value = value
        self._system_columns = frozenset(system_columns)
        self._during_user_code = during_user_code

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Save the records page by page; a generator that is not read to its end is closed."""
        count = 0
        try:
            for number, page in enumerate(self.pages(), 1):
                count += len(page.records)
                for rejected in page.rejected:
                    sink.reject(f"{rejected.position} of page {number}", rejected.reason)
                sink.count(Numbers(pages=number, records=count))
                sink.save(page.records)
        finally:
            if callable(close := getattr(self._value, "close", None)):
                close()
        return Ending("end_of_values")

    def pages(self) -> Iterator[Page]:
        """The records as JSON, and those that cannot be written as JSON."""
        items = self._items()
        while batch := self._next(items):
            yield _page(batch)

    def _next(self, records: Iterator[Any]) -> list[Any]:
        """The records of the next page: 1,000, or as many as came within two seconds."""
        items: list[Any] = []
        until = clock.monotonic() + PAGE_SECONDS
        with self._during_user_code():  # a signal interrupts the user's code at once
            for item in records:
                items.append(item)
                if len(items) == PAGE_RECORDS or clock.monotonic() > until:
                    break
        return items

    def _items(self) -> Iterator[Mapping[Any, Any]]:
        """Each record, from whatever the value holds it in."""
        self._value = value = self._value() if callable(self._value) else self._value
        for piece in [value] if isinstance(value, Mapping) or _is_data_frame(value) else self._iterated(value):
            if _is_data_frame(piece):
                yield from self._rows(piece)
            elif isinstance(piece, list | tuple):
                for item in piece:
                    yield self._record(item)
            else:
                yield self._record(piece)

    def _iterated(self, value: Any) -> Iterable[Any]:
        if not isinstance(value, Iterable):
            raise self._error(value)
        return value

    def _record(self, item: Any) -> Mapping[Any, Any]:
        """The item without the system columns. Raises ConfigError where it is not a mapping."""
        if not isinstance(item, Mapping):
            raise self._error(item)
        if self._system_columns.isdisjoint(item):
            return item
        return {name: item[name] for name in item if name not in self._system_columns}

    def _error(self, value: Any) -> ConfigError:
        description = "nothing" if value is None else f"a value of type {type(value).__name__}"
        return ConfigError(f"{self._name}: the asset returned {description}; wanted {_WANTED}.")

    def _rows(self, frame: DataFrame) -> Iterator[Mapping[Any, Any]]:
        """The rows of a DataFrame; an index that has a name is a field, too."""
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        frame = frame.set_axis(
            ["_".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame], axis=1
        )
        if not frame.columns.is_unique:
            repeated = sorted({name for name in frame.columns if list(frame.columns).count(name) > 1})
            raise ConfigError(
                f"{self._name}: the DataFrame has several columns {', '.join(repeated)}; wanted each name once."
            )
        frame = frame[[name for name in frame.columns if name not in self._system_columns]]
        for start in range(0, len(frame), PAGE_RECORDS):
            yield from frame.iloc[start : start + PAGE_RECORDS].to_dict("records")


class Page(NamedTuple):
    """Records as JSON, and those that cannot be written as JSON."""

    records: list[bytes]
    rejected: list[Rejected]


def _page(items: Sequence[Any]) -> Page:
    page = Page([], [])
    for position, item in enumerate(items):
        try:
            page.records.append(encode(item))
        except RecordRejected as reason:
            page.rejected.append(Rejected(position, str(reason)))
    return page


def _is_data_frame(value: Any) -> bool:
    """Whether it is a pandas DataFrame; pandas is not imported to find out."""
    return any(
        kind.__module__.partition(".")[0] == "pandas" and kind.__name__ == "DataFrame" for kind in type(value).__mro__
    )
