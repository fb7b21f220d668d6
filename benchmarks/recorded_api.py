"""An HTTPS proxy that answers requests as a recorded test of a sync script has them."""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DROPPED = {
    "content-encoding",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "date",
    "retry-after",
}


@dataclass
class Answer:
    """One recorded answer to requests of a path."""

    method: str
    path: str
    params: Mapping[str, str] | None
    data: Any
    status: int
    headers: Mapping[str, str]
    body: Any
    used: int = 0


@dataclass
class Recorded:
    """The recorded answers of one sync."""

    answers: list[Answer] = field(default_factory=list)

    @classmethod
    def of(cls, api: Mapping[str, Mapping[str, Any]]) -> Recorded:
        """The answers of the member `api` of a recorded test."""
        found = []
        for method, paths in api.items():
            for path, several in paths.items():
                for item in several if isinstance(several, list) else [several]:
                    request = item.get("request") or {}
                    params = request.get("params")
                    texts = None if params is None else {name: _text(value) for name, value in params.items()}
                    headers = {k: v for k, v in (item.get("headers") or {}).items() if k.lower() not in _DROPPED}
                    found.append(
                        Answer(
                            method.upper(), _plain(path), texts, request.get("data"), int(item.get("status", 200)),
                            headers, item.get("response"),
                        )
                    )  # fmt: skip
        return cls(found)

    def find(self, method: str, target: str, body: bytes) -> Answer | None:
        """The answer that fits a request best: its path first, then parameters and body, then the order."""
        parts = urlsplit(target)
        path, params = _plain(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        data = _json(body)
        fitting = [it for it in self.answers if it.method == method and _ends(path, it.path)]
        if not fitting:
            return None
        longest = max(len(it.path) for it in fitting)
        fitting = [it for it in fitting if len(it.path) == longest]
        best = max(fitting, key=lambda it: (_fit(it.params, params), _same_data(it.data, data), -it.used))
        if _fit(best.params, params) < 0 and len([it for it in fitting if it.used == 0]) == 0:
            return None
        best.used += 1
        return best


def _fit(recorded: Mapping[str, str] | None, params: Mapping[str, str]) -> float:
    """2 for equal parameters; else less than 1, below 0 where values differ."""
    if recorded is None:
        return 2 if not params else 0.5
    if {k: _text(v) for k, v in recorded.items()} == dict(params):
        return 2
    same = sum(params.get(name) == value for name, value in recorded.items())
    different = sum(name in params and params[name] != value for name, value in recorded.items())
    return (same + 1) / (len(recorded) + len(params) + 1) - different


def _same_data(recorded: Any, data: Any) -> bool:
    if isinstance(recorded, str):
        recorded = _json(recorded.encode())
    return bool((recorded or None) == (data or None))


def _ends(path: str, suffix: str) -> bool:
    return path == suffix or path.endswith("/" + suffix) or suffix == ""


def _plain(path: str) -> str:
    return unquote(urlsplit(path).path if "://" in path else path.partition("?")[0]).strip("/")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


class RecordedApi:
    """A proxy for HTTPS in a thread of this process. `fault` is its answer to the first request of each sync."""

    def __init__(self, folder: Path, fault: str | None = None) -> None:
        self.unmatched: Sequence[str] = ()
        self.requests: list[str] = []
        self.fault = fault
        self._recorded = Recorded()
        self._is_faulty = False
        self._lock = threading.Lock()
        self._authority = _Authority(folder)
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self) -> None:
                host = self.path.partition(":")[0]
                self.send_response(200, "Connection established")
                self.end_headers()
                try:
                    self.connection = api._authority.context(host).wrap_socket(self.connection, server_side=True)
                except (ssl.SSLError, OSError):
                    self.close_connection = True
                    return
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
                self.close_connection = False
                while not self.close_connection:
                    self.handle_one_request()
                self.close_connection = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = api._answer(self.command, self.path, body)
                if answer is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, str(value))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def environment(self) -> dict[str, str]:
        """The variables that lead a client here."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"HTTPS_PROXY": url, "HTTP_PROXY": url, "REQUESTS_CA_BUNDLE": str(self._authority.file), "NO_PROXY": ""}

    def load(self, recorded: Recorded) -> None:
        """Answer from now on as this sync was answered."""
        with self._lock:
            self._recorded, self.unmatched, self.requests = recorded, [], []
            self._is_faulty = self.fault is not None

    def _answer(self, method: str, target: str, body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
        with self._lock:
            if self._is_faulty:
                self._is_faulty = False
                if self.fault == "reset":
                    return None
                return int(self.fault or 500), {"Content-Type": "application/json", "Retry-After": "0"}, b"{}"
            self.requests.append(f"{method} {target}")
            found = self._recorded.find(method, target, body)
            if found is None:
                self.unmatched = [*self.unmatched, f"{method} {target} {body[:200]!r}"]
                return 404, {"Content-Type": "application/json"}, b'{"error": "not recorded"}'
            if len(self.requests) > 3000:
                return 500, {}, b"too many requests"
        return found.status, {"Content-Type": "application/json", **_once(found.headers)}, _content(found.body)


def _content(body: Any) -> bytes:
    if isinstance(body, dict) and body.keys() == {"type", "data"} and body["type"] == "Buffer":
        return bytes(body["data"])
    return body.encode() if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()


def _once(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.title(): str(value).replace("\n", " ") for name, value in headers.items() if name.lower() != "server"}


class _Authority:
    """A certificate authority, and the TLS contexts of hosts."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "authority.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replay")])
        self._certificate = self._signed(self._name, self._key, None)
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, host: str) -> ssl.SSLContext:
        """The context of a server with this name."""
        with self._lock:
            if host not in self._contexts:
                key = ec.generate_private_key(ec.SECP256R1())
                subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:60])])
                certificate = self._signed(subject, key, host)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                    file.write(certificate.public_bytes(serialization.Encoding.PEM))
                    encoding = (
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    )
                    file.write(key.private_bytes(*encoding))
                    file.flush()
                    context.load_cert_chain(file.name)
                self._contexts[host] = context
            return self._contexts[host]

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, host: str | None) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365 * 3))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
        )
        if host is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self._key, hashes.SHA256())
