"""Create and delete variants of syncs."""

from __future__ import annotations

from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..partition_keys import BASE
from ..sentences import number_of, suggestion
from ..store import Database, connections, status
from ..store.status import Status
from ..store.sync_row import SyncRow
from .report import SOON, Report
from .selection import check_runs_for

MOST_VARIANTS = 100
"""The most variants of a sync for one connection, the base among them; Nango has the same limit."""


class VariantExists(Refused):
    """A variant that is to be created exists."""


class TooManyVariants(Refused):
    """A sync has as many variants for a connection as it may have."""


def create(db: Database, row: SyncRow, connection_id: str, variant: str) -> Report:
    """Create a variant of a sync for a connection; it is due at once if the sync has `auto_start`.

    Raises VariantExists, TooManyVariants, Refused when the sync has no connections, and ConfigError when it does not
    run for this one.
    """
    if not row.sync.partitioned:
        raise Refused(f"{row.name} has no connections, for it names no integration; so it has no variants either.")
    check_runs_for(db, row, connection_id)
    exists = VariantExists(f"{row.name} has the variant {quoted(variant)} for {connection_id} already.")
    variants = [state.variant for state in status.read(db, [row], connection_id)]
    if variant in variants:
        raise exists
    if len(variants) >= MOST_VARIANTS:
        raise TooManyVariants(
            f"{row.name} has {len(variants)} variants for {connection_id}, the most there may be; delete one first."
        )
    if not connections.add_variant(db, row.id, connection_id, variant):
        raise exists
    document = {"sync": row.name, "connection_id": connection_id, "variant": variant, "created": True}
    next_step = (
        f"It runs {SOON}."
        if get(db, row, connection_id, variant).started == "STARTED"
        else "It is paused, as new schedules of this sync are (auto_start)."
    )
    return Report(f"Added the variant {variant} of {row.name} for {connection_id}.", next_step, document)


def get(db: Database, row: SyncRow, connection_id: str, variant: str) -> Status:
    """Return the state of a variant that exists. Raises ConfigError with the existing ones when it does not."""
    states = status.read(db, [row], connection_id)
    for state in states:
        if state.variant == variant:
            return state
    check_runs_for(db, row, connection_id)
    others = [state.variant for state in states if state.variant != BASE]
    problem = f"{row.name} has no variant {quoted(variant)} for {connection_id}"
    raise ConfigError(f"{problem}; {suggestion(variant, others)}")


def delete(db: Database, row: SyncRow, connection_id: str, variant: str) -> Report:
    """Delete a variant with its records and jobs.

    Raises ConfigError when there is none, and Refused for the base, which is deleted with its connection.
    """
    records = sum(state.live_count for state in status.read(db, [row], connection_id, variant))
    if not connections.remove_variant(db, row.id, connection_id, variant):
        get(db, row, connection_id, variant)
    document = {
        "sync": row.name,
        "connection_id": connection_id,
        "variant": variant,
        "removed": True,
        "records": records,
    }
    sentence = (
        f"Deleted the variant {variant} of {row.name} for {connection_id} with its {number_of(records, 'record')}."
    )
    return Report(sentence, "", document)
