"""The results of a run with many executions: materializations, log lines, checks, and the failure of the run."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    Failure,
    OpExecutionContext,
)

from .. import clock
from ..errors import LeaseLost, NangoError, QuotaSpent, Refused, StoreUnavailable
from ..runs import BASE, Done, Drain, Outcome
from ..store import queue, status
from ..store.queue import Claim, Shown
from ..store.sync_row import SyncRow
from . import checks, internals, metadata, names
from .io_manager import failure, log, log_outcome
from .metadata import FailedPartition
from .resource import NangoResource

QUIET = timedelta(hours=24)
"""An unchanged partition is materialized again after this time."""
FAILED_PARTITIONS = "nango/failed_partitions"
"""The tag of a run that only shows which partitions failed; its value is their number."""
PROGRESS_SECONDS = 10.0
POLL_SECONDS = 2.0
_MAX_LINES = 50  # of one level in a run's log: each is a row in Dagster's database
_MAX_NAMED = 10
_BATCH = 100  # materializations that are logged together


@dataclass
class SyncResult:
    """The results of the executions of one sync in one run."""

    row: SyncRow
    statuses: Counter[str] = field(default_factory=Counter)
    """The number of executions by status."""
    records: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The error of each partition that failed; the key is empty where the sync as a whole failed."""
    newly_failed: dict[str, FailedPartition] = field(default_factory=dict)
    """The failed partitions that Dagster does not show as failed yet, or has not for a day."""
    last: tuple[Done, Outcome] | None = None
    """The last execution that succeeded."""
    logged: int = 0
    """How many materializations were logged."""
    materialized: list[tuple[Done, Outcome]] = field(default_factory=list)
    """The executions whose materializations are not logged yet."""
    refused: list[str] = field(default_factory=list)
    """Why partitions were not executed that other runs execute."""
    outcomes: checks.Summary = field(default_factory=checks.Summary)

    def forget_failure(self, partition: str) -> None:
        """Note that a partition has succeeded after a failure in the same run."""
        self.failed.pop(partition, None)
        self.newly_failed.pop(partition, None)

    @property
    def executed(self) -> int:
        """How many connections were executed."""
        return sum(self.statuses.values())

    @property
    def failed_count(self) -> int:
        """How many connections failed."""
        return len(self.failed) - ("" in self.failed)

    def fails(self, *, selected: bool) -> bool:
        """Whether the run fails for it; for partitions that somebody selected, it does if any failed."""
        if not self.row.sync.partitioned or selected or "" in self.failed or self.refused:
            return bool(self.failed or self.refused)
        return self.row.sync.run_fails(self.failed_count, self.executed)

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in sorted(self.statuses.items())) or "nothing to do"
        return f"{self.row.sync.display_name}: {counts}; {self.records:,} records"


class Results:
    """Follows a drain, and logs its results as events of Dagster.

    A materialization is logged for an execution that changed rows, and for a partition that is not shown as
    materialized or was not materialized for a day; with `every`, or `events: all` in the config, for each execution.
    The other executions are counted.
    """

    def __init__(
        self, context: OpExecutionContext | AssetExecutionContext, nango: NangoResource, *, every: bool = False
    ) -> None:
        self._context = context
        self._nango = nango
        self._every = every
        self._syncs: dict[int, SyncResult] = {}
        self._lines: Counter[int] = Counter()
        self._progress_at = self._materialized_at = clock.monotonic()

    def follow(self, drain: Drain) -> None:
        """Handle results until every execution has ended or the drain was stopped."""
        while not drain.is_over:
            self.step(drain)

    def step(self, drain: Drain) -> None:
        """Handle the results of the next two seconds."""
        for done in drain.next(POLL_SECONDS):
            self._add(done)
        if clock.monotonic() - self._materialized_at > POLL_SECONDS:
            self._materialized_at = clock.monotonic()
            for result in self._syncs.values():
                try:
                    self._log_materializations(result, keep=1)
                except StoreUnavailable as error:  # the executions go on; the materializations are logged later
                    log.warning("materializations are not logged yet: %s", error)
        if clock.monotonic() - self._progress_at > PROGRESS_SECONDS:
            self._progress_at = clock.monotonic()
            for result in self._syncs.values():
                if result.row.sync.partitioned:
                    log.info("%s so far.", result)

    def finish(self) -> Iterator[tuple[AssetKey, AssetCheckResult]]:
        """Show the failed partitions and give the check of each sync; the caller then calls `raise_failure`."""
        for result in self._syncs.values():
            key = self._nango.placement(result.row.sync).asset_key
            self._keep_current(result, key)
            self._log_materializations(result)
            self._show_failed(result, key)
            if result.row.sync.partitioned:
                log.info("%s.", result)
            if result.statuses["succeeded"] or result.failed:
                fails = result.fails(selected=self._every)
                yield (
                    key,
                    checks.evaluate_many(key, result.outcomes, result.failed, executed=result.executed, fails=fails),
                )

    def raise_failure(self) -> None:
        """Raise one Failure that names all that failed, if the run fails for it; otherwise log that as a warning."""
        failing = [result for result in self._syncs.values() if result.fails(selected=self._every)]
        for result in self._syncs.values():
            if result not in failing and result.failed:
                log.warning("%s", "\n".join(_failure_lines(result)))
        if failing:
            lines = [line for result in failing for line in _failure_lines(result)]
            raise Failure("\n".join(lines), allow_retries=False)

    # --- partitions that failed ---------------------------------------------------------------------------------------

    def _show_failed(self, result: SyncResult, key: AssetKey) -> None:
        """Show failed partitions as failed, with the reason; where this run succeeds, by a failed run beside it."""
        if not result.newly_failed:
            return
        sync, run_id = result.row.sync, None
        if not any(other.fails(selected=self._every) for other in self._syncs.values()):
            sentences = [f"{partition}: {failed.sentence}" for partition, failed in result.newly_failed.items()]
            run_id = internals.add_failed_run(
                self._context,
                sentences,
                {
                    **names.run_tag([sync]),
                    FAILED_PARTITIONS: str(len(sentences)),
                    "nango/run": self._context.run.run_id,
                },
            )
        # The overview of an asset that was never materialized shows the last observation.
        totals = {} if result.logged else self._totals(result)
        last = list(result.newly_failed)[-1]
        for partition, failed in result.newly_failed.items():
            internals.show_as_failed(self._context, key, partition or None, run_id)
            if partition:
                reason = metadata.of_failed_partition(sync, failed)
                shown = {**totals, **reason} if partition == last else reason
                self._context.log_event(AssetObservation(key, partition=partition, metadata=shown))
        self._note_shown(
            "FAILED", [failed.schedule_id for failed in result.newly_failed.values() if failed.schedule_id]
        )

    def _keep_current(self, result: SyncResult, key: AssetKey) -> None:
        """Materialize the last connection again in a run that changed no rows, if the asset's overview needs it.

        The overview shows the metadata of the last materialization: without a new one it would not show connections
        that failed now, and the asset would become overdue.
        """
        if result.logged or result.materialized or result.last is None or not result.row.sync.partitioned:
            return
        event = self._context.instance.get_latest_materialization_event(key)
        long_ago = clock.now() - metadata.longest_gap(result.row.sync) / 2
        if result.newly_failed or event is None or event.timestamp < long_ago.timestamp():
            result.materialized.append(result.last)

    def _totals(self, result: SyncResult) -> dict[str, Any]:
        """The metadata about all connections of a sync, with the reasons of those that fail."""
        database, sync_id, prefix = self._nango.database, result.row.id, f"{result.row.sync.display_name}: "
        totals = status.totals(database, sync_id)
        errors = status.failing(database, sync_id) if totals.failing else {}
        return metadata.of_totals(totals, {key: error.removeprefix(prefix) for key, error in errors.items()})

    # --- one execution ------------------------------------------------------------------------------------------------

    def _add(self, done: Done) -> None:
        result = self._syncs.setdefault(done.row.id, SyncResult(done.row))
        if isinstance(done.error, Refused) and done.claim is None:
            result.refused.append(str(done.error))
        elif done.error is not None:
            log.debug("%s", "".join(traceback.format_exception(done.error)))
            sentence = str(done.error) if isinstance(done.error, NangoError) else repr(done.error)
            self._fail(result, done, sentence)
        elif done.outcome is not None:
            self._add_outcome(result, done, done.outcome)

    def _add_outcome(self, result: SyncResult, done: Done, outcome: Outcome) -> None:
        name = _name(done)
        result.statuses[outcome.status] += 1
        result.records += outcome.counts.fetched
        self._log(name, outcome)
        if outcome.status == "succeeded":
            result.forget_failure(_partition(done))  # it was executed twice, as after an error of the database
            result.outcomes.add(outcome)
            result.last = (done, outcome)
            if self._is_to_be_shown(done, outcome):
                self._materialize(result, done, outcome)
        elif isinstance(outcome.cause, QuotaSpent | LeaseLost):
            self._log_line(logging.WARNING, f"{name}: {outcome.cause}")  # another run executes it
        elif outcome.status != "cancelled":
            self._fail(result, done, _error(name, done.row.sync.display_name, outcome))

    def _is_to_be_shown(self, done: Done, outcome: Outcome) -> bool:
        if self._every or not done.row.sync.partitioned or done.row.sync.events == "all" or outcome.changed:
            return True
        claim = done.claim
        if claim is None or claim.shown_state != "MATERIALIZED" or claim.shown_at is None:
            return True
        return clock.now() - claim.shown_at > QUIET

    def _materialize(self, result: SyncResult, done: Done, outcome: Outcome) -> None:
        result.materialized.append((done, outcome))
        if not done.row.sync.partitioned:
            self._log_materializations(result)
        elif len(result.materialized) > _BATCH:
            self._log_materializations(result, keep=1)

    def _log_materializations(self, result: SyncResult, keep: int = 0) -> None:
        """Log materializations except the last `keep`: the last event of a run has the totals and the columns."""
        sync = result.row.sync
        executions = result.materialized[: len(result.materialized) - keep]
        if not executions:
            return
        is_last = keep == 0
        placement = self._nango.placement(sync)
        key, source = placement.asset_key, metadata.Source.of(placement)
        events = [
            AssetMaterialization(
                key,
                partition=done.partition if sync.partitioned else None,
                metadata=metadata.of_outcome(
                    outcome,
                    self._nango.database,
                    source,
                    partition=sync.partitioned,
                    columns=is_last and number == len(executions),  # the UI shows those of an asset's last event
                ),
            )
            for number, (done, outcome) in enumerate(executions, 1)
        ]
        for done, outcome in executions:
            for model in outcome.further_models:
                if model_key := placement.model_keys.get(model.name):
                    partition = done.partition if sync.partitioned else None
                    shown = metadata.of_model(model, self._nango.database, partition=sync.partitioned)
                    events.insert(0, AssetMaterialization(model_key, partition=partition, metadata=shown))
        schedules = [done.claim.schedule_id for done, _ in executions if done.claim is not None and sync.partitioned]
        if is_last and sync.partitioned:
            events[-1] = events[-1].with_metadata({**self._totals(result), **events[-1].metadata})
        internals.materialized(self._context, events)
        result.logged += len(executions)
        del result.materialized[: len(executions)]
        self._note_shown("MATERIALIZED", schedules)

    def _note_shown(self, state: Shown, schedules: Sequence[int]) -> None:
        """Store what Dagster shows now; where that is not possible, the event is logged once more later."""
        try:
            queue.show(self._nango.database, state, schedules)
        except StoreUnavailable as error:
            log.warning("what Dagster shows is not stored: %s", error)

    def _fail(self, result: SyncResult, done: Done, sentence: str) -> None:
        partition = _partition(done)
        result.failed[partition] = sentence
        is_whole_sync = done.row.sync.partitioned and not partition  # then no partition has failed, but the run has
        if done.outcome is None and not is_whole_sync:
            result.statuses["failed"] += 1
        if not is_whole_sync and (self._every or not _is_shown_as_failed(done.claim)):
            result.newly_failed[partition] = FailedPartition(
                done.connection_id,
                sentence,
                self._context.run.run_id,
                job_id=done.outcome.job_id if done.outcome else None,
                status=getattr(done.outcome.cause if done.outcome else done.error, "status", None),
                schedule_id=done.claim.schedule_id if done.claim and partition else 0,
            )
        self._log_line(logging.ERROR, sentence)

    def _log(self, name: str, outcome: Outcome) -> None:
        """Log an outcome whole if it is the first or changed rows, otherwise its warnings only."""
        if self._every or not self._lines[logging.INFO] or outcome.changed:
            self._lines[logging.INFO] += 1
            if self._lines[logging.INFO] <= _MAX_LINES:
                log_outcome(name, outcome)
                return
        for warning in outcome.warnings:
            self._log_line(logging.WARNING, f"{name}: {warning}")

    def _log_line(self, level: int, sentence: str) -> None:
        self._lines[level] += 1
        if self._lines[level] <= _MAX_LINES:
            log.log(level, "%s", sentence)
        elif self._lines[level] == _MAX_LINES + 1:
            log.log(level, "more lines of this level are left out; the job of each execution has its own.")


def _is_shown_as_failed(claim: Claim | None) -> bool:
    """Whether Dagster shows a partition as failed, with a reason that is not older than a day."""
    if claim is None or claim.shown_state != "FAILED" or claim.shown_at is None:
        return False
    return clock.now() - claim.shown_at <= QUIET


def _partition(done: Done) -> str:
    """The partition of the result; empty where the result is that of the sync as a whole."""
    return done.partition if done.row.sync.partitioned and done.connection_id else ""


def _name(done: Done) -> str:
    """The sync as sentences name it, with the connection where it has several."""
    name = done.row.sync.display_name
    if not done.row.sync.partitioned:
        return name
    connection = done.connection_id if done.variant == BASE else f"{done.connection_id}, variant {done.variant}"
    return f"{name} for {connection}"


def _error(name: str, sync: str, outcome: Outcome) -> str:
    """The error of an execution, with the connection beside the sync that it names already."""
    sentence = failure(sync, outcome).description or outcome.status
    if sentence.startswith(f"{sync}: "):
        return name + sentence.removeprefix(sync)
    return sentence if name in sentence else f"{name}: {sentence}"


def _failure_lines(result: SyncResult) -> Iterator[str]:
    """The failed and the refused executions, in a limited number of lines."""
    connections, total = result.failed_count, result.executed
    if connections and total > 1 and result.row.sync.partitioned:
        yield f"{result.row.sync.display_name}: {connections:,} of {total:,} connections failed:"
    for number, (partition, sentence) in enumerate(result.failed.items()):
        if number == _MAX_NAMED:
            yield f"and {len(result.failed) - number:,} more; `nango-dagster status {result.row.name}` lists them."
            break
        yield f"{partition}: {sentence}" if partition and partition not in sentence else sentence
    yield from result.refused[:_MAX_NAMED]
    if len(result.refused) > _MAX_NAMED:
        yield f"and {len(result.refused) - _MAX_NAMED:,} more that other runs execute."
