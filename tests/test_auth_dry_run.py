"""dry-run with an account of the integration that a sync reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from nango_dagster.settings import Settings
from nango_dagster.store import connections, open_database
from nango_dagster.vault import vault_of
from tests.commands import Cli, write_sync
from tests.executions import items
from tests.fake_api import FakeApi, Received, Reply

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@pytest.fixture
def cli(settings_env: dict[str, str]) -> Cli:
    return Cli({**settings_env, "NANGO_ENCRYPTION_KEY": KEY})


@pytest.fixture
def connection(cli: Cli) -> None:
    """An account of the integration github."""
    settings = Settings.from_env(cli.env, dotenv=None)
    database = open_database(settings)
    given = {"type": "BEARER", "token": "s3cr3t-token"}
    connections.add(
        database,
        vault_of(settings),
        connections.NewConnection("github", "acme", credentials=given, metadata={"team": "core"}),
    )
    database.close()


@pytest.fixture
def api_with_door(api: FakeApi) -> FakeApi:
    def reply(request: Received) -> Reply:
        if request.headers["Authorization"] != "Bearer s3cr3t-token":
            return 401, {}, {"error": f"no: {request.headers['Authorization']}"}
        return items(1, 2, team=request.params["team"])

    api.route("/items", reply)
    query = {"team": "${metadata.team}"}
    write_sync("items", url=api.url + "/items", integration="github", unique_key="id", retries=0, query_params=query)
    return api


@pytest.mark.usefixtures("connection", "api_with_door")
def test_the_account_that_is_named_is_read(cli: Cli) -> None:
    for named in (("--connection", "acme"), ()):  # the only one need not be named
        found = cli.good("dry-run", "items", *named, "--json").json
        assert found["records"] == items(1, 2, team="core")


@pytest.mark.usefixtures("api_with_door")
def test_where_there_is_no_connection_it_says_how_to_make_one(cli: Cli) -> None:
    said = cli("dry-run", "items")
    assert said.status == 1
    assert "items runs for no connection: github has no connections yet; make one with: nango-dagster" in said.stderr


@pytest.mark.usefixtures("connection", "api_with_door")
def test_which_of_several_is_asked_for(cli: Cli) -> None:
    cli.good("connections", "add", "--integration", "github", "--connection", "bolt")
    said = cli("dry-run", "items")
    assert said.status == 1
    assert "items runs for 2 connections, acme, bolt; say which with --connection ID." in said.stderr


@pytest.mark.usefixtures("connection", "api_with_door")
def test_an_account_that_is_not_there_is_answered_with_how_to_make_it(cli: Cli) -> None:
    said = cli("dry-run", "items", "--connection", "nobody")
    assert "items: github has no connection 'nobody'; make it with: nango-dagster connections add" in said.stderr


def test_a_sync_of_one_account_has_no_other(cli: Cli, api: FakeApi, tmp_path: Path) -> None:
    write_sync("items", url=api.url + "/items")
    said = cli("dry-run", "items", "--connection", "acme")
    assert "items names no integration, so it has no connections; leave --connection out." in said.stderr
    assert not (tmp_path / "nango.db").exists()
