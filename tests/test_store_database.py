"""The store is made, found again and brought up to date; a database that is down is a sentence."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import sqlalchemy as sa

from nango_dagster.errors import ConfigError, StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Connection, Database, open_database, schema
from nango_dagster.store.upgrade import HEAD, VERSION_TABLE
from tests.processes import PROCESSES


def table_names(db: Database) -> set[str]:
    with db.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_a_fresh_store_has_the_tables_that_schema_py_says(db: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(name: str | None, type_: str, _parents: object) -> bool:
        return (type_, name) != ("table", VERSION_TABLE)

    with db.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": ours})
        assert compare_metadata(context, schema.metadata) == []
        conditions = {
            index["name"]: index.get("dialect_options", {}).get(f"{db.engine.name}_where") is not None
            for table in schema.metadata.tables
            for index in sa.inspect(connection).get_indexes(table)
        }
        defaults = {
            (table, column["name"]): column["default"] is not None
            for table in schema.metadata.tables
            for column in sa.inspect(connection).get_columns(table)
            if not str(column["default"]).startswith("nextval")
        }
    for table in schema.metadata.tables.values():
        for index in table.indexes:
            assert conditions[index.name] == ("where" in index.info), index.name
    assert defaults == {
        (table.name, column.name): column.server_default is not None
        for table in schema.metadata.tables.values()
        for column in table.columns
        if (table.name, column.name) in defaults
    }


def test_the_records_view_shows_names_beside_the_raw_rows(db: Database) -> None:
    with db.connect() as connection:
        columns = [column["name"] for column in sa.inspect(connection).get_columns("_nango_records")]
    assert columns[:6] == ["integration", "connection_id", "variant", "model", "external_id", "data"]


def test_the_last_migration_is_the_version_that_upgrade_looks_for() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import nango_dagster.store.migrations

    config = Config()
    config.set_main_option("script_location", str(Path(nango_dagster.store.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_opening_a_store_again_keeps_what_is_in_it(db: Database, settings: Settings) -> None:
    with db.begin() as connection:
        connection.execute(sa.insert(schema.mapped_tables).values(table_name="t", created_at=db.clock()))
    again = open_database(settings)
    try:
        with again.connect() as connection:
            assert connection.execute(sa.select(schema.mapped_tables.c.table_name)).scalars().all() == ["t"]
    finally:
        again.close()


def test_opening_a_store_that_is_up_to_date_does_not_load_the_migration_tool(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.store.upgrade._run_alembic", lambda connection: pytest.fail("migrated"))
    open_database(settings).close()


def open_and_tell(env: dict[str, str], told: Queue[str]) -> None:
    try:
        database = open_database(Settings.from_env(env, dotenv=None))
        told.put(",".join(sorted(table_names(database))))
        database.close()
    except BaseException as error:
        told.put(f"{error!r}")
        raise


def test_two_processes_that_open_a_new_store_at_once_make_it_once(settings_env: dict[str, str]) -> None:
    told: Queue[str] = PROCESSES.Queue()
    processes = [PROCESSES.Process(target=open_and_tell, args=(settings_env, told)) for _ in range(3)]
    for process in processes:
        process.start()
    tables = {told.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert tables == {",".join(sorted([*schema.metadata.tables, VERSION_TABLE]))}


def test_a_store_of_a_newer_release_is_left_alone(db: Database, settings: Settings) -> None:
    with db.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"version 9999, made by a newer release .* Upgrade nango-dagster"):
        open_database(settings)


@pytest.mark.postgresql
def test_a_schema_made_by_an_administrator_needs_no_right_to_make_one(pg_server: str) -> None:
    admin = sa.create_engine(pg_server, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(sa.text("CREATE ROLE only_mine LOGIN PASSWORD 'p'"))
            connection.execute(sa.text("CREATE SCHEMA only_mine AUTHORIZATION only_mine"))
        url = sa.make_url(pg_server).set(username="only_mine", password="p")
        settings = Settings.from_env(
            {"NANGO_DB_URL": url.render_as_string(hide_password=False), "NANGO_DB_SCHEMA": "only_mine"}, dotenv=None
        )
        database = open_database(settings)
        assert table_names(database) >= set(schema.metadata.tables)
        database.close()
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text("DROP SCHEMA IF EXISTS only_mine CASCADE"))
            connection.execute(sa.text("DROP ROLE IF EXISTS only_mine"))
        admin.dispose()


# --- a database that cannot be reached ------------------------------------------------------------------------------


def test_a_postgresql_that_is_down_is_a_sentence_without_the_password() -> None:
    settings = Settings.from_env({"NANGO_DB_URL": "postgresql://ann:hunter2@127.0.0.1:1/nango"}, dotenv=None)
    with pytest.raises(StoreUnavailable) as caught:
        open_database(settings)
    assert str(caught.value).startswith("cannot reach the database postgresql+psycopg://ann:***@127.0.0.1:1/nango: ")
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_sqlite_file_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    settings = Settings.from_env({"NANGO_DB_URL": f"sqlite:///{tmp_path / 'folder'}"}, dotenv=None)
    with pytest.raises(StoreUnavailable, match=r"cannot reach the database sqlite:///.*/folder: unable to open"):
        open_database(settings)


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings.from_env({"NANGO_DB_URL": f"sqlite:///{tmp_path / 'file' / 'nango.db'}"}, dotenv=None)
    with pytest.raises(StoreUnavailable, match="cannot create the folder"):
        open_database(settings)


@pytest.mark.postgresql
def test_a_connection_that_is_cut_while_in_use_is_a_sentence(pg_server: str) -> None:
    database = open_database(Settings.from_env({"NANGO_DB_URL": pg_server}, dotenv=None), migrate=False)
    try:
        with pytest.raises(StoreUnavailable, match="cannot reach the database"):
            with database.begin() as connection:
                pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
                with database.connect() as other:
                    other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
                connection.execute(sa.text("SELECT 1"))
        with database.connect() as connection:  # the next one is a new one
            assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    finally:
        database.close()


def test_a_wrong_statement_is_no_missing_database(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError), db.connect() as connection:
        connection.execute(sa.text("SELECT * FROM nowhere"))


# --- transactions ---------------------------------------------------------------------------------------------------


@pytest.mark.postgresql
def test_a_dead_locked_transaction_is_repeated_whole(pg_server: str) -> None:
    database = open_database(Settings.from_env({"NANGO_DB_URL": pg_server}, dotenv=None), migrate=False)
    both_hold_one = threading.Barrier(2)
    tries: list[str] = []

    def work(first: str, second: str) -> None:
        met = False

        def transaction(connection: Connection) -> None:
            nonlocal met
            tries.append(first)
            database.lock(connection, "dead", first)
            if not met:
                met = True
                both_hold_one.wait(10)
            database.lock(connection, "dead", second)

        database.transact(transaction)

    threads = [threading.Thread(target=work, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    database.close()
    assert sorted(set(tries)) == ["a", "b"]
    assert len(tries) == 3


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(sa.insert(schema.mapped_tables).values(table_name="t", created_at=db.clock()))
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        db.transact(work)
    with db.connect() as connection:
        assert connection.execute(sa.select(schema.mapped_tables)).all() == []


def test_readers_go_on_while_somebody_writes(db: Database) -> None:
    with db.begin() as writing:
        writing.execute(sa.insert(schema.mapped_tables).values(table_name="t", created_at=db.clock()))
        with db.connect() as reading:
            assert reading.execute(sa.select(schema.mapped_tables)).all() == []


# --- the clock and locks --------------------------------------------------------------------------------------------


def test_who_fails_in_the_middle_of_an_answer_leaves_no_old_answer_behind(db: Database, settings: Settings) -> None:
    db.transact(lambda connection: connection.execute(sa.text("CREATE TABLE things (n INTEGER)")))
    db.transact(lambda connection: connection.execute(sa.text("INSERT INTO things VALUES (1), (2), (3)")))
    unfinished = []  # as an error keeps it that is logged later
    for open_ in (db.connect, db.begin):
        with pytest.raises(ValueError), open_() as connection:
            unfinished.append(connection.execute(sa.text("SELECT n FROM things")))
            assert unfinished[-1].fetchone() is not None
            raise ValueError
    other = open_database(settings)
    other.transact(lambda connection: connection.execute(sa.text("UPDATE things SET n = 7")))
    other.close()
    for _ in range(3):
        with db.connect() as connection:
            assert set(connection.execute(sa.text("SELECT n FROM things")).scalars()) == {7}
        db.transact(lambda connection: connection.execute(sa.text("UPDATE things SET n = 7")))
    db.transact(lambda connection: connection.execute(sa.text("DROP TABLE things")))


def test_who_waits_for_a_lock_keeps_no_reader_out_and_gets_it_in_the_end(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More wait than there are connections; whoever holds the lock, as one that deletes a sync, takes his time."""
    monkeypatch.setattr("nango_dagster.store.engine_postgresql.LOCK_SECONDS", 0.2)
    holder = open_database(settings)
    everybody = 30
    waiting = threading.Semaphore(0)

    def write(number: int) -> int:
        waiting.release()

        def work(connection: Connection) -> int:
            db.lock(connection, "sync", 1)
            return number

        return db.transact(work)

    with ThreadPoolExecutor(everybody) as pool, ThreadPoolExecutor(1) as reader:
        with holder.begin() as connection:
            holder.lock(connection, "sync", 1)
            written = [pool.submit(write, number) for number in range(everybody)]
            for _ in range(everybody):
                waiting.acquire()
            assert "_nango_raw" in reader.submit(table_names, db).result(20)
        assert [one.result(60) for one in written] == list(range(everybody))
    holder.close()


def test_a_separate_connection_needs_none_of_the_connections_that_others_have(db: Database) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(db.connect())
        begun = ThreadPoolExecutor(1)
        said = begun.submit(
            db.separate.transact, lambda connection: connection.execute(sa.text("SELECT 7")).scalar_one()
        )
        assert said.result(20) == 7
        begun.shutdown()


def test_many_threads_that_wait_to_write_keep_no_reader_out(tmp_path: Path) -> None:
    """On SQLite, which has one writer, they wait without a connection, and none of them fails."""
    db = open_database(Settings.from_env({"NANGO_HOME": str(tmp_path)}, dotenv=None))
    everybody = 60  # more than there are connections
    waiting = threading.Semaphore(0)

    def write(number: int) -> None:
        waiting.release()
        db.transact(lambda connection: connection.execute(sa.text("INSERT INTO things VALUES (:n)"), {"n": number}))

    with ThreadPoolExecutor(everybody) as pool:
        with db.begin() as connection:
            connection.execute(sa.text("CREATE TABLE things (n INTEGER)"))
            written = [pool.submit(write, number) for number in range(everybody)]
            for _ in range(everybody):
                waiting.acquire()
            with ThreadPoolExecutor(1) as reader:
                assert "_nango_raw" in reader.submit(table_names, db).result(5)
        for one in written:
            one.result()
    with db.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM things")).scalar_one() == everybody
    db.close()


def test_the_clock_is_the_same_in_python_and_in_statements(db: Database) -> None:
    with db.connect() as connection:
        before = db.now(connection)
        inside = connection.execute(sa.select(db.clock())).scalar_one()
        earlier = connection.execute(sa.select(db.clock(timedelta(days=1)))).scalar_one()
        after = db.now(connection)
    assert before <= inside <= after
    assert before - timedelta(days=1) <= earlier <= after - timedelta(days=1)
    assert inside.tzinfo is timezone.utc


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc),
        datetime(2026, 7, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    ],
)
def test_a_time_comes_back_in_utc_to_the_microsecond(db: Database, moment: datetime) -> None:
    with db.begin() as connection:
        connection.execute(sa.insert(schema.mapped_tables).values(table_name="t", created_at=moment))
        found = connection.execute(sa.select(schema.mapped_tables.c.created_at)).scalar_one()
    assert found == moment
    assert found.tzinfo is timezone.utc


def test_each_schema_has_its_own_locks(db: Database) -> None:
    other = Database(db.engine, "other")
    keys = {db.lock_key("a", "b"), db.lock_key("ab"), db.lock_key("a", "b", 1), other.lock_key("a", "b")}
    assert len(keys) == 4
    assert all(-(2**63) <= key < 2**63 for key in keys)
