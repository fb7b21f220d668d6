"""One asset check for each sync: whether its last execution stored everything that it read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetCheckEvaluation, AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey

from ..runs import Outcome
from ..sources import PARENTS_READ
from ..store.jobs import Job
from ..store.validation import sentence
from .failures import sentences_of
from .names import CHECK

COLLAPSE = 0.5
"""The share of the rows that one execution may delete without an error in the check."""
_LISTED = 10


def spec(key: AssetKey) -> AssetCheckSpec:
    """The check of an asset."""
    return AssetCheckSpec(
        CHECK,
        asset=key,
        description="Fails if executions failed, records could not be stored, or most rows were deleted. Warns if "
        "records did not fit their model, values did not fit their columns, the API sends new fields, or a list was "
        "not read to its end. "
        'The reason is below, in "Latest execution".',
    )


def evaluate(key: AssetKey, outcome: Outcome) -> AssetCheckResult:
    """The result of the check for one execution, from numbers that the execution already has."""
    return _result(
        key,
        _errors(outcome),
        _warnings(outcome),
        {
            "rejected": outcome.counts.rejected,
            "misfits": sum(outcome.misfits.values()),
            "unfit": sum(counts.total() for counts in outcome.unfit.values()),
            "new_columns": list(outcome.new_columns),
            "warnings": list(outcome.warnings),
            "job_id": str(outcome.job_id),
        },
    )


@dataclass
class Summary:
    """The numbers of all executions of a sync in one run."""

    rejected: int = 0
    misfits: Counter[str] = field(default_factory=Counter)
    unfit: dict[str, Counter[str]] = field(default_factory=dict)
    """Why records do not fit their model, and how many, by the name of the model."""
    new_columns: dict[str, None] = field(default_factory=dict)
    collapsed: int = 0
    """How many connections lost most of their rows."""
    unfinished: Counter[str] = field(default_factory=Counter)
    """How many lists were not read to their end, and why."""
    with_problems: int = 0
    """How many connections have rejected records or values without a place, of this execution or of one before."""
    doubt: str | None = None
    """The warning of the first list that may have more pages."""

    def add(self, outcome: Outcome) -> None:
        """Add the numbers of one execution."""
        self.rejected += outcome.counts.rejected
        self.misfits.update(outcome.misfits)
        for model, counts in outcome.unfit.items():
            self.unfit.setdefault(model, Counter()).update(counts)
        if _before(outcome):
            self.new_columns.update(dict.fromkeys(outcome.new_columns))
        self.collapsed += _collapsed(outcome)
        if not outcome.complete and outcome.stop_reason not in (None, PARENTS_READ):
            self.unfinished[outcome.stop_reason] += 1
        self.with_problems += bool(outcome.standing)
        self.doubt = self.doubt or outcome.doubt


def evaluate_many(
    key: AssetKey, summary: Summary, failed: Mapping[str, str], *, executed: int, fails: bool
) -> AssetCheckResult:
    """The result for a run of many connections.

    `failed` has the error of each of the `executed` connections that did not succeed; they are an error of the check
    where the run `fails` for them, and otherwise a warning.
    """
    errors: list[str] = []
    warnings: list[str] = []
    if failed:
        (errors if fails else warnings).append(_failed_connections(failed, executed))
    if summary.rejected:
        errors.append(f"{summary.rejected:,} records could not be stored.")
    if summary.collapsed:
        errors.append(f"{summary.collapsed:,} connections lost most of their rows.")
    warnings += [sentence(model, counts) for model, counts in summary.unfit.items()]
    if summary.misfits:
        warnings.append(_misfits(summary.misfits))
    elif summary.with_problems:
        warnings.append(
            f"{summary.with_problems:,} connections have rejected records, or values that did not fit their columns; "
            "their jobs say which."
        )
    if summary.new_columns:
        warnings.append(f"the API sends new fields: {_listed(summary.new_columns)}.")
    warnings += [f"{count:,} lists were not read to their end ({why})." for why, count in summary.unfinished.items()]
    if summary.doubt is not None:
        warnings.append(summary.doubt)
    numbers = {
        "failed": len(failed),
        "failed_connections": {name: sentence for name, sentence in list(failed.items())[:_LISTED] if name},
        "rejected": summary.rejected,
        "misfits": sum(summary.misfits.values()),
        "unfit": sum(counts.total() for counts in summary.unfit.values()),
        "new_columns": list(summary.new_columns),
    }
    return _result(key, errors, warnings, numbers)


def evaluate_job(key: AssetKey, job: Job | None) -> AssetCheckResult:
    """The result for the last job of a sync, where the check is executed without the asset."""
    if job is None:
        return _result(key, [], ["the sync has not been executed yet."], {})
    errors = [f"{job.rejected:,} records could not be stored."] if job.rejected else []
    if job.status == "failed":
        errors.insert(0, f"the last execution failed: {job.error_message}")
    warnings = list(job.warnings)
    return _result(key, errors, warnings, {"rejected": job.rejected, "warnings": warnings, "job_id": str(job.id)})


def evaluation(result: AssetCheckResult, key: AssetKey) -> AssetCheckEvaluation:
    """A result as an event that the run of another job may log."""
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=CHECK,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def _result(key: AssetKey, errors: list[str], warnings: list[str], numbers: dict[str, Any]) -> AssetCheckResult:
    sentences = errors + warnings
    between = "\n\n" if any("\n" in sentence for sentence in sentences) else " "  # the UI shows Markdown
    return AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not sentences,
        severity=AssetCheckSeverity.ERROR if errors else AssetCheckSeverity.WARN,
        description=between.join(sentences) or "All records were stored.",
        metadata=numbers,
    )


def _failed_connections(failed: Mapping[str, str], executed: int) -> str:
    """The connections that failed, by name, and the most frequent reasons.

    The sentence alone where the sync as a whole failed.
    """
    if not any(failed):
        return " ".join(failed.values())
    names = sorted(filter(None, failed))
    count = len(names)
    of = f"{count:,} of {executed:,} connections failed" if executed > 1 else "the connection failed"
    reasons = [f"{reason.rstrip('.')}." for reason in sentences_of({name: failed[name] for name in names})]
    return f"{of}: {_listed(names)}." + (f" {reasons[0]}" if len(reasons) == 1 else "\n\n- " + "\n- ".join(reasons))


def _errors(outcome: Outcome) -> list[str]:
    errors = []
    if outcome.counts.rejected:
        errors.append(f"{outcome.counts.rejected:,} records could not be stored.")
    if _collapsed(outcome):
        errors.append(f"the number of rows fell from {_before(outcome):,} to {outcome.live_count:,}.")
    return errors


def _before(outcome: Outcome) -> int:
    return outcome.live_count + outcome.counts.deleted - outcome.counts.added


def _collapsed(outcome: Outcome) -> bool:
    return bool(outcome.counts.deleted) and outcome.live_count < _before(outcome) * COLLAPSE


def _warnings(outcome: Outcome) -> list[str]:
    warnings = [sentence(model, counts) for model, counts in outcome.unfit.items()]
    if outcome.misfits:
        warnings.append(_misfits(outcome.misfits))
    elif outcome.standing:
        warnings += outcome.standing[:_LISTED]
    if outcome.new_columns and _before(outcome):
        warnings.append(f"the API sends new fields: {_listed(outcome.new_columns)}.")
    if outcome.doubt is not None:
        warnings.append(outcome.doubt)
    elif not outcome.complete and outcome.stop_reason not in (None, PARENTS_READ):
        warnings.append(f"the list was not read to its end ({outcome.stop_reason}).")
    return warnings


def _misfits(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,} values did not fit their column and are NULL there: {_listed(counts)}."


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
