"""The schedule of each sync: a tick requests a run only where the sync is due and no run for it is about to start."""

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
from ..errors import Refused, StoreUnavailable
from ..store import Database, queue, syncs
from ..store.queue import Worker
from ..store.sync_row import SyncRow
from . import names
from .assets import run_tags
from .placements import Placement
from .resource import NangoResource

SETTLING = timedelta(seconds=20)
"""How long a run may take to open the store, between its start in Dagster and its first claim, on a busy machine."""
LAUNCH = timedelta(minutes=2)
"""How long a launched run may take to start before another run takes its work: its process may be dead."""


def build_schedule(placement: Placement) -> ScheduleDefinition:
    """The schedule of a sync, with the default status of its options."""
    sync = placement.sync

    def evaluate(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        nango: NangoResource = context.resources.nango
        try:
            runs = _missing_runs(context, nango, sync)
        except (StoreUnavailable, Refused) as error:
            runs = str(error)
        if isinstance(runs, str):
            yield SkipReason(runs)
            return
        for number in range(runs):
            key = f"{names.run_name(sync)} {context.scheduled_execution_time.isoformat()} {number}"
            yield RunRequest(run_key=key if runs > 1 else None, tags=dict(run_tags(sync)))

    return ScheduleDefinition(
        name=placement.schedule_name,
        job_name=placement.job_name,
        cron_schedule=sync.cron_schedule,
        execution_timezone=sync.cron_timezone,
        execution_fn=evaluate,
        required_resource_keys={names.RESOURCE},
        default_status=DefaultScheduleStatus[placement.options.default_status.upper()],
        description=f"Runs the sync {sync.display_name} when it is due.",
    )


def _missing_runs(context: ScheduleEvaluationContext, nango: NangoResource, sync: Sync) -> int | str:
    """How many runs this tick requests, or why none.

    It is the number of runs that the due schedules need, less those that work or are about to start: a run goes on
    until nothing is due, so that more runs would find nothing to do.
    """
    starting = on_their_way(context.instance, nango.database).get(names.run_name(sync), [])
    if len(starting) >= sync.max_runs:
        return f"run {starting[0][:8]} is about to start."
    row = nango.row(sync)
    queue.reap(nango.database)
    syncs.set_stopped(nango.database, {row.id: False})  # a schedule that ticks is not stopped
    workers = queue.live_workers(nango.database, row.id, drains=True if sync.partitioned else None)
    due = queue.count_due(nango.database, row.id, sync.latest_slot(context.scheduled_execution_time))
    missing = min(sync.max_runs, ceil(due / sync.connections_per_run)) - len(starting) - len(workers)
    if missing > 0:
        return missing
    if workers:
        return _working(nango, sync, workers)
    if starting:
        return f"run {starting[0][:8]} is about to start."
    return _nothing_due(context, nango, row)


def _working(nango: NangoResource, sync: Sync, workers: Sequence[Worker]) -> str:
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
    """The runs that are about to start, `besides` one: for each sync, as run tags name it, their ids."""
    run_ids: dict[str, list[str]] = defaultdict(list)
    for run in [*starting_runs(instance), *_settling(instance, database)]:
        if run.run_id != besides and not _is_for_partitions(run):
            for name in run.tags.get(names.RUN_TAG, "").split(","):
                run_ids[name].append(run.run_id)
    return run_ids


def starting_runs(instance: DagsterInstance) -> list[DagsterRun]:
    """The runs in Dagster's queue, and those that were launched lately and have not started."""
    queued = RunsFilter(statuses=[DagsterRunStatus.QUEUED])
    launched = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING]
    lately = RunsFilter(statuses=launched, updated_after=clock.now() - LAUNCH)
    return [*instance.get_runs(queued, limit=1000), *instance.get_runs(lately, limit=1000)]


def _settling(instance: DagsterInstance, database: Database) -> list[DagsterRun]:
    """The runs that have just started in Dagster and have no worker yet."""
    lately = clock.now() - SETTLING
    started = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED], updated_after=lately), limit=100)
    ours = [run for run in started if names.RUN_TAG in run.tags]
    working = queue.runs_at_work(database) if ours else set()
    return [run for run in ours if run.run_id not in working]


def _is_for_partitions(run: DagsterRun) -> bool:
    """Whether it was launched for named partitions, so that it does not take other schedules that are due."""
    return "dagster/partition" in run.tags or "dagster/asset_partition_range_start" in run.tags
