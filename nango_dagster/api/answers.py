"""The shapes of all answers, as /docs shows them; errors are in errors.py."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..store import jobs
from ..store.status import State, Status
from ..store.sync_row import Origin


def iso(moment: datetime | None) -> str | None:
    """A moment as JavaScript writes it.

    >>> iso(datetime(2024, 3, 15, 12, tzinfo=timezone.utc))
    '2024-03-15T12:00:00.000Z'
    """
    if moment is None:
        return None
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def sync_id(state: Status) -> str:
    """The id of a sync for one connection and variant in Nango's routes."""
    return f"sync_{state.id}"


# --- records --------------------------------------------------------------------------------------------------------


class Metadata(BaseModel):
    """The times of a record, its last change, and its cursor."""

    first_seen_at: datetime
    last_modified_at: datetime
    last_action: str = Field(examples=["ADDED"], description="`ADDED`, `UPDATED` or `DELETED`.")
    deleted_at: datetime | None
    pruned_at: datetime | None = Field(description="When its payload was removed from the store.")
    cursor: str
    payload_id: Any = Field(
        None, description="The payload's own `id`, where the sync's `unique_key` is another field; else it is missing."
    )


class ShownRecord(BaseModel, extra="allow"):
    """A record's own fields, its id, and what became of it. One that is no object has its value in `value`."""

    id: str | int
    nango_metadata: Metadata = Field(alias="_nango_metadata")


class RecordList(BaseModel):
    """Records in the order they changed."""

    records: list[ShownRecord]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


class PrunedRecords(BaseModel):
    """The number of removed payloads, and whether there are more up to that cursor."""

    count: int
    has_more: bool


# --- syncs ----------------------------------------------------------------------------------------------------------


class StoredSync(BaseModel):
    """A sync that was posted, changed or deleted."""

    sync_id: int = Field(examples=[1])
    name: str = Field(description="What the sync is called, also in Dagster.", examples=["my-sync"])
    message: str = Field(examples=["Sync 1 was created; its first run is due now."])


class LastJob(BaseModel):
    """The last execution of a sync."""

    id: int
    status: jobs.Status
    started_at: datetime
    ended_at: datetime | None
    attempt: int = Field(description="Counts on while executions fail.")
    error_message: str | None
    run_id: str | None = Field(description="The run in Dagster.")
    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    pages: int
    stop_reason: str | None
    warnings: list[str]


class ListedSync(BaseModel):
    """A sync, its last job and its next run."""

    id: int
    name: str
    friendly_name: str | None
    origin: Origin = Field(description="`http` if it was posted; one of a `file` can only be changed there.")
    url: str = Field(description="Without its secrets.")
    metadata: dict[str, Any]
    frequency: str = Field(examples=["every hour", "0 6 * * *"])
    enabled: bool
    next_run_at: datetime | None = Field(description="In the past when it is due and waits for a run.")
    last_job: LastJob | None
    created_at: datetime
    updated_at: datetime


class ShownSync(ListedSync):
    """A sync with its config."""

    config: dict[str, Any] = Field(description="What was posted; secrets read `***`.")


class SyncList(BaseModel):
    """The syncs that match, in the order they became known."""

    syncs: list[ListedSync]


class Performed(BaseModel):
    """The operation that was performed."""

    message: str = Field(examples=["Successfully performed action 'pause' on Sync 1"])


class Active(BaseModel):
    """The frequency from now on."""

    frequency: str = Field(examples=["every 30 minutes"])


class Variant(BaseModel):
    """A variant that was created."""

    id: str
    name: str
    variant: str


class Result(BaseModel):
    """The records that an execution changed."""

    added: int
    updated: int
    deleted: int


class ShownStatus(BaseModel):
    """A sync for one connection and variant."""

    id: str = Field(examples=["sync_17"])
    connection_id: str
    name: str
    variant: str
    type: str = Field(description="`INITIAL` while nothing has been stored, `INCREMENTAL` from then on.")
    status: State
    frequency: str = Field(examples=["every 6 hours"])
    finishedAt: datetime | None = Field(None, description="When the last execution ended; missing before that.")
    nextScheduledSyncAt: datetime | None = Field(description="null while it is paused; past where it is due.")
    latestResult: dict[str, Result]
    latestExecutionStatus: str | None = Field(None, description="`RUNNING`, `SUCCESS` or `STOPPED`.")
    recordCount: dict[str, int] = Field(description="Records that are not deleted, of each model.")
    checkpoint: dict[str, Any] | None


class StatusList(BaseModel):
    """The states of syncs, connection by connection."""

    syncs: list[ShownStatus]


# --- integrations and connections -----------------------------------------------------------------------------------


class ShownIntegration(BaseModel):
    """An integration: one that a file declares, or that a sync or a connection names."""

    unique_key: str = Field(examples=["github"])
    display_name: str = Field(description="The declared name for people, or the unique key.")
    provider: str = Field(description="The declared API, or the unique key.")
    base_url: str | None = Field(None, description="The declared base URL, without secrets.")
    logo: str = Field("", description="There is none.")
    forward_webhooks: bool = False
    created_at: str
    updated_at: str


class IntegrationList(BaseModel):
    """Integrations in the order of their names."""

    data: list[ShownIntegration]


class OneIntegration(BaseModel):
    """An integration."""

    data: ShownIntegration


class ShownScript(BaseModel):
    """A sync, as its integration's list has it."""

    id: int
    name: str
    type: Literal["sync"] = "sync"
    runs: str = Field(description="Its frequency.", examples=["every hour"])
    auto_start: bool
    enabled: bool
    track_deletes: bool
    sync_type: Literal["full", "incremental"] = Field(description="`incremental` where it asks for what is new.")
    returns: list[str] = Field(description="Its model.", examples=[["GithubIssue"]])
    endpoints: list[Any] = Field([], description="There are none.")
    json_schema: None = None
    sdk_version: None = None
    features: list[Any] = Field([], description="There are none.")


class ShownScripts(BaseModel):
    """The syncs of an integration."""

    model_config = ConfigDict(serialize_by_alias=True)

    providerConfigKey: str
    provider: str
    syncs: list[ShownScript]
    actions: list[Any] = Field([], description="There are none.")
    on_events: list[Any] = Field([], serialization_alias="on-events", description="There are none.")


class Functions(BaseModel):
    """Nango's actions for language models; this project has none, so the lists are empty."""

    data: list[Any] = []


class DeployedFunction(BaseModel):
    """A sync, as the newest client of Nango lists functions."""

    id: int
    name: str
    type: Literal["sync"] = "sync"
    enabled: bool
    last_deployed: str = Field(description="When its config changed last.")
    source: str = Field("repo", description="`repo` for every sync.")
    returns: list[str] = Field(description="Its model.", examples=[["GithubIssue"]])
    json_schema: None = None
    runs: str | None = Field(description="Its frequency.", examples=["every hour"])
    auto_start: bool
    track_deletes: bool


class Pagination(BaseModel):
    """The place of a page in a list."""

    total: int
    page: int
    limit: int


class FunctionList(BaseModel):
    """A page of an integration's syncs, in the order of their names."""

    data: list[DeployedFunction]
    pagination: Pagination


class OneFunction(BaseModel):
    """A sync."""

    data: DeployedFunction


class FunctionCode(BaseModel):
    """A sync's config, without secrets, as JSON text."""

    type: Literal["sync"] = "sync"
    code: str


class Trouble(BaseModel):
    """A reason why a connection does not work."""

    type: str = Field(examples=["auth"])
    log_id: str


class ShownConnection(BaseModel):
    """A connection, without its credentials."""

    id: int
    connection_id: str
    provider_config_key: str = Field(description="The integration.")
    provider: str = Field(description="The integration, too.")
    errors: list[Trouble] = Field(description="`auth` where its credentials were refused so often that it waits.")
    end_user: None = None
    tags: dict[str, str] = Field({}, description="There are none yet.")
    metadata: dict[str, Any] | None


class ListedConnection(ShownConnection):
    """A connection in a list, in which metadata that looks secret by its name reads `***`."""

    created: str


class WholeConnection(ShownConnection):
    """A connection with its credentials."""

    created_at: str
    updated_at: str
    last_fetched_at: str
    connection_config: dict[str, Any]
    webhook_url_override: str | None = None
    credentials: dict[str, Any]


class ConnectionList(BaseModel):
    """Connections in the order they were made."""

    connections: list[ListedConnection]


class Success(BaseModel):
    """Whether it was done."""

    success: bool


# --- operation ------------------------------------------------------------------------------------------------------


class Variable(BaseModel):
    """An environment variable; on the server its name begins with `NANGO_ENV_`."""

    name: str = Field(examples=["OPENAI_API_KEY"])
    value: str
