"""The rounds: every contestant does every step, on every database, and then again."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import measure, records
from .api import Api
from .contestants import Contestant
from .databases import Database
from .measure import BenchmarkFailed, Usage
from .records import List

PAGE_SIZE: Final = 100
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Step:
    """One sync of a list of the API into the database that the last step left."""

    name: str
    list: List


STEPS: Final = (
    Step("first load", "first"),
    Step("unchanged", "first"),
    Step("1 % changed", "changed"),
    Step("1 % gone", "gone"),
)


@dataclass(frozen=True)
class Run:
    """A step of one process with the expected rows, and its usage."""

    contestant: str
    database: str
    step: str
    records: int
    round: int
    listed: int
    usage: Usage
    server_cpu_seconds: float | None
    api_cpu_seconds: float

    @property
    def records_per_second(self) -> float:
        """The records of the list, by the seconds from the start of the process to its end."""
        return self.listed / self.usage.seconds


def play(
    api: Api, databases: Sequence[Database], contestants: Sequence[Contestant], count: int, rounds: int
) -> Iterator[Run]:
    """Rounds are interleaved, and every other one goes backwards: a machine that slows down does so for everybody."""
    for number in range(1, rounds + 1):
        for database in databases:
            for contestant in contestants if number % 2 else contestants[::-1]:
                yield from _steps(api, database, contestant, count, number)


def _steps(api: Api, database: Database, contestant: Contestant, count: int, number: int) -> Iterator[Run]:
    with tempfile.TemporaryDirectory(prefix="nango-bench-") as folder, database.empty(Path(folder)) as url:
        for step in STEPS:
            server, upstream = database.cpu_seconds(), api.cpu_seconds()
            usage = _process(api, database, contestant, step, Path(folder), url)
            server_used = None if server is None else (database.cpu_seconds() or 0) - server
            api_used = api.cpu_seconds() - upstream
            wanted = records.outcome(step.list, count)
            found = database.outcome(url, contestant.live)
            if found != wanted:
                where = f"{contestant.name}, {database.dialect}, {count:,} records, {step.name}"
                raise BenchmarkFailed(f"{where}: {found}; wanted {wanted}.")
            names = (contestant.name, database.dialect, step.name)
            yield Run(*names, count, number, wanted.live, usage, server_used, api_used)


def _process(api: Api, database: Database, contestant: Contestant, step: Step, work: Path, url: str) -> Usage:
    """A new process of a contestant, away from the settings of whoever runs the benchmark."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NANGO_", "PIZZLY_", "DAGSTER_"))}
    env |= {
        "PYTHONPATH": str(_ROOT),
        "BENCH_BASE": api.url,
        "BENCH_QUERY": f"list={step.list}&page_size={PAGE_SIZE}",
        "BENCH_WORK": str(work),
        "BENCH_PG": url,
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }
    command = [sys.executable, "-m", f"benchmarks.contestants.{contestant.module}", database.dialect]
    return measure.run(command, env, work)
