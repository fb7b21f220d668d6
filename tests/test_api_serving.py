"""The API as a process: where it listens, how it stops, and several of them on one store."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance

from nango_dagster.api import serve, serving
from nango_dagster.client import Nango
from nango_dagster.config import Sync
from nango_dagster.defs import NangoResource, build_definitions
from nango_dagster.errors import ConfigError
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, open_database, syncs
from tests.apis import URL, free_port, listening, served
from tests.executions import until
from tests.fake_api import FakeApi

# --- where it listens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "api.example.com"])
def test_without_a_key_it_listens_to_this_machine_only(host: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"the API has no key, and at .* others could reach it. Set NANGO_SECRET_KEY"):
        serve(settings, host, free_port())


def test_a_port_that_is_taken_is_said(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on localhost, port {port}: Address already in use"):
            serve(settings, "localhost", port)


def test_a_host_that_is_not_there_is_said(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on nowhere\.invalid, port"):
        serve(replace(settings, secret_keys=("key",)), "nowhere.invalid", free_port())
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.7, port"):
        serve(replace(settings, secret_keys=("key",)), "203.0.113.7", free_port())


def test_every_address_of_localhost_is_listened_to() -> None:
    sockets = serving._listen("localhost", free_port())
    found = {address[0] for *_, address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert {one.getsockname()[0] for one in sockets} <= found
    assert "127.0.0.1" in {one.getsockname()[0] for one in sockets}
    for one in sockets:
        one.close()


def test_a_worker_process_has_the_same_settings(settings_env: dict[str, str]) -> None:
    env = {**settings_env, "NANGO_SECRET_KEY": "a,b", "NANGO_ENV_TOKEN": "t", "NANGO_ENCRYPTION_KEY": ""}
    settings = Settings.from_env(env, dotenv=None)
    assert serving._unpacked(serving._packed(settings)) == settings


# --- as a process ---------------------------------------------------------------------------------------------------


def call(url: str, body: Mapping[str, Any] | None = None, method: str = "GET") -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def dispatch(settings: Settings, home: Path) -> None:
    """One run of the dispatcher, as its sensor asks for."""
    definitions = build_definitions([], settings)
    assert definitions.resources is not None
    nango: NangoResource = definitions.resources["nango"]
    with DagsterInstance.local_temp(str(home)) as instance, closing(nango.database):
        assert definitions.resolve_job_def("nango_dispatch").execute_in_process(instance=instance).success


@pytest.mark.acceptance
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")  # Dagster's, on Python 3.12
def test_a_posted_sync_runs_without_an_asset_of_its_own(
    settings_env: dict[str, str], api: FakeApi, tmp_path: Path
) -> None:
    """From the call of the sync guide to rows, through the dispatcher."""
    api.route("/pokemon", {"results": [{"name": "bulbasaur"}, {"name": "ivysaur"}]})
    with served(settings_env) as served_api:
        body = {"url": f"{api.url}/pokemon", "response_path": "results", "unique_key": "name"}
        sync_id = call(f"{served_api.url}/v1/syncs", body, "POST")["sync_id"]
        dispatch(Settings.from_env(settings_env, dotenv=None), tmp_path)
        shown = call(f"{served_api.url}/v1/syncs/{sync_id}")
        assert (shown["last_job"]["status"], shown["last_job"]["added"]) == ("succeeded", 2)
        assert shown["next_run_at"] > shown["last_job"]["started_at"]
        log = served_api.stop()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


@pytest.mark.acceptance
def test_two_processes_that_are_posted_the_same_body_at_once_answer_the_same_id(settings_env: dict[str, str]) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:
        apis = [stack.enter_context(served(settings_env)) for _ in range(2)]
        for body in ({"url": URL, "metadata": {"company_id": 1}}, {"url": URL, "name": "items"}):
            found = pool.map(lambda at, body=body: call(f"{apis[at % 2].url}/v1/syncs", body, "POST"), range(40))
            assert len({answer["sync_id"] for answer in found}) == 1
        bodies = [{"url": URL, "friendly_name": "Items", "metadata": {"company_id": number}} for number in range(30)]
        found = pool.map(lambda at: call(f"{apis[at % 2].url}/v1/syncs", bodies[at // 2], "POST"), range(60))
        ids = [answer["sync_id"] for answer in found]
        assert ids[::2] == ids[1::2]
        assert len(set(ids)) == 30
        assert all("Traceback" not in api.stop() for api in apis)
    database = open_database(Settings.from_env(settings_env, dotenv=None))
    assert len(syncs.all(database)) == 32
    database.close()


@pytest.mark.acceptance
def test_several_workers_serve_one_port_and_stop_together(settings_env: dict[str, str]) -> None:
    env = {**settings_env, "NANGO_SECRET_KEY": "key"}
    with served(env, workers=2) as api:
        nango = Nango(api.url, secret_key="key")
        with ThreadPoolExecutor(8) as pool:
            ids = set(pool.map(lambda _: nango.sync(URL, {"name": "items"}), range(20)))
        assert len(ids) == 1
        until(lambda: api.log.count("Application startup complete") == 2, 60, "both workers have started")
        log = api.stop()
    assert log.count("Application shutdown complete") == 2
    assert "Traceback" not in log


@pytest.mark.acceptance
def test_a_database_that_is_down_does_not_keep_the_api_from_starting(settings_env: dict[str, str]) -> None:
    with served({**settings_env, "NANGO_DB_URL": "postgresql://nango:s3cret@127.0.0.1:1/nango"}) as api:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            call(f"{api.url}/v1/syncs")
        log = api.stop()
    assert "Requests are answered with 503 until it is back" in log
    assert "s3cret" not in log
    assert "Traceback" not in log


# --- a database that somebody else writes to ----------------------------------------------------------------------


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_who_reads_records_does_not_wait_for_those_who_wait_to_write(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.store.engine.SERVING_SECONDS", 60)
    _a_sync(db)
    with listening(settings) as port, ThreadPoolExecutor(60) as pool:
        assert _read(port) == 200
        with db.begin():
            writing = [pool.submit(_import, port, number) for number in range(60)]
            assert [_read(port) for _ in range(20)] == [200] * 20
            assert not any(one.done() for one in writing)
        assert {one.result() for one in writing} == {(201, "")}
    assert len(connections.list_connections(db)) == 60


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_who_cannot_write_soon_is_told_to_try_again(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.store.engine.SERVING_SECONDS", 0.1)
    _a_sync(db)
    with listening(settings) as port, ThreadPoolExecutor(60) as pool:
        assert _read(port) == 200
        with db.begin():
            told = set(pool.map(lambda number: _import(port, number), range(60)))
    assert told == {(503, "the database is being written to for longer than 0.1 seconds; try again.")}
    assert connections.list_connections(db) == []


def _a_sync(db: Database) -> None:
    syncs.register(db, [Sync(name="items", url="https://api.example.com/items", integration="crm", model="Items")])
    row = syncs.by_name(db, "items")
    assert row is not None
    datasets.find_or_make(db, row.id, "crm", "acme", "base", "Items")


def _read(port: int) -> int:
    headers = {"Provider-Config-Key": "crm", "Connection-Id": "acme"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/records?model=Items", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        status: int = response.status
        return status


def _import(port: int, number: int) -> tuple[int, str]:
    """The status of a new connection, and what was wrong."""
    body = json.dumps({"provider_config_key": "crm", "connection_id": f"c{number}"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/connections", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, ""
    except urllib.error.HTTPError as error:
        return error.code, str(json.load(error)["error"]["message"])
