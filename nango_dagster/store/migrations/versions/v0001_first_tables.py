"""The tables of release 0.1.0."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

from nango_dagster.store.types import Id, Json, Key, UtcTime

revision = "0001"
down_revision = None

RECORDS_VIEW = """
CREATE VIEW _nango_records AS
SELECT d.integration, d.connection_id, d.variant, d.model, r.external_id, r.data, r.first_seen_at,
       r.last_modified_at, r.deleted_at, r.pruned_at, r.sync_id, r.dataset_id
FROM _nango_raw r JOIN _nango_datasets d ON d.id = r.dataset_id
"""

# The conditions of store.schema.CHANGES, as this release knew them.
CHANGES = {
    "added": "deleted_at IS NULL AND first_seen_at = last_modified_at",
    "updated": "deleted_at IS NULL AND first_seen_at <> last_modified_at",
    "deleted": "deleted_at IS NOT NULL",
}


def upgrade() -> None:
    op.create_table(
        "_nango_syncs",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("friendly_name", sa.Text()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("unique_key", sa.Text()),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("mapped_table", sa.Text()),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text()),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text()),
        sa.Column("is_stopped", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("integration", "name", name="_nango_syncs_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "_nango_integrations",
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("base_url", sa.Text()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("integration"),
    )
    op.create_table(
        "_nango_connections",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text()),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("config", sa.Text(), server_default="{}", nullable=False),
        sa.Column("webhook_url_source", sa.Text()),
        sa.Column("auth_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refresh_owner", sa.Text()),
        sa.Column("refresh_until", UtcTime()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("integration", "connection_id", name="_nango_connections_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "_nango_connections_refused",
        "_nango_connections",
        ["integration", "connection_id"],
        postgresql_where=sa.text("auth_failures >= 3"),
        sqlite_where=sa.text("auth_failures >= 3"),
    )
    op.create_table(
        "_nango_schedules",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="STARTED", nullable=False),
        sa.Column("frequency", sa.Text()),
        sa.Column("triggered_at", UtcTime()),
        sa.Column("reset", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("empty_cache", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancelled_at", UtcTime()),
        sa.Column("last_started_at", UtcTime()),
        sa.Column("last_ended_at", UtcTime()),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checkpoint", sa.Text()),
        sa.Column("last_sync_at", UtcTime()),
        sa.Column("worker_id", Id),
        sa.Column("claimed_at", UtcTime()),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("not_before", UtcTime()),
        sa.Column("due_at", UtcTime()),
        sa.Column("shown_state", sa.Text()),
        sa.Column("shown_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["sync_id"], ["_nango_syncs.id"], ondelete="CASCADE"),
        sa.UniqueConstraint("sync_id", "connection_id", "variant", name="_nango_schedules_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "_nango_schedules_worker",
        "_nango_schedules",
        ["worker_id"],
        postgresql_where=sa.text("worker_id IS NOT NULL"),
        sqlite_where=sa.text("worker_id IS NOT NULL"),
    )
    op.create_table(
        "_nango_workers",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process", sa.Text()),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("heartbeat_at", UtcTime(), nullable=False),
        sa.Column("drains", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "_nango_datasets",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("live_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_modified_at", UtcTime()),
        sa.Column("announced_until", UtcTime()),
        sa.Column("unique_key", sa.Text()),
        sa.Column("has_mixed_keys", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("key_types", sa.Text(), server_default="", nullable=False),
        sa.Column("mapped_table", sa.Text()),
        sa.Column("mapping_version", sa.Text()),
        sa.Column("etag", sa.Text()),
        sa.Column("payloads_wanted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("is_emptied", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("earlier_counts", sa.Text(), server_default="[]", nullable=False),
        sa.Column("problems", sa.Text(), server_default="{}", nullable=False),
        sa.Column("pruned_until", sa.Text()),
        sa.Column("window_opened_at", UtcTime()),
        sa.Column("window_is_doubtful", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pending_added", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pending_updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pending_deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["sync_id"], ["_nango_syncs.id"]),
        sa.UniqueConstraint("integration", "connection_id", "variant", "model", name="_nango_datasets_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_datasets_sync", "_nango_datasets", ["sync_id", "connection_id", "variant"])
    op.create_table(
        "_nango_jobs",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("sync_friendly_name", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("worker_id", Id, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("ended_at", UtcTime()),
        sa.Column("error_message", sa.Text()),
        sa.Column("error_stack", sa.Text()),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("updated_row_count", sa.BigInteger()),
        sa.Column("added_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deleted_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unchanged_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fetched_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("page_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("request_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("retry_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("warnings", sa.Text(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_jobs_schedule", "_nango_jobs", ["sync_id", "connection_id", "variant", "id"])
    op.create_index("_nango_jobs_worker", "_nango_jobs", ["worker_id"])
    op.create_table(
        "_nango_raw",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("external_id", Key, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("byte_hash", sa.LargeBinary(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary()),
        sa.Column("first_seen_at", UtcTime(), nullable=False),
        sa.Column("last_modified_at", UtcTime(), nullable=False),
        sa.Column("deleted_at", UtcTime()),
        sa.Column("pruned_at", UtcTime()),
        sa.Column("payload_wanted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("id_is_number", sa.Boolean()),
        sa.Column("data", Json),
        sa.PrimaryKeyConstraint("dataset_id", "external_id"),
    )
    for change, condition in CHANGES.items():
        op.create_index(
            f"_nango_raw_{change}",
            "_nango_raw",
            ["dataset_id", "last_modified_at", "external_id"],
            postgresql_where=sa.text(condition),
            sqlite_where=sa.text(condition),
        )
    op.create_table(
        "_nango_missing",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("external_id", Key, nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "external_id"),
    )
    op.create_table(
        "_nango_window_keys",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "digest"),
    )
    op.create_table(
        "_nango_rejected",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text()),
        sa.Column("text", sa.LargeBinary()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_seen_at", UtcTime(), nullable=False),
        sa.Column("last_seen_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "identity"),
    )
    op.create_table(
        "_nango_parents",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("parent_id", Key, nullable=False),
        sa.Column("version", UtcTime()),
        sa.PrimaryKeyConstraint("dataset_id", "parent_id"),
    )
    op.create_table(
        "_nango_children",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("parent_id", Key, nullable=False),
        sa.Column("external_id", Key, nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "parent_id", "external_id"),
    )
    op.create_index("_nango_children_key", "_nango_children", ["dataset_id", "external_id"])
    op.create_table(
        "_nango_columns",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("column_name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "path"),
        sa.UniqueConstraint("table_name", "column_name", name="_nango_columns_name"),
    )
    op.create_table(
        "_nango_mapped_tables",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("table_name"),
    )
    op.create_table(
        "_nango_budgets",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("free_at", UtcTime()),
        sa.Column("day", sa.Text()),
        sa.Column("spent", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "_nango_webhooks",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("sync_name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sync_type", sa.Text(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=False),
        sa.Column("modified_after", UtcTime()),
        sa.Column("checkpoint_from", sa.Text()),
        sa.Column("checkpoint_to", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("started_at", UtcTime()),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", UtcTime(), nullable=False),
        sa.Column("leased_until", UtcTime()),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_webhooks_due", "_nango_webhooks", ["state", "next_try_at"])
    op.create_index("_nango_webhooks_of", "_nango_webhooks", ["integration", "connection_id", "sync_name", "variant"])
    op.create_table(
        "_nango_webhook_circuits",
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", UtcTime()),
        sa.PrimaryKeyConstraint("circuit"),
    )
    op.create_table(
        "_nango_script_locks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("expires_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "_nango_settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(RECORDS_VIEW)
    if op.get_bind().dialect.name == "sqlite":
        # A SQLite file gets a number of its own, so that a pending request is never applied to another file.
        op.execute(f"PRAGMA application_id = {1 + secrets.randbelow(2**31 - 1)}")
    elif _has_lz4():
        op.execute("ALTER TABLE _nango_raw ALTER COLUMN data SET COMPRESSION lz4")


def _has_lz4() -> bool:
    """Whether this server was built with lz4, which loads JSON three times as fast as PostgreSQL's own compression."""
    query = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    return bool(op.get_bind().execute(sa.text(query)).scalar())
