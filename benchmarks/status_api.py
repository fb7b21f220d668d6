"""The cost of the status of thousands of connections in the API.

`python -m benchmarks.status_api` fills a store with syncs and connections that have each been executed a few times,
starts `nango-dagster api` on it, and asks `GET /sync/status` for all of them in one call. The figures are the medians
of several calls: CPU seconds of the server, those of PostgreSQL, and the seconds until the whole answer is here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, schema, syncs
from nango_dagster.store.sync_row import SyncRow

from . import databases
from .api import Api
from .http_api import serving
from .measure import BenchmarkFailed

INTEGRATION = "bench"
_EXECUTIONS = 3
_BEGAN = datetime(2024, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Figures:
    """The usage of one call."""

    cpu: float
    server: float | None
    """PostgreSQL; None where there is none, or it cannot be seen."""
    seconds: float
    megabytes: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.status_api", description=main.__doc__)
    parser.add_argument("--sizes", default="1x10000,10x1000,10x10000", help="syncs x connections, with commas")
    parser.add_argument("--calls", type=int, default=5, help="of which the medians are shown")
    databases.add_options(parser)
    wanted = parser.parse_args(argv)
    for server in databases.chosen(wanted):
        print(f"\n{server.about}", flush=True)
        print(f"{'syncs x connections':24} {'API CPU s':>9} {'server':>7} {'seconds':>8} {'MB':>6}")
        for size in wanted.sizes.split(","):
            count, accounts = map(int, size.split("x"))
            found = _measure(server, count, accounts, wanted.calls)
            of_server = "-" if found.server is None else f"{found.server:.2f}"
            print(
                f"{f'{count:,} x {accounts:,}':24} {found.cpu:>9.2f} {of_server:>7} {found.seconds:>8.2f} "
                f"{found.megabytes:>6.1f}",
                flush=True,
            )


def _measure(server: databases.Database, count: int, accounts: int, calls: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, server.empty(Path(folder)) as url:
        env = {
            "NANGO_HOME": f"{folder}/nango",
            "NANGO_DB_URL": url.replace("postgresql://", "postgresql+psycopg://", 1),
        }
        with contextlib.closing(open_database(Settings.from_env(env, dotenv=None))) as database:
            fill(database, count, accounts)
        with serving(env) as api:
            _call(api, server, count * accounts)  # the first call imports and prepares
            return _median([_call(api, server, count * accounts) for _ in range(calls)])


def _call(api: Api, server: databases.Database, rows: int) -> Figures:
    url = f"{api.url}/sync/status?provider_config_key={INTEGRATION}&syncs=*"
    cpu, of_server, began = api.cpu_seconds(), server.cpu_seconds(), time.perf_counter()
    with urllib.request.urlopen(url, timeout=300) as answer:
        body = answer.read()
    seconds = time.perf_counter() - began
    found = Figures(
        api.cpu_seconds() - cpu,
        None if of_server is None else (server.cpu_seconds() or 0.0) - of_server,
        seconds,
        len(body) / 1e6,
    )
    shown = json.loads(body)["syncs"]
    if len(shown) != rows or shown[-1]["latestResult"] == {} or not all(shown[-1]["recordCount"].values()):
        raise BenchmarkFailed(f"{len(shown):,} of {rows:,} are shown; the last one: {shown[-1:]}")
    return found


def _median(found: Sequence[Figures]) -> Figures:
    servers = [one.server for one in found if one.server is not None]
    return Figures(
        statistics.median(one.cpu for one in found),
        statistics.median(servers) if servers else None,
        statistics.median(one.seconds for one in found),
        found[0].megabytes,
    )


# --- what the store holds -------------------------------------------------------------------------------------------


def fill(database: Database, count: int, accounts: int) -> None:
    """So many syncs of so many connections, each executed before; without records, for none is read."""
    now = {"created_at": _BEGAN, "updated_at": _BEGAN}
    names = [f"customer-{number}" for number in range(accounts)]
    made = [{"integration": INTEGRATION, "connection_id": name, **now} for name in names]
    with database.begin() as connection:
        connection.execute(sa.insert(schema.connections), made)
    found = [
        Sync(name=f"sync{number}", url="https://api.example.com/items", integration=INTEGRATION, unique_key="id")
        for number in range(count)
    ]
    for row in syncs.register(database, found).values():
        with database.begin() as connection:
            _execute(connection, row, names)
    if database.engine.name == "postgresql":
        with database.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(sa.text("ANALYZE"))


def _execute(connection: sa.Connection, row: SyncRow, names: Sequence[str]) -> None:
    of = schema.schedules.c
    begun = datetime.now(timezone.utc) - timedelta(minutes=1)
    connection.execute(sa.update(schema.schedules).where(of.sync_id == row.id).values(last_started_at=begun))
    of_dataset = {"integration": row.integration, "model": row.sync.model, "variant": "base", "sync_id": row.id}
    connection.execute(
        sa.insert(schema.datasets), [{**of_dataset, "connection_id": name, "live_count": 50} for name in names]
    )
    connection.execute(sa.insert(schema.jobs), list(_jobs(row, names)))


def _jobs(row: SyncRow, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number in range(_EXECUTIONS):
        began = datetime.now(timezone.utc) - timedelta(hours=_EXECUTIONS - number)
        for name in names:
            yield {
                "sync_id": row.id,
                "sync_friendly_name": row.sync.display_name,
                "connection_id": name,
                "variant": "base",
                "model": row.sync.model,
                "worker_id": 0,
                "fence": number,
                "status": "succeeded",
                "attempt": 1,
                "started_at": began,
                "ended_at": began + timedelta(seconds=1),
                "added_count": 50,
            }


if __name__ == "__main__":
    main()
