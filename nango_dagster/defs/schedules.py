"""Every sync's schedule: a tick asks for a run only where one is due and none is on its way."""

from __future__ import annotations

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultScheduleStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
)

from ..config import Sync
from ..errors import StoreUnavailable
from ..store import queue
from . import names
from .assets import run_tags
from .resource import NangoResource

ON_ITS_WAY = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING]


def build_schedule(sync: Sync) -> ScheduleDefinition:
    """The schedule of a sync, running from the start unless the config says otherwise."""

    def evaluate(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        nango: NangoResource = context.resources.nango
        try:
            reason = _nothing_to_do(context, nango, sync)
        except StoreUnavailable as down:
            return SkipReason(str(down))
        return SkipReason(reason) if reason else RunRequest(tags=dict(run_tags(sync)))

    return ScheduleDefinition(
        name=names.schedule_name(sync),
        job_name=names.job_name(sync),
        cron_schedule=sync.cron_schedule,
        execution_timezone=sync.cron_timezone,
        execution_fn=evaluate,
        required_resource_keys={names.RESOURCE},
        default_status=DefaultScheduleStatus.RUNNING if sync.auto_start else DefaultScheduleStatus.STOPPED,
        description=f"Runs the sync {sync.display_name} when it is due.",
    )


def _nothing_to_do(context: ScheduleEvaluationContext, nango: NangoResource, sync: Sync) -> str | None:
    """Why this tick asks for no run, or None when it does."""
    if run := on_their_way(context.instance).get(names.run_name(sync)):
        return f"run {run[:8]} is about to start."
    row = nango.row(sync)
    queue.reap(nango.database)
    if workers := queue.live_workers(nango.database, row.id):
        return f"{workers[0].name} is at it."
    slot = sync.latest_slot(context.scheduled_execution_time)
    if queue.count_due(nango.database, row.id, slot) == 0:
        if queue.schedules(nango.database, [row.id])[0].state == "PAUSED":
            return "it is paused."
        return f"not due; the next slot is {sync.next_slot(context.scheduled_execution_time):%Y-%m-%d %H:%M} UTC."
    return None


def on_their_way(instance: DagsterInstance) -> dict[str, str]:
    """The syncs that a run is about to start for, as run tags call them, with the run's id."""
    asked = instance.get_runs(RunsFilter(statuses=ON_ITS_WAY), limit=1000)
    return {name: run.run_id for run in asked for name in run.tags.get(names.RUN_TAG, "").split(",")}
