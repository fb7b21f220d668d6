"""The API as tests use it: inside this process for the many small ones, as a real server for the others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from nango_dagster.api import create_app
from nango_dagster.api.serving import server_options
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.conftest import ROOT
from tests.executions import until

URL = "https://api.example.com/items"


@contextlib.contextmanager
def calling(
    settings: Settings, database: Database | None = None, *, client: str = "127.0.0.1", **changes: Any
) -> Iterator[TestClient]:
    """A client of the API of these settings, some of them changed; it comes from this machine unless said."""
    app = create_app(replace(settings, **changes), database)
    app.add_middleware(_From, client=client)
    with TestClient(app, base_url="http://localhost:3003") as calls:
        yield calls


class _From:
    """Has every request come from one address."""

    def __init__(self, app: ASGIApp, client: str) -> None:
        self._app = app
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "client": (self._client, 50000)}, receive, send)


@contextlib.contextmanager
def listening(settings: Settings, database: Database | None = None) -> Iterator[int]:
    """A real server in a thread of this process; the port that it listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {**server_options(settings), "log_config": None}
        server = uvicorn.Server(uvicorn.Config(create_app(settings, database), **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Served:
    """A real API in a process of its own."""

    url: str
    process: subprocess.Popen[bytes]
    file: Path

    @property
    def log(self) -> str:
        """The output of all its processes so far."""
        return self.file.read_text()

    def stop(self) -> str:
        """Stop it as an operator does; what it has logged."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        return self.log


@contextlib.contextmanager
def served(env: Mapping[str, str], *, workers: int = 1) -> Iterator[Served]:
    """The API of this environment on a free port of loopback."""
    port = free_port()
    code = (
        "from nango_dagster.api import serve\nfrom nango_dagster.settings import Settings\n"
        f"serve(Settings.from_env(dotenv=None), '127.0.0.1', {port}, workers={workers})"
    )
    with tempfile.TemporaryDirectory() as folder, Path(folder, "api.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        api = Served(f"http://127.0.0.1:{port}", process, Path(log.name))
        try:
            until(lambda: _serves(api, workers), 60, "the API serves")
            yield api
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _serves(api: Served, workers: int) -> bool:
    """Whether each worker serves: an answer alone proves only that one of them does."""
    assert api.process.poll() is None, api.log
    if api.log.count("Application startup complete") < workers:
        return False
    try:
        with urllib.request.urlopen(f"{api.url}/health", timeout=5):
            return True
    except OSError:
        return False
