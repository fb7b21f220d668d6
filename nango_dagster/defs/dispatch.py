"""The dispatcher: one run for every sync that cannot wait for a tick of its own schedule.

It runs first runs, triggers, executions that a dead run left behind, schedules with their own frequency, intervals
shorter than a tick, and posted syncs that no reload has given a Dagster schedule yet.
"""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from dagster import (
    AssetCheckEvaluation,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    JobDefinition,
    OpExecutionContext,
    RunRecord,
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

from .. import clock, runs
from ..config.schedule import ShortInterval
from ..errors import StoreUnavailable
from ..store import ownership, queue, syncs
from ..store.queue import LEASE_SECONDS
from ..store.sync_row import SyncRow
from . import checks, logs, names
from .dagster_state import record_stopped
from .interrupts import Interrupts
from .io_manager import log
from .partitions import PartitionRefresher
from .resource import NangoResource
from .results import POLL_SECONDS, Results
from .schedules import on_their_way, starting_runs

OP = "nango_dispatch_waiting"
INTERVAL_SECONDS = 5  # the daemon's sensor loop is no faster
AT_ONCE = 8  # syncs side by side in one run
MOST_RUNS = 3  # dispatch runs at a time
PATIENCE = timedelta(seconds=60)  # how long a sync waits for a busy dispatch run before another one is requested
OVERDUE = timedelta(minutes=10)  # how long a sync's own schedule may take to start it
LONGEST_SECONDS = 24 * 60 * 60.0  # after this time a dispatch run begins nothing more, and the next one goes on


@dataclass(frozen=True)
class Waiting:
    """A sync that should run now, and since when it waits."""

    row: SyncRow
    since: datetime
    triggered: bool
    """Whether somebody triggered it, rather than its own time having come."""

    def slot(self) -> datetime:
        """The sync's latest slot."""
        return self.row.sync.latest_slot(clock.now())


class Dispatcher:
    """Finds the syncs that wait although they may have schedules of their own in this code location."""

    def __init__(self) -> None:
        self._partitions = PartitionRefresher()

    def rows(self, nango: NangoResource) -> list[SyncRow]:
        """The enabled syncs that are loaded here or were posted; no sync whose file is gone, no user's own asset."""
        nango.register()
        return [
            row
            for row in syncs.all(nango.database)
            if row.sync.enabled and (nango.loaded(row) or row.origin == "http")
            if not ownership.is_foreign(nango.database, row) or row.sync == nango.loaded(row)
        ]

    def refresh_partitions(self, nango: NangoResource, instance: DagsterInstance) -> None:
        """Add the partition keys of new connections and variants to Dagster, and remove those of deleted ones."""
        self._partitions.refresh(instance, nango.database, self.rows(nango))

    def waiting(self, nango: NangoResource, instance: DagsterInstance, run_id: str | None = None) -> list[Waiting]:
        """The syncs that should run now, triggered ones first; `run_id` is the run that asks, if it is one."""
        rows = self.rows(nango)
        queue.reap(nango.database)
        record_stopped(instance, nango, rows)
        reasons = queue.waiting(nango.database)
        if not any(row.id in reasons for row in rows):
            return []
        starting = on_their_way(instance, nango.database, run_id)
        drained = queue.drained(nango.database)
        waiting = [
            Waiting(row, since, triggered=reasons[row.id].triggered is not None)
            for row in rows
            if row.id in reasons
            if not (row.sync.partitioned and row.id in drained)  # the run that drains it takes the rest, too
            if reasons[row.id].triggered or names.run_name(row.sync) not in starting
            if reasons[row.id].since(_overdue_slot(nango, row)) is not None
            if (since := reasons[row.id].since(row.sync.latest_slot(clock.now()))) is not None
        ]
        return sorted(waiting, key=lambda sync: (not sync.triggered, sync.since))


def _overdue_slot(nango: NangoResource, row: SyncRow) -> datetime:
    """The latest slot that the sync's own schedule, if it has one, has had enough time to start a run for."""
    has_schedule = nango.loaded(row) and not isinstance(row.sync.schedule, ShortInterval)
    return row.sync.latest_slot(clock.now() - (OVERDUE if has_schedule else timedelta(0)))


# --- the sensor -------------------------------------------------------------------------------------------------------


def build_sensor(dispatcher: Dispatcher, status: DefaultSensorStatus) -> SensorDefinition:
    """The sensor that requests a dispatch run when a sync waits that no run takes."""

    @sensor(
        name=names.DISPATCHER,
        job_name=names.DISPATCH_JOB,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=status,
        required_resource_keys={names.RESOURCE},
        description="Starts a run for syncs that cannot wait for a schedule: first runs, triggers, lost executions.",
    )
    def evaluate(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        nango: NangoResource = context.resources.nango
        try:
            _report_dead_runs(context.instance, nango)
            dispatcher.refresh_partitions(nango, context.instance)
            waiting = dispatcher.waiting(nango, context.instance)
        except StoreUnavailable as down:
            return SkipReason(str(down))
        if not waiting:
            return SkipReason("nothing waits.")
        if busy := _busy(context.instance, waiting):
            return SkipReason(busy)
        return RunRequest(tags=names.run_tag(sync.row.sync for sync in waiting[:AT_ONCE]))

    return evaluate


def _busy(instance: DagsterInstance, waiting: Sequence[Waiting]) -> str | None:
    """Why no further dispatch run is needed now."""
    starting = [run for run in starting_runs(instance) if run.job_name == names.DISPATCH_JOB]
    if starting:
        return f"run {starting[0].run_id[:8]} is about to start."
    at_work = RunsFilter(job_name=names.DISPATCH_JOB, statuses=[DagsterRunStatus.STARTED])
    dispatch_runs = instance.get_runs(at_work, limit=MOST_RUNS)
    longest = clock.now() - min(sync.since for sync in waiting)
    if dispatch_runs and (len(dispatch_runs) == MOST_RUNS or longest < PATIENCE):
        return f"run {dispatch_runs[0].run_id[:8]} is at it."
    return None


def _report_dead_runs(instance: DagsterInstance, nango: NangoResource) -> None:
    """Report our runs that died with their machine as failed: Dagster would show them as started for ever."""
    for run in [*_silent(instance, nango), *_never_begun(instance)]:
        if names.RUN_TAG in run.tags:
            instance.report_run_failed(run, "The run's process is gone: nothing was heard of it for minutes.")


def _silent(instance: DagsterInstance, nango: NangoResource) -> list[DagsterRun]:
    """The runs that started long ago, have no worker, and have logged nothing lately."""
    long_ago = clock.now() - timedelta(seconds=2 * LEASE_SECONDS)
    records = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=100)
    started = [record.dagster_run for record in records if _started(record) < long_ago]
    working = queue.runs_at_work(nango.database) if started else set()
    return [run for run in started if run.run_id not in working and not _has_logged(instance, run)]


def _has_logged(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the run has logged something lately; its last claim is free some time before it ends."""
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return any(record.timestamp > clock.now().timestamp() - LEASE_SECONDS for record in last)


def _never_begun(instance: DagsterInstance) -> list[DagsterRun]:
    """The runs that were launched long ago and have not started; runs in Dagster's own queue may wait."""
    launched = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING]
    records = instance.get_run_records(RunsFilter(statuses=launched), limit=100)
    return [record.dagster_run for record in records if _utc(record.update_timestamp) < clock.now() - OVERDUE]


def _started(record: RunRecord) -> datetime:
    at = record.start_time
    return _utc(record.create_timestamp) if at is None else datetime.fromtimestamp(at, timezone.utc)


def _utc(at: datetime) -> datetime:
    """A time of Dagster's storage, which may lack its zone."""
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


# --- the job ----------------------------------------------------------------------------------------------------------


def build_dispatch_job(dispatcher: Dispatcher) -> JobDefinition:
    """The job that runs every waiting sync, some side by side, in one process."""

    @op(name=OP, required_resource_keys={names.RESOURCE, names.IO_MANAGER}, out={})
    def dispatch(context: OpExecutionContext) -> Iterator[AssetCheckEvaluation]:
        nango: NangoResource = context.resources.nango
        with logs.into(context.log):
            results = Results(context, nango)
            with (
                runs.Drain(
                    nango.database,
                    nango.settings,
                    run_id=context.run_id,
                    save=context.resources.nango_io_manager.run,
                    until=clock.monotonic() + LONGEST_SECONDS,
                ) as drain,
                Interrupts(drain.stop),
            ):
                _drain_all(drain, results, lambda: dispatcher.waiting(nango, context.instance, context.run_id))
            for key, result in results.finish():
                yield checks.evaluation(result, key)
            results.raise_failure()

    @job(
        name=names.DISPATCH_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description="Runs the syncs that wait: first runs, triggers, lost executions.",
    )
    def nango_dispatch() -> None:
        dispatch()

    return nango_dispatch


def _look_up(waiting: Callable[[], list[Waiting]], drain: runs.Drain) -> list[Waiting]:
    """The syncs that wait; none while the database is away and executions are running, which may outlive that."""
    try:
        return waiting()
    except StoreUnavailable as error:
        if not drain.at_work:
            raise
        log.warning("The other syncs that are due are not known: %s", error)
        return []


def _drain_all(drain: runs.Drain, results: Results, waiting: Callable[[], list[Waiting]]) -> None:
    """Drain the syncs that wait, and those that begin to wait meanwhile, until none waits any more."""
    begun: dict[int, datetime] = {}  # since when each sync had waited when it was begun
    looked_at = 0.0
    while True:
        if not drain.at_work or clock.monotonic() - looked_at >= POLL_SECONDS:
            looked_at = clock.monotonic()
            at_work = {row.id for row in drain.at_work}
            syncs_waiting = [] if drain.is_stopped() else _look_up(waiting, drain)
            # A sync that was begun here and has waited since before that waits for another run.
            new = [sync for sync in syncs_waiting if sync.row.id not in begun or sync.since > begun[sync.row.id]]
            for sync in [sync for sync in new if sync.row.id not in at_work][: AT_ONCE - len(at_work)]:
                begun[sync.row.id] = sync.since
                drain.add(sync.row, sync.slot)
        if drain.is_over:
            return
        results.step(drain)
