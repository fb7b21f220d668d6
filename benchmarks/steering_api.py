"""How long the API takes to pause, start, trigger, cancel and re-time syncs while an overwrite of many records commits.

`python -m benchmarks.steering_api` starts `nango-dagster api`, has another process execute an overwrite of 500,000
records, and steers that very connection, and one beside it, all the while. It prints how long the closing transaction
took and what the calls took meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.sources import Ending, Model, Numbers, Sink, SourceContext
from nango_dagster.store import connections, open_database, overwrite, syncs

from . import databases
from .api import Api
from .http_api import serving
from .measure import BenchmarkFailed

INTEGRATION, SYNC, BUSY, IDLE = "bench", "items", "busy", "idle"
_PAGE = 1000
_PAUSE_SECONDS = 0.02
_ROOT = Path(__file__).parent.parent
_WHO = {"provider_config_key": INTEGRATION, "syncs": [SYNC]}
_EVERY = {"provider_config_key": INTEGRATION, "sync_name": SYNC, "connection_id": BUSY}

CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("pause", "POST", {**_WHO, "connection_id": BUSY}),
    ("start", "POST", {**_WHO, "connection_id": BUSY}),
    ("trigger", "POST", {**_WHO, "connection_id": BUSY}),
    ("update-connection-frequency", "PUT", {**_EVERY, "frequency": "every 30 minutes"}),
    ("update-connection-frequency", "PUT", {**_EVERY, "frequency": None}),
    ("cancel", "POST", {**_WHO, "connection_id": IDLE}),
    ("pause", "POST", {**_WHO, "connection_id": IDLE}),
    ("start", "POST", {**_WHO, "connection_id": IDLE}),
]


@dataclass(frozen=True)
class Called:
    """One call: when it was sent, and how many seconds its answer took."""

    name: str
    at: float
    seconds: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steering_api", description=main.__doc__)
    parser.add_argument("--records", type=int, default=500_000)
    databases.add_options(parser)
    parser.add_argument("--overwrite", type=int, help=argparse.SUPPRESS)  # be the process that writes
    wanted = parser.parse_args(argv)
    if wanted.overwrite:
        _overwrite(wanted.overwrite)
        return
    for server in databases.chosen(wanted):
        print(f"\n{server.about}", flush=True)
        _measure(server, wanted.records)


def _measure(server: databases.Database, records: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, server.empty(Path(folder)) as url:
        env = {
            "NANGO_HOME": f"{folder}/nango",
            "NANGO_DB_URL": url.replace("postgresql://", "postgresql+psycopg://", 1),
        }
        with contextlib.closing(open_database(Settings.from_env(env, dotenv=None))) as database:
            for connection_id in (BUSY, IDLE):
                connections.add(database, None, connections.NewConnection(INTEGRATION, connection_id))
            syncs.register(database, [Sync(name=SYNC, url="https://api.example.com/items", integration=INTEGRATION)])
        with serving(env) as api:
            _steer(api)  # the first calls import and connect
            for title in ("first load", "all changed"):
                _tell(title, *_while_it_writes(api, env, records))


def _while_it_writes(api: Api, env: dict[str, str], records: int) -> tuple[float, float, list[Called]]:
    """When the closing transaction of an overwrite began and ended, and what was called meanwhile."""
    command = [sys.executable, "-m", "benchmarks.steering_api", "--overwrite", str(records)]
    called: list[Called] = []
    with subprocess.Popen(command, cwd=_ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True) as writer:
        while writer.poll() is None:
            called += _steer(api)
        assert writer.stdout is not None
        told = json.loads(writer.stdout.read())
    if told["status"] != "succeeded" or told["live"] != records:
        raise BenchmarkFailed(f"the overwrite: {told}")
    return told["began"], told["ended"], called


def _steer(api: Api) -> Iterator[Called]:
    for path, method, body in CALLS:
        began = time.time()
        request = urllib.request.Request(
            f"{api.url}/sync/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            answer.read()
        yield Called(path, began, time.time() - began)
        time.sleep(_PAUSE_SECONDS)


def _tell(title: str, began: float, ended: float, called: Sequence[Called]) -> None:
    print(f"{title}: the closing transaction took {ended - began:.1f} s")
    during = [one for one in called if one.at + one.seconds > began and one.at < ended]
    for name in dict.fromkeys(one.name for one in called):
        for when, those in (("during it", during), ("else", [one for one in called if one not in during])):
            took = sorted(1000 * one.seconds for one in those if one.name == name)
            if took:
                middle, high = took[len(took) // 2], took[len(took) * 99 // 100]
                print(
                    f"  {name:28} {when:10} {len(took):>5} calls, median {middle:>7.1f} ms, 99 % {high:>7.1f} ms, "
                    f"longest {took[-1]:>7.1f} ms",
                    flush=True,
                )


# --- the process that writes ----------------------------------------------------------------------------------------


class _Records:
    """A list whose records differ from process to process."""

    models: tuple[Model, ...] = ()
    needs_access = False

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Save all records, page by page."""
        for page, start in enumerate(range(0, self._count, _PAGE), 1):
            numbers = range(start, min(start + _PAGE, self._count))
            sink.count(Numbers(pages=page, records=numbers.stop))
            sink.save([self._record(number) for number in numbers])
        return Ending("no_cursor")

    def _record(self, number: int) -> bytes:
        document = {
            "number": number,
            "process": os.getpid(),
            "name": f"item {number}",
            "amount": number / 7,
            "is_open": number % 2 == 0,
            "updated_at": "2024-01-15T10:30:00Z",
            "note": "words " * 20,
        }
        return json.dumps(document).encode()


def _overwrite(count: int) -> None:
    settings = Settings.from_env(dotenv=None)
    database = open_database(settings)
    (row,) = syncs.all(database)
    times: dict[str, float] = {}
    finish = overwrite.Overwrite.finish

    def timed(self: overwrite.Overwrite, connection: Any) -> None:
        times["began"] = time.time()
        finish(self, connection)

    overwrite.Overwrite.finish = timed  # type: ignore[method-assign]  # to know when its transaction is open
    with runs.claimed(database, settings, row, connection_id=BUSY) as execution:
        outcome = replace(execution, source=_Records(count)).run()
        times["ended"] = time.time()
    print(json.dumps({**times, "status": outcome.status, "live": outcome.live_count, "error": outcome.error}))
    database.close()


if __name__ == "__main__":
    main()
