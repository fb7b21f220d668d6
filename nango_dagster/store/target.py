"""The target of an execution: one sync for one connection and variant."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_


class Target(NamedTuple):
    """The sync, connection and variant of a schedule, dataset or job.

    It sorts and compares as the tuple of its three names, so that locks are taken in one order.

    >>> Target(1, "acme", "base")
    Target(sync_id=1, connection_id='acme', variant='base')
    """

    sync_id: int
    connection_id: str
    variant: str

    @classmethod
    def of(cls, row: Any) -> Target:
        """The target of a row or value with these three attributes."""
        return cls(row.sync_id, row.connection_id, row.variant)

    @property
    def lock_names(self) -> tuple[str | int, ...]:
        """The names of the lock on the target's dataset, for `Database.lock`."""
        return ("dataset", *self)

    def condition(self, columns: Any) -> ColumnElement[bool]:
        """The SQL condition that a row of a table with these columns belongs to the target."""
        return and_(
            columns.sync_id == self.sync_id,
            columns.connection_id == self.connection_id,
            columns.variant == self.variant,
        )
