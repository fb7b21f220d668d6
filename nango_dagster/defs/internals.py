"""Calls of Dagster without a public name.

Without them failed partitions are not shown, a run is slower, and deleted runs leave files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    EventLogEntry,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    SensorDefinition,
)

from .. import clock

log = logging.getLogger(__name__)


T = TypeVar("T", bound=JobDefinition | ScheduleDefinition | SensorDefinition)


def shared(definition: T) -> T:
    """Keep a definition one object when Dagster adds metadata to the definitions of a component.

    Dagster would make a copy for each component, and refuse several definitions of one name.
    """
    method = "with_metadata" if isinstance(definition, JobDefinition) else "with_attributes"
    setattr(definition, method, lambda *_, **__: definition)
    return definition


def show_as_failed(
    context: OpExecutionContext | AssetExecutionContext,
    key: AssetKey,
    partition: str | None = None,
    run_id: str | None = None,
) -> None:
    """Show an asset, or one partition of it, as failed in this run or in the run of this id.

    Dagster shows an asset as failed when a failed run had planned to materialize it and did not.
    """
    try:
        from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

        op_context = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
        planned = DagsterEvent.build_asset_materialization_planned_event(
            context.run.job_name, op_context.op_handle.name, AssetMaterializationPlannedData(key, partition=partition)
        )
        context.instance.report_dagster_event(planned, run_id or context.run.run_id)
    except Exception as error:  # another release of Dagster may differ
        log.debug("%s could not be shown as failed: %s", key.to_user_string(), error)


def add_failed_run(
    context: OpExecutionContext | AssetExecutionContext, sentences: Sequence[str], tags: Mapping[str, str]
) -> str | None:
    """Add the record of a failed run for partitions that failed in a run that succeeds; returns its id.

    Dagster has no other way to show single partitions as failed. Only the record says so: no event of a failed run is
    written, so that no failure sensor, alert or retry acts on it. Its log has the sentences.
    """
    try:
        from dagster._core.events import DagsterEvent, DagsterEventType
        from dagster._core.storage.dagster_run import DagsterRun
        from dagster._core.utils import make_new_run_id

        instance, of = context.instance, context.run
        run = DagsterRun(
            job_name=of.job_name,
            run_id=make_new_run_id(),
            status=DagsterRunStatus.FAILURE,
            tags=dict(tags),
            job_snapshot_id=of.job_snapshot_id,
            execution_plan_snapshot_id=of.execution_plan_snapshot_id,
            remote_job_origin=of.remote_job_origin,
            job_code_origin=of.job_code_origin,
        )
        instance.add_run(run)
        event = DagsterEvent(event_type_value=DagsterEventType.RUN_FAILURE.value, job_name=of.job_name)
        instance.run_storage.handle_run_event(run.run_id, event, clock.now())  # the time of its end
        for sentence in sentences:
            instance.report_engine_event(sentence, run)
        return run.run_id
    except Exception as error:  # another release of Dagster may differ
        log.debug("no failed run could be added: %s", error)
        return None


def delete_files(instance: DagsterInstance, run_id: str) -> None:
    """Delete what a deleted run leaves in DAGSTER_HOME: an SQLite database of its own, and the output of its steps.

    Dagster deletes only the rows in that database, and no other run uses its file. Output in a cloud's storage stays;
    such storage has its own rules for old files.
    """
    try:
        from dagster._core.storage.event_log import SqliteEventLogStorage
        from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

        storage, outputs = instance.event_log_storage, instance.compute_log_manager
        if isinstance(storage, SqliteEventLogStorage):
            database = storage.path_for_shard(run_id)
            storage._initialized_dbs.discard(run_id)  # so that a late reader gets no error
            for file in (database, f"{database}-wal", f"{database}-shm"):
                Path(file).unlink(missing_ok=True)
        if isinstance(outputs, LocalComputeLogManager):
            outputs.delete_logs(prefix=[run_id])
    except Exception as error:  # another release of Dagster may differ
        log.warning("the files of the deleted run %s stay: %s", run_id, error)


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
