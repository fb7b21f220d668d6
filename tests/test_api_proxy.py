"""`/proxy/PATH`: requests to APIs with a connection's credentials, under the engine's rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from nango_dagster.api.app import create_app
from nango_dagster.config import Integration
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, integrations
from nango_dagster.vault import vault_of
from tests.fake_api import FakeApi, Received, noted
from tests.test_auth_oauth2 import KEY

NAMES = {"Connection-Id": "acme", "Provider-Config-Key": "crm"}


@pytest.fixture
def client(db: Database, settings: Settings, api: FakeApi) -> Iterator[TestClient]:
    settings = replace(settings, encryption_keys=(KEY,))
    held = {"type": "API_KEY", "apiKey": "k1", "header": "X-Key"}
    connections.add(db, vault_of(settings), connections.NewConnection("crm", "acme", credentials=held))
    integrations.declare(db, [Integration(name="crm", base_url=f"{api.url}/v1")])
    with TestClient(create_app(settings, db), "http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        yield client


def test_a_request_is_sent_with_the_credentials_and_the_answer_is_passed_on(client: TestClient, api: FakeApi) -> None:
    received: list[Received] = []
    api.route("/v1/a%2Fb", noted(received, (201, {"X-Total": "7"}, {"ok": True})))
    headers = {**NAMES, "Nango-Proxy-X-Own": "yes", "Content-Type": "text/plain"}
    answer = client.post("/proxy/a%2Fb?x=1&x=2", content=b"plain", headers=headers)
    assert (answer.status_code, answer.headers["X-Total"], answer.json()) == (201, "7", {"ok": True})
    [request] = received
    assert (request.headers["X-Key"], request.headers["X-Own"], request.query) == (
        "k1",
        "yes",
        [("x", "1"), ("x", "2")],
    )
    assert (request.body, request.headers["Content-Type"]) == (b"plain", "text/plain")
    assert "Provider-Config-Key" not in request.headers


def test_an_error_of_the_api_is_passed_on_and_retried_as_asked(client: TestClient, api: FakeApi) -> None:
    api.script("/v1/items", (409, {"Retry-After": "0"}, {}), (404, {}, {"error": "none"}))
    answer = client.get("/proxy/items", headers={**NAMES, "Retries": "1", "Retry-On": "409"})
    assert (answer.status_code, answer.json()) == (404, {"error": "none"})


def test_another_server_gets_no_credentials(client: TestClient, api: FakeApi) -> None:
    received: list[Received] = []
    api.route("/items", noted(received, {}))
    other = api.url.replace("127.0.0.1", "localhost")
    assert client.get("/proxy/items", headers={**NAMES, "Base-Url-Override": other}).status_code == 200
    assert [request.headers["X-Key"] for request in received] == [None]


def test_a_deployment_is_answered_with_the_way_of_scripts_to_the_server(client: TestClient) -> None:
    for path in ("/sync/deploy", "/sync/deploy/confirmation"):
        answer = client.post(path, json={"flowConfigs": []})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_deployed")
        assert "nango-dagster validate" in answer.json()["error"]["message"]


def test_what_cannot_be_sent_is_an_error_with_a_code(client: TestClient, db: Database, api: FakeApi) -> None:
    api.kill()
    integrations.declare(db, [Integration(name="bare")])
    connections.add(db, None, connections.NewConnection("bare", "acme"))
    asked = {
        "/proxy/items": (NAMES, 502, "upstream_unreachable"),
        "/proxy/b": ({**NAMES, "Provider-Config-Key": "bare"}, 400, "invalid_request"),
        "/proxy/c": ({**NAMES, "Connection-Id": "none"}, 404, "unknown_connection"),
        "/proxy/d": ({**NAMES, "Provider-Config-Key": "none"}, 400, "unknown_provider_config"),
        "/proxy/e": ({"Connection-Id": "acme"}, 400, "invalid_headers"),
        "/proxy/f": ({**NAMES, "Retry-On": "all"}, 400, "invalid_headers"),
    }
    for path, (headers, status, code) in asked.items():
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
