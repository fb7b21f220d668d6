"""Nango's own client from npm against a running API, whose rows come from real runs; its types accept the answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, syncs
from tests.apis import Served, served
from tests.executions import Source, items, until
from tests.fake_api import FakeApi
from tests.materializing import Project, making_projects
from tests.npm import installed

KEY = "0b1f2a3c-4d5e-4f60-8a7b-9c0d1e2f3a4b"
CREDENTIALS = {"type": "API_KEY", "apiKey": "s3cret"}


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with Nango's own client, installed by npm."""
    return installed("nango_node", "@nangohq/node", tmp_path_factory)


ISSUES = {"integration": "github", "model": "GithubIssue", "unique_key": "id", "track_deletes": True}


@pytest.fixture
def source(api: FakeApi) -> Source:
    """GitHub's list of five issues."""
    return Source(api, items(1, 2, 3, 4, 5))


@pytest.fixture
def sync(source: Source) -> Sync:
    return source.sync(name="issues", **ISSUES)


@pytest.fixture
def project(sync: Sync, settings: Settings, db: Database, tmp_path: Path) -> Iterator[Project]:
    """Definitions with that sync in a Dagster instance, and acme's connection."""
    syncs.register(db, [sync])
    connections.add(db, None, connections.NewConnection("github", "acme", metadata={"region": "eu"}))
    with making_projects(settings, home=tmp_path / "dagster") as make:
        yield make(sync)


def run(project: Project) -> None:
    """A run of Dagster for all that is due of the sync."""
    assert project.scheduled(project.syncs[0]).success


@pytest.fixture
def server(settings_env: dict[str, str], db: Database) -> Iterator[Served]:
    with served({**settings_env, "NANGO_SECRET_KEY": f"older,{KEY}", "NANGO_ENV_TEAM": "a"}) as api:
        yield api


def call(node: Path, server: Served, *calls: list[Any]) -> list[Any]:
    """The result of Nango's client for each of these calls."""
    ran = subprocess.run(
        ["node", "call.mjs", server.url],
        input=json.dumps(calls),
        cwd=node,
        env={**os.environ, "NANGO_SECRET_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[Any] = json.loads(ran.stdout)
    return found


class Types:
    """Answers, and what the types of Nango's client say that they are; the compiler reads all of them at once."""

    def __init__(self) -> None:
        self._lines = [
            "import { Nango } from '@nangohq/node';",
            "import type * as types from '@nangohq/node';",
            # A value may have more than the type names, as those of Nango's own server have.
            "const accept = <A,>() => <T extends A>(value: T) => value;",
            "type Answer<M extends keyof Nango> = Nango[M] extends (...given: any[]) => Promise<infer A> ? A : never;",
        ]

    def accept(self, method: str, *answers: Any) -> None:
        """These are answers of the client's method."""
        self._lines += [f"accept<Answer<'{method}'>>()({json.dumps(one)});" for one in answers]

    def are(self, name: str, *values: Any) -> None:
        """These are values of the type."""
        self._lines += [f"accept<types.{name}>()({json.dumps(one)});" for one in values]

    def check(self, node: Path) -> None:
        """Compile it; what is refused fails with its line."""
        (node / "answers.ts").write_text("\n".join(self._lines))
        options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2022", "--skipLibCheck"]
        command = ["npx", "tsc", *options, "answers.ts"]
        ran = subprocess.run(command, cwd=node, capture_output=True, text=True, timeout=240)
        wrong = [self._lines[int(line) - 1] for line in re.findall(r"^answers\.ts\((\d+),", ran.stdout, re.M)]
        assert ran.returncode == 0, "\n".join([ran.stdout, *wrong])


@pytest.fixture(scope="session")
def types(node: Path) -> Iterator[Types]:
    """The code to compile once after all tests, since the compiler takes seconds to start."""
    found = Types()
    yield found
    found.check(node)


DONE = {"status": 200, "data": ""}
EU = {"provider_config_key": "github", "connection_id": "acme", "name": "issues", "variant": "eu"}


ACME = {"providerConfigKey": "github", "connectionId": "acme", "model": "GithubIssue"}


def listed(page: dict[str, Any]) -> list[tuple[Any, str]]:
    """The records of a page by their ids, and what became of each."""
    return [(record["id"], record["_nango_metadata"]["last_action"]) for record in page["records"]]


def test_nangos_client_reads_records(
    node: Path, types: Types, server: Served, db: Database, source: Source, sync: Sync, project: Project
) -> None:
    run(project)
    (pages,) = call(node, server, ["listAllRecords", {**ACME, "limit": 2}])
    assert [[id for id, _ in listed(page)] for page in pages] == [[1, 2], [3, 4], [5]]
    assert [page["next_cursor"] is None for page in pages] == [False, False, True]
    last = pages[-1]["records"][0]["_nango_metadata"]["cursor"]

    source.records = items(1, 3, 4, 5, 6)
    source.records[1]["name"] = "changed"
    assert connections.add_variant(db, syncs.register(db, [sync])["issues"].id, "acme", "eu")
    assert call(node, server, ["triggerSync", "github", ["issues"], "acme"]) == [DONE]
    run(project)
    news, added, updated, deleted, mixed, capitals, since, by_id, variant, unknown = call(
        node,
        server,
        ["listAllRecords", {**ACME, "limit": 2, "cursor": last}],
        ["listRecords", {**ACME, "filter": "added"}],
        ["listRecords", {**ACME, "filter": "updated"}],
        ["listRecords", {**ACME, "filter": "deleted"}],
        ["listRecords", {**ACME, "filter": "updated,deleted"}],
        ["listRecords", {**ACME, "filter": "ADDED,UPDATED", "limit": 500}],
        ["listRecords", {**ACME, "modifiedAfter": pages[0]["records"][0]["_nango_metadata"]["last_modified_at"]}],
        ["listRecords", {**ACME, "ids": ["3", "1", "gone"], "limit": 1}],
        ["listRecords", {**ACME, "variant": "eu"}],
        ["listRecords", {**ACME, "model": "GithubPull"}],
    )
    changes = [(3, "UPDATED"), (6, "ADDED"), (2, "DELETED")]
    assert [change for page in news for change in listed(page)] == changes
    assert listed(added) == [(1, "ADDED"), (4, "ADDED"), (5, "ADDED"), (6, "ADDED")]
    assert (listed(updated), listed(deleted)) == ([(3, "UPDATED")], [(2, "DELETED")])
    assert listed(mixed) == [(3, "UPDATED"), (2, "DELETED")]
    assert listed(capitals) == [(1, "ADDED"), (4, "ADDED"), (5, "ADDED"), (3, "UPDATED"), (6, "ADDED")]
    assert listed(since) == [(1, "ADDED"), (4, "ADDED"), (5, "ADDED"), *changes]
    assert (listed(by_id), by_id["next_cursor"] is None) == ([(1, "ADDED")], False)
    assert listed(variant) == [(id, "ADDED") for id in (1, 3, 4, 5, 6)]
    assert unknown == {"records": [], "next_cursor": None}
    types.accept("listRecords", *pages, deleted, unknown)
    _, _, third, *_ = (record["_nango_metadata"]["cursor"] for record in since["records"])
    pruned, rest, empty = call(
        node,
        server,
        ["pruneRecords", {**ACME, "untilCursor": third, "limit": 2}],
        ["pruneRecords", {**ACME, "untilCursor": third}],
        ["listRecords", {**ACME, "limit": 3}],
    )
    assert (pruned, rest) == ({"count": 2, "has_more": True}, {"count": 1, "has_more": False})
    assert [{*record} for record in empty["records"]] == [{"id", "_nango_metadata"}] * 3
    assert all(record["_nango_metadata"]["pruned_at"] for record in empty["records"])
    types.accept("pruneRecords", pruned, rest)
    types.accept("listRecords", empty)
    wrong: list[dict[str, Any]] = [
        {"cursor": "gone"},
        {"limit": 501},
        {"filter": "added,gone"},
        {"modifiedAfter": "x"},
        {"ids": ["1"] * 101},
    ]
    nobody, *refused = call(
        node,
        server,
        ["listRecords", {**ACME, "connectionId": "gone"}],
        *(["listRecords", {**ACME, **one}] for one in wrong),
    )
    assert nobody == {"error": [400, "unknown_connection"]}
    assert refused == [{"error": [400, "invalid_query_params"]}] * len(wrong)


def test_a_map_by_record_id_equals_the_source_after_prunes_deletions_and_resets(
    node: Path, server: Served, source: Source, project: Project
) -> None:
    """The ids are numbers. A record that was deleted under another id than its own would stay in the map."""
    run(project)
    (first,) = call(node, server, ["followRecords", {**ACME, "limit": 2}])
    assert first["entries"] == [[record["id"], record] for record in source.records]

    prune = ["pruneRecords", {**ACME, "untilCursor": first["cursor"]}]
    source.records = [*items(1, 3, 6), *items(4, name="changed")]
    assert call(node, server, prune, ["triggerSync", "github", ["issues"], "acme"])[1] == DONE
    run(project)
    reset = ["triggerSync", "github", ["issues"], "acme", {"reset": True, "emptyCache": True}]
    second, done = call(
        node, server, ["followRecords", {**ACME, "limit": 2, "cursor": first["cursor"]}, first["entries"]], reset
    )
    assert (by_id(second), done) == ({record["id"]: record for record in source.records}, DONE)

    source.records = items(3, 7, name="after the reset")
    run(project)
    (third,) = call(
        node, server, ["followRecords", {**ACME, "limit": 2, "cursor": second["cursor"]}, second["entries"]]
    )
    assert by_id(third) == {record["id"]: record for record in source.records}


def by_id(copy: dict[str, Any]) -> dict[Any, Any]:
    """The copy's records by their ids, each of which is there once."""
    assert len({str(id) for id, _ in copy["entries"]}) == len(copy["entries"])
    return dict(copy["entries"])


def test_nangos_client_steers_syncs(node: Path, types: Types, server: Served, db: Database, project: Project) -> None:
    run(project)
    status, paused, after_pause, started, triggered, *others = call(
        node,
        server,
        ["syncStatus", "github", ["issues"], "acme"],
        ["pauseSync", "github", ["issues"], "acme"],
        ["syncStatus", "github", "*"],
        ["startSync", "github", [{"name": "issues", "variant": "base"}]],
        ["triggerSync", "github", [], "acme"],
        ["triggerSync", "github", ["issues::base"], "acme", False],
        ["triggerSync", "github", ["issues"], "acme", True],
        ["triggerSync", "github", ["issues"], None, "full_refresh_and_clear_cache"],
        ["triggerSync", "github", ["issues"], "acme", {"reset": True, "emptyCache": True}],
    )
    (one,) = status["syncs"]
    assert (one["status"], one["recordCount"]) == ("SUCCESS", {"GithubIssue": 5})
    assert one["latestResult"] == {"GithubIssue": {"added": 5, "updated": 0, "deleted": 0}}
    assert [one["status"] for one in after_pause["syncs"]] == ["PAUSED"]
    assert [paused, started, triggered, *others] == [DONE] * 7
    assert queue.schedules(db)[0].triggered_at is not None
    types.accept("syncStatus", status)
    run(project)
    (again,) = call(node, server, ["syncStatus", "github", ["issues"], "acme"])
    assert again["syncs"][0]["latestResult"] == {"GithubIssue": {"added": 5, "updated": 0, "deleted": 0}}


def test_nangos_client_sets_frequencies_and_makes_variants(
    node: Path, types: Types, server: Served, project: Project
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
    types.accept("createSyncVariant", made)
    types.accept("updateSyncConnectionFrequency", frequency, back)
    types.accept("getEnvironmentVariables", variables)
    run(project)
    status, _, gone = call(
        node,
        server,
        ["syncStatus", "github", [{"name": "issues", "variant": "eu"}], "acme"],
        ["deleteSyncVariant", EU],
        ["syncStatus", "github", ["issues::eu"], "acme"],
    )
    assert [(one["frequency"], one["recordCount"]) for one in status["syncs"]] == [
        ("every 5 minutes", {"GithubIssue": 5})
    ]
    assert gone == {"syncs": []}


def test_nangos_client_reads_and_changes_connections(
    node: Path, types: Types, server: Served, project: Project
) -> None:
    (
        listed,
        named,
        none,
        integrations,
        integration,
        no_integration,
        scripts,
        set_,
        updated,
        metadata,
        connection,
        unknown,
    ) = call(
        node,
        server,
        ["listConnections", {"integrationId": ["github"]}],
        ["listConnections", "acme", "cm", {"limit": 1}],
        ["listConnections", {"userId": "u1", "tags": {"team": "a"}}],
        ["listIntegrations"],
        ["getIntegration", {"uniqueKey": "github"}, {"include": ["webhook"]}],
        ["getIntegration", {"uniqueKey": "gitlab"}],
        ["getScriptsConfig"],
        ["setMetadata", "github", "acme", {"team": "a"}],
        ["updateMetadata", "github", ["acme"], {"level": 2}],
        ["getMetadata", "github", "acme"],
        ["getConnection", "github", "acme"],
        ["setMetadata", "github", "gone", {}],
    )
    own = "https://acme.example.com/hook"
    patched, at_own, unpatched, nobody = call(
        node,
        server,
        ["patchConnection", {"connectionId": "acme", "provider_config_key": "github"}, {"webhook_url_override": own}],
        ["getConnection", "github", "acme"],
        ["patchConnection", {"connectionId": "acme", "provider_config_key": "github"}, {"webhook_url_override": None}],
        ["patchConnection", {"connectionId": "gone", "provider_config_key": "github"}, {}],
    )
    assert (patched, at_own["webhook_url_override"]) == ({"success": True}, own)
    assert (unpatched, nobody) == (patched, {"error": [404, "not_found"]})
    assert [one["connection_id"] for one in listed["connections"]] == ["acme"]
    assert (named, none) == (listed, {"connections": []})
    assert integrations == {"configs": [integration["data"]]}
    assert (integration["data"]["unique_key"], no_integration) == ("github", {"error": [404, "not_found"]})
    assert (set_["status"], updated["status"]) == (201, 200)
    assert metadata == connection["metadata"] == {"team": "a", "level": 2}
    assert unknown == {"error": [404, "unknown_connection"]}
    deleted, missing = call(node, server, ["deleteConnection", "github", "acme"], ["getConnection", "github", "acme"])
    assert deleted == {"status": 200, "data": {"success": True}}
    assert missing == {"error": [404, "not_found"]}
    assert [(one["providerConfigKey"], [sync["name"] for sync in one["syncs"]]) for one in scripts] == [
        ("github", ["issues"])
    ]
    types.accept("getScriptsConfig", scripts)
    types.accept("listConnections", listed)
    types.accept("listIntegrations", integrations)
    types.accept("getIntegration", integration)
    types.accept("patchConnection", patched)
    types.are("MetadataChangeResponse", set_["data"], updated["data"])


# --- webhooks -------------------------------------------------------------------------------------------------------


class Receiver:
    """A program with Nango's client that takes webhooks, and reads what they tell of."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{self._line()}/nango"

    def next(self) -> dict[str, Any]:
        """The work of the client at the next webhook."""
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the receiver is gone"
        return line.strip()


@pytest.fixture
def receiver(node: Path, server: Served) -> Iterator[Receiver]:
    env = {**os.environ, "NANGO_SECRET_KEY": KEY, "NANGO_WEBHOOK_SIGNING_KEY": "whsec"}
    command = ["node", "--no-deprecation", "receive.mjs", server.url]
    with subprocess.Popen(command, cwd=node, env=env, stdout=subprocess.PIPE, text=True) as process:
        yield Receiver(process)
        process.kill()


def tell(project: Project) -> None:
    """Ticks of the sensor that delivers webhooks, until one has arrived."""
    sensor = project.defs.resolve_sensor_def(names.WEBHOOKS)

    def has_delivered() -> bool:
        with dg.build_sensor_context(instance=project.instance, resources={names.RESOURCE: project.nango}) as context:
            return sensor.evaluate_tick(context).skip_message == "delivered 1 webhook."

    until(has_delivered, 60, "the receiver has answered; a tick does not wait for a slow one")


def test_a_program_with_nangos_client_follows_webhooks_to_what_has_changed(
    node: Path,
    types: Types,
    server: Served,
    receiver: Receiver,
    settings: Settings,
    source: Source,
    sync: Sync,
    db: Database,
) -> None:
    connections.add(db, None, connections.NewConnection("github", "acme-ü"))
    told = replace(settings, webhook_url=receiver.url, webhook_signing_key="whsec", secret_keys=(KEY,))
    with Project(told, sync) as project:
        run(project)
        tell(project)
        first = receiver.next()
        source.records = [*items(1, 3, 4, 6), *items(5, name="changed")]
        assert call(node, server, ["triggerSync", "github", ["issues"]]) == [DONE]
        run(project)
        tell(project)
        second = receiver.next()
        source.broken[1] = (500, {}, "down")
        assert call(node, server, ["triggerSync", "github", ["issues"]]) == [DONE]
        assert not project.scheduled(sync).success
        tell(project)
        third = receiver.next()
    assert [(one["verified"], one["old"]) for one in (first, second, third)] == [(True, True)] * 3
    assert first["changed"] == [[id, "ADDED"] for id in (1, 2, 3, 4, 5)]
    assert second["changed"] == [[5, "UPDATED"], [6, "ADDED"], [2, "DELETED"]]
    assert (second["webhook"]["syncType"], second["webhook"]["connectionId"]) == ("INCREMENTAL", "acme-ü")
    assert second["webhook"]["responseResults"] == {"added": 1, "updated": 1, "deleted": 1}
    assert (third["webhook"]["success"], third["changed"]) == (False, [])
    whose = {**ACME, "connectionId": "acme-ü", "modifiedAfter": second["webhook"]["modifiedAfter"]}
    (since,) = call(node, server, ["listRecords", whose])
    assert [list(change) for change in listed(since)] == second["changed"]
    bodies = tuple(one["webhook"] for one in (first, second, third))
    types.are("NangoWebhookBody", *bodies)
    types.are("NangoSyncWebhookBody", *bodies)


# --- credentials ----------------------------------------------------------------------------------------------------

HELD: tuple[tuple[dict[str, str], Any], ...] = (
    (CREDENTIALS, CREDENTIALS),
    ({"type": "BASIC", "username": "u", "password": "p"}, {"type": "BASIC", "username": "u", "password": "p"}),
    ({"type": "OAUTH2", "access_token": "t1"}, "t1"),
)


def test_nangos_client_is_given_the_credentials_of_imported_connections(
    node: Path, types: Types, settings_env: dict[str, str], db: Database
) -> None:
    import requests

    whole = []
    with served({**settings_env, "NANGO_SECRET_KEY": KEY, "NANGO_ENCRYPTION_KEY": "a2tr" * 10 + "a2s="}) as api:
        for held, token in HELD:
            body = {"provider_config_key": "github", "connection_id": "acme", "credentials": held}
            headers = {"Authorization": f"Bearer {KEY}"}
            made = requests.post(f"{api.url}/connections", json=body, headers=headers, timeout=30)
            assert made.status_code == 201, made.text
            connection, found = call(node, api, ["getConnection", "github", "acme"], ["getToken", "github", "acme"])
            assert found == token
            whole.append(connection)
    types.accept("getConnection", *whole)
