"""A number of its own for a SQLite database, so that what was asked of another is not done here."""

from __future__ import annotations

import secrets

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"PRAGMA application_id = {1 + secrets.randbelow(2**31 - 1)}")
