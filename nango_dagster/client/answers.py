"""The types of the answers that the client returns."""

from __future__ import annotations

from typing import Any, TypedDict

Json = dict[str, Any]
Record = dict[str, Any]
"""A record's own fields, its `id`, and `_nango_metadata` with what became of it and its cursor."""


class NamedSync(TypedDict):
    """A variant of a sync."""

    name: str
    variant: str


class RecordPage(TypedDict):
    """Records in the order of their changes; `next_cursor` is None on the last page."""

    records: list[Record]
    next_cursor: str | None


class Pruned(TypedDict):
    """The number of records that lost their payload, and whether there are more up to the cursor."""

    count: int
    has_more: bool


class Result(TypedDict):
    """The numbers of records of a model that an execution changed."""

    added: int
    updated: int
    deleted: int


class _Ended(TypedDict, total=False):
    finishedAt: str
    latestExecutionStatus: str


class SyncStatus(_Ended):
    """The status of a sync for one connection and variant; `finishedAt` is missing before its first execution."""

    id: str
    connection_id: str
    name: str
    variant: str
    type: str
    status: str
    frequency: str
    nextScheduledSyncAt: str | None
    latestResult: dict[str, Result]
    recordCount: dict[str, int]
    checkpoint: Json | None


class MadeVariant(TypedDict):
    """A variant that was made."""

    id: str
    name: str
    variant: str


class Variable(TypedDict):
    """A variable of the server for `${env.NAME}`."""

    name: str
    value: str


class Trouble(TypedDict):
    """A problem of a connection."""

    type: str
    log_id: str


class _Connection(TypedDict):
    id: int
    connection_id: str
    provider_config_key: str
    provider: str
    errors: list[Trouble]
    end_user: None
    tags: dict[str, str]
    metadata: Json | None


class ListedConnection(_Connection):
    """A connection without its credentials."""

    created: str


class Connection(_Connection):
    """A connection with the credentials that its requests need."""

    created_at: str
    updated_at: str
    last_fetched_at: str
    connection_config: Json
    webhook_url_override: str | None
    credentials: Json


class Integration(TypedDict):
    """An API that syncs and connections belong to."""

    unique_key: str
    display_name: str
    provider: str
    created_at: str
    updated_at: str
