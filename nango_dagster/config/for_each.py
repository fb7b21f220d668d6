"""`for_each`: a list for each record of another sync, and the checks of both syncs together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import Field

from nango_dagster.config.fields import FieldPath, Name, Part, Text

PARENT = "parent"
"""The first part of the placeholders for values of a parent, such as `${parent.id}`."""

# The part of a URL that names the server, see templates.host_variables.
_SERVER = re.compile(r"(?:[^/?#\\]*//)?[^/?#\\]*")
# Fields about presentation, schedule and storage: a change of them leaves the lists as they were read.
_NOT_THE_LIST = frozenset(
    {
        *("name", "friendly_name", "description", "owners", "tags", "group", "enabled", "renamed_from", "model"),
        *("timeout", "retries", "rate_limit", "daily_quota", "max_duration", "concurrency", "connections_per_run"),
        *("max_runs", "frequency", "cron", "timezone", "auto_start", "events", "auto_mapping", "mapped_table"),
        *("mapping", "transform", "metadata", "track_deletes", "ignore_fields", "models", "validate"),
    }
)


class ForEach(Part):
    """The parents of a sync's records: the records of another sync."""

    sync: Name = Field(
        description="The sync of the parents: another one of the same integration and connection, with a `unique_key`."
    )
    path: FieldPath = Field(
        description="The path of the value in the parent that its children get, usually that of its `unique_key`."
    )
    field: Text = Field("parent_id", description="The field of each child with this value; it becomes a column, too.")
    where_changed: bool = Field(
        False,
        description="Read only the lists of parents that were added or changed since their lists were read. Otherwise "
        "each execution reads the lists of all parents.",
    )


def misfits(fields: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """The field and the sentence of each other field of a sync that does not fit its `for_each`.

    `names` are the names of all placeholders in the request.
    """
    if "for_each" not in fields:
        return
    if "unique_key" not in fields:
        yield "for_each", "for_each adds the records of many lists to each other, which takes a unique_key; add it."
    if not any(name.startswith(f"{PARENT}.") for name in names):
        yield (
            "for_each",
            "for_each would read the same list for each parent; put ${parent.id} or another of its values into url, "
            "query_params, headers or body.",
        )
    if _server_names(fields.get("url")):
        yield (
            "url",
            "url begins with a value of the parent, so the API's records would choose the server that gets the "
            "credentials; wanted the server itself, and values of the parent in the path or the query.",
        )
    if "last_sync_date" in names:
        yield (
            "for_each",
            "${last_sync_date} is the same for all parents, and the list of a new parent has to be read whole; leave "
            "it out: where_changed: true reads only the lists of changed parents.",
        )
    for name in ("incremental", "resumable"):
        if fields.get(name):
            yield name, f"{name} has one position for the whole sync, and for_each one for each parent; keep one."
    if "deleted_path" in fields:
        yield "deleted_path", "deleted_path is not available with for_each; track_deletes finds deleted records."


def _server_names(url: Any) -> bool:
    server = _SERVER.match(url) if isinstance(url, str) else None
    return server is not None and "${" + PARENT + "." in server[0]


def list_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a sync's document that decide what its lists contain; a change of them reads all lists again.

    >>> list_fields({"url": "https://api.example.com/items", "frequency": 5})
    {'url': 'https://api.example.com/items'}
    """
    return {name: value for name, value in document.items() if name not in _NOT_THE_LIST}
