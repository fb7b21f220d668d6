"""The HTTP API as a process of its own, and the CPU seconds that it uses."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from .api import Api
from .measure import BenchmarkFailed

_START_SECONDS = 60
_ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def serving(env: Mapping[str, str]) -> Iterator[Api]:
    """`nango-dagster api` on the store that this environment names; gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nango_dagster.cli", "api", "--port", str(port)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NANGO_")}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            env={**inherited, "PYTHONPATH": str(_ROOT), "LOG_LEVEL": "warning", **env},
            stdout=log,
            stderr=log,
        )
        api = Api(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        try:
            _wait_for(api, process)
            yield api
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(api: Api, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{api.url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"the API did not start within {_START_SECONDS} s.") from None
            time.sleep(0.05)
