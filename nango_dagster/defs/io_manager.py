"""The IO manager: stores the records of syncs and of user assets, and reads their tables."""

from __future__ import annotations

import collections.abc
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, get_origin

from dagster import AssetKey, Failure, InputContext, IOManager, OutputContext

from .. import runs
from ..errors import ConfigError, NangoError
from ..fetch import Fetch
from ..partition_keys import BASE, names_of
from ..runs import Execution, Outcome, Progress
from ..sentences import number_of
from ..sources import FetchedList, Source, UserValue
from ..store import syncs, tables
from ..store.sync_row import SyncRow
from . import logs, metadata, names, user_assets
from .interrupts import Interrupts
from .resource import NangoResource

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10
_DONE = ("added", "updated", "deleted", "unchanged", "rejected")
on_progress: ContextVar[Callable[[Progress], None] | None] = ContextVar("on_progress", default=None)
"""Who, beside the run's log, wants to hear how far an execution in this process is."""


@dataclass
class Saved:
    """An execution on its way to the IO manager, and its outcome; `end` releases the claim."""

    execution: Execution
    end: Callable[[], None]
    outcome: Outcome | None = None


class Unforeseen(Exception):
    """The traceback of an error, as text: the error itself may hold secrets."""


class NangoIOManager(IOManager):
    """Writes what syncs and assets of your own give it, and reads their tables for the assets downstream.

    An asset of your own returns an iterable of dicts, a pandas DataFrame, or a function that returns one; its
    metadata may say `unique_key`, `mapped_table` and `track_deletes`, as a sync's config does.
    """

    def __init__(self, nango: NangoResource | None = None) -> None:
        self._nango = nango or NangoResource()

    # --- writing ------------------------------------------------------------------------------------------------------

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Fetch and write; the numbers of it become the materialization's metadata.

        Raises Failure with the sentence that says why, when the execution does not succeed.
        """
        if isinstance(obj, Saved):
            obj.outcome = self._save_sync(context, obj)
        else:
            try:
                with logs.into(context.log):
                    self._save_own(context, obj)
            except NangoError as error:
                raise Failure(str(error), allow_retries=False) from None

    def run(self, execution: Execution, listener: Callable[[Progress], None] | None = None) -> Outcome:
        """Run one execution, without an output context: a step may run thousands, and a context for each is slow."""
        return execution.run(reporter(listener))

    def _save_sync(self, context: OutputContext, saved: Saved) -> Outcome:
        try:
            with Interrupts(saved.execution.stopping.set):
                outcome = self.run(saved.execution, on_progress.get())
            row = saved.execution.row
            self._tell(context, outcome, row, names.source_key(row.sync))
        finally:
            saved.end()
        return outcome

    def _save_own(self, context: OutputContext, value: Any) -> None:
        """An execution of an asset that is no sync, for the one partition that the run is about."""
        key, connection_id = context.asset_key, _partition(context)
        sync = user_assets.sync_of(key, context.definition_metadata or {})
        row = syncs.register_asset(self._nango.database, sync, connection_id)
        with runs.claimed(
            self._nango.database,
            self._nango.settings,
            row,
            run_id=context.run_id,
            connection_id=connection_id,
        ) as execution:
            with Interrupts(execution.stopping.set) as interrupts:
                source = _source(key, value, interrupts)
                outcome = self.run(replace(execution, source=source), on_progress.get())
            self._tell(context, outcome, row, None)

    def _tell(self, context: OutputContext, outcome: Outcome, row: SyncRow, source: AssetKey | None) -> None:
        """The outcome in the run's log and on the materialization, or as the run's failure."""
        tell(row.sync.display_name, outcome)
        if outcome.status != "succeeded":
            # A sentence of ours is enough; of what nobody foresaw the traceback is shown, too.
            unforeseen = Unforeseen(outcome.stack) if outcome.stack else None
            raise failure(row.sync.display_name, outcome) from unforeseen
        partition = context.has_asset_partitions
        context.add_output_metadata(metadata.of_outcome(outcome, self._nango.database, source, partition=partition))

    # --- reading ------------------------------------------------------------------------------------------------------

    def load_input(self, context: InputContext) -> Any:
        """The upstream's rows, of the partitions that are asked for.

        A pandas DataFrame; a list of dicts or an iterator of them where the input is annotated as `list` or
        `collections.abc.Iterator`.
        """
        row = self._row(
            context.asset_key, (context.upstream_output and context.upstream_output.definition_metadata) or {}
        )
        only = [self._names(row, key) for key in context.asset_partition_keys] if context.has_asset_partitions else None
        database, wanted = self._nango.database, context.dagster_type.typing_type
        if get_origin(wanted) is list:
            return list(tables.rows(database, row.id, row.sync, only))
        if wanted in (collections.abc.Iterator, collections.abc.Iterable):
            return tables.rows(database, row.id, row.sync, only)
        return tables.data_frame(database, row.id, row.sync, only)

    def _names(self, row: SyncRow, key: str) -> tuple[str, str]:
        """The connection and variant of a partition; those of somebody's own assets have any names."""
        return (key, BASE) if row.origin == "asset" else names_of(key)

    def _row(self, key: AssetKey, given: Mapping[str, Any]) -> SyncRow:
        """The sync that has this asset key, or the asset of somebody's own. Raises ConfigError without a table."""
        database = self._nango.database
        candidates = [names.sync_of(key), (user_assets.INTEGRATION, user_assets.name_of(key))]
        found = [syncs.by_name(database, name, integration) for integration, name in filter(None, candidates)]
        row = next(filter(None, found), None)
        if row is None:
            raise ConfigError(f"{key.to_user_string()} has no rows yet; materialize it first.")
        if not row.sync.auto_mapping:
            raise ConfigError(f"{key.to_user_string()} has no table, for its sync has auto_mapping off.")
        if not tables.exists(database, row.id, row.sync):
            raise ConfigError(f"{key.to_user_string()} has no table yet; materialize it first.")
        return row


def _source(key: AssetKey, value: Any, interrupts: Interrupts) -> Source:
    if isinstance(value, Fetch):
        return FetchedList(value)
    name = key.to_user_string()
    return UserValue(name, value, system_columns=tables.SYSTEM_COLUMNS, during_user_code=interrupts.at_once)


def _partition(context: OutputContext) -> str:
    """The partition that is written, which is the connection its rows are kept under."""
    if not context.has_asset_partitions:
        return "default"
    if len(keys := context.asset_partition_keys) == 1:
        return keys[0]
    raise ConfigError(
        f"{context.asset_key.to_user_string()}: one value was given for {len(keys)} partitions; wanted one partition "
        "a run: take the backfill policy away, or use BackfillPolicy.multi_run()."
    )


# --- what a run's log says --------------------------------------------------------------------------------------------


def reporter(listener: Callable[[Progress], None] | None = None) -> Callable[[Progress], None]:
    """Progress into the log now and then, and to whoever listens each time."""
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if listener is not None:
            listener(progress)
        if progress.seconds - last >= PROGRESS_SECONDS:
            last = progress.seconds
            log.info("%s", progress)

    return report


def tell(name: str, outcome: Outcome) -> None:
    """What an execution did, in the log."""
    for warning in outcome.warnings:
        log.warning("%s: %s", name, warning)
    counts = outcome.counts
    pulled = f"{number_of(counts.fetched, 'record')} on {number_of(counts.pages, 'page')}"
    pulled += f" ({outcome.stop_reason})" if outcome.stop_reason else ""
    done = ", ".join(f"{getattr(counts, what):,} {what}" for what in _DONE)
    log.info("%s: %s in %.1f s: %s; %s.", name, outcome.status, outcome.seconds, pulled, done)


def failure(name: str, outcome: Outcome) -> Failure:
    """The failure of a step whose execution did not succeed; a sync waits for its next slot instead of a retry."""
    sentence = outcome.error or f"{name}: the execution was {outcome.status}."
    sentence = sentence if name in sentence else f"{name}: {sentence}"
    return Failure(sentence, metadata=metadata.of_failure(outcome), allow_retries=False)
