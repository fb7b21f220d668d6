"""What a server must not wait for or keep: requests whose heads do not end, and bodies that nobody reads any more."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import HttpError, answer

HEAD_SECONDS = 20.0
"""So long the first line and the headers of a request may take to arrive."""
MOST_HEAD_BYTES = 262_144
"""More than a request may have by limits.py, which answers those that are whole with what is wrong."""
REST_SECONDS = 20.0
"""So long the rest of a body may go on arriving after the answer has been given."""


class CarefulProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever and keeps as much as comes."""

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
        self._refuse(HttpError(400, "invalid_request", "this is no HTTP request that can be read."))

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._is_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        if self._in_message and self._in_head:
            self._refuse(HttpError(408, "request_timeout", "the request has not arrived in time."))
        else:
            self.transport.close()

    def _refuse(self, error: HttpError) -> None:
        """Answer, unless another answer is being sent, and let go of the connection."""
        if self.transport.is_closing():
            return
        if getattr(self.cycle, "response_complete", True):
            said = answer(error)
            head = [f"HTTP/1.1 {error.status} {error.code}", "content-type: application/json", "connection: close"]
            head.append(f"content-length: {len(said.body)}")
            self.transport.write("\r\n".join([*head, "", ""]).encode() + bytes(said.body))
        self.transport.close()
