"""The CPU seconds and the memory of Python scripts beside the same list by YAML.

`python -m benchmarks.scripts` reads a list of 100,000 records of 2.5 KB by YAML, by a script that yields its pages as
they are, by Nango's `paginate`, and by a script that makes each record anew; each in a process of its own, on SQLite
and, with `--pg-url`, on PostgreSQL. It fails if a script does not store all records.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from nango_dagster import runs
from nango_dagster.config import from_document
from nango_dagster.settings import Settings
from nango_dagster.store import open_database, syncs

from .api import serving
from .measure import BenchmarkFailed, Usage, run

PAGE = 100
LIMIT = 1.25
"""The most CPU that a script may use, as a multiple of YAML's for the same list."""
FIELDS: dict[str, Any] = {
    "response_path": "results",
    "paging_cursor_metadata_response_path": "paging.next.after",
    "paging_cursor_request_path": "after",
}
SCRIPTS = """
FIELDS = {fields!r}
PARAMS = {{"list": "first", "page_size": {page}}}
NANGO = {{"type": "cursor", "response_path": "results", "cursor_path_in_response": "paging.next.after",
         "cursor_name_in_request": "after"}}


def pages(nango):
    yield from nango.paginate("/issues", params=PARAMS, **FIELDS)


def nangos(nango):
    yield from nango.paginate("/issues", params=PARAMS, paginate=NANGO)


def anew(nango):
    for page in nango.paginate("/issues", params=PARAMS, **FIELDS):
        yield [{{**record}} for record in page]
"""
CONTESTANTS = ("yaml", "pages", "nangos", "anew")


def execute(name: str, url: str, count: int) -> None:
    """Read the list once, in this process. Raises BenchmarkFailed where not all records are stored."""
    settings = Settings.from_env(dotenv=None)
    document: dict[str, Any] = {"name": "issues", "unique_key": "id"}
    if name == "yaml":
        document |= {"url": f"{url}/issues?list=first&page_size={PAGE}", **FIELDS}
    else:
        settings.configs.mkdir(parents=True, exist_ok=True)
        (settings.configs / "reading.py").write_text(SCRIPTS.format(fields=FIELDS, page=PAGE))
        document |= {"base_url": url, "script": f"reading:{name}"}
    database = open_database(settings)
    try:
        row = syncs.register(database, [from_document(document)])["issues"]
        with runs.claimed(database, settings, row) as execution:
            outcome = execution.run()
    finally:
        database.close()
    if outcome.status != "succeeded" or outcome.counts.added != count:
        raise BenchmarkFailed(f"{name}: {outcome.counts.added:,} of {count:,} records were stored. {outcome.error}")


def measure(name: str, url: str, count: int, database_url: str | None) -> Usage:
    """The usage of one contestant's process, with a new database."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "NANGO_HOME": str(Path(folder) / "home"),
            "NANGO_SYNC_CONFIGS": str(Path(folder) / "configs"),
            "NANGO_DB_SCHEMA": f"bench_scripts_{name}",
            **({"NANGO_DB_URL": database_url} if database_url else {}),
        }
        command = [sys.executable, "-m", "benchmarks.scripts", "--one", name, "--url", url, "--records", str(count)]
        return run(command, env, Path(__file__).parent.parent)


def main() -> None:
    """Measure, and print a table; the ratio is that of the CPU seconds to YAML's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scripts", description=main.__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--pg-url", default=os.environ.get("NANGO_TEST_DB_URL"), help="an empty PostgreSQL database")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        execute(options.one, options.url, options.records)
        return
    urls = {"sqlite": None, **({"postgresql": options.pg_url} if options.pg_url else {})}
    print(f"{'database':12} {'list':10} {'CPU s':>8} {'of YAML':>8} {'s':>8} {'MB':>6}")
    with serving(options.records) as api:
        for database, database_url in urls.items():
            base = 0.0
            for name in CONTESTANTS:
                usage = measure(name, api.url, options.records, database_url)
                base = base or usage.cpu_seconds
                ratio = usage.cpu_seconds / base
                print(
                    f"{database:12} {name:10} {usage.cpu_seconds:>8.2f} {ratio:>8.2f} {usage.seconds:>8.2f} "
                    f"{usage.peak_mb:>6.0f}"
                )
                if ratio > LIMIT and options.records >= 100_000:
                    print(f"{name} uses more than {LIMIT:g} times the CPU of YAML.", file=sys.stderr)


if __name__ == "__main__":
    main()
