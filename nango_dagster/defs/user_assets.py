"""A user's asset that writes through the IO manager, as a sync in the store: its name, table and unique key."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dagster import AssetKey

from ..config import Sync, from_document
from ..errors import ConfigError

INTEGRATION = "dagster"
"""The integration of user assets in the store."""
FIELDS = ("unique_key", "mapped_table", "track_deletes")
"""The fields of an asset's metadata that are used."""


def sync_of(key: AssetKey, metadata: Mapping[str, Any]) -> Sync:
    """The config of a sync that stands for the asset.

    >>> sync = sync_of(AssetKey(["sales", "orders"]), {"unique_key": "id"})
    >>> sync.name, sync.mode, sync.mapped_table
    ('sales__orders', 'upsert', 'sales_orders')
    """
    given = {field: _plain(metadata[field]) for field in FIELDS if field in metadata}
    name = name_of(key)
    fields = {
        "name": name,
        "friendly_name": key.to_user_string(),
        "url": f"http://dagster/assets/{quote('/'.join(key.path))}",
        "mapped_table": _table(name),
        **{field: value for field, value in given.items() if value is not None},
    }
    try:
        sync = from_document(fields)
    except ConfigError as error:
        raise ConfigError(f"{key.to_user_string()}: its metadata cannot be used: {error}") from None
    return sync.model_copy(update={"pizzly_provider_config_key": INTEGRATION})


def _plain(value: Any) -> Any:
    """A value of metadata without the wrapper of Dagster."""
    return getattr(value, "data", getattr(value, "value", value))


def name_of(key: AssetKey) -> str:
    """A name of letters, digits, `_` and `-`; it ends with a hash where two keys could have the same name."""
    name = "__".join(key.path)
    if re.fullmatch(r"[a-zA-Z0-9_-]{1,200}", name) and not any("__" in part for part in key.path):
        return name
    digest = hashlib.sha256("\0".join(key.path).encode()).hexdigest()[:8]
    return f"{re.sub('[^a-zA-Z0-9_-]', '_', name)[:200]}-{digest}"


def _table(name: str) -> str:
    """The default name of the table: at most 63 bytes, as PostgreSQL allows, and not that of a system table."""
    table = re.sub("[_-]+", "_", name).strip("_")
    if len(table) <= 63 and table:
        return table
    return f"{table[:54]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
