"""The wire itself: watched sockets, and what can go wrong on them; the only user of `requests`."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import Any, Final, Literal

import requests
import requests.adapters
import urllib3
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    DecodeError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from ..errors import Cancelled, ConfigError
from .values import Place, Response

Reach = Literal["anywhere", "private", "public"]
"""Which addresses may be connected to; `private` is all but link-local ones."""

SLICE: Final = 0.2  # seconds; at least this often a wait asks whether it is still wanted
_CHUNK: Final = 1 << 20
ERROR_BYTES: Final = 64_000  # of an error's body; enough for a sentence, and to keep the connection


@dataclass(frozen=True)
class Limits:
    """Seconds until connected, between two bytes, and for the whole answer; bytes of its body."""

    connect: float
    silence: float
    total: float
    max_bytes: int
    cut: bool = False
    """Whether a longer body is left unread, rather than an error; that of an error always is."""


class TooLarge(Exception):
    """The body is longer than allowed."""


class UnknownEncoding(Exception):
    """The body is compressed in a way that was not asked for."""


class Dawdles(TimeoutError):
    """The whole answer took too long, though bytes kept coming."""


@dataclass
class Watch:
    """What every wait on a socket obeys: the longest silence, a deadline for the whole, and a stop sign."""

    reach: Reach
    silence: float
    ask: Callable[[], None]
    """Raises Cancelled when nobody wants the answer any more."""
    deadline: float = field(default=float("inf"))

    def take_over(self, other: Watch) -> None:
        """Obey from now on what another one says."""
        self.silence, self.ask, self.deadline = other.silence, other.ask, other.deadline

    def recv_into(self, sock: socket.socket, buffer: memoryview) -> int:
        """Receive bytes, in slices short enough to be interrupted."""
        silent_at = monotonic() + self.silence
        timeout = sock.gettimeout()
        try:
            while True:
                asked_at = monotonic()
                self.ask()
                took = monotonic() - asked_at  # by us: that was no silence of the server's
                silent_at, self.deadline = silent_at + took, self.deadline + took
                sock.settimeout(min(SLICE, self._left(silent_at)))
                with contextlib.suppress(TimeoutError):
                    return sock.recv_into(buffer)
        finally:
            # The next request is sent with it.
            with contextlib.suppress(OSError):
                sock.settimeout(timeout)

    def _left(self, silent_at: float) -> float:
        """Seconds until this wait has to end."""
        now = monotonic()
        if now >= self.deadline:
            raise Dawdles
        if now >= silent_at:
            raise TimeoutError
        return min(silent_at, self.deadline) - now

    def admit(self, sock: socket.socket, host: str) -> None:
        """Refuse the address that was really connected to, whatever the name said before or says later."""
        if self.reach != "anywhere":
            refuse(sock.getpeername()[0], host, self.reach)


def refuse(address: str, host: str, reach: Reach) -> None:
    """Raise ConfigError when the address is not to be reached."""
    kind = _kind_of_address(address)
    if kind == "public" or (kind == "private" and reach != "public"):
        return
    where = address if address == host else f"{host} ({address})"
    hint = "set NANGO_ALLOW_PRIVATE_HOSTS=1 to allow it" if kind == "private" else "it is never allowed"
    came = "the URL or its host came over HTTP or from a connection"
    raise ConfigError(f"{where} is a {kind} address, and {came}; {hint}, or use a config file.")


# The metadata services of clouds hand out credentials to whoever asks: AWS on IPv6, Alibaba.
_METADATA = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})


def _kind_of_address(text: str) -> Literal["public", "private", "link-local"]:
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    inner = _embedded(address)
    if inner is not None:
        address = inner
    if address.is_link_local or address in _METADATA:
        return "link-local"
    return "public" if address.is_global and not address.is_multicast else "private"


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv6 one: mapped, 6to4, Teredo or NAT64."""
    if isinstance(address, IPv4Address):
        return None
    if address.packed.startswith(bytes.fromhex("0064ff9b0000000000000000")):
        return IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


class Wire:
    """Connections that are kept alive, for one thread.

    `exchange` sends one request and reads the whole answer. It follows no redirect, keeps no cookies, and
    adds no credentials of its own: a netrc file is never read.

    The connections may be ones that another wire of this process has left open: a run asks one API for thousands of
    accounts, and what says who asks goes along with each request.
    """

    def __init__(self, watch: Watch) -> None:
        self._lock = threading.Lock()
        self._is_busy = False
        self._lines: _Lines | None = _Lines.take(watch)

    def exchange(
        self,
        method: str,
        url: str,
        place: Place,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
    ) -> Response:
        """Send one request and read the whole answer, compressed or not. Raises Cancelled after `close`."""
        with self._lock:
            lines = self._lines
            if lines is None:
                raise Cancelled
            self._is_busy = True
        try:
            return lines.exchange(method, url, place, headers, body, limits)
        finally:
            self._is_busy = False

    def close(self) -> None:
        """Leave the connections to others; where a request is on its way, close them, and it ends."""
        with self._lock:
            lines, self._lines = self._lines, None
            if lines is not None and self._is_busy:
                lines.close()
                return
        if lines is not None:
            lines.rest()


class _Lines:
    """Open connections, and what the environment says about them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._session = requests.Session()
        self._adapter = _Adapter(watch)
        self._environment: dict[str, Mapping[str, Any]] = {}
        self._around = _proxy_settings()
        self._resting_since = 0.0

    @classmethod
    def take(cls, watch: Watch) -> _Lines:
        """Some that rest and reach as far, or new ones."""
        around = _proxy_settings()
        with _resting_lock:
            found = next((one for one in reversed(_resting) if one._fits(watch, around)), None)
            if found is None:
                return cls(watch)
            _resting.remove(found)
        found._watch.take_over(watch)
        return found

    def _fits(self, watch: Watch, around: tuple[str | None, ...]) -> bool:
        return self._watch.reach == watch.reach and self._around == around

    def rest(self) -> None:
        """Wait for another wire; those that have waited for long are closed."""
        self._resting_since = now = monotonic()
        with _resting_lock:
            _resting.append(self)
            kept = [one for one in _resting if now - one._resting_since < _REST_SECONDS][-_MOST_RESTING:]
            gone = [one for one in _resting if one not in kept]
            _resting[:] = kept
        for one in gone:
            one.close()

    def exchange(
        self,
        method: str,
        url: str,
        place: Place,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
    ) -> Response:
        environment = self._environment_of(place)
        if self._watch.reach != "anywhere" and environment["proxies"]:
            _refuse_behind_proxy(place.host, self._watch.reach)
        self._watch.silence = limits.silence
        self._watch.deadline = monotonic() + limits.total
        prepared = requests.PreparedRequest()
        prepared.method = method
        prepared.prepare_url(url, None)
        prepared.headers = CaseInsensitiveDict(headers)
        if body is not None:
            prepared.body = body
            prepared.headers["Content-Length"] = str(len(body))
        timeout = (limits.connect, limits.silence)
        with _unsaid():
            answer = self._adapter.send(prepared, stream=True, timeout=timeout, **environment)
        raw: urllib3.HTTPResponse = answer.raw
        try:
            wanted = limits.max_bytes if raw.status < 300 else min(limits.max_bytes, ERROR_BYTES)
            content = _read(raw, wanted, cut=limits.cut or raw.status >= 300)
        finally:
            if not raw.isclosed():
                raw.close()
        return Response(raw.status, raw.headers, content, url)

    def _environment_of(self, place: Place) -> Mapping[str, Any]:
        """Proxies and certificates as the environment says; asked once per origin, for it costs 0.1 ms."""
        if place.origin not in self._environment:
            settings = self._session.merge_environment_settings(place.origin, {}, True, None, None)
            proxies = settings["proxies"]
            self._environment[place.origin] = {
                # requests answers with all proxies there are, also for a host that needs none.
                "proxies": proxies if requests.utils.select_proxy(place.origin, proxies) else {},
                "verify": settings["verify"],
                "cert": settings["cert"],
            }
        return self._environment[place.origin]

    def close(self) -> None:
        self._adapter.close()
        self._session.close()


_REST_SECONDS: Final = 30.0
_MOST_RESTING: Final = 32
_resting: list[_Lines] = []
_resting_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # two processes cannot share a connection

_AROUND: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle")


def _proxy_settings() -> tuple[str | None, ...]:
    """What of the environment decides how requests are sent."""
    return tuple(os.environ.get(name) for lower in _AROUND for name in (lower, lower.upper()))


def _refuse_behind_proxy(host: str, reach: Reach) -> None:
    """The proxy connects, so look the name up here; a name that only the proxy knows is its to judge."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, address in found:
        refuse(str(address[0]), host, reach)


def _read(raw: urllib3.HTTPResponse, max_bytes: int, *, cut: bool) -> bytes:
    """The decompressed body, never more of it in memory than allowed."""
    encodings = raw.headers.get("Content-Encoding", "").lower().replace(" ", "").split(",")
    if not set(encodings) <= {"", "identity", *raw.CONTENT_DECODERS}:
        raise UnknownEncoding(", ".join(encodings))
    chunks: list[bytes] = []
    left = max_bytes
    while chunk := raw.read(min(_CHUNK, left + 1), decode_content=True):
        chunks.append(chunk)
        left -= len(chunk)
        if left < 0:
            if cut:
                break
            raise TooLarge
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_this_thread = threading.local()


@contextlib.contextmanager
def _unsaid() -> Iterator[None]:
    """Have urllib3 say nothing in this thread: at the level DEBUG it logs each URL, with the secrets in its query."""
    _this_thread.is_ours = True
    try:
        yield
    finally:
        _this_thread.is_ours = False


logging.getLogger("urllib3.connectionpool").addFilter(lambda record: not getattr(_this_thread, "is_ours", False))


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter, with watched sockets and without the parts of an answer that nobody reads."""

    def __init__(self, watch: Watch) -> None:
        self._pools = {
            "http": partial(_pool, HTTPConnectionPool, _Http, watch),
            "https": partial(_pool, HTTPSConnectionPool, _Https, watch),
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
    connection_class: type[_Http] | type[_Https],
    watch: Watch,
    *args: Any,
    **kwargs: Any,
) -> HTTPConnectionPool:
    pool = pool_class(*args, **kwargs)
    pool.ConnectionCls = partial(connection_class, watch)  # type: ignore[assignment]
    return pool


class _Http(HTTPConnection):
    def __init__(self, watch: Watch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = watch
        self.response_class = partial(_Reply, watch)  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _admitted(super()._new_conn(), self)


class _Https(HTTPSConnection):
    def __init__(self, watch: Watch, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.watch = watch
        self.response_class = partial(_Reply, watch)  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _admitted(super()._new_conn(), self)


def _admitted(sock: socket.socket, connection: _Http | _Https) -> socket.socket:
    """The connected socket, before the first byte is sent on it."""
    try:
        if connection.proxy is None:
            connection.watch.admit(sock, connection.host)
    except BaseException:
        sock.close()
        raise
    return sock


class _Reply(http.client.HTTPResponse):
    """An answer that is read through a watch."""

    def __init__(self, watch: Watch, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Watched(watch, sock), *args, **kwargs)  # type: ignore[arg-type]


class _Watched:
    """All of a socket that HTTPResponse uses."""

    def __init__(self, watch: Watch, sock: socket.socket) -> None:
        self._watch = watch
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Source(self._watch, self._sock), 1 << 16)


class _Source(io.RawIOBase):
    def __init__(self, watch: Watch, sock: socket.socket) -> None:
        self._watch = watch
        self._sock = sock
        # Keeps the socket open when the connection lets go of it before the body is read.
        self._hold = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._watch.recv_into(self._sock, buffer)

    def close(self) -> None:
        super().close()
        self._hold.close()


# --- what went wrong, as the rest of the sentence "GET https://... ..." ------------------------------------


@dataclass(frozen=True)
class Breakdown:
    """Why there is no answer, and whether asking again may help."""

    sentence: str
    again: bool


# The first row that matches anything in the chain of exceptions. Their own texts are never used: they may
# hold the URL with all its secrets.
_SENTENCES: Final[tuple[tuple[Any, str, bool], ...]] = (
    (Dawdles, "did not finish within {limits.total:g} s", True),
    (TooLarge, "sent more than {limits.max_bytes:,} bytes, the max_page_bytes of this sync", False),
    (UnknownEncoding, 'sent the Content-Encoding "{cause}"; wanted gzip, deflate or none', False),
    (
        requests.exceptions.ProxyError,
        "failed: the proxy named in the environment does not let it through",
        True,
    ),
    (
        ssl.SSLCertVerificationError,
        "failed: the TLS certificate of {place.host} is not trusted ({cause.verify_message})",
        False,
    ),
    (ssl.SSLEOFError, "failed: {place.host}:{place.port} ended the TLS connection", True),
    (
        ssl.SSLError,
        "failed: {place.host}:{place.port} does not speak TLS as it should ({cause.reason})",
        False,
    ),
    ((NameResolutionError, socket.gaierror), "failed: the name {place.host} cannot be found (DNS)", True),
    (requests.ConnectTimeout, "could not connect within {limits.connect:g} s", True),
    (ConnectionRefusedError, "failed: {place.host} refuses connections on port {place.port}", True),
    (
        (IncompleteRead, http.client.IncompleteRead),
        "sent half a body: the connection closed before its end",
        True,
    ),
    ((TimeoutError, requests.Timeout), "sent nothing for {limits.silence:g} s", True),
    (DecodeError, "sent a body that is not compressed as its Content-Encoding says", True),
    (
        (ConnectionError, ProtocolError, http.client.HTTPException),
        "got no answer: the connection was closed",
        True,
    ),
    (NewConnectionError, "failed: {place.host} cannot be reached", True),
)


def breakdown(error: Exception, place: Place, limits: Limits) -> Breakdown:
    """What an exception of `Wire.exchange` means."""
    found = list(_chain(error))
    for kinds, sentence, again in _SENTENCES:
        for cause in found:
            if isinstance(cause, kinds):
                return Breakdown(sentence.format(cause=cause, place=place, limits=limits), again)
    return Breakdown(f"failed with a {type(error).__name__}", isinstance(error, OSError))


def _chain(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[BaseException]:
    """The exception and all that it was made from."""
    if id(error) in seen:
        return
    seen |= {id(error)}
    yield error
    for cause in (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__):
        if isinstance(cause, BaseException):
            yield from _chain(cause, seen)
