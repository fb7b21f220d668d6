"""Nango's own client from npm against a running API, whose rows come from real runs; its types accept the answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, syncs
from nango_dagster.store.syncs import SyncRow
from tests.apis import Served, served
from tests.conftest import ROOT
from tests.executions import PAGING, Source, items
from tests.fake_api import FakeApi

KEY = "0b1f2a3c-4d5e-4f60-8a7b-9c0d1e2f3a4b"
CREDENTIALS = {"type": "API_KEY", "apiKey": "s3cret"}


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with Nango's own client, installed by npm."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed; .ci/run installs them")
    folder = tmp_path_factory.mktemp("npm") / "nango_node"
    shutil.copytree(ROOT / "tests" / "nango_node", folder, ignore=shutil.ignore_patterns("node_modules"))
    ran = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if ran.returncode:
        pytest.skip(f"npm cannot install @nangohq/node: {ran.stderr[-300:]}")
    return folder


@pytest.fixture
def row(db: Database, api: FakeApi) -> SyncRow:
    """A sync of GitHub's issues, which acme has, and its connection."""
    Source(api, items(1, 2, 3, 4, 5))
    sync = Sync(name="issues", url=f"{api.url}/items", integration="github", unique_key="id", retries=0, **PAGING)
    found = syncs.register(db, [sync])["issues"]
    connections.add(db, None, "github", "acme", metadata={"region": "eu"})
    return found


@pytest.fixture
def server(settings_env: dict[str, str], db: Database) -> Iterator[Served]:
    with served({**settings_env, "NANGO_SECRET_KEY": f"older,{KEY}", "NANGO_ENV_TEAM": "a"}) as api:
        yield api


def run_due(db: Database, settings: Settings, row: SyncRow) -> None:
    """What a Dagster run does: all of the sync that is due."""
    slot = datetime.now(timezone.utc)
    with runs.Drain(db, settings, run_id="run") as work:
        work.add(row, lambda: slot)
        while not work.is_over:
            for done in work.next(0.2):
                assert done.error is None


def call(node: Path, server: Served, *calls: list[Any]) -> list[Any]:
    """What Nango's client gives for each of these calls."""
    ran = subprocess.run(
        ["node", "call.mjs", server.url],
        input=json.dumps(calls),
        cwd=node,
        env={**os.environ, "NANGO_SECRET_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[Any] = json.loads(ran.stdout)
    return found


def assert_types_accept(node: Path, answers: dict[str, Any]) -> None:
    """The compiler takes each answer for what the client's method of that name says it gives."""
    lines = [
        "import { Nango } from '@nangohq/node';",
        # A value may have more than the type names, as those of Nango's own server have.
        "const accept = <A,>() => <T extends A>(value: T) => value;",
        "type Answer<M extends keyof Nango> = Nango[M] extends (...given: any[]) => Promise<infer A> ? A : never;",
    ]
    lines += [f"accept<Answer<'{name}'>>()({json.dumps(value)});" for name, value in answers.items()]
    (node / "answers.ts").write_text("\n".join(lines))
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck"]
    ran = subprocess.run(["npx", "tsc", *options, "answers.ts"], cwd=node, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout


DONE = {"status": 200, "data": ""}
EU = {"provider_config_key": "github", "connection_id": "acme", "name": "issues", "variant": "eu"}


def test_nangos_client_steers_syncs(node: Path, server: Served, db: Database, settings: Settings, row: SyncRow) -> None:
    run_due(db, settings, row)
    status, paused, after_pause, started, triggered, reset = call(
        node,
        server,
        ["syncStatus", "github", ["issues"], "acme"],
        ["pauseSync", "github", ["issues"], "acme"],
        ["syncStatus", "github", "*"],
        ["startSync", "github", [{"name": "issues", "variant": "base"}]],
        ["triggerSync", "github", [], "acme"],
        ["triggerSync", "github", ["issues"], "acme", {"reset": True, "emptyCache": True}],
    )
    (one,) = status["syncs"]
    assert (one["status"], one["recordCount"]) == ("SUCCESS", {"Issues": 5})
    assert one["latestResult"] == {"Issues": {"added": 5, "updated": 0, "deleted": 0}}
    assert [one["status"] for one in after_pause["syncs"]] == ["PAUSED"]
    assert paused == started == triggered == reset == DONE
    assert queue.schedules(db)[0].triggered_at is not None
    assert_types_accept(node, {"syncStatus": status})
    run_due(db, settings, row)
    (again,) = call(node, server, ["syncStatus", "github", ["issues"], "acme"])
    assert again["syncs"][0]["latestResult"] == {"Issues": {"added": 5, "updated": 0, "deleted": 0}}


def test_nangos_client_sets_frequencies_and_makes_variants(
    node: Path, server: Served, db: Database, settings: Settings, row: SyncRow
) -> None:
    made, twice, frequency, of_variant, back, variables = call(
        node,
        server,
        ["createSyncVariant", EU],
        ["createSyncVariant", EU],
        ["updateSyncConnectionFrequency", "github", "issues", "acme", "every 30 minutes"],
        ["updateSyncConnectionFrequency", "github", {"name": "issues", "variant": "eu"}, "acme", "every 5 minutes"],
        ["updateSyncConnectionFrequency", "github", "issues", "acme", None],
        ["getEnvironmentVariables"],
    )
    assert (made["name"], made["variant"]) == ("issues", "eu")
    assert twice == {"error": [400, "sync_variant_already_exists"]}
    assert [one["frequency"] for one in (frequency, of_variant, back)] == [
        "every 30 minutes",
        "every 5 minutes",
        "every hour",
    ]
    assert variables == [{"name": "TEAM", "value": "a"}]
    assert_types_accept(
        node,
        {
            "createSyncVariant": made,
            "updateSyncConnectionFrequency": frequency,
            "getEnvironmentVariables": variables,
        },
    )
    run_due(db, settings, row)
    status, _, gone = call(
        node,
        server,
        ["syncStatus", "github", [{"name": "issues", "variant": "eu"}], "acme"],
        ["deleteSyncVariant", EU],
        ["syncStatus", "github", ["issues::eu"], "acme"],
    )
    assert [(one["frequency"], one["recordCount"]) for one in status["syncs"]] == [("every 5 minutes", {"Issues": 5})]
    assert gone == {"syncs": []}


def test_nangos_client_reads_and_changes_connections(node: Path, server: Served, row: SyncRow) -> None:
    listed, set_, updated, metadata, connection, unknown = call(
        node,
        server,
        ["listConnections", {"integrationId": ["github"]}],
        ["setMetadata", "github", "acme", {"team": "a"}],
        ["updateMetadata", "github", ["acme"], {"level": 2}],
        ["getMetadata", "github", "acme"],
        ["getConnection", "github", "acme"],
        ["setMetadata", "github", "gone", {}],
    )
    assert [one["connection_id"] for one in listed["connections"]] == ["acme"]
    assert (set_["status"], updated["status"]) == (201, 200)
    assert metadata == connection["metadata"] == {"team": "a", "level": 2}
    assert unknown == {"error": [404, "unknown_connection"]}
    deleted, missing = call(node, server, ["deleteConnection", "github", "acme"], ["getConnection", "github", "acme"])
    assert deleted == {"status": 200, "data": {"success": True}}
    assert missing == {"error": [404, "not_found"]}
    assert_types_accept(node, {"listConnections": listed})


@pytest.mark.parametrize(
    ("held", "token"),
    [
        (CREDENTIALS, CREDENTIALS),
        ({"type": "BASIC", "username": "u", "password": "p"}, {"type": "BASIC", "username": "u", "password": "p"}),
        ({"type": "OAUTH2", "access_token": "t1"}, "t1"),
    ],
)
def test_nangos_client_is_given_credentials(
    held: dict[str, str], token: Any, node: Path, settings_env: dict[str, str], db: Database, row: SyncRow
) -> None:
    import requests

    encrypted = {**settings_env, "NANGO_SECRET_KEY": KEY, "NANGO_ENCRYPTION_KEY": "a2tr" * 10 + "a2s="}
    with served(encrypted) as api:
        body = {"provider_config_key": "github", "connection_id": "acme", "credentials": held}
        made = requests.post(
            f"{api.url}/connections", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
        )
        assert made.status_code == 201, made.text
        connection, found = call(node, api, ["getConnection", "github", "acme"], ["getToken", "github", "acme"])
    assert found == token
    assert_types_accept(node, {"getConnection": connection})
