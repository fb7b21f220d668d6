"""One execution of a sync for one connection and variant: begin, open, read, end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from .. import clock
from ..config import Sync, TrackDeletes
from ..errors import Cancelled, LeaseLost, StoreUnavailable
from ..node.source import NodeScript
from ..scripts import script_of
from ..settings import Settings
from ..sources import ForEachList, Source, source_of
from ..store import Connection, Database, checkpoints, jobs, tables, windows
from ..store.queue import Claim
from ..store.sync_row import SyncRow
from . import ending, opening, reading
from .access import note
from .ending import Facts
from .lease import Lease
from .opening import Plan
from .reading import ModelSink, Report
from .values import Outcome, Progress, Wishes

log = logging.getLogger(__name__)


def _no_report(progress: Progress) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Execution:
    """An execution that has been claimed and has not begun; nothing is read before `run`."""

    database: Database
    settings: Settings
    row: SyncRow
    claim: Claim
    run_id: str | None
    stopping: threading.Event
    """Set to end the execution at its next page, as cancelled."""
    wishes: Wishes = field(default_factory=Wishes)
    source: Source | None = None
    """None for the list of the sync's config."""
    cancelled: Callable[[], bool] = lambda: False

    def run(self, report: Report = _no_report) -> Outcome:
        """Read the source and store its records; every end but that of an unreachable database is an Outcome."""
        return _Steps(self, report).run()

    def plan(self) -> Plan:
        """The plan of this execution."""
        sync = _as_wished(self.row.sync, self.wishes)
        lease = Lease(self.database, self.claim, sync.display_name, self.stopping, self.cancelled)
        source = self.source or source_for(sync, self.settings)
        return Plan(self.database, self.settings, self.row, sync, self.claim, source, self.wishes, lease)


def source_for(sync: Sync, settings: Settings) -> Source:
    """The source that a config describes: a script, or a list."""
    if sync.script_language == "typescript":
        return NodeScript(sync, settings.home)
    if sync.script is not None:
        return script_of(sync, settings.configs, settings.script_memory)
    return source_of(sync) if sync.for_each is None else ForEachList(sync)


class _Steps:
    """The steps of an execution; `facts` has the results of the steps so far, for an end at any of them."""

    def __init__(self, execution: Execution, report: Report) -> None:
        self._execution = execution
        self._plan = execution.plan()
        self._report = report
        self._facts = Facts(self._plan, began=clock.monotonic())
        self._sink: ModelSink | None = None
        self._began_at = clock.now()

    @property
    def facts(self) -> Facts:
        """The facts with the numbers of this moment."""
        sink = self._sink
        return replace(self._facts, numbers=sink.numbers, checkpoint=sink.checkpoint) if sink else self._facts

    def run(self) -> Outcome:
        """Take all steps; a failure of anything but the database ends as a failed job."""
        plan = self._plan
        try:
            job_id, self._began_at = plan.database.transact(self._begin)
            self._facts = replace(self._facts, job_id=job_id)
        except LeaseLost as lost:
            return ending.outcome(self.facts, "lost", lost)
        try:
            outcome = self._read_and_end()
        finally:
            self._facts.opened.close()
        if outcome.status != "lost":
            self._note_credentials(outcome)
        for model in self._facts.opened.models:
            if model.table is not None:
                tables.cache_layout(model.table)
        return outcome

    def _begin(self, connection: Connection) -> tuple[int, datetime]:
        """Start the job; its id, and the time."""
        plan = self._plan
        plan.lease.begin(connection)
        if plan.resets:
            checkpoints.forget(connection, plan.claim.schedule_id)
            windows.drop_of(connection, plan.claim.target)
        job_id = jobs.start(connection, plan.database, plan.claim, plan.row, self._execution.run_id)
        return job_id, plan.database.now(connection)

    def _read_and_end(self) -> Outcome:
        try:
            error = self._open_and_read()
            return ending.end(self.facts, error)
        except LeaseLost as lost:
            return ending.outcome(self.facts, "lost", lost)
        except StoreUnavailable:
            raise  # nothing can be recorded now; the job is ended as lost once the database is back
        except Exception as failure:
            self._commit_waiting()
            return ending.end(self.facts, failure)
        except BaseException:  # SIGTERM, Ctrl-C, Dagster's own
            self._commit_waiting()
            try:
                ending.end(self.facts, self._interruption())
            except Exception as error:
                log.warning("%s: the end of the job could not be stored: %s", self._plan.sync.display_name, error)
            raise

    def _open_and_read(self) -> Exception | None:
        """Open, read, and prepare the end; the error that the execution ends with, if there is one."""
        plan = self._plan
        self._facts = replace(self._facts, opened=opening.open_datasets(plan))
        for open_next in (opening.open_access, opening.open_models):
            self._facts = replace(self._facts, opened=open_next(plan, self._facts.opened))
        models = self._facts.opened.models
        self._sink = ModelSink(plan, models, self._facts.began, self._report)
        self._facts = replace(self._facts, reading=reading.read(plan, self._facts.opened, self._sink, self._began_at))
        result, facts = self._facts.reading, self.facts
        error = result.error or ending.defect(facts)
        if result.ending is not None and result.ending.not_modified:
            for model in models:
                model.writer.tally.unchanged = model.dataset.live_count
        else:
            for model in models:
                model.writer.settle(complete=error is None and facts.may_end(model))
        return error or ending.doubtful_deletion(facts) or ending.keyless(facts)

    def _commit_waiting(self) -> None:
        """Commit the records that were read and not yet committed, as far as that is possible."""
        try:
            for model in self._facts.opened.models:
                model.writer.settle(complete=False)
        except Exception as error:
            log.debug("%s: the last pages could not be stored: %s", self._plan.sync.display_name, error)

    def _interruption(self) -> Cancelled:
        kept = "the pages that were read before" if self._plan.sync.mode == "upsert" else "the rows that there were"
        return Cancelled(f"the run was ended from outside, as by Terminate or Ctrl-C; {kept} are kept.")

    def _note_credentials(self, outcome: Outcome) -> None:
        """Note on the connection whether its credentials were refused."""
        plan = self._plan
        try:
            note(plan.database, plan.row, plan.claim, outcome.cause, self._facts.opened.access)
        except StoreUnavailable as error:
            log.warning("%s: whether its credentials work is not stored: %s", plan.sync.display_name, error)


def _as_wished(sync: Sync, wishes: Wishes) -> Sync:
    """The sync, without its guard against mass deletion where the caller accepts that."""
    tracking = sync.track_deletes or (TrackDeletes() if sync.mode == "overwrite" else None)
    if not wishes.accept_deletes or tracking is None:
        return sync
    return sync.model_copy(update={"track_deletes": tracking.model_copy(update={"max_fraction": 1.0})})
