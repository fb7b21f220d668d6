"""The dispatcher: one run for whatever cannot wait for a schedule's tick.

That is a sync's first run, a trigger, what a dead run left behind, and a posted sync that no reload has given a
schedule of its own yet.
"""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from dagster import (
    AssetCheckEvaluation,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    Failure,
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

from .. import runs
from ..config import Sync
from ..errors import NangoError, Refused, StoreUnavailable
from ..runs import Due, Outcome
from ..store import queue, syncs
from ..store.queue import LEASE_SECONDS, Schedule
from ..store.syncs import SyncRow
from . import checks, internals, logs, metadata, names
from .interrupts import Interrupts
from .io_manager import failure, log, reporter, tell
from .resource import NangoResource
from .schedules import ON_ITS_WAY, on_their_way

OP = "nango_dispatch_waiting"
INTERVAL_SECONDS = 5  # the daemon's sensor loop is no faster
AT_ONCE = 8  # executions side by side in one run
MOST_RUNS = 3  # dispatch runs at a time, where one alone does not get round to all that waits
PATIENCE = timedelta(seconds=60)  # so long something waits for a run that is busy
OVERDUE = timedelta(minutes=10)  # so long a sync's own schedule may take to get it started
LOOK_SECONDS = 2.0  # so often a dispatch run looks for what has come up since
ABANDONED_SECONDS = 30.0  # so long Dagster may take to write down what it is told


@dataclass(frozen=True)
class Waiting:
    """A sync that should run now, why it is due, and since when it waits."""

    row: SyncRow
    due: Due
    since: datetime


class Dispatcher:
    """Knows the syncs that have schedules of their own here, and finds what waits in spite of them."""

    def __init__(self, loaded: Sequence[Sync]) -> None:
        self._loaded = {(sync.integration_key, sync.name): sync for sync in loaded}

    def waiting(self, nango: NangoResource, instance: DagsterInstance) -> list[Waiting]:
        """The syncs that should run now; those that were asked for first."""
        nango.register(self._loaded.values())
        queue.reap(nango.database)
        now = datetime.now(timezone.utc)
        rows = {row.id: row for row in syncs.all(nango.database)}
        maybe = [
            (schedule, row)
            for schedule in queue.schedules(nango.database)
            if schedule.worker_id is None and (row := self._ours(rows.get(schedule.sync_id))) is not None
            if self._is_waiting(schedule, row, now)
        ]
        if not maybe:
            return []
        stopped, asked = _stopped_schedules(instance), on_their_way(instance)
        found = [
            Waiting(row, Due(None if names.schedule_name(row.sync) in stopped else row.sync.latest_slot(now)), since)
            for schedule, row in maybe
            for since in [schedule.triggered_at or schedule.last_started_at or schedule.created_at]
            if schedule.triggered_at or names.schedule_name(row.sync) not in stopped
            if schedule.triggered_at or names.run_name(row.sync) not in asked
        ]
        return sorted(found, key=lambda waiting: (waiting.row.id not in _triggered(maybe), waiting.since))

    def _ours(self, row: SyncRow | None) -> SyncRow | None:
        """A sync that is configured now, or was posted; not one whose file is gone, nor somebody's own asset."""
        if row is None:
            return None
        loaded = self._is_loaded(row)
        return row if (loaded or row.origin == "http") and row.sync.enabled else None

    def _is_loaded(self, row: SyncRow) -> bool:
        return (row.integration, row.name) in self._loaded

    def _is_waiting(self, schedule: Schedule, row: SyncRow, now: datetime) -> bool:
        if schedule.triggered_at is not None:
            return True
        if schedule.state != "STARTED":
            return False
        if schedule.last_started_at is None or schedule.losses == 1:
            return True
        # Its own schedule runs it, if it has one; but the run may have died before it began.
        patience = OVERDUE if self._is_loaded(row) else timedelta(0)
        return schedule.last_started_at < row.sync.latest_slot(now - patience)


def _triggered(maybe: Sequence[tuple[Schedule, SyncRow]]) -> set[int]:
    return {row.id for schedule, row in maybe if schedule.triggered_at is not None}


def _stopped_schedules(instance: DagsterInstance) -> set[str]:
    """The names of the schedules that somebody has stopped in Dagster."""
    states = instance.all_instigator_state()
    return {state.name for state in states if state.instigator_type.value == "SCHEDULE" and not state.is_running}


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
    longest = datetime.now(timezone.utc) - min(one.since for one in waiting)
    if len(found) == MOST_RUNS or longest < PATIENCE:
        return f"run {found[0].run_id[:8]} is at it."
    return None


def _report_dead_runs(instance: DagsterInstance, nango: NangoResource) -> None:
    """Tell Dagster of runs of ours that are at nothing any more: it keeps those that died with their machine."""
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=2 * LEASE_SECONDS)
    for record in instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=100):
        run = record.dagster_run
        if (
            names.RUN_TAG in run.tags
            and _started(record) < long_ago
            and not queue.is_at_work(nango.database, run.run_id)
        ):
            instance.report_run_failed(run, "The run's process is gone: nothing was heard of it for minutes.")


def _started(record: RunRecord) -> datetime:
    at = record.start_time or record.create_timestamp.replace(tzinfo=timezone.utc).timestamp()
    return datetime.fromtimestamp(at, timezone.utc)


# --- the job ----------------------------------------------------------------------------------------------------------


def build_dispatch_job(dispatcher: Dispatcher) -> JobDefinition:
    """The job that runs every waiting sync, some side by side, in one process."""

    @op(name=OP, required_resource_keys={names.RESOURCE}, out={})
    def dispatch(context: OpExecutionContext) -> Iterator[AssetMaterialization | AssetCheckEvaluation]:
        nango: NangoResource = context.resources.nango
        with logs.into(context.log), _Dispatch(context, nango, dispatcher) as work:
            yield from work.events()
        if work.failed:
            raise Failure("\n".join(work.failed), allow_retries=False)

    @job(
        name=names.DISPATCH_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description="Runs the syncs that wait: first runs, triggers, what a dead run left behind.",
    )
    def nango_dispatch() -> None:
        dispatch()

    return nango_dispatch


class _Dispatch:
    """One dispatch run, until nothing waits any more."""

    def __init__(self, context: OpExecutionContext, nango: NangoResource, dispatcher: Dispatcher) -> None:
        self.failed: list[str] = []
        """The sentences of the executions that failed."""
        self._context = context
        self._nango = nango
        self._dispatcher = dispatcher
        self._stop = threading.Event()
        self._away: float | None = None
        self._begun: dict[int, datetime] = {}  # and since when it had waited
        self._running: dict[Future[Outcome], SyncRow] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="nango-dispatch")

    def __enter__(self) -> "_Dispatch":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # an error here ends the executions, too, before the pool waits for them
        self._pool.shutdown()

    def events(self) -> Iterator[AssetMaterialization | AssetCheckEvaluation]:
        """What Dagster is told, as soon as it has happened."""
        while True:
            self._away = None
            with Interrupts(self._stop.set):  # Dagster sets signal handlers of its own around each `yield`
                done = self._next_done()
            if not done:
                return
            self._away = time.monotonic()
            for row, future in done:
                yield from self._tell(row, future)

    def _next_done(self) -> list[tuple[SyncRow, Future[Outcome]]]:
        """The next executions that have ended, all of them when the run is to stop; none when nothing waits."""
        while True:
            for one in self._next_waiting(AT_ONCE - len(self._running)):
                self._running[self._pool.submit(self._execute, one)] = one.row
            if not self._running:
                return []
            ended, others = wait(self._running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            if ended and not (others and self._stop.is_set()):
                return [(self._running.pop(future), future) for future in ended]

    def _next_waiting(self, most: int) -> list[Waiting]:
        """What waits and was not begun here already; a trigger begins it again."""
        if self._stop.is_set() or not most:
            return []
        found = self._dispatcher.waiting(self._nango, self._context.instance)
        new = [one for one in found if one.row.id not in self._begun or one.since > self._begun[one.row.id]]
        self._begun.update({one.row.id: one.since for one in new[:most]})
        return new[:most]

    def _is_over(self) -> bool:
        """Whether the executions shall stop: somebody says so, or nobody comes back to hear of them."""
        return self._stop.is_set() or (self._away is not None and time.monotonic() - self._away > ABANDONED_SECONDS)

    def _execute(self, one: Waiting) -> Outcome:
        nango, run_id = self._nango, self._context.run_id
        claim = runs.claimed(
            nango.database, nango.settings, one.row, run_id=run_id, due=one.due, cancelled=self._is_over
        )
        with claim as pull:
            return pull.save(reporter())

    def _tell(self, row: SyncRow, future: Future[Outcome]) -> Iterator[AssetMaterialization | AssetCheckEvaluation]:
        """What came of one execution."""
        key = names.asset_key(row.sync)
        try:
            outcome = future.result()
        except Refused as held:
            log.info("%s", held)
            return
        except Exception as error:  # whatever it is, the others go on
            log.debug("%s", "".join(traceback.format_exception(error)))
            self._fail(row, str(error) if isinstance(error, NangoError) else f"{row.sync.display_name}: {error!r}")
            return
        tell(row.sync.display_name, outcome)
        if outcome.status == "cancelled":
            return
        if outcome.status != "succeeded":
            self._fail(row, failure(row.sync.display_name, outcome).description or outcome.status)
            return
        found = metadata.of_outcome(outcome, self._nango.database, names.source_key(row.sync))
        yield AssetMaterialization(key, metadata=found)
        yield checks.evaluation(checks.evaluate(key, outcome), key)

    def _fail(self, row: SyncRow, sentence: str) -> None:
        log.error("%s", sentence)
        self.failed.append(sentence)
        internals.show_as_failed(self._context, names.asset_key(row.sync))
