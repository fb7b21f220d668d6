"""Two processes at once: whichever of their statements comes first, the outcome is one that is right."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from nango_dagster import clock
from nango_dagster.auth import oauth2
from nango_dagster.config import Sync
from nango_dagster.errors import LeaseLost, Refused
from nango_dagster.runs.access import of_connection
from nango_dagster.settings import Settings
from nango_dagster.store import Database, changes, connections, jobs, queue, schema, syncs
from nango_dagster.store.queue import Schedule
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.fake_api import FakeApi
from tests.interleaving import Program, Stage, stage
from tests.test_auth_oauth2 import KEY, TokenServer
from tests.test_store_listing import assert_has_seen_all, follow
from tests.writing import Target

LONG_DEAD = timedelta(seconds=queue.LEASE_SECONDS + 60)
_numbers = itertools.count()


@pytest.fixture
def orders(settings: Settings, db: Database) -> Iterator[Stage]:
    with stage(settings, db) as two:
        yield two


def new_sync(db: Database) -> SyncRow:
    name = f"sync{next(_numbers)}"
    return syncs.register(db, [Sync(name=name, url="http://127.0.0.1:1/", unique_key="id")])[name]


def schedule(db: Database, row: SyncRow) -> Schedule:
    (only,) = queue.schedules(db, [row.id])
    return only


def test_of_two_claims_one_gets_the_target(orders: Stage, db: Database) -> None:
    claims: list[list[queue.Claim]] = []
    row = new_sync(db)

    def programs() -> Sequence[Program]:
        nonlocal row
        row = new_sync(db)
        claims.clear()

        def claim(db: Database) -> None:
            worker = queue.start_worker(db, row.id, "run")
            claims.append(queue.claim(db, worker, limit=2, slot=None, force=True))

        return claim, claim

    def check() -> None:
        assert sorted(map(len, claims)) == [0, 1]
        (winner,) = itertools.chain(*claims)
        found = schedule(db, row)
        assert (winner.fence, found.worker_id) == (1, winner.worker_id)

    assert orders.orders(programs, check) > 10


def test_an_execution_ends_or_is_lost_but_never_both(orders: Stage, db: Database) -> None:
    """The run was silent for longer than its lease; it ends while the reaper comes."""
    row, ends, lost = new_sync(db), [""], [0]

    def programs() -> Sequence[Program]:
        nonlocal row
        row = new_sync(db)
        ends.clear()
        lost.clear()
        queue.reap(db)
        worker = queue.start_worker(db, row.id, "run")
        (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)

        def begin(connection: sa.Connection) -> int:
            queue.begin_execution(connection, db, claim)
            return jobs.start(connection, db, claim, row, "run")

        job = db.transact(begin)
        with db.begin() as connection:
            connection.execute(sa.update(schema.workers).values(heartbeat_at=db.clock(LONG_DEAD)))

        def end(db: Database) -> None:
            def work(connection: sa.Connection) -> None:
                queue.lock_dataset(connection, db, claim.target)
                queue.check(connection, db, claim)
                jobs.finish(connection, db, job, jobs.Counts(), jobs.End("succeeded"))
                queue.release(connection, db, claim, succeeded=True)

            try:
                db.transact(work)
                ends.append("succeeded")
            except LeaseLost:
                ends.append("lost")

        def reap(db: Database) -> None:
            lost.append(len(queue.reap(db)))

        return end, reap

    def check() -> None:
        found, (job,) = schedule(db, row), jobs.list_jobs(db, row.id, limit=5)
        assert (ends, lost, job.status, found.losses) in (
            (["succeeded"], [0], "succeeded", 0),
            (["lost"], [1], "failed", 1),
        )
        assert found.worker_id is None

    assert orders.orders(programs, check) > 10


def test_a_claim_that_a_pause_preceded_is_none(orders: Stage, db: Database) -> None:
    row, events = new_sync(db), [""]

    def programs() -> Sequence[Program]:
        nonlocal row
        row = new_sync(db)
        queue.trigger(db, row.id, reset=True)
        worker = queue.start_worker(db, row.id, "run")
        events.clear()

        def pause(db: Database) -> None:
            queue.set_state(db, row.id, "PAUSED")
            events.append("paused")

        def claim(db: Database) -> None:
            events.append("claims")
            claims = queue.claim(db, worker, limit=1, slot=clock.now())
            events.append("claimed" if claims else "nothing")

        return pause, claim

    def check() -> None:
        found = schedule(db, row)
        is_held = found.worker_id is not None
        assert (found.state, found.triggered_at, found.reset) == ("PAUSED", None, is_held)
        assert is_held == ("claimed" in events)
        if events.index("paused") < events.index("claims"):
            assert not is_held

    assert orders.orders(programs, check) > 5


def test_two_processes_refresh_a_token_once(
    orders: Stage, db: Database, settings: Settings, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh token is good for one use: a second use would end the customer's connection."""
    monkeypatch.setattr(oauth2, "_POLL_SECONDS", 0.002)
    sealed = replace(settings, encryption_keys=(KEY,))
    vault = vault_of(sealed)
    sync = Sync(name="items", url=f"{api.url}/items", integration="github", unique_key="id")
    server, used, name = TokenServer(api), [""], ""

    def programs() -> Sequence[Program]:
        nonlocal server, name
        server, name = TokenServer(api), f"customer{next(_numbers)}"
        api.requests.clear()
        used.clear()
        credentials = server.credentials(expires_at=1)
        connections.add(db, vault, connections.NewConnection("github", name, credentials=credentials))

        def use(db: Database) -> None:
            used.append(of_connection(db, sealed, sync, name).variables()["access_token"])

        return use, use

    def check() -> None:
        assert used == ["s3cr3t-access-2"] * 2
        assert len(server.requests) == 1
        kept = connections.credentials(db, vault, "github", name) or {}
        assert kept["refresh_token"] == "s3cr3t-refresh-2"

    assert orders.orders(programs, check) > 10


def test_a_reader_beside_two_writers_sees_every_change(orders: Stage, db: Database) -> None:
    """It follows the cursor while both writers stand still at any two of their statements, and again at their end."""
    writers = [Target(database, unique_key="id", auto_mapping=False) for database in orders.databases]
    seen: list[changes.Record] = []
    dataset_id = writers[0].dataset.id

    def programs() -> Sequence[Program]:
        turn = next(_numbers)

        def write(db: Database) -> None:
            number = orders.databases.index(db)
            records = [{"id": f"own {number}", "turn": turn}, {"id": "shared", "turn": turn, "by": number}]
            with contextlib.suppress(Refused):  # the other one was quicker each time
                writers[number].write(records)

        return write, write

    def read() -> None:
        while follow(db, dataset_id, seen):
            pass

    def check() -> None:
        read()
        assert_has_seen_all(seen, writers[0])

    assert orders.orders(programs, check, read) > 10
    assert len(seen) > 30
