"""Pages of a dataset's records in the order they changed, for readers who follow them with a cursor.

No change is skipped: a transaction's rows share one time, which is later than that of every transaction committed
before it (`datasets.next_moment`), so nothing ever appears behind a cursor. A page costs the same wherever it begins:
each kind of change has an index of its own (`changes`), and a page merges what those hold behind its cursor.
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
class Wanted:
    """Which records of a dataset a reader wants; every part narrows it."""

    after: Cursor | None = None
    modified_after: datetime | None = None
    actions: Collection[Action] = ACTIONS
    ids: Sequence[str] | None = None

    @property
    def begin(self) -> Cursor:
        """The place that they all are behind; a record's id has at least one character."""
        places = [self.after or Cursor(EPOCH, "")]
        if self.modified_after is not None:
            places.append(Cursor(self.modified_after, ""))
        return max(places, key=lambda place: (place.moment, place.external_id))

    def check_dataset(self, dataset_id: int) -> None:
        """Raise ConfigError when `after` is a cursor of another dataset."""
        if self.after is not None:
            self.after.check_dataset(dataset_id)


@dataclass(frozen=True)
class Page:
    """Some records in the order they changed, and where the next ones begin, if there are more."""

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


def page(database: Database, dataset_id: int, wanted: Wanted, limit: int, most_bytes: int = MOST_BYTES) -> Page:
    """One page of the records that `wanted` selects: at most `limit`, fewer where they are large, but at least one.

    Raises ConfigError for a cursor of another dataset.
    """
    with database.driver() as connection:
        wanted.check_dataset(dataset_id)
        rows = database.rows.page(connection, _question(dataset_id, wanted, limit))
        return _page(rows._replace(dataset_id=dataset_id), limit, most_bytes)


def page_of(database: Database, names: Names, wanted: Wanted, limit: int) -> tuple[Page, bool] | None:
    """A page of the dataset of these names, and whether its records' ids are their own `id`; None for an empty page.

    One query reads all of it. Raises ConfigError for a cursor of another dataset.
    """
    with database.driver() as connection:
        rows = database.rows.page(connection, _question(vars(names), wanted, limit))
        if rows.dataset_id is not None:
            wanted.check_dataset(rows.dataset_id)
        page = _page(rows, limit, MOST_BYTES)
    return (page, rows.is_own_id) if page.records else None


def latest(database: Database, dataset_id: int, actions: Sequence[Action], limit: int) -> list[Record]:
    """The records that changed last, the newest first."""
    with database.driver() as connection:
        return [*database.rows.latest(connection, dataset_id, actions, limit)]


def _question(dataset: int | Mapping[str, str], wanted: Wanted, limit: int) -> PageQuestion:
    """One record more than the page holds shows whether there are more."""
    ids = None if wanted.ids is None else list(dict.fromkeys(wanted.ids))
    begin = (wanted.begin.moment, wanted.begin.external_id)
    return PageQuestion(dataset, begin, tuple(wanted.actions), ids, limit + 1)


def _page(rows: PageRows, limit: int, most_bytes: int) -> Page:
    """As many of the rows as fit a page."""
    records: list[Record] = []
    is_cut, size = rows.is_cut, 0
    for row in rows.records:
        size += len(row.text or "")
        if len(records) == limit or (records and size > most_bytes):
            is_cut = True
            break
        records.append(row)
    return Page(records, records[-1].cursor(rows.dataset_id) if is_cut else None, rows.dataset_id)
