"""Helpers of the tests of executions: an API that fails at a chosen page, and the stored rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from nango_dagster import mapping, runs
from nango_dagster.config import Sync
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, datasets, jobs, schema, syncs, tables
from nango_dagster.store.jobs import Job
from nango_dagster.store.sync_row import SyncRow
from tests.fake_api import FakeApi, Received, Reply

Record = dict[str, Any]
PAGING: dict[str, Any] = {"paging_cursor_metadata_response_path": "next", "paging_cursor_request_path": "page"}
SYSTEM = set(tables.SYSTEM_COLUMNS)


class Source:
    """A list of records in an API, in pages; `broken` says what a page answers instead."""

    def __init__(self, api: FakeApi, records: Iterable[Any] = (), *, path: str = "/items", size: int = 3) -> None:
        self.api = api
        self.path = path
        self.size = size
        self.records: list[Any] = list(records)
        self.broken: dict[int, Callable[[Received], Reply] | Reply] = {}
        api.route(path, self.answer)

    def answer(self, request: Received) -> Reply:
        number = int(request.params.get("page", 1))
        if number not in self.broken:
            return self.page(number)
        reply = self.broken[number]
        return reply(request) if callable(reply) else reply

    def page(self, number: int) -> Record:
        """The correct answer of page `number`; the first is 1."""
        end = number * self.size
        return {"results": self.records[end - self.size : end], "next": number + 1 if end < len(self.records) else None}

    @property
    def body(self) -> Callable[[int], bytes]:
        """The answer of page `number` as bytes, to be cut or spoiled."""
        return lambda number: json.dumps(self.page(number)).encode()

    def sync(self, **fields: Any) -> Sync:
        """A sync of this list, not patient with errors unless the test is."""
        return Sync(**{"name": "items", "url": self.api.url + self.path, "retries": 0, **PAGING, **fields})

    def registered(self, db: Database, **fields: Any) -> SyncRow:
        """The sync as the store knows it."""
        sync = self.sync(**fields)
        return syncs.register(db, [sync])[sync.name]


def items(*ids: int, **fields: Any) -> list[Record]:
    """Small records with these ids."""
    return [{"id": id_, "name": f"item {id_}", **fields} for id_ in ids]


def execute(
    db: Database, settings: Settings, row: SyncRow, *, run_id: str | None = None, wishes: Wishes | None = None
) -> Outcome:
    """One execution, as a click or `run SYNC` starts it."""
    with runs.claimed(db, settings, row, run_id=run_id) as execution:
        return replace(execution, wishes=wishes or Wishes()).run()


def drained(db: Database, settings: Settings, row: SyncRow) -> None:
    """All of a sync that is due, connection by connection, as a Dagster run does it."""
    slot = datetime.now(timezone.utc)
    with runs.Drain(db, settings, run_id="run") as work:
        work.add(row, lambda: slot)
        while not work.is_over:
            for done in work.next(0.2):
                assert done.error is None


def last_job(db: Database, row: SyncRow) -> Job:
    return jobs.list_jobs(db, row.id, limit=1)[0]


# --- what is stored ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """The rows of a sync: as the API sent them, and as they are mapped; the live ones and the deleted ones."""

    live: list[Any]
    deleted: list[Any]
    mapped: list[Record]
    mapped_deleted: list[Record]
    live_count: int


def stored(db: Database, row: SyncRow) -> Stored:
    """All that the store has of a sync, each list in one order; null columns are left out of mapped rows."""
    with db.connect() as connection:
        found = datasets.of_sync(connection, row.id)
        of = schema.raw.c
        raw = connection.execute(
            sa.select(sa.cast(of.data, sa.Text).label("text"), of.deleted_at).where(of.sync_id == row.id)
        ).all()
        mapped = _mapped(connection, db, row)
    return Stored(
        live=ordered(json.loads(one.text) for one in raw if one.deleted_at is None),
        deleted=ordered(json.loads(one.text or "null") for one in raw if one.deleted_at is not None),
        mapped=ordered(_plain(one) for one in mapped if one["_nango_deleted_at"] is None),
        mapped_deleted=ordered(_plain(one) for one in mapped if one["_nango_deleted_at"] is not None),
        live_count=sum(dataset.live_count for dataset in found),
    )


def _mapped(connection: sa.Connection, db: Database, row: SyncRow) -> Sequence[Mapping[str, Any]]:
    name = tables.table_name(row.sync, row.id)
    if not row.sync.auto_mapping or name not in sa.inspect(connection).get_table_names():
        return []
    query = sa.text(f"SELECT * FROM {tables.quote(name)} WHERE _nango_sync_id = {row.id}")
    return [dict(one) for one in connection.execute(query).mappings()]


def _plain(row: Mapping[str, Any]) -> Record:
    """A mapped row as its record gave it: without our own columns and nulls."""
    return {name: _same(value) for name, value in row.items() if name not in SYSTEM and value is not None}


def _same(value: Any) -> Any:
    """A column's value as both databases say it: SQLite keeps true as 1, and timestamps as text."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(" ", "microseconds")
    return int(value) if isinstance(value, bool | int | Decimal) and value == int(value) else value


def ordered(values: Iterable[Any]) -> list[Any]:
    """In one order, whatever they are."""
    return sorted(values, key=lambda value: json.dumps(value, sort_keys=True, default=str))


def assert_exact(db: Database, row: SyncRow, records: Iterable[Any], **metadata: Any) -> Stored:
    """Raw and mapped rows are the source's records, each once, and the counts say so."""
    wanted = ordered(records)
    found = stored(db, row)
    assert found.live == wanted, f"raw: {_difference(found.live, wanted)}"
    assert found.live_count == len(wanted), f"live_count is {found.live_count}, wanted {len(wanted)}"
    if row.sync.auto_mapping:
        rows = ordered(_as_row(record, **metadata) for record in wanted)
        assert found.mapped == rows, f"mapped: {_difference(found.mapped, rows)}"
    return found


def _difference(found: list[Any], wanted: list[Any]) -> str:
    missing = [value for value in wanted if value not in found]
    surplus = [value for value in found if value not in wanted]
    return f"{len(found)} for {len(wanted)}; missing {missing[:5]}; surplus {surplus[:5]}"


def _as_row(record: Any, **metadata: Any) -> Record:
    return {name: _same(value) for name, value in mapping.flatten({**record, **metadata}).items()}


def assert_nothing_runs(db: Database) -> None:
    """No job is open, no worker is left, nobody holds a claim."""
    with db.connect() as connection:
        running = sa.select(sa.func.count()).where(schema.jobs.c.status == "running")
        held = sa.select(sa.func.count()).where(schema.schedules.c.worker_id.is_not(None))
        workers = sa.select(sa.func.count()).select_from(schema.workers)
        counts = [connection.execute(query).scalar_one() for query in (running, held, workers)]
    assert counts == [0, 0, 0], "running jobs, held schedules, workers"


def until(condition: Callable[[], Any], seconds: float = 20, what: str = "") -> Any:
    """The value of `condition` once it is true; raises AssertionError when that takes too long.

    It looks for at most a fifth of the time, so that the work it waits for has the processor.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if found := condition():
            return found
        now = time.monotonic()
        assert now < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(min(max(0.01, 4 * (now - began)), 1))
