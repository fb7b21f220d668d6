"""The tables of the store, as SQLAlchemy sees them; migrations/ creates them.

They have no arguments for one database (`sqlite_autoincrement`, `postgresql_where`): SQLAlchemy would import the
dialects of both databases for them, a tenth of the start of a process. The migrations have these arguments.

Names in `_nango_*` are fixed: people query these tables. `data` is PostgreSQL type `json`: the text exactly as the
API sent it, with lz4 where the server has it, which loads three times as fast as `jsonb`
(docs/explanation/decisions.md).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from .types import Id, Json, Key, UtcTime

metadata = MetaData()


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def _partial_index(name: str, *columns: str, where: str) -> Index:
    """An index of the rows that fit `where`; the migration creates it with this condition."""
    return Index(name, *columns, info={"where": where})


syncs = Table(
    "_nango_syncs",
    metadata,
    _id(),
    Column("integration", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("friendly_name", Text),
    Column("model", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("unique_key", Text),
    Column("frequency", Text, nullable=False),
    Column("mapped_table", Text),
    Column("origin", Text, nullable=False),
    Column("body_hash", Text),
    Column("config", Text, nullable=False),
    Column("owner", Text),  # the project that may change it
    Column("is_stopped", Boolean, nullable=False, server_default=text("false")),  # its schedule, in Dagster
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("integration", "name", name="_nango_syncs_name"),
)

integrations = Table(  # those that config files declare
    "_nango_integrations",
    metadata,
    Column("integration", Text, primary_key=True),
    Column("display_name", Text),
    Column("provider", Text),
    Column("base_url", Text),  # without secrets
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

connections = Table(
    "_nango_connections",
    metadata,
    _id(),
    Column("integration", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("credentials", Text),  # encrypted
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("config", Text, nullable=False, server_default="{}"),
    Column("webhook_url_source", Text),  # http or operator; null without a URL of its own
    Column("auth_failures", Integer, nullable=False, server_default="0"),
    Column("refresh_owner", Text),
    Column("refresh_until", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("integration", "connection_id", name="_nango_connections_key"),
    _partial_index("_nango_connections_refused", "integration", "connection_id", where="auth_failures >= 3"),
)

schedules = Table(
    "_nango_schedules",
    metadata,
    _id(),
    Column("sync_id", Id, ForeignKey("_nango_syncs.id", ondelete="CASCADE"), nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="STARTED"),
    Column("frequency", Text),
    Column("triggered_at", UtcTime),
    Column("reset", Boolean, nullable=False, server_default=text("false")),
    Column("empty_cache", Boolean, nullable=False, server_default=text("false")),
    Column("cancelled_at", UtcTime),
    Column("last_started_at", UtcTime),
    Column("last_ended_at", UtcTime),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("checkpoint", Text),
    Column("last_sync_at", UtcTime),  # when the last successful execution began
    Column("worker_id", Id),
    Column("claimed_at", UtcTime),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("created_at", UtcTime, nullable=False),
    Column("not_before", UtcTime),
    Column("due_at", UtcTime),  # with a frequency of its own: its next slot
    Column("shown_state", Text),  # what Dagster was last told of it, and when
    Column("shown_at", UtcTime),
    UniqueConstraint("sync_id", "connection_id", "variant", name="_nango_schedules_key"),
    # Partial: SQLite scans the table instead, once ANALYZE has seen an index in which nearly all is NULL.
    _partial_index("_nango_schedules_worker", "worker_id", where="worker_id IS NOT NULL"),
)

workers = Table(
    "_nango_workers",
    metadata,
    _id(),
    Column("sync_id", Id, nullable=False),
    Column("run_id", Text),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", Text),  # its identity on its machine, see queue/processes.py
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    Column("drains", Boolean, nullable=False, server_default=text("false")),
)

datasets = Table(
    "_nango_datasets",
    metadata,
    _id(),
    Column("integration", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("sync_id", Id, ForeignKey("_nango_syncs.id"), nullable=False),
    Column("live_count", BigInteger, nullable=False, server_default="0"),
    Column("last_modified_at", UtcTime),
    Column("announced_until", UtcTime),
    Column("unique_key", Text),
    Column("has_mixed_keys", Boolean, nullable=False, server_default=text("false")),
    Column("key_types", Text, nullable=False, server_default=""),  # of keys that are numbers or look like one
    Column("mapped_table", Text),
    Column("mapping_version", Text),  # of the rows in mapped_table; NULL where they have to be made again
    Column("etag", Text),
    Column("payloads_wanted", Boolean, nullable=False, server_default=text("false")),
    Column("is_emptied", Boolean, nullable=False, server_default=text("false")),
    Column("earlier_counts", Text, nullable=False, server_default="[]"),  # JSON: hour and live records, of one day
    Column("problems", Text, nullable=False, server_default="{}"),  # JSON: what the mapped rows lack
    Column("pruned_until", Text),  # a cursor; no record up to it has a payload to prune
    Column("window_opened_at", UtcTime),  # of the deletion window that is open, and whether it missed a record
    Column("window_is_doubtful", Boolean, nullable=False, server_default=text("false")),
    *(  # what has changed since it was announced
        Column(f"pending_{what}", BigInteger, nullable=False, server_default="0")
        for what in ("added", "updated", "deleted")
    ),
    UniqueConstraint("integration", "connection_id", "variant", "model", name="_nango_datasets_key"),
    Index("_nango_datasets_sync", "sync_id", "connection_id", "variant"),
)

jobs = Table(
    "_nango_jobs",
    metadata,
    _id(),
    Column("sync_id", Id, nullable=False),
    Column("sync_friendly_name", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("run_id", Text),
    Column("worker_id", Id, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("error_message", Text),
    Column("error_stack", Text),
    Column("stop_reason", Text),
    Column("updated_row_count", BigInteger),
    *(
        Column(f"{what}_count", BigInteger, nullable=False, server_default="0")
        for what in (
            "added",
            "updated",
            "deleted",
            "unchanged",
            "rejected",
            "fetched",
            "page",
            "request",
            "retry",
        )
    ),
    Column("warnings", Text, nullable=False, server_default="[]"),
    Index("_nango_jobs_schedule", "sync_id", "connection_id", "variant", "id"),
    Index("_nango_jobs_worker", "worker_id"),
)

# The last change of a record. Each record is in the index of one of them, so that a reader of any, or of all, begins
# at once where it left off; the databases know the index by these very words.
CHANGES = {
    "added": "deleted_at IS NULL AND first_seen_at = last_modified_at",
    "updated": "deleted_at IS NULL AND first_seen_at <> last_modified_at",
    "deleted": "deleted_at IS NOT NULL",
}

raw = Table(
    "_nango_raw",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),
    Column("external_id", Key, primary_key=True),
    Column("sync_id", Id, nullable=False),
    Column("byte_hash", LargeBinary, nullable=False),
    Column("content_hash", LargeBinary),
    Column("first_seen_at", UtcTime, nullable=False),
    Column("last_modified_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Column("pruned_at", UtcTime),
    Column("payload_wanted", Boolean, nullable=False, server_default=text("false")),  # it was pruned, and comes back
    Column(
        "id_is_number", Boolean
    ),  # set when the payload is removed: whether its `id`, which is the key, was a number
    # Last, so that SQLite reads a row's hashes without the pages its text spills over.
    Column("data", Json),
    *(
        _partial_index(f"_nango_raw_{kind}", "dataset_id", "last_modified_at", "external_id", where=condition)
        for kind, condition in CHANGES.items()
    ),
)

missing = Table(  # records that complete lists did not contain, and that are not deleted yet
    "_nango_missing",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),
    Column("external_id", Key, primary_key=True),
    Column("times", Integer, nullable=False),
)

rejected = Table(  # records that could not be stored, until they can be
    "_nango_rejected",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),
    Column("identity", Text, primary_key=True),  # the key as JSON, or a hash of the text or of the place
    Column("place", Text, nullable=False),
    Column("external_id", Text),
    Column("text", LargeBinary),  # as the API sent it; NULL where it was never seen, or is too large
    Column("reason", Text, nullable=False),
    Column("first_seen_at", UtcTime, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
)

window_keys = Table(  # digests of the keys that executions have saved since the dataset's deletion window was opened
    "_nango_window_keys",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, primary_key=True),
)

parents = Table(  # of a sync with `for_each`: the records whose lists were read
    "_nango_parents",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),  # of the children
    Column("parent_id", Key, primary_key=True),
    Column("version", UtcTime),  # last_modified_at of the parent when its list was read; NULL to read it again
)

children = Table(  # the records that the list of each parent contained
    "_nango_children",
    metadata,
    Column("dataset_id", Id, primary_key=True, autoincrement=False),
    Column("parent_id", Key, primary_key=True),
    Column("external_id", Key, primary_key=True),
    Index("_nango_children_key", "dataset_id", "external_id"),
)

OF_DATASET = (raw, missing, rejected, window_keys, parents, children)
"""The tables whose rows belong to a dataset."""

columns = Table(
    "_nango_columns",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("column_name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("table_name", "column_name", name="_nango_columns_name"),
)

mapped_tables = Table(
    "_nango_mapped_tables",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("created_at", UtcTime, nullable=False),
)

budgets = Table(
    "_nango_budgets",
    metadata,
    Column("key", Text, primary_key=True),  # an integration, or integration/connection
    Column("holder", Text),  # who has the last block of requests, and until when nobody else sends any
    Column("free_at", UtcTime),
    Column("day", Text),  # the last day on which requests were counted, in UTC, and how many
    Column("spent", BigInteger, nullable=False, server_default="0"),
)

webhooks = Table(
    "_nango_webhooks",
    metadata,
    _id(),
    Column("delivery_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("circuit", Text, nullable=False),
    Column("integration", Text, nullable=False),
    Column("connection_id", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("sync_name", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("sync_type", Text, nullable=False),
    Column("added", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("modified_after", UtcTime),
    Column("checkpoint_from", Text),  # JSON texts; "null" for no checkpoint, NULL where executions touched none
    Column("checkpoint_to", Text),
    Column("error", Text),
    Column("started_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_try_at", UtcTime, nullable=False),
    Column("leased_until", UtcTime),
    Column("last_error", Text),
    Index("_nango_webhooks_due", "state", "next_try_at"),
    Index("_nango_webhooks_of", "integration", "connection_id", "sync_name", "variant"),
)

webhook_circuits = Table(
    "_nango_webhook_circuits",
    metadata,
    Column("circuit", Text, primary_key=True),
    Column("failures", Integer, nullable=False),  # in a row
    Column("open_until", UtcTime),
)

script_locks = Table(  # of scripts, beyond one sync and one connection
    "_nango_script_locks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

settings = Table(  # what the processes of this database have to agree on, whatever their own environments say
    "_nango_settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
