"""One execution: pages in, rows and changes out, from its job's start to its end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..config import Sync
from ..errors import ApiError, Cancelled, ConfigError, Incomplete, LeaseLost, NangoError, QuotaSpent, StoreUnavailable
from ..fetch import Fetch, Page, first_request
from ..http import Limiter, redact, secrets_of
from ..settings import Settings
from ..store import Connection, Database, datasets, jobs, queue, syncs, tables
from ..store.announcing import Ended, announce
from ..store.datasets import Dataset
from ..store.jobs import Counts
from ..store.overwrite import Overwrite
from ..store.queue import CANCEL_SECONDS, Claim
from ..store.syncs import SyncRow
from ..store.tables import MappedTable
from ..store.tally import Writer
from ..store.upsert import Upsert
from .access import ConnectionAccess, access_of, note, reach_of_sync
from .functions import load_function
from .limits import limiter_of
from .values import Outcome, Progress, Source, Wishes

log = logging.getLogger(__name__)


def _no_report(progress: Progress) -> None:
    """Tell nobody."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Pull:
    """An execution that has been claimed and not begun: nothing is fetched before somebody saves it."""

    database: Database
    settings: Settings
    row: SyncRow
    claim: Claim
    run_id: str | None
    stopping: threading.Event
    """Set by whoever wants the execution to end at its next page, as cancelled."""
    wishes: Wishes = field(default_factory=Wishes)
    source: Callable[[Callable[[], bool]], Source] | None = None
    """Makes the source, given a function that says when to stop; the sync's API by default."""
    cancelled: Callable[[], bool] = _never

    def save(self, report: Callable[[Progress], None] = _no_report) -> Outcome:
        """Fetch the pages and write them; every end but a lost database is an Outcome."""
        return _Execution(self, report).run()


class _Execution:
    """One sync for one connection and variant, from its job's start to its end."""

    def __init__(self, pull: Pull, report: Callable[[Progress], None]) -> None:
        self._pull = pull
        self._database = pull.database
        self._row = pull.row
        self._claim = pull.claim
        self._sync = _as_wished(pull.row.sync, pull.wishes)
        self._report = report
        self._began = time.monotonic()
        self._cancelled = False
        self._ask_at = self._began + CANCEL_SECONDS  # the first transaction asks, too
        self._job_id = 0
        self._fetch: Source | None = None
        self._writer: Writer | None = None
        self._table: MappedTable | None = None
        self._dataset: Dataset | None = None
        self._access: ConnectionAccess | None = None

    def run(self) -> Outcome:
        """Do it; a failure of anything but the database itself ends as a failed job."""
        try:
            self._job_id = self._database.transact(self._begin)
        except LeaseLost as lost:
            return self._outcome("lost", lost)
        try:
            outcome = self._run()
        finally:
            if self._writer is not None:
                self._writer.close()
        if outcome.status != "lost":
            try:
                note(self._database, self._row, self._claim, outcome.cause, self._access)
            except StoreUnavailable as error:
                log.warning("%s: whether its credentials work is not noted: %s", self._sync.display_name, error)
        if self._table is not None:
            tables.put_aside(self._table)
        return outcome

    def _run(self) -> Outcome:
        try:
            return self._end(self._do())
        except LeaseLost as lost:
            return self._outcome("lost", lost)
        except StoreUnavailable:
            raise  # nothing can be recorded now; the reaper will, once the database is back
        except Exception as failure:
            self._keep_what_came()
            return self._end(failure)
        except BaseException:  # SIGTERM, Ctrl-C, Dagster's own
            self._keep_what_came()
            try:
                self._end(self._interrupted())
            except Exception as error:
                log.warning("%s: the end of the job could not be noted: %s", self._sync.display_name, error)
            raise

    def _interrupted(self) -> Cancelled:
        kept = "the pages that were read before" if self._sync.mode == "upsert" else "the rows that there were"
        return Cancelled(f"the run was ended from outside, as by Terminate or Ctrl-C; {kept} are kept.")

    def _keep_what_came(self) -> None:
        """Write the pages that still wait, as far as that goes, so that they are kept and counted."""
        try:
            if self._writer is not None:
                self._writer.settle(complete=False)
        except Exception as error:
            log.debug("%s: the last pages could not be written: %s", self._sync.display_name, error)

    def _begin(self, connection: Connection) -> int:
        self._cancelled = self._guard(connection)
        queue.begin_execution(connection, self._database, self._claim)
        return jobs.start(connection, self._database, self._claim, self._row, self._pull.run_id)

    def _guard(self, connection: Connection) -> bool:
        """First in every transaction: the dataset's lock, and the proof that the execution is still ours.

        Whether somebody wants it to stop.
        """
        claim = self._claim
        queue.lock_dataset(connection, self._database, claim.sync_id, claim.connection_id, claim.variant)
        return queue.check(connection, self._database, claim)

    def _guard_or_stop(self, connection: Connection) -> None:
        """The same where an execution can stop between two transactions though it fetches nothing."""
        if self._guard(connection) or self._is_run_stopped():
            raise Cancelled

    def _is_run_stopped(self) -> bool:
        return self._pull.stopping.is_set() or self._pull.cancelled()

    def _is_stopped(self) -> bool:
        """Whether the run is to stop, or somebody asked this execution to; the store is asked now and then.

        Not from within a transaction: who holds a connection and waits for a second one may wait for others who do.
        """
        if not self._cancelled and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + CANCEL_SECONDS
            try:
                self._cancelled = queue.is_cancelled(self._database, self._claim)
            except Exception as error:
                # It is asked from the thread that fetches; whoever writes next finds out what is wrong.
                log.debug("%s: is it cancelled? %s", self._sync.display_name, error)
        return self._cancelled or self._is_run_stopped()

    def _do(self) -> Exception | None:
        """Map what has to be mapped anew, pull, write; the error that ended the pull early, if one did."""
        self._dataset = self._find_dataset()
        if self._pull.wishes.empty_cache or self._claim.empty_cache:
            self._database.transact(self._empty)
            self._dataset = self._find_dataset()
        if self._dataset.etag == datasets.PRUNED:
            self._database.transact(self._ask_for_all)
            self._dataset = replace(self._dataset, etag=None)
        if self._pull.source is None:
            self._access = self._open_access()
        self._table = self._open_table(self._dataset)
        make = Upsert if self._sync.mode == "upsert" else Overwrite
        self._writer = make(self._database, self._sync, self._dataset, self._table, self._guard)
        with (
            limiter_of(self._database, self._sync, self._claim.connection_id) as limiter,
            contextlib.closing(self._open_source(limiter)) as self._fetch,
        ):
            error = self._copy(self._fetch, self._writer) or self._is_half() or self._is_unreadable()
        if self._is_not_modified():
            self._writer.tally.unchanged = self._dataset.live_count
        else:
            self._writer.settle(complete=error is None and self._is_complete())
        return error or self._is_keyless()

    def _find_dataset(self) -> Dataset:
        """The sync's records for this connection and variant; those under a model's old name become the new one's."""
        named = (self._sync.integration_key, self._claim.connection_id, self._claim.variant, self._sync.model)
        with self._database.ask() as connection:
            here = datasets.of_one(connection, self._row.id, self._claim.connection_id, self._claim.variant)
        for dataset in here:
            if (dataset.integration, dataset.model) == (named[0], named[3]):
                return dataset
        if len(here) == 1:
            self._refuse_of_others(datasets.find(self._database, *named))
            self._database.transact(lambda connection: self._rename(connection, here[0]))
        found = datasets.find_or_make(self._database, self._row.id, *named)
        self._refuse_of_others(found)
        return found

    def _refuse_of_others(self, found: Dataset | None) -> None:
        """Two syncs that wrote the same records would delete each other's."""
        if found is None or found.sync_id == self._row.id:
            return
        other = syncs.get(self._database, found.sync_id)
        name = other.name if other is not None else f"with the id {found.sync_id}"
        raise ConfigError(
            f"{self._sync.display_name}: the model {found.model} of {found.integration} is stored by the sync {name}; "
            f"give one of them another model. If that is this sync's old name: nango-dagster remove {name}, and its "
            "records are read again."
        )

    def _rename(self, connection: Connection, dataset: Dataset) -> None:
        self._guard(connection)
        tables.rename_rows(connection, self._database, dataset, self._sync.model)
        datasets.rename(connection, dataset, self._sync.integration_key, self._sync.model)

    def _empty(self, connection: Connection) -> None:
        """Delete every record, so that this execution adds them all again."""
        self._guard(connection)
        assert self._dataset is not None
        tables.forget_dataset(connection, self._database, self._dataset)
        datasets.empty(connection, self._dataset.id)

    def _ask_for_all(self, connection: Connection) -> None:
        """Before any record is looked up: whatever is pruned from now on may not come back with this execution."""
        self._guard(connection)
        assert self._dataset is not None
        datasets.ask_for_all(connection, self._dataset.id)

    def _open_table(self, dataset: Dataset) -> MappedTable | None:
        """The mapped table, its rows made anew where the mapping changed since they were written."""
        transform = load_function(self._sync.transform) if self._sync.transform else None
        table = tables.open_table(self._database, self._row.id, self._sync, transform, self._starred)
        if table is None:
            if dataset.mapped_table is not None:
                self._database.transact(self._unmap)
            return None
        with self._database.ask() as connection:
            now = datasets.read(connection, dataset.id)
        if now.mapping_version != table.version:
            count = tables.rebuild(self._database, table, now, self._guard_or_stop)
            if count:
                log.info("%s: mapped %s records again into %s.", self._sync.display_name, f"{count:,}", table.name)
        return table

    def _unmap(self, connection: Connection) -> None:
        """Rows of a table that is mapped no more stay as they are, to be made anew or taken out one day."""
        self._guard(connection)
        assert self._dataset is not None and self._dataset.mapped_table is not None
        datasets.mapped(connection, self._dataset.id, datasets.stale(self._dataset.mapped_table))

    def _open_access(self) -> ConnectionAccess:
        pull, claim = self._pull, self._claim
        anew = claim.reset or claim.empty_cache or pull.wishes.reset or pull.wishes.empty_cache or self._needs_all()
        return access_of(self._database, pull.settings, self._row, claim, cancelled=self._is_stopped, anew=anew)

    def _needs_all(self) -> bool:
        """Whether what has changed since the last success is too little.

        It was emptied and not filled since, or its records go by another key: whatever is not seen under the new one
        goes at the end.
        """
        here = self._dataset
        if here is None:
            return False
        return here.etag == datasets.EMPTIED or (here.live_count > 0 and here.unique_key != self._sync.unique_key)

    def _starred(self, text: str) -> str:
        """What foreign code has said, without the secrets that the config and the connection hold."""
        if self._access is None:
            return text
        return redact(text, [*secrets_of(first_request(self._sync)), *self._access.secrets()])

    def _open_source(self, limiter: Limiter | None) -> Source:
        if self._pull.source is not None:
            return self._pull.source(self._is_stopped)
        return Fetch(
            self._sync,
            access=self._access,
            cancelled=self._is_stopped,
            reach=reach_of_sync(self._database, self._pull.settings, self._sync, posted=self._row.origin == "http"),
            etag=self._dataset.etag if self._dataset else None,
            limiter=limiter,
        )

    def _is_not_modified(self) -> bool:
        """Whether the API said that its list is still the one that the last execution stored as a whole."""
        return isinstance(self._fetch, Fetch) and self._fetch.not_modified

    def _etag_to_keep(self, status: str) -> str | None:
        """The list's ETag, with what was asked; only of a list of one page that was stored as a whole."""
        fetch, counts = self._fetch, self._counts()
        if status != "succeeded" or not isinstance(fetch, Fetch) or counts.rejected or not self._is_complete():
            return None
        return fetch.etag_to_keep

    def _copy(self, fetch: Source, writer: Writer) -> Exception | None:
        """Hand every page to the writer; what ended the list early is returned, so that good pages are kept."""
        pages = iter(fetch)
        while True:
            try:
                page = next(pages, None)
            except Exception as error:
                return error
            if page is None:
                return None
            self._count_rejected(page, writer)
            writer.add(page.records)
            self._report(self._progress(fetch))
            if self._is_stopped():
                return Cancelled()
            if too_long := self._too_long():
                return too_long

    def _count_rejected(self, page: Page, writer: Writer) -> None:
        for rejected in page.rejected:
            writer.tally.unreadable += 1
            writer.tally.reject(f"{rejected.position} of page {page.number}", rejected.reason)

    def _too_long(self) -> Exception | None:
        limit = self._sync.max_duration
        if limit is None or time.monotonic() - self._began < limit:
            return None
        return Incomplete(
            f"{self._sync.display_name}: stopped after max_duration ({limit:g} s); the pages so far are kept."
        )

    def _progress(self, fetch: Source) -> Progress:
        return Progress(self._sync.display_name, fetch.pages, fetch.records, time.monotonic() - self._began)

    def _is_complete(self) -> bool:
        """Whether what is missing now is really gone. `max_total` bounds what an overwrite keeps."""
        stop = self._fetch.stop if self._fetch else None
        if stop is None:
            return False
        return stop.complete or (stop.reason == "max_total" and self._sync.mode == "overwrite")

    def _is_half(self) -> Exception | None:
        """What is wrong with an overwrite that would have to replace all rows by a part of the list."""
        if self._sync.mode == "upsert" or self._is_complete():
            return None
        return Incomplete(
            f"{self._sync.display_name}: the list was not read to its end ({self._stop_reason()}), and without a "
            "unique_key only a whole list can replace the rows there are; they were kept."
        )

    def _is_unreadable(self) -> Exception | None:
        """What is wrong with a list of which no record can be stored; nothing is deleted for it."""
        tally, fetch = self._writer.tally if self._writer else None, self._fetch
        if tally is None or fetch is None or fetch.records or not tally.unreadable:
            return None
        return ApiError(
            f"{self._sync.display_name}: no record of {tally.unreadable:,} could be stored: {tally.reasons[0]}."
        )

    def _is_keyless(self) -> Exception | None:
        """What is wrong with a unique_key that no record has; nothing was deleted for it, as no key is known."""
        tally, fetch = self._writer.tally if self._writer else None, self._fetch
        if tally is None or fetch is None or not 0 < tally.keyless == fetch.records:
            return None
        return ApiError(
            f"{self._sync.display_name}: no record of {fetch.records:,} could be stored: {tally.keyless_reason}."
        )

    # --- the end ---------------------------------------------------------------------------------------

    def _end(self, error: Exception | None) -> Outcome:
        """The last changes, the job's end and the claim's release, in one transaction."""
        status = "cancelled" if isinstance(error, Cancelled | QuotaSpent) else "failed" if error else "succeeded"
        before = replace(self._writer.tally) if self._writer else None
        try:
            self._database.transact(lambda connection: self._finish(connection, status, error))
        except LeaseLost as lost:
            return self._outcome("lost", lost)
        except BaseException:
            if self._writer is not None and before is not None:
                self._writer.tally = before  # the last changes were rolled back
            raise
        return self._outcome(status, error)

    def _finish(self, connection: Connection, status: str, error: Exception | None) -> None:
        self._guard(connection)
        if self._writer is not None and status == "succeeded":
            self._writer.finish(connection)
        if self._table is not None and self._table.incomplete and self._dataset is not None:
            datasets.mapped(connection, self._dataset.id, datasets.stale(self._table.name))
        if self._dataset is not None and self._dataset.etag != (etag := self._etag_to_keep(status)):
            whole = status == "succeeded" and self._is_complete()
            datasets.remember_etag(connection, self._dataset.id, etag, whole=whole)
        jobs.finish(
            connection,
            self._database,
            self._job_id,
            status=status,
            counts=self._counts(),
            stop_reason=self._stop_reason(),
            warnings=self._warnings(),
            error=self._starred(str(error)) if error else None,
            stack=self._stack(error),
        )
        self._announce(connection, status, error)
        succeeded = {"succeeded": True, "cancelled": None}.get(status, False)
        not_before = error.until if isinstance(error, QuotaSpent) else None
        queue.release(connection, self._database, self._claim, succeeded=succeeded, not_before=not_before)

    def _announce(self, connection: Connection, status: str, error: Exception | None) -> None:
        """Tell of what has changed, by this execution or by one before it, and of a failure."""
        counts, dataset = self._counts(), self._dataset
        has_news = counts.added or counts.updated or counts.deleted or (dataset is not None and dataset.has_news)
        if not has_news and status != "failed" and "always" not in self._database.announcing.on:
            return
        announce(
            connection,
            self._database,
            Ended(
                job_id=self._job_id,
                sync_id=self._row.id,
                sync_name=self._row.name,
                integration=self._sync.integration_key,
                connection_id=self._claim.connection_id,
                variant=self._claim.variant,
                model=self._sync.model,
                succeeded=status == "succeeded",
                error=self._starred(str(error)) if status == "failed" else None,
            ),
            dataset,
            overridden=self._access is not None and self._access.has_webhook_url,
        )

    def _stack(self, error: Exception | None) -> str | None:
        return self._starred("".join(traceback.format_exception(error))) if error else None

    def _counts(self) -> Counts:
        fetch, tally = self._fetch, self._writer.tally if self._writer else None
        return Counts(
            added=tally.added if tally else 0,
            updated=tally.updated if tally else 0,
            deleted=tally.deleted if tally else 0,
            unchanged=tally.unchanged if tally else 0,
            rejected=tally.rejected if tally else 0,
            fetched=fetch.records if fetch else 0,
            pages=fetch.pages if fetch else 0,
            requests=fetch.requests if fetch else 0,
            retries=fetch.retries if fetch else 0,
        )

    def _stop_reason(self) -> str | None:
        return self._fetch.stop.reason if self._fetch and self._fetch.stop else None

    def _warnings(self) -> list[str]:
        tally = self._writer.tally if self._writer else None
        said = list(tally.reasons) if tally else []
        if tally and tally.repeated:
            said.append(f"{tally.repeated:,} records came more than once; the last one of each key was kept.")
        if self._table is not None:
            said += [
                f"{count:,} values did not fit column {name}." for name, count in self._table.misfits.most_common(50)
            ]
            if self._table.incomplete:
                said.append(f"table {self._table.name} was in use; its new columns wait for the next execution.")
        return said

    def _outcome(self, status: str, error: Exception | None) -> Outcome:
        table = self._table
        counts, live = self._counts(), self._dataset.live_count if self._dataset is not None else 0
        if self._dataset is not None and status != "lost" and (counts.added or counts.deleted):
            # What is committed is committed, whether anybody can count it now or not.
            with contextlib.suppress(StoreUnavailable), self._database.ask() as connection:
                live = datasets.read(connection, self._dataset.id).live_count
        return Outcome(
            job_id=self._job_id,
            status=status,
            counts=counts,
            stop_reason=self._stop_reason(),
            error=self._starred(str(error)) if error else None,
            cause=error,
            stack=None if isinstance(error, NangoError) else self._stack(error),
            seconds=time.monotonic() - self._began,
            live_count=live,
            table=table.name if table else None,
            columns=tuple(table.layout.columns) if table else (),
            new_columns=tuple(column.name for column in table.new_columns) if table else (),
            misfits=dict(table.misfits) if table else {},
            complete=self._is_complete(),
            warnings=tuple(self._warnings()),
            sample=tuple(self._writer.tally.sample) if self._writer else (),
        )


def _as_wished(sync: Sync, wishes: Wishes) -> Sync:
    """The sync, with its guard against mass deletion lifted where somebody said so."""
    tracking = sync.track_deletes
    if not wishes.accept_deletes or tracking is None:
        return sync
    return sync.model_copy(update={"track_deletes": tracking.model_copy(update={"max_fraction": 1.0})})
