"""The integrations that Nango's client lists: what syncs and connections name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster.config import Integration, Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, integrations, syncs
from tests.apis import URL, calling


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


def test_integrations_are_those_that_syncs_and_connections_name(http: TestClient, db: Database) -> None:
    assert http.get("/integrations").json() == {"data": []}
    syncs.register(db, [Sync(name="issues", url=URL, integration="github", unique_key="id"), Sync(name="a", url=URL)])
    for integration in ("github", "crm"):
        connections.add(db, None, connections.NewConnection(integration, "acme"))
    found = http.get("/integrations/").json()["data"]
    assert [one["unique_key"] for one in found] == ["crm", "default", "github"]
    assert found[2] == http.get("/integrations/github?include=webhook&include=credentials").json()["data"]
    assert found[2]["created_at"].endswith("Z")
    assert found[2]["created_at"] <= found[2]["updated_at"]


def test_a_declared_integration_is_shown_with_its_names_and_its_base_url(http: TestClient, db: Database) -> None:
    crm = Integration(
        name="crm", display_name="HubSpot", provider="hubspot", base_url="https://me:pw@api.hubapi.com/v3"
    )
    integrations.declare(db, [crm, Integration(name="github")])
    first = http.get("/integrations/crm").json()["data"]
    assert (first["display_name"], first["provider"]) == ("HubSpot", "hubspot")
    assert first["base_url"] == "https://***@api.hubapi.com/v3"
    integrations.declare(db, [crm])
    assert http.get("/integrations/crm").json()["data"] == first
    integrations.declare(db, [crm.model_copy(update={"display_name": "CRM"})])
    syncs.register(db, [Sync(name="deals", url=URL, integration="crm")])
    listed = http.get("/integrations").json()["data"]
    assert [(one["unique_key"], one["display_name"], one["provider"], one["base_url"]) for one in listed] == [
        ("crm", "CRM", "hubspot", "https://***@api.hubapi.com/v3"),
        ("github", "github", "github", None),
    ]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/integrations/gitlab", 404, "not_found"),
        ("/integrations/%00", 400, "invalid_uri_params"),
        ("/integrations?include=webhook", 400, "invalid_query_params"),
        ("/integrations/github?includes=webhook", 400, "invalid_query_params"),
    ],
)
def test_an_integration_that_is_not_there_is_refused(path: str, status: int, code: str, http: TestClient) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_the_syncs_of_each_integration_are_listed_with_what_they_are_set_to(http: TestClient, db: Database) -> None:
    given: dict[str, Any] = {"model": "GithubIssue", "unique_key": "id", "track_deletes": True}
    issues = Sync(name="issues", url=URL, integration="github", **given)
    syncs.register(db, [issues, Sync(name="people", url=URL, integration="github", unique_key="id"), Sync(url=URL)])
    answer = http.get("/scripts/config", params={"format": "nango"}).json()
    assert [(one["providerConfigKey"], [sync["name"] for sync in one["syncs"]]) for one in answer] == [
        ("default", ["sync"]),
        ("github", ["issues", "people"]),
    ]
    shown = answer[1]["syncs"][0]
    assert (shown["runs"], shown["returns"], shown["track_deletes"]) == ("every hour", ["GithubIssue"], True)
    assert (answer[1]["actions"], answer[1]["on-events"]) == ([], [])
    assert http.get("/scripts/config/?format=openai").json() == {"data": []}
    assert http.get("/scripts/config?format=yaml").json()["error"]["code"] == "invalid_query_params"


# --- functions, as the newest client of Nango asks for syncs --------------------------------------------------------


def test_an_integrations_syncs_are_its_functions(http: TestClient, db: Database) -> None:
    headers = {"Authorization": "Bearer s3cret"}
    names = ("deals", "calls", "a")
    syncs.register(
        db, [Sync(name=name, url=URL, integration="crm", model=f"M{name}", headers=headers) for name in names]
    )
    page = http.get("/integrations/crm/functions?limit=2").json()
    assert [one["name"] for one in page["data"]] == ["a", "calls"]
    assert page["pagination"] == {"total": 3, "page": 0, "limit": 2}
    assert [one["name"] for one in http.get("/integrations/crm/functions?limit=2&page=1").json()["data"]] == ["deals"]
    assert [one["name"] for one in http.get("/integrations/crm/functions?search=ALL").json()["data"]] == ["calls"]
    assert http.get("/integrations/crm/functions?type=action").json()["data"] == []
    function = http.get("/integrations/crm/functions/calls?type=sync").json()["data"]
    assert function == page["data"][1]
    assert (function["type"], function["enabled"], function["runs"]) == ("sync", True, "every hour")
    code = http.get("/integrations/crm/functions/calls/code").json()
    assert code["type"] == "sync" and json.loads(code["code"])["headers"] == {"Authorization": "***"}


@pytest.mark.parametrize("path", ["/functions", "/functions/a", "/functions/a/code"])
def test_functions_of_what_is_not_there_are_refused(path: str, http: TestClient, db: Database) -> None:
    syncs.register(db, [Sync(name="deals", url=URL, integration="crm")])
    for integration in ("cmr", *(["crm"] if path != "/functions" else [])):
        answer = http.get(f"/integrations/{integration}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
