"""Remove this product's old runs from Dagster's storage, which keeps every run and its events for ever by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

from dagster import AssetKey, AssetRecordsFilter, DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from . import internals, names

T = TypeVar("T")

_PAGE: Final = 100  # runs, or partitions, in one query
_FINISHED: Final = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_JOBS: Final = (names.DISPATCH_JOB, names.CONTROL_JOB, names.RETENTION_JOB)


def remove_old_runs(instance: DagsterInstance, assets: Iterable[AssetKey], before: datetime) -> int:
    """Delete the runs of our jobs that ended before this time, with their events and files; returns how many.

    The run with the last materialization of an asset, or of one of its partitions, stays: without it Dagster shows
    the asset as never materialized. Runs of other jobs are left alone, also in a shared instance.
    """
    kept = {run_id for asset in assets for run_id in _runs_of_last_materializations(instance, asset, before)}
    removed = 0
    for filters in _our_runs(instance, before):
        for run_id in [run_id for run_id in _run_ids(instance, filters) if run_id not in kept]:
            instance.delete_run(run_id)
            internals.delete_files(instance, run_id)
            removed += 1
    return removed


def _our_runs(instance: DagsterInstance, before: datetime) -> Iterator[RunsFilter]:
    """The filters that find our finished runs: by job, and by the tag that each run of a sync has."""
    for job in _JOBS:
        yield RunsFilter(job_name=job, statuses=_FINISHED, updated_before=before)
    values = sorted({value for _, values in instance.get_run_tags([names.RUN_TAG]) for value in values})
    for some in _pages(values):
        yield RunsFilter(tags={names.RUN_TAG: some}, statuses=_FINISHED, updated_before=before)


def _run_ids(instance: DagsterInstance, filters: RunsFilter) -> list[str]:
    """The ids of all runs that a filter finds."""
    run_ids: list[str] = []
    cursor: str | None = None
    while True:
        page = list(instance.get_run_ids(filters, cursor=cursor, limit=_PAGE))
        run_ids += page
        if len(page) < _PAGE:
            return run_ids
        cursor = page[-1]


def _runs_of_last_materializations(instance: DagsterInstance, asset: AssetKey, before: datetime) -> Iterator[str]:
    """The runs before this time that hold the last materialization of an asset, or of one of its partitions."""
    last = instance.get_latest_materialization_event(asset)
    if last is None:
        return
    if last.timestamp < before.timestamp():
        yield last.run_id
    partitions = instance.get_latest_storage_id_by_partition(asset, DagsterEventType.ASSET_MATERIALIZATION)
    for some in _pages(sorted(partitions.values())):
        old = AssetRecordsFilter(asset, storage_ids=some, before_timestamp=before.timestamp())
        for record in instance.fetch_materializations(old, limit=len(some)).records:
            yield record.run_id


def _pages(values: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), _PAGE):
        yield list(values[start : start + _PAGE])
