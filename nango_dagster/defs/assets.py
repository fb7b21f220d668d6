"""A sync becomes an asset and a job.

The asset's body claims the execution and hands it to the IO manager, which runs it. That of a
partitioned sync claims the connections that are due, or those that somebody asked for, and executes them side by side.
"""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    BackfillPolicy,
    Failure,
    JobDefinition,
    MaterializeResult,
    define_asset_job,
    in_process_executor,
    multi_asset,
)

from .. import clock, runs
from ..config import Sync
from ..errors import NangoError, Refused
from ..http import public_url
from ..partition_keys import BASE, key_of, names_of
from ..store import jobs, queue
from ..store.sync_row import SyncRow
from . import checks, logs, metadata, names, partitions
from .dagster_state import record_stopped
from .interrupts import Interrupts
from .io_manager import Saved, log, on_progress
from .resource import NangoResource
from .results import Results

_SCHEDULED = ("dagster/schedule_name", "dagster/sensor_name", "dagster/auto_materialize")
_A_WHILE = 24 * 60 * 60  # seconds a run may take where the sync names no max_duration
_GRACE = 600  # and so many more, for Dagster's own part of it


def build_asset(sync: Sync, kind: str) -> AssetsDefinition:
    """The asset of a sync; `kind` is the database it is kept in."""
    key = names.asset_key(sync)
    spec = AssetSpec(
        key,
        deps=[names.source_key(sync)],
        description=sync.description or f"{sync.display_name}: {sync.mode} of {public_url(sync.url)}",
        metadata=metadata.of_asset(sync, kind),
        skippable=True,  # a scheduled run that finds another one at work writes nothing
        group_name=names.group(sync),
        code_version=sync.fingerprint(),
        owners=sync.owners,
        tags=dict(sync.tags),
        kinds={"nango", kind},
        freshness_policy=metadata.freshness(sync),
        partitions_def=partitions.definition(sync) if sync.partitioned else None,
    ).with_io_manager_key(names.IO_MANAGER)

    @multi_asset(
        name=names.python_name(sync),
        specs=[spec],
        check_specs=[checks.spec(key)],
        can_subset=True,  # so that the check may stay away when nothing was done
        required_resource_keys={names.RESOURCE, names.IO_MANAGER},
        op_tags=run_tags(sync),
        # However many partitions are launched together, one run does it.
        backfill_policy=BackfillPolicy.single_run() if sync.partitioned else None,
    )
    def body(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        nango: NangoResource = context.resources.nango
        try:
            if context.selected_asset_keys:
                execute = _execute_partitions if sync.partitioned else _execute
                yield from execute(context, nango, sync, key)
            else:
                yield checks.evaluate_job(key, _last_job(nango, sync))
        except NangoError as error:
            raise Failure(str(error), allow_retries=False) from None

    return body


def _execute(
    context: AssetExecutionContext, nango: NangoResource, sync: Sync, key: AssetKey
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    """Claim the execution and give it to the IO manager; who was not asked by a person may find nothing to do."""
    tags = context.run.tags
    asked_by_our_schedule = tags.get("dagster/schedule_name") == names.schedule_name(sync)
    due = runs.Due(sync.latest_slot(clock.now())) if asked_by_our_schedule else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(logs.into(context.log))
        row = nango.row(sync)
        claim = runs.claimed(
            nango.database, nango.settings, row, run_id=context.run.run_id, wishes=_wishes(tags), due=due
        )
        try:
            execution = stack.enter_context(claim)
        except Refused as refused:
            if not any(tag in tags for tag in _SCHEDULED):
                raise
            log.info("%s", refused)
            return
        saved = Saved(execution, stack.close)
        yield MaterializeResult(asset_key=key, value=saved)
        if saved.outcome is not None and context.selected_asset_check_keys:
            yield checks.evaluate(key, saved.outcome)


def _execute_partitions(
    context: AssetExecutionContext, nango: NangoResource, sync: Sync, key: AssetKey
) -> Iterator[AssetCheckResult]:
    """Execute what is due, or what the run was launched for; Dagster is told of each partition as it ends."""
    io_manager, listener = context.resources.nango_io_manager, on_progress.get()
    with logs.into(context.log):
        row = nango.row(sync)
        partitions.refresh(context.instance, nango.database, [row])
        record_stopped(context.instance, nango.database, [row])
        queue.reap(nango.database)
        asked = _asked(context, nango, row)
        results = Results(context, nango, every=asked is not None)
        with (
            runs.Drain(
                nango.database,
                nango.settings,
                run_id=context.run.run_id,
                save=lambda execution: io_manager.run(execution, listener),
                until=clock.monotonic() + (sync.max_duration or _A_WHILE),
            ) as drain,
            Interrupts(drain.stop),
        ):
            drain.add(row, lambda: sync.latest_slot(clock.now()), only=asked, wishes=_wishes(context.run.tags))
            results.follow(drain)
        for _, result in results.finish():
            if context.selected_asset_check_keys:
                yield result
        results.complain()


def _asked(context: AssetExecutionContext, nango: NangoResource, row: SyncRow) -> list[tuple[str, str]] | None:
    """The connections and variants that the run was launched for; None where it is for whatever is due.

    Raises Refused for a partition that somebody made up in Dagster.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    asked = [names_of(key) for key in context.partition_keys]
    unknown = [pair for pair in asked if pair not in set(queue.partitions(nango.database, row.id))]
    if not unknown:
        return asked
    connection_id, variant = unknown[0]
    if variant != BASE:
        command = f"nango-dagster variants add {row.name} --connection {connection_id} --variant {variant}"
    else:
        command = f"nango-dagster connections add --integration {row.integration} --connection {connection_id}"
    raise Refused(f"{row.sync.display_name} does not run for {key_of(*unknown[0])}; to add it: {command}")


def _wishes(tags: Mapping[str, str]) -> runs.Wishes:
    """What the run's tags ask for, as `nango-dagster run` sets them and the UI's launchpad can."""
    return runs.Wishes(
        **{wish: tags.get(f"nango/{wish}") == "true" for wish in ("reset", "empty_cache", "accept_deletes")}
    )


def _last_job(nango: NangoResource, sync: Sync) -> jobs.Job | None:
    return next(iter(jobs.list_jobs(nango.database, nango.row(sync).id, limit=1)), None)


def build_source(sync: Sync) -> AssetsDefinition:
    """The list in the external API, so that the asset graph shows where the rows come from."""
    spec = AssetSpec(
        names.source_key(sync),
        description=f"{sync.method} {public_url(sync.url)}",
        kinds={"api"},
        group_name=names.group(sync),
    )
    # Alone: Dagster keeps bare specs together, and then each job of 300 looks at all 300 of them.
    return AssetsDefinition(specs=[spec])


def build_job(sync: Sync) -> JobDefinition | Any:
    """The job that runs the sync in one process: a second one would cost as much again as the whole run."""
    return define_asset_job(
        names.job_name(sync),
        selection=AssetSelection.assets(names.asset_key(sync)),
        description=f"Runs the sync {sync.display_name}.",
        executor_def=in_process_executor,
        tags=run_tags(sync),
    )


def run_tags(sync: Sync) -> Mapping[str, str]:
    """A failed execution waits for its next slot, so a run is never retried; and none stays for ever."""
    longest = int(sync.max_duration or _A_WHILE) + _GRACE
    return {**names.run_tag([sync]), "dagster/max_retries": "0", "dagster/max_runtime": str(longest)}
