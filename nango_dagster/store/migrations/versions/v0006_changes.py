"""An index for each kind of change, in the place of one for all; how far a dataset's payloads were removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_KINDS = {
    "added": "deleted_at IS NULL AND first_seen_at = last_modified_at",
    "updated": "deleted_at IS NULL AND first_seen_at <> last_modified_at",
}


def upgrade() -> None:
    op.add_column("_nango_datasets", sa.Column("pruned_until", sa.Text(), nullable=True))
    op.drop_index("_nango_raw_modified", "_nango_raw")
    for kind, those in _KINDS.items():
        op.create_index(
            f"_nango_raw_{kind}",
            "_nango_raw",
            ["dataset_id", "last_modified_at", "external_id"],
            postgresql_where=sa.text(those),
            sqlite_where=sa.text(those),
        )
