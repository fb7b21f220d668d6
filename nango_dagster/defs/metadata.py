"""The metadata of a sync in Dagster: of its asset, of its materializations, and of its failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from dagster import (
    AssetKey,
    FreshnessPolicy,
    MarkdownMetadataValue,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

from .. import clock
from ..config import ForEach, Sync
from ..config.schedule import Cron, Interval, ShortInterval
from ..http import public_url
from ..mapping import Column, columns_of, flatten
from ..runs import ModelOutcome, Outcome
from ..store import Database, tables
from ..store.queue import REAUTHORISE_AFTER
from ..store.status import Totals
from .failures import REQUEST, sentences_of
from .placements import Placement

_SHOWN_COLUMNS = 8
_SHOWN_WARNINGS = 10
_SHOWN_TEXT = 60
_SLOTS = 10
UNAUTHORISED = 401


Schedule = Interval | ShortInterval | Cron


@dataclass(frozen=True)
class FailedPartition:
    """A connection that failed in a run."""

    connection_id: str
    sentence: str
    run_id: str
    job_id: int | None = None
    status: int | None = None
    """The HTTP status of the last answer."""
    schedule_id: int = 0


@dataclass(frozen=True)
class Source:
    """The assets that the columns of a sync come from."""

    key: AssetKey
    """The list in the API."""
    parent: AssetKey | None = None
    """The asset of the parents, with `for_each`."""
    for_each: ForEach | None = None

    @classmethod
    def of(cls, placement: Placement) -> Source:
        """The sources of a sync's columns."""
        return cls(placement.source_key, placement.parent_key, placement.sync.for_each)

    def origin_of(self, path: str) -> TableColumnDep:
        """The origin of the column with the value at a path of the record."""
        if self.parent is not None and self.for_each is not None and path == self.for_each.field:
            return TableColumnDep(asset_key=self.parent, column_name=self.for_each.path)
        return TableColumnDep(asset_key=self.key, column_name=path)


def of_asset(sync: Sync, database_kind: str, source: Source) -> dict[str, Any]:
    """The metadata of a sync's asset; with a record model also the columns of its table and where they come from."""
    url = public_url(sync.address)
    metadata: dict[str, Any] = {
        "nango/sync": sync.name,
        "nango/url": url if "${" in url else MetadataValue.url(url),
        "nango/mode": sync.mode,
        "nango/schedule": f"{sync.cron_schedule} {sync.cron_timezone}",
        "dagster/storage_kind": database_kind,
    }
    if sync.unique_key:
        metadata["nango/unique_key"] = sync.key_name
    if sync.mapped_table:
        metadata["nango/mapped_table"] = sync.mapped_table
    if columns := columns_of_model(sync, sync.model):
        metadata["dagster/column_schema"] = schema_of(columns)
        metadata["dagster/column_lineage"] = lineage_of(columns, source)
    return metadata


def of_outcome(
    outcome: Outcome,
    database: Database,
    source: Source | None,
    *,
    partition: bool = False,
    columns: bool = True,
) -> dict[str, Any]:
    """The metadata of a materialization: numbers of the execution, and the columns of its table.

    `source` is where the records come from. `columns` are left out of all but one event of a run: they are the
    largest part of an event.
    """
    of_first_model = outcome.live_count - sum(model.live_count for model in outcome.further_models)
    metadata: dict[str, Any] = {
        "dagster/partition_row_count" if partition else "dagster/row_count": of_first_model,
        "dagster/storage_kind": database.engine.name,
        **_numbers(outcome),
        "stop_reason": outcome.stop_reason or "",
        "job_id": str(outcome.job_id),  # text, for a number would be plotted
    }
    if outcome.checkpoint is not None:
        metadata["checkpoint"] = MetadataValue.json({"from": outcome.checkpoint.before, "to": outcome.checkpoint.after})
    if outcome.table is not None:
        metadata["dagster/table_name"] = table_name(database, outcome.table)
        if columns:
            metadata["dagster/column_schema"] = schema_of(outcome.columns)
        if columns and source is not None:
            metadata["dagster/column_lineage"] = lineage_of(outcome.columns, source)
    if outcome.warnings:
        metadata["warnings"] = list(outcome.warnings[:_SHOWN_WARNINGS])
    if outcome.sample:
        metadata["changed_records"] = sample_of(outcome.sample)
    return metadata


def of_model(model: ModelOutcome, database: Database, *, partition: bool = False) -> dict[str, Any]:
    """The metadata of a materialization of one of a script's further models."""
    metadata: dict[str, Any] = {
        "dagster/partition_row_count" if partition else "dagster/row_count": model.live_count,
        "added": model.added,
        "updated": model.updated,
        "deleted": model.deleted,
    }
    if model.table is not None:
        metadata["dagster/table_name"] = table_name(database, model.table)
        metadata["dagster/column_schema"] = schema_of(model.columns)
    return metadata


def of_totals(totals: Totals, errors: Mapping[str, str]) -> dict[str, Any]:
    """The metadata of a run's last materialization about all connections; the overview of the asset shows it.

    `errors` has the error of each failing connection, by its partition.
    """
    metadata: dict[str, Any] = {
        "dagster/row_count": totals.records,
        "all_connections": totals.connections,
        "failing_connections": totals.failing,
    }
    if errors:  # a text of 1,000 characters would be hidden behind a button
        reasons = [f"- {_markdown(sentence)}" for sentence in sentences_of(errors)]
        metadata["failure_reasons"] = MetadataValue.md("\n".join(reasons))
    return metadata


def of_failed_partition(sync: Sync, failed: FailedPartition) -> dict[str, Any]:
    """The metadata of a connection that failed: why, in which job, at which request, and when it is tried again."""
    command = f"nango-dagster trigger {sync.name} --connection {failed.connection_id}"
    metadata: dict[str, Any] = {
        "failure": failed.sentence,
        "failed_request": _request_in(failed.sentence),
        "failed_job_id": None if failed.job_id is None else str(failed.job_id),
        "failed_run": MetadataValue.dagster_run(failed.run_id),
        "next_try": f"{sync.next_slot(clock.now()):%Y-%m-%d %H:%M} UTC, then {sync.schedule_text}; at once: {command}",
    }
    if failed.status == UNAUTHORISED:
        metadata["next_try"] += f". After {REAUTHORISE_AFTER} refusals in a row only with new credentials."
    return {name: value for name, value in metadata.items() if value is not None}


def _request_in(sentence: str) -> str | None:
    """The request that a sentence of a failure names.

    >>> _request_in("contacts: GET https://api.example.com/contacts?page=2 answered 500: moved")
    'GET https://api.example.com/contacts?page=2'
    """
    match = REQUEST.search(sentence)
    return match and match[0].rstrip(":,;")


def of_failure(outcome: Outcome) -> dict[str, Any]:
    """The metadata of a failure, beside its error."""
    known = {"job_id": str(outcome.job_id), "stop_reason": outcome.stop_reason, **_numbers(outcome)}
    return {name: value for name, value in known.items() if value}


def _numbers(outcome: Outcome) -> dict[str, Any]:
    """Numbers that the UI can plot."""
    counts = outcome.counts
    return {
        "added": counts.added,
        "updated": counts.updated,
        "deleted": counts.deleted,
        "unchanged": counts.unchanged,
        "rejected": counts.rejected,
        "fetched": counts.fetched,
        "pages": counts.pages,
        "requests": counts.requests,
        "retries": counts.retries,
        "seconds": round(outcome.seconds, 3),
        "records_per_second": round(counts.fetched / outcome.seconds, 1) if outcome.seconds else 0.0,
    }


def table_name(database: Database, table: str) -> str:
    """The full name of a table, as other tools write it."""
    return database.engine.full_name(database.schema, table)


def schema_of(columns: Iterable[Column]) -> TableSchema:
    """The columns of a mapped table, each with its description and the path of its value in the record."""
    return TableSchema(
        [
            TableColumn(
                column.name,
                column.type.value,
                description=_described(column),
                constraints=TableColumnConstraints(nullable=True),
            )
            for column in columns
        ]
    )


def _described(column: Column) -> str | None:
    origin = None if column.path == column.name else f"from {column.path}"
    if column.comment is None or origin is None:
        return column.comment or origin
    return f"{column.comment} ({origin})"


def columns_of_model(sync: Sync, model: str) -> list[Column]:
    """The columns that a new mapped table gets from a model of the sync; none where they depend on the records."""
    sync = sync.model_copy(update={"model": model})
    return columns_of([], tables.plan_of(sync)) if sync.auto_mapping and sync.mapped_model else []


def lineage_of(columns: Iterable[Column], source: Source) -> TableColumnLineage:
    """The field of the API that each column is filled from, or of the parent with `for_each`."""
    return TableColumnLineage({column.name: [source.origin_of(column.path)] for column in columns})


def sample_of(records: Iterable[Any]) -> MarkdownMetadataValue:
    """Some records as a Markdown table with shortened cells.

    >>> print(sample_of([{"id": 1, "name": "eevee"}, {"id": 2}]).value)
    | id | name |
    | --- | --- |
    | 1 | eevee |
    | 2 |  |
    """
    rows = [flatten(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = names[:_SHOWN_COLUMNS]
    lines = [[_cell(name) for name in shown], ["---"] * len(shown)]
    lines += [[_cell(row.get(name)) for name in shown] for row in rows]
    more = f"\n\nand {len(names) - len(shown)} more fields" if len(names) > len(shown) else ""
    return MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines) + more)


def _cell(value: Any) -> str:
    """A value as the text of a Markdown cell."""
    text = "" if value is None else " ".join(str(value).split())
    return _markdown(text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…")


def _markdown(text: str) -> str:
    """A text in which no character has a meaning in Markdown."""
    for char in "\\`*_[]<>|":
        text = text.replace(char, f"\\{char}")
    return text.encode("utf-8", "backslashreplace").decode()


def longest_gap(sync: Sync) -> timedelta:
    """The longest time between two slots of the sync's schedule."""
    schedule = sync.schedule
    if isinstance(schedule, Interval | ShortInterval):
        schedule = replace(schedule, name="")  # the name moves the slots, and leaves the time between them
    return _longest_gap(schedule)


@lru_cache(maxsize=1024)  # a thousand syncs have few schedules, and reading a cron expression takes milliseconds
def _longest_gap(schedule: Schedule) -> timedelta:
    at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    gap = timedelta(minutes=1)
    for _ in range(_SLOTS):
        following = schedule.next(at)
        gap = max(gap, following - at)
        at = following
    return gap


def freshness(sync: Sync) -> FreshnessPolicy:
    """Late after two missed slots, failed after three; a slot is the longest gap between runs of the cron."""
    gap = longest_gap(sync)
    return FreshnessPolicy.time_window(fail_window=3 * gap, warn_window=2 * gap)
