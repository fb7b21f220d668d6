"""One POST to an address that somebody else configured, of which only the status matters: a webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError
from .addresses import Reach
from .failures import TRANSPORT_ERRORS, Limits, breakdown
from .headers import checked_headers, with_defaults
from .request import Request
from .sockets import ReadGuard
from .transport import Message, Transport
from .urls import server_of
from .verdicts import phrase

_MAX_ANSWER_BYTES: Final = 16_000  # the body is not used; a body shorter than this lets the connection be used again


@dataclass(frozen=True)
class Posted:
    """The result of a POST: the receiver's status, or why there is none; the body may have arrived all the same."""

    status: int | None
    error: str | None = None
    """The end of a sentence that begins with "the receiver"; None after a status of success. It shows only the host."""


class Poster:
    """Sends bodies over connections that it keeps alive, each once; for one thread at a time.

    It follows no redirect, and reads a little of the answer without using it.
    """

    def __init__(self, *, timeout: float, reach: Reach = "anywhere") -> None:
        """`timeout` is for all of a POST, in seconds."""
        self._limits = Limits(min(timeout, 10.0), timeout, timeout, _MAX_ANSWER_BYTES, cut=True)
        self._transport = Transport(ReadGuard(reach, timeout, lambda: None))

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Posted:
        """Send the body; every failure is part of the result."""
        try:
            request = Request("POST", url, headers).with_userinfo_in_header()
            server = server_of(request.url)
        except ConfigError:  # its sentence shows more of the URL than the host
            return Posted(None, "cannot be asked: its address is no URL; wanted https://host/path")
        try:
            sent = with_defaults(checked_headers({**request.headers, "Accept-Encoding": "identity"}))
            status = self._transport.exchange(Message("POST", request.url, server, sent, body), self._limits).status
        except ConfigError as refusal:
            return Posted(None, f"was not asked: {str(refusal).rstrip('.')}")
        except TRANSPORT_ERRORS as error:
            return Posted(None, breakdown(error, server, self._limits).sentence)
        return Posted(status, None if 200 <= status < 300 else f"answered {phrase(status)}")

    def close(self) -> None:
        """Leave the connections to others."""
        self._transport.close()
