"""The cost of a sync of a thousand connections: one Dagster run for all, compared with a run or a pipeline for each.

`python -m benchmarks.connections` starts Dagster's daemon and code server on an empty instance, lets the sync's own
schedule begin it, and measures from that tick to the last commit: a first load, then an hour later, when nothing has
changed. CPU seconds are those of the run, the daemon, the code server and PostgreSQL; the API's are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nango_dagster import config, dagster_yaml, runs
from nango_dagster.defs.names import asset_key, job_name
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, open_database, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow

from . import databases, measure
from .api import Api, serving
from .deployment import Deployment, Taken
from .measure import BenchmarkFailed

if TYPE_CHECKING:
    from dagster import DagsterInstance

SYNC = "issues"
INTEGRATION = "bench"
_ROOT = Path(__file__).parent.parent
_LEAD_SECONDS = 60  # so long before the schedule's tick the daemon is started
_A_FEW = 3  # runs of one connection that are measured, and pipelines times ten


@dataclass(frozen=True)
class Figures:
    """The usage of one step."""

    database: str
    step: str
    connections: int
    seconds: float
    """From the schedule's tick to the last commit."""
    begins_after: float
    """Of these until the first execution began: the daemon's queue, and the start of the run's process."""
    cpu: Taken
    runs: int
    events: int
    peak_mb: float
    early_mb: float
    """The run's memory when a fifth of the connections were done."""

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds for each connection."""
        return 1000 * self.cpu.total / self.connections


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connections", description=main.__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="of the first load")
    parser.add_argument("--unchanged", type=int, default=10_000, help="of the step without changes; 0 leaves it out")
    parser.add_argument("--records", type=int, default=50, help="of each connection")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="only this one")
    parser.add_argument("--events", choices=["changed", "all"], default="changed", help="what Dagster is told of")
    parser.add_argument("--dlt", metavar="PYTHON", help="a Python that has dlt[postgres], to measure its pipelines")
    parser.add_argument("--pg-url", default=os.environ.get("NANGO_TEST_DB_URL"), help="a PostgreSQL server of your own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure, for machines")
    wanted = parser.parse_args(argv)
    found: list[Figures] = []
    with serving(max(5000, 2 * wanted.records)) as api, contextlib.ExitStack() as servers:
        for name in [wanted.database] if wanted.database else ["postgresql", "sqlite"]:
            database: databases.Database = databases.Sqlite()
            if name == "postgresql":
                database = servers.enter_context(databases.postgresql(wanted.pg_url))
            print(f"\n{database.about}", flush=True)
            found += _measure(api, database, wanted)
        _tell_of_pipelines(api, servers, wanted)
    if wanted.json:
        wanted.json.write_text(json.dumps([{**asdict(one), "cpu_ms": one.cpu_ms} for one in found], indent=1))


def _measure(api: Api, database: databases.Database, wanted: argparse.Namespace) -> Iterator[Figures]:
    """Both steps on a new database."""
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, database.empty(Path(folder)) as url:
        bench = Bench(Path(folder), url, database, api, wanted.records, wanted.events)
        with contextlib.closing(bench):
            bench.add(wanted.connections, shown=True)
            yield _told(bench.step("first load"))
            if wanted.unchanged:
                bench.load(wanted.unchanged)
                yield _told(bench.step("unchanged"))
            _tell_of_single_runs(bench)


_told_before = False


def _told(figures: Figures) -> Figures:
    global _told_before
    if not _told_before:
        print(
            f"{'':11} {'connections':>11} {'s':>6} {'(begins':>8} {'runs':>5} {'events':>7} {'CPU s':>6} "
            f"{'of it: run':>10} {'daemon':>7} {'code':>5} {'server':>7} {'ms each':>8} {'peak MB':>8} {'(early)':>8}"
        )
        _told_before = True
    cpu = figures.cpu
    print(
        f"{figures.step:11} {figures.connections:>11,} {figures.seconds:>6.1f} {figures.begins_after:>7.1f}) "
        f"{figures.runs:>5} {figures.events:>7,} {cpu.total:>6.1f} {cpu.runs:>10.1f} {cpu.daemon:>7.1f} "
        f"{cpu.code_server:>5.1f} {cpu.server:>7.1f} {figures.cpu_ms:>8.1f} {figures.peak_mb:>8.0f} "
        f"{f'({figures.early_mb:.0f})':>8}",
        flush=True,
    )
    return figures


class Bench:
    """An instance of Dagster and a store, with one partitioned sync and its connections."""

    def __init__(self, folder: Path, url: str, server: databases.Database, api: Api, records: int, events: str) -> None:
        self.folder = folder
        self.server = server
        self.records = records
        self._document = {
            "url": f"{api.url}/issues?account=${{connection_id}}&size={records}",
            "integration": INTEGRATION,
            "unique_key": "id",
            "events": events,
            "connections_per_run": 100_000,
        }
        self.env = self._environment(url)
        self.settings = Settings.from_env(self.env, dotenv=None)
        self.database: Database = open_database(self.settings)
        self._write_config(minute=0)
        self.row: SyncRow = self._registered()
        self._job = job_name(self.row.sync)
        self._shown = 0

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def _environment(self, url: str) -> dict[str, str]:
        home = self.folder / "dagster"
        (self.folder / "sync_configs").mkdir()
        home.mkdir()
        env = {
            "NANGO_HOME": str(self.folder / "nango"),
            "NANGO_SYNC_CONFIGS": str(self.folder / "sync_configs"),
            "NANGO_DB_URL": url.replace("postgresql://", "postgresql+psycopg://", 1),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "PYTHONPATH": str(_ROOT),
        }
        if self.server.dialect == "postgresql":
            env["DAGSTER_POSTGRES_URL"] = url
        text = (Path(dagster_yaml.__file__).parent / f"dagster.{self.server.dialect}.yaml").read_text()
        (home / "dagster.yaml").write_text(text)
        return env

    def _write_config(self, minute: int) -> None:
        document = {**self._document, "cron": f"{minute} * * * *"}
        (self.folder / "sync_configs" / f"{SYNC}.json").write_text(json.dumps(document))

    def _registered(self) -> SyncRow:
        configs = config.read_dir(self.folder / "sync_configs")
        return syncs.register(self.database, configs.syncs)[SYNC]

    @property
    def instance(self) -> DagsterInstance:
        """Dagster's instance, opened anew: it is used for moments."""
        from dagster import DagsterInstance

        os.environ.update({name: value for name, value in self.env.items() if name.startswith("DAGSTER_")})
        return DagsterInstance.from_config(self.env["DAGSTER_HOME"])

    # --- connections --------------------------------------------------------------------------------------------------

    def add(self, count: int, *, shown: bool = False) -> None:
        """Make it so many connections; new ones wait for the schedule, and not for the dispatcher.

        `shown`: the next step is to show them as materialized.
        """
        self._shown = count if shown else self._shown
        of = schema.schedules.c
        for number in range(self.count(), count):
            connections.add(self.database, None, connections.NewConnection(INTEGRATION, str(number)))
        begun = sa.update(schema.schedules).where(of.last_started_at.is_(None)).values(last_started_at=of.created_at)
        self.database.transact(lambda connection: connection.execute(begun))

    def count(self) -> int:
        """How many connections there are."""
        with self.database.connect() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(schema.connections)).scalar_one()

    def load(self, count: int) -> None:
        """Make it so many connections that have been loaded, and that Dagster shows as materialized; not measured."""
        self.add(count)
        slot = datetime.now(timezone.utc)
        with runs.Drain(self.database, self.settings) as drain:
            drain.add(self.row, lambda: slot)
            while not drain.is_over:
                for done in drain.next(1.0):
                    if done.outcome is None or done.outcome.status != "succeeded":
                        raise BenchmarkFailed(f"{done.partition}: {done.error or done.outcome}")
        with self.database.connect() as connection:
            ids = connection.execute(sa.select(schema.schedules.c.id)).scalars().all()
        queue.show(self.database, "MATERIALIZED", ids)

    # --- one step -----------------------------------------------------------------------------------------------------

    def step(self, name: str) -> Figures:
        """Let the schedule begin, and measure until all is committed and the run has ended."""
        count = self.count()
        tick = datetime.now(timezone.utc) + timedelta(seconds=_LEAD_SECONDS + 60)
        tick = tick.replace(second=0, microsecond=0)
        self._write_config(tick.minute)
        before = self._last_job()
        run_ids = {run.run_id for run in self._runs()}
        with Deployment(self.folder, self.env, self.server) as dagster:
            self._wait(dagster, lambda: self._is_ready(count), 120, "Dagster knows no partitions")
            late = (datetime.now(timezone.utc) - tick).total_seconds()
            if late > 0:
                raise BenchmarkFailed(f"Dagster was ready {late:.0f} s after the tick.")
            time.sleep(max(0.0, -late - 1))
            dagster.begin()
            self._wait(dagster, lambda: self._ended(before) >= count, 1800, "not all were executed")
            self._wait(dagster, self._is_quiet, 120, "the run did not end")
            time.sleep(2)  # until the code server has waited for the run's process
            taken = dagster.taken()
        return self._figures(name, count, before, run_ids, tick, dagster, taken)

    def _figures(
        self,
        name: str,
        count: int,
        before: int,
        run_ids: set[str],
        tick: datetime,
        dagster: Deployment,
        taken: Taken,
    ) -> Figures:
        of = schema.jobs.c
        query = sa.select(sa.func.min(of.started_at), sa.func.max(of.ended_at)).where(of.id > before)
        with self.database.connect() as connection:
            first, last = connection.execute(query).one()
            early = connection.execute(
                sa.select(of.ended_at).where(of.id > before).order_by(of.ended_at).offset(count // 5).limit(1)
            ).scalar_one()
            wrong = connection.execute(sa.select(of.error_message).where(of.id > before, of.status != "succeeded"))
            errors = wrong.scalars().all()
            rows = connection.execute(sa.select(sa.func.sum(schema.datasets.c.live_count))).scalar_one()
        if errors or rows != count * self.records:
            raise BenchmarkFailed(f"{len(errors)} failed, {rows:,} rows of {count * self.records:,}; {errors[:1]}")
        found = [run for run in self._runs() if run.run_id not in run_ids]
        with self.instance as instance:
            events = sum(len(instance.all_logs(run.run_id)) for run in found)
            shown = len(instance.get_materialized_partitions(asset_key(self.row.sync)))
        if shown < self._shown:
            raise BenchmarkFailed(f"Dagster shows {shown:,} of {self._shown:,} connections as materialized.")
        return Figures(
            database=self.server.dialect,
            step=name,
            connections=count,
            seconds=(last - tick).total_seconds(),
            begins_after=(first - tick).total_seconds(),
            cpu=taken,
            runs=len(found),
            events=events,
            peak_mb=dagster.peak(),
            early_mb=dagster.peak(early),
        )

    def single_runs(self, count: int) -> Taken:
        """The usage of `count` runs of one partition each, launched one after the other as in the UI."""
        self._write_config(minute=(datetime.now(timezone.utc).minute + 30) % 60)
        launch = [sys.executable, "-m", "dagster", "job", "launch", "-m", "nango_dagster.definitions", "-j", self._job]
        with Deployment(self.folder, self.env, self.server) as dagster:
            self._wait(dagster, lambda: self._is_ready(self.count()), 120, "Dagster knows no partitions")
            dagster.begin()
            before = self._last_job()
            for number in range(count):
                tags = json.dumps({"dagster/partition": str(number)})
                measure.run([*launch, "--tags", tags], {**os.environ, **self.env}, self.folder)
                self._wait(dagster, self._is_quiet, 120, "the run did not end")
            if self._ended(before) != count:
                raise BenchmarkFailed(f"{self._ended(before)} of {count} single runs did anything.")
            time.sleep(2)
            return dagster.taken()

    def _wait(self, dagster: Deployment, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            dagster.check()
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{otherwise} within {seconds:g} s:\n{dagster.said()}")
            time.sleep(0.5)

    def _is_ready(self, count: int) -> bool:
        """Whether the schedule is known and Dagster has a partition for every connection."""
        with self.instance as instance:
            names = instance.all_instigator_state()
            keys = instance.get_dynamic_partitions(f"nango/{INTEGRATION}/{SYNC}")
        return len(keys) >= count and any(SYNC in state.instigator_name for state in names)

    def _is_quiet(self) -> bool:
        return all(run.is_finished for run in self._runs())

    def _runs(self) -> list[Any]:
        with self.instance as instance:
            return list(instance.get_runs(limit=1000))

    def _last_job(self) -> int:
        with self.database.connect() as connection:
            return connection.execute(sa.select(sa.func.max(schema.jobs.c.id))).scalar_one() or 0

    def _ended(self, before: int) -> int:
        of = schema.jobs.c
        query = sa.select(sa.func.count()).where(of.id > before, of.ended_at.is_not(None))
        with self.database.connect() as connection:
            return connection.execute(query).scalar_one()


# --- what it is compared with ---------------------------------------------------------------------------------------


def _tell_of_single_runs(bench: Bench) -> None:
    """A Dagster run for a connection, a few times: what a thousand of them would cost."""
    cpu = bench.single_runs(_A_FEW)
    each = (cpu.total - cpu.daemon) / _A_FEW
    print(
        f"A Dagster run for each connection: {each:.1f} CPU s each (of {_A_FEW}, without the daemon), so "
        f"{1000 * each:,.0f} s for 1,000 connections.",
        flush=True,
    )


def _tell_of_pipelines(api: Api, servers: contextlib.ExitStack, wanted: argparse.Namespace) -> None:
    """A dlt pipeline for a connection, a few times."""
    if wanted.dlt is None:
        print("\nA dlt pipeline for each connection: not measured; --dlt names a Python that has dlt[postgres].")
        return
    server = servers.enter_context(databases.postgresql(wanted.pg_url))
    count = 10 * _A_FEW
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, server.empty(Path(folder)) as url:
        env = {**os.environ, "BENCH_API": api.url, "BENCH_RECORDS": str(wanted.records), "BENCH_DB": url}
        script = str(Path(__file__).parent / "contestants" / "dlt_pipelines.py")

        def cpu_of(pipelines: int) -> float:
            before = server.cpu_seconds() or 0.0
            used = measure.run([wanted.dlt, script, str(pipelines)], env, Path(folder))
            return used.cpu_seconds + (server.cpu_seconds() or 0.0) - before

        start, all_ = cpu_of(1), cpu_of(1 + count)
    each = (all_ - start) / count
    print(
        f"\nA dlt pipeline for each connection, into PostgreSQL, all in one process: {1000 * each:,.0f} CPU ms each "
        f"(of {count}), so {1000 * each:,.0f} CPU s for 1,000 connections."
    )


if __name__ == "__main__":
    main()
