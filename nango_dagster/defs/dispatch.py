"""The dispatcher: one run for whatever cannot wait for a schedule's tick.

That is a sync's first run, a trigger, what a dead run left behind, and a posted sync that no reload has given a
schedule of its own yet.
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
from ..config import Sync
from ..errors import StoreUnavailable
from ..store import queue, syncs
from ..store.queue import LEASE_SECONDS
from ..store.syncs import SyncRow
from . import checks, logs, names
from .dagster_state import stopped_schedules
from .interrupts import Interrupts
from .io_manager import log
from .partitions import Keeper
from .resource import NangoResource
from .results import LOOK_SECONDS, Results
from .schedules import ON_ITS_WAY, on_their_way

OP = "nango_dispatch_waiting"
INTERVAL_SECONDS = 5  # the daemon's sensor loop is no faster
AT_ONCE = 8  # syncs side by side in one run
MOST_RUNS = 3  # dispatch runs at a time, where one alone does not get round to all that waits
PATIENCE = timedelta(seconds=60)  # so long something waits for a run that is busy
OVERDUE = timedelta(minutes=10)  # so long a sync's own schedule may take to get it started
LONGEST_SECONDS = 24 * 60 * 60.0  # after this long a dispatch run begins nothing more, and the next goes on


@dataclass(frozen=True)
class Waiting:
    """A sync that should run now, its latest slot, and since when it waits."""

    row: SyncRow
    slot: Callable[[], datetime | None]
    since: datetime
    asked: bool
    """Whether somebody triggered it, rather than its own time having come."""


class Dispatcher:
    """Knows the syncs that have schedules of their own here, and finds what waits in spite of them."""

    def __init__(self, loaded: Sequence[Sync]) -> None:
        self._loaded = {(sync.integration_key, sync.name): sync for sync in loaded}
        self._partitions = Keeper()

    def rows(self, nango: NangoResource) -> list[SyncRow]:
        """The syncs that are configured now, or were posted; not those whose file is gone, nor somebody's own asset."""
        nango.register(self._loaded.values())
        return [
            row
            for row in syncs.all(nango.database)
            if row.sync.enabled and (self._is_loaded(row) or row.origin == "http")
        ]

    def refresh_partitions(self, nango: NangoResource, instance: DagsterInstance) -> None:
        """Give Dagster the keys of connections and variants that are new, and take those of others away."""
        self._partitions.refresh(instance, nango.database, self.rows(nango))

    def waiting(self, nango: NangoResource, instance: DagsterInstance, run_id: str | None = None) -> list[Waiting]:
        """The syncs that should run now, those that were asked for first; `run_id` is the run that asks."""
        rows = self.rows(nango)
        queue.reap(nango.database)
        waiting = queue.waiting(nango.database)
        maybe = [row for row in rows if row.id in waiting]
        if not maybe:
            return []
        stopped, starting = stopped_schedules(instance), on_their_way(instance, nango.database, run_id)
        drained = queue.drained(nango.database)
        found = [
            self._waiting(row, waiting[row.id], is_stopped=names.schedule_name(row.sync) in stopped)
            for row in maybe
            if not (row.sync.partitioned and row.id in drained)  # whoever is at it takes the rest, too
            if waiting[row.id].asked or names.run_name(row.sync) not in starting
        ]
        return sorted(filter(None, found), key=lambda one: (not one.asked, one.since))

    def _waiting(self, row: SyncRow, found: queue.Waiting, *, is_stopped: bool) -> Waiting | None:
        since = found.asked if is_stopped else self._since(row, found)
        if since is None:
            return None
        slot = (lambda: None) if is_stopped else (lambda: row.sync.latest_slot(_now()))
        return Waiting(row, slot, since, asked=found.asked is not None)

    def _is_loaded(self, row: SyncRow) -> bool:
        return (row.integration, row.name) in self._loaded

    def _since(self, row: SyncRow, waiting: queue.Waiting) -> datetime | None:
        """Since when something of a sync waits that its own schedule does not run, or has not."""
        moments = [waiting.asked, waiting.new, waiting.lost, waiting.own]
        # Its own schedule runs it, if it has one; but the run may have died before it began.
        patience = OVERDUE if self._is_loaded(row) else timedelta(0)
        if waiting.begun is not None and waiting.begun < row.sync.latest_slot(_now() - patience):
            moments.append(waiting.begun)
        return min((moment for moment in moments if moment is not None), default=None)


def _now() -> datetime:
    return clock.now()


# --- the sensor -------------------------------------------------------------------------------------------------------


def build_sensor(dispatcher: Dispatcher) -> SensorDefinition:
    """The sensor that asks for a dispatch run where something waits that none gets round to."""

    @sensor(
        name=names.DISPATCHER,
        job_name=names.DISPATCH_JOB,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        required_resource_keys={names.RESOURCE},
        description="Runs what cannot wait for a schedule: first runs, triggers, what a dead run left behind.",
    )
    def look(context: SensorEvaluationContext) -> RunRequest | SkipReason:
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
        return RunRequest(tags=names.run_tag(one.row.sync for one in waiting[:AT_ONCE]))

    return look


def _busy(instance: DagsterInstance, waiting: Sequence[Waiting]) -> str | None:
    """Why no further dispatch run is needed now."""
    of_ours = RunsFilter(job_name=names.DISPATCH_JOB, statuses=[*ON_ITS_WAY, DagsterRunStatus.STARTED])
    found = instance.get_runs(of_ours, limit=MOST_RUNS)
    if not found:
        return None
    if any(run.status in ON_ITS_WAY for run in found):
        return f"run {found[0].run_id[:8]} is about to start."
    longest = clock.now() - min(one.since for one in waiting)
    if len(found) == MOST_RUNS or longest < PATIENCE:
        return f"run {found[0].run_id[:8]} is at it."
    return None


def _report_dead_runs(instance: DagsterInstance, nango: NangoResource) -> None:
    """Tell Dagster of runs of ours that are at nothing any more: it keeps those that died with their machine."""
    dead = [*_silent(instance, nango), *_never_begun(instance)]
    for run in dead:
        if names.RUN_TAG in run.tags:
            instance.report_run_failed(run, "The run's process is gone: nothing was heard of it for minutes.")


def _silent(instance: DagsterInstance, nango: NangoResource) -> list[DagsterRun]:
    """The runs that have started long ago, have no worker, and are not about to end: Dagster heard of them lately."""
    long_ago = clock.now() - timedelta(seconds=2 * LEASE_SECONDS)
    records = instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=100)
    found = [record.dagster_run for record in records if _started(record) < long_ago]
    at_work = queue.runs_at_work(nango.database) if found else set()
    return [run for run in found if run.run_id not in at_work and not _was_heard_of(instance, run)]


def _was_heard_of(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether it has logged something lately; a run's last claim is free some time before it ends."""
    last = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return any(one.timestamp > _now().timestamp() - LEASE_SECONDS for one in last)


def _never_begun(instance: DagsterInstance) -> list[DagsterRun]:
    """The runs that were launched long ago and have not begun; those in Dagster's own queue may wait."""
    launched = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING]
    records = instance.get_run_records(RunsFilter(statuses=launched), limit=100)
    return [record.dagster_run for record in records if _utc(record.update_timestamp) < _now() - OVERDUE]


def _started(record: RunRecord) -> datetime:
    at = record.start_time
    return _utc(record.create_timestamp) if at is None else datetime.fromtimestamp(at, timezone.utc)


def _utc(at: datetime) -> datetime:
    """A time as Dagster's storage gives it."""
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
            results.complain()

    @job(
        name=names.DISPATCH_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description="Runs the syncs that wait: first runs, triggers, what a dead run left behind.",
    )
    def nango_dispatch() -> None:
        dispatch()

    return nango_dispatch


def _looked(waiting: Callable[[], list[Waiting]], drain: runs.Drain) -> list[Waiting]:
    """What waits; while something is being executed, a database that does not answer is only asked again later."""
    try:
        return waiting()
    except StoreUnavailable as error:
        if not drain.at_work:
            raise
        log.warning("What else is due is not known: %s", error)
        return []


def _drain_all(drain: runs.Drain, results: Results, waiting: Callable[[], list[Waiting]]) -> None:
    """Drain the syncs that wait and those that come to, until nothing waits any more."""
    begun: dict[int, datetime] = {}  # and since when it had waited
    looked_at = 0.0
    while True:
        if not drain.at_work or clock.monotonic() - looked_at >= LOOK_SECONDS:
            looked_at = clock.monotonic()
            at_work = {row.id for row in drain.at_work}
            found = [] if drain.is_stopped() else _looked(waiting, drain)
            # What was begun here already, and still waits as it did, waits for something else.
            new = [one for one in found if one.row.id not in begun or one.since > begun[one.row.id]]
            for one in [one for one in new if one.row.id not in at_work][: AT_ONCE - len(at_work)]:
                begun[one.row.id] = one.since
                drain.add(one.row, one.slot)
        if drain.is_over:
            return
        results.step(drain)
