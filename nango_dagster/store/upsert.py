"""Full refresh + upsert: each batch of pages is one transaction, and what did not change is not written.

Two looks tell what changed. The hash of a record's own bytes is the same: unchanged, nothing is decoded. It differs:
the record is decoded and hashed again with sorted keys and without `ignore_fields`; the same: still unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from .. import records
from ..config import Sync
from ..errors import RecordRejected, Refused
from . import bulk, datasets
from .bulk import Known, RawRow
from .database import Database
from .datasets import Dataset
from .seen import Seen
from .tables import MappedTable, Prepared
from .tally import Guard, Tally

BATCH_RECORDS = 1000
BATCH_BYTES = 4_000_000
_TRIES = 5


@dataclass
class _Difference:
    """What a batch changes."""

    rows: list[RawRow] = field(default_factory=list)
    decoded: list[Any] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # of the rows: those that are there already
    refreshed: list[tuple[str, bytes]] = field(default_factory=list)
    added: int = 0

    @property
    def keys(self) -> list[str]:
        """Every record that this writes."""
        return [row.external_id for row in self.rows] + [key for key, _ in self.refreshed]


class Upsert:
    """Writes one execution's records into a dataset, by their unique key."""

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, table: MappedTable | None, guard: Guard
    ) -> None:
        self.tally = Tally()
        self._database = database
        self._sync = sync
        self._dataset = dataset
        self._table = table
        self._guard = guard
        self._read_keys = records.key_reader(sync.unique_key or "")
        self._seen = Seen()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._taken = 0
        self._vanished: list[str] = []

    def add(self, texts: Sequence[bytes]) -> None:
        """Take a page's records; they are committed together with the next ones, or with `flush`."""
        self._waiting.extend(texts)
        self._waiting_bytes += sum(map(len, texts))
        if len(self._waiting) >= BATCH_RECORDS or self._waiting_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Commit what waits."""
        texts, self._waiting, self._waiting_bytes = self._waiting, [], 0
        batch: dict[str, bytes] = {}
        for position, (key, text) in enumerate(zip(self._read_keys(texts), texts, strict=True), self._taken):
            if isinstance(key, RecordRejected):
                self.tally.reject(str(position), str(key))
            else:
                if key in batch:
                    self.tally.repeated += 1
                batch[key] = text  # the last one wins
        self._taken += len(texts)
        self.tally.repeated += self._seen.add(list(batch))
        for start in range(0, len(batch), BATCH_RECORDS):
            self._save(dict(list(batch.items())[start : start + BATCH_RECORDS]))

    def _save(self, batch: Mapping[str, bytes]) -> None:
        """Commit a batch; where the database refuses it, halve it until only the refused record is left out."""
        if not batch:
            return
        try:
            self._commit(batch)
        except (DBAPIError, self._database.driver_error, UnicodeError, OverflowError) as error:
            if not self._database.refuses(error):
                raise
            if len(batch) == 1:
                self.tally.reject(f'"{next(iter(batch))}"', f"the database does not store it: {error}")
                return
            items = list(batch.items())
            self._save(dict(items[: len(items) // 2]))
            self._save(dict(items[len(items) // 2 :]))

    def _commit(self, batch: Mapping[str, bytes]) -> None:
        for _ in range(_TRIES):
            with self._database.connect() as connection:
                known = bulk.lookup(connection, self._database, self._dataset.id, list(batch))
            change = self._compare(batch, known)
            prepared = self._prepare(change)
            if not change.keys or self._database.transact(
                lambda connection, c=change, p=prepared, k=known: self._apply(connection, c, p, k)  # type: ignore[misc]
            ):
                self._count(batch, change, prepared)
                return
        raise Refused(f"{self._sync.display_name}: somebody else keeps changing the same records; nothing was written.")

    def _compare(self, batch: Mapping[str, bytes], known: Mapping[str, Known]) -> _Difference:
        change = _Difference()
        for key, text in batch.items():
            byte_hash = records.byte_hash(text)
            before = known.get(key)
            if before is not None and before.byte_hash == byte_hash and not before.deleted:
                continue
            decoded = records.decode(text)
            content_hash = records.content_hash(decoded, self._sync.ignore_fields)
            if before is not None and before.content_hash == content_hash and not before.deleted:
                change.refreshed.append((key, byte_hash))
                continue
            change.rows.append(RawRow(key, byte_hash, content_hash, text))
            change.decoded.append(decoded)
            if before is not None:
                change.replaced.append(key)
            if before is None or before.deleted:
                change.added += 1
        return change

    def _prepare(self, change: _Difference) -> Prepared | None:
        if self._table is None or not change.rows:
            return None
        return self._table.prepare([row.external_id for row in change.rows], change.decoded)

    def _apply(
        self,
        connection: Connection,
        change: _Difference,
        prepared: Prepared | None,
        known: Mapping[str, Known],
    ) -> bool:
        """Write the difference; False when the records are no longer as they were looked up."""
        database, dataset = self._database, self._dataset
        self._guard(connection)
        now_known = bulk.lookup(connection, database, dataset.id, change.keys)
        if now_known != {key: known[key] for key in change.keys if key in known}:
            return False
        if change.refreshed:
            bulk.refresh_hashes(connection, database, dataset.id, change.refreshed)
        if change.rows:
            moment = datasets.next_moment(connection, database, dataset.id)
            bulk.put_raw(connection, database, dataset.id, dataset.sync_id, change.rows, change.replaced, moment)
            if self._table is not None and prepared is not None:
                self._table.write(connection, dataset, prepared, change.replaced, moment)
            datasets.changed(connection, dataset.id, moment, live_by=change.added)
        return True

    def _count(self, batch: Mapping[str, bytes], change: _Difference, prepared: Prepared | None) -> None:
        self.tally.added += change.added
        self.tally.updated += len(change.rows) - change.added
        self.tally.unchanged += len(batch) - len(change.rows)
        self.tally.show(change.decoded)
        if self._table is not None and prepared is not None:
            self._table.misfits += prepared.misfits

    # --- the end of the execution -----------------------------------------------------------------------------------

    def settle(self, *, complete: bool) -> None:
        """Commit the rest and find what has vanished from the source.

        Raises Refused when more has vanished than `track_deletes` allows.
        """
        self.flush()
        tracking = self._sync.track_deletes
        if not complete or tracking is None:
            return
        if self.tally.unreadable:
            self.tally.reasons.append(
                "nothing was deleted: a record that cannot be read may be one that seems to be gone."
            )
            return
        with self._database.connect() as connection:
            live = datasets.read(connection, self._dataset.id).live_count
            if live == len(self._seen):
                return
            for keys in bulk.live_keys(connection, self._database, self._dataset.id):
                self._vanished += self._seen.missing(keys)
        if live >= tracking.min_rows and len(self._vanished) > live * tracking.max_fraction:
            raise Refused(
                f"{self._sync.display_name}: {len(self._vanished):,} of {live:,} records are gone from the source, more "
                f"than track_deletes.max_fraction ({tracking.max_fraction:g}) allows; nothing was deleted. "
                "If they really are gone, run the sync once with --accept-deletes."
            )

    def finish(self, connection: Connection) -> None:
        """Mark what has vanished as deleted, in the transaction that ends the execution."""
        self.tally.deleted = len(self._vanished)
        if not self._vanished:
            return
        moment = datasets.next_moment(connection, self._database, self._dataset.id)
        bulk.delete_softly(connection, self._database, self._dataset.id, self._vanished, moment, keep_data=True)
        if self._table is not None:
            self._table.mark_deleted(connection, self._dataset, self._vanished, moment)
        datasets.changed(connection, self._dataset.id, moment, live_by=-len(self._vanished))

    def close(self) -> None:
        """Let go of the temporary file."""
        self._seen.close()
