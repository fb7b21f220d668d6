"""One asset check per sync: whether its last execution gives reasons to look closer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dagster import AssetCheckEvaluation, AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey

from ..runs import Outcome
from ..store.jobs import Job
from .names import CHECK

COLLAPSE = 0.5  # of the rows gone in one execution
_SHOWN = 10


def spec(key: AssetKey) -> AssetCheckSpec:
    """The check as the UI lists it."""
    return AssetCheckSpec(
        CHECK,
        asset=key,
        description="Every record could be stored, every value fitted its column, the list was read to its end.",
    )


def evaluate(key: AssetKey, outcome: Outcome) -> AssetCheckResult:
    """The check's verdict, from numbers that the execution already has; the worst one decides how bad it is."""
    return _result(
        key,
        _errors(outcome),
        _warnings(outcome),
        {
            "rejected": outcome.counts.rejected,
            "misfits": sum(outcome.misfits.values()),
            "new_columns": list(outcome.new_columns),
            "warnings": list(outcome.warnings),
            "job_id": str(outcome.job_id),
        },
    )


def evaluate_job(key: AssetKey, job: Job | None) -> AssetCheckResult:
    """The verdict on the last execution, for who asks for the check alone."""
    if job is None:
        return _result(key, [], ["the sync has not been executed yet."], {})
    errors = [f"{job.rejected:,} records could not be stored."] if job.rejected else []
    if job.status == "failed":
        errors.insert(0, f"the last execution failed: {job.error_message}")
    said = list(job.warnings)
    return _result(key, errors, said, {"rejected": job.rejected, "warnings": said, "job_id": str(job.id)})


def evaluation(result: AssetCheckResult, key: AssetKey) -> AssetCheckEvaluation:
    """The same as an event that a run may log which is not the asset's own."""
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=CHECK,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def _result(key: AssetKey, errors: list[str], warnings: list[str], numbers: dict[str, Any]) -> AssetCheckResult:
    return AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not errors and not warnings,
        severity=AssetCheckSeverity.ERROR if errors else AssetCheckSeverity.WARN,
        description=" ".join(errors + warnings) or "Nothing to complain about.",
        metadata=numbers,
    )


def _errors(outcome: Outcome) -> list[str]:
    found = []
    if outcome.counts.rejected:
        found.append(f"{outcome.counts.rejected:,} records could not be stored.")
    before = outcome.live_count + outcome.counts.deleted - outcome.counts.added
    if outcome.counts.deleted and outcome.live_count < before * COLLAPSE:
        found.append(f"the rows became {outcome.live_count:,}; they were {before:,}.")
    return found


def _warnings(outcome: Outcome) -> list[str]:
    found = []
    if outcome.misfits:
        total = sum(outcome.misfits.values())
        found.append(f"{total:,} values did not fit their column and are NULL there: {_listed(outcome.misfits)}.")
    before = outcome.live_count + outcome.counts.deleted - outcome.counts.added
    if outcome.new_columns and before:
        found.append(f"the API sends new fields: {_listed(outcome.new_columns)}.")
    if not outcome.complete and outcome.stop_reason:
        found.append(f"the list was not read to its end ({outcome.stop_reason}).")
    return found


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
