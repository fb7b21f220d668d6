"""The dispatcher: one run for whatever cannot wait for a schedule's tick.

That is a sync's first run, a trigger, and what a dead run left behind; also posted syncs that no reload has given
an asset of their own yet.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from dagster import (
    AssetMaterialization,
    DagsterRunStatus,
    DefaultSensorStatus,
    Failure,
    JobDefinition,
    OpExecutionContext,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    in_process_executor,
    job,
    op,
    sensor,
)

from .. import runs
from ..errors import NangoError, Refused, StoreUnavailable
from ..store import queue, syncs
from ..store.syncs import SyncRow
from . import metadata, names
from .resource import NangoResource

JOB = "nango_dispatch"
SENSOR = "nango_dispatcher"
SECONDS = 5  # the daemon's sensor loop is no faster
AT_ONCE = 4
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]


def waiting(nango: NangoResource) -> list[SyncRow]:
    """The syncs that should run now, without waiting for a slot."""
    queue.reap(nango.database)
    asked = {schedule.sync_id for schedule in queue.schedules(nango.database) if _cannot_wait(schedule)}
    return [row for row in syncs.all(nango.database) if row.id in asked and row.sync.enabled] if asked else []


def _cannot_wait(schedule: queue.Schedule) -> bool:
    if schedule.worker_id is not None:
        return False
    first = schedule.last_started_at is None or schedule.losses == 1
    return schedule.triggered_at is not None or (first and schedule.state == "STARTED")


def build_sensor() -> SensorDefinition:
    """The sensor that asks for a dispatch run where something waits and none is at it."""

    @sensor(
        name=SENSOR,
        job_name=JOB,
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        required_resource_keys={names.RESOURCE},
        description="Runs what cannot wait for a schedule: first runs, triggers, what a dead run left behind.",
    )
    def dispatcher(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        nango: NangoResource = context.resources.nango
        if runs_now := context.instance.get_runs(RunsFilter(job_name=JOB, statuses=_UNFINISHED), limit=1):
            return SkipReason(f"run {runs_now[0].run_id[:8]} is at it.")
        try:
            rows = waiting(nango)
        except StoreUnavailable as down:
            return SkipReason(str(down))
        if not rows:
            return SkipReason("nothing waits.")
        return RunRequest(tags={names.run_tag(row.sync): "true" for row in rows})

    return dispatcher


def build_dispatch_job() -> JobDefinition:
    """The job that runs every waiting sync, some side by side, in one process."""

    @op(name="dispatch", required_resource_keys={names.RESOURCE})
    def dispatch(context: OpExecutionContext) -> None:
        nango: NangoResource = context.resources.nango
        failed = []
        for row, result in _outcomes(nango, waiting(nango), context.run_id):
            try:
                outcome = result.result()
            except Refused as held:
                context.log.info(str(held))
                continue
            except NangoError as error:
                failed.append(str(error))
                continue
            if outcome.status == "succeeded":
                found = metadata.of_outcome(outcome, nango.database, names.source_key(row.sync))
                context.log_event(AssetMaterialization(names.asset_key(row.sync), metadata=dict(found)))
            else:
                failed.append(outcome.error or f"{row.sync.display_name}: {outcome.status}.")
        if failed:
            raise Failure("\n".join(failed), allow_retries=False)

    @job(
        name=JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description="Runs the syncs that wait: first runs, triggers, what a dead run left behind.",
    )
    def nango_dispatch() -> None:
        dispatch()

    return nango_dispatch


def _outcomes(nango: NangoResource, rows: list[SyncRow], run_id: str) -> Iterator[tuple[SyncRow, Future[runs.Outcome]]]:
    """What came of each, in the order they end."""

    def execute(row: SyncRow) -> runs.Outcome:
        with runs.claimed(nango.database, nango.settings, row, run_id=run_id) as pull:
            return pull.save()

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nango-dispatch") as pool:
        started = {pool.submit(execute, row): row for row in rows}
        for ended in as_completed(started):
            yield started[ended], ended
