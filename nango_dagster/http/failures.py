"""Why a request got no answer, as the end of a sentence that begins with "GET https://...".

The texts of the exceptions are never used: they may hold the URL with all its secrets.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from .urls import Server


@dataclass(frozen=True)
class Limits:
    """Seconds until connected, between two bytes, and for the whole answer; bytes of the decompressed body."""

    connect: float
    silence: float
    total: float
    max_bytes: int
    bytes_setting: str = "max_page_bytes of this sync"
    """The name of the setting with `max_bytes`."""
    cut: bool = False
    """Whether the rest of a longer body is left unread without an error, as it always is for an error's body."""
    streams: bool = False
    """Whether a body is handed out while it arrives, after its first piece."""


class TooLarge(Exception):
    """The body is longer than the limit."""


class UnknownEncoding(Exception):
    """The body is compressed in a way that the request did not accept."""


class TotalTimeout(TimeoutError):
    """The whole answer took too long, though bytes kept coming."""


TRANSPORT_ERRORS: Final = (requests.RequestException, HTTPError, OSError, ValueError, TooLarge, UnknownEncoding)
"""All exceptions by which `Transport.exchange` reports that there is no answer."""


@dataclass(frozen=True)
class Breakdown:
    """Why there is no answer, and whether another try may help."""

    sentence: str
    again: bool


# The first row that matches any exception of the chain counts.
_SENTENCES: Final[tuple[tuple[Any, str, bool], ...]] = (
    (TotalTimeout, "did not finish within {limits.total:g} s", True),
    (TooLarge, "sent more than {limits.max_bytes:,} bytes, the {limits.bytes_setting}", False),
    (UnknownEncoding, 'sent the Content-Encoding "{cause}"; wanted gzip, deflate or none', False),
    (
        requests.exceptions.ProxyError,
        "failed: the proxy named in the environment does not let it through",
        True,
    ),
    (
        ssl.SSLCertVerificationError,
        "failed: the TLS certificate of {server.host} is not trusted ({cause.verify_message})",
        False,
    ),
    (ssl.SSLEOFError, "failed: {server.host}:{server.port} ended the TLS connection", True),
    (
        ssl.SSLError,
        "failed: {server.host}:{server.port} does not speak TLS as it should ({cause.reason})",
        False,
    ),
    ((NameResolutionError, socket.gaierror), "failed: the name {server.host} cannot be found (DNS)", True),
    (requests.ConnectTimeout, "could not connect within {limits.connect:g} s", True),
    (ConnectionRefusedError, "failed: {server.host} refuses connections on port {server.port}", True),
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
    (NewConnectionError, "failed: {server.host} cannot be reached", True),
)


def breakdown(error: Exception, server: Server, limits: Limits) -> Breakdown:
    """The meaning of an exception of `Transport.exchange`."""
    causes = list(_chain(error))
    for kinds, sentence, again in _SENTENCES:
        for cause in causes:
            if isinstance(cause, kinds):
                return Breakdown(sentence.format(cause=cause, server=server, limits=limits), again)
    return Breakdown(f"failed with a {type(error).__name__}", isinstance(error, OSError))


def _chain(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[BaseException]:
    """The exception and all exceptions that it was made from."""
    if id(error) in seen:
        return
    seen |= {id(error)}
    yield error
    for cause in (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__):
        if isinstance(cause, BaseException):
            yield from _chain(cause, seen)
