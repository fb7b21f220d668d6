"""Every sync's schedule: a tick asks for a run only where one is due and none is on its way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import ceil

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultScheduleStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
)

from .. import clock
from ..config import Sync
from ..errors import StoreUnavailable
from ..store import Database, queue
from ..store.queue import Worker
from ..store.syncs import SyncRow
from . import names
from .assets import run_tags
from .resource import NangoResource

SETTLING = timedelta(seconds=20)
"""Between its start as Dagster calls it and its first claim a run opens the store; many seconds on a busy machine."""
ON_ITS_WAY = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING]


def build_schedule(sync: Sync) -> ScheduleDefinition:
    """The schedule of a sync, running from the start unless the config says otherwise."""

    def evaluate(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        nango: NangoResource = context.resources.nango
        try:
            wanted = _wanted(context, nango, sync)
        except StoreUnavailable as down:
            wanted = str(down)
        if isinstance(wanted, str):
            yield SkipReason(wanted)
            return
        for number in range(wanted):
            key = f"{names.run_name(sync)} {context.scheduled_execution_time.isoformat()} {number}"
            yield RunRequest(run_key=key if wanted > 1 else None, tags=dict(run_tags(sync)))

    return ScheduleDefinition(
        name=names.schedule_name(sync),
        job_name=names.job_name(sync),
        cron_schedule=sync.cron_schedule,
        execution_timezone=sync.cron_timezone,
        execution_fn=evaluate,
        required_resource_keys={names.RESOURCE},
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Runs the sync {sync.display_name} when it is due.",
    )


def _wanted(context: ScheduleEvaluationContext, nango: NangoResource, sync: Sync) -> int | str:
    """How many runs this tick asks for, or why none.

    As many as what is due and held by nobody needs, without those that are at it or about to start: a run goes on
    until nothing is due, so that more would find nothing to do.
    """
    starting = on_their_way(context.instance, nango.database).get(names.run_name(sync), [])
    if len(starting) >= sync.max_runs:
        return f"run {starting[0][:8]} is about to start."
    row = nango.row(sync)
    queue.reap(nango.database)
    at_it = queue.live_workers(nango.database, row.id, drains=True if sync.partitioned else None)
    due = queue.count_due(nango.database, row.id, sync.latest_slot(context.scheduled_execution_time))
    wanted = min(sync.max_runs, ceil(due / sync.connections_per_run)) - len(starting) - len(at_it)
    if wanted > 0:
        return wanted
    if at_it:
        return _at_it(nango, sync, at_it)
    if starting:
        return f"run {starting[0][:8]} is about to start."
    return _nothing_due(context, nango, row)


def _at_it(nango: NangoResource, sync: Sync, workers: Sequence[Worker]) -> str:
    if not sync.partitioned:
        return f"{workers[0].name} is at it."
    held = sum(queue.held_by(nango.database, worker) for worker in workers)
    return f"{' and '.join(worker.name for worker in workers)} drains what is due, {held:,} connections right now."


def _nothing_due(context: ScheduleEvaluationContext, nango: NangoResource, row: SyncRow) -> str:
    states = queue.count_states(nango.database, row.id)
    if not states:
        return f"integration {row.integration} has no connections yet: nango-dagster connections add."
    if set(states) == {"PAUSED"}:
        return "it is paused."
    return f"not due; the next slot is {row.sync.next_slot(context.scheduled_execution_time):%Y-%m-%d %H:%M} UTC."


def on_their_way(instance: DagsterInstance, database: Database, besides: str | None = None) -> dict[str, list[str]]:
    """The syncs that runs, `besides` one, are about to start for, as run tags call them, with the runs' ids."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in [*instance.get_runs(RunsFilter(statuses=ON_ITS_WAY), limit=1000), *_settling(instance, database)]:
        if run.run_id != besides and not _is_for_partitions(run):
            for name in run.tags.get(names.RUN_TAG, "").split(","):
                found[name].append(run.run_id)
    return found


def _settling(instance: DagsterInstance, database: Database) -> list[DagsterRun]:
    """The runs that Dagster has just called started, and that have not come round to their work."""
    lately = clock.now() - SETTLING
    found = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED], updated_after=lately), limit=100)
    ours = [run for run in found if names.RUN_TAG in run.tags]
    at_work = queue.runs_at_work(database) if ours else set()
    return [run for run in ours if run.run_id not in at_work]


def _is_for_partitions(run: DagsterRun) -> bool:
    """Whether somebody launched it for these partitions alone, and it leaves what is due to others."""
    return "dagster/partition" in run.tags or "dagster/asset_partition_range_start" in run.tags
