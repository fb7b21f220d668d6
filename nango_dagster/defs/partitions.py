"""The partitions of a sync in Dagster: one key for each connection and variant of its schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetIn, AssetKey, DagsterInstance, DynamicPartitionsDefinition, IdentityPartitionMapping

from ..config import Sync
from ..partition_keys import key_of
from ..store import Database, queue
from ..store.sync_row import SyncRow
from . import names

_BATCH = 10_000  # the most keys that PostgreSQL takes in one statement


def definition(sync: Sync) -> DynamicPartitionsDefinition:
    """The partitions of a sync; they follow its connections."""
    return DynamicPartitionsDefinition(name=names.partitions_name(names.asset_key(sync)))


def refresh(instance: DagsterInstance, database: Database, rows: Iterable[SyncRow]) -> None:
    """Add and delete partition keys, so that Dagster has those of the store."""
    for row in rows:
        if row.sync.partitioned:
            keys = [key_of(*pair) for pair in queue.partitions(database, row.id)]
            _make_equal(instance, names.partitions_name(names.asset_key(row.sync)), keys)


def _make_equal(instance: DagsterInstance, name: str, keys: list[str]) -> None:
    existing = set(instance.get_dynamic_partitions(name))
    missing = [key for key in keys if key not in existing]
    for start in range(0, len(missing), _BATCH):
        instance.add_dynamic_partitions(name, missing[start : start + _BATCH])
    for key in existing.difference(keys):
        instance.delete_dynamic_partition(name, key)


class PartitionRefresher:
    """Refreshes the partitions of the syncs whose schedules were added or deleted since the last call."""

    def __init__(self) -> None:
        self._versions: dict[int, tuple[int, int]] = {}

    def refresh(self, instance: DagsterInstance, database: Database, rows: Sequence[SyncRow]) -> None:
        """Refresh changed syncs; without changes this takes two queries, whatever the number of keys."""
        versions = queue.versions(database)
        current = {row.id: versions.get(row.id, (0, 0)) for row in rows if row.sync.partitioned}
        refresh(instance, database, [row for row in rows if self._versions.get(row.id) != current.get(row.id)])
        self._versions = current


def same_connection(**syncs: AssetKey | str) -> Mapping[str, Any]:
    """The arguments of an `@asset` that reads several syncs of the same connection and has a partition for each.

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
