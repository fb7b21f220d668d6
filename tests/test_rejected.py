"""Rejected records and values without a column stay visible while they are a fact, and can be stored once more."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from dagster import AssetKey

from nango_dagster import runs
from nango_dagster.config import read_file
from nango_dagster.defs.checks import evaluate
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, pruning, rejected, syncs
from nango_dagster.store.changes import Cursor
from nango_dagster.store.sync_row import SyncRow
from tests.commands import Cli, write_sync
from tests.executions import PAGING, Source, execute, items, last_job
from tests.fake_api import FakeApi

pytestmark = pytest.mark.usefixtures("same_logging")


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, items(1, 2, 3))


def kept(db: Database, row: SyncRow) -> list[rejected.RejectedRecord]:
    with db.ask() as connection:
        ids = [dataset.id for dataset in datasets.of_sync(connection, row.id)]
    return rejected.of_datasets(db, ids)


def test_a_rejected_record_is_kept_until_it_passes(source: Source, db: Database, settings: Settings) -> None:
    row = source.registered(db, unique_key="id")
    source.records = [*items(1), {"name": "no key"}]
    outcome = execute(db, settings, row)
    (record,) = kept(db, row)
    assert (outcome.counts.rejected, record.text, record.external_id) == (1, b'{"name": "no key"}', None)
    assert record.reason == 'unique_key "id" is missing'
    execute(db, settings, row)
    (again,) = kept(db, row)
    assert again.first_seen_at == record.first_seen_at < again.last_seen_at
    source.records = [*items(1), {"id": 2, "name": "no key"}]
    assert not execute(db, settings, row).warnings
    assert kept(db, row) == []


def test_a_part_of_the_list_removes_no_rejected_record(source: Source, db: Database, settings: Settings) -> None:
    row = source.registered(db, unique_key="id")
    source.records = [*items(1, 2, 3), {"name": "no key"}]
    execute(db, settings, row)
    partial = source.registered(db, unique_key="id", max_pages=1)
    outcome = execute(db, settings, partial)
    assert len(kept(db, row)) == 1
    assert f"1 rejected records are not stored; nango-dagster rejected {row.name} shows them." in outcome.warnings


def test_values_that_did_not_fit_are_told_of_until_they_fit(source: Source, db: Database, settings: Settings) -> None:
    """Records that do not change are not mapped again, and their values are NULL still."""
    row = source.registered(db, unique_key="id")
    source.records = [{"id": n, "age": age} for n, age in enumerate((7, "old", "young"))]
    sentence = "2 values did not fit column age."
    assert sentence in execute(db, settings, row).warnings
    unchanged = execute(db, settings, row)
    assert unchanged.counts.unchanged == 3 and sentence in unchanged.warnings
    check = evaluate(AssetKey("items"), unchanged)
    assert not check.passed and check.description == sentence
    source.records[1]["age"] = 8
    assert execute(db, settings, row).warnings == ("1 value did not fit column age.",)
    source.records[2]["age"], source.records[1]["age"] = 9, "older"
    assert execute(db, settings, row).warnings == ("1 value did not fit column age.",)
    source.records[1]["age"] = 10
    assert execute(db, settings, row).warnings == ()


@pytest.mark.parametrize("fields", [{}, {"unique_key": "id", "track_deletes": {"min_rows": 9}}])
def test_values_of_deleted_records_are_not_told_of(
    source: Source, db: Database, settings: Settings, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    source.records = [{"id": n, "age": age} for n, age in enumerate((7, "old", "young"))]
    execute(db, settings, row)
    source.records = source.records[:2]
    assert execute(db, settings, row).warnings == ("1 value did not fit column age.",)
    source.records = [{"id": 0, "age": "none"}]
    assert execute(db, settings, row).warnings == ("1 value did not fit column age.",)
    source.records = [{"id": 0, "age": 7}]
    assert execute(db, settings, row).warnings == ()


def test_values_of_restored_payloads_are_counted_once(source: Source, db: Database, settings: Settings) -> None:
    source.records = [{"id": 1, "age": 7}, {"id": 2, "age": "old"}]
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    with db.connect() as connection:
        (dataset,) = datasets.of_sync(connection, row.id)
    assert pruning.prune(db, dataset, Cursor(datetime(9999, 1, 1, tzinfo=timezone.utc), "")).count == 2
    assert execute(db, settings, row).warnings == ("1 value did not fit column age.",)


def test_a_change_of_the_mapping_counts_again(source: Source, db: Database, settings: Settings) -> None:
    source.records = [{"id": 1, "age": 7}, {"id": 2, "age": "old"}]
    execute(db, settings, source.registered(db, unique_key="id"))
    columns = {"age_text": {"path": "age", "type": "string"}}
    row = source.registered(db, unique_key="id", mapping={"columns": columns, "extra": "ignore"})
    assert execute(db, settings, row).warnings == ("1 value did not fit column age_text.",)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(settings_env: dict[str, str], db: Database) -> Cli:
    return Cli(settings_env)


def configured(db: Database, source: Source, **fields: Any) -> SyncRow:
    write_sync("items", url=source.api.url + source.path, **PAGING, **fields)
    return syncs.register(db, read_file("sync_configs/items.yaml"))["items"]


def test_rejected_records_are_shown_and_stored_once_more(
    source: Source, db: Database, settings: Settings, cli: Cli
) -> None:
    source.records = [*items(1), {"name": "b", "key": 2}]
    execute(db, settings, configured(db, source, unique_key="id"))
    (document,) = cli.good("rejected", "items", "--json").json
    assert json.loads(document["record"]) == {"name": "b", "key": 2}
    assert 'unique_key "id" is missing' in cli.good("rejected", "items").stdout
    assert cli.good("rejected", "items", "--retry", "--json").json == {"sync": "items", "stored": 0, "rejected": 1}
    configured(db, source, unique_key="key")
    assert cli.good("rejected", "items", "--retry").stdout == "items: stored 1 record; 0 are still rejected.\n"
    assert cli.good("rejected", "items").stdout == "items: no rejected records.\n"


def test_rejected_records_of_a_variant_are_stored_once_more(
    source: Source, db: Database, settings: Settings, cli: Cli
) -> None:
    source.records = [*items(1), {"name": "b", "key": 2}]
    connections.add(db, None, connections.NewConnection("shop", "acme"))
    row = configured(db, source, integration="shop", unique_key="id")
    connections.add_variant(db, row.id, "acme", "eu")
    with runs.claimed(db, settings, row, connection_id="acme", variant="eu") as execution:
        assert execution.run().counts.rejected == 1
    configured(db, source, integration="shop", unique_key="key")
    assert cli.good("rejected", "items", "--retry", "--json").json == {"sync": "items", "stored": 1, "rejected": 0}


def test_only_the_whole_list_replaces_the_rows_of_an_overwrite(source: Source, db: Database, cli: Cli) -> None:
    configured(db, source)
    result = cli("rejected", "items", "--retry")
    assert result.status == 1 and "nango-dagster run items" in result.stderr


def test_tables_rebuild_gives_a_column_the_type_that_its_values_have(
    source: Source, db: Database, settings: Settings, cli: Cli
) -> None:
    source.records = [{"id": 1, "price": False, "name": "a"}]
    row = configured(db, source, unique_key="id", mapped_table="things")
    execute(db, settings, row)
    source.records = [{"id": 1, "price": False, "name": "a"}, {"id": 2, "price": 9.5, "name": "b"}]
    execute(db, settings, row)
    change = {"column": "price", "path": "price", "from": "boolean", "to": "number", "fitting": 0, "would_fit": 1}
    assert cli.good("tables", "rebuild", "items", "--dry-run", "--json").json == {"sync": "items", "types": [change]}
    refused = cli("tables", "rebuild", "items", "--json")
    assert refused.status != 0 and "--yes is missing" in refused.stderr
    said = cli.good("tables", "rebuild", "items", "--yes", "--json").json
    assert (said["types"], said["misfits"]) == ([change], {"price": 1})
    (table,) = cli.good("tables", "--json").json
    assert {"name": "price", "type": "number", "path": "price"} in table["columns"]
    assert cli.good("tables", "rebuild", "items", "--dry-run").stdout == "items: no type changes.\n"


def test_a_warning_that_a_rebuild_has_settled_is_shown_no_more(
    source: Source, db: Database, settings: Settings, cli: Cli
) -> None:
    source.records = [{"id": 1, "price": 5, "name": 7}]
    row = configured(db, source, unique_key="id", mapped_table="things")
    execute(db, settings, row)
    source.records = [{"id": 1, "price": "n/a", "name": 7}, {"id": 2, "price": "free", "name": 8}]
    execute(db, settings, row)
    warning = "2 values did not fit column price."
    assert warning in cli.good("status", "items").stdout
    assert cli.good("tables", "rebuild", "items", "--yes", "--json").json["misfits"] == {}
    assert warning not in cli.good("status", "items").stdout
    assert last_job(db, row).warnings == []


def test_a_warning_that_is_still_true_after_a_rebuild_stays(
    source: Source, db: Database, settings: Settings, cli: Cli
) -> None:
    source.records = [{"id": 1, "price": 5}]
    row = configured(db, source, unique_key="id", mapped_table="things")
    execute(db, settings, row)
    source.records = [{"id": 1, "price": 5}, *({"id": number, "price": number} for number in range(2, 9))]
    source.records.append({"id": 9, "price": "free"})
    execute(db, settings, row)
    before = last_job(db, row).warnings
    assert before == ["1 value did not fit column price."]
    cli.good("tables", "rebuild", "items", "--yes", "--json")
    assert last_job(db, row).warnings == before
