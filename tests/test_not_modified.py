"""A list of one page that has not changed is not sent again, and counts as seen whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from nango_dagster.config import Sync
from nango_dagster.runs import Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, datasets, pruning, syncs
from nango_dagster.store.changes import Cursor
from nango_dagster.store.datasets import Dataset
from nango_dagster.store.overwrite import Overwrite
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.upsert import Upsert
from tests.executions import Record, assert_exact, execute, items
from tests.fake_api import Answer, FakeApi, Received, Reply

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
MODES = pytest.mark.parametrize(
    "fields", [{"unique_key": "id", "track_deletes": True}, {}], ids=["upsert", "overwrite"]
)


class Versioned:
    """A list whose API knows ETags."""

    def __init__(self, api: FakeApi, records: list[Record]) -> None:
        self.api = api
        self.records = records
        self.version = 1
        api.route("/items", self.answer)

    def answer(self, request: Received) -> Reply:
        etag = f'"v{self.version}"'
        if request.headers.get("If-None-Match") == etag:
            return Answer(304, {"ETag": etag}, b"")
        return Answer(200, {"ETag": etag}, json.dumps(self.records).encode())

    def registered(self, db: Database, **fields: Any) -> SyncRow:
        sync = Sync(**{"name": "items", "url": f"{self.api.url}/items", "retries": 0, **fields})
        return syncs.register(db, [sync])["items"]


@pytest.fixture
def source(api: FakeApi) -> Versioned:
    return Versioned(api, items(1, 2, 3))


@MODES
def test_a_list_that_is_not_modified_counts_as_seen_whole(
    db: Database, settings: Settings, source: Versioned, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.stop_reason, outcome.complete) == ("succeeded", "not_modified", True)
    assert (outcome.counts.unchanged, outcome.counts.deleted, outcome.counts.fetched) == (3, 0, 0)
    assert_exact(db, row, source.records)


@MODES
def test_a_new_version_of_the_list_is_read(
    db: Database, settings: Settings, source: Versioned, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records, source.version = items(1, 2), 2
    outcome = execute(db, settings, row)
    assert (outcome.counts.deleted, outcome.stop_reason) == (1, "single_page")
    assert execute(db, settings, row).stop_reason == "not_modified"


@MODES
def test_a_list_is_read_again_when_its_config_changes_or_its_records_were_emptied(
    db: Database, settings: Settings, source: Versioned, fields: dict[str, Any]
) -> None:
    execute(db, settings, source.registered(db, **fields))
    row = source.registered(db, **fields, ignore_fields=["name"])
    assert execute(db, settings, row).counts.fetched == 3
    emptied = execute(db, settings, row, wishes=Wishes(empty_cache=True))
    assert (emptied.counts.fetched, emptied.counts.added) == (3, 3)


def test_a_list_with_a_record_that_was_left_out_is_read_again(
    db: Database, settings: Settings, source: Versioned
) -> None:
    source.records = [*items(1, 2), {"name": "no id"}]
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    assert execute(db, settings, row).counts.rejected == 1


def test_a_list_is_read_again_after_a_reset(db: Database, settings: Settings, source: Versioned) -> None:
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    outcome = execute(db, settings, row, wishes=Wishes(reset=True))
    assert (outcome.stop_reason, outcome.counts.fetched) == ("single_page", 3)
    assert source.api.requests[-1].headers.get("If-None-Match") is None
    assert execute(db, settings, row).stop_reason == "not_modified"


@pytest.mark.parametrize("place", ["headers", "query_params"])
def test_a_list_is_read_again_with_other_credentials_and_no_secret_is_kept(
    db: Database, settings: Settings, source: Versioned, place: str
) -> None:
    name = "Authorization" if place == "headers" else "api_key"
    row = source.registered(db, unique_key="id", **{place: {name: "${env.TOKEN}"}})

    def read(token: str) -> str | None:
        settings_of_token = replace(settings, env={**settings.env, "TOKEN": token}, encryption_keys=(KEY,))
        return execute(db, settings_of_token, row).stop_reason

    assert [read("secret-1"), read("secret-1"), read("secret-2"), read("secret-2")] == [
        "single_page", "not_modified", "single_page", "not_modified",
    ]  # fmt: skip
    with db.connect() as connection:
        (dataset,) = datasets.of_sync(connection, row.id)
    assert dataset.etag is not None and "secret" not in dataset.etag


def test_without_a_key_to_hash_secrets_with_no_etag_is_kept(
    db: Database, settings: Settings, source: Versioned
) -> None:
    """On PostgreSQL without NANGO_ENCRYPTION_KEY; on SQLite a key is made."""
    row = source.registered(db, unique_key="id", headers={"Authorization": "${env.TOKEN}"})
    keyless = replace(settings, env={**settings.env, "TOKEN": "secret"}, encryption_keys=())
    execute(db, keyless, row)
    expected = "not_modified" if keyless.db_url.startswith("sqlite") else "single_page"
    assert execute(db, keyless, row).stop_reason == expected


# --- payloads that are pruned ---------------------------------------------------------------------------------------


def prune(db: Database, row: SyncRow) -> None:
    (dataset,) = of_sync(db, row)
    assert pruning.prune(db, dataset, Cursor(datetime(2999, 1, 1, tzinfo=timezone.utc), "")).count


def of_sync(db: Database, row: SyncRow) -> list[Dataset]:
    with db.connect() as connection:
        return datasets.of_sync(connection, row.id)


@MODES
def test_a_prune_between_two_executions_costs_one_whole_list(
    db: Database, settings: Settings, source: Versioned, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    prune(db, row)
    assert [execute(db, settings, row).stop_reason for _ in range(2)] == ["single_page", "not_modified"]
    assert_exact(db, row, source.records)


@MODES
@pytest.mark.parametrize("left", [(1, 2, 3), (1, 2)], ids=["nothing changes", "one is deleted"])
def test_what_is_pruned_while_an_execution_runs_comes_back_with_the_next_one(
    db: Database,
    settings: Settings,
    source: Versioned,
    fields: dict[str, Any],
    left: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That one has looked the records up before, and so does not bring them back, though it reads the whole list."""
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records, source.version = items(*left), 2
    with monkeypatch.context() as patched:
        for writer in (Upsert, Overwrite):
            patched.setattr(writer, "settle", _then(writer.settle, partial(prune, db, row)))
        assert execute(db, settings, row).stop_reason == "single_page"
    assert [execute(db, settings, row).stop_reason for _ in range(2)] == ["single_page", "not_modified"]
    assert_exact(db, row, source.records)


def _then(first: Callable[..., None], second: Callable[[], None]) -> Callable[..., None]:
    def both(*args: Any, **kwargs: Any) -> None:
        first(*args, **kwargs)
        second()

    return both


def test_a_list_without_an_etag_creates_no_key(db: Database, settings: Settings, api: FakeApi) -> None:
    api.route("/items", (200, {}, items(1)))
    sync = Sync(name="items", url=f"{api.url}/items", headers={"Authorization": "${env.TOKEN}"})
    row = syncs.register(db, [sync])["items"]
    execute(db, replace(settings, env={**settings.env, "TOKEN": "secret"}, encryption_keys=()), row)
    assert [file.name for file in settings.home.glob("*.key")] == []
