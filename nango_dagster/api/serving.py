"""The process that listens: where it may bind, and how many workers it has."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import logging
import logging.config
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import tempfile
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import uvicorn
import uvicorn.config
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from ..errors import ConfigError
from ..http.addresses import is_loopback
from ..settings import Settings
from .app import create_app
from .gate.protocol import LimitedProtocol
from .routes.metrics import SHARED

log = logging.getLogger(__name__)

GRACE_SECONDS = 20
"""So long a request that is being answered may take to end when the process is told to stop."""
_HANDED = "_NANGO_API_SETTINGS"  # to the worker processes, which import the app anew


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 3003, workers: int = 1) -> None:
    """Serve the API until the process is told to stop.

    Raises ConfigError when it may not listen there: without a key only this machine may reach it.
    """
    _check_host(settings, host)
    sockets = _listen(host, port)
    logging.config.dictConfig(_log_config(settings.log_level))
    log.info("The API listens on http://%s:%s; its reference is at /docs.", host, port)
    if not settings.secret_keys:
        log.warning("The API has no key: whoever uses this machine may use it. NANGO_SECRET_KEY sets one.")
    options = server_options(settings)
    if workers == 1:
        uvicorn.Server(uvicorn.Config(create_app(settings), **options)).run(sockets)
        return
    os.environ[_HANDED] = _packed(settings)
    config = uvicorn.Config(f"{__name__}:app", factory=True, workers=workers, **options)
    with tempfile.TemporaryDirectory(prefix="nango-api-") as shared:
        os.environ[SHARED] = shared
        Multiprocess(config, sockets).run()


def server_options(settings: Settings) -> dict[str, Any]:
    """The options of uvicorn."""
    return {
        "log_config": _log_config(settings.log_level),  # the workers' too
        "access_log": False,  # the guard's line leaves out the query
        "server_header": False,
        "http": LimitedProtocol,
        "ws": "none",
        "timeout_graceful_shutdown": GRACE_SECONDS,
        # Longer than clients keep an idle connection: one that the server closes first breaks the next request.
        "timeout_keep_alive": settings.api_keep_alive,
    }


def app() -> FastAPI:
    """The app of a worker process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="nango-api-parent", daemon=True).start()
    return create_app(_unpacked(os.environ[_HANDED]), shared=Path(os.environ[SHARED]))


def _end_with(parent: int) -> None:
    """End when the process that started this one has died without ending it."""
    multiprocessing.connection.wait([parent])
    os.kill(os.getpid(), signal.SIGTERM)


def _check_host(settings: Settings, host: str) -> None:
    if not settings.secret_keys and not is_loopback(host):
        raise ConfigError(
            f"the API has no key, and at {host} others could reach it. Set NANGO_SECRET_KEY to a long random text, "
            "or listen on 127.0.0.1."
        )


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address that a host has: `localhost` is often both 127.0.0.1 and ::1."""
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        trouble: OSError | None = None
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in infos):
                bound = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _bind(bound, address)
                sockets.append(bound)
        except OSError as error:
            trouble = error
        if trouble and (not sockets or trouble.errno == errno.EADDRINUSE):
            raise ConfigError(f"cannot listen on {host}, port {port}: {trouble.strerror or trouble}.") from None
        stack.pop_all()
    return sockets


def _bind(sock: socket.socket, address: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(address)
    sock.listen(2048)


def _log_config(level: str) -> dict[str, Any]:
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    config["loggers"]["nango_dagster"] = {"handlers": ["default"], "level": level.upper(), "propagate": False}
    return config


def _packed(settings: Settings) -> str:
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    values |= {"env": dict(settings.env), "webhook_on": list(settings.webhook_on)}
    return json.dumps(values, default=str)


def _unpacked(text: str) -> Settings:
    values: dict[str, Any] = json.loads(text)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values |= {name: Path(values[name]) for name in ("home", "configs", "scripts")}
    return Settings(**{**values, "webhook_on": frozenset(values["webhook_on"])})
