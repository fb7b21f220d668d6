"""The integrations that Nango's client lists: what syncs and connections name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from tests.apis import URL, calling


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


def test_integrations_are_those_that_syncs_and_connections_name(http: TestClient, db: Database) -> None:
    assert http.get("/integrations").json() == {"data": []}
    syncs.register(db, [Sync(name="issues", url=URL, integration="github", unique_key="id"), Sync(name="a", url=URL)])
    for integration in ("github", "crm"):
        connections.add(db, None, integration, "acme")
    found = http.get("/integrations/").json()["data"]
    assert [one["unique_key"] for one in found] == ["crm", "default", "github"]
    assert found[2] == http.get("/integrations/github?include=webhook&include=credentials").json()["data"]
    assert found[2]["created_at"].endswith("Z")
    assert found[2]["created_at"] <= found[2]["updated_at"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/integrations/gitlab", 404, "not_found"),
        ("/integrations/%00", 404, "not_found"),
        ("/integrations?include=webhook", 400, "invalid_query_params"),
        ("/integrations/github?includes=webhook", 400, "invalid_query_params"),
    ],
)
def test_an_integration_that_is_not_there_is_refused(path: str, status: int, code: str, http: TestClient) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
