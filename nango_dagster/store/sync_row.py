"""A row of `_nango_syncs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..config import Sync

Origin = Literal["file", "http", "asset"]


@dataclass(frozen=True)
class SyncRow:
    """A stored sync; its jobs, records and tables refer to its id."""

    id: int
    name: str
    integration: str
    sync: Sync = field(repr=False)  # its headers may hold secrets
    origin: Origin
    created_at: datetime
    updated_at: datetime
    owner: str | None = None
    """The project of its file; None for a posted sync."""
    is_stopped: bool = False
    """Whether its schedule is stopped in Dagster, by the last report of Dagster's daemon."""

    @classmethod
    def of(cls, row: Any, sync: Sync) -> SyncRow:
        """The value of a row of `_nango_syncs`, whose config is `sync`."""
        return cls(
            id=row.id,
            name=row.name,
            integration=row.integration,
            sync=sync,
            origin=row.origin,
            created_at=row.created_at,
            updated_at=row.updated_at,
            owner=row.owner,
            is_stopped=bool(row.is_stopped),
        )
