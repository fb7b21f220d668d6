"""One asset check per sync: whether its last execution gives reasons to look closer."""

from __future__ import annotations

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey

from ..runs import Outcome
from .names import CHECK

COLLAPSE = 0.5  # of the rows gone in one execution


def spec(key: AssetKey) -> AssetCheckSpec:
    """The check as the UI lists it."""
    return AssetCheckSpec(
        CHECK,
        asset=key,
        description="Every record could be stored, every value fitted its column, the list was read to its end.",
    )


def evaluate(key: AssetKey, outcome: Outcome) -> AssetCheckResult:
    """The check's verdict, from numbers that the execution already has; the worst one decides how bad it is."""
    errors, warnings = _errors(outcome), _warnings(outcome)
    return AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not errors and not warnings,
        severity=AssetCheckSeverity.ERROR if errors else AssetCheckSeverity.WARN,
        description=" ".join(errors + warnings) or "Nothing to complain about.",
        metadata={
            "rejected": outcome.counts.rejected,
            "misfits": sum(outcome.misfits.values()),
            "new_columns": list(outcome.new_columns),
            "warnings": list(outcome.warnings),
        },
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
        found.append(f"{total:,} values did not fit their column and are NULL there: {_names(outcome.misfits)}.")
    if outcome.new_columns and outcome.counts.unchanged + outcome.counts.updated:
        found.append(f"the API sends new fields: {_names(outcome.new_columns)}.")
    if not outcome.complete and outcome.stop_reason:
        found.append(f"the list was not read to its end ({outcome.stop_reason}).")
    return found


def _names(names: object) -> str:
    listed = list(names)  # type: ignore[call-overload]
    return ", ".join(listed[:10]) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")
