"""Time and size limits of a connection: for the head of a request, and for a body after its answer."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import HttpError, answer

HEAD_SECONDS = 20.0
"""The time limit for the first line and the headers of a request."""
MOST_HEAD_BYTES = 262_144
"""The size at which a head without an end is refused; limits.py has the smaller limits of complete heads."""
REST_SECONDS = 20.0
"""The time limit for the rest of a body after the answer."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these limits; by itself it waits without end and stores a head of any size."""

    _in_head = True
    _in_message = False
    _head = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head += len(data)
            if self._head > MOST_HEAD_BYTES:
                self._refuse(HttpError(431, "headers_too_large", "the headers do not end; wanted shorter ones."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._head = 0
        self._wait(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_message = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_message and not self._in_head:
            self._wait(REST_SECONDS)

    def send_400_response(self, msg: str) -> None:
        self._refuse(HttpError(400, "invalid_request", "this is not a valid HTTP request."))

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._time_out)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if self._in_message and self._in_head:
            self._refuse(HttpError(408, "request_timeout", "the request has not arrived in time."))
        else:
            self.transport.close()

    def _refuse(self, error: HttpError) -> None:
        """Answer, unless another answer is being sent, and close the connection."""
        if self.transport.is_closing():
            return
        if getattr(self.cycle, "response_complete", True):
            response = answer(error)
            head = [f"HTTP/1.1 {error.status} {error.code}", "content-type: application/json", "connection: close"]
            head.append(f"content-length: {len(response.body)}")
            self.transport.write("\r\n".join([*head, "", ""]).encode() + bytes(response.body))
        self.transport.close()
