"""Webhooks: what has changed in a dataset since it was last announced, and the notifications that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nango_dagster.store.types import Id, UtcTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for what in ("added", "updated", "deleted"):
        counted = sa.Column(f"pending_{what}", sa.BigInteger(), server_default="0", nullable=False)
        op.add_column("_nango_datasets", counted)
    # What changed before there were webhooks is not announced.
    datasets = sa.table("_nango_datasets", sa.column("announced_until"), sa.column("last_modified_at"))
    op.execute(datasets.update().values(announced_until=datasets.c.last_modified_at))
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
        sa.Column("modified_after", UtcTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_at", UtcTime(), nullable=False),
        sa.Column("leased_until", UtcTime(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("_nango_webhooks_due", "_nango_webhooks", ["state", "next_try_at"])
    op.create_index("_nango_webhooks_of", "_nango_webhooks", ["integration", "connection_id", "sync_name", "variant"])
    op.create_table(
        "_nango_webhook_circuits",
        sa.Column("circuit", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("open_until", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("circuit"),
    )
