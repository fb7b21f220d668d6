"""The IO manager for assets of one's own: what they may return, where it goes, and how it is read again."""

# No `from __future__ import annotations`: Dagster reads the types of assets from the functions themselves.
import collections.abc
from collections.abc import Iterator
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.defs import NangoIOManager, NangoResource, names, user_assets
from nango_dagster.fetch import Fetch
from nango_dagster.settings import Settings
from nango_dagster.sources import UserValue
from nango_dagster.store import Database, syncs, tables
from nango_dagster.store.sync_row import SyncRow
from tests.executions import Source, Stored, assert_nothing_runs, items, last_job, stored
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, Project, making_projects, sentence


@pytest.fixture
def make(settings: Settings) -> Iterator[MakeProject]:
    with making_projects(settings) as make:
        yield make


class Orders:
    """A project with one asset of its own, `orders`, that returns what a test says."""

    def __init__(self, make: MakeProject, db: Database, metadata: dict[str, Any], partitions: Any = None) -> None:
        self.value: Any = []
        self.db = db

        @dg.asset(
            key=["sales", "orders"], metadata=metadata, io_manager_key=names.IO_MANAGER, partitions_def=partitions
        )
        def orders() -> Any:
            return dg.MaterializeResult(value=self.value() if callable(self.value) else self.value)

        self.project: Project = make(own=dg.Definitions(assets=[orders]))

    def write(self, value: Any, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """One run; a function is called in the asset's body."""
        self.value = value
        return self.project.materialize("sales/orders", partition=partition)

    @property
    def row(self) -> SyncRow:
        row = syncs.by_name(self.db, "sales__orders", user_assets.INTEGRATION)
        assert row is not None
        return row

    @property
    def stored(self) -> Stored:
        return stored(self.db, self.row)

    @property
    def numbers(self) -> list[int]:
        """Added, updated, deleted, unchanged, as the last materialization shows them."""
        found = self.project.metadata("sales/orders")
        return [found[name] for name in ("added", "updated", "deleted", "unchanged")]


@pytest.fixture
def orders(make: MakeProject, db: Database) -> Orders:
    return Orders(make, db, {"unique_key": "id"})


# --- what an asset may return -----------------------------------------------------------------------------------------

ROWS = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


@pytest.mark.parametrize(
    "value",
    [
        ROWS,
        lambda: iter(ROWS),
        lambda: (row for row in ROWS),
        lambda: lambda: (row for row in ROWS),
        [ROWS[:1], ROWS[1:]],
        pd.DataFrame(ROWS),
        lambda: (pd.DataFrame([row]) for row in ROWS),
        pd.DataFrame(ROWS).set_index("id"),
        ({"id": 1, "name": "a"}, {"id": 2, "name": "b"}),
    ],
    ids=[
        "list of dicts", "iterator", "generator", "function", "lists of dicts", "DataFrame", "DataFrames",
        "named index", "tuple",
    ],
)  # fmt: skip
def test_what_an_asset_returns_is_stored_and_mapped(orders: Orders, value: Any) -> None:
    result = orders.write(value)
    assert result.success
    assert orders.stored.live == ROWS
    assert orders.stored.mapped == ROWS
    assert orders.numbers == [2, 0, 0, 0]


def test_an_asset_may_return_a_pull_that_nobody_has_read(orders: Orders, api: FakeApi) -> None:
    source = Source(api, items(*range(1, 8)))
    assert orders.write(lambda: Fetch(source.sync())).success
    found = orders.project.metadata("sales/orders")
    assert orders.stored.live_count == 7
    assert (found["requests"], found["pages"], found["stop_reason"]) == (3, 3, "no_cursor")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", "the asset returned a value of type str"),
        (5, "the asset returned a value of type int"),
        (None, "the asset returned nothing"),
        ([1, 2], "the asset returned a value of type int"),
        ([[["too deep"]]], "the asset returned a value of type list"),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "the DataFrame has several columns id"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(orders: Orders, value: Any, said: str) -> None:
    result = orders.write(value)
    assert not result.success
    assert sentence(result).startswith("sales/orders: ") and said in sentence(result)
    assert last_job(orders.db, orders.row).status == "failed"


def test_values_of_pandas_and_numpy_become_json(orders: Orders) -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2],
            "at": [pd.Timestamp("2024-05-06T07:08:09Z"), pd.NaT],
            "day": [date(2024, 5, 6), None],
            "price": [1.5, float("nan")],
            "exact": [Decimal("1.10"), None],
            "good": pd.array([True, None], dtype="boolean"),
            "count": pd.array([3, None], dtype="Int64"),
            "kind": pd.Categorical(["x", None]),
            "nested": [{"a": [1]}, None],
        }
    )
    assert orders.write(frame).success
    assert orders.stored.live == [
        {
            "id": 1,
            "at": "2024-05-06T07:08:09+00:00",
            "day": "2024-05-06",
            "price": 1.5,
            "exact": 1.1,
            "good": True,
            "count": 3,
            "kind": "x",
            "nested": {"a": [1]},
        },
        {**dict.fromkeys(["at", "day", "price", "exact", "good", "count", "kind", "nested"]), "id": 2},
    ]


def test_a_record_that_is_no_json_is_rejected_and_costs_only_itself(orders: Orders) -> None:
    assert orders.write([*ROWS, {"id": 3, "name": object()}]).success
    assert orders.stored.live == ROWS
    assert orders.project.metadata("sales/orders")["rejected"] == 1
    (warning,) = last_job(orders.db, orders.row).warnings
    assert "record 2 of page 1: it cannot be written as JSON" in warning


def test_large_values_are_written_page_by_page(orders: Orders) -> None:
    given: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(2500):
            given.append(number)
            yield {"id": number}

    assert orders.write(rows).success
    assert orders.project.metadata("sales/orders")["pages"] == 3
    values = UserValue("orders", rows())
    given.clear()
    next(values.pages())
    assert len(given) == 1000


def test_slow_values_are_written_before_a_page_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nango_dagster.sources.user_value.PAGE_SECONDS", 0)
    assert [len(page.records) for page in UserValue("orders", ROWS).pages()] == [1, 1]


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_with_a_unique_key_rows_are_added_and_updated(orders: Orders) -> None:
    orders.write(ROWS)
    orders.write([{"id": 2, "name": "changed"}, {"id": 3, "name": "c", "colour": "red"}])
    assert orders.numbers == [1, 1, 0, 0]
    assert sorted(orders.stored.mapped, key=lambda row: int(row["id"])) == [
        {"id": 1, "name": "a"},
        {"id": 2, "name": "changed"},
        {"colour": "red", "id": 3, "name": "c"},
    ]


def test_without_a_unique_key_rows_are_replaced(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {})
    orders.write(ROWS)
    orders.write([ROWS[0], {"id": 3, "name": "c"}])
    assert orders.numbers == [1, 0, 1, 1]
    assert [row["id"] for row in orders.stored.mapped] == [1, 3]


def test_track_deletes_marks_what_is_gone(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {"unique_key": "id", "track_deletes": True})
    orders.write(ROWS)
    orders.write(ROWS[:1])
    assert orders.numbers == [0, 0, 1, 1]
    assert orders.stored.mapped_deleted == ROWS[1:]


def test_an_asset_that_breaks_in_the_middle_replaces_nothing(make: MakeProject, db: Database) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield {"id": 9}
        raise ValueError("no more")

    orders = Orders(make, db, {})
    orders.write(ROWS)
    result = orders.write(breaks)
    assert not result.success
    assert sentence(result) == "sales/orders: no more"
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "in breaks" in str(failed.step_failure_data.error)  # the traceback leads to the line
    assert orders.stored.live == ROWS
    assert_nothing_runs(db)


def test_the_table_is_called_like_the_asset_unless_its_metadata_says_otherwise(
    make: MakeProject, db: Database, orders: Orders
) -> None:
    orders.write(ROWS)
    assert "sales_orders" in sa.inspect(db.engine.sqlalchemy).get_table_names(
        schema=db.schema if db.engine.name == "postgresql" else None
    )
    renamed = Orders(make, db, {"unique_key": "id", "mapped_table": "revenue"})
    renamed.write(ROWS)
    with db.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM revenue")).scalar() == 2


def test_metadata_that_cannot_be_used_is_a_sentence(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {"unique_key": "id", "mapped_table": "_nango_raw"})
    said = sentence(orders.write(ROWS))
    assert said.startswith("sales/orders: its metadata cannot be used: mapped_table is ") and "_nango_raw" in said


def test_the_job_is_recorded_and_the_materialization_shows_the_numbers(orders: Orders) -> None:
    result = orders.write(ROWS)
    job = last_job(orders.db, orders.row)
    assert (job.status, job.added, job.run_id, job.sync_name) == ("succeeded", 2, result.run_id, "sales/orders")
    found = orders.project.metadata("sales/orders")
    assert (found["dagster/row_count"], found["stop_reason"], found["job_id"]) == (2, "end_of_values", str(job.id))
    assert [column.name for column in found["dagster/column_schema"].columns] == ["id", "name"]


def test_an_asset_of_ones_own_has_no_schedule_of_ours(orders: Orders) -> None:
    orders.write(ROWS)
    assert orders.row.origin == "asset"
    sensor = orders.project.defs.resolve_sensor_def(names.DISPATCHER)
    context = dg.build_sensor_context(
        instance=orders.project.instance, resources={names.RESOURCE: orders.project.nango}
    )
    assert isinstance(sensor.evaluate_tick(context).skip_message, str)


@pytest.mark.parametrize(
    ("path", "name", "table"),
    [
        (["orders"], "orders", "orders"),
        (["sales", "orders"], "sales__orders", "sales_orders"),
        (["sales__orders"], "sales__orders-", "sales_orders_"),
        (["bestellungen öäü"], "bestellungen____-", "bestellungen_"),
        (["_nango_raw"], "_nango_raw", "nango_raw"),
        (["x" * 250], "x" * 200 + "-", "x" * 54 + "_"),
    ],
)
def test_each_asset_key_has_a_name_and_a_table_of_its_own(path: list[str], name: str, table: str) -> None:
    sync = user_assets.sync_of(dg.AssetKey(path), {})
    assert sync.name.startswith(name) and (sync.mapped_table or "").startswith(table)
    assert len((sync.mapped_table or "").encode()) <= 63


# --- partitions -------------------------------------------------------------------------------------------------------

DAYS = dg.StaticPartitionsDefinition(["2024-01-01", "2024-01-02"])


def test_each_partition_has_rows_of_its_own(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {}, DAYS)
    orders.write(ROWS, "2024-01-01")
    orders.write([{"id": 1}], "2024-01-02")
    orders.write(ROWS[:1], "2024-01-01")
    assert orders.numbers == [0, 0, 1, 1]
    with db.connect() as connection:
        found = connection.execute(sa.text("SELECT _nango_connection_id, id FROM sales_orders ORDER BY 1")).all()
    assert [tuple(row) for row in found] == [("2024-01-01", 1), ("2024-01-02", 1)]
    event = orders.project.materialization("sales/orders")
    assert (event.partition, event.metadata["dagster/partition_row_count"].value) == ("2024-01-01", 1)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # backfill_policy
def test_one_value_for_several_partitions_is_refused(make: MakeProject, db: Database) -> None:
    @dg.asset(partitions_def=DAYS, io_manager_key=names.IO_MANAGER, backfill_policy=dg.BackfillPolicy.single_run())
    def daily() -> list[dict[str, Any]]:
        return ROWS

    project = make(own=dg.Definitions(assets=[daily]))
    result = dg.materialize(
        [daily],
        instance=project.instance,
        resources=project.defs.resources,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-02",
        },
        raise_on_error=False,
    )
    assert sentence(result).startswith(
        "daily: one value was returned for 2 partitions; wanted one partition in each run"
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def reader(annotation: Any, upstream: str = "items", **asset: Any) -> tuple[list[Any], dg.AssetsDefinition]:
    """An asset `summary` that takes an upstream as `annotation` says, and what it got."""
    got: list[Any] = []

    def summary(rows: Any) -> None:
        got.append(list(rows) if isinstance(rows, Iterator) else rows)

    summary.__annotations__ = {"rows": annotation, "return": None}
    key = upstream.split("/")
    return got, dg.asset(ins={"rows": dg.AssetIn(key=key, input_manager_key=names.IO_MANAGER)}, **asset)(summary)


RECORDS = [
    {"id": 1, "price": 1.5, "good": True, "at": "2024-05-06T07:08:09Z", "text": "1"},
    {"id": 2**60 + 1, "price": 2, "good": None, "at": None, "text": None},
]


@pytest.fixture
def sync(api: FakeApi) -> Sync:
    return Source(api, RECORDS).sync(unique_key="id")


def fields(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not str(name).startswith("_nango_")}


@pytest.mark.parametrize("annotation", [pd.DataFrame, Any], ids=["DataFrame", "nothing said"])
def test_a_downstream_asset_gets_a_data_frame_with_the_columns_types(
    make: MakeProject, sync: Sync, annotation: Any
) -> None:
    got, summary = reader(annotation)
    assert make(sync, own=dg.Definitions(assets=[summary])).materialize("items", "summary").success
    (frame,) = got
    assert {name: str(kind).partition("[")[0] for name, kind in fields(frame.dtypes.to_dict()).items()} == {
        "id": "int64",
        "price": "float64",
        "good": "boolean",
        "at": "datetime64",
        "text": "object",
    }
    assert list(frame["id"]) == [1, 2**60 + 1]
    assert frame["at"][0] == pd.Timestamp("2024-05-06T07:08:09Z")
    assert frame["at"].dt.tz is not None and pd.isna(frame["good"][1])


@pytest.mark.parametrize(
    "annotation",
    [list, list[dict[str, Any]], collections.abc.Iterator, collections.abc.Iterable],
    ids=["list", "list of dicts", "iterator", "iterable"],
)
def test_a_downstream_asset_gets_dicts_where_it_says_so(make: MakeProject, sync: Sync, annotation: Any) -> None:
    got, summary = reader(annotation)
    assert make(sync, own=dg.Definitions(assets=[summary])).materialize("items", "summary").success
    assert [fields(row) for row in got[0]] == [
        {"id": 1, "price": 1.5, "good": True, "at": datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc), "text": "1"},
        {"id": 2**60 + 1, "price": 2, "good": None, "at": None, "text": None},
    ]
    assert [type(row["good"]) for row in got[0]] == [bool, type(None)]


def test_numbers_that_no_float_holds_stay_exact(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {"unique_key": "id"})
    digits = "0.12345678901234567890123"
    orders.write([{"id": 1, "n": Decimal(digits)}])
    (row,) = tables.rows(db, orders.row.id, orders.row.sync)
    assert row["n"] == (Decimal(digits) if db.engine.name == "postgresql" else None)  # SQLite has no type that holds it


def test_an_empty_table_is_an_empty_data_frame_with_its_columns(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {})
    orders.write(ROWS)
    orders.write([])
    frame = tables.data_frame(db, orders.row.id, orders.row.sync)
    assert len(frame) == 0 and {"id", "name"} <= set(frame.columns)


def test_deleted_rows_are_not_read(make: MakeProject, db: Database) -> None:
    orders = Orders(make, db, {"unique_key": "id", "track_deletes": True})
    orders.write(ROWS)
    orders.write(ROWS[:1])
    assert [row["id"] for row in tables.rows(db, orders.row.id, orders.row.sync)] == [1]


def test_rows_that_were_read_can_be_written_again(make: MakeProject, db: Database, sync: Sync) -> None:
    @dg.asset(
        ins={"rows": dg.AssetIn(key="items", input_manager_key=names.IO_MANAGER)},
        io_manager_key=names.IO_MANAGER,
        metadata={"unique_key": "id"},
    )
    def cheap(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[rows["price"] < 2]

    assert make(sync, own=dg.Definitions(assets=[cheap])).materialize("items", "cheap").success
    row = syncs.by_name(db, "cheap", user_assets.INTEGRATION)
    assert row is not None
    (record,) = stored(db, row).live
    assert record == {"id": 1, "price": 1.5, "good": True, "at": "2024-05-06T07:08:09+00:00", "text": "1"}


@pytest.mark.parametrize(
    ("partitions", "partition", "ids"),
    [(DAYS, "2024-01-02", [3]), (None, None, [1, 2, 3])],
    ids=["the same partition", "all partitions"],
)
def test_a_downstream_asset_gets_the_partitions_it_asks_for(
    make: MakeProject, db: Database, partitions: Any, partition: str | None, ids: list[int]
) -> None:
    got, summary = reader(list, "sales/orders", partitions_def=partitions)

    @dg.asset(key=["sales", "orders"], io_manager_key=names.IO_MANAGER, partitions_def=DAYS)
    def orders(context: dg.AssetExecutionContext) -> list[dict[str, Any]]:
        return ROWS if context.partition_key == "2024-01-01" else [{"id": 3}]

    project = make(own=dg.Definitions(assets=[orders, summary]))
    for day in DAYS.get_partition_keys():
        assert project.materialize("sales/orders", partition=day).success
    assert project.materialize("summary", partition=partition).success
    assert [row["id"] for row in got[0]] == ids


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "items has no rows yet; materialize it first."),
        ({"auto_mapping": False}, "items has no table, for its sync has auto_mapping off."),
    ],
)
def test_rows_that_are_not_there_are_a_sentence(
    make: MakeProject, api: FakeApi, fields: dict[str, Any], said: str
) -> None:
    _, summary = reader(pd.DataFrame)
    project = make(Source(api, RECORDS).sync(unique_key="id", **fields), own=dg.Definitions(assets=[summary]))
    if fields:
        project.materialize("items")
    result = project.materialize("summary")
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert failed.step_failure_data.error is not None
    assert said in str(failed.step_failure_data.error)


def test_the_io_manager_works_without_any_sync_of_ours(
    settings_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings_env.items():
        monkeypatch.setenv(name, value)
    nango = NangoResource()

    @dg.asset(io_manager_key="warehouse", metadata={"unique_key": "id"})
    def things() -> list[dict[str, Any]]:
        return ROWS

    @dg.asset(ins={"things": dg.AssetIn(input_manager_key="warehouse")})
    def total(things: pd.DataFrame) -> None:
        assert list(things["id"]) == [1, 2]

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize(
            [things, total], resources={"warehouse": NangoIOManager(nango)}, instance=instance
        ).success
    nango.close()
