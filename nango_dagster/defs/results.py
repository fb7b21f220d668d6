"""The results of a run with many executions: materializations, log lines, checks, and the failure of the run."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from dagster import AssetCheckResult, AssetExecutionContext, AssetKey, AssetMaterialization, Failure, OpExecutionContext

from .. import clock
from ..errors import LeaseLost, NangoError, QuotaSpent, Refused, StoreUnavailable
from ..runs import BASE, Done, Drain, Outcome
from ..store import queue
from ..store.queue import Shown
from ..store.sync_row import SyncRow
from . import checks, internals, metadata, names
from .io_manager import failure, log, log_outcome
from .resource import NangoResource

QUIET = timedelta(hours=24)
"""An unchanged partition is materialized again after this time."""
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
    newly_failed: dict[str, int] = field(default_factory=dict)
    """The failed partitions that Dagster does not show as failed yet, with the id of their schedule."""
    materialized: list[tuple[Done, Outcome]] = field(default_factory=list)
    """The executions whose materializations are not logged yet."""
    refused: list[str] = field(default_factory=list)
    """Why partitions were not executed that other runs execute."""
    outcomes: checks.Summary = field(default_factory=checks.Summary)

    def forget_failure(self, partition: str) -> None:
        """Note that a partition has succeeded after a failure in the same run."""
        self.failed.pop(partition, None)
        self.newly_failed.pop(partition, None)

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
                    self._log_materializations(result)
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
            key = names.asset_key(result.row.sync)
            for partition in result.newly_failed:
                internals.show_as_failed(self._context, key, partition or None)
            self._note_shown("FAILED", [id for id in result.newly_failed.values() if id])
            self._log_materializations(result)
            if result.row.sync.partitioned:
                log.info("%s.", result)
            if result.statuses["succeeded"] or result.failed:
                yield key, checks.evaluate_many(key, result.outcomes, result.failed)

    def raise_failure(self) -> None:
        """Raise one Failure that names all that failed, if anything did."""
        lines = [line for result in self._syncs.values() for line in _failure_lines(result)]
        if lines:
            raise Failure("\n".join(lines), allow_retries=False)

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
        if len(result.materialized) >= _BATCH or not done.row.sync.partitioned:
            self._log_materializations(result)

    def _log_materializations(self, result: SyncResult) -> None:
        if not result.materialized:
            return
        sync, executions = result.row.sync, result.materialized
        key, source = names.asset_key(sync), names.source_key(sync)
        events = [
            AssetMaterialization(
                key,
                partition=done.partition if sync.partitioned else None,
                metadata=metadata.of_outcome(
                    outcome,
                    self._nango.database,
                    source,
                    partition=sync.partitioned,
                    columns=number == len(executions),  # the UI shows the columns of an asset's last event
                ),
            )
            for number, (done, outcome) in enumerate(executions, 1)
        ]
        schedules = [done.claim.schedule_id for done, _ in executions if done.claim is not None and sync.partitioned]
        internals.materialized(self._context, events)
        executions.clear()
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
        if not is_whole_sync and (done.claim is None or done.claim.shown_state != "FAILED" or self._every):
            result.newly_failed[partition] = done.claim.schedule_id if done.claim and partition else 0
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
    connections, total = len(result.failed) - ("" in result.failed), sum(result.statuses.values())
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
