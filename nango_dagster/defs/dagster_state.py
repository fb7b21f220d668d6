"""Which schedules are stopped in Dagster, and the copy of that in the store."""

from __future__ import annotations

from collections.abc import Iterable

from dagster import DagsterInstance

from ..store import Database, syncs
from ..store.sync_row import SyncRow
from . import names


def stopped_schedules(instance: DagsterInstance) -> set[str]:
    """The names of the schedules that somebody stopped in Dagster; their syncs are executed only when triggered."""
    states = instance.all_instigator_state()
    return {state.name for state in states if state.instigator_type.value == "SCHEDULE" and not state.is_running}


def record_stopped(instance: DagsterInstance, database: Database, rows: Iterable[SyncRow]) -> None:
    """Copy into the store which of these syncs' schedules are stopped, for readers that do not ask Dagster.

    An instance without a storage of schedules, such as an ephemeral one, knows of none and changes nothing.
    """
    if instance.schedule_storage is None:
        return
    stopped_names = stopped_schedules(instance)
    syncs.set_stopped(database, {row.id: names.schedule_name(row.sync) in stopped_names for row in rows})
