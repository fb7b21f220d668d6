"""Measure how fast a list gets from a local API into SQLite and PostgreSQL; print one table with ratios to a limit."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from . import report
from .api import serving
from .contestants import CONTESTANTS, Contestant
from .databases import Database, Sqlite, postgresql
from .measure import BenchmarkFailed
from .rounds import PAGE_SIZE, Run, play

DATABASES: Final = ("sqlite", "postgresql")
TABLE_WIDTH: Final = 120  # also where the output is a file
NAMES: Final = tuple(contestant.name for contestant in CONTESTANTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m benchmarks`: 0 if every contestant did every step rightly."""
    options = _options(arguments)
    contestants = [contestant for contestant in CONTESTANTS if _is_wanted(contestant.name, NAMES, options.only)]
    with _databases(options) as databases:
        about = [database.about for database in databases]
        try:
            runs = [_told(run, options.rounds) for run in _runs(options, databases, contestants)]
        except BenchmarkFailed as failure:
            print(f"The benchmark failed. {failure}", file=sys.stderr)
            return 1
    if options.json:
        options.json.write_text(report.document(runs, about))
    _show(runs, contestants, about)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--records", type=_numbers, default=[20_000], metavar="N[,N]", help="length of the list (default 20000)"
    )
    parser.add_argument("--rounds", type=_number, default=3, metavar="N", help="medians are of so many (default 3)")
    parser.add_argument(
        "--only", type=_names, default=[], metavar="NAME[,NAME]", help=f"some of {', '.join((*NAMES, *DATABASES))}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument(
        "--pg-url",
        default=os.environ.get("NANGO_TEST_DB_URL"),
        metavar="URL",
        help="a PostgreSQL server whose role may create databases (default NANGO_TEST_DB_URL, else one of its own)",
    )
    return parser.parse_args(arguments)


def _number(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few; wanted at least 1")
    return number


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - {*NAMES, *DATABASES}:
        raise argparse.ArgumentTypeError(f"no {' and no '.join(unknown)}; wanted {', '.join((*NAMES, *DATABASES))}")
    return names


def _is_wanted(name: str, among: Sequence[str], only: Sequence[str]) -> bool:
    """Whether it is named, or none of its kind is."""
    return name in only or not set(among) & set(only)


@contextlib.contextmanager
def _databases(options: argparse.Namespace) -> Iterator[list[Database]]:
    wanted = [name for name in DATABASES if _is_wanted(name, DATABASES, options.only)]
    with contextlib.ExitStack() as stack:
        found: list[Database] = [Sqlite()] if "sqlite" in wanted else []
        if "postgresql" in wanted:
            found.append(stack.enter_context(postgresql(options.pg_url)))
        yield found


def _runs(
    options: argparse.Namespace, databases: Sequence[Database], contestants: Sequence[Contestant]
) -> Iterator[Run]:
    for count in options.records:
        print(f"Making {count:,} records ...", file=sys.stderr)
        with serving(count) as api:
            yield from play(api, databases, contestants, count, options.rounds)


def _told(run: Run, rounds: int) -> Run:
    """The run, once whoever waits for the table has seen that there is progress."""
    where = f"round {run.round} of {rounds}: {run.contestant}, {run.database}, {run.records:,} records, {run.step}"
    print(f"{where}: {run.usage.seconds:.2f} s, {run.records_per_second:,.0f} records/s", file=sys.stderr, flush=True)
    return run


def _show(runs: Sequence[Run], contestants: Sequence[Contestant], about: Sequence[str]) -> None:
    console = Console(soft_wrap=True)
    console.width = max(console.width, TABLE_WIDTH)
    console.print(report.table(report.medians(runs), f"Medians of {runs[-1].round}"))
    console.print(f"{report.machine()}; {'; '.join(about)}. Pages of {PAGE_SIZE}.", report.api_share(runs))
    for contestant in contestants:
        console.print(f"[bold]{contestant.name:10}[/]{contestant.what}")


if __name__ == "__main__":
    sys.exit(main())
