"""Full refresh + overwrite, for syncs without a `unique_key`: all or nothing, at the end of a complete execution.

A temporary file of this process holds the pages. At the end its records are matched with the stored ones, first by the
hash of their bytes, then by the hash of their content; unmatched new records are added, unmatched stored ones deleted.
So an unchanged refresh writes nothing, and a failed one leaves every row as it was. The byte hash of a record with the
same content is updated, except with `ignore_fields`: without these, its new bytes would be another record.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, delete
from sqlalchemy.exc import DBAPIError

from .. import records
from ..config import Sync
from ..errors import Refused
from ..sentences import number_of
from . import datasets, deletions, problems, schema
from .database import Database
from .datasets import Dataset
from .deletions import Deletion
from .key_sets import temporary_file
from .problems import Problems
from .rows import RawRow
from .tables import MappedTable, Prepared
from .tally import Guard, Tally, refusal
from .validation import Places, Validation

BATCH_RECORDS = 1000
BATCH_BYTES = 4_000_000
TOMBSTONES_STAY = timedelta(days=30)

_SPILL = """
CREATE TABLE new (seq INTEGER PRIMARY KEY, byte_hash BLOB, content_hash BLOB, old TEXT, id TEXT, data BLOB, row BLOB,
    restored INTEGER DEFAULT 0);
CREATE TABLE old (id TEXT PRIMARY KEY, byte_hash BLOB, content_hash BLOB, counter INTEGER, restorable INTEGER,
    taken INTEGER DEFAULT 0);
"""
# The n-th of equal new records matches the n-th of equal stored ones.
_MATCH = """
UPDATE new SET old = (SELECT o.id FROM pair o WHERE o.seq = new.seq) WHERE seq IN (SELECT seq FROM pair)
"""
_PAIRS = """
CREATE TEMP TABLE pair AS
SELECT n.seq, o.id FROM
  (SELECT seq, {hash} AS h, row_number() OVER (PARTITION BY {hash} ORDER BY seq) AS k FROM new WHERE old IS NULL) n
  JOIN (SELECT id, {hash} AS h, row_number() OVER (PARTITION BY {hash} ORDER BY counter) AS k
        FROM old WHERE NOT taken) o ON o.h = n.h AND o.k = n.k
"""
# The id of a new record is the hash of its content and a counter; matched records keep their ids.
_NAME = """
UPDATE new SET id = (SELECT named.id FROM named WHERE named.seq = new.seq) WHERE old IS NULL
"""
_NAMES = """
CREATE TEMP TABLE named AS
SELECT n.seq, lower(hex(n.content_hash)) || '-' || (
    coalesce((SELECT max(o.counter) + 1 FROM old o WHERE o.content_hash = n.content_hash AND o.taken), 0)
    + row_number() OVER (PARTITION BY n.content_hash ORDER BY n.seq) - 1) AS id
FROM new n WHERE n.old IS NULL
"""


class Overwrite:
    """Replace the records of a dataset by those of one execution."""

    def __init__(
        self, database: Database, sync: Sync, dataset: Dataset, table: MappedTable | None, guard: Guard
    ) -> None:
        self.tally = Tally()
        self._database = database
        self._sync = sync
        self._dataset = dataset
        self._table = table
        self._guard = guard
        self._validation = Validation.of(sync)
        self._spill = temporary_file(_SPILL)
        self._count, self._sum = 0, 0
        self._complete = False
        self._is_same = False
        self._added_problems, self._restored_problems = Problems(), Problems()

    def add(self, texts: Sequence[bytes], where: str | None = None) -> None:
        """Store the records of a page in the temporary file."""
        if self._validation is not None:
            places = Places()
            if where is not None:
                places.add(0, where)
            self._validation.rejected(texts, self.tally, places)  # none is: `validate: reject` takes a unique_key
        hashes = [records.byte_hash(text) for text in texts]
        self._count += len(hashes)
        self._sum += sum(map(_as_number, hashes))
        self._many("INSERT INTO new (byte_hash, data) VALUES (?, ?)", zip(hashes, texts, strict=True))

    def settle(self, *, complete: bool) -> None:
        """Match the records and prepare the rows of new ones; an incomplete execution changes nothing."""
        self._complete = complete
        if not complete:
            return
        self._is_same = self._is_stored_already()
        if self._is_same:
            return
        self._load_old()
        self._match("byte_hash")
        self._hash_contents()
        self._match("content_hash")
        self._spill.execute("UPDATE new SET restored = 1 WHERE old IN (SELECT id FROM old WHERE restorable)")
        self._check_deletions()
        for statement in ("CREATE INDEX old_content ON old (content_hash)", _NAMES):
            self._spill.execute(statement)
        self._spill.execute("CREATE INDEX named_seq ON named (seq)")
        self._spill.execute(_NAME)
        self._prepare_rows()

    def _check_deletions(self) -> None:
        """Raise Refused when rows would be deleted although records were rejected, or too many rows."""
        total, _, _ = self._sizes()
        self._refuse_rejected()
        with self._database.connect() as connection:
            deletion = Deletion(self._count_old(), self.deletions, total)
            deletions.check(connection, self._sync, self._dataset, deletion, self._database.now(connection))

    def _refuse_rejected(self) -> None:
        """Raise Refused: a rejected record may be the new form of one that seems to have vanished."""
        vanished = self.deletions
        if self.tally.rejected and vanished:
            raise Refused(
                f"{self._sync.display_name}: {number_of(self.tally.rejected, 'record')} could not be stored and the "
                f"list lacks {number_of(vanished, 'record')}, so nothing was deleted and the rows were kept: "
                f"{self.tally.reasons[0]}."
            )

    def _count_old(self) -> int:
        return int(self._spill.execute("SELECT count(*) FROM old").fetchone()[0])

    @property
    def deletions(self) -> int:
        """The number of stored records that the list lacks."""
        return int(self._spill.execute("SELECT count(*) FROM old WHERE NOT taken").fetchone()[0])

    def _is_stored_already(self) -> bool:
        """Whether the stored records have the same texts, each as often, in any order.

        Comparing the sums of the hashes avoids matching; most refreshes change nothing.
        """
        with self._database.connect() as connection:
            if datasets.read(connection, self._dataset.id).live_count != self._count:
                return False
            # Without the rows whose payload has to be restored, so that the sums differ.
            raw = self._database.rows.raw(connection, self._dataset.id)
            rows = raw.live_rows("byte_hash", "NOT payload_wanted")
            return sum(_as_number(row[0]) for row in rows) == self._sum

    def _load_old(self) -> None:
        with self._database.connect() as connection:
            raw = self._database.rows.raw(connection, self._dataset.id)
            rows = raw.live_rows("external_id, byte_hash, content_hash, payload_wanted")
            self._many(
                "INSERT INTO old (id, byte_hash, content_hash, counter, restorable) VALUES (?, ?, ?, ?, ?)",
                (
                    (key, byte_hash, content_hash, _counter(key), payload_wanted)
                    for key, byte_hash, content_hash, payload_wanted in rows
                ),
            )

    def _match(self, by: str) -> None:
        self._spill.execute("DROP TABLE IF EXISTS pair")
        self._spill.execute(_PAIRS.format(hash=by))
        self._spill.execute("CREATE UNIQUE INDEX pair_seq ON pair (seq)")
        self._spill.execute(_MATCH)
        self._spill.execute("UPDATE old SET taken = 1 WHERE id IN (SELECT id FROM pair)")

    def _hash_contents(self) -> None:
        """Hash the content of records without a match by bytes, and reject those that are not UTF-8."""
        for rows in self._pages("SELECT seq, data FROM new WHERE seq > ? AND old IS NULL ORDER BY seq"):
            hashed = []
            for seq, text in rows:
                if records.is_utf8(text):
                    hashed.append((records.content_hash_of(text, self._sync.ignore_fields), seq))
                else:
                    self._reject(seq, "it is not valid UTF-8", text)
            self._many("UPDATE new SET content_hash = ? WHERE seq = ?", hashed)

    def _reject(self, seq: int, reason: str, text: bytes) -> None:
        self.tally.reject(str(seq - 1), reason, text=text)
        self._spill.execute("DELETE FROM new WHERE seq = ?", (seq,))

    def _prepare_rows(self) -> None:
        """Flatten new and restored records, so that the table has its columns before the last transaction begins."""
        query = "SELECT seq, coalesce(old, id), data FROM new WHERE seq > ? AND {} ORDER BY seq"
        for rows in self._pages(query.format("old IS NULL")):
            self.tally.show([text for _, _, text in rows])
            self._added_problems += self._prepare(rows)
        for rows in self._pages(query.format("restored")):
            self._restored_problems += self._prepare(rows)

    def _prepare(self, rows: Sequence[Any]) -> Problems:
        """Store the mapped rows of records in the temporary file; their problems."""
        if self._table is None:
            return Problems()
        seqs = {key: seq for seq, key, _ in rows}
        prepared = self._table.prepare_generally(list(seqs), [text for _, _, text in rows])
        self._table.count_misfits(prepared)
        self._many(
            "UPDATE new SET row = ? WHERE seq = ?",
            ((msgspec.msgpack.encode(row), seqs[key]) for key, row in prepared.rows),
        )
        return prepared.problems

    def finish(self, connection: Connection) -> None:
        """Write the changes, in the transaction that ends the execution."""
        if not self._complete:
            return
        if self._is_same:
            self.tally.unchanged = self._count
        else:
            self._write_difference(connection)
        if self._dataset.unique_key is not None or self._dataset.has_mixed_keys:
            datasets.identify(connection, self._dataset.id, None)
        self._purge_tombstones(connection)

    def _write_difference(self, connection: Connection) -> None:
        vanished = self.deletions
        total, added, refreshed = self._sizes()
        if refreshed and not self._sync.ignore_fields:
            self._refresh(connection)
        self._restore(connection)
        if added or vanished:
            moment = datasets.next_moment(connection, self._database, self._dataset.id)
            self._delete_vanished(connection, moment)
            self._add_new(connection, moment)
            self._refuse_rejected()
            total, added, _ = self._sizes()  # without the rows that the database refused
            if total < self._count_old():
                now = self._database.now(connection)
                deletions.note(connection, self._sync, self._dataset.id, self._count_old(), now)
            datasets.changed(connection, self._dataset.id, moment, added=added, deleted=vanished)
        problems.change(connection, self._dataset.id, self._added_problems, Problems(), self._restored_problems)
        self.tally.added, self.tally.deleted, self.tally.unchanged = added, vanished, total - added

    def _sizes(self) -> tuple[int, int, int]:
        """The numbers of all records, of new ones, and of those with the same content and other bytes."""
        row = self._spill.execute(
            "SELECT count(*), coalesce(sum(old IS NULL), 0), "
            "coalesce(sum(old IS NOT NULL AND content_hash IS NOT NULL), 0) FROM new"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def _refresh(self, connection: Connection) -> None:
        query = "SELECT seq, old, byte_hash, content_hash FROM new WHERE seq > ? AND old IS NOT NULL"
        for rows in self._pages(f"{query} AND content_hash IS NOT NULL ORDER BY seq"):
            self._database.rows.raw(connection, self._dataset.id).refresh_hashes([row[1:] for row in rows])

    def _restore(self, connection: Connection) -> None:
        """Write the payloads of pruned records again, and their mapped rows."""
        query = "SELECT seq, old, byte_hash, content_hash, data, row FROM new WHERE seq > ? AND restored ORDER BY seq"
        for rows in self._pages(query):
            raw = [RawRow(key, byte_hash, content_hash, data) for _, key, byte_hash, content_hash, data, _ in rows]
            self._database.rows.raw(connection, self._dataset.id).restore(raw)
            datasets.restored(connection, self._dataset.id)
            if self._table is not None:
                keys = [row.external_id for row in raw]
                self._table.write_again(connection, self._dataset, self._mapped(self._table, rows), keys)

    def _delete_vanished(self, connection: Connection, moment: datetime) -> None:
        """Delete the mapped rows of vanished records, and mark the raw rows as deleted without their payload."""
        for rows in self._pages("SELECT rowid, id FROM old WHERE rowid > ? AND NOT taken ORDER BY rowid"):
            keys = [key for _, key in rows]
            if self._table is not None:
                self._table.remove(connection, self._dataset, keys)
            self._database.rows.raw(connection, self._dataset.id).mark_deleted(keys, moment, keep_data=False)

    def _add_new(self, connection: Connection, moment: datetime) -> None:
        query = "SELECT seq, id, byte_hash, content_hash, data, row FROM new WHERE seq > ? AND old IS NULL ORDER BY seq"
        for rows in self._pages(query):
            self._add_rows(connection, rows, moment)

    def _add_rows(self, connection: Connection, rows: Sequence[Any], moment: datetime) -> None:
        """Insert records; a batch that the database refuses is halved until only the refused record is left out."""
        try:
            with connection.begin_nested():
                self._insert(connection, rows, moment)
        except (DBAPIError, self._database.driver_error, UnicodeError, OverflowError) as error:
            if not self._database.refuses(error):
                raise
            if len(rows) == 1:
                self._reject(rows[0][0], refusal(error), rows[0][4])
                return
            middle = len(rows) // 2
            self._add_rows(connection, rows[:middle], moment)
            self._add_rows(connection, rows[middle:], moment)

    def _insert(self, connection: Connection, rows: Sequence[Any], moment: datetime) -> None:
        database, dataset = self._database, self._dataset
        new = [RawRow(key, byte_hash, content_hash, data) for _, key, byte_hash, content_hash, data, _ in rows]
        raw = database.rows.raw(connection, dataset.id)
        # Only a record marked as deleted can have the key of a new one.
        deleted = list(raw.look_up([row.external_id for row in new]))
        raw.put(dataset.sync_id, new, deleted, moment)
        if self._table is not None:
            self._table.write(connection, dataset, self._mapped(self._table, rows), deleted, moment)

    @staticmethod
    def _mapped(table: MappedTable, rows: Sequence[Any]) -> Prepared:
        mapped = [(row[1], msgspec.msgpack.decode(row[5])) for row in rows if row[5] is not None]
        return Prepared(mapped, tuple(table.layout.columns))

    def _purge_tombstones(self, connection: Connection) -> None:
        of = schema.raw
        before = self._database.now(connection) - TOMBSTONES_STAY
        connection.execute(
            delete(of).where(of.c.dataset_id == self._dataset.id, of.c.deleted_at < before, of.c.data.is_(None))
        )

    def _many(self, statement: str, values: Any) -> None:
        self._spill.execute("BEGIN")
        self._spill.executemany(statement, values)
        self._spill.execute("COMMIT")

    def _pages(self, query: str) -> Iterator[list[Any]]:
        """The rows of a query in batches; its parameter is the first column of the last row before them."""
        after = 0
        while rows := self._batch(self._spill.execute(f"{query} LIMIT {BATCH_RECORDS}", (after,))):
            yield rows
            after = rows[-1][0]

    @staticmethod
    def _batch(cursor: sqlite3.Cursor) -> list[Any]:
        """The next rows of a cursor, up to about BATCH_BYTES."""
        rows: list[Any] = []
        size = 0
        while size < BATCH_BYTES and (row := cursor.fetchone()):
            rows.append(row)
            size += sum(len(value) for value in row if isinstance(value, (bytes, str)))
        cursor.close()
        return rows

    def read(self, keys: Sequence[str]) -> list[str]:
        """Return no keys: the records of an overwrite have none."""
        return []

    def close(self) -> None:
        """Delete the temporary file."""
        self._spill.close()


def _as_number(hash_: bytes) -> int:
    return int.from_bytes(hash_, "big")


def _counter(key: str) -> int:
    """The counter in a record's id; 0 for ids from a time when the sync had a unique_key."""
    number = key.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < 10 else 0
