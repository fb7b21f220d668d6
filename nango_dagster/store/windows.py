"""Deletion windows: the keys that several executions together have read of one list.

A list that takes more than one execution to read is compared with the stored records when all of it was read. A window
is opened where the list begins. From then on the key of every record that an execution saves is kept, in the
transaction of the checkpoint behind it, until the window is closed: then the live records without a kept key are gone
from the source. What any execution saves meanwhile counts, also one that reads only changes. A key that is kept twice,
or too early, costs nothing: such a record was at the source while the window was open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select, text, update

from . import schema
from .datasets import Dataset
from .differences import Also
from .key_sets import digest_of
from .rows import in_batches
from .target import Target

_datasets = schema.datasets
_keys = schema.window_keys
_INSERT = text(
    "INSERT INTO _nango_window_keys (dataset_id, digest) VALUES (:dataset_id, :digest) ON CONFLICT DO NOTHING"
)


class WindowKeys:
    """The keys that one execution has read of a dataset with an open window, until they are kept."""

    def __init__(self, dataset: Dataset) -> None:
        self.is_open = dataset.window_opened_at is not None
        self.is_doubtful = dataset.window_is_doubtful
        """Whether a record was rejected since the window was opened whose key is not known."""
        self._dataset_id = dataset.id
        self._digests: list[bytes] = []

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, digests: Iterable[bytes]) -> None:
        """Take the digests of keys that were read."""
        self._digests.extend(digests)

    def with_keys(self, also: Also | None, *, rejected: bool) -> Also | None:
        """A write of these keys and of `also`; None where there is nothing to write."""
        if not self.is_open or not (self._digests or (rejected and not self.is_doubtful)):
            return also
        self.is_doubtful |= rejected

        def write(connection: Connection) -> None:
            add(connection, self._dataset_id, self._digests, is_doubtful=self.is_doubtful)
            if also is not None:
                also(connection)

        return write

    def clear(self) -> None:
        """Forget the keys, which are kept now."""
        self._digests.clear()


def open_at(connection: Connection, dataset_id: int, now: datetime) -> None:
    """Open a dataset's window; keys of one before are forgotten."""
    _forget(connection, dataset_id)
    here = update(_datasets).where(_datasets.c.id == dataset_id)
    connection.execute(here.values(window_opened_at=now, window_is_doubtful=False))


def add(connection: Connection, dataset_id: int, digests: Sequence[bytes], *, is_doubtful: bool = False) -> None:
    """Keep the digests of keys, and with `is_doubtful` that a record was rejected whose key is not known."""
    for batch in in_batches(digests, 5000):
        connection.execute(_INSERT, [{"dataset_id": dataset_id, "digest": digest} for digest in batch])
    if is_doubtful:
        connection.execute(update(_datasets).where(_datasets.c.id == dataset_id).values(window_is_doubtful=True))


def missing(connection: Connection, dataset_id: int, keys: Sequence[str]) -> list[str]:
    """Those of the keys that are not kept."""
    absent: list[str] = []
    for batch in in_batches(keys):
        by_digest = {digest_of(key): key for key in batch}
        query = select(_keys.c.digest).where(_keys.c.dataset_id == dataset_id, _keys.c.digest.in_(by_digest))
        kept = set(map(bytes, connection.execute(query).scalars()))
        absent += [key for digest, key in by_digest.items() if digest not in kept]
    return absent


def drop(connection: Connection, dataset_id: int) -> None:
    """Close a dataset's window and forget its keys."""
    _forget(connection, dataset_id)
    here = update(_datasets).where(_datasets.c.id == dataset_id)
    connection.execute(here.values(window_opened_at=None, window_is_doubtful=False))


def drop_of(connection: Connection, target: Target) -> None:
    """Close the windows of a target's datasets."""
    of = _datasets.c
    opened = select(of.id).where(target.condition(of), of.window_opened_at.is_not(None))
    for dataset_id in connection.execute(opened).scalars().all():
        drop(connection, dataset_id)


def _forget(connection: Connection, dataset_id: int) -> None:
    connection.execute(delete(_keys).where(_keys.c.dataset_id == dataset_id))
