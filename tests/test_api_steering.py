"""The requests of Nango's client that steer syncs: run, start, pause, cancel, frequency, status, variants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, queue, syncs
from nango_dagster.store.queue import Schedule
from tests.apis import URL, calling

GITHUB = {"provider_config_key": "github"}
ACME = {**GITHUB, "connection_id": "acme"}


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    """An API that knows two syncs of GitHub for acme and beta, one of them with a variant, and one of no connection."""
    found = [Sync(name=name, url=URL, integration="github", unique_key="id") for name in ("issues", "people")]
    rows = syncs.register(db, [*found, Sync(name="rates", url=URL, frequency=120)])
    for connection_id in ("acme", "beta"):
        connections.add(db, None, connections.NewConnection("github", connection_id))
    assert connections.add_variant(db, rows["issues"].id, "acme", "eu")
    with calling(settings, db) as client:
        yield client


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def schedules(db: Database) -> dict[str, Schedule]:
    """The running executions, by the names of their sync, connection and variant."""
    names = {row.id: row.name for row in syncs.all(db)}
    return {f"{names[one.sync_id]} {one.connection_id} {one.variant}": one for one in queue.schedules(db)}


def triggered(db: Database) -> set[str]:
    return {name for name, one in schedules(db).items() if one.triggered_at is not None}


def paused(db: Database) -> set[str]:
    return {name for name, one in schedules(db).items() if one.state == "PAUSED"}


def execute(db: Database, name: str, connection_id: str, *, error: str | None = None, end: bool = True) -> None:
    """An execution, as a run leaves it behind, or while it goes on."""
    (row,) = [row for row in syncs.all(db) if row.name == name]
    worker = queue.start_worker(db, row.id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True, only=[(connection_id, "base")])
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run")
        if end:
            counts = jobs.Counts(added=3, updated=1, pages=1)
            end_of_job = jobs.End("failed" if error else "succeeded", "no_cursor", error=error)
            jobs.finish(connection, db, job_id, counts, end_of_job)
            queue.release(connection, db, claim, succeeded=error is None)
    if end:
        queue.end_worker(db, worker)


# --- who is meant ---------------------------------------------------------------------------------------------------

ALL = {"issues acme base", "issues acme eu", "issues beta base", "people acme base", "people beta base"}


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ({**ACME, "syncs": ["issues"]}, {"issues acme base"}),
        ({**ACME, "syncs": ["issues::eu", "people"]}, {"issues acme eu", "people acme base"}),
        ({**ACME, "syncs": [{"name": "issues", "variant": "eu"}]}, {"issues acme eu"}),
        ({**ACME, "syncs": []}, {name for name in ALL if "acme" in name}),
        ({**GITHUB, "syncs": ["issues"]}, {"issues acme base", "issues beta base"}),
        ({**GITHUB, "syncs": ["issues::eu"]}, {"issues acme eu"}),
        ({**GITHUB, "syncs": ["issues", "gone"]}, {"issues acme base", "issues beta base"}),
        ({**GITHUB, "syncs": []}, ALL),
        ({"provider_config_key": "default", "connection_id": "default", "syncs": ["rates"]}, {"rates default base"}),
    ],
)
def test_a_call_means_what_it_names(body: dict[str, Any], meant: set[str], http: TestClient, db: Database) -> None:
    answer = http.post("/sync/trigger", json=body)
    assert (answer.status_code, answer.content) == (200, b"")
    assert triggered(db) == meant
    for path, there in (("/sync/pause", meant), ("/sync/start/", set())):
        assert http.post(path, json=body, follow_redirects=False).status_code == 200
        assert paused(db) == there


@pytest.mark.parametrize("path", ["trigger", "start", "pause", "cancel"])
@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"provider_config_key": "gitlab", "syncs": []}, (400, "unknown_provider_config")),
        ({**GITHUB, "connection_id": "gone", "syncs": []}, (404, "unknown_connection")),
        ({**ACME, "syncs": ["issues", "gone"]}, (400, "no_syncs_found")),
        ({**ACME, "syncs": ["people::eu"]}, (400, "no_syncs_found")),
        ({**GITHUB, "syncs": ["gone"]}, (400, "no_syncs_found")),
        ({**GITHUB, "syncs": ["rates"]}, (400, "no_syncs_found")),
        ({**GITHUB}, (400, "invalid_body")),
        ({**GITHUB, "syncs": "issues"}, (400, "invalid_body")),
        ({**GITHUB, "syncs": [7]}, (400, "invalid_body")),
        ({**GITHUB, "syncs": [{"name": "issues"}]}, (400, "invalid_body")),
        ({**GITHUB, "syncs": [], "sync": "issues"}, (400, "invalid_body")),
        ({**GITHUB, "syncs": [], "connection_id": 7}, (400, "invalid_body")),
        ({**GITHUB, "syncs": ["issues"] * 257}, (400, "invalid_body")),
    ],
)
def test_a_refused_call_does_nothing(
    path: str, body: dict[str, Any], refused: tuple[int, str], http: TestClient, db: Database
) -> None:
    before = schedules(db)
    assert refusal(http.post(f"/sync/{path}", json=body)) == refused
    assert schedules(db) == before


def test_what_is_wrong_is_said_for_each_field(http: TestClient) -> None:
    error = http.post("/sync/start", json={"syncs": [7, "issues"], "conection_id": "acme"}).json()["error"]
    assert {".".join(one["path"]): one["message"] for one in error["errors"]} == {
        "provider_config_key": "provider_config_key is missing.",
        "conection_id": '"conection_id" is no field of this body; wanted provider_config_key, connection_id, syncs.',
        "syncs.0": "syncs[0] is a number, but should be a sync's name, or an object of name and variant.",
    }
    error = http.post("/sync/start", json={**GITHUB, "syncs": 5}).json()["error"]
    assert error["message"].endswith("syncs is a number, but should be a list.")
    for what, there in (("pause", '"isues"; did you mean'), ("trigger", '"isues" to run; did you mean')):
        assert there in http.post(f"/sync/{what}", json={**GITHUB, "syncs": ["isues"]}).json()["error"]["message"]
    unknown = http.post("/sync/start", json={**GITHUB, "connection_id": "gone", "syncs": []}).json()["error"]
    assert unknown["payload"] == {"connectionId": "gone", "providerConfigKey": "github"}
    assert (
        http.post("/sync/start?wait=1", json={**GITHUB, "syncs": []}).json()["error"]["code"] == "invalid_query_params"
    )


@pytest.mark.parametrize(
    ("change", "code", "path", "message"),
    [
        ({"syncs": None}, "invalid_type", ["syncs"], "syncs is null, but should be a list."),
        (
            {"opts": {"reset": 1}},
            "invalid_type",
            ["opts", "reset"],
            "opts.reset is a number, but should be true or false.",
        ),
        ({"opts": {"Reset": 1}}, "unrecognized_keys", ["opts", "Reset"], '"opts.Reset" is no field of this body.'),
        ({"sync_mode": "x"}, "invalid_value", ["sync_mode"], "sync_mode is \"x\", but should be 'incremental', "),
        (
            {"connection_id": ""},
            "too_small",
            ["connection_id"],
            "connection_id is text, but should have at least 1 char",
        ),
        ({"syncs": ["a"] * 257}, "too_big", ["syncs"], "syncs is a list, but should have at most 256 items."),
        (
            {"syncs": ["a", {"name": 5, "variant": "b"}]},
            "invalid_type",
            ["syncs", "1", "name"],
            "syncs[1].name is a number, but should be text.",
        ),
    ],
)
def test_what_is_wrong_with_a_body_has_a_code_and_a_place(
    change: dict[str, Any], code: str, path: list[str], message: str, http: TestClient
) -> None:
    error = http.post("/sync/trigger", json={**ACME, "syncs": [], **change}).json()["error"]
    (one,) = error["errors"]
    assert (error["code"], one["code"], one["path"]) == ("invalid_body", code, path)
    assert one["message"].startswith(message)


@pytest.mark.parametrize("name", ["Foo", "str", "a[b]", "(one)"])
def test_a_field_that_is_not_known_is_named_whatever_it_is_called(name: str, http: TestClient) -> None:
    (one,) = http.post("/sync/pause", json={**ACME, "syncs": [], name: 1}).json()["error"]["errors"]
    assert one["code"] == "unrecognized_keys"
    assert one["message"].startswith(f'"{name}" is no field of this body; wanted provider_config_key, ')


def test_a_sync_that_may_not_run_is_not_found(http: TestClient, db: Database) -> None:
    off = Sync(name="people", url=URL, integration="github", unique_key="id", enabled=False)
    syncs.register(db, [off])
    assert refusal(http.post("/sync/trigger", json={**ACME, "syncs": ["people"]})) == (400, "no_syncs_found")
    assert http.post("/sync/trigger", json={**ACME, "syncs": []}).status_code == 200
    assert triggered(db) == {"issues acme base", "issues acme eu"}


# --- trigger, start, pause, cancel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reset", "empty"),
    [
        ({}, False, False),
        ({"opts": {"reset": True}}, True, False),
        ({"opts": {"reset": True, "emptyCache": True}}, True, True),
        ({"opts": {"emptyCache": True}}, False, False),
        ({"full_resync": True}, True, False),
        ({"sync_mode": "incremental"}, False, False),
        ({"sync_mode": "full_refresh"}, True, False),
        ({"sync_mode": "full_refresh_and_clear_cache"}, True, True),
    ],
)
def test_a_trigger_may_begin_anew(
    options: dict[str, Any], reset: bool, empty: bool, http: TestClient, db: Database
) -> None:
    assert http.post("/sync/trigger", json={**ACME, "syncs": ["issues"], **options}).status_code == 200
    worker = queue.start_worker(db, schedules(db)["issues acme base"].sync_id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[("acme", "base")])
    assert (claim.reset, claim.empty_cache) == (reset, empty)


def test_the_integration_may_be_a_header(http: TestClient, db: Database) -> None:
    headers = {"Provider-Config-Key": "github", "Connection-Id": "acme"}
    assert http.post("/sync/trigger", json={"syncs": ["people"]}, headers=headers).status_code == 200
    assert triggered(db) == {"people acme base"}
    assert refusal(http.post("/sync/trigger", json={"syncs": []})) == (400, "missing_provider_config_key")
    both = {**ACME, "syncs": [], "opts": {}, "full_resync": True}
    assert refusal(http.post("/sync/trigger", json=both)) == (400, "invalid_body")


def test_only_a_trigger_takes_more_than_the_name_and_variant_of_a_sync(http: TestClient, db: Database) -> None:
    body = {**ACME, "syncs": [{"name": "issues", "variant": "eu", "id": "sync_1"}]}
    for path in ("start", "pause", "cancel"):
        assert refusal(http.post(f"/sync/{path}", json=body)) == (400, "invalid_body")
    assert triggered(db) == set()
    assert http.post("/sync/trigger", json=body).status_code == 200
    assert triggered(db) == {"issues acme eu"}


def test_what_is_executed_can_be_cancelled(http: TestClient, db: Database) -> None:
    execute(db, "issues", "acme", end=False)
    assert http.post("/sync/cancel", json={**ACME, "syncs": ["issues"]}).status_code == 200
    assert [name for name, one in schedules(db).items() if one.cancelled_at] == ["issues acme base"]


# --- frequency --------------------------------------------------------------------------------------------------------


def test_a_connection_may_have_a_frequency_of_its_own(http: TestClient, db: Database) -> None:
    body = {**ACME, "sync_name": "issues", "sync_variant": "eu"}
    path = "/sync/update-connection-frequency"
    assert http.put(path, json={**body, "frequency": "every 5 minutes"}).json() == {"frequency": "every 5 minutes"}
    assert {name: one.frequency for name, one in schedules(db).items() if one.frequency} == {
        "issues acme eu": "every 5 minutes"
    }
    assert http.put(f"{path}/", json={**body, "frequency": None}).json() == {"frequency": "every hour"}
    assert not [one for one in schedules(db).values() if one.frequency]


def test_a_frequency_is_kept_without_the_blanks_around_it(http: TestClient, db: Database) -> None:
    body = {**ACME, "sync_name": "people", "frequency": " every hour\n"}
    assert http.put("/sync/update-connection-frequency", json=body).json() == {"frequency": "every hour"}
    assert [one["frequency"] for one in status(http, "people", connection_id="acme")] == ["every hour"]
    assert schedules(db)["people acme base"].frequency == "every hour"


@pytest.mark.parametrize("bare", ["15", " 15 ", "1.5", " "])
def test_a_frequency_over_the_api_names_its_unit(bare: str, http: TestClient, db: Database) -> None:
    body = {**ACME, "sync_name": "people", "frequency": bare}
    answer = http.put("/sync/update-connection-frequency", json=body)
    assert refusal(answer) == (400, "invalid_body")
    said = 'frequency is text, but should name a unit, as "every 15 minutes" does.'
    assert answer.json()["error"]["message"] == said
    assert schedules(db)["people acme base"].frequency is None


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"frequency": "sometimes"}, (400, "invalid_body")),
        ({"frequency": "every 1 seconds"}, (400, "invalid_body")),
        ({"frequency": 5}, (400, "invalid_body")),
        ({"sync_name": "gone"}, (400, "unknown_sync")),
        ({"sync_variant": "gone"}, (400, "unknown_sync")),
        ({"connection_id": "gone"}, (400, "unknown_connection")),
        ({"provider_config_key": "gitlab"}, (400, "unknown_connection")),
    ],
)
def test_what_is_no_frequency_is_refused(
    change: dict[str, Any], refused: tuple[int, str], http: TestClient, db: Database
) -> None:
    body = {**ACME, "sync_name": "issues", "frequency": "every 5 minutes", **change}
    assert refusal(http.put("/sync/update-connection-frequency", json=body)) == refused
    assert not [one for one in schedules(db).values() if one.frequency]
    del body["frequency"]
    assert refusal(http.put("/sync/update-connection-frequency", json=body)) == (400, "invalid_body")


# --- status -----------------------------------------------------------------------------------------------------------


def status(http: TestClient, names: str = "*", **query: str) -> list[dict[str, Any]]:
    answer = http.get("/sync/status", params={**GITHUB, "syncs": names, **query})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["syncs"]
    return found


def test_status_tells_how_a_sync_is_doing(http: TestClient, db: Database) -> None:
    execute(db, "issues", "acme")
    (one,) = status(http, "issues", connection_id="acme")
    now = datetime.now(timezone.utc)
    finished, following = (one.pop(name) for name in ("finishedAt", "nextScheduledSyncAt"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", finished)
    assert now < datetime.fromisoformat(following.replace("Z", "+00:00")) < now + timedelta(hours=1, seconds=1)
    assert re.fullmatch(r"sync_\d+", one.pop("id"))
    assert one == {
        "connection_id": "acme",
        "name": "issues",
        "variant": "base",
        "type": "INCREMENTAL",
        "status": "SUCCESS",
        "frequency": "every hour",
        "latestResult": {"Issues": {"added": 3, "updated": 1, "deleted": 0}},
        "latestExecutionStatus": "SUCCESS",
        "recordCount": {"Issues": 0},
        "checkpoint": None,
    }


def test_status_says_the_state_in_nango_s_words(http: TestClient, db: Database) -> None:
    execute(db, "issues", "acme", error="issues: it answered 500.")
    execute(db, "people", "beta", end=False)
    assert http.post("/sync/pause", json={**ACME, "syncs": ["people", "issues::eu"]}).status_code == 200
    found = {f"{one['name']} {one['connection_id']} {one['variant']}": one for one in status(http)}
    assert {name: (one["status"], one.get("latestExecutionStatus")) for name, one in found.items()} == {
        "issues acme base": ("ERROR", "STOPPED"),
        "issues acme eu": ("PAUSED", None),
        "issues beta base": ("SUCCESS", None),
        "people acme base": ("PAUSED", None),
        "people beta base": ("RUNNING", "RUNNING"),
    }
    assert found["people acme base"]["nextScheduledSyncAt"] is None
    assert "finishedAt" not in found["people beta base"]
    assert len({one["id"] for one in found.values()}) == 5


@pytest.mark.parametrize(
    ("names", "query", "found"),
    [
        ("*", {"connection_id": "beta"}, ["issues base", "people base"]),
        ("issues", {"connection_id": "acme"}, ["issues base"]),
        ("people,issues::eu,gone", {"connection_id": "acme"}, ["issues eu", "people base"]),
        ("", {}, []),
        ("*", {"provider_config_key": "gitlab"}, []),
    ],
)
def test_status_is_of_the_syncs_that_are_named(
    names: str, query: dict[str, str], found: list[str], http: TestClient
) -> None:
    assert [f"{one['name']} {one['variant']}" for one in status(http, names, **query)] == found


def test_status_refuses_what_it_does_not_know(http: TestClient) -> None:
    for query, refused in (
        ({**GITHUB, "syncs": "*", "connection_id": "gone"}, (400, "invalid_body")),
        ({**GITHUB}, (400, "invalid_query_params")),
        ({"syncs": "*"}, (400, "invalid_query_params")),
        ({**GITHUB, "syncs": "*", "conection_id": "acme"}, (400, "invalid_query_params")),
    ):
        assert refusal(http.get("/sync/status", params=query)) == refused


# --- variants ---------------------------------------------------------------------------------------------------------


def test_a_variant_is_made_and_deleted(http: TestClient, db: Database) -> None:
    made = http.post("/sync/people/variant/us-1", json=ACME)
    assert (made.status_code, made.json()["name"], made.json()["variant"]) == (200, "people", "us-1")
    assert [one["id"] for one in status(http, "people::us-1")] == [made.json()["id"]]
    gone = http.request("DELETE", "/sync/people/variant/us-1/", json=ACME)
    assert (gone.status_code, gone.content) == (200, b"")
    assert status(http, "people::us-1") == []


@pytest.mark.parametrize(
    ("path", "body", "post", "delete"),
    [
        ("people/variant/base", ACME, (400, "invalid_variant"), (400, "invalid_variant")),
        ("people/variant/Base", ACME, (400, "invalid_variant"), (400, "invalid_variant")),
        ("gone/variant/us", ACME, (400, "unknown_sync"), (404, "not_found")),
        ("issues/variant/eu", ACME, (400, "sync_variant_already_exists"), None),
        (
            "people/variant/us",
            {**GITHUB, "connection_id": "gone"},
            (400, "unknown_connection"),
            (400, "unknown_connection"),
        ),
        (
            "people/variant/us",
            {"provider_config_key": "gitlab", "connection_id": "acme"},
            (400, "unknown_connection"),
            (400, "unknown_connection"),
        ),
        ("people/variant/us", GITHUB, (400, "invalid_body"), (400, "invalid_body")),
        ("people/variant/a b", ACME, (400, "invalid_uri_params"), (400, "invalid_uri_params")),
        (f"people/variant/{'a' * 256}", ACME, (400, "invalid_uri_params"), (400, "invalid_uri_params")),
    ],
)
def test_a_variant_that_cannot_be_is_refused(
    path: str,
    body: dict[str, str],
    post: tuple[int, str],
    delete: tuple[int, str] | None,
    http: TestClient,
    db: Database,
) -> None:
    before = schedules(db)
    assert refusal(http.post(f"/sync/{path}", json=body)) == post
    if delete is not None:
        assert refusal(http.request("DELETE", f"/sync/{path}", json=body)) == delete
    assert schedules(db) == before


def test_a_sync_without_connections_gets_no_variant(http: TestClient, db: Database) -> None:
    before = set(schedules(db))
    answer = http.post("/sync/rates/variant/eu", json={"provider_config_key": "default", "connection_id": "default"})
    assert refusal(answer) == (400, "failed_sync_variant_creation")
    assert "rates has no connections, for it names no integration; so it has no variants either." in answer.text
    assert set(schedules(db)) == before


def test_a_connection_has_a_hundred_variants_at_most(http: TestClient, db: Database) -> None:
    sync_id = schedules(db)["people acme base"].sync_id
    for number in range(99):
        connections.add_variant(db, sync_id, "acme", f"v{number}")
    assert refusal(http.post("/sync/people/variant/one-more", json=ACME)) == (400, "resource_capped")


def test_a_name_in_a_header_may_be_utf_8_or_latin_1(http: TestClient, db: Database) -> None:
    connections.add(db, None, connections.NewConnection("github", "ü"))
    for spelled in ("ü".encode(), "ü".encode("latin-1")):
        headers = {b"provider-config-key": b"github", b"connection-id": spelled}
        assert http.post("/sync/trigger", json={"syncs": ["people"]}, headers=headers).status_code == 200
        assert "people ü base" in triggered(db)
        read = http.get("/records?model=People", headers=headers)
        assert (read.status_code, read.json()["records"]) == (200, [])
