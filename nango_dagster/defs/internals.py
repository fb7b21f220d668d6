"""The things that Dagster has no public name for; without them an asset does not turn red, and a run is slower."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from itertools import groupby

from dagster import AssetExecutionContext, AssetKey, AssetMaterialization, EventLogEntry, OpExecutionContext

log = logging.getLogger(__name__)


def show_as_failed(
    context: OpExecutionContext | AssetExecutionContext, key: AssetKey, partition: str | None = None
) -> None:
    """Have the asset, or a partition of it, shown as failed, for a run that is not of the asset's own job.

    An asset that a run planned to materialize, and did not before it failed, is one that failed in it.
    """
    try:
        from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

        op_context = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
        planned = DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name, op_context.op_handle.name, AssetMaterializationPlannedData(key, partition=partition)
        )
        context.instance.report_dagster_event(planned, context.run.run_id)
    except Exception as error:  # whatever another release of Dagster makes of it
        log.debug("%s could not be shown as failed: %s", key.to_user_string(), error)


def materialized(
    context: OpExecutionContext | AssetExecutionContext, materializations: Sequence[AssetMaterialization]
) -> None:
    """Log these together, where Dagster's storage has a way to do so: in PostgreSQL, a hundred cost what a few do."""
    entries: list[EventLogEntry] = []
    try:
        from dagster._core.storage.event_log import EventLogStorage

        storage = context.instance.event_log_storage
        if type(storage).store_event_batch is not EventLogStorage.store_event_batch:
            entries = [_entry(context, one) for one in materializations]
    except Exception as error:  # whatever another release of Dagster makes of it
        log.debug("materializations are logged one by one: %s", error)
    if not entries:
        for one in materializations:
            context.log_event(one)
    # Of those that are logged together it notes only the last one's asset as materialized.
    for _, of_asset in groupby(entries, lambda entry: entry.get_dagster_event().asset_key):
        storage.store_event_batch(list(of_asset))


def _entry(context: OpExecutionContext | AssetExecutionContext, materialization: AssetMaterialization) -> EventLogEntry:
    """What `log_event` writes of a materialization."""
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
        timestamp=time.time(),
        step_key=step.to_key(),
        job_name=context.run.job_name,
        dagster_event=event,
    )
