"""The end of an execution: its last changes, its job, its notifications and its claim, in one transaction."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .. import clock
from ..errors import ApiError, Cancelled, Incomplete, LeaseLost, NangoError, QuotaSpent, StoreUnavailable
from ..sentences import number_of
from ..sources import Numbers
from ..store import Connection, checkpoints, datasets, jobs, problems, queue, rejected, validation
from ..store.announcing import Ended, announce
from ..store.checkpoints import Change
from ..store.jobs import Counts
from ..store.tally import Tally
from .opening import Opened, OpenModel, Plan, starred
from .reading import INTERRUPTED, Reading, checkpoint_before
from .values import ModelOutcome, Outcome

Status = Literal["succeeded", "failed", "cancelled", "lost"]


@dataclass(frozen=True)
class Facts:
    """All that is known of an execution when it ends, however far it came."""

    plan: Plan
    began: float
    """Of clock.monotonic()."""
    job_id: int = 0
    opened: Opened = field(default_factory=Opened)
    numbers: Numbers = field(default_factory=Numbers)
    checkpoint: Change | None = None
    """How the checkpoint changed; None where it did not."""
    reading: Reading = field(default_factory=Reading)

    @property
    def tallies(self) -> list[Tally]:
        """The counts of each model's writer."""
        return [model.writer.tally for model in self.opened.models]

    @property
    def is_complete(self) -> bool:
        """Whether records that were not read are gone from the source. `max_total` bounds what an overwrite keeps."""
        ending = self.reading.ending
        if ending is None:
            return False
        return ending.complete or (ending.reason == "max_total" and self.plan.sync.mode == "overwrite")

    def may_end(self, model: OpenModel) -> bool:
        """Whether the model's writer may prepare the end of a complete list.

        An overwrite does so, too, where there is only a doubt: it ends well as long as it deletes nothing.
        """
        return self.is_complete or (_doubt(self) is not None and model.sync.mode == "overwrite")


def defect(facts: Facts) -> Exception | None:
    """Why what was read must not be stored as the list, if that is so."""
    return _partial_overwrite(facts) or _unreadable(facts)


def doubtful_deletion(facts: Facts) -> Exception | None:
    """The error of an overwrite that would delete rows because of a list that may have more pages."""
    plan, doubt = facts.plan, _doubt(facts)
    count = sum(model.writer.deletions for model in facts.opened.models)
    if doubt is None or not count or plan.wishes.accept_deletes:
        return None
    return Incomplete(
        f"{plan.sync.display_name}: the list lacks {number_of(count, 'stored row')} and may have more pages: {doubt} "
        "Without a unique_key only a whole list can replace the rows, so they were kept. Correct the paging field "
        f"(nango-dagster dry-run {plan.row.name} shows the answers); if the list is whole, run the sync once with "
        "--accept-deletes."
    )


def keyless(facts: Facts) -> Exception | None:
    """The error of a unique_key that no record has; nothing was deleted for it, as no key is known."""
    count, records = sum(tally.keyless for tally in facts.tallies), facts.numbers.records
    if not 0 < count == records:
        return None
    reason = next(tally.keyless_reason for tally in facts.tallies if tally.keyless)
    return ApiError(f"{facts.plan.sync.display_name}: no record of {records:,} could be stored: {reason}.")


def _partial_overwrite(facts: Facts) -> Exception | None:
    if all(facts.may_end(model) or model.sync.mode == "upsert" for model in facts.opened.models):
        return None
    reason = facts.reading.ending.reason if facts.reading.ending else None
    return Incomplete(
        f"{facts.plan.sync.display_name}: the list was not read to its end ({reason}), and without a "
        "unique_key only a whole list can replace the rows there are; they were kept."
    )


def _unreadable(facts: Facts) -> Exception | None:
    """The error of a list of which no record can be stored; nothing is deleted for it."""
    count = sum(tally.unreadable for tally in facts.tallies)
    if facts.numbers.records or not count:
        return None
    reason = next(tally.reasons[0] for tally in facts.tallies if tally.reasons)
    return ApiError(f"{facts.plan.sync.display_name}: no record of {count:,} could be stored: {reason}.")


# --- the closing transaction ------------------------------------------------------------------------------------------


def end(facts: Facts, error: Exception | None) -> Outcome:
    """Store the last changes, end the job, write the notifications and release the claim, in one transaction."""
    status: Status = "cancelled" if isinstance(error, Cancelled | QuotaSpent) else "failed" if error else "succeeded"
    before = [replace(tally) for tally in facts.tallies]
    try:
        facts.plan.database.transact(lambda connection: _finish(connection, facts, status, error))
    except LeaseLost as lost:
        return outcome(facts, "lost", lost)
    except BaseException:
        for model, tally in zip(facts.opened.models, before, strict=True):
            model.writer.tally = tally  # the last changes were rolled back
        raise
    return outcome(facts, status, error)


def _finish(connection: Connection, facts: Facts, status: Status, error: Exception | None) -> None:
    plan = facts.plan
    plan.lease.check(connection)
    for model in facts.opened.models:
        _finish_model(connection, facts, model, status)
    if (ended := facts.reading.ending) is not None and _keeps_checkpoint(facts, status):
        checkpoints.save(connection, plan.claim.schedule_id, ended.checkpoint)
    end = jobs.End(
        status,
        stop_reason=_stop_reason(facts),
        warnings=_warnings(facts),
        error=_starred(facts, str(error)) if error else None,
        stack=_stack(facts, error),
    )
    jobs.finish(connection, plan.database, facts.job_id, counts_of(facts), end)
    _announce(connection, facts, status, error)
    succeeded = {"succeeded": True, "cancelled": None}.get(status, False)
    not_before = error.until if isinstance(error, QuotaSpent) else None
    is_interrupted = status == "succeeded" and ended is not None and ended.reason == INTERRUPTED
    queue.release(
        connection,
        plan.database,
        plan.claim,
        succeeded=succeeded,
        not_before=not_before,
        is_interrupted=is_interrupted,
    )


def _checkpoint_change(facts: Facts, status: Status) -> Change | None:
    """How the execution changed the checkpoint; None where it did not."""
    ending = facts.reading.ending
    if ending is None or not _keeps_checkpoint(facts, status):
        return facts.checkpoint
    change = Change(checkpoint_before(facts.plan), ending.checkpoint)
    return facts.checkpoint if change.before == change.after else change


def _keeps_checkpoint(facts: Facts, status: Status) -> bool:
    """Whether the checkpoint of the ending is stored: everything before it is."""
    ending = facts.reading.ending
    if status != "succeeded" or ending is None or not ending.saves_checkpoint:
        return False
    return not counts_of(facts).rejected


def _finish_model(connection: Connection, facts: Facts, model: OpenModel, status: Status) -> None:
    dataset, table = model.dataset, model.table
    if status == "succeeded":
        model.writer.finish(connection)
    if table is not None and table.incomplete:
        datasets.mark_mapped(connection, dataset.id, table.name, None)
    _note_problems(connection, facts, model, whole=status == "succeeded" and facts.is_complete)
    etag = _etag_to_keep(facts, status)
    if dataset.is_emptied or dataset.etag != etag:
        whole = status == "succeeded" and facts.is_complete
        datasets.remember_etag(connection, dataset.id, etag, whole=whole)


def _note_problems(connection: Connection, facts: Facts, model: OpenModel, *, whole: bool) -> None:
    """Store the rejected records, and set the standing warnings of the tally.

    A standing warning tells of records or values that earlier executions rejected. `whole` is whether this execution
    read the whole list.
    """
    database, tally = facts.plan.database, model.writer.tally
    ending = facts.reading.ending
    if ending is not None and ending.not_modified:
        whole = False  # nothing was read
    stored, rejected_count = problems.read(connection, model.dataset.id)
    if rejected_count or tally.rejections:
        read = None if whole else model.writer.read
        rejected.store(connection, model.dataset.id, tally.rejections, database.now(connection), read)
        rejected_count = rejected.count(connection, model.dataset.id)
    tally.standing = []
    if rejected_count and not tally.rejected:
        tally.standing.append(
            f"{rejected_count:,} rejected records are not stored; "
            f"nango-dagster rejected {facts.plan.row.name} shows them."
        )
    if model.table is not None:
        tally.standing += stored.sentences()


def _etag_to_keep(facts: Facts, status: Status) -> str | None:
    """The version of a list that was stored as a whole, with nothing rejected."""
    ending = facts.reading.ending
    if status != "succeeded" or ending is None or not facts.is_complete or counts_of(facts).rejected:
        return None
    return ending.etag


def _announce(connection: Connection, facts: Facts, status: Status, error: Exception | None) -> None:
    """Write notifications of what has changed, by this execution or by one before it, and one of a failure."""
    plan, stored = facts.plan, facts.opened.datasets
    counts = counts_of(facts)
    has_news = counts.added or counts.updated or counts.deleted or any(dataset.has_news for dataset in stored)
    if not has_news and status != "failed" and "always" not in plan.database.webhooks.events:
        return
    access = facts.opened.access
    for number, dataset in enumerate(stored or [None]):
        ended = Ended(
            job_id=facts.job_id,
            sync_id=plan.row.id,
            sync_name=plan.row.name,
            integration=plan.sync.integration_key,
            connection_id=plan.claim.connection_id,
            variant=plan.claim.variant,
            model=dataset.model if dataset else plan.sync.model,
            succeeded=status == "succeeded",
            error=_starred(facts, str(error)) if status == "failed" and number == 0 else None,
            checkpoint=_checkpoint_change(facts, status),
        )
        overridden = access is not None and access.has_webhook_url
        announce(connection, plan.database, ended, dataset, overridden=overridden)


# --- the outcome ------------------------------------------------------------------------------------------------------


def outcome(facts: Facts, status: Status, error: Exception | None) -> Outcome:
    """The outcome for the caller; table and columns are those of the first model."""
    counts, models = counts_of(facts), facts.opened.models
    table = models[0].table if models else None
    misfits: Counter[str] = Counter()
    for model in models:
        misfits += model.table.misfits if model.table else Counter()
    return Outcome(
        job_id=facts.job_id,
        status=status,
        counts=counts,
        stop_reason=_stop_reason(facts),
        error=_starred(facts, str(error)) if error else None,
        cause=error,
        stack=None if isinstance(error, NangoError) else _stack(facts, error),
        seconds=clock.monotonic() - facts.began,
        live_count=_live_count(facts, status, counts),
        table=table.name if table else None,
        columns=tuple(table.layout.columns) if table else (),
        new_columns=tuple(column.name for model in models if model.table for column in model.table.new_columns),
        misfits=dict(misfits),
        unfit={model.sync.model: model.writer.tally.misfits for model in models if model.writer.tally.misfits},
        complete=facts.is_complete,
        standing=tuple(sentence for tally in facts.tallies for sentence in tally.standing),
        doubt=_doubt_warning(facts),
        checkpoint=_checkpoint_change(facts, status),
        warnings=tuple(_warnings(facts)),
        sample=tuple(record for tally in facts.tallies for record in tally.sample),
        further_models=tuple(map(_model_outcome, models[1:])),
    )


def _model_outcome(model: OpenModel) -> ModelOutcome:
    tally, table = model.writer.tally, model.table
    return ModelOutcome(
        model.sync.model,
        tally.added,
        tally.updated,
        tally.deleted,
        model.dataset.live_count + tally.added - tally.deleted,
        table.name if table else None,
        tuple(table.layout.columns) if table else (),
    )


def _live_count(facts: Facts, status: Status, counts: Counts) -> int:
    stored = facts.opened.datasets
    if status != "lost" and (counts.added or counts.deleted):
        # The changes are committed, also where the store cannot be queried now.
        with contextlib.suppress(StoreUnavailable), facts.plan.database.ask() as connection:
            stored = tuple(datasets.read(connection, dataset.id) for dataset in stored)
    return sum(dataset.live_count for dataset in stored)


def counts_of(facts: Facts) -> Counts:
    """The numbers of the job: over all models."""
    tallies, numbers = facts.tallies, facts.numbers
    return Counts(
        added=sum(tally.added for tally in tallies),
        updated=sum(tally.updated for tally in tallies),
        deleted=sum(tally.deleted for tally in tallies),
        unchanged=sum(tally.unchanged for tally in tallies),
        rejected=sum(tally.rejected for tally in tallies),
        fetched=numbers.records,
        pages=numbers.pages,
        requests=numbers.requests,
        retries=numbers.retries,
    )


def _warnings(facts: Facts) -> Sequence[str]:
    warnings = [doubt] if (doubt := _doubt_warning(facts)) else []
    if facts.reading.ending is not None:
        warnings += facts.reading.ending.warnings
        if facts.reading.ending.saves_checkpoint and counts_of(facts).rejected:
            warnings.append("the checkpoint stays where it was: a record was rejected, and is read again.")
    for model in facts.opened.models:
        tally, table = model.writer.tally, model.table
        warnings += [*_misfits(model), *tally.reasons, *tally.standing]
        if tally.repeated:
            warnings.append(f"{tally.repeated:,} records came more than once; the last one of each key was kept.")
        if table is None:
            continue
        if table.incomplete:
            warnings.append(f"table {table.name} was in use; its new columns wait for the next execution.")
    return warnings


def _misfits(model: OpenModel) -> list[str]:
    misfits = model.writer.tally.misfits
    return [validation.sentence(model.sync.model, misfits)] if misfits else []


def _doubt_warning(facts: Facts) -> str | None:
    doubt = _doubt(facts)
    consequence = "" if facts.plan.wishes.accept_deletes else ", so nothing was deleted"
    return None if doubt is None else f"the list may have more pages{consequence}: {doubt}"


def _doubt(facts: Facts) -> str | None:
    return facts.reading.ending.doubt if facts.reading.ending else None


def _stop_reason(facts: Facts) -> str | None:
    return facts.reading.ending.reason if facts.reading.ending else None


def _starred(facts: Facts, text: str) -> str:
    return starred(facts.plan.sync, facts.opened.access, text)


def _stack(facts: Facts, error: Exception | None) -> str | None:
    return _starred(facts, "".join(traceback.format_exception(error))) if error else None
