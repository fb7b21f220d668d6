"""`/proxy/PATH`: requests to APIs with a connection's credentials, under the engine's rules."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient

from nango_dagster.api.app import create_app
from nango_dagster.config import Integration, Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, integrations, syncs
from nango_dagster.vault import vault_of
from tests.apis import calling, listening
from tests.fake_api import Answer, FakeApi, Received, Reply, half, noted
from tests.test_auth_oauth2 import KEY

NAMES = {"Connection-Id": "acme", "Provider-Config-Key": "crm"}


@pytest.fixture
def proxied(db: Database, settings: Settings, api: FakeApi) -> Settings:
    """The settings of an API with an integration and a connection."""
    settings = replace(settings, encryption_keys=(KEY,))
    held = {"type": "API_KEY", "apiKey": "k1", "header": "X-Key"}
    connections.add(db, vault_of(settings), connections.NewConnection("crm", "acme", credentials=held))
    integrations.declare(db, [Integration(name="crm", base_url=f"{api.url}/v1")])
    return settings


@pytest.fixture
def client(proxied: Settings, db: Database) -> Iterator[TestClient]:
    with TestClient(create_app(proxied, db), "http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
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


def test_an_answer_is_passed_on_while_it_arrives(db: Database, api: FakeApi, proxied: Settings) -> None:
    """The API sends the next piece when the caller has the one before; the memory holds a few of them."""
    is_read, piece = threading.Event(), b"x" * 65_536

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert is_read.wait(10)
        yield from (piece for _ in range(300))

    api.route("/v1/items", Answer(200, {}, pieces()))
    api.route("/v1/broken", Answer(200, {}, half(b"y" * 500_000).body, claims=1_000_000))
    with listening(proxied, db) as port, requests.Session() as session:
        session.headers.update({**NAMES, "Accept-Encoding": "identity"})
        url = f"http://127.0.0.1:{port}/proxy"
        with session.get(f"{url}/items", stream=True) as answer:
            parts = answer.iter_content(None)
            assert next(parts) == b"first"
            tracemalloc.start()
            is_read.set()
            assert sum(map(len, parts)) == 300 * len(piece)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            session.get(f"{url}/broken")
        assert session.get(f"{url}/none").status_code == 404
    assert peak < 8_000_000, peak


def test_a_long_body_is_sent_whole_and_again_where_the_caller_wants_retries(client: TestClient, api: FakeApi) -> None:
    bodies: list[bytes] = []

    def answer(request: Received) -> Reply:
        bodies.append(request.body)
        return {} if len(bodies) > 1 else (409, {"Retry-After": "0"}, {})

    api.route("/v1/files", answer)
    content = bytes(range(256)) * 8000
    sent = client.put("/proxy/files", content=content, headers={**NAMES, "Retries": "1", "Retry-On": "409"})
    assert (sent.status_code, bodies) == (200, [content, content])


def test_a_body_and_an_answer_have_a_limit(db: Database, api: FakeApi, proxied: Settings) -> None:
    api.route("/v1/items", Answer(200, {}, b"x" * 2_000_000))
    with calling(proxied, db, proxy_bytes=1_000_000) as client:
        long = client.post("/proxy/items", content=b"x" * 1_000_001, headers=NAMES)
        assert (long.status_code, long.json()["error"]["code"]) == (413, "request_too_large")
        answer = client.get("/proxy/items", headers=NAMES)
        assert (answer.status_code, "NANGO_PROXY_MAX_MB" in answer.json()["error"]["message"]) == (502, True)


def test_the_rules_of_the_syncs_of_an_integration_apply(db: Database, api: FakeApi, client: TestClient) -> None:
    """Their headers are those of all of them; a spent quota is refused before a request is sent."""
    received: list[Received] = []
    api.route("/v1/items", noted(received, {}))
    shared: dict[str, Any] = {"integration": "crm", "unique_key": "id", "daily_quota": 1}
    two = [Sync(name=name, url=f"{api.url}/{name}", headers={"X-All": "yes", "X-One": name}, **shared) for name in "ab"]
    syncs.register(db, two)
    assert client.get("/proxy/items", headers=NAMES).status_code == 200
    assert (received[0].headers["X-All"], received[0].headers["X-One"]) == ("yes", None)
    spent = client.get("/proxy/items", headers=NAMES)
    assert (spent.status_code, spent.json()["error"]["code"], len(received)) == (429, "too_many_request", 1)
    assert 0 < int(spent.headers["Retry-After"]) <= 86_400


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
