"""Calls of Dagster without a public name; without them failed partitions are not shown, and a run is slower."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from itertools import groupby

from dagster import AssetExecutionContext, AssetKey, AssetMaterialization, EventLogEntry, OpExecutionContext

from .. import clock

log = logging.getLogger(__name__)


def show_as_failed(
    context: OpExecutionContext | AssetExecutionContext, key: AssetKey, partition: str | None = None
) -> None:
    """Show an asset, or one partition of it, as failed in this run, which may be of another job.

    Dagster shows an asset as failed when a failed run had planned to materialize it and did not.
    """
    try:
        from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

        op_context = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
        planned = DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name, op_context.op_handle.name, AssetMaterializationPlannedData(key, partition=partition)
        )
        context.instance.report_dagster_event(planned, context.run.run_id)
    except Exception as error:  # another release of Dagster may differ
        log.debug("%s could not be shown as failed: %s", key.to_user_string(), error)


def materialized(
    context: OpExecutionContext | AssetExecutionContext, materializations: Sequence[AssetMaterialization]
) -> None:
    """Log materializations together where Dagster's storage can: in PostgreSQL a hundred cost as much as a few."""
    entries: list[EventLogEntry] = []
    try:
        from dagster._core.storage.event_log import EventLogStorage

        storage = context.instance.event_log_storage
        if type(storage).store_event_batch is not EventLogStorage.store_event_batch:
            entries = [_entry(context, materialization) for materialization in materializations]
    except Exception as error:  # another release of Dagster may differ
        log.debug("materializations are logged one by one: %s", error)
    if not entries:
        for materialization in materializations:
            context.log_event(materialization)
    # Of a batch, Dagster marks only the asset of the last entry as materialized.
    for _, of_asset in groupby(entries, lambda entry: entry.get_dagster_event().asset_key):
        storage.store_event_batch(list(of_asset))


def _entry(context: OpExecutionContext | AssetExecutionContext, materialization: AssetMaterialization) -> EventLogEntry:
    """The log entry that `log_event` writes for a materialization."""
    from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
    from dagster._core.execution.plan.handle import StepHandle

    op_context = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
    step = StepHandle(op_context.op_handle)
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name=context.run.job_name,
        step_handle=step,
        node_handle=op_context.op_handle,
        step_kind_value="COMPUTE",
        event_specific_data=StepMaterializationData(materialization),
        message="Materialized value.",
        pid=os.getpid(),
    )
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.DEBUG,
        user_message=event.message,
        run_id=context.run.run_id,
        timestamp=clock.now().timestamp(),
        step_key=step.to_key(),
        job_name=context.run.job_name,
        dagster_event=event,
    )
