"""The parents of an execution with `for_each`: from the store, where their lists and deletions are noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from .. import clock
from ..config import Sync, TrackDeletes
from ..errors import ConfigError, RecordRejected, Refused
from ..paths import MISSING, dig
from ..records import decode, encode, key_reader, with_fields
from ..sentences import number_of
from ..sources import Parent, Settled, Sink
from ..store import Connection, checkpoints, datasets, deletions, parents, queue, syncs
from ..store.datasets import Dataset
from ..store.key_sets import KeySet
from ..store.parents import DueParent, Family
from ..store.sync_row import SyncRow
from ..store.target import Target
from .opening import Opened, Plan, needs_all

COMMIT_RECORDS: Final = 1000
COMMIT_BYTES: Final = 1_500_000
COMMIT_LISTS: Final = 200
COMMIT_SECONDS: Final = 5.0
"""The records of many short lists are committed together, at the latest after so many seconds."""

_LISTS = "lists"
_UNFINISHED = "unfinished"


@dataclass
class _List:
    """The list of one parent, as far as it was read in this execution."""

    version: datetime
    value: bytes
    """The JSON text that each child gets."""
    keys: KeySet = field(default_factory=KeySet)
    times: int = 0
    """How often it was read to its end."""
    is_readable: bool = True
    """Whether the key of each of its records is known."""


def open_parents(plan: Plan, opened: Opened, sink: Sink) -> StoredParents | None:
    """The parents of the sync; None for a sync without `for_each`."""
    return StoredParents(plan, opened, sink) if plan.sync.for_each is not None else None


class StoredParents:
    """See `sources.Parents`; used by one thread."""

    def __init__(self, plan: Plan, opened: Opened, sink: Sink) -> None:
        assert plan.sync.for_each is not None and opened.access is not None
        self._plan = plan
        self._for_each = plan.sync.for_each
        self._sink = sink
        self._dataset = opened.models[0].dataset
        self._source = parent_of(plan)
        self._family: Family | None = None
        if self._source.dataset is not None:
            self._family = Family(self._dataset.id, self._source.dataset.id)
        self._read_keys = key_reader(plan.sync.key_fields)
        self._times = deletions.executions_before_deletion(plan.sync)
        self._tracks = plan.sync.track_deletes is not None
        self._lists: dict[str, _List] = {}
        self._records: list[bytes] = []
        self._bytes = 0
        self._links: dict[str, set[str]] = {}
        self._read: dict[str, datetime] = {}  # versions of the parents whose lists are not noted yet
        self._vanished: dict[str, list[str]] = {}
        self._versions: dict[str, datetime] = {}  # of the parents in _vanished
        self._refused: list[str] = []
        self._left_out = 0
        self._committed_at = clock.monotonic()
        self._version = plan.sync.list_version(opened.access.constants())
        self._is_whole = self._begin(any(needs_all(dataset, plan.sync) for dataset in opened.datasets))

    def _begin(self, anew: bool) -> bool:
        """Have all lists read where that is needed; whether this execution begins to do so."""
        stored = {} if self._plan.resets else checkpoints.of_text(self._plan.claim.checkpoint) or {}
        is_same = stored.get(_LISTS) == self._version
        if not anew and is_same and (self._for_each.where_changed or stored.get(_UNFINISHED)):
            return False
        self._transact(lambda connection: parents.start_over(connection, self._dataset.id))
        self._sink.save_checkpoint({_LISTS: self._version, _UNFINISHED: True})
        return True

    def due(self) -> Iterator[Parent]:
        """See `Parents.due`."""
        if self._family is None:
            return
        for row in self._family.due(self._plan.database):
            record = _record(row, self._source.row.sync, self._for_each.path)
            value = MISSING if record is None else dig(record, self._for_each.path)
            if value is MISSING or value is None or isinstance(value, dict | list):
                self._left_out += 1
                continue
            self._lists[row.id] = _List(row.version, encode(value))
            yield Parent(row.id, f"{self._for_each.sync} {row.id}", record or {})
            self._lists.pop(row.id).keys.close()

    def add(self, parent: Parent, records: Sequence[bytes]) -> None:
        """See `Parents.add`."""
        children_list = self._lists[parent.id]
        children = [with_fields(record, {self._for_each.field: children_list.value}) for record in records]
        keys = []
        for key in self._read_keys(children):
            if isinstance(key, RecordRejected):
                children_list.is_readable = False
            else:
                keys.append(str(key))
        children_list.keys.add(keys)
        self._links.setdefault(parent.id, set()).update(keys)
        self._records += children
        self._bytes += sum(map(len, children))
        if len(self._records) >= COMMIT_RECORDS or self._bytes >= COMMIT_BYTES:
            self._commit()

    def finish(self, parent: Parent, *, complete: bool) -> bool:
        """See `Parents.finish`."""
        children_list = self._lists[parent.id]
        children_list.times += 1
        missing: list[str] = []
        if complete and children_list.is_readable and self._tracks:
            count, missing = self._missing(parent.id, children_list)
            if missing and children_list.times < self._times:
                return False
            if sentence := _refusal(self._plan.sync, parent.name, count, len(missing)):
                self._refused.append(sentence)
                return True
        if missing:
            self._vanished[parent.id] = missing
            self._versions[parent.id] = children_list.version
        else:
            self._read[parent.id] = children_list.version
        is_late = clock.monotonic() - self._committed_at >= COMMIT_SECONDS
        if len(self._read) >= COMMIT_LISTS or is_late:
            self._commit()
        return True

    def _missing(self, parent_id: str, children_list: _List) -> tuple[int, list[str]]:
        """How many records the list contained before, and those that it does not contain any more."""
        count, missing = 0, []
        with self._plan.database.ask() as connection:
            for keys in parents.keys_of(connection, self._dataset.id, parent_id):
                count += len(keys)
                missing += children_list.keys.missing(keys)
        return count, missing

    def _commit(self) -> None:
        """Store the links, then the records, then that the lists were read: in this order nothing is ever lost."""
        dataset_id, links, read = self._dataset.id, self._links, self._read
        if links:
            self._transact(lambda connection: parents.link(connection, dataset_id, links))
        if self._records:
            self._sink.save(self._records)
            self._sink.commit()
        if read:
            self._transact(lambda connection: parents.note_read(connection, dataset_id, read))
        self._links, self._records, self._bytes, self._read = {}, [], 0, {}
        self._committed_at = clock.monotonic()

    def settle(self, *, whole: bool) -> Settled:
        """See `Parents.settle`."""
        self._commit()
        self._check_deletions()
        for parent_id, keys in self._vanished.items():
            read = {parent_id: self._versions[parent_id]}
            self._drop({parent_id: keys}, partial(parents.note_read, dataset_id=self._dataset.id, versions=read))
        if self._family is not None and not self._source.is_emptied:
            self._drop_gone(self._family)
        if self._refused:
            raise Refused(
                f"{self._plan.sync.display_name}: {self._refused[0]} ({number_of(len(self._refused), 'such list')}.) "
                "If the records really are gone, run the sync once with --accept-deletes."
            )
        self._sink.save_checkpoint({_LISTS: self._version})
        return Settled(whole and self._is_whole and self._family is not None, tuple(self._warnings()))

    def _check_deletions(self) -> None:
        """Raise Refused where more records are gone than `track_deletes` allows for the sync as a whole."""
        count = sum(map(len, self._vanished.values()))
        if not count:
            return
        before = self._dataset.live_count
        deletion = deletions.Deletion(before, count, max(0, before - count))

        def work(connection: Connection) -> None:
            now = self._plan.database.now(connection)
            deletions.check(connection, self._plan.sync, self._dataset, deletion, now)
            deletions.note(connection, self._plan.sync, self._dataset.id, before, now)

        self._transact(work)

    def _drop_gone(self, family: Family) -> None:
        """Delete the children of deleted parents."""
        while True:
            with self._plan.database.ask() as connection:
                gone = family.gone(connection)
                keys = {
                    parent_id: [key for page in parents.keys_of(connection, family.children, parent_id) for key in page]
                    for parent_id in gone
                }
            if not gone:
                return
            self._drop(keys, partial(parents.forget, dataset_id=family.children, parent_ids=gone))

    def _drop(self, keys_of: Mapping[str, Sequence[str]], then: Callable[[Connection], None]) -> None:
        """Delete the records that are only in these lists, then the links to them."""
        with self._plan.database.ask() as connection:
            alone = parents.alone(connection, self._dataset.id, keys_of)
        if alone:
            self._sink.delete(alone)

        def work(connection: Connection) -> None:
            parents.unlink(connection, self._dataset.id, keys_of)
            then(connection)

        self._transact(work)

    def _transact(self, work: Callable[[Connection], None]) -> None:
        """A transaction that proves first that the execution owns its claim. Raises LeaseLost or Cancelled."""

        def guarded(connection: Connection) -> None:
            self._plan.lease.check_or_stop(connection)
            work(connection)

        self._plan.database.transact(guarded)

    def _warnings(self) -> Iterator[str]:
        if sentence := self._source.sentence:
            yield sentence
        if self._left_out:
            yield (
                f"{number_of(self._left_out, 'record')} of {self._for_each.sync} have no value at "
                f"{self._for_each.path}, or their content was pruned; their lists were not read."
            )


# --- the sync of the parents ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParentSync:
    """The sync of the parents, and its records for the same connection and variant."""

    row: SyncRow
    dataset: Dataset | None
    sentence: str | None = None
    """Why there are no parents yet; None where its list was read."""

    @property
    def is_emptied(self) -> bool:
        """Whether all parents were deleted and not read again yet: then nothing is known of their children."""
        return self.dataset is None or self.dataset.is_emptied


def parent_of(plan: Plan) -> ParentSync:
    """The parents of an execution. Raises ConfigError where their sync is not stored."""
    assert plan.sync.for_each is not None
    name, claim, database = plan.sync.for_each.sync, plan.claim, plan.database
    row = syncs.by_name(database, name, plan.sync.integration_key)
    if row is None:
        raise ConfigError(
            f"{plan.sync.display_name}: for_each.sync is {name}, and the integration {plan.sync.integration_key} has "
            "no such sync; see nango-dagster list."
        )
    target = Target(row.id, claim.connection_id, claim.variant)
    with database.ask() as connection:
        stored = [dataset for dataset in datasets.of_one(connection, target) if dataset.model == row.sync.model]
    parent = ParentSync(row, stored[0] if stored else None)
    state, has_succeeded = queue.state_of(database, target) or (None, False)
    has_records = parent.dataset is not None and parent.dataset.last_modified_at is not None
    if has_records or has_succeeded:
        return parent
    reasons = {"PAUSED": "is paused", None: "does not run for them"}
    reason = reasons.get(state, "waits for its first execution")
    sentence = (
        f"the sync of the parents, {name}, has read nothing yet for connection {claim.connection_id}, variant "
        f"{claim.variant}: it {reason}. The lists of its records are read after it has succeeded."
    )
    return replace(parent, sentence=sentence)


def _record(row: DueParent, sync: Sync, path: str) -> Mapping[str, Any] | None:
    """The parent's fields; of a pruned one only its key, where that is the value at the path."""
    if row.text is not None:
        record = decode(row.text.encode())
        return record if isinstance(record, dict) else None
    if sync.key_fields != (path,) or "." in path:
        return None
    return {path: int(row.id) if row.id_is_number else row.id}


def _refusal(sync: Sync, name: str, count: int, missing: int) -> str | None:
    """Why the missing records of one list are not deleted; None where they may be."""
    tracking = sync.track_deletes or TrackDeletes()
    if tracking.max_fraction >= 1 or count < tracking.min_rows or missing <= count * tracking.max_fraction:
        return None
    limit = f"track_deletes.max_fraction ({tracking.max_fraction:g})"
    return f"{missing:,} of {count:,} records of {name} are gone, more than {limit} allows; none of them was deleted."
