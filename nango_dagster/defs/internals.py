"""The one thing that Dagster has no public name for; without it an asset merely does not turn red."""

from __future__ import annotations

import logging

from dagster import AssetExecutionContext, AssetKey, OpExecutionContext

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
