"""Executions in bulk: the due schedules of some syncs, claimed in chunks and executed side by side."""

from __future__ import annotations

import contextlib
import queue as queues
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..errors import NangoError, QuotaSpent, Refused
from ..partition_keys import key_of
from ..settings import Settings
from ..store import Database, queue
from ..store.queue import Claim, Worker
from ..store.sync_row import SyncRow
from ..store.target import Target
from .claiming import held_sentence
from .execution import Execution
from .limits import spent_until
from .values import Outcome, Wishes

CHUNK = 100
"""The number of schedules in one claim; those of a run that dies go to the next run."""
BACKLOG = 200
"""The number of results that may wait to be read before the executions pause."""
_LOOK_SECONDS = 0.1
_CLAIMING_SECONDS = 5.0  # how long another run's claim may take to be committed

Names = tuple[str, str]
"""A connection and variant."""
_NOBODY = ("", "")


@dataclass(frozen=True)
class Done:
    """An execution that is over: its outcome, or the error that kept it from beginning or ending."""

    row: SyncRow
    connection_id: str
    variant: str
    claim: Claim | None = None
    """None where another run holds it."""
    outcome: Outcome | None = None
    error: Exception | None = None

    @property
    def partition(self) -> str:
        """The connection and variant as Dagster knows them."""
        return key_of(self.connection_id, self.variant)


class Drain:
    """Executes the due schedules of syncs in threads of its own, until none is due; `next` returns the results.

    An execution whose last run died has the process to itself, so that a record that kills the process costs no other
    connection a second loss. A spent quota postpones the schedules that share it.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        run_id: str | None = None,
        save: Callable[[Execution], Outcome] = Execution.run,
        cancelled: Callable[[], bool] = lambda: False,
        until: float | None = None,
    ) -> None:
        """`save` is called in many threads; after `until` (of time.monotonic) nothing new begins."""
        self.database = database
        self.settings = settings
        self.run_id = run_id
        self.save = save
        self.cancelled = cancelled
        self.until = until
        self.stopping = threading.Event()
        self.exclusion = _Exclusion()
        self._executors: list[_SyncExecutor] = []
        self._done: queues.Queue[Done | None] = queues.Queue(BACKLOG)

    def __enter__(self) -> Drain:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        while self.at_work:
            self.next(0.2)  # whatever still comes

    def add(
        self,
        row: SyncRow,
        slot: Callable[[], datetime | None],
        *,
        only: Sequence[Names] | None = None,
        wishes: Wishes | None = None,
    ) -> None:
        """Begin with a sync: with all that is due at its latest `slot`, or with just these, due or not."""
        executor = _SyncExecutor(self, row, slot, only, wishes or Wishes())
        self._executors.append(executor)
        executor.start()

    @property
    def at_work(self) -> list[SyncRow]:
        """The syncs whose executions are not over."""
        return [executor.row for executor in self._executors if executor.is_alive]

    def next(self, patience: float) -> list[Done]:
        """The executions that have ended since the last call; waits up to `patience` seconds for the first."""
        ended: list[Done] = []
        with contextlib.suppress(queues.Empty):
            first = self._done.get(timeout=patience)
            ended += [] if first is None else [first]
            while len(ended) < BACKLOG:
                more = self._done.get_nowait()
                ended += [] if more is None else [more]
        return ended

    @property
    def is_over(self) -> bool:
        """Whether all executions are over and their results returned."""
        return not self.at_work and self._done.empty()

    def stop(self) -> None:
        """Cancel the executions at their next page, and begin no more."""
        self.stopping.set()

    def report(self, done: Done | None) -> None:
        """Add a result, or None to wake the reader; called by the executors' threads."""
        self._done.put(done)

    def is_stopped(self) -> bool:
        """Whether no further execution may begin."""
        return self.stopping.is_set() or self.cancelled()

    @property
    def is_late(self) -> bool:
        """Whether the time is over, so that other runs execute the rest."""
        return self.until is not None and clock.monotonic() > self.until


class _SyncExecutor:
    """One sync in a drain: its worker, its claims, and the threads that execute them."""

    def __init__(
        self,
        drain: Drain,
        row: SyncRow,
        slot: Callable[[], datetime | None],
        only: Sequence[Names] | None,
        wishes: Wishes,
    ) -> None:
        self.row = row
        self._drain = drain
        self._slot = slot
        self._left = None if only is None else dict.fromkeys(only)
        self._wishes = wishes
        self._stopping = threading.Event()  # this sync's alone: its lease was lost
        self._changed = threading.Condition()
        self._claimed: deque[Claim] = deque()
        self._broken: deque[tuple[Claim, Exception]] = deque()  # executions that could not record their own end
        self._running = 0
        self._ended = 0
        self._thread = threading.Thread(target=self._run, name=f"nango-drain-{row.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        """The executor's own thread: it claims schedules, and its worker lives until the last execution has ended."""
        drain, concurrency = self._drain, self.row.sync.concurrency
        try:
            worker = queue.start_worker(drain.database, self.row.id, drain.run_id, drains=self._left is None)
            try:
                with (
                    queue.heartbeat(drain.database, worker, self._stopping.set),
                    ThreadPoolExecutor(concurrency, thread_name_prefix=f"nango-drain-{self.row.id}") as pool,
                ):
                    self._put_off_if_spent(worker)
                    while (claim := self._next(worker, concurrency)) is not None:
                        pool.submit(self._execute, worker, claim)
            finally:
                queue.end_worker(drain.database, worker)
        except Exception as error:
            drain.report(Done(self.row, *_NOBODY, error=error))
        finally:
            drain.report(None)

    # --- claiming -----------------------------------------------------------------------------------------------------

    def _next(self, worker: Worker, concurrency: int) -> Claim | None:
        """The next claim to execute, once a thread is free for it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < concurrency)
        while not self._is_stopped():
            with self._changed:
                if self._claimed:
                    self._running += 1
                    return self._claimed.popleft()
                idle, ended = self._running == 0, self._ended
            if claims := [] if self._drain.is_late else self._claim(worker):
                with self._changed:
                    self._claimed.extend(claims)
            elif idle:
                self._report_held_targets()
                return None
            else:  # a schedule may be due again, or be claimed alone, when the others have ended
                self._wait_for_an_end(ended)
        return None

    def _wait_for_an_end(self, since: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended > since)

    def _claim(self, worker: Worker) -> list[Claim]:
        database = self._drain.database
        self._give_up_what_broke(worker)
        if self._left is None:
            return queue.claim(database, worker, limit=CHUNK, slot=self._slot())
        if not self._left:
            return []
        claims = queue.claim(database, worker, limit=CHUNK, slot=None, only=list(self._left), force=True)
        for claim in claims:
            del self._left[claim.connection_id, claim.variant]
        return claims

    def _give_up_what_broke(self, worker: Worker) -> None:
        """End the executions that could not record their end; not at once, because the database may have been away."""
        while self._broken:
            claim, error = self._broken[0]
            sentence = (
                str(error) if isinstance(error, NangoError) else f"{type(error).__name__}; the run's log says more."
            )
            queue.give_up(self._drain.database, worker, claim, sentence)
            self._broken.popleft()

    def _report_held_targets(self) -> None:
        """Report the targets that were named and that other runs hold."""
        deadline = clock.monotonic() + _CLAIMING_SECONDS
        for connection_id, variant in self._left or ():
            target, holder = Target(self.row.id, connection_id, variant), None
            while holder is None and clock.monotonic() < deadline:
                holder = queue.holder(self._drain.database, target)
                if holder is None:
                    time.sleep(_LOOK_SECONDS)
            refused = Refused(held_sentence(self.row, target, holder))
            self._drain.report(Done(self.row, connection_id, variant, error=refused))

    def _is_stopped(self) -> bool:
        return self._stopping.is_set() or self._drain.is_stopped()

    # --- executing ----------------------------------------------------------------------------------------------------

    def _execute(self, worker: Worker, claim: Claim) -> None:
        try:
            with self._drain.exclusion.alone() if claim.losses else self._drain.exclusion.shared():
                if not self._is_stopped():
                    self._drain.report(self._done(worker, claim))
        finally:
            with self._changed:
                self._running -= 1
                self._ended += 1
                self._changed.notify_all()

    def _done(self, worker: Worker, claim: Claim) -> Done:
        drain = self._drain
        execution = Execution(
            drain.database,
            drain.settings,
            self.row,
            claim,
            drain.run_id,
            self._stopping,
            self._wishes,
            cancelled=drain.is_stopped,
        )
        names = (claim.connection_id, claim.variant)
        try:
            outcome = drain.save(execution)
            if isinstance(outcome.cause, QuotaSpent):
                self._put_off(worker, outcome.cause)
        except BaseException as raised:  # also what a transform of one's own may end a thread with
            error = raised if isinstance(raised, Exception) else NangoError(f"ended by {type(raised).__name__}.")
            self._broken.append((claim, error))
            return Done(self.row, *names, claim, error=error)
        return Done(self.row, *names, claim, outcome)

    def _put_off_if_spent(self, worker: Worker) -> None:
        """Postpone the due schedules if the quota that all connections share is spent."""
        rate = self.row.sync.rate_limit
        if self._left is not None or (rate is not None and rate.scope == "connection"):
            return
        if until := spent_until(self._drain.database, self.row.sync, ""):
            queue.put_off(self._drain.database, worker, until, self._slot())

    def _put_off(self, worker: Worker, spent: QuotaSpent) -> None:
        """Postpone the other schedules that share the quota."""
        mine = spent.connection_id
        with self._changed:
            dropped = [claim for claim in self._claimed if mine in (None, claim.connection_id)]
            self._claimed = deque(claim for claim in self._claimed if claim not in dropped)
        queue.put_off(self._drain.database, worker, spent.until, self._slot(), connection_id=mine, claimed=dropped)


class _Exclusion:
    """A lock that many hold together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = 0  # inside, or waiting for it

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = 1
            self._changed.wait_for(lambda: not self._inside)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._alone = 0
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()
