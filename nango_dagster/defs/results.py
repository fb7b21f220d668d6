"""A run that carries many executions: which of them Dagster is told of, what the log says, and how the run ends."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from time import monotonic

from dagster import AssetCheckResult, AssetExecutionContext, AssetKey, AssetMaterialization, Failure, OpExecutionContext

from ..errors import LeaseLost, NangoError, QuotaSpent, Refused, StoreUnavailable
from ..runs import BASE, Done, Drain, Outcome
from ..store import queue
from ..store.queue import Shown
from ..store.sync_row import SyncRow
from . import checks, internals, metadata, names
from .io_manager import failure, log, tell
from .resource import NangoResource

QUIET = timedelta(hours=24)
"""What has not changed for so long is shown again."""
PROGRESS_SECONDS = 10.0
LOOK_SECONDS = 2.0
_MOST_LINES = 50  # of one kind in a run's log: each is a row in Dagster's database
_MOST_NAMED = 10
_AT_ONCE = 100  # materializations that Dagster is told of together


@dataclass
class Tally:
    """What the executions of one sync came to, in one run."""

    row: SyncRow
    ended: Counter[str] = field(default_factory=Counter)
    """How many succeeded, failed, were cancelled or lost."""
    records: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """The sentence of each partition that failed; the key is empty where the sync as a whole did."""
    to_show: dict[str, int] = field(default_factory=dict)
    """Of these the ones that Dagster does not show as failed yet, with the schedule's id."""
    news: list[tuple[Done, Outcome]] = field(default_factory=list)
    """What Dagster is about to be told of."""
    held: list[str] = field(default_factory=list)
    """Why nothing was done for those that other runs have."""
    outcomes: checks.Summary = field(default_factory=checks.Summary)

    def forget_failure(self, partition: str) -> None:
        """It has succeeded since."""
        self.failed.pop(partition, None)
        self.to_show.pop(partition, None)

    def __str__(self) -> str:
        ended = ", ".join(f"{count:,} {how}" for how, count in sorted(self.ended.items())) or "nothing to do"
        return f"{self.row.sync.display_name}: {ended}; {self.records:,} records"


class Results:
    """Follows a drain, and tells Dagster what is news.

    News is an execution that changed rows, one whose partition is not shown as materialized, or was not shown for a
    day; with `every`, or `events: all` in the config, each one. The rest are counted.
    """

    def __init__(
        self, context: OpExecutionContext | AssetExecutionContext, nango: NangoResource, *, every: bool = False
    ) -> None:
        self._context = context
        self._nango = nango
        self._every = every
        self._tallies: dict[int, Tally] = {}
        self._lines: Counter[int] = Counter()
        self._told_at = self._told_news_at = monotonic()

    def follow(self, drain: Drain) -> None:
        """Tell of what has ended, until nothing is at work or somebody has stopped the drain."""
        while not drain.is_over:
            self.step(drain)

    def step(self, drain: Drain) -> None:
        """The same for what ends within the next two seconds."""
        for done in drain.next(LOOK_SECONDS):
            self._tell(done)
        if monotonic() - self._told_news_at > LOOK_SECONDS:
            self._told_news_at = monotonic()
            for tally in self._tallies.values():
                try:
                    self._tell_news(tally)
                except StoreUnavailable as error:  # the others go on; they are told of later
                    log.warning("Dagster is not told yet of what was stored: %s", error)
        if monotonic() - self._told_at > PROGRESS_SECONDS:
            self._told_at = monotonic()
            for tally in self._tallies.values():
                if tally.row.sync.partitioned:
                    log.info("%s so far.", tally)

    def finish(self) -> Iterator[tuple[AssetKey, AssetCheckResult]]:
        """Show what failed, sum up, and give each sync's check; whoever reads to the end then calls `complain`."""
        for tally in self._tallies.values():
            key = names.asset_key(tally.row.sync)
            for partition in tally.to_show:
                internals.show_as_failed(self._context, key, partition or None)
            self._note_shown("FAILED", [id for id in tally.to_show.values() if id])
            self._tell_news(tally)
            if tally.row.sync.partitioned:
                log.info("%s.", tally)
            if tally.ended["succeeded"] or tally.failed:
                yield key, checks.evaluate_many(key, tally.outcomes, tally.failed)

    def complain(self) -> None:
        """Raise the one Failure that sums up all that failed."""
        said = [sentence for tally in self._tallies.values() for sentence in _complaints(tally)]
        if said:
            raise Failure("\n".join(said), allow_retries=False)

    # --- one execution ------------------------------------------------------------------------------------------------

    def _tell(self, done: Done) -> None:
        tally = self._tallies.setdefault(done.row.id, Tally(done.row))
        if isinstance(done.error, Refused) and done.claim is None:
            tally.held.append(str(done.error))
        elif done.error is not None:
            log.debug("%s", "".join(traceback.format_exception(done.error)))
            said = str(done.error) if isinstance(done.error, NangoError) else repr(done.error)
            self._fail(tally, done, said)
        elif done.outcome is not None:
            self._tell_outcome(tally, done, done.outcome)

    def _tell_outcome(self, tally: Tally, done: Done, outcome: Outcome) -> None:
        name = _name(done)
        tally.ended[outcome.status] += 1
        tally.records += outcome.counts.fetched
        self._log(name, outcome)
        if outcome.status == "succeeded":
            tally.forget_failure(_partition(done))  # the database may have been away when it was tried before
            tally.outcomes.add(outcome)
            if self._is_news(done, outcome):
                self._materialize(tally, done, outcome)
        elif isinstance(outcome.cause, QuotaSpent | LeaseLost):
            self._line(logging.WARNING, f"{name}: {outcome.cause}")  # and another run tells how it went
        elif outcome.status != "cancelled":
            self._fail(tally, done, _sentence(name, done.row.sync.display_name, outcome))

    def _is_news(self, done: Done, outcome: Outcome) -> bool:
        if self._every or not done.row.sync.partitioned or done.row.sync.events == "all" or outcome.changed:
            return True
        claim = done.claim
        if claim is None or claim.shown_state != "MATERIALIZED" or claim.shown_at is None:
            return True
        return datetime.now(timezone.utc) - claim.shown_at > QUIET

    def _materialize(self, tally: Tally, done: Done, outcome: Outcome) -> None:
        tally.news.append((done, outcome))
        if len(tally.news) >= _AT_ONCE or not done.row.sync.partitioned:
            self._tell_news(tally)

    def _tell_news(self, tally: Tally) -> None:
        if not tally.news:
            return
        sync, news = tally.row.sync, tally.news
        key, source = names.asset_key(sync), names.source_key(sync)
        told = [
            AssetMaterialization(
                key,
                partition=done.partition if sync.partitioned else None,
                metadata=metadata.of_outcome(
                    outcome,
                    self._nango.database,
                    source,
                    partition=sync.partitioned,
                    columns=number == len(news),  # the UI shows the columns of an asset's last event
                ),
            )
            for number, (done, outcome) in enumerate(news, 1)
        ]
        shown = [done.claim.schedule_id for done, _ in news if done.claim is not None and sync.partitioned]
        internals.materialized(self._context, told)
        news.clear()
        self._note_shown("MATERIALIZED", shown)

    def _note_shown(self, state: Shown, schedules: Sequence[int]) -> None:
        """Remember what Dagster shows now; where that fails, it is told once more than needed."""
        try:
            queue.show(self._nango.database, state, schedules)
        except StoreUnavailable as error:
            log.warning("It is not noted what Dagster shows: %s", error)

    def _fail(self, tally: Tally, done: Done, sentence: str) -> None:
        partition = _partition(done)
        tally.failed[partition] = sentence
        is_whole = done.row.sync.partitioned and not partition  # then no partition has failed, but the run has
        if done.outcome is None and not is_whole:
            tally.ended["failed"] += 1
        if not is_whole and (done.claim is None or done.claim.shown_state != "FAILED" or self._every):
            tally.to_show[partition] = done.claim.schedule_id if done.claim and partition else 0
        self._line(logging.ERROR, sentence)

    def _log(self, name: str, outcome: Outcome) -> None:
        """In full where it is the only one; of many, what is worth a look."""
        if self._every or not self._lines[logging.INFO] or outcome.changed:
            self._lines[logging.INFO] += 1
            if self._lines[logging.INFO] <= _MOST_LINES:
                tell(name, outcome)
                return
        for warning in outcome.warnings:
            self._line(logging.WARNING, f"{name}: {warning}")

    def _line(self, level: int, sentence: str) -> None:
        self._lines[level] += 1
        if self._lines[level] <= _MOST_LINES:
            log.log(level, "%s", sentence)
        elif self._lines[level] == _MOST_LINES + 1:
            log.log(level, "and more of these; every execution's job says its own.")


def _partition(done: Done) -> str:
    """The partition that it is about; empty where it is about the sync as a whole."""
    return done.partition if done.row.sync.partitioned and done.connection_id else ""


def _name(done: Done) -> str:
    """The sync as sentences call it, with the connection where it has several."""
    name = done.row.sync.display_name
    if not done.row.sync.partitioned:
        return name
    connection = done.connection_id if done.variant == BASE else f"{done.connection_id}, variant {done.variant}"
    return f"{name} for {connection}"


def _sentence(name: str, sync: str, outcome: Outcome) -> str:
    """Why an execution failed: it names the sync already, and now the connection, too."""
    said = failure(sync, outcome).description or outcome.status
    if said.startswith(f"{sync}: "):
        return name + said.removeprefix(sync)
    return said if name in said else f"{name}: {said}"


def _complaints(tally: Tally) -> Iterator[str]:
    """What failed, in at most a few lines."""
    connections, of = len(tally.failed) - ("" in tally.failed), sum(tally.ended.values())
    if connections and of > 1 and tally.row.sync.partitioned:
        yield f"{tally.row.sync.display_name}: {connections:,} of {of:,} connections failed:"
    for number, (partition, sentence) in enumerate(tally.failed.items()):
        if number == _MOST_NAMED:
            yield f"and {len(tally.failed) - number:,} more; `nango-dagster status {tally.row.name}` lists them."
            break
        yield f"{partition}: {sentence}" if partition and partition not in sentence else sentence
    yield from tally.held[:_MOST_NAMED]
    if len(tally.held) > _MOST_NAMED:
        yield f"and {len(tally.held) - _MOST_NAMED:,} more that other runs have."
