"""Connections, with their credentials; and a schedule that waits until a time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nango_dagster.store.types import Id, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "_nango_connections",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("integration", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("config", sa.Text(), server_default="{}", nullable=False),
        sa.Column("auth_failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refresh_owner", sa.Text(), nullable=True),
        sa.Column("refresh_until", UtcTime(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("integration", "connection_id", name="_nango_connections_key"),
        sqlite_autoincrement=True,
    )
    op.add_column("_nango_schedules", sa.Column("not_before", UtcTime(), nullable=True))
