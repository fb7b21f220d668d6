"""Upsert: records are added and updated by their unique key, one transaction for each batch of pages."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from .. import records
from ..config import Sync
from ..errors import RecordRejected
from . import datasets, merging
from .batches import Batches
from .database import Database
from .datasets import Dataset
from .differences import Also
from .key_forms import KeyForms
from .rows import in_batches
from .tables import MappedTable
from .tally import Guard
from .validation import Places, Validation
from .vanished import Vanished

BATCH_RECORDS = 1000
BATCH_BYTES = 1_500_000  # a handful of batches are in memory at a time
_WINDOW_KEYS = 20_000  # of an open deletion window, which wait in memory


class Upsert:
    """Writes the records of one execution into a dataset, by their unique key."""

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, table: MappedTable | None, guard: Guard
    ) -> None:
        self._database = database
        self._sync = sync
        self._dataset = dataset
        self._table = table
        self._guard = guard
        self._read_keys = records.key_reader(sync.key_fields)
        self._validation = Validation.of(sync)
        self._vanished = Vanished(database, sync, dataset, table, guard)
        self._key_forms = KeyForms(database, sync, dataset, self._read_keys, self._vanished)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._places = Places()
        self._taken = 0
        self._is_new = dataset.last_modified_at is None  # it never had a record
        self._batches = Batches(database, sync, dataset, table, guard, self._key_forms)
        self.tally = self._batches.tally

    def add(self, texts: Sequence[bytes], where: str | None = None) -> None:
        """Take a page's records; they are committed together with the next ones, or with `flush`."""
        if where is not None:
            self._places.add(len(self._waiting), where)
        self._waiting.extend(texts)
        self._waiting_bytes += sum(map(len, texts))
        if len(self._vanished.window) >= _WINDOW_KEYS:
            self.flush()
        elif len(self._waiting) >= BATCH_RECORDS or self._waiting_bytes >= BATCH_BYTES:
            self._save_waiting()

    def flush(self, also: Also | None = None) -> None:
        """Commit what waits; `also` writes in the transaction of the last batch, or in one of its own."""
        window = self._vanished.window
        self._save_waiting(is_last=True)
        self._batches.commit(window.with_keys(also, rejected=self.tally.unreadable > 0))
        window.clear()

    def update(self, changes: Sequence[bytes]) -> int:
        """Merge partial records into the live ones with their keys; the number of keys that no live record has."""
        self.flush()
        merged: dict[str, bytes] = {}
        by_key: dict[str, list[bytes]] = {}
        for key, change in zip(self._read_keys(changes), changes, strict=True):
            if isinstance(key, RecordRejected):
                self.tally.reject("of an update", str(key))
            else:
                by_key.setdefault(str(key), []).append(change)
        stored = self._live_texts(list(by_key))
        for key, text in stored.items():
            try:
                merged[key] = functools.reduce(merging.merged, by_key[key], text)
            except RecordRejected as reason:
                self.tally.reject(f'"{key}"', str(reason))
        self.add(list(merged.values()))
        return len(by_key) - len(stored)

    def _live_texts(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self._database.ask() as connection:
            raw = self._database.rows.raw(connection, self._dataset.id)
            return raw.texts([key for key, row in raw.look_up(keys).items() if not row.is_deleted])

    def delete(self, keys: Sequence[str]) -> int:
        """Mark the live records with these keys as deleted; how many there were. Their content is kept."""
        self.flush()
        count, self._batches.version = self._database.transact(lambda connection: self._delete(connection, keys))
        self.tally.deleted += count
        return count

    def _delete(self, connection: Connection, keys: Sequence[str]) -> tuple[int, datetime | None]:
        """The number of deleted records, and the dataset's version after it."""
        database, dataset = self._database, self._dataset
        self._guard(connection)
        raw = database.rows.raw(connection, dataset.id)
        live = [key for key, row in raw.look_up(keys).items() if not row.is_deleted]
        last, moment = datasets.last_and_next_moment(connection, database, dataset.id)
        if not live:
            return 0, last
        if self._table is not None:
            self._table.mark_deleted(connection, dataset, live, moment)
        raw.mark_deleted(live, moment, keep_data=True)
        datasets.changed(connection, dataset.id, moment, deleted=len(live))
        return len(live), moment

    def _save_waiting(self, *, is_last: bool = False) -> None:
        texts, self._waiting, self._waiting_bytes = self._waiting, [], 0
        places, self._places = self._places, Places()
        batch: dict[str, bytes] = {}
        keys = self._read_keys(texts)
        conflicts = set(self._key_forms.conflicts(keys))
        misfits = self._validation.rejected(texts, self.tally, places) if self._validation else {}
        for at, (key, text) in enumerate(zip(keys, texts, strict=True)):
            if isinstance(key, RecordRejected):
                self.tally.unreadable += 1
                self.tally.reject(str(self._taken + at), f"{key}{places.of(at)}", text=text)
                self.tally.count_keyless(key, text)
            elif at in conflicts:
                reason = f'another record has the same unique_key with another JSON type, such as {key} and "{key}"'
                self.tally.reject(str(self._taken + at), reason, text=text)
            elif at in misfits:
                self.tally.reject(str(self._taken + at), misfits[at], key=str(key), text=text)
            else:
                if key in batch:
                    self.tally.repeated += 1
                batch[key if key.__class__ is str else str(key)] = text  # the last one wins
        self._taken += len(texts)
        self._vanished.add([str(keys[at]) for at in misfits if not isinstance(keys[at], RecordRejected)])
        repeated = self._vanished.add(list(batch))
        if repeated:
            self.tally.repeated += repeated
            # The next look-up has to see what the batches before have written.
            self._batches.commit()
        for piece in in_batches(list(batch), BATCH_RECORDS):
            all_new = self._is_new and not repeated
            self._batches.add({key: batch[key] for key in piece}, all_new=all_new, is_last=is_last)

    # --- the end of the execution -----------------------------------------------------------------------------------

    def settle(self, *, complete: bool) -> None:
        """Commit the rest and find the records that the source does not have any more.

        Raises Refused when more has vanished than `track_deletes` allows, or its defaults for another unique key.
        """
        self.flush()
        self._vanished.takes_over = self._vanished.takes_over and complete
        if complete:
            self._vanished.find(self.tally)

    @property
    def deletions(self) -> int:
        """How many records `finish` marks as deleted."""
        return self._vanished.count

    def finish(self, connection: Connection) -> None:
        """Mark the records that vanished as deleted, in the transaction that ends the execution."""
        self.tally.deleted += self._vanished.count
        self._vanished.delete(connection)

    # --- a list that several executions read --------------------------------------------------------------------------

    def open_window(self) -> bool:
        """Keep the keys of all that is saved from now on, and before by this execution; whether a window was open."""
        self.flush()
        return self._vanished.open_window()

    def close_window(self, *, accept_deletes: bool = False) -> list[str]:
        """Mark the live records that nobody saved since the window was opened as deleted; their keys.

        Raises ConfigError where no window is open, and Refused where too many are gone; the window stays open then.
        """
        self.flush()
        keys, self._batches.version = self._vanished.close_window(self.tally, accept_deletes=accept_deletes)
        return keys

    def drop_window(self) -> None:
        """Close the window, if one is open, and delete nothing."""
        self._vanished.drop_window()

    # --- what was read ------------------------------------------------------------------------------------------------

    def read(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the execution has read."""
        missing = set(self._vanished.seen.missing(keys))
        return [key for key in keys if key not in missing]

    def close(self) -> None:
        """Close the temporary files and the threads."""
        self._batches.close()
        self._vanished.close()
        self._key_forms.close()
