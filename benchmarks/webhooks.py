"""How fast the outbox drains, with a receiver that answers at once.

`python -m benchmarks.webhooks` has thousands of notifications wait, delivers them in ticks of ten seconds as the sensor
does, and counts what has arrived. Beside it stands the limit: as many threads that only POST the same bodies with
requests, without an outbox. The figures are the medians of several rounds: deliveries a second, CPU seconds of the
process that delivers and of PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from threading import local

import requests
import sqlalchemy as sa

from nango_dagster import webhooks
from nango_dagster.runs.delivering import THREADS, DeliveryPool
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, outbox, schema

from . import databases
from .measure import BenchmarkFailed

_BEGAN = datetime(2024, 1, 1, tzinfo=timezone.utc)
_ABOUT = webhooks.About("bench", "customer-1", "base", "issues", "Issue", "INCREMENTAL")
_KEY = "k" * 36


@dataclass(frozen=True)
class Figures:
    """The usage of the delivery of all webhooks."""

    rate: float
    """Deliveries a second."""
    cpu: float
    server: float
    """PostgreSQL."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.webhooks", description=main.__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="notifications that wait")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are shown")
    databases.add_options(parser)
    wanted = parser.parse_args(argv)
    print(f"{'':36} {'a second':>9} {'x limit':>8} {'CPU s':>7} {'server':>7}", flush=True)
    for server in databases.chosen(wanted):
        rounds = [_round(server, wanted.count) for _ in range(wanted.rounds)]
        limit = _median([one[0] for one in rounds])
        _show("limit: threads that only POST", limit, limit)
        _show(server.about, _median([one[1] for one in rounds]), limit)


def _round(server: databases.Database, count: int) -> tuple[Figures, Figures]:
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, server.empty(Path(folder)) as url:
        env = {"NANGO_HOME": f"{folder}/nango", "NANGO_DB_URL": url.replace("postgresql:", "postgresql+psycopg:", 1)}
        settings = replace(Settings.from_env(env, dotenv=None), webhook_signing_key=_KEY)
        with receiving() as receiver, contextlib.closing(open_database(settings)) as database:
            limit = _figures(server, count, lambda: _post_all(receiver.url, count))
            fill(database, count)
            told = replace(settings, webhook_url=receiver.url)
            ours = _figures(server, count, lambda: _drain(database, told, count))
            if receiver.count() != 2 * count:
                raise BenchmarkFailed(f"{receiver.count() - count:,} of {count:,} arrived.")
    return limit, ours


def _figures(server: databases.Database, count: int, work: Callable[[], None]) -> Figures:
    cpu, of_server, began = time.process_time(), server.cpu_seconds() or 0.0, time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return Figures(count / seconds, time.process_time() - cpu, (server.cpu_seconds() or 0.0) - of_server)


def _median(found: Sequence[Figures]) -> Figures:
    return Figures(*(statistics.median(getattr(one, name) for one in found) for name in ("rate", "cpu", "server")))


def _show(name: str, found: Figures, limit: Figures) -> None:
    ratio = found.rate / limit.rate
    print(f"{name[:36]:36} {found.rate:>9,.0f} {ratio:>8.2f} {found.cpu:>7.1f} {found.server:>7.1f}", flush=True)


# --- who delivers ---------------------------------------------------------------------------------------------------


def fill(database: Database, count: int) -> None:
    """Have so many notifications wait, each of another connection."""
    row = {
        **{"kind": "changes", "target": "primary", "circuit": "primary", "integration": "bench", "variant": "base"},
        **{"sync_name": "issues", "model": "Issue", "sync_type": "INCREMENTAL", "added": 1, "updated": 2, "deleted": 3},
        **{"modified_after": _BEGAN, "created_at": _BEGAN, "next_try_at": _BEGAN},
    }
    rows = [{**row, "connection_id": f"customer-{number}", "delivery_id": str(number)} for number in range(count)]
    with database.begin() as connection:
        connection.execute(sa.insert(schema.webhooks), rows)


def _drain(database: Database, settings: Settings, count: int) -> None:
    pool = DeliveryPool(database, settings)
    arrived = 0
    while done := pool.deliver():
        if done.failed:
            raise BenchmarkFailed(f"{done.failed:,} failed: {done.error}")
        arrived += done.arrived
    pool.finish(60)
    if any(outbox.depth(database).values()):
        raise BenchmarkFailed(f"{arrived:,} of {count:,} have left the outbox.")


def _post_all(url: str, count: int) -> None:
    body = webhooks.changed(_ABOUT, 1, 2, 3, _BEGAN)
    mine = local()

    def post(number: int) -> None:
        if not hasattr(mine, "session"):
            mine.session = requests.Session()
        mine.session.post(url, data=body, headers=webhooks.headers(body, str(number), _KEY), timeout=20)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(post, range(count)))


# --- who receives ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Receiver:
    """A process that takes every POST at once, and counts them."""

    url: str

    def count(self) -> int:
        """How many it has taken."""
        return int(requests.get(self.url, timeout=20).text)


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver; gone afterwards, however this process ends."""
    command = [sys.executable, "-m", "benchmarks.webhooks", "receive"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Receiver(f"http://127.0.0.1:{process.stdout.readline().strip()}/hook")
        finally:
            process.stdin.close()  # it ends when its input does


async def _receive() -> None:
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _, has_length, rest = head.partition(b"content-length:")
                await reader.readexactly(int(rest.partition(b"\r\n")[0]) if has_length else 0)
                taken += head.startswith(b"post")
                answer = str(taken).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # whoever is connected still has gone, too


if __name__ == "__main__":
    if sys.argv[1:] == ["receive"]:
        asyncio.run(_receive())
    else:
        main()
