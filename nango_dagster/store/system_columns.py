"""The columns that every mapped table has, and names as SQL has them."""

from __future__ import annotations

from collections.abc import Sequence

from ..mapping import Column

SYSTEM_COLUMNS = (
    "_nango_sync_id",
    "_nango_model",
    "_nango_connection_id",
    "_nango_variant",
    "_nango_unique_key",
    "_nango_emitted_at",
    "_nango_deleted_at",
    "_nango_integration",
)
OWNER_COLUMNS = SYSTEM_COLUMNS[:4]
KEY_COLUMNS = SYSTEM_COLUMNS[:5]


def quote(name: str) -> str:
    """A name for SQL, whatever characters it has; a `%` in it is doubled where a statement has parameters.

    >>> quote("100%")
    '"100%"'
    """
    return '"' + name.replace('"', '""') + '"'


def quoted_names(columns: Sequence[Column]) -> str:
    """The system columns and these, for INSERT and COPY."""
    return ", ".join(map(quote, [*SYSTEM_COLUMNS, *(column.name for column in columns)]))
