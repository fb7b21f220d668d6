"""Which list a cursor belongs to: the request, the values in it, and the fields that choose and read the records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from ..config import Incremental, Sync, placeholders
from ..fetch import first_request
from ..http import json_bytes, looks_secret, redact, secrets_of
from ..paths import MISSING, dig

LAST_SYNC_DATE: Final = Incremental(from_="run_start", start="1970-01-01")
"""The meaning of `${last_sync_date}` in a sync without the block `incremental`."""

_FIELDS: Final = frozenset(
    {"url", "method", "headers", "query_params", "body", "next_request", "format", "response_path", "records"}
    | {"record_key_field", "responses", "unique_key", "model", "deleted_path", "transform"}
)
_NOT_OF_THE_LIST: Final = {"full_refresh", "lag", "reset_on"}


def block_of(sync: Sync) -> Incremental | None:
    """The sync's `incremental`, or that of `${last_sync_date}`; None for a full sync.

    >>> block_of(Sync(url="https://api.example.com/items", query_params={"since": "${last_sync_date}"})).from_
    'run_start'
    """
    if sync.incremental is not None:
        return sync.incremental
    return LAST_SYNC_DATE if "last_sync_date" in set(placeholders(sync.templates)) else None


def definition_of(sync: Sync, facts: Mapping[str, Any]) -> str:
    """A hash of the list that a cursor belongs to, without schedules, tables and secrets.

    `facts` are the values of placeholders. Those of credentials do not count: a new token reads the same list.
    """
    paging = {name for name in Sync.model_fields if name.startswith("paging_")}
    document = sync.model_dump(mode="json", include={*_FIELDS, *paging}, exclude_defaults=True)
    block = block_of(sync)
    document["incremental"] = None if block is None else block.model_dump(mode="json", exclude=_NOT_OF_THE_LIST)
    document["values"] = {name: _value(name, facts) for name in sorted(set(placeholders(sync.templates)))}
    text = redact(json_bytes(document).decode(), secrets_of(first_request(sync)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _value(name: str, facts: Mapping[str, Any]) -> Any:
    if looks_secret(name) or not name.startswith(("metadata.", "env.")):
        return None
    value = facts.get(name, MISSING) if name.startswith("env.") else dig(facts, name)
    return None if value is MISSING else value
