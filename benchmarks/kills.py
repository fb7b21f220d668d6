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
import random
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from .supervised import INTEGRATION, MODELS, PAGE, Copy, SupervisedDeployment

RECORDS = 25  # of a list, about
SETTLE_SECONDS = 900.0
KINDS = ("run", "run", "run", "postgresql", "postgresql", "api", "api", "code server", "daemon")
SLOW_TO_START = {"code server", "daemon"}
PATIENCE = 30.0
"""Seconds to wait for a run that can be killed, before something else is."""


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
        deployment = stack.enter_context(SupervisedDeployment(folder, source.url, receiver.url, names))
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


def _kill_at_random(deployment: SupervisedDeployment, count: int, pause: float, chance: random.Random) -> Iterator[str]:
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


def _settle(deployment: SupervisedDeployment, source: Source, reader: Reader, receiver: Receiver) -> list[str]:
    """Wait until all is executed once more and nothing is left to do; what is not equal, as sentences."""
    deadline = time.monotonic() + SETTLE_SECONDS
    stopped_at = deployment.request_executions()
    shown = ""
    while reason := deployment.unfinished(stopped_at):
        if reason != shown:
            print(f"waiting: {reason}", flush=True)
            shown = reason
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
    faults = []
    for name, copy in copies.items():
        for (sync, connection), records in source.records.items():
            copied = {record["id"]: record for record in copy.get((sync, connection), {}).values()}
            if copied != records:
                faults.append(f"{name} of {sync} for {connection}: {_difference(copied, records)}")
    return faults


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
            own_id = metadata.get("payload_id", record["id"])  # deals have no unique key: theirs is the record's hash
            copy.setdefault((sync, connection), {})[record["id"]] = {**record, "id": own_id}
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


if __name__ == "__main__":
    main()
