"""How many records one execution may delete, and which of them it may delete already.

The limit compares with the most records that the dataset had within the last day, so that a list that shrinks from
100 to 50 to 25 in three executions is refused at the second step. With page numbers or offsets a record is deleted only
after several complete executions in a row did not contain it: when the source deletes a record while the list is read,
another record moves to a page that was read already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select, update

from ..config import Sync, TrackDeletes
from ..errors import Refused
from . import schema
from .datasets import Dataset
from .key_sets import KeyList
from .rows import in_batches

DAY = timedelta(days=1)
_MOST_COUNTS = 50
_datasets = schema.datasets.c
_missing = schema.missing.c


@dataclass(frozen=True)
class Deletion:
    """The deletions of an execution: the live records when it began, those it deletes, and those that stay."""

    before: int
    deleted: int
    left: int


def check(connection: Connection, sync: Sync, dataset: Dataset, deletion: Deletion, now: datetime) -> None:
    """Raise Refused when more is about to be deleted than `track_deletes` allows, or its defaults for an overwrite."""
    tracking = sync.track_deletes or TrackDeletes()
    if not deletion.deleted or tracking.max_fraction >= 1:
        return
    most = max(deletion.before, highest_count(connection, dataset.id, now))
    gone = deletion.deleted if sync.mode == "upsert" else max(0, deletion.before - deletion.left)
    if most < tracking.min_rows:
        return
    if gone > deletion.before * tracking.max_fraction:
        fact = f"{gone:,} of {deletion.before:,} records are gone from the source"
    elif deletion.left < most * (1 - tracking.max_fraction):
        fact = f"{most - deletion.left:,} of {most:,} records within 24 hours are gone from the source"
    else:
        return
    raise Refused(
        f"{sync.display_name}: {fact}, more than track_deletes.max_fraction ({tracking.max_fraction:g}) allows; "
        "nothing was deleted. If they really are gone, run the sync once with --accept-deletes."
    )


def check_takeover(sync: Sync, live: int, read: int) -> None:
    """Raise Refused when a list under another unique_key is much shorter than the records it would replace.

    Every record vanishes from under its old key, so only their number tells whether the source still has them.
    """
    tracking = sync.track_deletes or TrackDeletes()
    if live >= tracking.min_rows and live - read > live * tracking.max_fraction:
        raise Refused(
            f"{sync.display_name}: unique_key changed, and the source has {read:,} records under "
            f'"{sync.key_name}" to take the place of {live:,}; nothing was deleted. '
            "If the others really are gone, run the sync once with --empty-cache."
        )


def highest_count(connection: Connection, dataset_id: int, now: datetime) -> int:
    """The most live records that the dataset had before a deletion within the last day; 0 without one."""
    return max((count for moment, count in _counts(connection, dataset_id) if moment > now - DAY), default=0)


def note(connection: Connection, sync: Sync, dataset_id: int, count: int, now: datetime) -> None:
    """Note how many live records there were until now, before a deletion.

    Earlier counts are forgotten where somebody has accepted all deletions.
    """
    accepted = (sync.track_deletes or TrackDeletes()).max_fraction >= 1
    counts = [] if accepted else [*_counts(connection, dataset_id), (now, count)]
    by_hour: dict[datetime, int] = {}
    for moment, earlier in counts:
        if moment > now - DAY:
            hour = moment.replace(minute=59, second=59, microsecond=0)
            by_hour[hour] = max(earlier, by_hour.get(hour, 0))
    text = json.dumps([[hour.isoformat(), earlier] for hour, earlier in by_hour.items()][-_MOST_COUNTS:])
    connection.execute(update(schema.datasets).where(_datasets.id == dataset_id).values(earlier_counts=text))


def _counts(connection: Connection, dataset_id: int) -> list[tuple[datetime, int]]:
    text = connection.execute(select(_datasets.earlier_counts).where(_datasets.id == dataset_id)).scalar()
    return [(datetime.fromisoformat(moment), count) for moment, count in json.loads(text or "[]")]


# --- records that are missing, and not deleted yet --------------------------------------------------------------------


def executions_before_deletion(sync: Sync) -> int:
    """How many complete executions in a row have to miss a record before it is deleted."""
    tracking = sync.track_deletes or TrackDeletes()
    by_position = sync.paging_page_request_path is not None or sync.paging_offset_request_path is not None
    return tracking.after or (2 if by_position else 1)


class MissingRecords:
    """The records of a dataset that a complete list did not contain: those to delete now, and those to wait for.

    Only complete executions decide: `store` replaces what the one before it noted.
    """

    def __init__(self, after: int) -> None:
        self.deleted = KeyList()
        self._after = after
        self._waiting = [KeyList() for _ in range(after - 1)]
        """By how often they were missing, from once on."""

    def add(self, connection: Connection, dataset_id: int, keys: Sequence[str]) -> None:
        """Sort keys that the list did not contain by how often they were missing, this time included."""
        times = dict(_times(connection, dataset_id, keys)) if self._after > 1 else {}
        for count, waiting in enumerate(self._waiting, 1):
            waiting.add([key for key in keys if times.get(key, 0) + 1 == count])
        self.deleted.add([key for key in keys if times.get(key, 0) + 1 >= self._after])

    def __len__(self) -> int:
        return len(self.deleted) + sum(map(len, self._waiting))

    def store(self, connection: Connection, dataset_id: int) -> None:
        """Note the records that are missing and not deleted yet, and forget those that came back."""
        connection.execute(delete(schema.missing).where(_missing.dataset_id == dataset_id))
        for count, waiting in enumerate(self._waiting, 1):
            for keys in waiting.batches():
                rows = [{"dataset_id": dataset_id, "external_id": key, "times": count} for key in keys]
                connection.execute(insert(schema.missing), rows)

    def close(self) -> None:
        """Delete the temporary files."""
        for keys in (self.deleted, *self._waiting):
            keys.close()


def _times(connection: Connection, dataset_id: int, keys: Iterable[str]) -> Iterator[tuple[str, int]]:
    for batch in in_batches(list(keys)):
        query = select(_missing.external_id, _missing.times)
        rows = connection.execute(query.where(_missing.dataset_id == dataset_id, _missing.external_id.in_(batch)))
        yield from ((key, times) for key, times in rows)
