"""The Python client: the calls of the sync guide, and every error as the sentence of the server."""

from __future__ import annotations

import doctest
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

import nango_dagster.client.nango

from nango_dagster.api import create_app
from nango_dagster.client import Nango, NotFound
from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, AuthenticationFailed, ConfigError, NangoError, Refused, StoreUnavailable
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from tests.apis import URL, free_port
from tests.executions import Source, drained
from tests.fake_api import HANG_UP, FakeApi


@contextmanager
def running(settings: Settings, db: Database | None = None) -> Iterator[str]:
    """A real server in a thread; its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings, db), port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def nango(settings: Settings, db: Database) -> Iterator[Nango]:
    with running(replace(settings, secret_keys=("s3cret",)), db) as url:
        yield Nango(url, secret_key="s3cret")


@pytest.fixture
def acme(settings: Settings, db: Database, api: FakeApi) -> Iterator[Nango]:
    """A client of an API that has read the three issues of GitHub's connection acme."""
    titles = ("Fix login", "Add search", "Update docs")
    issues = [{"id": id, "title": title, "state": "open"} for id, title in enumerate(titles, 1)]
    fields = {"name": "issues", "integration": "github", "model": "GithubIssue", "unique_key": "id"}
    row = Source(api, issues, path="/issues").registered(db, **fields)
    connections.add(db, None, "github", "acme", metadata={"team": "a"})
    connections.add_variant(db, row.id, "acme", "eu")
    drained(db, settings, row)
    with running(replace(settings, secret_keys=("s3cret",), env={"TEAM": "a"}), db) as url:
        yield Nango(url, secret_key="s3cret")


def test_the_examples_of_each_method_are_true(acme: Nango) -> None:
    module = nango_dagster.client.nango
    examples = doctest.DocTestFinder().find(module, extraglobs={"nango": acme})
    runner = doctest.DocTestRunner(verbose=False)
    for example in sorted(examples, key=lambda one: one.lineno or 0):
        runner.run(example)
    assert (runner.failures, runner.tries > 20) == (0, True)


def test_a_sync_is_added_and_its_id_returned(nango: Nango, db: Database) -> None:
    config = {
        "response_path": "results",
        "unique_key": "name",
        "paging_url_path": "next",
        "metadata": {"company_id": 123},
        "friendly_name": "My Sync",
        "frequency": 15,
    }
    sync_id = nango.sync("https://api.example.com/my/endpoint?query=A+query", config)
    assert sync_id == nango.sync("https://api.example.com/my/endpoint?query=A+query", config)
    row = syncs.get(db, sync_id)
    assert row is not None
    assert (row.name, row.sync.metadata, row.sync.frequency) == ("my-sync", {"company_id": 123}, 15)


def test_a_url_alone_is_a_sync(nango: Nango) -> None:
    assert nango.sync(URL) == 1
    assert nango.sync(URL, {}) == 1


def test_a_duplicate_can_be_looked_for_before_it_is_made(nango: Nango) -> None:
    nango.sync(URL, {"name": "first", "metadata": {"company_id": 7, "ü": True}, "friendly_name": "First & only"})
    nango.sync(f"{URL}?a=1&b=2#c")
    assert [sync["id"] for sync in nango.syncs()] == [1, 2]
    assert [sync["id"] for sync in nango.syncs(name="first")] == [1]
    assert [sync["id"] for sync in nango.syncs(url=f"{URL}?a=1&b=2#c")] == [2]
    assert [sync["id"] for sync in nango.syncs(friendly_name="First & only")] == [1]
    assert [sync["id"] for sync in nango.syncs(metadata={"company_id": 7, "ü": True})] == [1]
    assert nango.syncs(metadata={"company_id": 8}) == []


def test_a_sync_can_be_shown_changed_and_deleted(nango: Nango, db: Database) -> None:
    sync_id = nango.sync(URL, {"headers": {"Authorization": "Bearer t"}})
    shown = nango.get_sync(sync_id)
    assert (shown["id"], shown["last_job"]) == (sync_id, None)
    config = {**shown["config"], "unique_key": "id"}
    assert nango.update_sync(sync_id, config.pop("url"), config) == sync_id
    row = syncs.get(db, sync_id)
    assert row is not None
    assert (row.sync.headers, row.sync.unique_key) == ({"Authorization": "Bearer t"}, "id")
    nango.delete_sync(sync_id)
    assert syncs.all(db) == []


def test_each_error_is_the_server_s_sentence(nango: Nango, db: Database) -> None:
    syncs.register(db, [Sync(name="items", url=URL)])
    with pytest.raises(ConfigError, match='"uniqe_key" is no field of a sync; did you mean unique_key'):
        nango.sync(URL, {"uniqe_key": "id"})
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        nango.sync(URL, {"metadata": {"a": "x" * 1_000_000}})
    with pytest.raises(NotFound, match="there is no sync 7; GET /v1/syncs lists those there are"):
        nango.get_sync(7)
    with pytest.raises(Refused, match="items is a sync of a config file"):
        nango.delete_sync(1)
    with pytest.raises(AuthenticationFailed, match="the Authorization header is missing"):
        Nango(nango.host).syncs()
    with pytest.raises(AuthenticationFailed, match="the key is not one of those in NANGO_SECRET_KEY"):
        Nango(nango.host, secret_key="wrong").syncs()


def test_a_store_that_is_down_is_a_sentence(settings: Settings) -> None:
    with running(replace(settings, db_url="postgresql+psycopg://127.0.0.1:1/nango")) as url:
        with pytest.raises(StoreUnavailable, match="cannot reach the database"):
            Nango(url).syncs()


@pytest.mark.parametrize("value", [object(), {1, 2}.__iter__(), "\ud83d", 1 << 70])
def test_a_config_that_is_no_json_never_leaves(value: Any) -> None:
    with pytest.raises(NangoError):
        Nango(f"http://127.0.0.1:{free_port()}").sync(URL, {"metadata": {"a": value}})


def test_an_api_that_is_not_there_is_a_sentence() -> None:
    port = free_port()
    with pytest.raises(ApiError, match=rf"Nango: GET http://localhost:{port}/v1/syncs .* after 3 tries"):
        Nango(f"http://localhost:{port}").syncs()


def test_another_server_is_a_sentence(api: FakeApi) -> None:
    api.script("/v1/syncs", "<html>", [1], (502, {}, "<html>"), (500, {}, {"error": "no object"}))
    nango = Nango(f"{api.url}/", secret_key="s3cret")
    for said in ("did not answer as a nango-dagster API does", "did not answer as", "answered 502", "answered 500"):
        with pytest.raises(ApiError, match=said) as caught:
            nango.syncs(name="s3cret")
        assert "s3cret" not in str(caught.value)


def test_a_broken_connection_is_tried_again(api: FakeApi) -> None:
    api.script("/v1/syncs", HANG_UP, {"sync_id": 5})
    assert Nango(api.url).sync(URL) == 5
    assert [request.json for request in api.requests] == [{"url": URL}] * 2


def test_the_key_goes_to_the_server_and_into_no_repr(api: FakeApi) -> None:
    api.route("/v1/syncs", {"syncs": []})
    nango = Nango(api.url, secret_key="s3cret")
    nango.syncs()
    assert api.requests[0].headers["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(nango)


def test_threads_may_share_a_client(nango: Nango) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(nango.sync(URL))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 8


def test_the_package_offers_the_client_and_imports_it_only_then() -> None:
    code = (
        "import sys, nango_dagster as n; before = {*sys.modules}; print(n.Nango.__module__ in before, n.Nango().host)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["False", "http://localhost:3003"]
