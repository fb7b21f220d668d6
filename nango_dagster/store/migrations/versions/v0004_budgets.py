"""Budgets of requests that runs share; the datasets of one connection are found among those of thousands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nango_dagster.store.types import UtcTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "_nango_budgets",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("free_at", UtcTime(), nullable=True),
        sa.Column("day", sa.Text(), nullable=True),
        sa.Column("spent", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.drop_index("_nango_datasets_sync", "_nango_datasets")
    op.create_index("_nango_datasets_sync", "_nango_datasets", ["sync_id", "connection_id", "variant"])
