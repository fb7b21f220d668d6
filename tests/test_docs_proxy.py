"""The proxy of docs/how-to/deploy.md, run as it stands there: a login in front of Dagster's webserver."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.apis import free_port
from tests.conftest import ROOT
from tests.executions import until

MUTATION = quote("mutation { launchPipelineExecution { __typename } }")
PASSWORD = {"Authorization": f"Basic {base64.b64encode(b'ann:secret').decode()}"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


async def _executed(request: Request) -> Response:
    return PlainTextResponse(f"executed for {request.headers['host']}")


async def _subscribe(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


@contextlib.contextmanager
def webserver() -> Iterator[int]:
    """The port of a server that executes whatever reaches it, as Dagster's does."""
    routes = [WebSocketRoute("/graphql", _subscribe), Route("/{path:path}", _executed, methods=["GET", "POST"])]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with the server block of the page, on loopback and without TLS."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    assert nginx, "this test needs nginx (apt-get install nginx-light)"
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    (folder / "passwords").write_text("ann:{PLAIN}secret\n")
    with webserver() as upstream:
        (folder / "nginx.conf").write_text(_config(folder, port, upstream))
        command = [nginx, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "errors.log")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            until(lambda: process.poll() is not None or _is_listening(port), what="nginx listens")
            assert process.poll() is None, process.communicate()[1]
            yield port
        finally:
            process.terminate()
            process.communicate()


def _config(folder: Path, port: int, upstream: int) -> str:
    page = (ROOT / "docs/how-to/deploy.md").read_text()
    found = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert found is not None
    block = found[1]
    for written, here in {
        "443 ssl": f"127.0.0.1:{port}",
        "https://dagster.example.com": f"http://127.0.0.1:{port}",
        "server_name dagster.example.com": "server_name 127.0.0.1",
        "/etc/nginx/dagster.htpasswd": str(folder / "passwords"),
        "http://127.0.0.1:3000": f"http://127.0.0.1:{upstream}",
    }.items():
        assert written in block
        block = block.replace(written, here)
    bodies = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors.log; events {{}}"
    return f"{head}\nhttp {{ access_log off; {bodies}\n{block}}}\n"


def _is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def ask(port: int, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """The status and the text of an answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, "" if answer.status == 101 else answer.read().decode()


def test_the_proxy_asks_for_a_password(proxy: int) -> None:
    assert ask(proxy, "GET", "/runs?q=x", {})[0] == 401
    assert ask(proxy, "POST", "/graphql", {})[0] == 401
    assert ask(proxy, "GET", "/graphql", UPGRADE)[0] == 401
    wrong = {"Authorization": f"Basic {base64.b64encode(b'ann:guess').decode()}"}
    assert ask(proxy, "GET", "/", wrong)[0] == 401


def test_with_the_password_pages_posts_and_websockets_pass(proxy: int) -> None:
    own = {**PASSWORD, "Origin": f"http://127.0.0.1:{proxy}"}
    for headers in (PASSWORD, own):
        assert ask(proxy, "GET", "/runs?q=x", headers) == (200, "executed for 127.0.0.1")
        assert ask(proxy, "POST", "/graphql?op=Runs", headers)[0] == 200
        assert ask(proxy, "GET", "/graphql", {**headers, **UPGRADE})[0] == 101


@pytest.mark.parametrize("path", ["/graphql", "//graphql", "/%67raphql", "/runs/../graphql", "/graphql/"])
@pytest.mark.parametrize("name", ["query", "%71uery", "a=b&query"])
def test_a_mutation_in_a_url_is_refused_with_the_password_too(proxy: int, path: str, name: str) -> None:
    for method in ("GET", "HEAD"):
        assert ask(proxy, method, f"{path}?{name}={MUTATION}", PASSWORD)[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1"])
def test_a_page_of_another_site_is_refused_with_the_password_too(proxy: int, origin: str) -> None:
    headers = {**PASSWORD, "Origin": origin}
    assert ask(proxy, "POST", "/graphql", headers)[0] == 403
    assert ask(proxy, "GET", "/graphql", {**headers, **UPGRADE})[0] == 403
