"""The programs that the benchmark compares: each contestant is a module that runs in a new process for each step.

`python -m benchmarks.contestants.NAME sqlite|postgresql` pulls one list, once, and leaves each of its records as a live
row of a table `issues`. What it needs stands in the environment, see `Task`; nothing but files below `work` and its
database is kept from one step to the next.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Contestant:
    """A program, what it is, and which rows of its table are live."""

    name: str
    module: str
    what: str
    live: str = "true"


CONTESTANTS: Final = (
    Contestant(
        "limit", "limit", "by hand: http.client, msgspec, COPY / executemany of what differs: JSON and typed columns"
    ),
    Contestant("engine", "engine", "this project without Dagster: JSON and typed columns", "_nango_deleted_at IS NULL"),
    Contestant(
        "dagster", "through_dagster", "`nango-dagster run`: the same as a Dagster run", "_nango_deleted_at IS NULL"
    ),
    Contestant("pandas", "pandas_loop", "requests, json_normalize, to_sql(if_exists='replace'): typed columns only"),
)


@dataclass(frozen=True)
class Task:
    """The task of one process."""

    dialect: str  # sqlite, postgresql
    list_url: str  # the first page; `&after=CURSOR` is the next one
    database_url: str  # a database of the contestant's own, empty at the first step
    work: Path  # a folder of its own, empty at the first step

    @classmethod
    def read(cls) -> Task:
        """The task that the command line and the environment describe."""
        env = os.environ
        dialect, work = sys.argv[1], Path(env["BENCH_WORK"])
        url = env["BENCH_PG"] if dialect == "postgresql" else f"sqlite:///{work}/issues.db"
        return cls(dialect, f"{env['BENCH_BASE']}/issues?{env['BENCH_QUERY']}", url, work)

    @property
    def file(self) -> Path:
        """The SQLite database."""
        return Path(self.database_url.removeprefix("sqlite:///"))
