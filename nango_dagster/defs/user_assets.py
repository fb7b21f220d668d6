"""An asset of somebody's own that writes through the IO manager: its name, its table, and how rows are matched."""

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
"""What the store keeps the rows of such assets under."""
FIELDS = ("unique_key", "mapped_table", "track_deletes")
"""The asset metadata that is read."""


def sync_of(key: AssetKey, metadata: Mapping[str, Any]) -> Sync:
    """The asset as the store knows it, from its key and its metadata.

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
    """A value as it was given, also where Dagster has wrapped it."""
    return getattr(value, "data", getattr(value, "value", value))


def name_of(key: AssetKey) -> str:
    """Letters, digits, `_` and `-`; with a hash where that alone could be another asset's name, too."""
    name = "__".join(key.path)
    if re.fullmatch(r"[a-zA-Z0-9_-]{1,200}", name) and not any("__" in part for part in key.path):
        return name
    digest = hashlib.sha256("\0".join(key.path).encode()).hexdigest()[:8]
    return f"{re.sub('[^a-zA-Z0-9_-]', '_', name)[:200]}-{digest}"


def _table(name: str) -> str:
    """The table's name where none is given: no longer than PostgreSQL allows, and never one of our own."""
    table = re.sub("[_-]+", "_", name).strip("_")
    if len(table) <= 63 and table:
        return table
    return f"{table[:54]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
