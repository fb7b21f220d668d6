"""Read all changed records of a model, page by page, with the cursor of the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .answers import Record, RecordPage


class Records:
    """Records in the order of their changes; the iteration reads each page when it needs it.

    `cursor` is the position after the last record of the iteration. Store it with the records, best in the same
    transaction, and start with it next time. A second iteration continues there, too.

    >>> stored = [{"id": id, "_nango_metadata": {"cursor": f"c{id}"}} for id in (1, 2, 3)]
    >>> def read(cursor):
    ...     rest = [record for record in stored if cursor is None or record["_nango_metadata"]["cursor"] > cursor]
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
        """The records as lists, one for each page; empty pages are left out."""
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
