"""Schedules with a grid of their own, and what Dagster was told of them; workers that take whatever is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nango_dagster.store.types import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("_nango_schedules", sa.Column("due_at", UtcTime(), nullable=True))
    op.add_column("_nango_schedules", sa.Column("shown_state", sa.Text(), nullable=True))
    op.add_column("_nango_schedules", sa.Column("shown_at", UtcTime(), nullable=True))
    op.add_column("_nango_workers", sa.Column("drains", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "_nango_connections_refused",
        "_nango_connections",
        ["integration", "connection_id"],
        postgresql_where=sa.text("auth_failures >= 3"),
        sqlite_where=sa.text("auth_failures >= 3"),
    )
