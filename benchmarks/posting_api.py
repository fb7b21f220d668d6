"""A thousand syncs posted in a row: how fast they are answered, how often Dagster loads again, when each has run.

`python -m benchmarks.posting_api` starts `nango-dagster dev` in an empty folder, posts the syncs one after the other to
its API, each of another list, and waits until every one of them has stored its records. Dagster's instance and the
records are in SQLite, as they are for whoever types `nango-dagster dev`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, schema

from . import api
from .measure import BenchmarkFailed

RECORDS = 5
_RELOADED = "Requested a reload in Dagster"
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Dev:
    """A running `dev`."""

    url: str
    ui: str
    process: psutil.Process
    log: Path

    def cpu_seconds(self) -> float:
        """The CPU seconds of the process and its children."""
        total = 0.0
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
        return total

    def reloads(self) -> int:
        """The number of requested reloads in Dagster."""
        return self.log.read_text(errors="replace").count(_RELOADED)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posting_api", description=main.__doc__)
    parser.add_argument("--syncs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=15, help="in which all have to run")
    wanted = parser.parse_args(argv)
    with (
        api.serving(2 * RECORDS * wanted.syncs) as source,
        tempfile.TemporaryDirectory(prefix="nango_bench_") as folder,
    ):
        env = {"NANGO_HOME": f"{folder}/nango", "NANGO_DB_URL": f"sqlite:///{folder}/nango.db"}
        with _dev(Path(folder), env) as dev, contextlib.closing(_database(env)) as database:
            before, began = dev.cpu_seconds(), time.monotonic()
            took = [_post(dev, source.url, number) for number in range(wanted.syncs)]
            posted = time.monotonic() - began
            ordered = sorted(1000 * one for one in took)
            print(
                f"{wanted.syncs:,} syncs posted in {posted:.1f} s, {wanted.syncs / posted:.0f} a second: median "
                f"{statistics.median(ordered):.1f} ms, 99 % {ordered[len(ordered) * 99 // 100]:.1f} ms, longest "
                f"{ordered[-1]:.1f} ms; {_ran(database):,} have run meanwhile",
                flush=True,
            )
            _wait(database, wanted.syncs, began + 60 * wanted.minutes)
            ran = time.monotonic() - began
            rows, runs = _counts(database)
            print(
                f"each has run {ran:.1f} s after the first post ({rows:,} records, {runs} Dagster runs), with "
                f"{dev.cpu_seconds() - before:.0f} CPU s of all processes and {dev.reloads()} reloads",
                flush=True,
            )
            _wait_for_assets(dev, wanted.syncs, began + 60 * wanted.minutes)
            assets, reloads = time.monotonic() - began, dev.reloads()
            print(f"each has an asset of its own after {assets:.1f} s and {reloads} reloads", flush=True)
    if rows != RECORDS * wanted.syncs or reloads > 1 + assets / 60:
        raise BenchmarkFailed(f"{rows:,} records, {reloads} reloads in {assets:.0f} s")


@contextlib.contextmanager
def _dev(folder: Path, env: dict[str, str]) -> Iterator[Dev]:
    ui, port = _free_port(), _free_port()
    (folder / "sync_configs").mkdir()
    command = [sys.executable, "-m", "nango_dagster.cli", "dev", "--port", str(ui), "--api-port", str(port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NANGO_", "DAGSTER_"))}
    log = folder / "dev.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, "PYTHONPATH": str(_ROOT), "DAGSTER_DISABLE_TELEMETRY": "yes", **env},
            stdout=out,
            stderr=out,
        )
    dev = Dev(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ui}", psutil.Process(process.pid), log)
    try:
        for url in (f"{dev.url}/health", f"{dev.ui}/server_info"):
            _answers(url, process, log)
        yield dev
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"dev did not start:\n{log.read_text()[-3000:]}") from None
            time.sleep(0.2)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _database(env: dict[str, str]) -> Database:
    return open_database(Settings.from_env(env, dotenv=None))


def _post(dev: Dev, source: str, number: int) -> float:
    """How many seconds the answer took."""
    body = {
        "url": f"{source}/issues?account={number}&size={RECORDS}",
        "name": f"posted-{number}",
        "unique_key": "id",
        "frequency": "every day",
        "response_path": "results",
    }
    request = urllib.request.Request(
        f"{dev.url}/v1/syncs", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
    return time.monotonic() - began


def _ran(database: Database) -> int:
    """How many of the syncs have succeeded."""
    of = schema.jobs.c
    return _one(database, sa.select(sa.func.count(of.sync_id.distinct())).where(of.status == "succeeded"))


def _counts(database: Database) -> tuple[int, int]:
    """The records, and the Dagster runs that stored them."""
    rows = _one(database, sa.select(sa.func.sum(schema.datasets.c.live_count)))
    return rows, _one(database, sa.select(sa.func.count(schema.jobs.c.run_id.distinct())))


def _one(database: Database, query: sa.Select[Any]) -> int:
    with database.connect() as connection:
        return int(connection.execute(query).scalar_one() or 0)


def _wait(database: Database, count: int, deadline: float) -> None:
    while (ran := _ran(database)) < count:
        if time.monotonic() > deadline:
            of = schema.jobs.c
            with database.connect() as connection:
                errors = connection.execute(sa.select(of.error_message).where(of.status == "failed")).scalars().all()
            raise BenchmarkFailed(f"{ran:,} of {count:,} have run; {len(errors)} failed: {errors[:1]}")
        time.sleep(0.5)


def _wait_for_assets(dev: Dev, count: int, deadline: float) -> None:
    """Until Dagster knows an asset for every sync."""
    query = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
    while True:
        request = urllib.request.Request(f"{dev.ui}/graphql", query, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            nodes = json.load(answer)["data"]["assetNodes"]
        if sum("posted" in node["assetKey"]["path"][-1] for node in nodes) >= count:
            return
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"Dagster has {len(nodes):,} assets:\n{dev.log.read_text()[-3000:]}")
        time.sleep(2)


if __name__ == "__main__":
    main()
