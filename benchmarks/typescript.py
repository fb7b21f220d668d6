"""TypeScript scripts: many connections in one run, and large records compared with the same list by YAML.

    python -m benchmarks.typescript [--connections 1000] [--records 20000] [--executions 0]

`--executions` runs one connection as often, and prints the memory of the Node process on the way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psutil

from nango_dagster import runs
from nango_dagster.config import Sync, TrackDeletes
from nango_dagster.node.configs import read_configs
from nango_dagster.node.pool import POOL
from nango_dagster.runs.draining import Drain
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, open_database, syncs
from nango_dagster.store.sync_row import SyncRow

PAGES = 5
_SCRIPT = """
import { createSync } from 'nango';
export default createSync({
    description: 'Items', version: '1.0.0', frequency: 'every hour', autoStart: true, models: { Item: {} },
    exec: async (nango: any) => {
        if (TRACKS) await nango.trackDeletesStart('Item');
        const checkpoint = await nango.getCheckpoint();
        let page = checkpoint?.page ?? 0;
        for (;;) {
            const params = { page, size: SIZE, per: PER };
            const { data } = await nango.get({ endpoint: '/items', params, retries: 3 });
            await nango.batchSave(data.items, 'Item');
            if (data.next === null) break;
            page = data.next;
            CHECKPOINT
        }
        if (TRACKS) await nango.clearCheckpoint();
        if (TRACKS) await nango.trackDeletesEnd('Item');
    },
});
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--executions", type=int, default=0)
    options = parser.parse_args()
    with _api() as url:
        if options.connections:
            _many_connections(url, options.connections, checkpoint=False)
            _many_connections(url, options.connections, checkpoint=True)
        if options.records:
            _large_records(url, options.records)
        if options.executions:
            _many_executions(url, options.executions)
    POOL.close()


def _many_connections(url: str, count: int, *, checkpoint: bool) -> None:
    with _project(url, size=PAGES, per=10, checkpoint=checkpoint) as (database, settings, row):
        names = [f"c{number}" for number in range(count)]
        connections.add_all(database, None, [connections.NewConnection("crm", name) for name in names])
        cpu, began, statuses = _cpu(), time.monotonic(), list[str]()
        with Drain(database, settings) as drain:
            drain.add(row, lambda: None, only=[(name, "base") for name in names])
            while not drain.is_over:
                statuses += [done.outcome.status if done.outcome else repr(done.error) for done in drain.next(0.2)]
        wall = time.monotonic() - began
        assert statuses == ["succeeded"] * count, set(statuses)
        kind = "with checkpoints and a deletion window" if checkpoint else "and nothing else"
        print(f"{count} connections of {PAGES} pages {kind}: {wall:.1f} s, {_cpu() - cpu:.1f} CPU s")


def _large_records(url: str, count: int) -> None:
    figures = {}
    for way in ("script", "yaml"):
        with _project(url, size=count // 100, per=100, checkpoint=False) as (database, settings, row):
            connections.add(database, None, connections.NewConnection("crm", "acme"))
            if way == "yaml":
                sync = Sync(
                    name="listed", integration="crm", url=f"{url}/items?size={count // 100}&per=100",
                    response_path="items", unique_key="id", paging_cursor_request_path="page",
                    paging_cursor_metadata_response_path="next", track_deletes=TrackDeletes(),
                )  # fmt: skip
                row = syncs.register(database, [sync])["listed"]
            _execute(database, settings, row)  # opens everything once
            cpu = _cpu()
            with runs.claimed(database, settings, row, connection_id="acme") as execution:
                outcome = replace(execution, wishes=runs.Wishes(empty_cache=True, accept_deletes=True)).run()
            assert outcome.status == "succeeded", outcome.error
            figures[way] = count / (_cpu() - cpu)
            print(f"{count} records of 2.5 KB by {way}: {figures[way]:,.0f} records per CPU s")
    print(f"the script reaches {100 * figures['script'] / figures['yaml']:.0f} % of YAML")


def _many_executions(url: str, count: int) -> None:
    with _project(url, size=PAGES, per=10, checkpoint=True) as (database, settings, row):
        connections.add(database, None, connections.NewConnection("crm", "acme"))
        for number in range(count):
            _execute(database, settings, row)
            if number % (count // 10) == 0:
                memory = [child.memory_info().rss / 1e6 for child in _node_processes()]
                own = psutil.Process().memory_info().rss / 1e6
                print(f"after {number}: Node {sum(memory):.0f} MB in {len(memory)}, Python {own:.0f} MB", flush=True)


def _execute(database: Database, settings: Settings, row: SyncRow) -> None:
    with runs.claimed(database, settings, row, connection_id="acme") as execution:
        outcome = execution.run()
    assert outcome.status == "succeeded", outcome.error


def _node_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "host.mjs" in str(child.cmdline())]


def _cpu() -> float:
    """CPU seconds of this process and of its Node processes."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    live = sum(sum(child.cpu_times()[:2]) for child in _node_processes())
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + live


@contextlib.contextmanager
def _project(url: str, *, size: int, per: int, checkpoint: bool) -> Iterator[tuple[Database, Settings, SyncRow]]:
    """An empty store and the stored sync of a script that reads `size` pages of `per` records."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "nango-integrations"
        (root / "crm" / "syncs").mkdir(parents=True)
        (root / "index.ts").write_text("import './crm/syncs/items.js';\n")
        save = "await nango.saveCheckpoint({ page });" if checkpoint else ""
        text = _SCRIPT.replace("SIZE", str(size)).replace("PER", str(per)).replace("CHECKPOINT", save)
        text = text.replace("TRACKS", str(checkpoint).lower())
        (root / "crm" / "syncs" / "items.ts").write_text(text)
        configs = Path(folder) / "sync_configs"
        configs.mkdir()
        (configs / "integrations.yaml").write_text(f"crm:\n  base_url: {url}\n")
        environment = {"NANGO_HOME": f"{folder}/home", "NANGO_SCRIPTS": str(root), "NANGO_SYNC_CONFIGS": str(configs)}
        settings = Settings.from_env(environment, dotenv=None)
        read = read_configs(settings, refresh=True)
        assert not read.errors, read.errors
        with contextlib.closing(open_database(settings)) as database:
            yield database, settings, syncs.register(database, read.syncs)["items"]


@contextlib.contextmanager
def _api() -> Iterator[str]:
    """The URL of an API in another process."""
    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(sender,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.kill()
        process.join()


def _serve(pipe: Any) -> None:
    filler = "x" * 2400

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            query = dict(parse_qsl(urlsplit(self.path).query))
            page, size, per = (int(query.get(name) or 0) for name in ("page", "size", "per"))
            extra = {"filler": filler} if per > 10 else {}
            items = [{"id": str(page * per + n), "name": f"item {n}", **extra} for n in range(per)]
            body = json.dumps({"items": items, "next": page + 1 if page + 1 < size else None}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pipe.send(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    os.environ.setdefault("LOG_LEVEL", "warning")
    main()
