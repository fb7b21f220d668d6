"""The asset and the job of a sync.

The asset's body claims the execution and hands it to the IO manager, which runs it. The body of a partitioned sync
claims the connections that are due, or the selected partitions, and executes them side by side.
"""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
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
from .placements import Placement
from .resource import NangoResource
from .results import Results

_SCHEDULED = ("dagster/schedule_name", "dagster/sensor_name", "dagster/auto_materialize")
_MAX_RUN_SECONDS = 24 * 60 * 60  # where the sync has no max_duration
_OVERHEAD_SECONDS = 600  # of Dagster, in addition


def build_asset(spec: AssetSpec, placement: Placement) -> AssetsDefinition:
    """The asset of a sync, from the spec that the project's translator made."""
    sync, key, options = placement.sync, placement.asset_key, placement.options
    spec = spec.replace_attributes(
        skippable=True,  # a scheduled run does nothing while another run executes the sync
        partitions_def=partitions.definition(sync) if sync.partitioned else None,
    )

    @multi_asset(
        name=placement.op_name,
        specs=[spec.with_io_manager_key(names.IO_MANAGER), *_model_specs(spec, placement)],
        check_specs=[checks.spec(key)],
        can_subset=True,  # a run that does nothing has no check result
        required_resource_keys={names.RESOURCE, names.IO_MANAGER},
        op_tags={**run_tags(sync), **options.op_tags},
        pool=options.pool,
        # One run executes all partitions that are launched together.
        backfill_policy=BackfillPolicy.single_run() if sync.partitioned else None,
    )
    def body(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        nango: NangoResource = context.resources.nango
        try:
            if context.selected_asset_keys:
                if key not in context.selected_asset_keys:
                    raise Refused(f"{sync.display_name}: its models are read together; select {key.to_user_string()}.")
                execute = _execute_partitions if sync.partitioned else _execute
                yield from execute(context, nango, placement)
            else:
                yield checks.evaluate_job(key, _last_job(nango, sync))
        except NangoError as error:
            raise Failure(str(error), allow_retries=False) from None

    return body


def _model_specs(spec: AssetSpec, placement: Placement) -> Iterator[AssetSpec]:
    """The specs of a script's further models, which the same step materializes."""
    for name, key in placement.model_keys.items():
        described = f"The model {name} of the sync {placement.sync.display_name}."
        table: dict[str, Any] = {
            "nango/model": name,
            "dagster/storage_kind": spec.metadata.get("dagster/storage_kind"),
        }
        if columns := metadata.columns_of_model(placement.sync, name):
            table["dagster/column_schema"] = metadata.schema_of(columns)
            table["dagster/column_lineage"] = metadata.lineage_of(columns, metadata.Source.of(placement))
        yield spec.replace_attributes(key=key, description=described, metadata=table, freshness_policy=None)


def _further_models(placement: Placement, outcome: runs.Outcome) -> Iterator[tuple[AssetKey, runs.ModelOutcome]]:
    keys = placement.model_keys
    return ((keys[model.name], model) for model in outcome.further_models if model.name in keys)


def _execute(
    context: AssetExecutionContext, nango: NangoResource, placement: Placement
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    """Claim the execution and hand it to the IO manager; a scheduled run may have nothing to do."""
    sync, key, tags = placement.sync, placement.asset_key, context.run.tags
    is_scheduled = tags.get("dagster/schedule_name") == placement.schedule_name
    due = runs.Due(sync.latest_slot(clock.now())) if is_scheduled else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(logs.into(context.log))
        row = nango.row(sync)
        claim = runs.claimed(nango.database, nango.settings, row, run_id=context.run.run_id, due=due)
        try:
            execution = replace(stack.enter_context(claim), wishes=_wishes(tags))
        except Refused as refused:
            if not any(tag in tags for tag in _SCHEDULED):
                raise
            log.info("%s", refused)
            return
        saved = Saved(execution, stack.close)
        yield MaterializeResult(asset_key=key, value=saved)
        if saved.outcome is not None:
            for model_key, model in _further_models(placement, saved.outcome):
                if model_key in context.selected_asset_keys:
                    yield MaterializeResult(asset_key=model_key, metadata=metadata.of_model(model, nango.database))
            if context.selected_asset_check_keys:
                yield checks.evaluate(key, saved.outcome)


def _execute_partitions(
    context: AssetExecutionContext, nango: NangoResource, placement: Placement
) -> Iterator[AssetCheckResult]:
    """Execute the connections that are due, or the selected partitions, and log each as it ends."""
    sync = placement.sync
    io_manager, listener = context.resources.nango_io_manager, on_progress.get()
    with logs.into(context.log):
        row = nango.row(sync)
        partitions.refresh(context.instance, nango.database, [row])
        record_stopped(context.instance, nango, [row])
        queue.reap(nango.database)
        selected = _selected(context, nango, row)
        results = Results(context, nango, every=selected is not None)
        with (
            runs.Drain(
                nango.database,
                nango.settings,
                run_id=context.run.run_id,
                save=lambda execution: io_manager.run(execution, listener),
                until=clock.monotonic() + (sync.max_duration or _MAX_RUN_SECONDS),
            ) as drain,
            Interrupts(drain.stop),
        ):
            drain.add(row, lambda: sync.latest_slot(clock.now()), only=selected, wishes=_wishes(context.run.tags))
            results.follow(drain)
        for _, result in results.finish():
            if context.selected_asset_check_keys:
                yield result
        results.raise_failure()


def _selected(context: AssetExecutionContext, nango: NangoResource, row: SyncRow) -> list[tuple[str, str]] | None:
    """The connections and variants of the run's partitions; None for a run of all that are due.

    Raises Refused for a partition without a schedule in the store, as one that was added by hand in Dagster.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    selected = [names_of(key) for key in context.partition_keys]
    existing = set(queue.partitions(nango.database, row.id))
    unknown = [pair for pair in selected if pair not in existing]
    if not unknown:
        return selected
    connection_id, variant = unknown[0]
    if variant != BASE:
        command = f"nango-dagster variants add {row.name} --connection {connection_id} --variant {variant}"
    else:
        command = f"nango-dagster connections add --integration {row.integration} --connection {connection_id}"
    raise Refused(f"{row.sync.display_name} does not run for {key_of(*unknown[0])}; to add it: {command}")


def _wishes(tags: Mapping[str, str]) -> runs.Wishes:
    """The wishes in the run's tags; `nango-dagster run` and the launchpad of the UI set them."""
    return runs.Wishes(
        **{wish: tags.get(f"nango/{wish}") == "true" for wish in ("reset", "empty_cache", "accept_deletes")}
    )


def _last_job(nango: NangoResource, sync: Sync) -> jobs.Job | None:
    return next(iter(jobs.list_jobs(nango.database, nango.row(sync).id, limit=1)), None)


def build_source(placement: Placement, group: str | None) -> AssetsDefinition:
    """The asset of the API's list, upstream of the sync in the asset graph."""
    sync = placement.sync
    spec = AssetSpec(
        placement.source_key,
        description=_source_text(sync),
        kinds={"api"},
        group_name=group,
    )
    # One definition for each spec: Dagster groups bare specs, and each of 300 jobs would look at all 300 of them.
    return AssetsDefinition(specs=[spec])


def _source_text(sync: Sync) -> str:
    if sync.script is not None:
        return f"{public_url(sync.address)}, read by {sync.script}" if sync.address else f"Read by {sync.script}"
    return f"{sync.method} {public_url(sync.url)}"


def build_job(placement: Placement) -> JobDefinition | Any:
    """The job of the sync, in one process: a second process would double the cost of a run."""
    return define_asset_job(
        placement.job_name,
        selection=AssetSelection.assets(placement.asset_key, *placement.model_keys.values()),
        description=f"Runs the sync {placement.sync.display_name}.",
        executor_def=in_process_executor,
        tags=run_tags(placement.sync),
    )


def run_tags(sync: Sync) -> Mapping[str, str]:
    """Tags of the sync's runs: a maximum runtime, and no retry, for a failed execution waits for its next slot."""
    longest = int(sync.max_duration or _MAX_RUN_SECONDS) + _OVERHEAD_SECONDS
    return {**names.run_tag([sync]), "dagster/max_retries": "0", "dagster/max_runtime": str(longest)}
