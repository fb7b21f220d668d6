"""Pages of a dataset's records in the order of their changes, for readers that store a cursor.

No change is skipped: a transaction's rows share one time, which is later than that of every transaction committed
before it (`datasets.next_moment`), so no record appears before a cursor later. Each page costs the same: each kind of
change has an index (`changes`), and a page merges the rows of these indexes after its cursor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .changes import ACTIONS, EPOCH, Action, Cursor, Record
from .database import Database
from .rows import PageQuestion, PageRows

MOST_BYTES = 20_000_000  # of a page's texts, unless its first record alone has more


@dataclass(frozen=True)
class RecordSelection:
    """The records of a dataset that fit all of these conditions."""

    after: Cursor | None = None
    modified_after: datetime | None = None
    actions: Collection[Action] = ACTIONS
    ids: Sequence[str] | None = None

    @property
    def begin(self) -> Cursor:
        """The cursor before all of these records; an external id has at least one character."""
        cursors = [self.after or Cursor(EPOCH, "")]
        if self.modified_after is not None:
            cursors.append(Cursor(self.modified_after, ""))
        return max(cursors, key=lambda cursor: (cursor.moment, cursor.external_id))

    def check_dataset(self, dataset_id: int) -> None:
        """Raise ConfigError when `after` is a cursor of another dataset."""
        if self.after is not None:
            self.after.check_dataset(dataset_id)


@dataclass(frozen=True)
class Page:
    """Records in the order of their changes, and the cursor of the next page; None on the last page."""

    records: list[Record]
    next: Cursor | None
    dataset_id: int | None = None


@dataclass(frozen=True)
class Names:
    """The names of a dataset."""

    integration: str
    connection_id: str
    variant: str
    model: str


def page(
    database: Database, dataset_id: int, selection: RecordSelection, limit: int, most_bytes: int = MOST_BYTES
) -> Page:
    """One page of the records that `selection` selects: at most `limit`, fewer where they are large, but at least one.

    Raises ConfigError for a cursor of another dataset.
    """
    with database.driver() as connection:
        selection.check_dataset(dataset_id)
        rows = database.rows.page(connection, _question(dataset_id, selection, limit))
        return _page(rows._replace(dataset_id=dataset_id), limit, most_bytes)


def page_of(database: Database, names: Names, selection: RecordSelection, limit: int) -> tuple[Page, bool] | None:
    """A page of the dataset of these names, and whether its records' ids are their own `id`; None for an empty page.

    It is one query. Raises ConfigError for a cursor of another dataset.
    """
    with database.driver() as connection:
        rows = database.rows.page(connection, _question(vars(names), selection, limit))
        if rows.dataset_id is not None:
            selection.check_dataset(rows.dataset_id)
        page = _page(rows, limit, MOST_BYTES)
    return (page, rows.is_own_id) if page.records else None


def latest(database: Database, dataset_id: int, actions: Sequence[Action], limit: int) -> list[Record]:
    """The records with the latest changes, the latest first."""
    with database.driver() as connection:
        return [*database.rows.latest(connection, dataset_id, actions, limit)]


def _question(dataset: int | Mapping[str, str], selection: RecordSelection, limit: int) -> PageQuestion:
    """The query of a page; it reads one record more, which shows whether there is a next page."""
    ids = None if selection.ids is None else list(dict.fromkeys(selection.ids))
    begin = (selection.begin.moment, selection.begin.external_id)
    return PageQuestion(dataset, begin, tuple(selection.actions), ids, limit + 1)


def _page(rows: PageRows, limit: int, most_bytes: int) -> Page:
    """The page with as many of the rows as fit."""
    records: list[Record] = []
    is_cut, size = rows.is_cut, 0
    for row in rows.records:
        size += len(row.text or "")
        if len(records) == limit or (records and size > most_bytes):
            is_cut = True
            break
        records.append(row)
    return Page(records, records[-1].cursor(rows.dataset_id) if is_cut else None, rows.dataset_id)
