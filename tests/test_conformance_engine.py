"""The contract of every engine of the store.

A new database is a new `store/engine_<name>.py` and a new parameter of the fixture `settings_env` for which these
tests pass; test_conformance_rows.py is the same for the bulk statements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from nango_dagster import clock
from nango_dagster.errors import StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Connection, Database, open_database, schema
from nango_dagster.store.engine import Busy, Engine

MOMENT = datetime(2026, 7, 1, 12, 30, 59, 123_456, tzinfo=timezone.utc)
SOON = 0.05
"""Seconds that a test waits for a lock that it does not get."""

_tables = schema.mapped_tables


@pytest.fixture
def engine(db: Database) -> Engine:
    return db.engine


@pytest.fixture
def other(settings: Settings) -> Iterator[Engine]:
    """An engine of another process for the same database."""
    database = open_database(settings)
    try:
        yield database.engine
    finally:
        database.close()


def add(connection: Connection, name: str) -> None:
    connection.execute(sa.insert(_tables).values(table_name=name, created_at=MOMENT))


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(_tables.c.table_name).order_by(_tables.c.table_name)).scalars())


def in_a_thread(work: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(60)


# --- connections ----------------------------------------------------------------------------------------------------


def test_a_transaction_is_committed_at_its_end(engine: Engine, other: Engine) -> None:
    with engine.begin() as connection:
        add(connection, "a")
        in_a_thread(lambda: _sees(other, []))
    assert names(other) == ["a"]


def _sees(engine: Engine, expected: list[str]) -> None:
    assert names(engine) == expected


def test_a_transaction_that_fails_is_rolled_back(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        add(connection, "a")
        _ = 1 / 0
    assert names(engine) == []


def test_a_reading_connection_keeps_nothing(engine: Engine) -> None:
    with engine.connect() as connection:
        add(connection, "a")
    assert names(engine) == []


def test_each_short_question_is_answered_from_the_newest_state(engine: Engine, other: Engine) -> None:
    count = sa.select(sa.func.count()).select_from(_tables)
    with engine.autocommit() as connection:
        assert connection.execute(count).scalar_one() == 0

    def write() -> None:
        with other.begin() as connection:
            add(connection, "a")

    in_a_thread(write)
    with engine.autocommit() as connection:
        assert connection.execute(count).scalar_one() == 1


def test_the_driver_reads_what_was_committed_and_leaves_no_transaction_open(engine: Engine) -> None:
    with engine.begin() as connection:
        add(connection, "a")
    with engine.driver() as driver:
        assert driver.execute("SELECT table_name FROM _nango_mapped_tables").fetchall() == [("a",)]
    with pytest.raises(engine.driver_error), engine.driver() as driver:
        driver.execute("SELECT * FROM nowhere")
    with engine.begin() as connection:
        add(connection, "b")
    assert names(engine) == ["a", "b"]


def test_the_separate_engine_works_while_all_connections_are_in_use(engine: Engine) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(engine.connect())

        def beat() -> None:
            with engine.separate().begin() as connection:
                add(connection, "a")

        in_a_thread(beat)
    assert names(engine) == ["a"]


def test_a_second_writer_waits_as_long_as_it_is_told_where_there_is_one_writer(engine: Engine, other: Engine) -> None:
    def write() -> None:
        with other.begin(SOON) as connection:
            add(connection, "b")

    with engine.begin() as connection:
        add(connection, "a")
        if engine.single_writer:
            with pytest.raises(Busy):
                in_a_thread(write)
        else:
            in_a_thread(write)
    assert names(engine) == (["a"] if engine.single_writer else ["a", "b"])


# --- time and locks -------------------------------------------------------------------------------------------------


def test_the_clock_is_in_utc_the_same_in_statements_and_moves_with_the_clock_of_python(engine: Engine) -> None:
    ago = timedelta(hours=2)
    with clock.moved(timedelta(days=9)), engine.connect() as connection:
        before = engine.now(connection)
        statement = sa.select(engine.clock(), engine.clock(ago))
        now, earlier = connection.execute(statement).one()
        after = engine.now(connection)
    assert before <= now <= after
    assert before <= earlier + ago <= after
    assert {before.tzinfo, now.tzinfo} == {timezone.utc}
    assert abs(before - timedelta(days=9) - datetime.now(timezone.utc)) < timedelta(minutes=1)


def test_a_lock_keeps_others_out_until_the_transaction_ends(engine: Engine, other: Engine) -> None:
    def lock() -> None:
        with other.begin(SOON) as connection:
            other.lock(connection, 7, SOON, idle_limit=60)

    with engine.begin() as connection:
        engine.lock(connection, 7)
        with pytest.raises(Busy):
            in_a_thread(lock)
    in_a_thread(lock)


def test_trying_locks_takes_those_that_are_free(engine: Engine, other: Engine) -> None:
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with other.begin() as connection:
            other.lock(connection, 1)
            held.set()
            done.wait(60)

    if engine.single_writer:
        held.set()  # nobody else can hold one
    with ThreadPoolExecutor(1) as pool:
        holder = None if engine.single_writer else pool.submit(hold)
        held.wait(60)
        with engine.begin() as connection:
            assert engine.try_locks(connection, [1, 2, 3]) == ({1, 2, 3} if engine.single_writer else {2, 3})
        done.set()
        if holder is not None:
            holder.result(60)
    with engine.begin() as connection:
        assert engine.try_locks(connection, [1]) == {1}


def test_a_holder_that_waits_for_a_stopped_client_is_ended(engine: Engine, other: Engine) -> None:
    with ExitStack() as stack:
        if not engine.single_writer:
            stack.enter_context(pytest.raises(StoreUnavailable))
            connection = stack.enter_context(other.begin())
            other.lock(connection, 1)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_end_stuck, engine, after=3600).result(60)
            if not engine.single_writer:
                connection.execute(sa.text("SELECT 1"))  # it was not stuck for an hour
            pool.submit(_end_stuck, engine, after=0).result(60)
        if not engine.single_writer:
            connection.execute(sa.text("SELECT 1"))


def _end_stuck(engine: Engine, after: float) -> None:
    with engine.begin() as connection:
        engine.end_stuck_holders(connection, [1, 2], after)


def test_no_statement_waits_longer_for_a_row_than_the_block_allows(engine: Engine, other: Engine) -> None:
    with engine.begin() as connection:
        add(connection, "a")
    change = sa.update(_tables).values(created_at=MOMENT)

    def write() -> None:
        with other.begin(SOON) as connection, other.waiting_at_most(connection, SOON):
            connection.execute(change)

    with engine.begin() as connection:
        connection.execute(change)
        with pytest.raises(Busy):
            in_a_thread(write)
    in_a_thread(write)


# --- statements, values and errors ----------------------------------------------------------------------------------


def test_an_insert_can_update_the_row_that_is_there(engine: Engine) -> None:
    statement = engine.insert(schema.settings).values(name="n", value="new")
    statement = statement.on_conflict_do_update(index_elements=["name"], set_={"value": "changed"})
    for value in ("new", "changed"):
        with engine.begin() as connection:
            connection.execute(statement)
            assert connection.execute(sa.select(schema.settings.c.value)).scalars().all() == [value]


def test_the_full_name_of_a_table_finds_it(db: Database) -> None:
    with db.connect() as connection:
        name = db.engine.full_name(db.schema, "_nango_syncs")
        assert connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() == 0


def test_creating_the_schema_again_changes_nothing(db: Database) -> None:
    with db.begin() as connection:
        db.engine.create_schema(connection, db.schema)
        add(connection, "a")
    assert names(db.engine) == ["a"]


def test_values_come_back_as_they_were_stored(engine: Engine) -> None:
    raw = {
        "dataset_id": 2**62,
        "external_id": "ß\u2028'\"\\",
        "sync_id": 1,
        "byte_hash": bytes(range(16)),
        "first_seen_at": MOMENT,
        "last_modified_at": MOMENT.astimezone(timezone(timedelta(hours=5, minutes=45))),
    }
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.raw).values(**raw))
    with engine.connect() as connection:
        row = connection.execute(sa.select(*(schema.raw.c[name] for name in raw))).one()
    assert row._asdict() == {**raw, "last_modified_at": MOMENT}
    assert row.last_modified_at.tzinfo is timezone.utc


def test_keys_are_ordered_byte_by_byte(engine: Engine) -> None:
    keys = ["Z", "a", "Ä", "_", "10", "9", "a b"]
    with engine.begin() as connection:
        for key in keys:
            values = {"dataset_id": 1, "external_id": key, "sync_id": 1, "byte_hash": b"", "first_seen_at": MOMENT}
            connection.execute(sa.insert(schema.raw).values(**values, last_modified_at=MOMENT))
        of = schema.raw.c.external_id
        assert list(connection.execute(sa.select(of).order_by(of)).scalars()) == sorted(keys, key=str.encode)


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "INSERT INTO _nango_settings (name) VALUES ('n')"])
def test_a_wrong_statement_is_neither_busy_nor_refused_nor_unreachable(engine: Engine, statement: str) -> None:
    with pytest.raises(sa.exc.DBAPIError) as caught, engine.begin() as connection:
        connection.execute(sa.text(statement))
    error = caught.value
    assert not any(
        is_so(error) for is_so in (engine.is_busy, engine.is_conflict, engine.refuses, engine.is_unreachable)
    )


def test_a_value_that_no_try_can_store_is_refused(engine: Engine) -> None:
    with pytest.raises((sa.exc.DBAPIError, OverflowError)) as caught, engine.begin() as connection:
        connection.execute(sa.insert(schema.budgets).values(key="k", spent=2**70))
    assert engine.refuses(caught.value)
