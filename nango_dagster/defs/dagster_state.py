"""Which schedules are stopped in Dagster, and the copy of that in the store."""

from __future__ import annotations

from collections.abc import Iterable

from dagster import DagsterInstance

from ..store import syncs
from ..store.sync_row import SyncRow
from .resource import NangoResource


def schedule_states(instance: DagsterInstance) -> dict[str, bool]:
    """Whether each schedule runs that was ever started or stopped in Dagster, or has ticked."""
    states = instance.all_instigator_state()
    return {state.name: state.is_running for state in states if state.instigator_type.value == "SCHEDULE"}


def record_stopped(instance: DagsterInstance, nango: NangoResource, rows: Iterable[SyncRow]) -> None:
    """Copy into the store which of these syncs' schedules are stopped, for readers that do not ask Dagster.

    The syncs of stopped schedules are executed only when triggered.

    An instance without a storage of schedules, such as an ephemeral one, knows of none and changes nothing.
    """
    if instance.schedule_storage is None:
        return
    states = schedule_states(instance)
    stopped: dict[int, bool] = {}
    for row in rows:
        placement = nango.placement(row.sync)
        stopped[row.id] = not states.get(placement.schedule_name, placement.options.default_status == "running")
    syncs.set_stopped(nango.database, stopped)
