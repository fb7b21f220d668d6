"""In every order of events the queue follows its rules, and neither rows nor changes are lost."""

from __future__ import annotations

import itertools
import json
import queue as handover
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from nango_dagster import clock
from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, LeaseLost
from nango_dagster.runs import Outcome
from nango_dagster.runs.execution import Execution
from nango_dagster.settings import Settings
from nango_dagster.sources import Ending, Model, Sink, SourceContext
from nango_dagster.store import Database, connections, datasets, listing, queue, schema, syncs
from nango_dagster.store.changes import Cursor
from nango_dagster.store.listing import RecordSelection
from nango_dagster.store.queue import LEASE_SECONDS, Claim, Worker, due

TARGETS = ("a", "b")
PAGE = 2
LEASE = timedelta(seconds=LEASE_SECONDS)
STEPS = {"half a lease": timedelta(seconds=50), "a lease": timedelta(seconds=200), "an hour": timedelta(hours=1)}
START = timedelta(minutes=5, seconds=25)
"""Minutes past the full hour: no sum of STEPS comes nearer than 25 s to a slot or 40 s to the end of a lease."""

Command = Literal["page", "end", "fail"]
Change = tuple[int, int]
"""The id of a record and its new version."""


# --- an execution that goes on when it is told to -----------------------------------------------------------------


class SteppedSource:
    """A source that reads a log of changes, one page at each command, and keeps its place in the checkpoint."""

    models: Sequence[Model] = ()
    needs_access = False

    def __init__(self, log: Sequence[Change]) -> None:
        self.commands: handover.Queue[Command] = handover.Queue()
        self.news: handover.Queue[Outcome | BaseException | None] = handover.Queue()
        self._log = log

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        position = int((context.checkpoint or {}).get("position", 0))
        while True:
            self.news.put(None)
            command = self.commands.get()
            if command == "fail":
                raise ApiError("the API is down.")
            end = len(self._log) if command == "end" else position + PAGE
            while position < min(end, len(self._log)):
                page = self._log[position : position + PAGE]
                sink.save([json.dumps({"id": id, "version": version}).encode() for id, version in page])
                position += len(page)
                sink.save_checkpoint({"position": position})
            if command == "end":
                return Ending("script_ended", complete=False)


@dataclass
class Running:
    """A claim in the model, and the thread that executes it once it has begun."""

    claim: Claim
    source: SteppedSource
    thread: threading.Thread | None = None
    is_lost: bool = False

    def begin(self, execution: Execution) -> Outcome | None:
        """Start the execution; its outcome if it has ended before it read anything."""

        def run() -> None:
            try:
                self.source.news.put(execution.run())
            except BaseException as error:
                self.source.news.put(error)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        return self._news()

    def go_on(self, command: Command) -> Outcome | None:
        """Let it take one step; its outcome if it has ended."""
        self.source.commands.put(command)
        return self._news()

    def _news(self) -> Outcome | None:
        news = self.source.news.get(timeout=60)
        if isinstance(news, BaseException):
            raise news
        if news is not None and self.thread is not None:
            self.thread.join()
        return news


# --- the model ------------------------------------------------------------------------------------------------------


@dataclass
class Expected:
    """The state of one schedule that the rules predict."""

    log: list[Change] = field(default_factory=list)
    state: str = "STARTED"
    is_triggered: bool = False
    reset: bool = False
    empty_cache: bool = False
    losses: int = 0
    failures: int = 0
    begun_at: datetime | None = None
    holder: int | None = None
    """The id of the worker."""
    is_running: bool = False
    is_cancelled: bool = False
    is_asked_again: bool = False
    """A reset has cancelled the execution and waits for the next one."""

    def is_due(self, now: datetime) -> bool:
        slot = now.replace(minute=0, second=0, microsecond=0)
        missed = self.begun_at is None or self.begun_at < slot or self.losses == 1
        return self.holder is None and (self.is_triggered or (self.state == "STARTED" and missed))

    def free(self, *, keeps: bool) -> None:
        """Nobody holds it any more; `keeps` its requests or drops them."""
        whole = keeps and (self.is_triggered or self.losses >= 2)
        self.is_triggered = keeps and self.is_triggered
        self.reset, self.empty_cache = whole and self.reset, whole and self.empty_cache
        self.holder, self.is_running, self.is_cancelled, self.is_asked_again = None, False, False, False

    def lose(self) -> None:
        """Its worker died."""
        if not self.is_running:
            self.free(keeps=self.is_asked_again or not self.is_cancelled)
            return
        losses = 0 if self.is_cancelled else self.losses + 1
        self.free(keeps=self.is_asked_again or not self.is_cancelled)
        self.losses, self.failures = losses, self.failures + 1
        self.is_triggered = self.is_triggered and losses < 2


class Machine(RuleBasedStateMachine):
    """Two targets of a sync; workers that claim, execute, fall silent and wake up; requests; readers with a cursor."""

    numbers = itertools.count()

    def __init__(self, db: Database, settings: Settings) -> None:
        super().__init__()
        self.db, self.settings = db, settings
        name = f"sync{next(self.numbers)}"
        config: dict[str, Any] = {"name": name, "integration": name, "url": "http://127.0.0.1:1/", "unique_key": "id"}
        self.row = syncs.register(db, [Sync(**config, cron="0 * * * *", auto_mapping=False)])[name]
        for target in TARGETS:
            connections.add(db, None, connections.NewConnection(name, target))
        self.clock = ExitStack()
        real = clock.now()
        self.now = real.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1) + START
        self.clock.enter_context(clock.moved(self.now - real))
        self.of = {target: Expected() for target in TARGETS}
        self.workers: dict[int, Worker] = {}
        self.heard: dict[int, datetime] = {}
        self.claims: list[Running] = []
        self.copies: dict[str, dict[int, int]] = {target: {} for target in TARGETS}
        self.places: dict[str, Cursor | None] = dict.fromkeys(TARGETS)

    # --- time and the source ------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from(sorted(STEPS)))
    def time_passes(self, step: str) -> None:
        self.now += STEPS[step]
        self.clock.enter_context(clock.moved(STEPS[step]))

    @rule(name=st.sampled_from(TARGETS), ids=st.lists(st.integers(1, 4), min_size=1, max_size=5))
    def source_changes(self, name: str, ids: list[int]) -> None:
        log = self.of[name].log
        log += [(id, len(log) + number) for number, id in enumerate(ids)]

    # --- workers ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def worker_starts(self) -> None:
        worker = queue.start_worker(self.db, self.row.id, f"run {next(self.numbers)}", drains=True)
        self.workers[worker.id], self.heard[worker.id] = worker, self.now

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def worker_beats(self, data: st.DataObject) -> None:
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        is_alive = queue.beat(self.db, worker)
        assert is_alive == (worker.id in self.heard), "a worker is alive until the reaper has buried it"
        if is_alive:
            self.heard[worker.id] = self.now
        else:
            del self.workers[worker.id]

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def worker_ends(self, data: st.DataObject) -> None:
        worker = self.workers.pop(data.draw(st.sampled_from(sorted(self.heard))))
        queue.end_worker(self.db, worker)
        self.bury(worker.id)

    @rule()
    def reaper_comes(self) -> None:
        silent = {id for id, heard in self.heard.items() if self.now - heard > LEASE}
        lost = {(found.target.connection_id, found.worker.id) for found in queue.reap(self.db) if self.is_mine(found)}
        assert lost == {(name, one.holder) for name, one in self.of.items() if one.is_running and one.holder in silent}
        for id in silent:
            self.bury(id)

    def is_mine(self, found: queue.Lost) -> bool:
        return found.target.sync_id == self.row.id

    def bury(self, worker_id: int) -> None:
        """The worker's claims are free; the worker itself does not know it yet."""
        del self.heard[worker_id]
        for claim in self.claims:
            claim.is_lost = claim.is_lost or claim.claim.worker_id == worker_id
        for expected in self.of.values():
            if expected.holder == worker_id:
                expected.lose()

    # --- executions ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), limit=st.integers(1, 2))
    def worker_claims(self, data: st.DataObject, limit: int) -> None:
        worker = self.workers[data.draw(st.sampled_from(sorted(self.workers)))]
        if worker.id not in self.heard:
            with pytest.raises(LeaseLost):
                queue.claim(self.db, worker, limit=limit, slot=self.slot)
            return
        held = [one.losses for one in self.of.values() if one.holder == worker.id]
        due_now = {name for name, one in self.of.items() if one.is_due(self.now)}
        lost_once = {name for name in due_now if self.of[name].losses}
        claims = queue.claim(self.db, worker, limit=limit, slot=self.slot)
        names = {claim.connection_id for claim in claims}
        if any(held):
            assert not names, "a lost execution is repeated alone"
        elif due_now - lost_once:
            assert names <= due_now - lost_once and len(names) == min(limit, len(due_now - lost_once))
        else:
            assert names <= lost_once and len(names) == min(1 if not held else 0, len(lost_once))
        self.heard[worker.id] = self.now
        for claim in claims:
            self.of[claim.connection_id].holder = worker.id
            self.claims.append(Running(claim, SteppedSource(self.of[claim.connection_id].log)))

    @precondition(lambda self: any(claim.thread is None for claim in self.claims))
    @rule(data=st.data())
    def execution_begins(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from([claim for claim in self.claims if claim.thread is None]))
        expected = self.of[claim.claim.connection_id]
        if not claim.is_lost:
            expected.is_running, expected.begun_at = True, self.now
            self.hear(claim)
        execution = Execution(
            self.db, self.settings, self.row, claim.claim, "run", threading.Event(), source=claim.source
        )
        self.note_end(claim, claim.begin(execution))

    @precondition(lambda self: any(claim.thread for claim in self.claims))
    @rule(data=st.data(), command=st.sampled_from(["page", "page", "end", "fail"]))
    def execution_goes_on(self, data: st.DataObject, command: Command) -> None:
        claim = data.draw(st.sampled_from([claim for claim in self.claims if claim.thread]))
        self.hear(claim)
        self.note_end(claim, claim.go_on(command), command)

    def hear(self, claim: Running) -> None:
        """On a database with one writer, each transaction of an execution is a heartbeat."""
        if self.db.engine.single_writer and not claim.is_lost:
            self.heard[claim.claim.worker_id] = self.now

    def note_end(self, claim: Running, outcome: Outcome | None, command: Command = "page") -> None:
        expected = self.of[claim.claim.connection_id]
        if outcome is None:
            return
        self.claims.remove(claim)
        if claim.is_lost:
            assert outcome.status == "lost", outcome
            return
        statuses = {{"end": "succeeded", "fail": "failed"}.get(command, "cancelled")}
        assert outcome.status in statuses | ({"cancelled"} if expected.is_cancelled else set()), outcome
        expected.failures = {"succeeded": 0, "failed": expected.failures + 1}.get(outcome.status, expected.failures)
        expected.free(keeps=expected.is_asked_again)
        expected.losses = 0
        if outcome.status == "succeeded":
            assert self.live(claim.claim.connection_id) == dict(expected.log)

    # --- requests -----------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(TARGETS))
    def somebody_pauses(self, name: str) -> None:
        queue.set_state(self.db, self.row.id, "PAUSED", name)
        expected = self.of[name]
        is_held = expected.holder is not None
        expected.state, expected.is_triggered, expected.is_asked_again = "PAUSED", False, False
        expected.reset, expected.empty_cache = is_held and expected.reset, is_held and expected.empty_cache

    @rule(name=st.sampled_from(TARGETS))
    def somebody_starts(self, name: str) -> None:
        queue.set_state(self.db, self.row.id, "STARTED", name)
        expected = self.of[name]
        expected.is_triggered |= expected.state == "PAUSED" and expected.holder is None
        expected.state = "STARTED"

    @rule(name=st.sampled_from(TARGETS))
    def somebody_triggers(self, name: str) -> None:
        queue.trigger(self.db, self.row.id, name)
        self.of[name].is_triggered |= self.of[name].holder is None

    @rule(name=st.sampled_from(TARGETS), empty_cache=st.booleans())
    def somebody_resets(self, name: str, empty_cache: bool) -> None:
        queue.trigger(self.db, self.row.id, name, reset=True, empty_cache=empty_cache)
        expected = self.of[name]
        expected.is_triggered = expected.reset = True
        expected.empty_cache |= empty_cache
        if expected.holder is not None:
            expected.is_cancelled = expected.is_asked_again = True

    @rule(name=st.sampled_from(TARGETS))
    def somebody_cancels(self, name: str) -> None:
        queue.cancel(self.db, self.row.id, name)
        expected = self.of[name]
        if expected.holder is not None:
            expected.is_cancelled, expected.is_asked_again = True, False
        else:
            expected.is_triggered = expected.reset = expected.empty_cache = False

    # --- readers ------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(TARGETS))
    def reader_follows(self, name: str) -> None:
        dataset = self.dataset(name)
        if dataset is None:
            return
        while records := listing.page(self.db, dataset.id, RecordSelection(after=self.places[name]), 2).records:
            for record in records:
                self.copies[name].pop(int(record.external_id), None)
                if record.deleted_at is None:
                    self.copies[name][int(record.external_id)] = json.loads(record.text or "")["version"]
            self.places[name] = records[-1].cursor(dataset.id)
        assert self.copies[name] == self.live(name), "a reader has lost a change"

    # --- what always holds --------------------------------------------------------------------------------------------

    @property
    def slot(self) -> datetime:
        return self.row.sync.latest_slot(clock.now())

    def dataset(self, target: str) -> datasets.Dataset | None:
        return datasets.find(self.db, self.row.sync.integration_key, target, "base", self.row.sync.model)

    def live(self, target: str) -> dict[int, int]:
        """The versions of the live records by their ids."""
        of = schema.raw.c
        dataset = self.dataset(target)
        if dataset is None:
            return {}
        query = sa.select(sa.cast(of.data, sa.Text)).where(of.dataset_id == dataset.id, of.deleted_at.is_(None))
        with self.db.connect() as connection:
            records = [json.loads(text) for text in connection.execute(query).scalars()]
        return {record["id"]: record["version"] for record in records}

    @invariant()
    def every_schedule_is_as_the_rules_say(self) -> None:
        """Among others: a lost execution is due again, a paused one is not, and only claimed ones are running."""
        of, is_due = schema.schedules.c, due.is_due(self.db, self.row.id, self.slot)
        jobs = sa.select(sa.func.count()).where(
            *(schema.jobs.c[name] == of[name] for name in ("sync_id", "connection_id", "variant")),
            schema.jobs.c.status == "running",
        )
        query = sa.select(
            *(of[name] for name in ("connection_id", "state", "reset", "empty_cache", "losses", "failures")),
            *(of.worker_id, of.checkpoint, of.triggered_at.is_not(None).label("is_triggered")),
            *(of.cancelled_at.is_not(None).label("is_cancelled"), is_due.label("is_due")),
            jobs.scalar_subquery().label("running"),
        ).where(of.sync_id == self.row.id, of.connection_id.in_(TARGETS))
        with self.db.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            expected = self.of[row.connection_id]
            assert (row.state, row.reset, row.empty_cache, row.losses, row.failures, row.worker_id) == (
                expected.state,
                expected.reset,
                expected.empty_cache,
                expected.losses,
                expected.failures,
                expected.holder,
            )
            assert (row.is_triggered, row.is_cancelled, bool(row.is_due), row.running) == (
                expected.is_triggered,
                expected.is_cancelled,
                expected.is_due(self.now),
                int(expected.is_running),
            )
            self.assert_rows_reach(row.connection_id, row.checkpoint)

    def assert_rows_reach(self, name: str, checkpoint: str | None) -> None:
        """No checkpoint is ahead of the committed rows."""
        if checkpoint is not None:
            read = self.of[name].log[: json.loads(checkpoint)["position"]]
            live = self.live(name)
            assert all(live.get(id, -1) >= version for id, version in dict(read).items())

    def teardown(self) -> None:
        """Zombies wake up and change nothing; one more worker brings everything to its end."""
        try:
            self.time_passes("a lease")
            self.reaper_comes()
            for claim in [claim for claim in self.claims if claim.thread]:
                self.note_end(claim, claim.go_on("end"), "end")
            self.claims.clear()
            self.every_schedule_is_as_the_rules_say()
            for target in TARGETS:
                self.somebody_triggers(target)
            worker = queue.start_worker(self.db, self.row.id, "last")
            self.heard[worker.id] = self.now
            while claims := queue.claim(self.db, worker, limit=1, slot=self.slot):
                running = Running(claims[0], SteppedSource(self.of[claims[0].connection_id].log))
                self.claims.append(running)
                execution = Execution(
                    self.db, self.settings, self.row, claims[0], "last", threading.Event(), source=running.source
                )
                assert running.begin(execution) is None
                self.note_end(running, running.go_on("end"), "end")
            for target in TARGETS:
                assert self.live(target) == dict(self.of[target].log)
                self.reader_follows(target)
            queue.end_worker(self.db, worker)
        finally:
            for claim in self.claims:
                if claim.thread is not None:
                    claim.source.commands.put("fail")
                    claim.thread.join(20)
            self.clock.close()


def test_the_queue_keeps_its_rules_whatever_happens_in_whatever_order(db: Database, settings: Settings) -> None:
    examples = hypothesis_settings(
        max_examples=10,
        stateful_step_count=25,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = lambda: Machine(db, settings)  # noqa: E731 - hypothesis wants a class, and calls it
    run_state_machine_as_test(machine, settings=examples)
