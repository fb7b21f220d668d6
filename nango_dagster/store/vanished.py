"""The records that the source does not have any more: the stored ones that a list, read to its end, did not contain.

A list is read by one execution, or by several with a deletion window between its beginning and its end (windows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from ..config import Sync, TrackDeletes
from ..errors import ConfigError
from . import datasets, deletions, windows
from .database import Database
from .datasets import Dataset
from .deletions import Deletion, MissingRecords, executions_before_deletion
from .key_sets import KeySet, digest_of
from .tables import MappedTable
from .tally import Guard, Tally
from .windows import WindowKeys

T = TypeVar("T")


class Vanished:
    """Compares what was read with the stored records, and deletes those that are gone."""

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, table: MappedTable | None, guard: Guard
    ) -> None:
        self.seen = KeySet()
        """The keys that this execution has read."""
        self.window = WindowKeys(dataset)
        self.has_other_key = dataset.has_mixed_keys or dataset.unique_key != sync.key_name
        # The stored records have another key. Those that do not come under the new one are deleted at the end.
        self.takes_over = self.has_other_key and dataset.live_count > 0
        self._database = database
        self._sync = sync
        self._dataset = dataset
        self._table = table
        self._guard = guard
        self._missing = self._no_missing()
        self._is_at_end = False
        self._is_compared = False

    def add(self, keys: Sequence[str]) -> int:
        """Take keys that were read; how many of them were read before."""
        if self.window.is_open:
            self.window.add(map(digest_of, keys))
        return self.seen.add(keys)

    def note_key(self, connection: Connection) -> None:
        """Note a changed `unique_key` on the dataset, in the transaction of the first records with it."""
        if self.has_other_key:
            datasets.identify(connection, self._dataset.id, self._sync.key_name, mixed=self.takes_over)

    def find(self, tally: Tally) -> None:
        """Find what is gone at the end of a list, where `track_deletes` or another unique key asks for that.

        Raises Refused when more is gone than `track_deletes` allows, or its defaults for another unique key.
        """
        self.takes_over = self.takes_over and not tally.unreadable
        if self._sync.track_deletes or self.takes_over:
            self._is_at_end = True
            self._compare(self._sync, tally)

    def _compare(self, sync: Sync, tally: Tally) -> None:
        if tally.unreadable or self.window.is_doubtful:
            tally.reasons.append("nothing was deleted: a record that cannot be read may be one that seems to be gone.")
            return
        if self.takes_over:
            deletions.check_takeover(sync, self._dataset.live_count, len(self.seen))
        self._is_compared = True
        with self._database.connect() as connection:
            live = datasets.read(connection, self._dataset.id).live_count
            if live == len(self.seen) and not (tally.rejected or tally.deleted):
                return
            for keys in self._database.rows.raw(connection, self._dataset.id).live_keys():
                absent = self.seen.missing(keys)
                if self.window.is_open and absent:
                    absent = windows.missing(connection, self._dataset.id, absent)
                self._missing.add(connection, self._dataset.id, absent)
            if not self.takes_over:
                deletion = Deletion(self._dataset.live_count, len(self._missing), live - len(self._missing))
                deletions.check(connection, sync, self._dataset, deletion, self._database.now(connection))

    @property
    def count(self) -> int:
        """How many records `delete` marks as deleted."""
        return len(self._missing.deleted)

    def delete(self, connection: Connection) -> None:
        """Mark what is gone as deleted, and close the window of the list."""
        database, dataset, vanished = self._database, self._dataset, self._missing.deleted
        if self.takes_over:
            datasets.identify(connection, dataset.id, self._sync.key_name)
        if self._is_compared:
            self._missing.store(connection, dataset.id)
        if self._is_at_end and self.window.is_open:
            windows.drop(connection, dataset.id)
        if not vanished:
            return
        count = datasets.read(connection, dataset.id).live_count
        deletions.note(connection, self._sync, dataset.id, count, database.now(connection))
        keep = not self.takes_over
        moment, raw = datasets.next_moment(connection, database, dataset.id), database.rows.raw(connection, dataset.id)
        for keys in vanished.batches():
            if self._table is not None and keep:
                self._table.mark_deleted(connection, dataset, keys, moment)
            elif self._table is not None:
                self._table.remove(connection, dataset, keys)
            raw.mark_deleted(keys, moment, keep_data=keep, own_id=dataset.unique_key == "id")
        datasets.changed(connection, dataset.id, moment, deleted=len(vanished))

    def close(self) -> None:
        """Delete the temporary files."""
        self.seen.close()
        self._missing.close()

    # --- a window over several executions; the caller has committed what was read before -----------------------------

    def open_window(self) -> bool:
        """Keep the keys that are read from now on, and those of this execution; whether a window was open before.

        A window of another unique key is opened anew.
        """
        if self.window.is_open and not self.has_other_key:
            return True
        self._transact(lambda connection: windows.open_at(connection, self._dataset.id, self._database.now(connection)))
        self.window = WindowKeys(self._dataset)
        self.window.is_open, self.window.is_doubtful = True, False
        self.window.add(self.seen.digests())
        return False

    def close_window(self, tally: Tally, *, accept_deletes: bool) -> tuple[list[str], datetime | None]:
        """Mark the live records without a kept key as deleted: their keys, and the dataset's version after it.

        Raises ConfigError where no window is open, and Refused where too many are gone; the window stays open then.
        """
        if not self.window.is_open:
            raise ConfigError(f"{self._sync.display_name}: no deletion window of {self._sync.model} is open; open one.")
        tracking = TrackDeletes(max_fraction=1.0) if accept_deletes else self._sync.track_deletes
        self._forget_missing()
        self._compare(self._sync.model_copy(update={"track_deletes": tracking}), tally)
        self._is_at_end = True
        keys = [key for batch in self._missing.deleted.batches() for key in batch]
        version = self._transact(self._delete_in_window)
        self.window.is_open = self._is_at_end = self._is_compared = False
        self._forget_missing()
        tally.deleted += len(keys)
        return keys, version

    def _delete_in_window(self, connection: Connection) -> datetime | None:
        self.delete(connection)
        return datasets.read(connection, self._dataset.id).last_modified_at

    def drop_window(self) -> None:
        """Close the window, if one is open, and delete nothing."""
        if self.window.is_open:
            self._transact(lambda connection: windows.drop(connection, self._dataset.id))
            self.window.is_open = self.window.is_doubtful = False

    def _transact(self, work: Callable[[Connection], T]) -> T:
        def guarded(connection: Connection) -> T:
            self._guard(connection)
            return work(connection)

        return self._database.transact(guarded)

    def _no_missing(self) -> MissingRecords:
        return MissingRecords(1 if self.has_other_key else executions_before_deletion(self._sync))

    def _forget_missing(self) -> None:
        self._missing.close()
        self._missing = self._no_missing()
