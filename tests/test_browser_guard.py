"""The guard before Dagster's webserver: pages of other sites cannot use it, and its own pages can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from nango_dagster.defs.browser_guard import BrowserGuard

WEBSOCKET = "ws://127.0.0.1:3000/graphql"
MUTATION = "mutation { launchPipelineExecution { __typename } }"


async def _graphql(request: Request) -> Response:
    return PlainTextResponse("executed")


async def _subscribe(websocket: WebSocket) -> None:
    await websocket.accept("graphql-ws")
    await websocket.send_text("subscribed")
    await websocket.close()


@pytest.fixture
def webserver() -> Iterator[TestClient]:
    routes = [Route("/graphql", _graphql, methods=["GET", "POST"]), WebSocketRoute("/graphql", _subscribe)]
    app = Starlette(routes=routes)
    app.add_middleware(BrowserGuard)
    with TestClient(app, base_url="http://127.0.0.1:3000") as client:
        yield client


@pytest.mark.parametrize("origin", [None, "http://127.0.0.1:3000"])
def test_its_own_pages_and_programs_of_this_machine_use_it(webserver: TestClient, origin: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert webserver.post("/graphql", json={"query": MUTATION}, headers=headers).text == "executed"
    assert webserver.get("/graphql", headers=headers).text == "executed"
    with webserver.websocket_connect(WEBSOCKET, headers=headers) as connection:
        assert connection.receive_text() == "subscribed"


@pytest.mark.parametrize("query", [MUTATION, "%6Dutation{a}", "{ version }", ""])
def test_a_query_in_a_url_is_refused(webserver: TestClient, query: str) -> None:
    answer = webserver.get(f"/graphql?query={query}")
    assert answer.status_code == 403 and "send it by POST" in answer.text


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:8000", "http://localhost:3000", "http://["]
)
def test_a_page_of_another_site_is_refused(webserver: TestClient, origin: str) -> None:
    answer = webserver.post("/graphql", json={"query": MUTATION}, headers={"Origin": origin})
    assert answer.status_code == 403 and "another site" in answer.text
    with (
        pytest.raises(WebSocketDisconnect),
        webserver.websocket_connect(WEBSOCKET, headers={"Origin": origin}) as connection,
    ):
        connection.receive_text()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3000", "10.0.0.1:3000", "localhost.evil.example", ""])
def test_a_host_name_that_was_made_to_lead_here_is_refused(webserver: TestClient, host: str) -> None:
    """DNS rebinding: the page's own name leads to this machine, so that its Origin equals the Host."""
    headers = {"Host": host, "Origin": f"http://{host}"}
    answer = webserver.post("/graphql", json={"query": MUTATION}, headers=headers)
    assert answer.status_code == 403 and "names another machine" in answer.text
    with pytest.raises(WebSocketDisconnect), webserver.websocket_connect(WEBSOCKET, headers=headers) as connection:
        connection.receive_text()


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "dagster.localhost"])
def test_every_name_of_this_machine_is_served(webserver: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert webserver.post("/graphql", json={"query": MUTATION}, headers=headers).text == "executed"
