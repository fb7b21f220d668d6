"""The first tables."""

from __future__ import annotations

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


def upgrade() -> None:
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
        "_nango_jobs",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("sync_friendly_name", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("worker_id", Id, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_stack", sa.Text(), nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("updated_row_count", sa.BigInteger(), nullable=True),
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
    op.create_index("_nango_jobs_schedule", "_nango_jobs", ["sync_id", "connection_id", "variant", "id"], unique=False)
    op.create_index("_nango_jobs_worker", "_nango_jobs", ["worker_id"], unique=False)
    op.create_table(
        "_nango_mapped_tables",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("table_name"),
    )
    op.create_table(
        "_nango_raw",
        sa.Column("dataset_id", Id, autoincrement=False, nullable=False),
        sa.Column("external_id", Key, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("byte_hash", sa.LargeBinary(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=True),
        sa.Column("first_seen_at", UtcTime(), nullable=False),
        sa.Column("last_modified_at", UtcTime(), nullable=False),
        sa.Column("deleted_at", UtcTime(), nullable=True),
        sa.Column("pruned_at", UtcTime(), nullable=True),
        sa.Column("data", Json, nullable=True),
        sa.PrimaryKeyConstraint("dataset_id", "external_id"),
    )
    op.create_index(
        "_nango_raw_deleted",
        "_nango_raw",
        ["dataset_id", "last_modified_at", "external_id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        "_nango_raw_modified", "_nango_raw", ["dataset_id", "last_modified_at", "external_id"], unique=False
    )
    op.create_table(
        "_nango_syncs",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("friendly_name", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("mapped_table", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.Text(), nullable=True),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("integration", "name", name="_nango_syncs_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "_nango_workers",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=False),
        sa.Column("heartbeat_at", UtcTime(), nullable=False),
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
        sa.Column("last_modified_at", UtcTime(), nullable=True),
        sa.Column("announced_until", UtcTime(), nullable=True),
        sa.Column("unique_key", sa.Text(), nullable=True),
        sa.Column("mapping_version", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sync_id"],
            ["_nango_syncs.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("integration", "connection_id", "variant", "model", name="_nango_datasets_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_datasets_sync", "_nango_datasets", ["sync_id"], unique=False)
    op.create_table(
        "_nango_schedules",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("sync_id", Id, nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="STARTED", nullable=False),
        sa.Column("frequency", sa.Text(), nullable=True),
        sa.Column("triggered_at", UtcTime(), nullable=True),
        sa.Column("reset", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("empty_cache", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("cancelled_at", UtcTime(), nullable=True),
        sa.Column("last_started_at", UtcTime(), nullable=True),
        sa.Column("last_ended_at", UtcTime(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("worker_id", Id, nullable=True),
        sa.Column("claimed_at", UtcTime(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.ForeignKeyConstraint(["sync_id"], ["_nango_syncs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sync_id", "connection_id", "variant", name="_nango_schedules_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_schedules_worker", "_nango_schedules", ["worker_id"], unique=False)
    op.execute(RECORDS_VIEW)
    if op.get_bind().dialect.name == "postgresql" and _has_lz4():
        op.execute("ALTER TABLE _nango_raw ALTER COLUMN data SET COMPRESSION lz4")


def _has_lz4() -> bool:
    """Whether this server was built with lz4, which loads JSON three times as fast as its own compression."""
    query = "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    return bool(op.get_bind().execute(sa.text(query)).scalar())
