"""Sockets whose waits can be interrupted, and the pools of `requests` that use them."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import requests
import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError

from .. import clock
from .addresses import Reach, allowed_addresses
from .failures import TotalTimeout

SLICE: Final = 0.2
"""Seconds; a wait checks at least this often whether it has been cancelled."""


@dataclass
class ReadGuard:
    """The rules of every wait for bytes: the longest silence, a deadline for the whole answer, and cancellation."""

    reach: Reach
    silence: float
    check: Callable[[], None]
    """Raises Cancelled when nobody needs the answer any more."""
    deadline: float = field(default=float("inf"))

    def replace_with(self, other: ReadGuard) -> None:
        """Take over the rules of another guard."""
        self.silence, self.check, self.deadline = other.silence, other.check, other.deadline

    def recv_into(self, sock: socket.socket, buffer: memoryview) -> int:
        """Receive bytes, in slices short enough to be interrupted. Raises TimeoutError, TotalTimeout or Cancelled."""
        silent_at = clock.monotonic() + self.silence
        timeout = sock.gettimeout()
        try:
            while True:
                check_began = clock.monotonic()
                self.check()
                # The time of the check is ours; it does not count as silence of the server.
                check_took = clock.monotonic() - check_began
                silent_at, self.deadline = silent_at + check_took, self.deadline + check_took
                sock.settimeout(min(SLICE, self._seconds_left(silent_at)))
                with contextlib.suppress(TimeoutError):
                    return sock.recv_into(buffer)
        finally:
            # The next request is sent with the connection's own timeout.
            with contextlib.suppress(OSError):
                sock.settimeout(timeout)

    def _seconds_left(self, silent_at: float) -> float:
        now = clock.monotonic()
        if now >= self.deadline:
            raise TotalTimeout
        if now >= silent_at:
            raise TimeoutError
        return min(silent_at, self.deadline) - now


class Adapter(requests.adapters.HTTPAdapter):
    """The adapter of `requests` with guarded sockets, and without the parts of an answer that nothing here reads."""

    def __init__(self, guard: ReadGuard) -> None:
        self._pools = {
            "http": partial(_pool, HTTPConnectionPool, _PlainConnection, guard),
            "https": partial(_pool, HTTPSConnectionPool, _TlsConnection, guard),
        }
        super().__init__(pool_connections=4, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.raw = resp
        return response


def _pool(
    pool_class: type[HTTPConnectionPool],
    connection_class: type[_PlainConnection] | type[_TlsConnection],
    guard: ReadGuard,
    *args: Any,
    **kwargs: Any,
) -> HTTPConnectionPool:
    pool = pool_class(*args, **kwargs)
    pool.ConnectionCls = partial(connection_class, guard)  # type: ignore[assignment]
    return pool


class _PlainConnection(HTTPConnection):
    def __init__(self, guard: ReadGuard, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard = guard
        self.response_class = partial(_GuardedResponse, guard)  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)


class _TlsConnection(HTTPSConnection):
    def __init__(self, guard: ReadGuard, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard = guard
        self.response_class = partial(_GuardedResponse, guard)  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _connected(self, super()._new_conn)


def _connected(connection: _PlainConnection | _TlsConnection, connect: Callable[[], socket.socket]) -> socket.socket:
    """A connected socket. An address is checked before the connection is made, and exactly that one is connected to.

    So a name cannot lead elsewhere after the check, and no answer shows which ports of a refused address are open.
    """
    reach = connection.guard.reach
    if reach == "anywhere" or connection.proxy is not None:
        return connect()
    host = connection.host
    try:
        addresses = allowed_addresses(host, connection.port, reach)
    except socket.gaierror as error:
        raise NameResolutionError(host, connection, error) from error
    try:
        for address in addresses[:-1]:
            connection.host = address
            with contextlib.suppress(HTTPError, OSError):  # the next address may answer; the last error is raised
                return connect()
        connection.host = addresses[-1]
        return connect()
    finally:
        connection.host = host


class _GuardedResponse(http.client.HTTPResponse):
    """An answer that is read under a guard."""

    def __init__(self, guard: ReadGuard, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_GuardedSocket(guard, sock), *args, **kwargs)  # type: ignore[arg-type]


class _GuardedSocket:
    """The part of a socket's interface that HTTPResponse uses."""

    def __init__(self, guard: ReadGuard, sock: socket.socket) -> None:
        self._guard = guard
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_GuardedStream(self._guard, self._sock), 1 << 16)


class _GuardedStream(io.RawIOBase):
    def __init__(self, guard: ReadGuard, sock: socket.socket) -> None:
        self._guard = guard
        self._sock = sock
        # Keeps the socket open when the connection lets go of it before the body is read.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._guard.recv_into(self._sock, buffer)

    def close(self) -> None:
        super().close()
        self._file.close()
