"""A small real HTTP/1.1 server on loopback: tests say what it answers, and ask what it was sent."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from types import TracebackType
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: Message
    body: bytes
    connection: int
    at: float = field(default_factory=monotonic)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def params(self) -> dict[str, str]:
        return dict(self.query)

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Answer:
    """An answer: `body` as bytes, text, any JSON, or an iterable of bytes that are sent one by one.

    `claims` is a Content-Length other than the true one; `hang_up` closes the connection without a word.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""
    claims: int | None = None
    hang_up: bool = False


Reply: TypeAlias = Any  # an Answer, a tuple (status, headers, body), or the JSON of a 200
Handler: TypeAlias = Callable[[Received], Reply]

HANG_UP = Answer(hang_up=True)


def noted(received: list[Received], reply: Reply) -> Handler:
    """A handler that keeps each request and answers all of them alike."""

    def answer(request: Received) -> Reply:
        received.append(request)
        return reply

    return answer


def half(body: bytes) -> Answer:
    """The first half of a body whose length was announced in full."""
    return Answer(body=body[: len(body) // 2], claims=len(body))


def html(text: str = "<!doctype html><title>Sign in</title>", status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "text/html; charset=utf-8"}, text)


def gzipped(value: Any) -> Answer:
    return Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(json.dumps(value).encode()))


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status, {"Location": location})


class FakeApi:
    """A server with routes. It keeps connections alive, and can be killed and started again on its port.

    >>> import urllib.request
    >>> with FakeApi() as api:
    ...     api.route("/items", lambda request: [{"id": request.params["page"]}])
    ...     urllib.request.urlopen(api.url + "/items?page=2").read()
    b'[{"id": "2"}]'
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.errors: list[Exception] = []
        self.stopped = threading.Event()
        """Set once the server is killed; a handler that dawdles waits on it."""
        self._routes: dict[str, Handler] = {}
        self._tls = tls
        self._port = 0
        self._server: _Server | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections carried requests so far."""
        return len({request.connection for request in self.requests})

    def route(self, path: str, reply: Handler | Reply) -> None:
        """Answer requests to `path` with a reply, or with what a function makes of the request.

        A path that ends in `*` answers all that begin so.
        """
        self._routes[path] = reply if callable(reply) else lambda request: reply

    def script(self, path: str, *replies: Handler | Reply) -> None:
        """Answer the first request to `path` with the first reply, and so on; the last one stays."""
        left = list(replies)

        def next_reply(request: Received) -> Reply:
            reply = left.pop(0) if len(left) > 1 else left[0]
            return reply(request) if callable(reply) else reply

        self.route(path, next_reply)

    def reply_to(self, request: Received) -> Answer:
        self.requests.append(request)
        handler = self._handler(request.path)
        if handler is None:
            return Answer(404, body={"error": f"no route {request.path}"})
        try:
            return _answer(handler(request))
        except Exception as error:
            self.errors.append(error)
            return Answer(500, body=f"the test's handler failed: {error!r}")

    def _handler(self, path: str) -> Handler | None:
        if path in self._routes:
            return self._routes[path]
        prefixes = [route for route in self._routes if route.endswith("*") and path.startswith(route[:-1])]
        return self._routes[max(prefixes, key=len)] if prefixes else None

    def start(self) -> None:
        """Listen; the second time on the same port as before."""
        self.stopped.clear()
        self._server = _Server(self, self._port, self._tls)
        self._port = self._server.server_address[1]

    def kill(self) -> None:
        """Stop listening and cut every connection, also those with half an answer sent."""
        self.stopped.set()
        if self._server is not None:
            self._server.kill()
            self._server = None

    def __enter__(self) -> FakeApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if error is None and self.errors:
            raise self.errors[0]


def _answer(reply: Reply) -> Answer:
    if isinstance(reply, Answer):
        return reply
    if isinstance(reply, tuple):
        return Answer(*reply)
    return Answer(body=reply)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() joins them
    request_queue_size = 128
    server_address: tuple[str, int]

    def __init__(self, api: FakeApi, port: int, tls: ssl.SSLContext | None) -> None:
        self.api = api
        self._tls = tls
        self._open: dict[int, socket.socket] = {}
        self.accepted = 0
        super().__init__(("127.0.0.1", port), _Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="fake-api", daemon=True)
        self._thread.start()

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._open[id(sock)] = sock
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(id(request), None)
        super().shutdown_request(request)

    def kill(self) -> None:
        self.shutdown()
        self._thread.join()
        self.socket.close()
        for sock in list(self._open.values()):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news here."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one send for head and body
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.accepted += 1
        self.number = self.server.accepted

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Received(self.command, self.path, self.headers, body, self.number)
        answer = self.server.api.reply_to(request)
        if answer.hang_up:
            self.close_connection = True
            return
        self._send(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_SEARCH = do_QUERY = _serve

    def _send(self, answer: Answer) -> None:
        body, content_type = _encoded(answer.body)
        self.send_response(answer.status)
        for name, value in {"Content-Type": content_type, **answer.headers}.items():
            self.send_header(name, value)
        if not isinstance(body, bytes):
            self._send_pieces(body, answer)
            return
        self.send_header("Content-Length", str(len(body) if answer.claims is None else answer.claims))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or answer.claims is not None

    def _send_pieces(self, pieces: Iterable[bytes], answer: Answer) -> None:
        """Chunked, or with the claimed length; each piece leaves as soon as it is there."""
        chunked = answer.claims is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(answer.claims))
        self.end_headers()
        self.wfile.flush()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Tests ask `api.requests` instead."""


def _encoded(body: Any) -> tuple[bytes | Iterable[bytes], str]:
    if isinstance(body, bytes):
        return body, "application/json"
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, dict | list) or body is None:
        return json.dumps(body).encode(), "application/json"
    return body, "application/json"
