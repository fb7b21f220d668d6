"""Batches of records on their way into a dataset: looked up, compared with the stored records, mapped, committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .. import records
from ..config import Sync
from ..errors import Refused
from . import datasets, problems
from .database import Database
from .datasets import Dataset
from .differences import Also, Difference, LookUp, compare
from .key_forms import KeyForms
from .problems import Problems
from .rows import KnownRecord, RawRow
from .tables import MappedTable, Prepared
from .tally import SAMPLE, Guard, Tally, refusal

_TRIES = 5


class Batches:
    """Commits batches of records, each in a transaction of its own, in the order in which they come.

    Three are in progress at a time: one is looked up, the one before it is compared and mapped, and the one before
    that is committed. A batch that `commit` finds alone is committed in the caller's thread. A record that the
    database refuses is rejected, and the others of its batch are stored.
    """

    def __init__(
        self,
        database: Database,
        sync: Sync,
        dataset: Dataset,
        table: MappedTable | None,
        guard: Guard,
        key_forms: KeyForms,
    ) -> None:
        self.tally = Tally()
        self.version = dataset.last_modified_at
        """The dataset's last change; a batch that was compared with another version is looked up again."""
        self._database = database
        self._sync = sync
        self._dataset = dataset
        self._table = table
        self._guard = guard
        self._key_forms = key_forms
        # Whether stored rows may have problems, so that the rows that are replaced are counted.
        self._has_problems = table is not None and (dataset.has_problems or bool(table.misfits))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="nango-look-up")
        self._looking_up: tuple[dict[str, bytes], dict[str, bytes], Future[LookUp]] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="nango-commit")
        self._committing: tuple[Difference, Future[bool]] | None = None
        self._also: Also | None = None
        if table is not None:
            table.before_change = self.wait

    def add(self, batch: dict[str, bytes], *, all_new: bool, is_last: bool = False) -> None:
        """Look a batch up, unless all of it is new, and compare the one before it in that time.

        `is_last` is whether `commit` follows at once.
        """
        hashes = {key: records.byte_hash(text) for key, text in batch.items()}
        stored: Future[LookUp] = Future()
        if all_new:
            stored.set_result((dict.fromkeys(hashes), {}))
        elif is_last and self._looking_up is None:
            stored.set_result(self._look_up(hashes))  # there is nothing to do meanwhile
        else:
            stored = self._reader.submit(self._look_up, hashes)
        self._compare_last()
        self._looking_up = batch, hashes, stored

    def commit(self, also: Also | None = None) -> None:
        """Commit all batches; `also` writes in the transaction of the last one, or in one of its own."""
        self._also = also
        self._compare_last(is_last=True)
        self.wait()
        if self._also is not None:
            self._database.transact(self._write_also)
            self._also = None

    def _write_also(self, connection: Connection) -> None:
        self._guard(connection)
        assert self._also is not None
        self._also(connection)

    def _compare_last(self, *, is_last: bool = False) -> None:
        """Compare and map the batch that was looked up last, and commit it after the batch before it."""
        if self._looking_up is None:
            return
        last, self._looking_up = self._looking_up, None
        batch, hashes, future = last
        known, texts = future.result()
        self._key_forms.check(batch, known)
        for key in self._key_forms.of_another_type(batch, known):
            reason = f'the stored record has the same unique_key with another JSON type, such as {key} and "{key}"'
            self.tally.reject(f'"{key}"', reason, key=key, text=batch.pop(key))
            del known[key]
        change = self._difference(batch, hashes, (known, texts))
        change.also = self._also if is_last else None
        self.wait()
        if not change.keys:
            self._count(change)
        elif not is_last:
            self._committing = change, self._committer.submit(self._store, change)
        else:
            committed: Future[bool] = Future()
            try:
                committed.set_result(self._store(change))
            except Exception as error:
                committed.set_exception(error)
            except BaseException:  # an interrupt; whether it is committed shows when it is compared again
                self._looking_up = last
                raise
            self._committing = change, committed

    def wait(self) -> None:
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
                self.version = datasets.read(connection, self._dataset.id).last_modified_at
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
        stored, self.version = self._database.transact(lambda connection: self._apply(connection, change))
        if stored and change.rows:
            self._key_forms.noted_types = change.key_types
        return stored

    def _apply(self, connection: Connection, change: Difference) -> tuple[bool, datetime | None]:
        """Write a difference, unless the dataset changed since it was looked up; and the dataset's version after it."""
        database, dataset, version = self._database, self._dataset, self.version
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
            self._key_forms.note(connection, change.key_types)
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

    def close(self) -> None:
        """End the threads."""
        self._reader.shutdown()
        self._committer.shutdown()


def _hash_of(record: KnownRecord | None) -> bytes | None:
    return record.content_hash if record else None


def _prepared(table: MappedTable, rows: Sequence[RawRow]) -> Prepared | None:
    return table.prepare([row.external_id for row in rows], [row.data for row in rows]) if rows else None
