"""The IO manager: stores the records of syncs and of user assets, and reads their tables."""

from __future__ import annotations

import collections.abc
import logging
from collections.abc import Callable
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
from . import logs, metadata, user_assets
from .interrupts import Interrupts
from .resource import NangoResource

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 10
_ACTIONS = ("added", "updated", "deleted", "unchanged", "rejected")
on_progress: ContextVar[Callable[[Progress], None] | None] = ContextVar("on_progress", default=None)
"""Is called with the progress of the executions in this process; the run's log has it anyway."""


@dataclass
class Saved:
    """An execution on its way to the IO manager, and its outcome; `end` releases the claim."""

    execution: Execution
    end: Callable[[], None]
    outcome: Outcome | None = None


class UnexpectedError(Exception):
    """The traceback of an error as text without secrets, which the error itself may contain."""


class NangoIOManager(IOManager):
    """Stores the records of syncs and of your own assets, and reads their tables for downstream assets.

    An asset of yours returns an iterable of dicts, a pandas DataFrame, or a function that returns one. Its metadata may
    have `unique_key`, `mapped_table` and `track_deletes`, as the config of a sync has.
    """

    def __init__(self, nango: NangoResource | None = None) -> None:
        self._nango = nango or NangoResource()

    # --- writing ------------------------------------------------------------------------------------------------------

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Run the execution; its numbers become the metadata of the materialization.

        Raises Failure with the error of an execution that does not succeed.
        """
        if isinstance(obj, Saved):
            obj.outcome = self._run_sync(context, obj)
        else:
            try:
                with logs.into(context.log):
                    self._run_user_asset(context, obj)
            except NangoError as error:
                raise Failure(str(error), allow_retries=False) from None

    def run(self, execution: Execution, listener: Callable[[Progress], None] | None = None) -> Outcome:
        """Run one execution, without an output context: a step may run thousands, and a context for each is slow."""
        return self._nango.placement(execution.row.sync).options.execute(execution, reporter(listener))

    def _run_sync(self, context: OutputContext, saved: Saved) -> Outcome:
        try:
            with Interrupts(saved.execution.stopping.set):
                outcome = self.run(saved.execution, on_progress.get())
            row = saved.execution.row
            self._report(context, outcome, row, metadata.Source.of(self._nango.placement(row.sync)))
        finally:
            saved.end()
        return outcome

    def _run_user_asset(self, context: OutputContext, value: Any) -> None:
        """Execute a user's asset for the one partition of the run."""
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
            self._report(context, outcome, row, None)

    def _report(self, context: OutputContext, outcome: Outcome, row: SyncRow, source: metadata.Source | None) -> None:
        """Log the outcome, and add it to the materialization. Raises Failure for one that did not succeed."""
        log_outcome(row.sync.display_name, outcome)
        if outcome.status != "succeeded":
            # The sentence of a NangoError is enough; an unexpected error is shown with its traceback.
            unexpected = UnexpectedError(outcome.stack) if outcome.stack else None
            raise failure(row.sync.display_name, outcome) from unexpected
        partition = context.has_asset_partitions
        context.add_output_metadata(metadata.of_outcome(outcome, self._nango.database, source, partition=partition))

    # --- reading ------------------------------------------------------------------------------------------------------

    def load_input(self, context: InputContext) -> Any:
        """The rows of the upstream asset, for the partitions that the input asks for.

        A pandas DataFrame; a list of dicts or an iterator of them where the input is annotated as `list` or
        `collections.abc.Iterator`.
        """
        row = self._row(context.asset_key)
        only = [self._names(row, key) for key in context.asset_partition_keys] if context.has_asset_partitions else None
        database, input_type = self._nango.database, context.dagster_type.typing_type
        if get_origin(input_type) is list:
            return list(tables.rows(database, row.id, row.sync, only))
        if input_type in (collections.abc.Iterator, collections.abc.Iterable):
            return tables.rows(database, row.id, row.sync, only)
        return tables.data_frame(database, row.id, row.sync, only)

    def _names(self, row: SyncRow, key: str) -> tuple[str, str]:
        """The connection and variant of a partition; partitions of user assets have any names."""
        return (key, BASE) if row.origin == "asset" else names_of(key)

    def _row(self, key: AssetKey) -> SyncRow:
        """The sync or the user's asset that has this key. Raises ConfigError where it has no table."""
        database = self._nango.database
        candidates = [self._nango.sync_at(key), (user_assets.INTEGRATION, user_assets.name_of(key))]
        rows = [syncs.by_name(database, name, integration) for integration, name in filter(None, candidates)]
        row = next(filter(None, rows), None)
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
    """The partition that is written: the connection that its rows are stored for."""
    if not context.has_asset_partitions:
        return "default"
    if len(keys := context.asset_partition_keys) == 1:
        return keys[0]
    raise ConfigError(
        f"{context.asset_key.to_user_string()}: one value was returned for {len(keys)} partitions; "
        "wanted one partition in each run: remove the backfill policy, or use BackfillPolicy.multi_run()."
    )


# --- the log of a run --------------------------------------------------------------------------------------------


def reporter(listener: Callable[[Progress], None] | None = None) -> Callable[[Progress], None]:
    """A function that logs progress every ten seconds, and passes each progress to `listener`."""
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        if listener is not None:
            listener(progress)
        if progress.seconds - last >= PROGRESS_SECONDS:
            last = progress.seconds
            log.info("%s", progress)

    return report


def log_outcome(name: str, outcome: Outcome) -> None:
    """Log what an execution did."""
    for warning in outcome.warnings:
        log.warning("%s: %s", name, warning)
    counts = outcome.counts
    fetched = f"{number_of(counts.fetched, 'record')} on {number_of(counts.pages, 'page')}"
    fetched += f" ({outcome.stop_reason})" if outcome.stop_reason else ""
    changes = ", ".join(f"{getattr(counts, action):,} {action}" for action in _ACTIONS)
    log.info("%s: %s in %.1f s: %s; %s.", name, outcome.status, outcome.seconds, fetched, changes)


def failure(name: str, outcome: Outcome) -> Failure:
    """The failure of a step whose execution did not succeed; it is not retried before the next slot."""
    sentence = outcome.error or f"{name}: the execution was {outcome.status}."
    sentence = sentence if name in sentence else f"{name}: {sentence}"
    return Failure(sentence, metadata=metadata.of_failure(outcome), allow_retries=False)
