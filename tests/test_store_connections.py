"""Connections in the store: what a team keeps of its customers' accounts, and what goes with them."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.errors import Refused
from nango_dagster.settings import Settings
from nango_dagster.store import (
    Database,
    connections,
    credential_state,
    datasets,
    jobs,
    open_database,
    queue,
    schema,
    syncs,
    tables,
)
from nango_dagster.store.connections import NewConnection
from nango_dagster.store.queue import deletion
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.target import Target
from nango_dagster.vault import Vault
from tests.apis import calling
from tests.executions import PAGING, Source, items, until
from tests.fake_api import FakeApi

SECRET = {"type": "API_KEY", "apiKey": "s3cr3t-value"}
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.open(Settings.from_env({"NANGO_HOME": str(tmp_path), "NANGO_ENCRYPTION_KEY": KEY}, dotenv=None))


def register(db: Database, name: str, integration: str | None = "github", **fields: Any) -> SyncRow:
    given: dict[str, Any] = {"integration": integration} if integration else {}
    sync = Sync(name=name, url="https://api.example.com/items", **given, **fields)
    return syncs.register(db, [sync])[name]


def scheduled(db: Database, row: SyncRow) -> dict[tuple[str, str], str]:
    return {(one.connection_id, one.variant): one.state for one in queue.schedules(db, [row.id])}


# --- what is kept -------------------------------------------------------------------------------------------------


def test_a_connection_is_shown_without_its_credentials(db: Database, vault: Vault) -> None:
    made = connections.add(
        db, vault, connections.NewConnection("github", "acme", credentials=SECRET, metadata={"region": "eu"})
    )
    assert connections.get(db, "github", "acme") == made
    assert (made.metadata, made.config, made.has_credentials, made.auth_failures) == ({"region": "eu"}, {}, True, 0)
    assert "s3cr3t" not in repr(made)
    assert connections.credentials(db, vault, "github", "acme") == SECRET


def test_the_database_holds_no_secret_in_the_clear(db: Database, vault: Vault) -> None:
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=SECRET))
    with db.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM _nango_connections")).all()
    assert rows and "s3cr3t" not in str(rows) and "apiKey" not in str(rows)


def test_adding_again_changes_what_is_named_and_keeps_the_rest(db: Database, vault: Vault) -> None:
    connections.add(
        db, vault, connections.NewConnection("github", "acme", credentials=SECRET, metadata={"a": 1}, config={"x": 1})
    )
    again = connections.add(db, None, connections.NewConnection("github", "acme", metadata={"b": 2}))
    assert (again.metadata, again.config, again.has_credentials) == ({"b": 2}, {"x": 1}, True)
    assert [row.connection_id for row in connections.list_connections(db)] == ["acme"]


def test_the_same_name_in_two_integrations_is_two_connections(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"a": 1}))
    connections.add(db, None, connections.NewConnection("hubspot", "acme", metadata={"b": 1}))
    assert [row.integration for row in connections.list_connections(db)] == ["github", "hubspot"]
    assert [row.metadata for row in connections.list_connections(db, "hubspot")] == [{"b": 1}]


def test_metadata_is_replaced_or_merged_by_its_first_level(db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"a": {"x": 1}, "b": 2}))
    assert connections.update_metadata(db, "github", "acme", {"a": {"y": 1}, "c": None})
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"a": {"y": 1}, "b": 2, "c": None}
    assert connections.set_metadata(db, "github", "acme", {"z": 1})
    row = connections.get(db, "github", "acme")
    assert row is not None and row.metadata == {"z": 1}


def test_a_connection_that_is_not_there_is_not_made_by_the_way(db: Database, vault: Vault) -> None:
    assert not connections.set_metadata(db, "github", "nobody", {})
    assert not connections.update_metadata(db, "github", "nobody", {})
    assert not connections.set_credentials(db, vault, "github", "nobody", SECRET)
    assert not connections.remove(db, "github", "nobody")
    assert connections.get(db, "github", "nobody") is None
    assert connections.credentials(db, vault, "github", "nobody") is None


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "x" * 256, "é" * 128, "a\ud800"])
def test_a_name_that_is_none_is_refused(db: Database, name: str) -> None:
    with pytest.raises(Refused, match="is no name of connection; wanted 1 to 255 bytes"):
        connections.add(db, None, connections.NewConnection("github", name))


# --- authentication -----------------------------------------------------------------------------------------------


def test_three_failures_in_a_row_need_other_credentials(db: Database, vault: Vault) -> None:
    def needs() -> bool:
        row = connections.get(db, "github", "acme")
        assert row is not None
        return row.needs_reauthorisation

    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=SECRET))
    assert [credential_state.note_auth_failure(db, "github", "acme") for _ in range(2)] == [1, 2]
    credential_state.clear_auth_failures(db, "github", "acme")
    assert [credential_state.note_auth_failure(db, "github", "acme") for _ in range(3)] == [1, 2, 3]
    assert needs()
    assert connections.set_credentials(db, vault, "github", "acme", {**SECRET, "apiKey": "new"})
    assert not needs()


def test_one_refreshes_a_token_at_a_time(db: Database, vault: Vault) -> None:
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=SECRET))
    assert credential_state.begin_refresh(db, "github", "acme", "one", 60)
    assert not credential_state.begin_refresh(db, "github", "acme", "two", 60)
    assert not credential_state.end_refresh(db, vault, "github", "acme", "two", {"apiKey": "wrong"})
    assert connections.credentials(db, vault, "github", "acme") == SECRET
    assert credential_state.end_refresh(db, vault, "github", "acme", "one", {"apiKey": "fresh"})
    assert connections.credentials(db, vault, "github", "acme") == {"apiKey": "fresh"}
    assert credential_state.begin_refresh(db, "github", "acme", "two", 60)


def test_the_right_to_refresh_lasts_from_when_it_was_given(db: Database, settings: Settings, vault: Vault) -> None:
    """Not from when it was asked for: with a refresh token that is good once, two at a time lose the connection."""
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=SECRET))
    other = open_database(settings)
    with ThreadPoolExecutor(1) as pool:
        with other.begin() as connection:
            connection.execute(sa.update(schema.connections).values(updated_at=other.clock()))
            asking = threading.Event()

            def take() -> bool:
                asking.set()
                return credential_state.begin_refresh(db, "github", "acme", "one", 60)

            taken = pool.submit(take)
            assert asking.wait(20)
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 0.3)
            released = datetime.now(timezone.utc)
        assert taken.result(20)
    with db.connect() as connection:
        lasts = connection.execute(sa.select(schema.connections.c.refresh_until)).scalar_one()
    assert lasts >= released + timedelta(seconds=60)
    other.close()


def test_who_dies_while_refreshing_holds_nobody_up(db: Database, vault: Vault) -> None:
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=SECRET))
    assert credential_state.begin_refresh(db, "github", "acme", "dead", -1)
    assert credential_state.begin_refresh(db, "github", "acme", "two", 60)
    assert not credential_state.end_refresh(db, vault, "github", "acme", "dead", {"apiKey": "late"})


# --- schedules ----------------------------------------------------------------------------------------------------


def test_a_new_connection_gets_every_sync_of_its_integration(db: Database) -> None:
    issues, pulls = register(db, "issues"), register(db, "pulls", auto_start=False)
    off, other, single = register(db, "off", enabled=False), register(db, "deals", "hubspot"), register(db, "x", None)
    connections.add(db, None, connections.NewConnection("github", "acme"))
    assert scheduled(db, issues) == {("acme", "base"): "STARTED"}
    assert scheduled(db, pulls) == {("acme", "base"): "PAUSED"}
    assert (scheduled(db, off), scheduled(db, other)) == ({}, {})
    assert scheduled(db, single) == {("default", "base"): "STARTED"}
    assert all(one.last_started_at is None for one in queue.schedules(db, [issues.id]))


def test_a_new_sync_runs_for_every_connection_of_its_integration(db: Database) -> None:
    for name in ("acme", "bolt"):
        connections.add(db, None, connections.NewConnection("github", name))
    connections.add(db, None, connections.NewConnection("hubspot", "other"))
    row = register(db, "issues")
    assert scheduled(db, row) == {("acme", "base"): "STARTED", ("bolt", "base"): "STARTED"}


def test_registering_again_leaves_paused_schedules_and_variants(db: Database) -> None:
    row = register(db, "issues")
    connections.add(db, None, connections.NewConnection("github", "acme"))
    connections.add_variant(db, row.id, "acme", "eu")
    queue.set_state(db, row.id, "PAUSED", "acme", "base")
    register(db, "issues", description="changed")
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"a": 1}))
    assert scheduled(db, row) == {("acme", "base"): "PAUSED", ("acme", "eu"): "STARTED"}


def test_many_connections_are_scheduled_by_few_statements(db: Database) -> None:
    for number in range(300):
        connections.add(db, None, connections.NewConnection("github", f"c{number}"))
    said: list[str] = []
    sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", lambda *args: said.append(args[2]))
    row = register(db, "issues")
    assert len(scheduled(db, row)) == 300
    assert len(said) < 25, said


# --- removal ------------------------------------------------------------------------------------------------------


def execute(db: Database, settings: Settings, row: SyncRow, connection_id: str) -> None:
    with runs.claimed(db, settings, row, connection_id=connection_id) as execution:
        assert execution.run().status == "succeeded"


def stored(db: Database, row: SyncRow) -> dict[str, tuple[int, int, int]]:
    """For each connection with anything: raw rows, mapped rows, jobs."""
    found: dict[str, tuple[int, int, int]] = {}
    for name in ("acme", "bolt"):
        with db.connect() as connection:
            ids = [one.id for one in datasets.of_sync(connection, row.id) if one.connection_id == name]
            raw = sum(datasets.read(connection, id).live_count for id in ids)
        mapped = len(list(tables.rows(db, row.id, row.sync, [(name, "base")])))
        done = len([job for job in jobs.list_jobs(db, row.id, limit=100) if job.connection_id == name])
        found[name] = (raw, mapped, done)
    return found


def test_removing_a_connection_takes_its_rows_along_and_no_other(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api)
    source.records = items(1, 2, 3)
    sync = Sync(name="issues", url=f"{api.url}/items", unique_key="id", integration="github", **PAGING)
    row = syncs.register(db, [sync])["issues"]
    for name in ("acme", "bolt"):
        connections.add(db, None, connections.NewConnection("github", name))
        execute(db, settings, row, name)
    assert stored(db, row) == {"acme": (3, 3, 1), "bolt": (3, 3, 1)}
    assert connections.remove(db, "github", "acme")
    assert stored(db, row) == {"acme": (0, 0, 0), "bolt": (3, 3, 1)}
    assert scheduled(db, row) == {("bolt", "base"): "STARTED"}
    assert not connections.remove(db, "github", "acme")


def test_a_variant_comes_and_goes_and_the_base_stays(db: Database) -> None:
    row = register(db, "issues")
    connections.add(db, None, connections.NewConnection("github", "acme"))
    assert connections.add_variant(db, row.id, "acme", "eu")
    assert not connections.add_variant(db, row.id, "acme", "eu")
    with pytest.raises(Refused, match="does not run for a connection 'nobody'"):
        connections.add_variant(db, row.id, "nobody", "eu")
    with pytest.raises(Refused, match="the variant base belongs to the connection"):
        connections.remove_variant(db, row.id, "acme", "base")
    assert connections.remove_variant(db, row.id, "acme", "eu")
    assert not connections.remove_variant(db, row.id, "acme", "eu")
    assert scheduled(db, row) == {("acme", "base"): "STARTED"}


# --- many at once -------------------------------------------------------------------------------------------------


def test_many_are_made_or_changed_in_few_statements(db: Database, vault: Vault) -> None:
    row = register(db, "issues")
    connections.add(db, vault, connections.NewConnection("github", "c7", credentials=SECRET, metadata={"old": 1}))
    said: list[str] = []
    sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", lambda *args: said.append(args[2]))
    wanted = [
        NewConnection(
            "github" if number < 600 else "hubspot", f"c{number}", SECRET if number % 2 else None, {"n": number}
        )
        for number in range(700)
    ]
    assert connections.add_all(db, vault, wanted) == 699
    assert len(said) < 40, said
    assert len(scheduled(db, row)) == 600
    kept = connections.get(db, "github", "c7")
    assert kept is not None and (kept.metadata, kept.has_credentials) == ({"n": 7}, True)
    assert connections.credentials(db, vault, "github", "c599") == SECRET
    assert connections.credentials(db, vault, "hubspot", "c698") is None
    assert "s3cr3t" not in repr(wanted)


def test_one_wrong_name_among_many_makes_none(db: Database) -> None:
    with pytest.raises(Refused, match="is no name of connection"):
        connections.add_all(db, None, [NewConnection("github", "acme"), NewConnection("github", " ")])
    assert connections.list_connections(db) == []


# --- deleted while an execution writes ------------------------------------------------------------------------------


def somebody_waits(db: Database) -> bool:
    query = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with db.connect() as connection:
        return bool(connection.execute(query).scalar_one())


@pytest.fixture
def locked(settings: Settings, db: Database) -> Iterator[SyncRow]:
    """A sync of acme, with a second variant, whose datasets another session writes for as long as the test lasts."""
    connections.add(db, None, connections.NewConnection("github", "acme"))
    sync = Sync(name="issues", url="https://api.example.com/items", integration="github")
    row = syncs.post(db, sync, named=True)
    connections.add_variant(db, row.id, "acme", "second")
    other = open_database(settings)
    with contextlib.closing(other), other.begin() as connection:
        for variant in ("base", "second"):
            queue.lock_dataset(connection, other, Target(row.id, "acme", variant))
        yield row


@pytest.mark.parametrize("settings_env", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
@pytest.mark.parametrize("what", ["connection", "variant", "sync"])
def test_who_deletes_what_is_being_written_is_told_to_try_again(
    what: str, settings: Settings, db: Database, locked: SyncRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock meanwhile that every new sync and connection waits for."""
    monkeypatch.setattr(deletion, "SECONDS", 0.5)
    path, query = {
        "connection": ("/connections/acme", "?provider_config_key=github"),
        "variant": ("/sync/issues/variant/second", ""),
        "sync": (f"/v1/syncs/{locked.id}", ""),
    }[what]
    body = {"provider_config_key": "github", "connection_id": "acme"} if what == "variant" else None
    with calling(settings, db) as http:
        answer = http.request("DELETE", f"{path}{query}", json=body)
    assert answer.status_code == 503, answer.text
    assert "try again when it has ended" in answer.json()["error"]["message"]
    assert scheduled(db, locked) == {("acme", "base"): "STARTED", ("acme", "second"): "STARTED"}
    connections.add(db, None, connections.NewConnection("github", "beta"))


@pytest.mark.parametrize("settings_env", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_who_deletes_waits_for_an_execution_that_ends_soon(settings: Settings, db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme"))
    row, other = register(db, "issues"), open_database(settings)
    with contextlib.closing(other), ThreadPoolExecutor(1) as pool:
        with other.begin() as connection:
            queue.lock_dataset(connection, other, Target(row.id, "acme", "base"))
            removed = pool.submit(connections.remove, db, "github", "acme")
            until(lambda: somebody_waits(db))
        assert removed.result(20)
    assert scheduled(db, row) == {}
