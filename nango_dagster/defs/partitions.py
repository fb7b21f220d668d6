"""Dagster's partitions of a sync: a key for every connection and variant that the store runs it for, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetIn, AssetKey, DagsterInstance, DynamicPartitionsDefinition, IdentityPartitionMapping

from ..config import Sync
from ..partition_keys import key_of
from ..store import Database, queue
from ..store.sync_row import SyncRow
from . import names

_AT_ONCE = 10_000  # PostgreSQL takes no more keys in one statement


def definition(sync: Sync) -> DynamicPartitionsDefinition:
    """The partitions of a sync, which come and go with its connections."""
    return DynamicPartitionsDefinition(name=names.partitions_name(names.asset_key(sync)))


def refresh(instance: DagsterInstance, database: Database, rows: Iterable[SyncRow]) -> None:
    """Make Dagster's keys those that the store has now."""
    for row in rows:
        if row.sync.partitioned:
            wanted = [key_of(*pair) for pair in queue.partitions(database, row.id)]
            _make_equal(instance, names.partitions_name(names.asset_key(row.sync)), wanted)


def _make_equal(instance: DagsterInstance, name: str, wanted: list[str]) -> None:
    there = set(instance.get_dynamic_partitions(name))
    missing = [key for key in wanted if key not in there]
    for start in range(0, len(missing), _AT_ONCE):
        instance.add_dynamic_partitions(name, missing[start : start + _AT_ONCE])
    for key in there.difference(wanted):
        instance.delete_dynamic_partition(name, key)


class Keeper:
    """Refreshes the keys where what the store has changed since it looked last."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}

    def refresh(self, instance: DagsterInstance, database: Database, rows: Sequence[SyncRow]) -> None:
        """Two queries where nothing has changed, however many keys there are."""
        versions = queue.versions(database)
        wanted = {row.id: versions.get(row.id, (0, 0)) for row in rows if row.sync.partitioned}
        refresh(instance, database, [row for row in rows if self._seen.get(row.id) != wanted.get(row.id)])
        self._seen = wanted


def same_connection(**syncs: AssetKey | str) -> Mapping[str, Any]:
    """What `@asset` needs to run once for each connection, after several syncs of it.

    Each argument is an input of the asset and names the sync it reads; the partitions are those of the first.

    >>> from dagster import asset
    >>> @asset(**same_connection(contacts="crm/contacts", deals="crm/deals"))
    ... def pipeline(contacts, deals): ...
    >>> pipeline.partitions_def.name
    'nango/crm/contacts'
    """
    keys = {name: key if isinstance(key, AssetKey) else AssetKey.from_user_string(key) for name, key in syncs.items()}
    first = next(iter(keys.values()))
    return {
        "partitions_def": DynamicPartitionsDefinition(name=names.partitions_name(first)),
        "ins": {name: AssetIn(key, partition_mapping=IdentityPartitionMapping()) for name, key in keys.items()},
    }
