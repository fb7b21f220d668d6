"""Which schedules somebody has stopped in Dagster."""

from __future__ import annotations

from dagster import DagsterInstance


def stopped_schedules(instance: DagsterInstance) -> set[str]:
    """Their names; the syncs behind them are executed only when somebody asks."""
    states = instance.all_instigator_state()
    return {state.name for state in states if state.instigator_type.value == "SCHEDULE" and not state.is_running}
