"""The results of the rounds: a table of medians and ratios, or all figures as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from rich.table import Table

from .rounds import Run

LIMIT: Final = "limit"


@dataclass(frozen=True)
class Median:
    """The medians of the runs of one contestant, database, step and number of records."""

    contestant: str
    database: str
    step: str
    records: int
    records_per_second: float
    client_cpu_seconds: float
    server_cpu_seconds: float | None
    peak_mb: float
    ratio: float | None = None
    """Its records a second by those of the limit, in the same rounds."""


def medians(runs: Iterable[Run]) -> list[Median]:
    """Those of one step stand together, in the order of the first round."""
    groups: dict[tuple[int, str, str], dict[str, list[Run]]] = {}
    for run in runs:
        groups.setdefault((run.records, run.database, run.step), {}).setdefault(run.contestant, []).append(run)
    return [_median(of, group.get(LIMIT)) for group in groups.values() for of in group.values()]


def _median(runs: Sequence[Run], limit: Sequence[Run] | None) -> Median:
    one, rate = runs[0], _rate(runs)
    server = [run.server_cpu_seconds for run in runs if run.server_cpu_seconds is not None]
    return Median(
        one.contestant,
        one.database,
        one.step,
        one.records,
        rate,
        median(run.usage.cpu_seconds for run in runs),
        median(server) if server else None,
        median(run.usage.peak_mb for run in runs),
        rate / _rate(limit) if limit else None,
    )


def _rate(runs: Sequence[Run]) -> float:
    return median(run.records_per_second for run in runs)


def table(rows: Sequence[Median], title: str) -> Table:
    """The medians, a section for each step."""
    made = Table(title=title, title_justify="left")
    for name in ("contestant", "database", "records", "step"):
        made.add_column(name, justify="right" if name == "records" else "left", no_wrap=True)
    for name in ("records/s", "x limit", "client CPU s", "server CPU s", "peak MB"):
        made.add_column(name, justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        made.add_row(
            row.contestant,
            row.database,
            f"{row.records:,}",
            row.step,
            f"{row.records_per_second:,.0f}",
            _figure(row.ratio),
            _figure(row.client_cpu_seconds),
            _figure(row.server_cpu_seconds),
            f"{row.peak_mb:,.0f}",
            end_section=following is None or _section(following) != _section(row),
        )
    return made


def _section(row: Median) -> tuple[int, str, str]:
    return row.records, row.database, row.step


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def api_share(runs: Sequence[Run]) -> str:
    """How much of the work was the API's: if it were much, the figures would be about the API."""
    api, clients = sum(run.api_cpu_seconds for run in runs), sum(run.usage.cpu_seconds for run in runs)
    return f"The API used {api / clients:.1%} of the CPU that its clients used."


def machine() -> str:
    """The machine and the versions of a measurement."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def document(runs: Sequence[Run], about: Sequence[str]) -> str:
    """All figures, as JSON for machines."""
    whole: dict[str, Any] = {
        "machine": machine(),
        "databases": about,
        "medians": [asdict(row) for row in medians(runs)],
        "runs": [{**asdict(run), "records_per_second": run.records_per_second} for run in runs],
    }
    return json.dumps(whole, indent=2) + "\n"
