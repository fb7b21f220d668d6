"""Mapped tables: whose they are, how they grow, and how they become exact again whatever happened to them."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.errors import ConfigError
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, schema, tables
from nango_dagster.store.tables import rebuilding
from nango_dagster.store.upsert import BATCH_RECORDS, Upsert
from tests.writing import Target, text_of

KEYED: dict[str, Any] = {"unique_key": "id", "track_deletes": {"max_fraction": 1.0}}


@pytest.fixture
def target(db: Database) -> Target:
    return Target(db, **KEYED)


def run(db: Database, statement: str) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(statement)


def table_names(db: Database) -> set[str]:
    with db.connect() as connection:
        return set(sa.inspect(connection).get_table_names())


# --- growing -------------------------------------------------------------------------------------------------------


def test_a_table_has_our_columns_then_those_of_the_records_in_their_order(target: Target) -> None:
    target.write([{"id": 1, "z": "x", "a": {"b": True}}])
    assert target.write([{"id": 2, "later": "2024-01-15"}]).new_columns == ("later",)
    assert target.columns() == [*tables.SYSTEM_COLUMNS, "id", "z", "a_b", "later"]
    kinds = {"boolean", "number", "string", "timestamp"}
    assert {column.type.value for column in target.layout()} == kinds
    assert target.write([{"id": 3, "z": "y"}]).new_columns == ()
    target.assert_exact()


def test_column_types_are_the_databases_own(target: Target) -> None:
    target.write([{"id": 1, "on": True, "at": "2024-01-15T10:30:00+02:00", "s": "1", "n": 1.5, "big": 10**30 + 1}])
    name = tables.table_name(target.sync, target.row.id)
    with target.db.connect() as connection:
        found = {column["name"]: str(column["type"]) for column in sa.inspect(connection).get_columns(name)}
        row = connection.exec_driver_sql(f'SELECT "on", at, s, n, big FROM {name}').one()
    wanted = {"on": "BOOLEAN", "at": "TIMESTAMP", "s": "TEXT", "n": "NUMERIC", "big": "NUMERIC"}
    assert {name: found[name] for name in wanted} == wanted
    if target.db.engine.name == "postgresql":
        assert (row.on, row.s, str(row.n), str(row.big)) == (True, "1", "1.5", "1000000000000000000000000000001")
        assert row.at.isoformat() == "2024-01-15T08:30:00+00:00"
    else:
        assert tuple(row) == (1, "2024-01-15 08:30:00.000000+00:00", "1", 1.5, None)


def test_two_executions_may_find_the_same_new_fields_at_once(db: Database) -> None:
    targets = [Target(db, connection=f"c{n}", **KEYED) for n in range(4)]
    together = threading.Barrier(len(targets))
    errors: list[BaseException] = []

    def work(target: Target) -> None:
        try:
            target.open_table()
            together.wait(30)
            target.write([{"id": 1, **{f"f{n}": n for n in range(30)}}])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(targets[0].layout()) == 31
    for target in targets:
        target.assert_exact()


@pytest.mark.parametrize("mine", [None, "CREATE INDEX mine ON _nango_sync_1 (_nango_emitted_at)"])
def test_a_new_table_gets_all_its_columns_at_once_and_keeps_what_somebody_hung_on_it(
    db: Database, mine: str | None
) -> None:
    """SQLite reads the whole schema again after each change of it, which with a thousand tables is a long time."""
    target = Target(db, **KEYED)
    target.write([])
    assert table_names(db) >= {"_nango_sync_1"}
    if mine:
        run(db, mine)
    before = changes(db)
    target.write([{"id": 1, **{f"field{number}": number for number in range(50)}}])
    assert mine or changes(db) - before <= 3
    target.assert_exact()
    with db.connect() as connection:
        found = {index["name"] for index in sa.inspect(connection).get_indexes("_nango_sync_1")}
    assert not mine or "mine" in found


def changes(db: Database) -> int:
    """How often SQLite's schema was changed."""
    if db.engine.name == "postgresql":
        return 0
    with db.connect() as connection:
        found: int = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        return found


def test_what_the_next_execution_goes_on_with_keeps_nothing_else_of_the_last_one(target: Target) -> None:
    """Its writer knows thousands of keys, and its access the connection's secrets."""
    table = target.open_table()
    writer = Upsert(target.db, target.sync, target.dataset, table, target.guard)
    assert table is not None
    tables.cache_layout(table)
    writer.close()
    gone: list[weakref.ref[Any]] = [weakref.ref(writer), weakref.ref(table)]
    del writer, table
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_the_first_batch_of_a_process_is_mapped_fast_once_its_shape_is_known(target: Target) -> None:
    """No column tells a new process of a field that is always null."""
    target.write([{"id": 1, "name": "a", "nothing": None}])
    table = target.open_table()
    assert table is not None
    texts = [text_of({"id": number, "name": "b", "nothing": None, "new": number}) for number in range(100)]
    prepared = table.prepare(list(map(str, range(100))), texts)
    assert (len(prepared.fast), len(prepared.rows)) == (100, 0)


def test_a_store_that_was_closed_takes_no_memory(db: Database, settings: Settings) -> None:
    database = open_database(settings)
    Target(database, **KEYED).write([{"id": 1}])
    database.close()
    gone = weakref.ref(database.engine)
    del database
    gc.collect()
    assert gone() is None


def test_a_column_that_somebody_added_is_left_alone(target: Target) -> None:
    target.write([{"id": 1, "name": "a"}])
    run(target.db, 'ALTER TABLE "_nango_sync_1" ADD COLUMN notes text')
    run(target.db, "UPDATE \"_nango_sync_1\" SET notes = 'mine'")
    (new,) = target.write([{"id": 1, "name": "a"}, {"id": 2, "name": "b", "notes": "theirs"}]).new_columns
    assert new.startswith("notes_")
    assert target.values() == {
        "1": {"id": 1, "name": "a", "notes": "mine"},
        "2": {"id": 2, "name": "b", new: "theirs"},
    }


def test_a_table_that_is_locked_costs_its_new_columns_until_the_next_execution(pg_db: Database) -> None:
    target = Target(pg_db, **KEYED)
    target.write([{"id": 1, "name": "a"}])
    with pg_db.engine.sqlalchemy.connect() as reader:  # a long report
        reader.execute(sa.text('SELECT count(*) FROM "_nango_sync_1"'))
        written = target.write([{"id": 2, "name": "b", "new": "x"}], *([{"id": n, "new": n}] for n in range(3, 6)))
        assert (written.added, written.new_columns) == (4, ())
        assert written.misfits == {"new": 4}
        assert target.values()["2"] == {"id": 2, "name": "b"}
        assert (target.dataset.mapped_table, target.dataset.mapping_version) == ("_nango_sync_1", None)
    target.write([{"id": 1, "name": "a"}])
    assert target.values()["2"] == {"id": 2, "name": "b", "new": "x"}
    target.assert_exact({"new": 3})


def test_a_full_table_takes_no_more_columns_and_loses_no_record(pg_db: Database) -> None:
    """PostgreSQL counts dropped columns too."""
    target = Target(pg_db, **KEYED)
    target.write([{"id": 1}])
    adds = ", ".join(f"ADD COLUMN c{n} int" for n in range(1590))
    run(pg_db, f'ALTER TABLE "_nango_sync_1" {adds}')
    run(pg_db, f'ALTER TABLE "_nango_sync_1" {", ".join(f"DROP COLUMN c{n}" for n in range(1590))}')
    fields = {f"f{n}": n for n in range(10)}
    many = [{"id": n} for n in range(3, BATCH_RECORDS + 3)]
    written = target.write([{"id": 2, **fields}], many, [{"id": 1, **fields}])
    assert (written.rejected, written.misfits) == (0, dict.fromkeys(fields, 2))
    target.assert_exact()
    assert target.dataset.mapping_version is not None  # there is nothing to make anew


def test_rows_can_be_read_again_after_another_process_added_a_column(target: Target, settings: Settings) -> None:
    reader = open_database(settings)
    try:
        for turn in range(8):  # the driver prepares a statement that it has seen some times
            target.write([{"id": turn, f"f{turn}": turn}], complete=False)
            assert len(list(tables.rows(reader, target.row.id, target.sync))) == turn + 1
            frame = tables.data_frame(reader, target.row.id, target.sync)
            assert frame[f"f{turn}"].to_list()[-1] == turn
    finally:
        reader.close()


# --- whose table it is -----------------------------------------------------------------------------------------------

FOREIGN = "a table that exists already and was not made by a sync; choose a name that is free"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE users (id int)",
        "CREATE TABLE users (_nango_sync_id int, _nango_model text)",
        "CREATE VIEW users AS SELECT 1 AS id",
        "CREATE INDEX users ON _nango_raw (sync_id)",
    ],
)
def test_what_somebody_else_made_is_left_alone(db: Database, statement: str) -> None:
    run(db, statement)
    target = Target(db, mapped_table="users", **KEYED)
    for _ in range(2):
        with pytest.raises(ConfigError, match=FOREIGN):
            target.write([{"id": 1}])
    assert target.raw() == {}


def test_a_table_in_other_letters_is_another_table_or_refused(db: Database) -> None:
    Target(db, name="one", mapped_table="Users", **KEYED).write([{"id": 1}])
    other = Target(db, name="two", mapped_table="users", **KEYED)
    if db.engine.name == "postgresql":
        other.write([{"id": 1}])
        assert table_names(db) >= {"users", "Users"}
    else:
        with pytest.raises(ConfigError, match=FOREIGN):
            other.write([{"id": 1}])
        with pytest.raises(ConfigError, match=FOREIGN):
            Target(db, name="three", mapped_table="sqlite_x", **KEYED).write([{"id": 1}])


@pytest.mark.parametrize("name", ["100%", "a b", 'say "hi"', "o'clock", ":id", "%s", "Größe", "select"])
def test_a_table_may_have_any_name(db: Database, name: str) -> None:
    target = Target(db, mapped_table=name, **KEYED)
    target.write([{"id": 1, "a": 1}, {"id": 2, name: 2}])
    target.write([{"id": 1, "a": 3}])
    target.assert_exact()
    assert name in table_names(db)
    (row,) = tables.rows(db, target.row.id, target.sync)
    assert row["a"] == 3
    assert len(tables.data_frame(db, target.row.id, target.sync)) == 1
    target.configure(mapped_table="other", **KEYED)
    target.write([{"id": 1, "a": 3}])
    target.assert_exact()
    with db.begin() as connection:
        old = sa.table(sa.quoted_name(name, quote=True))
        assert connection.execute(sa.select(sa.func.count()).select_from(old)).scalar() == 0
        tables.forget(connection, db, target.row.id)
    assert target.values() == {}


def test_two_syncs_of_one_table_are_told_apart(db: Database) -> None:
    one = Target(db, name="one", mapped_table="people", metadata={"source": "crm"}, **KEYED)
    two = Target(db, name="two", mapped_table="people", **KEYED)
    one.write([{"id": 1, "name": "Ann"}])
    two.write([{"id": 1, "name": 7, "age": 50}, {"id": 2}])
    one.write([{"id": 1, "name": "Ann", "age": "x"}])
    assert one.values() == {"1": {"id": 1, "name": "Ann", "source": "crm"}}
    assert two.values() == {"1": {"id": 1, "age": 50}, "2": {"id": 2}}
    two.write([])
    assert [row["id"] for row in tables.rows(db, one.row.id, one.sync)] == [1]
    assert list(tables.rows(db, two.row.id, two.sync)) == []
    with db.begin() as connection:
        tables.forget(connection, db, two.row.id)
    assert two.mapped() == {}
    assert set(one.mapped()) == {"1"}


def test_several_syncs_may_be_merged_by_hand(db: Database) -> None:
    def by_hand(**columns: str) -> dict[str, Any]:
        return {"columns": {name: {"path": path, "type": "string"} for name, path in columns.items()}}

    crm = Target(db, name="crm", mapped_table="people", mapping=by_hand(email="user.email", name="user.name"), **KEYED)
    shop = Target(db, name="shop", mapped_table="people", mapping=by_hand(email="mail"), **KEYED)
    crm.write([{"id": 1, "user": {"email": "a@b.c", "name": "Ann"}, "mail": "no"}])
    shop.write([{"id": 1, "mail": "d@e.f", "name": "no", "user": {"email": "no"}}])
    assert crm.values() == {"1": {"email": "a@b.c", "name": "Ann"}}
    assert shop.values() == {"1": {"email": "d@e.f"}}


def test_removing_a_sync_drops_its_own_table_only(db: Database) -> None:
    own, shared = Target(db, name="own", **KEYED), Target(db, name="shared", mapped_table="people", **KEYED)
    for target in (own, shared):
        target.write([{"id": 1}])
        with db.begin() as connection:
            tables.forget(connection, db, target.row.id)
    assert "people" in table_names(db)
    assert f"_nango_sync_{own.row.id}" not in table_names(db)
    own.write([{"id": 1}])  # it is made anew
    own.assert_exact()


# --- custom mapping -----------------------------------------------------------------------------------------------


def columns_by_hand(extra: str = "ignore", **columns: tuple[str, str]) -> dict[str, Any]:
    declared = {name: {"path": path, "type": type_} for name, (path, type_) in columns.items()}
    return {"columns": declared, "extra": extra}


def test_a_frozen_schema_never_changes_and_a_change_of_the_api_is_an_error(db: Database) -> None:
    mapping = columns_by_hand("fail", id=("id", "number"), city=("address.city", "string"))
    target = Target(db, mapping=mapping, **KEYED)
    target.write([{"id": 1, "address": {"city": "Bonn"}}, {"id": 2}])
    assert target.columns() == [*tables.SYSTEM_COLUMNS, "id", "city"]
    with pytest.raises(
        ConfigError, match=r"items: the API sends fields .* declare: address\.zip, phone\. Declare them"
    ):
        target.write([{"id": 3, "address": {"city": "Köln", "zip": 5}, "phone": "1"}])
    target.assert_exact()


def test_a_declared_column_of_another_type_is_a_config_error(db: Database) -> None:
    target = Target(db, mapping=columns_by_hand(n=("n", "number")), **KEYED)
    target.write([{"id": 1, "n": 1}])
    target.configure(mapping=columns_by_hand(n=("n", "string")), **KEYED)
    with pytest.raises(ConfigError, match=r"items: mapping\.columns\.n is declared as string, but table _nango_sync_1"):
        target.write([{"id": 1, "n": "x"}])
    run(db, 'ALTER TABLE "_nango_sync_1" DROP COLUMN n')
    target.write([{"id": 1, "n": "x"}])
    assert target.values() == {"1": {"n": "x"}}


def test_a_declared_name_that_the_table_has_already_is_a_config_error(db: Database) -> None:
    target = Target(db, **KEYED)
    target.write([{"id": 1, "email": "a@b.c"}])
    for name in ("email", "xmin"):
        column = {name: {"path": "user.email", "type": "string"}}
        target.configure(mapping={"columns": column}, **KEYED)
        with pytest.raises(ConfigError, match=rf"mapping\.columns\.{name} wants a new column, but table _nango_sync_1"):
            target.write([{"id": 1, "user": {"email": "x"}}])


def test_a_table_is_shared_by_what_is_declared_and_what_is_found(db: Database) -> None:
    target = Target(db, mapping=columns_by_hand("evolve", mail=("user.email", "string")), **KEYED)
    target.write([{"id": 1, "user": {"email": "a@b.c", "name": "Ann"}}])
    assert target.values() == {"1": {"id": 1, "mail": "a@b.c", "user_name": "Ann"}}
    target.configure(mapping=columns_by_hand("ignore", mail=("user.email", "string")), **KEYED)
    target.write([{"id": 1, "user": {"email": "a@b.c", "name": "Ann"}}])
    assert target.values() == {"1": {"mail": "a@b.c"}}


# --- made exact again ------------------------------------------------------------------------------------------------

RECORDS = [{"id": n, "name": f"item {n}", "at": "2024-01-15", "n": n} for n in range(5)]


def filled(db: Database, **fields: Any) -> Target:
    """Records of several executions, one updated and two deleted."""
    target = Target(db, **{**KEYED, **fields})
    target.write(RECORDS[:3])
    target.write([*RECORDS[:2], {**RECORDS[2], "name": "other"}, RECORDS[3], RECORDS[4]])
    target.write([*RECORDS[:2], {**RECORDS[2], "name": "other"}])
    target.assert_exact()
    return target


def drop_table(target: Target) -> None:
    run(target.db, 'DROP TABLE "_nango_sync_1"')


def drop_column(target: Target) -> None:
    run(target.db, 'ALTER TABLE "_nango_sync_1" DROP COLUMN "name"')


def rename_column(target: Target) -> None:
    run(target.db, 'ALTER TABLE "_nango_sync_1" RENAME COLUMN "name" TO title')


def spoil_rows(target: Target) -> None:
    run(target.db, "UPDATE \"_nango_sync_1\" SET name = 'spoiled'")
    run(target.db, "DELETE FROM \"_nango_sync_1\" WHERE _nango_unique_key < '2'")
    target.configure(**KEYED, metadata={"again": True})


def another_table(target: Target) -> None:
    target.configure(**KEYED, mapped_table="people")


def other_metadata(target: Target) -> None:
    target.configure(**KEYED, metadata={"company": 7, "name": "ours"})


@pytest.mark.parametrize("happens", [drop_table, drop_column, rename_column, spoil_rows, another_table, other_metadata])
def test_whatever_happened_to_the_table_the_next_execution_makes_it_exact(
    db: Database, happens: Callable[[Target], None]
) -> None:
    target = filled(db)
    before = target.raw()
    happens(target)
    assert target.write([*RECORDS[:2], {**RECORDS[2], "name": "other"}]).counts == (0, 0, 0, 3)
    target.assert_exact()
    assert target.raw() == before  # also the times
    assert {key for key, row in target.mapped().items() if row["_nango_deleted_at"]} == {"3", "4"}
    if happens is another_table:
        with db.connect() as connection:
            assert connection.exec_driver_sql('SELECT count(*) FROM "_nango_sync_1"').scalar() == 0


def test_another_mapping_is_applied_to_the_rows_there_are(db: Database) -> None:
    target = filled(db)
    target.configure(**KEYED, mapping=columns_by_hand(title=("name", "string"), number=("n", "string")))
    target.write([*RECORDS[:2], {**RECORDS[2], "name": "other"}])
    assert target.values() == {
        "0": {"title": "item 0"},
        "1": {"title": "item 1"},
        "2": {"title": "other"},
        "3": {"title": "item 3"},
        "4": {"title": "item 4"},
    }


def test_mapping_that_is_switched_on_maps_what_is_there(db: Database) -> None:
    target = filled(db, auto_mapping=False)
    target.configure(**KEYED)
    target.write([*RECORDS[:2], {**RECORDS[2], "name": "other"}])
    target.assert_exact()
    assert len(target.mapped()) == 5


@pytest.fixture
def transforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Callable[[Any], Any]]]:
    """Writes a module with a function and loads it, as each run does."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def load(body: str) -> Callable[[Any], Any]:
        names.append(f"transforms_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(f"def clean(record):\n    {body}\n")
        importlib.invalidate_caches()
        found: Callable[[Any], Any] = importlib.import_module(names[-1]).clean
        return found

    yield load
    for name in names:
        sys.modules.pop(name, None)


def test_changed_code_of_a_transform_is_applied_to_the_rows_there_are(
    db: Database, transforms: Callable[[str], Callable[[Any], Any]]
) -> None:
    target = Target(db, transform="transforms:clean", **KEYED)
    page = [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}]
    target.write(page, transform=transforms("return {**record, 'name': record['name'].upper()}"))
    assert target.values() == {"1": {"id": 1, "name": "ANN"}, "2": {"id": 2, "name": "BOB"}}
    target.write(page, transform=transforms("return {'title': record['name']} if record['id'] == 1 else None"))
    assert target.values() == {"1": {"title": "ann"}}


def test_a_transform_that_fails_costs_its_record_the_row_only(
    db: Database, transforms: Callable[[str], Callable[[Any], Any]]
) -> None:
    target = Target(db, transform="transforms:clean", **KEYED)
    clean = transforms("return 1j if record['id'] == 2 else {**record, 'half': 1 / (record['id'] - 1)}")
    written = target.write([{"id": 1}, {"id": 2}, {"id": 3}, b'{"id":4,"n":1e99999999999999999999}'], transform=clean)
    assert (written.added, written.rejected, written.misfits) == (4, 0, {"(the whole record, transform failed)": 3})
    assert target.values() == {"3": {"id": 3, "half": 0.5}}
    again = target.write([{"id": 1}, {"id": 2}, {"id": 2.5}], transform=clean)
    assert again.added == 1
    assert set(target.values()) == {"3", "2.5"}


def test_a_rebuild_shows_the_old_rows_until_theirs_is_the_turn(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuilding, "BATCH_BYTES", 1)  # a record at a time, after the first hundred
    target = Target(db, **KEYED)
    records = [{"id": 1000 + n, "name": "old"} for n in range(105)]
    target.write(records)
    run(db, "UPDATE \"_nango_sync_1\" SET name = 'spoiled'")
    target.configure(**KEYED, metadata={"again": 1})
    seen: list[int] = []

    def guard(connection: sa.Connection) -> None:
        target.guard(connection)
        seen.append(
            connection.exec_driver_sql("SELECT count(*) FROM \"_nango_sync_1\" WHERE name = 'old'").scalar_one()
        )
        assert connection.exec_driver_sql('SELECT count(*) FROM "_nango_sync_1"').scalar_one() == 105
        if len(seen) == 5:
            raise KeyboardInterrupt

    table = tables.open_table(db, target.row.id, target.sync)
    assert table is not None
    with pytest.raises(KeyboardInterrupt):
        tables.rebuild(db, table, target.dataset, guard)
    assert seen == [0, 0, 100, 101, 102]
    assert (target.dataset.mapped_table, target.dataset.mapping_version) == ("_nango_sync_1", None)
    target.write(records)  # it is done again, from the start
    target.assert_exact()


def test_a_rebuild_takes_out_rows_without_a_record(db: Database) -> None:
    target = filled(db)
    row = schema.raw
    with db.begin() as connection:
        connection.execute(sa.delete(row).where(row.c.external_id.in_(["0", "2", "4"])))
        connection.execute(sa.update(schema.datasets).values(live_count=1, mapping_version="_nango_sync_1#"))
    target.open_table()
    target.assert_exact()
    assert set(target.mapped()) == {"1", "3"}


def test_an_overwritten_table_is_made_exact_too(db: Database) -> None:
    target = Target(db)
    target.write([{"name": "a"}, {"name": "a"}, {"name": "b"}])
    target.write([{"name": "a"}, {"name": "a"}])
    run(db, 'DROP TABLE "_nango_sync_1"')
    target.write([{"name": "a"}, {"name": "a"}])
    target.assert_exact()
    assert len(target.mapped()) == 2
