"""The requests and CPU seconds of a sync with `for_each`, of whose many parents a few changed.

`python -m benchmarks.for_each` reads the lists of 10,000 parents, then those of 100 that changed, then none, on SQLite
and, with `--pg-url`, on PostgreSQL. It fails if an execution requests more lists than have to be read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, syncs

from .measure import BenchmarkFailed

CHILDREN = 3


@dataclass
class Api:
    """Parents with a version, and the lists of their children; it counts the lists that were requested."""

    count: int
    url: str = ""
    version: int = 0
    changed: range = range(0)
    lists: set[str] = field(default_factory=set)

    def answer(self, path: str) -> bytes:
        """The body of an answer."""
        if path == "/parents":
            parents = (f'{{"id":{n},"v":{self.version if n in self.changed else 0}}}' for n in range(self.count))
            return f"[{','.join(parents)}]".encode()
        self.lists.add(path)
        number = int(path.rpartition("/")[2])
        children = (f'{{"id":{number * 10 + n},"v":{self.version}}}' for n in range(CHILDREN))
        return f"[{','.join(children)}]".encode()


@contextmanager
def serving(api: Api) -> Iterator[None]:
    """Serve the API on a port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            body = api.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Step:
    """One execution: its name, the seconds it took, CPU and wall, and the lists that it requested."""

    name: str
    cpu: float
    wall: float
    lists: int


def measure(settings: Settings, api: Api, changed: int) -> list[Step]:
    """Read all lists, those of the changed parents, and none. Raises BenchmarkFailed for a wrong number of lists."""
    fields: dict[str, Any] = {"unique_key": "id", "track_deletes": {}}
    parents = Sync(name="parents", url=f"{api.url}/parents", **fields)
    each: dict[str, Any] = {"for_each": {"sync": "parents", "path": "id", "where_changed": True}}
    children = Sync(name="children", url=f"{api.url}/children/${{parent.id}}", **each, **fields)
    with serving_database(settings) as database:
        rows = syncs.register(database, [parents, children])
        steps = []
        for name, count in (("first", api.count), ("changed", changed), ("unchanged", 0)):
            api.version, api.changed = api.version + (name == "changed"), range(changed if name != "first" else 0)
            _execute(database, settings, rows["parents"])
            api.lists.clear()
            began = time.process_time(), time.monotonic()
            _execute(database, settings, rows["children"])
            steps.append(Step(name, time.process_time() - began[0], time.monotonic() - began[1], len(api.lists)))
            if len(api.lists) != count:
                raise BenchmarkFailed(f"{name}: {len(api.lists):,} lists were requested; wanted {count:,}.")
    return steps


@contextmanager
def serving_database(settings: Settings) -> Iterator[Database]:
    """The database of the settings, with its tables."""
    database = open_database(settings)
    try:
        yield database
    finally:
        database.close()


def _execute(database: Database, settings: Settings, row: Any) -> None:
    with runs.claimed(database, settings, row) as execution:
        outcome = execution.run()
    if outcome.status != "succeeded":
        raise BenchmarkFailed(str(outcome.error))


def main() -> None:
    """Measure, and print a table. The CPU seconds include those of the API, which is a thread of this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.for_each", description=main.__doc__)
    parser.add_argument("--parents", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=100)
    parser.add_argument("--pg-url", default=os.environ.get("NANGO_TEST_DB_URL"), help="an empty PostgreSQL database")
    wanted = parser.parse_args()
    urls = {"sqlite": None, **({"postgresql": wanted.pg_url} if wanted.pg_url else {})}
    print(f"{'database':12} {'execution':10} {'lists':>7} {'CPU s':>8} {'s':>8}")
    for name, url in urls.items():
        with tempfile.TemporaryDirectory() as folder:
            env = {"NANGO_HOME": str(Path(folder) / "home"), **({"NANGO_DB_URL": url} if url else {})}
            api = Api(wanted.parents)
            with serving(api):
                for step in measure(Settings.from_env(env, dotenv=None), api, wanted.changed):
                    print(f"{name:12} {step.name:10} {step.lists:>7,} {step.cpu:>8.2f} {step.wall:>8.2f}")


if __name__ == "__main__":
    main()
