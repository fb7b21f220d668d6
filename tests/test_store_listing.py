"""Readers who follow the cursor while others write miss no change."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from typing import Any

from nango_dagster.errors import Refused
from nango_dagster.settings import Settings
from nango_dagster.store import Database, listing, open_database
from nango_dagster.store.listing import Cursor, Wanted
from tests.writing import Target

CONNECTIONS = ("a", "b", "c", "d", "e", "f")
WRITERS = 3
ROUNDS = 8
PAGE = 3  # few, so that records change again while they are paged through


def write(env: Mapping[str, Any], writer: int) -> None:
    """Write to all connections by turns, records of one's own and some that all writers change."""
    db = open_database(Settings(**env))
    targets = [Target(db, connection=name, unique_key="id", auto_mapping=False) for name in CONNECTIONS]
    for turn in range(ROUNDS):
        for target in targets:
            own = [{"id": f"{writer}-{n}", "turn": turn} for n in range(turn, turn + 6)]
            shared = [{"id": f"all-{n}", "by": writer, "turn": turn} for n in range(4)]
            try:
                target.write(own + shared)
            except Refused:  # the others were quicker each time
                continue
    db.close()


def follow(db: Database, dataset_id: int, seen: list[listing.Record]) -> bool:
    """Read one more page behind the last record that was seen; whether there was any."""
    after = Cursor.read(str(seen[-1].cursor)) if seen else None
    found = listing.page(db, dataset_id, Wanted(after=after), PAGE).records
    seen.extend(found)
    return bool(found)


def test_a_reader_of_many_connections_sees_every_change_while_processes_write(settings: Settings, db: Database) -> None:
    targets = [Target(db, connection=name, unique_key="id", auto_mapping=False) for name in CONNECTIONS]
    seen: dict[int, list[listing.Record]] = {target.dataset.id: [] for target in targets}
    where = {"home": settings.home, "db_url": settings.db_url, "db_schema": settings.db_schema}
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write, args=(where, number)) for number in range(WRITERS)]
    for process in writers:
        process.start()
    at_work, during = True, 0
    while at_work or any([follow(db, dataset_id, records) for dataset_id, records in seen.items()]):
        at_work = any(process.is_alive() for process in writers)
        during += at_work and any([follow(db, dataset_id, records) for dataset_id, records in seen.items()])
    for process in writers:
        process.join()
        assert process.exitcode == 0
    assert during > ROUNDS
    for target in targets:
        records = seen[target.dataset.id]
        order = [(one.last_modified_at, one.external_id) for one in records]
        assert order == sorted(set(order))
        stored = {key: (row.last_modified_at, row.text) for key, row in target.raw().items()}
        assert {one.external_id: (one.last_modified_at, one.text) for one in records} == stored
        assert len(records) > len(stored)  # some came again
