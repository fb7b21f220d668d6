"""Following a model: all records that changed, page by page, with the place that was reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .answers import Record, RecordPage


class Records:
    """Records in the order they changed, read page by page as they are asked for.

    `cursor` is the place behind the last record that was handed out. Keep it where the records are kept, best in the
    same transaction, and begin there next time. Iterating again goes on there, too.

    >>> stored = [{"id": id, "_nango_metadata": {"cursor": f"c{id}"}} for id in (1, 2, 3)]
    >>> def read(cursor):
    ...     rest = [one for one in stored if cursor is None or one["_nango_metadata"]["cursor"] > cursor]
    ...     return {"records": rest[:2], "next_cursor": "c2" if len(rest) > 2 else None}
    >>> records = Records(read)
    >>> [record["id"] for record in records], records.cursor
    ([1, 2, 3], 'c3')
    >>> [len(page) for page in Records(read, cursor="c1").pages()]
    [2]
    """

    def __init__(self, read: Callable[[str | None], RecordPage], cursor: str | None = None) -> None:
        self.cursor = cursor
        self._read = read

    def __iter__(self) -> Iterator[Record]:
        for page in self.pages():
            for record in page:
                self.cursor = _cursor_of(record)
                yield record

    def pages(self) -> Iterator[list[Record]]:
        """The same page by page; none of them is empty."""
        while True:
            page = self._read(self.cursor)
            if page["records"]:
                self.cursor = _cursor_of(page["records"][-1])
                yield page["records"]
            if page["next_cursor"] is None or not page["records"]:
                return


def _cursor_of(record: Record) -> str:
    cursor: str = record["_nango_metadata"]["cursor"]
    return cursor
