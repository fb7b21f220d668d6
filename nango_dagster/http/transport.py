"""One exchange of a request and its answer, over connections that are kept open and shared in the process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import DecodeError

from .. import clock
from ..errors import Cancelled
from .addresses import refuse_behind_proxy
from .failures import Limits, TooLarge, UnknownEncoding
from .request import FileBody, Response
from .sockets import Adapter, ReadGuard
from .urls import Server

ERROR_BYTES: Final = 64_000
"""Bytes of an error's body that are read: enough for a sentence, and to keep the connection."""
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Message:
    """A request as it is sent: the whole URL with its query, its server, all headers, and the body."""

    method: str
    url: str = field(repr=False)
    server: Server
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | FileBody | None = field(default=None, repr=False)


class Transport:
    """Connections that are kept alive, for one thread.

    `exchange` sends one request and reads the whole answer. It follows no redirect, keeps no cookies, and adds no
    credentials of its own: a netrc file is never read.

    The connections may have been opened by another transport of this process: a run calls one API for thousands of
    accounts, and the credentials are part of each request.
    """

    def __init__(self, guard: ReadGuard) -> None:
        self._lock = threading.Lock()
        self._is_busy = False
        self._connections: _ConnectionSet | None = _ConnectionSet.take(guard)

    def exchange(self, message: Message, limits: Limits) -> Response:
        """Send one request and read the whole answer, decompressed.

        Raises one of TRANSPORT_ERRORS, ConfigError for an address that may not be reached, or Cancelled.
        """
        with self._lock:
            connections = self._connections
            if connections is None:
                raise Cancelled
            self._is_busy = True
        try:
            return connections.exchange(message, limits)
        finally:
            self._is_busy = False

    def close(self) -> None:
        """Leave the connections to other transports; a request that is on its way ends, and its connections close."""
        with self._lock:
            connections, self._connections = self._connections, None
            if connections is not None and self._is_busy:
                connections.close()
                return
        if connections is not None:
            connections.keep()


class _ConnectionSet:
    """Open connections, and the proxies and certificates that the environment names."""

    def __init__(self, guard: ReadGuard) -> None:
        self._guard = guard
        self._session = requests.Session()
        self._adapter = Adapter(guard)
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._environment = _proxy_environment()
        self._idle_since = 0.0

    @classmethod
    def take(cls, guard: ReadGuard) -> _ConnectionSet:
        """An idle set with the same reach, or a new one."""
        environment = _proxy_environment()
        with _idle_lock:
            idle = next((each for each in reversed(_idle) if each._fits(guard, environment)), None)
            if idle is None:
                return cls(guard)
            _idle.remove(idle)
        idle._guard.replace_with(guard)
        return idle

    def _fits(self, guard: ReadGuard, environment: tuple[str | None, ...]) -> bool:
        return self._guard.reach == guard.reach and self._environment == environment

    def keep(self) -> None:
        """Wait for another transport; sets that have been idle for long are closed."""
        self._idle_since = now = clock.monotonic()
        with _idle_lock:
            _idle.append(self)
            kept = [each for each in _idle if now - each._idle_since < _IDLE_SECONDS][-_MAX_IDLE:]
            expired = [each for each in _idle if each not in kept]
            _idle[:] = kept
        for each in expired:
            each.close()

    def exchange(self, message: Message, limits: Limits) -> Response:
        settings = self._settings_of(message.server)
        if self._guard.reach != "anywhere" and settings["proxies"]:
            refuse_behind_proxy(message.server.host, self._guard.reach)
        self._guard.silence = limits.silence
        self._guard.deadline = clock.monotonic() + limits.total
        timeout = (limits.connect, limits.silence)
        with _without_urllib3_log():
            answer = self._adapter.send(_prepared(message), stream=True, timeout=timeout, **settings)
        raw: urllib3.HTTPResponse = answer.raw
        if limits.streams and raw.status < 300:
            pieces = _closing(raw, _chunks(raw, limits))
            length = raw.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) > limits.max_bytes:
                raw.close()
                raise TooLarge
            return Response(raw.status, raw.headers, next(pieces, b""), message.url, pieces)
        try:
            content = _read_body(raw, limits) if raw.status < 300 else _read_error_body(raw, limits)
        finally:
            if not raw.isclosed():
                raw.close()
        return Response(raw.status, raw.headers, content, message.url)

    def _settings_of(self, server: Server) -> Mapping[str, Any]:
        """The proxies and certificates for a server; computed once per server, because it costs 0.1 ms."""
        if server.origin not in self._settings:
            settings = self._session.merge_environment_settings(server.origin, {}, True, None, None)
            proxies = settings["proxies"]
            self._settings[server.origin] = {
                # requests gives all proxies of the environment, also for a host that needs none.
                "proxies": proxies if requests.utils.select_proxy(server.origin, proxies) else {},
                "verify": settings["verify"],
                "cert": settings["cert"],
            }
        return self._settings[server.origin]

    def close(self) -> None:
        self._adapter.close()
        self._session.close()


def _prepared(message: Message) -> requests.PreparedRequest:
    prepared = requests.PreparedRequest()
    prepared.method = message.method
    prepared.prepare_url(message.url, None)
    prepared.headers = CaseInsensitiveDict(message.headers)
    body = message.body
    if isinstance(body, FileBody):
        body.file.seek(0)
        prepared.body = body.file  # type: ignore[assignment]  # the types of requests know no files
        prepared.headers["Content-Length"] = str(body.size)
    elif body is not None:
        prepared.body, prepared.headers["Content-Length"] = body, str(len(body))
    return prepared


_IDLE_SECONDS: Final = 30.0
_MAX_IDLE: Final = 32
_idle: list[_ConnectionSet] = []
_idle_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # two processes cannot share a connection

_PROXY_NAMES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle")


def _proxy_environment() -> tuple[str | None, ...]:
    """The environment variables that decide how requests are sent."""
    return tuple(os.environ.get(name) for lower in _PROXY_NAMES for name in (lower, lower.upper()))


# No encodings of a transfer, though some servers send them as such; urllib3 leaves the body as it is.
_NO_ENCODINGS: Final = frozenset({"none", "utf-8", "utf8", "us-ascii", "iso-8859-1", "binary", "7bit", "8bit"})


def _read_body(raw: urllib3.HTTPResponse, limits: Limits) -> bytes:
    """The decompressed body; at most one chunk more than `max_bytes` of it is ever in memory."""
    chunks = list(_chunks(raw, limits))
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _is_decompressed_to_its_end(raw: urllib3.HTTPResponse) -> bool:
    """Whether the last compressed member of the body was complete; urllib3 does not look, and has no public way to."""
    decompressor = getattr(getattr(raw, "_decoder", None), "_obj", None)
    return getattr(decompressor, "eof", True)


def _read_error_body(raw: urllib3.HTTPResponse, limits: Limits) -> bytes:
    """The beginning of an error's body; empty where it cannot be decompressed, since the status still counts."""
    try:
        return _read_body(raw, replace(limits, max_bytes=min(limits.max_bytes, ERROR_BYTES), cut=True))
    except (DecodeError, UnknownEncoding):
        return b""


def _chunks(raw: urllib3.HTTPResponse, limits: Limits) -> Iterator[bytes]:
    """The decompressed body in pieces. Raises UnknownEncoding at once, TooLarge, and DecodeError at an early end."""
    encodings = raw.headers.get("Content-Encoding", "").lower().replace(" ", "").split(",")
    if not set(encodings) <= {"", "identity", *_NO_ENCODINGS, *raw.CONTENT_DECODERS}:
        raise UnknownEncoding(", ".join(encodings))
    left, is_empty = limits.max_bytes, True
    read = raw.read1 if limits.streams else raw.read  # what has arrived, or as much as fits
    while chunk := read(min(_CHUNK, left + 1), decode_content=True):
        yield chunk
        is_empty = False
        left -= len(chunk)
        if left < 0:
            if limits.cut:
                return
            raise TooLarge
    if not (is_empty or limits.cut or _is_decompressed_to_its_end(raw)):
        raise DecodeError("the compressed body ends too early")


def _closing(raw: urllib3.HTTPResponse, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of a body, after whose end, or at an error, the answer is closed."""
    try:
        yield from chunks
    finally:
        if not raw.isclosed():
            raw.close()


_this_thread = threading.local()


@contextlib.contextmanager
def _without_urllib3_log() -> Iterator[None]:
    """Silence urllib3's log in this thread: at the level DEBUG it shows each URL with the secrets in its query."""
    _this_thread.is_ours = True
    try:
        yield
    finally:
        _this_thread.is_ours = False


logging.getLogger("urllib3.connectionpool").addFilter(lambda record: not getattr(_this_thread, "is_ours", False))
