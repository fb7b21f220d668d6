"""The cost of an incremental execution beside a full one, when 1 % of the records have changed.

`python -m benchmarks.incremental` reads a list into a new SQLite file, and again with 1 % of its records changed: once
the whole list, once what changed. CPU seconds are those of this process; the API is another one. A process start comes
on top of each, and is measured on its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nango_dagster import runs
from nango_dagster.config import from_body
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, syncs

from . import records
from .api import serving
from .measure import BenchmarkFailed

LIMIT = 0.02
"""The largest part of a full execution's CPU that an incremental one may take, besides a process start."""
_SYNC: dict[str, Any] = {
    "response_path": "results",
    "unique_key": "id",
    "paging_cursor_metadata_response_path": "paging.next.after",
    "paging_cursor_request_path": "after",
}
_INCREMENTAL: dict[str, Any] = {
    "sync_type": "incremental",
    "incremental": {"field": "updated_at", "request_path": "since"},
}


@dataclass(frozen=True)
class Figures:
    """CPU seconds of executions, without the start of their process."""

    count: int
    changed: int
    first: float
    """The full execution that stores everything."""
    full: float
    """The full one again, after 1 % has changed."""
    incremental: float
    """The incremental one, after 1 % has changed."""
    unchanged: float
    """The incremental one once more: it reads the same records again, as its lower bound is inclusive."""
    process_start: float

    @property
    def is_cheap(self) -> bool:
        """Whether the incremental execution took its part of each full one, and a process start, at most."""
        return self.incremental <= min(self._limit(self.first), self._limit(self.full))

    def _limit(self, full: float) -> float:
        return LIMIT * full + self.process_start

    def __str__(self) -> str:
        rows = [
            ("full, first", self.first, self._limit(self.first)),
            ("full, 1 % changed", self.full, self._limit(self.full)),
            ("incremental, 1 % changed", self.incremental, None),
            ("incremental, the same records again", self.unchanged, None),
            ("start of a process", self.process_start, None),
        ]
        lines = [f"{self.count:,} records, {self.changed:,} of them changed; CPU seconds", ""]
        lines.append(f"{'execution':38}{'CPU s':>8}{'incremental':>13}{f'{LIMIT:.0%} and a start':>18}")
        for name, seconds, limit in rows:
            parts = "" if limit is None else f"{self.incremental / seconds:>13.1%}{limit:>18.2f}"
            lines.append(f"{name:38}{seconds:>8.2f}{parts}")
        return "\n".join(lines)


def measure(count: int) -> Figures:
    """Measure on a new SQLite file. Raises BenchmarkFailed where an execution does not do its work."""
    with tempfile.TemporaryDirectory() as folder, serving(count) as api:
        url = f"sqlite:///{Path(folder) / 'nango.db'}"
        settings = Settings.from_env({"NANGO_HOME": folder, "NANGO_DB_URL": url}, dotenv=None)
        database = open_database(settings)

        def execute(list_: str, name: str, expected: int, **fields: Any) -> float:
            url = f"{api.url}/issues?list={list_}&page_size=100"
            return _execute(database, settings, url, name, expected, **fields)

        try:
            changed = records.outcome("changed", count).changed
            first = execute("first", "all", count)
            execute("first", "delta", count, **_INCREMENTAL)
            full = execute("changed", "all", changed)
            incremental = execute("first", "delta", changed, **_INCREMENTAL)
            unchanged = execute("first", "delta", 0, **_INCREMENTAL)
        finally:
            database.close()
    return Figures(count, changed, first, full, incremental, unchanged, _process_start())


def _execute(database: Database, settings: Settings, url: str, name: str, expected: int, **fields: Any) -> float:
    """The CPU seconds of one execution, which has to change as many records as expected."""
    row = syncs.register(database, [from_body({"name": name, "url": url, **_SYNC, **fields})])[name]
    with runs.claimed(database, settings, row) as execution:
        began = time.process_time()
        outcome = execution.run()
        seconds = time.process_time() - began
    counts = outcome.counts
    if outcome.status != "succeeded" or counts.added + counts.updated != expected:
        raise BenchmarkFailed(f"{name}: {outcome.status}, {counts}, {outcome.error}")
    return seconds


def _process_start() -> float:
    """The CPU seconds of a process that imports what an execution needs."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import nango_dagster.runs, nango_dagster.store"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m benchmarks.incremental`: 0 if the incremental execution is cheap enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.incremental", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, metavar="N", help="length of the list")
    options = parser.parse_args(arguments)
    try:
        figures = measure(options.records)
    except BenchmarkFailed as failure:
        print(f"The benchmark failed. {failure}", file=sys.stderr)
        return 1
    print(figures)
    if not figures.is_cheap:
        print(f"The incremental execution took more than {LIMIT:.0%} of the full one and a start.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
