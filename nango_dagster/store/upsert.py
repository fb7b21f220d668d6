"""Upsert: records are added and updated by their unique key, one transaction for each batch of pages."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .. import records
from ..config import Sync
from ..errors import RecordRejected, Refused
from . import datasets, merging, problems
from .database import Database
from .datasets import Dataset
from .differences import Also, Difference, LookUp, compare
from .key_forms import KeyForms
from .problems import Problems
from .rows import KnownRecord, RawRow, in_batches
from .tables import MappedTable, Prepared
from .tally import SAMPLE, Guard, Tally, refusal
from .validation import Validation
from .vanished import Vanished

BATCH_RECORDS = 1000
BATCH_BYTES = 1_500_000  # a handful of batches are in memory at a time
_TRIES = 5
_WINDOW_KEYS = 20_000  # of an open deletion window, which wait in memory


class Upsert:
    """Writes the records of one execution into a dataset, by their unique key.

    Three batches are in progress at a time: one is looked up, the one before it is compared and mapped, and the one
    before that is committed.
    """

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, table: MappedTable | None, guard: Guard
    ) -> None:
        self.tally = Tally()
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
        self._taken = 0
        self._version = dataset.last_modified_at  # of the dataset, as what is looked up is compared with it
        self._is_new = dataset.last_modified_at is None  # it never had a record
        # Whether stored rows may have problems, so that the rows that are replaced are counted.
        self._has_problems = table is not None and (dataset.has_problems or bool(table.misfits))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="nango-look-up")
        self._looking_up: tuple[dict[str, bytes], dict[str, bytes], Future[LookUp]] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="nango-commit")
        self._committing: tuple[Difference, Future[bool]] | None = None
        self._also: Also | None = None
        if table is not None:
            table.before_change = self._wait

    def add(self, texts: Sequence[bytes]) -> None:
        """Take a page's records; they are committed together with the next ones, or with `flush`."""
        self._waiting.extend(texts)
        self._waiting_bytes += sum(map(len, texts))
        if len(self._vanished.window) >= _WINDOW_KEYS:
            self.flush()
        elif len(self._waiting) >= BATCH_RECORDS or self._waiting_bytes >= BATCH_BYTES:
            self._save_waiting()

    def flush(self, also: Also | None = None) -> None:
        """Commit what waits; `also` writes in the transaction of the last batch, or in one of its own."""
        window = self._vanished.window
        self._save_waiting()
        self._also = window.with_keys(also, rejected=self.tally.unreadable > 0)
        self._compare_last(is_last=True)
        self._wait()
        if self._also is not None:
            self._database.transact(self._write_also)
            self._also = None
        window.clear()

    def _write_also(self, connection: Connection) -> None:
        self._guard(connection)
        assert self._also is not None
        self._also(connection)

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
        count, self._version = self._database.transact(lambda connection: self._delete(connection, keys))
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

    def _save_waiting(self) -> None:
        texts, self._waiting, self._waiting_bytes = self._waiting, [], 0
        batch: dict[str, bytes] = {}
        keys = self._read_keys(texts)
        conflicts = set(self._key_forms.conflicts(keys))
        misfits = self._validation.rejected(texts, self.tally) if self._validation else {}
        for at, (key, text) in enumerate(zip(keys, texts, strict=True)):
            if isinstance(key, RecordRejected):
                self.tally.unreadable += 1
                self.tally.reject(str(self._taken + at), str(key), text=text)
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
            self._compare_last()
            self._wait()
        for piece in in_batches(list(batch), BATCH_RECORDS):
            self._save({key: batch[key] for key in piece}, all_new=self._is_new and not repeated)

    def _save(self, batch: dict[str, bytes], *, all_new: bool) -> None:
        """Look a batch up while the one before it is compared and mapped, and the one before that is committed."""
        hashes = {key: records.byte_hash(text) for key, text in batch.items()}
        stored: Future[LookUp] = Future()
        if all_new:
            stored.set_result((dict.fromkeys(hashes), {}))
        else:
            stored = self._reader.submit(self._look_up, hashes)
        self._compare_last()
        self._looking_up = batch, hashes, stored

    def _compare_last(self, *, is_last: bool = False) -> None:
        """Compare and map the batch that was looked up last, and commit it after the batch before it."""
        if self._looking_up is None:
            return
        (batch, hashes, future), self._looking_up = self._looking_up, None
        known, texts = future.result()
        self._key_forms.check(batch, known)
        for key in self._key_forms.of_another_type(batch, known):
            reason = f'the stored record has the same unique_key with another JSON type, such as {key} and "{key}"'
            self.tally.reject(f'"{key}"', reason, key=key, text=batch.pop(key))
            del known[key]
        change = self._difference(batch, hashes, (known, texts))
        change.also = self._also if is_last else None
        self._wait()
        if change.keys:
            self._committing = change, self._committer.submit(self._store, change)
        else:
            self._count(change)

    def _wait(self) -> None:
        """Wait until the last batch is committed; commit it alone where that failed."""
        if self._committing is None:
            return
        change, future = self._committing
        wait([future])  # after an interrupt here it is waited for again
        self._committing = None
        try:
            stored = future.result()
        except (DBAPIError, self._database.driver_error, UnicodeError, OverflowError) as error:
            if change.reached_also:
                raise
            self._leave_out(change.batch, error)
            return
        if not stored:
            self._save_alone(change.batch)
            return
        self._count(change)
        if change.also is not None:
            self._also = None

    def _save_alone(self, batch: Mapping[str, bytes]) -> None:
        """Look up, compare and commit a batch while no other one is in progress."""
        hashes = {key: records.byte_hash(text) for key, text in batch.items()}
        for _ in range(_TRIES):
            with self._database.connect() as connection:
                self._version = datasets.read(connection, self._dataset.id).last_modified_at
            change = self._difference(batch, hashes, self._look_up(hashes))
            try:
                stored = not change.keys or self._store(change)
            except (DBAPIError, self._database.driver_error, UnicodeError, OverflowError) as error:
                self._leave_out(batch, error)
                return
            if stored:
                self._count(change)
                return
        raise Refused(
            f"{self._sync.display_name}: another process keeps changing the same records; nothing was written."
        )

    def _leave_out(self, batch: Mapping[str, bytes], error: Exception) -> None:
        """Halve a batch that the database refuses, again and again, until only the refused record is rejected."""
        if not self._database.refuses(error):
            raise error
        keys = list(batch)
        if len(keys) == 1:
            self.tally.reject(f'"{keys[0]}"', refusal(error), key=keys[0], text=batch[keys[0]])
            return
        middle = len(keys) // 2
        self._save_alone({key: batch[key] for key in keys[:middle]})
        self._save_alone({key: batch[key] for key in keys[middle:]})

    def _look_up(self, hashes: Mapping[str, bytes]) -> LookUp:
        """The records that are not stored with these hashes, and the texts of those whose content has no hash yet."""
        with self._database.ask() as connection:
            raw = self._database.rows.raw(connection, self._dataset.id)
            known = raw.differing(hashes)
            stored = [key for key, old in known.items() if old and not old.is_deleted]
            needed = stored if self._has_problems else [key for key in stored if not _hash_of(known[key])]
            return known, raw.texts(needed) if needed else {}

    def _difference(self, batch: Mapping[str, bytes], hashes: Mapping[str, bytes], stored: LookUp) -> Difference:
        change = compare(batch, hashes, stored, self._sync.ignore_fields)
        if self._table is not None:
            change.prepared = _prepared(self._table, change.rows)
            change.prepared_again = _prepared(self._table, change.restored)
            self._has_problems |= bool(change.prepared and change.prepared.misfits)
            if self._has_problems:
                texts = {key: stored[1][key] for key in change.replaced if key in stored[1]}
                change.problems_before = self._table.problems_of(texts)
        return change

    def _store(self, change: Difference) -> bool:
        change.key_types = self._key_forms.types
        stored, self._version = self._database.transact(lambda connection: self._apply(connection, change))
        if stored and change.rows:
            self._key_forms.noted_types = change.key_types
        return stored

    def _apply(self, connection: Connection, change: Difference) -> tuple[bool, datetime | None]:
        """Write a difference, unless the dataset changed since it was looked up; and the dataset's version after it."""
        database, dataset, version = self._database, self._dataset, self._version
        change.reached_also = False  # the transaction may be repeated
        self._guard(connection)
        last, moment = datasets.last_and_next_moment(connection, database, dataset.id)
        if last != version:
            return False, version
        raw = database.rows.raw(connection, dataset.id)
        if change.refreshed:
            hashes = [(row.external_id, row.byte_hash, row.content_hash or b"") for row in change.refreshed]
            raw.refresh_hashes(hashes)
        if change.restored:
            self._restore(connection, change)
        if change.rows:
            raw.put(dataset.sync_id, change.rows, change.replaced, moment)
            if self._table is not None and change.prepared is not None:
                self._table.write(connection, dataset, change.prepared, change.replaced, moment)
                problems.change(connection, dataset.id, change.prepared.problems, change.problems_before)
            updated = len(change.rows) - change.added
            datasets.changed(connection, dataset.id, moment, added=change.added, updated=updated)
            if self._vanished.has_other_key:
                datasets.identify(connection, dataset.id, self._sync.key_name, mixed=self._vanished.takes_over)
            if change.key_types != self._key_forms.noted_types:
                datasets.note_key_types(connection, dataset.id, change.key_types)
            version = moment
        if change.also is not None:
            change.reached_also = True
            change.also(connection)
        return True, version

    def _restore(self, connection: Connection, change: Difference) -> None:
        self._database.rows.raw(connection, self._dataset.id).restore(change.restored)
        datasets.restored(connection, self._dataset.id)
        if self._table is not None and change.prepared_again is not None:
            keys = [row.external_id for row in change.restored]
            self._table.write_again(connection, self._dataset, change.prepared_again, keys)
            restored = change.prepared_again.problems
            problems.change(connection, self._dataset.id, Problems(), Problems(), restored)

    def _count(self, change: Difference) -> None:
        self.tally.added += change.added
        self.tally.updated += len(change.rows) - change.added
        self.tally.unchanged += len(change.batch) - len(change.rows) - len(change.unreadable)
        for key in change.unreadable:
            self.tally.reject(f'"{key}"', "it is not valid UTF-8", key=key, text=change.batch[key])
        self.tally.show([row.data for row in change.rows[:SAMPLE]])
        for prepared in (change.prepared, change.prepared_again):
            if self._table is not None and prepared is not None:
                self._table.count_misfits(prepared)

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
        keys, self._version = self._vanished.close_window(self.tally, accept_deletes=accept_deletes)
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
        self._reader.shutdown()
        self._committer.shutdown()
        self._vanished.close()
        self._key_forms.close()


def _hash_of(record: KnownRecord | None) -> bytes | None:
    return record.content_hash if record else None


def _prepared(table: MappedTable, rows: Sequence[RawRow]) -> Prepared | None:
    return table.prepare([row.external_id for row in rows], [row.data for row in rows]) if rows else None
