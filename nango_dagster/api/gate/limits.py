"""Limits of requests: the size of the URL and the headers, NUL characters, and requests per minute."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Scope

from ... import clock
from ..errors import HttpError

MOST_URL_BYTES = 60_000
"""Enough for a hundred ids. The parser accepts 65,535 bytes and closes the connection without a reason above."""
MOST_HEADER_BYTES = 65_536
MINUTE = 60.0


def check_request(scope: Scope) -> None:
    """Raise HttpError for a URL or headers above the limits, and for a NUL character, which no database stores."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_URL_BYTES:
        raise HttpError(414, "uri_too_long", f"the URL is longer than {MOST_URL_BYTES:,} bytes; wanted a shorter one.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
        sentence = f"the headers are longer than {MOST_HEADER_BYTES:,} bytes; wanted fewer or shorter ones."
        raise HttpError(431, "headers_too_large", sentence)
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        code = "invalid_uri_params" if "\0" in scope["path"] else "invalid_query_params"
        raise HttpError(400, code, "the URL contains a NUL character; no name here has one.")


@dataclass(frozen=True)
class Rates:
    """The number of requests that each key may send in a minute, which begins with its first request; 0: no limit.

    >>> rates = Rates.open(2)
    >>> scope = {"method": "GET", "path": "/records"}
    >>> rates.count(0, scope)["X-RateLimit-Remaining"], rates.count(0, scope)["X-RateLimit-Remaining"]
    ('1', '0')
    """

    limit: int
    windows: Windows

    @classmethod
    def open(cls, limit: int, keys: int = 1, shared: Path | None = None) -> Rates:
        """A new count; it is in the file `shared` where several processes share the limit."""
        return cls(limit, Windows(max(keys, 1), shared))

    def count(self, key: int, scope: Scope) -> Mapping[str, str]:
        """Count a request of this key; return the headers with the rest. Raises HttpError above the limit."""
        if not self.limit:
            return {}
        now = clock.now().timestamp()
        began, number = self.windows.add(key, now)
        ends = began + MINUTE
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - number)),
            "X-RateLimit-Reset": str(int(ends) + 1),
        }
        if number <= self.limit:
            return headers
        wait = int(ends - now) + 1
        sentence = f"this key has sent more than {self.limit:,} requests in a minute; wait {wait} seconds."
        where = {"method": scope["method"], "path": scope["path"]}
        raise HttpError(429, "too_many_request", sentence, headers={**headers, "Retry-After": str(wait)}, fields=where)


class Windows:
    """The start of each key's minute and its requests since then, in memory that processes can share."""

    _WINDOW = struct.Struct("dq")

    def __init__(self, keys: int, shared: Path | None = None) -> None:
        size = keys * self._WINDOW.size
        self._file = None
        if shared is None:
            self._memory = mmap.mmap(-1, size)
            return
        self._file = shared.open("a+b")
        with self._lock():
            if self._file.seek(0, 2) < size:
                self._file.truncate(size)
        self._memory = mmap.mmap(self._file.fileno(), size)

    def add(self, key: int, now: float) -> tuple[float, int]:
        """Count a request; return the start of its minute and its number in it."""
        at = key * self._WINDOW.size
        with self._lock():
            began, number = self._WINDOW.unpack_from(self._memory, at)
            if not 0 <= now - began < MINUTE:
                began, number = now, 0
            self._WINDOW.pack_into(self._memory, at, began, number + 1)
        return began, number + 1

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the file against other processes; within a process only the event loop counts, so it needs no lock."""
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
