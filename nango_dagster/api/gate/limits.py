"""What one may ask: how long a URL and headers may be, what may stand in them, and how many requests in a minute."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import time

from starlette.types import Scope

from ..errors import HttpError

MOST_URL_BYTES = 60_000
"""A hundred ids are the longest that anybody needs; the parser takes 65,535 and cannot say what is wrong with more."""
MOST_HEADER_BYTES = 65_536
MINUTE = 60.0


def check_request(scope: Scope) -> None:
    """Raise HttpError for a URL or headers longer than anybody needs, and for what no database has in a name."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MOST_URL_BYTES:
        raise HttpError(414, "uri_too_long", f"the URL is longer than {MOST_URL_BYTES:,} bytes; wanted a shorter one.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADER_BYTES:
        sentence = f"the headers are longer than {MOST_HEADER_BYTES:,} bytes; nothing here needs so much."
        raise HttpError(431, "headers_too_large", sentence)
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        code = "invalid_uri_params" if "\0" in scope["path"] else "invalid_query_params"
        raise HttpError(400, code, "the URL holds a NUL character, which nothing has in its name.")


@dataclass(frozen=True)
class Rates:
    """How many requests each key may send in a minute, which begins with its first one; 0 for as many as it likes.

    >>> rates = Rates.open(2)
    >>> scope = {"method": "GET", "path": "/records"}
    >>> rates.count(0, scope)["X-RateLimit-Remaining"], rates.count(0, scope)["X-RateLimit-Remaining"]
    ('1', '0')
    """

    limit: int
    windows: Windows

    @classmethod
    def open(cls, limit: int, keys: int = 1, shared: Path | None = None) -> Rates:
        """Counts in a file where several processes share the limit."""
        return cls(limit, Windows(max(keys, 1), shared))

    def count(self, key: int, scope: Scope) -> Mapping[str, str]:
        """Count a request of this key; the headers that tell how many are left. Raises HttpError for one too many."""
        if not self.limit:
            return {}
        now = time()
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
        raise HttpError(429, "too_many_request", sentence, headers={**headers, "Retry-After": str(wait)}, extra=where)


class Windows:
    """For each key when its minute began and how many requests came since, in memory that processes may share."""

    _ONE = struct.Struct("dq")

    def __init__(self, keys: int, shared: Path | None = None) -> None:
        size = keys * self._ONE.size
        self._file = None
        if shared is None:
            self._memory = mmap.mmap(-1, size)
            return
        self._file = shared.open("a+b")
        with self._alone():
            if self._file.seek(0, 2) < size:
                self._file.truncate(size)
        self._memory = mmap.mmap(self._file.fileno(), size)

    def add(self, key: int, now: float) -> tuple[float, int]:
        """Count one more; when the minute began, and which number it has."""
        at = key * self._ONE.size
        with self._alone():
            began, number = self._ONE.unpack_from(self._memory, at)
            if not 0 <= now - began < MINUTE:
                began, number = now, 0
            self._ONE.pack_into(self._memory, at, began, number + 1)
        return began, number + 1

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out for these few microseconds; within one, only its event loop counts."""
        if self._file is None:
            yield
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
