"""One asset check per sync: whether its last execution gives reasons to look closer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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


@dataclass
class Summary:
    """What the executions of one run add up to."""

    rejected: int = 0
    misfits: Counter[str] = field(default_factory=Counter)
    new_columns: dict[str, None] = field(default_factory=dict)
    collapsed: int = 0
    """How many connections lost most of their rows."""
    unfinished: Counter[str] = field(default_factory=Counter)
    """How many lists were not read to their end, and why."""
    doubt: str | None = None
    """Why the first of the lists that may have more pages may have them."""

    def add(self, outcome: Outcome) -> None:
        """Add the numbers of one execution."""
        self.rejected += outcome.counts.rejected
        self.misfits.update(outcome.misfits)
        if _before(outcome):
            self.new_columns.update(dict.fromkeys(outcome.new_columns))
        self.collapsed += _collapsed(outcome)
        if not outcome.complete and outcome.stop_reason:
            self.unfinished[outcome.stop_reason] += 1
        self.doubt = self.doubt or outcome.doubt


def evaluate_many(key: AssetKey, found: Summary, failed: Mapping[str, str]) -> AssetCheckResult:
    """The verdict on a run of many connections; `failed` has the sentence of each that did not succeed."""
    errors = [f"{len(failed):,} connections failed: {_listed(failed)}."] if any(failed) else list(failed.values())
    if found.rejected:
        errors.append(f"{found.rejected:,} records could not be stored.")
    if found.collapsed:
        errors.append(f"{found.collapsed:,} connections lost most of their rows.")
    warnings = [_misfits(found.misfits)] if found.misfits else []
    if found.new_columns:
        warnings.append(f"the API sends new fields: {_listed(found.new_columns)}.")
    warnings += [f"{count:,} lists were not read to their end ({why})." for why, count in found.unfinished.items()]
    if found.doubt is not None:
        warnings.append(f"a list may have more pages, so nothing was deleted there: {found.doubt}")
    numbers = {
        "failed": len(failed),
        "rejected": found.rejected,
        "misfits": sum(found.misfits.values()),
        "new_columns": list(found.new_columns),
    }
    return _result(key, errors, warnings, numbers)


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
    if _collapsed(outcome):
        found.append(f"the rows became {outcome.live_count:,}; they were {_before(outcome):,}.")
    return found


def _before(outcome: Outcome) -> int:
    return outcome.live_count + outcome.counts.deleted - outcome.counts.added


def _collapsed(outcome: Outcome) -> bool:
    return bool(outcome.counts.deleted) and outcome.live_count < _before(outcome) * COLLAPSE


def _warnings(outcome: Outcome) -> list[str]:
    found = []
    if outcome.misfits:
        found.append(_misfits(outcome.misfits))
    if outcome.new_columns and _before(outcome):
        found.append(f"the API sends new fields: {_listed(outcome.new_columns)}.")
    if outcome.doubt is not None:
        found.append(f"the list may have more pages, so nothing was deleted: {outcome.doubt}")
    elif not outcome.complete and outcome.stop_reason:
        found.append(f"the list was not read to its end ({outcome.stop_reason}).")
    return found


def _misfits(found: Mapping[str, int]) -> str:
    return f"{sum(found.values()):,} values did not fit their column and are NULL there: {_listed(found)}."


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
