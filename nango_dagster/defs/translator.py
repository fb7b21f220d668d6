"""From a sync to the spec of its asset; a project changes it by a subclass."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dagster import (
    AssetDep,
    AssetKey,
    AssetSpec,
    BetaWarning,
    CodeReferencesMetadataValue,
    IdentityPartitionMapping,
    LocalFileCodeReference,
)

from ..config import Sync
from ..config.scripts import code_version
from ..http import public_url
from ..settings import Settings
from . import metadata, names


@dataclass(frozen=True)
class SyncProps:
    """A sync, and what else the spec of its asset is made of."""

    sync: Sync
    key_prefix: tuple[str, ...] = ()
    storage_kind: str = "sqlite"
    """The kind of the database: sqlite or postgresql."""
    table_name: str | None = None
    """The full name of the mapped table, where the config names one."""
    file: Path | None = None
    """The config file; None for posted syncs and syncs made in Python."""
    line: int | None = None
    code_version: str | None = None
    """The version of its script's file; None without one."""
    parent: SyncProps | None = None
    """The sync that `for_each` names, where it is loaded together with this one."""

    @classmethod
    def of(cls, sync: Sync, settings: Settings, key_prefix: tuple[str, ...] = ()) -> SyncProps:
        """The properties of a sync whose store is that of the settings."""
        is_sqlite = settings.db_url.startswith("sqlite")
        table = sync.mapped_table if sync.auto_mapping else None
        if table and not is_sqlite:
            table = f"{urlsplit(settings.db_url).path.lstrip('/')}.{settings.db_schema}.{table}"
        version = code_version(sync.script, settings.configs) if sync.script else None
        kind = "sqlite" if is_sqlite else "postgresql"
        return cls(sync, key_prefix, kind, table, code_version=version)


class NangoSyncTranslator:
    """Makes the spec of each sync's asset. Override `get_asset_spec` to change key, group, tags, owners or condition.

    >>> class ByTeam(NangoSyncTranslator):
    ...     def get_asset_spec(self, props: SyncProps) -> AssetSpec:
    ...         return super().get_asset_spec(props).replace_attributes(group_name="crm", owners=["team:sales"])
    >>> ByTeam().get_asset_spec(SyncProps(Sync(name="deals", url="https://api.example.com/deals"))).group_name
    'crm'
    """

    def get_asset_spec(self, props: SyncProps) -> AssetSpec:
        """The spec of a sync's asset: key, description, group, owners, tags, kinds, metadata and freshness policy."""
        sync = props.sync
        key, source_key = names.asset_key(sync, props.key_prefix), names.source_key(sync, props.key_prefix)
        parent_key = self.parent_key(props)
        source = metadata.Source(source_key, parent_key, sync.for_each)
        # The partitions of the parents are the same connections and variants.
        same = IdentityPartitionMapping() if sync.partitioned else None
        return AssetSpec(
            key,
            deps=[source_key, *([AssetDep(parent_key, partition_mapping=same)] if parent_key else [])],
            description=sync.description
            or f"{sync.display_name}: {sync.mode} of {public_url(sync.address) or sync.script}",
            metadata={**metadata.of_asset(sync, props.storage_kind, source), **_location(props)},
            group_name=names.group(sync),
            code_version="-".join(filter(None, [sync.fingerprint(), props.code_version])),
            owners=sync.owners,
            tags=dict(sync.tags),
            kinds={"nango", props.storage_kind, *([sync.script_language] if sync.script_language else [])},
            freshness_policy=metadata.freshness(sync),
        )

    def parent_key(self, props: SyncProps) -> AssetKey | None:
        """The key of the asset whose records a sync with `for_each` reads a list for; None without `for_each`."""
        if props.sync.for_each is None:
            return None
        if props.parent is not None:
            return self.get_asset_spec(props.parent).key
        return names.sibling(names.asset_key(props.sync, props.key_prefix), props.sync.for_each.sync)


def _origin(sync: Sync) -> str:
    return public_url(sync.address) or f"what {sync.script} reads"


def _location(props: SyncProps) -> dict[str, Any]:
    """The metadata that leads to the table and to the config file."""
    location: dict[str, Any] = {}
    if props.table_name:
        location["dagster/table_name"] = props.table_name
    if props.file is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BetaWarning)  # code references are in beta; they are metadata, and no more
            reference = LocalFileCodeReference(file_path=str(props.file), line_number=props.line)
            location["dagster/code_references"] = CodeReferencesMetadataValue(code_references=[reference])
    return location
