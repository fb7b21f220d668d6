"""The changes of a batch of records to a dataset, found with two hashes.

A record whose bytes have the stored hash is unchanged, and nothing is decoded. Otherwise both texts are decoded and
hashed again with sorted keys and without `ignore_fields`; if these hashes are equal, the record is unchanged, too. The
second hash is stored from then on; most records never need one. The hash of the new bytes is stored with it, except
where the stored text may lack the value of an ignored field: without `ignore_fields` such a record has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from .. import records
from .problems import Problems
from .rows import KnownRecord, Prepared, RawRow

LookUp = tuple[dict[str, "KnownRecord | None"], dict[str, bytes]]
"""Records that are not stored with the same bytes, None for new ones, and texts whose content has no hash yet."""

Also = Callable[[Connection], None]
"""A write in the transaction of a batch, such as a checkpoint."""


@dataclass
class Difference:
    """The changes of a batch."""

    batch: Mapping[str, bytes]
    hashes: Mapping[str, bytes]
    known: Mapping[str, KnownRecord | None]  # of the records that are not stored with the same bytes
    unreadable: list[str] = field(default_factory=list)
    rows: list[RawRow] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # keys of the rows that are stored already
    refreshed: list[RawRow] = field(default_factory=list)
    restored: list[RawRow] = field(default_factory=list)  # unchanged, but their payloads were pruned
    added: int = 0
    prepared: Prepared | None = None
    prepared_again: Prepared | None = None  # those that are restored
    problems_before: Problems = field(default_factory=Problems)
    """The problems of the mapped rows that are replaced."""
    key_types: str = ""
    """The types of all keys until this batch, as the dataset has them."""
    also: Also | None = None
    reached_also: bool = False
    """Whether its own rows were written, so that an error is one of `also`."""

    @property
    def keys(self) -> list[str]:
        """The keys of all records that are written."""
        return [row.external_id for row in (*self.rows, *self.refreshed, *self.restored)]


def compare(
    batch: Mapping[str, bytes], hashes: Mapping[str, bytes], stored: LookUp, ignore_fields: Sequence[str]
) -> Difference:
    """Tell added, updated, unchanged and unreadable records of a batch apart."""
    known, texts = stored
    change = Difference(batch, hashes, known)
    for key, before in known.items():
        text = batch[key]
        if not records.is_utf8(text):
            change.unreadable.append(key)
            continue
        content_hash = None if before is None else records.content_hash_of(text, ignore_fields)
        row = RawRow(key, hashes[key], content_hash, text)
        if before is not None and _is_unchanged(before, row, texts.get(key), ignore_fields):
            _keep(change, before, row, ignore_fields)
            continue
        change.rows.append(row)
        if before is not None:
            change.replaced.append(key)
        if before is None or before.is_deleted:
            change.added += 1
    return change


def _is_unchanged(before: KnownRecord, row: RawRow, stored_text: bytes | None, ignore_fields: Sequence[str]) -> bool:
    """Whether a record has the content of the stored one, whose text is given where its content has no hash."""
    if before.is_deleted:
        return False
    if before.byte_hash == row.byte_hash:
        return True  # but its payload was pruned
    stored_hash = before.content_hash
    if stored_hash is None and stored_text is not None:
        stored_hash = records.content_hash_of(stored_text, ignore_fields)
    return row.content_hash == stored_hash


def _keep(change: Difference, before: KnownRecord, row: RawRow, ignore_fields: Sequence[str]) -> None:
    """Note what an unchanged record needs: its payload, or its new hashes."""
    if before.payload_wanted:
        change.restored.append(row)
    elif not ignore_fields:
        change.refreshed.append(row)
    elif before.content_hash is None:
        change.refreshed.append(row._replace(byte_hash=before.byte_hash))
