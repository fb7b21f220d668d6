"""The cost of a page of `GET /records` in a large dataset, compared with a bare route that returns the same bytes.

`python -m benchmarks.records_api` fills one dataset, starts `nango-dagster api` on it, and a FastAPI app of one route
that has each answer ready in memory. Each case asks ours, the bare route, and the database itself with the query that
somebody would write by hand, by turns; the medians of the last two together are what ours is compared with. Then many
requests at a time are in flight: to ours, to the bare route, and to one that asks the database by hand before it
answers with the bytes it has.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.records import byte_hash
from nango_dagster.settings import Settings
from nango_dagster.store import Database, changes, datasets, open_database, syncs
from nango_dagster.store.rows import RawRow, driver
from nango_dagster.store.types import SQLITE_TIME

from . import bare_route, databases
from .http_api import serving
from .measure import BenchmarkFailed

HEADERS = {"Connection-Id": "default", "Provider-Config-Key": "default"}
PAGE = 100
UPDATED, DELETED = 10_000, 10
_BEGAN = datetime(2024, 1, 1, tzinfo=timezone.utc)
_BATCH = 1000
_FILLER = "Somebody reported that the page does not load, and nobody knows since when that has been so. " * 13
_AFTER = {
    "all": "",
    "deleted": " AND deleted_at IS NOT NULL",
    "updated": " AND deleted_at IS NULL AND first_seen_at <> last_modified_at",
}


@dataclass(frozen=True)
class Case:
    """One way to ask for a page."""

    name: str
    filter: str
    cursor: changes.Cursor | None

    @property
    def path(self) -> str:
        """As a client asks for it."""
        query = {"model": "Items", "limit": PAGE}
        if self.filter != "all":
            query["filter"] = self.filter
        if self.cursor is not None:
            query["cursor"] = str(self.cursor)
        return f"/records?{urlencode(query)}"


@dataclass(frozen=True)
class Figures:
    """Milliseconds of one case, and requests a second where many are in flight."""

    case: str
    records: int
    ours: float
    route: float
    query: float
    many: float
    many_route: float
    many_asking: float

    @property
    def ratio(self) -> float:
        """Ours by the bare route and the query."""
        return self.ours / (self.route + self.query)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records_api", description=main.__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="in the dataset, of 1.4 KB")
    parser.add_argument("--calls", type=int, default=300, help="of each case, of which the medians are shown")
    parser.add_argument("--flight", type=int, default=50, help="requests at a time")
    databases.add_options(parser)
    wanted = parser.parse_args(argv)
    for server in databases.chosen(wanted):
        print(f"\n{server.about}; {wanted.records:,} records, pages of {PAGE}", flush=True)
        print(
            f"{'page':20} {'records':>7} {'ours ms':>8} {'route':>6} {'query':>6} {'ratio':>6} "
            f"{'many/s':>7} {'route/s':>8} {'asking/s':>8} {'ratio':>6}",
            flush=True,
        )
        for figures in _measure(server, wanted):
            print(_line(figures), flush=True)


def _line(one: Figures) -> str:
    line = f"{one.case:20} {one.records:>7} {one.ours:>8.2f} {one.route:>6.2f} {one.query:>6.2f} {one.ratio:>6.2f}"
    many = f"{one.many:>7,.0f} {one.many_route:>8,.0f} {one.many_asking:>8,.0f}"
    return f"{line} {many} {one.many / one.many_asking:>6.2f}"


def _measure(server: databases.Database, wanted: argparse.Namespace) -> Iterator[Figures]:
    with tempfile.TemporaryDirectory(prefix="nango_bench_") as folder, server.empty(Path(folder)) as url:
        env = {
            "NANGO_HOME": f"{folder}/nango",
            "NANGO_DB_URL": url.replace("postgresql://", "postgresql+psycopg://", 1),
        }
        db = open_database(Settings.from_env(env, dotenv=None))
        dataset_id = _fill(db, wanted.records)
        cases = _cases(db, dataset_id, wanted.records)
        with serving(env) as api:
            bodies = [_get(_connect(api.url), case.path) for case in cases]
            for number, body in enumerate(bodies):
                (Path(folder) / f"{number}.json").write_bytes(body)
            asked = [_query(db, dataset_id, case) for case in cases]
            with _bare(Path(folder), db, url, asked) as bare:
                for number, case in enumerate(cases):
                    ask = partial(bare_route.ask, bare_route.connected(_place(db, url)), *asked[number])
                    yield _one(api.url, bare, number, case, bodies[number], ask, wanted)
        db.close()


def _one(
    ours: str, bare: str, number: int, case: Case, body: bytes, ask: Callable[[], Any], wanted: argparse.Namespace
) -> Figures:
    here, there = _connect(ours), _connect(bare)
    each: dict[str, Callable[[], Any]] = {
        "ours": lambda: _get(here, case.path),
        "route": lambda: _get(there, f"/{number}"),
        "query": ask,
    }
    times: dict[str, list[float]] = {name: [] for name in each}
    for turn in range(wanted.calls):
        for name, call in each.items():
            began = time.perf_counter()
            call()
            if turn >= wanted.calls // 10:
                times[name].append(1000 * (time.perf_counter() - began))
    many = {
        name: statistics.median(asyncio.run(_in_flight(url, path, len(body), wanted)) for _ in range(3))
        for name, url, path in (
            ("many", ours, case.path),
            ("many_route", bare, f"/{number}"),
            ("many_asking", bare, f"/asking/{number}"),
        )
    }
    medians = {name: statistics.median(those) for name, those in times.items()}
    return Figures(case.name, len(json.loads(body)["records"]), **medians, **many)


# --- the dataset ------------------------------------------------------------------------------------------------------


def _fill(db: Database, count: int) -> int:
    """One dataset as executions leave it: loaded, some records updated later, and a few deleted after that."""
    row = syncs.register(db, [Sync(name="items", url="http://localhost/items", unique_key="id", auto_mapping=False)])
    sync_id = row["items"].id
    dataset = datasets.find_or_make(db, sync_id, "default", "default", "base", "Items")
    began = time.perf_counter()
    for start in range(0, count, _BATCH):
        _put(db, dataset.id, sync_id, range(start, min(count, start + _BATCH)), _BEGAN + timedelta(seconds=start))
    later = _BEGAN + timedelta(days=100)
    some = range(0, count, count // UPDATED)
    for start in range(0, len(some), _BATCH):
        _put(db, dataset.id, sync_id, some[start : start + _BATCH], later + timedelta(seconds=start), again=True)
    last = later + timedelta(days=1)
    with db.begin() as connection:
        gone = [f"item-{n:09}" for n in range(5, count, count // DELETED)][:DELETED]
        db.rows.raw(connection, dataset.id).mark_deleted(gone, last, keep_data=True)
        datasets.changed(connection, dataset.id, last, added=count, deleted=len(gone))
        datasets.identify(connection, dataset.id, "id")
        connection.execute(sa.text("ANALYZE"))
    print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return dataset.id


def _put(db: Database, dataset_id: int, sync_id: int, those: range, moment: datetime, again: bool = False) -> None:
    rows = []
    for n in those:
        text = json.dumps({"id": f"item-{n:09}", "number": n, "again": again, "title": f"Item {n}", "body": _FILLER})
        rows.append(RawRow(f"item-{n:09}", byte_hash(text.encode()), None, text.encode()))
    with db.begin() as connection:
        replaced = [row.external_id for row in rows] if again else []
        db.rows.raw(connection, dataset_id).put(sync_id, rows, replaced, moment)


def _cases(db: Database, dataset_id: int, count: int) -> list[Case]:
    def place(filter: str, at: int) -> changes.Cursor | None:
        if at == 0:
            return None
        query = f"SELECT last_modified_at, external_id FROM _nango_raw WHERE dataset_id = {dataset_id}{_AFTER[filter]} "
        order = f"ORDER BY last_modified_at, external_id LIMIT 1 OFFSET {at - 1}"
        with db.connect() as connection:
            moment, key = driver(connection).execute(query + order).fetchone()
        return changes.Cursor(datetime.fromisoformat(moment) if isinstance(moment, str) else moment, key)

    last = count - PAGE - UPDATED - DELETED
    return [
        Case("first", "all", None),
        Case("middle", "all", place("all", count // 2)),
        Case("last of the load", "all", place("all", last)),
        Case("updated, first", "updated", None),
        Case("updated, middle", "updated", place("updated", UPDATED // 2)),
        Case("deleted", "deleted", None),
    ]


def _query(db: Database, dataset_id: int, case: Case) -> tuple[str, list[str]]:
    """How somebody would ask the database by hand, who names the condition of the index that the page is in."""
    place = case.cursor or changes.Cursor(_BEGAN - timedelta(days=1), "")
    condition = _AFTER[case.filter] or " AND deleted_at IS NULL AND first_seen_at = last_modified_at"
    text, mark = ("data::text", "%s") if db.engine.name == "postgresql" else ("data", "?")
    query = (
        f"SELECT external_id, first_seen_at, last_modified_at, deleted_at, pruned_at, {text} FROM _nango_raw "
        f"WHERE dataset_id = {dataset_id} AND (last_modified_at, external_id) > ({mark}, {mark}){condition} "
        f"ORDER BY last_modified_at, external_id LIMIT {PAGE + 1}"
    )
    return query, [place.moment.strftime(SQLITE_TIME), place.external_id]


# --- the two servers --------------------------------------------------------------------------------------------------


def _place(db: Database, url: str) -> str:
    return (
        f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{db.schema}"
        if db.engine.name == "postgresql"
        else url
    )


@contextlib.contextmanager
def _bare(folder: Path, db: Database, url: str, asked: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """The URL of an app whose route answers with these files, which are in its memory."""
    (folder / "asked").write_text(json.dumps(asked))
    command = [sys.executable, "-m", f"{__package__}.bare_route", str(folder), _place(db, url)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise BenchmarkFailed("the bare route did not start.")
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _connect(url: str) -> http.client.HTTPConnection:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port)
    deadline = time.monotonic() + 30
    while True:
        try:
            connection.connect()
            return connection
        except OSError:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"nobody listens at {url}.") from None
            time.sleep(0.05)


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", path, headers=HEADERS)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise BenchmarkFailed(f"{path} was answered with {answer.status}: {body[:500]!r}")
    return body


async def _in_flight(url: str, path: str, size: int, wanted: argparse.Namespace) -> float:
    """Requests a second, with so many of them under way at any time. Raises BenchmarkFailed if one fails."""
    place = urlsplit(url)
    lines = [f"GET {path} HTTP/1.1", f"Host: {place.netloc}", *(f"{name}: {value}" for name, value in HEADERS.items())]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    each = max(5, 2 * wanted.calls // wanted.flight)

    async def client() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
        for _ in range(each):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200") or len(await reader.readexactly(size)) != size:
                raise BenchmarkFailed(f"{path} was answered with {head[:200]!r}")
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(wanted.flight)))
    seconds: float = time.perf_counter() - began
    return float(wanted.flight * each / seconds)


if __name__ == "__main__":
    main()
