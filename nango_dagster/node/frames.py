"""Length-framed messages: two little-endian lengths of four bytes, a JSON header, and raw bytes."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_PREFIX: Final = struct.Struct("<II")
MAX_HEADER: Final = 16 * 1024 * 1024
MAX_BODY: Final = 512 * 1024 * 1024
_CHUNK: Final = 1 << 20


class Broken(Exception):
    """The other side is gone, or sent something that is no message."""


class Writer:
    """Sends messages; for several threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send one message. Raises Broken."""
        text = msgspec.json.encode(header)
        start = _PREFIX.pack(len(text), len(body)) + text
        with self._lock:
            try:
                self._write(start + body if len(body) < 65_536 else start)
                if len(body) >= 65_536:
                    self._write(body)
            except OSError as error:
                raise Broken(str(error)) from None

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]


class Reader:
    """Reads messages; for one thread."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=_CHUNK)

    def next(self) -> tuple[dict[str, Any], bytes]:
        """The next message. Raises Broken at the end."""
        header_size, body_size = _PREFIX.unpack(self._exactly(_PREFIX.size))
        if header_size > MAX_HEADER or body_size > MAX_BODY:
            raise Broken(f"a message of {header_size + body_size:,} bytes")
        try:
            header = msgspec.json.decode(self._exactly(header_size), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Broken(str(error)) from None
        return header, self._exactly(body_size)

    def close(self) -> None:
        """Close the pipe."""
        self._file.close()

    def _exactly(self, size: int) -> bytes:
        try:
            content = self._file.read(size)
        except (OSError, ValueError) as error:
            raise Broken(str(error)) from None
        if len(content) < size:
            raise Broken("the end")
        return content
