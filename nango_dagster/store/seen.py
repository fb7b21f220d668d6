"""Which keys an execution has seen, and which it misses: in memory while they are few, then in temporary files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

IN_MEMORY = 20_000  # keys; a Python string takes several times its length
IN_MEMORY_BYTES = 1_000_000
PIECE = 5000


class Seen:
    """A set of keys that takes a bounded amount of memory.

    >>> seen = Seen()
    >>> seen.add(["a", "b"]), seen.add(["b", "c"]), len(seen)
    (0, 1, 3)
    >>> seen.missing(["a", "x"])
    ['x']
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._keys: set[str] = set()
        self._bytes = 0
        self._file: sqlite3.Connection | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, keys: Sequence[str]) -> int:
        """Note the keys; how many of them had been seen before."""
        before = self._count
        if self._file is None:
            self._keys.update(keys)
            self._bytes += sum(map(len, keys))
            self._count = len(self._keys)
            if self._count > self._in_memory or self._bytes > IN_MEMORY_BYTES:
                self._move_to_file()
        else:
            self._count += self._insert(self._file, map(_digest, keys))
        return len(keys) - (self._count - before)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that were never seen."""
        if self._file is None:
            return [key for key in keys if key not in self._keys]
        find = "SELECT 1 FROM seen WHERE digest = ?"
        return [key for key in keys if self._file.execute(find, (_digest(key),)).fetchone() is None]

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            self._file.close()

    def _move_to_file(self) -> None:
        self._file = temporary_file("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._insert(self._file, sorted(map(_digest, self._keys)))
        self._keys = set()

    @staticmethod
    def _insert(file: sqlite3.Connection, digests: Iterable[bytes]) -> int:
        file.execute("BEGIN")
        inserted = file.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((digest,) for digest in digests)).rowcount
        file.execute("COMMIT")
        return inserted


class Pile:
    """Keys that are put aside in a bounded amount of memory, and come back in pieces as often as one likes.

    >>> pile = Pile()
    >>> pile.add(["a", "b", "c"])
    >>> len(pile), list(pile.pieces(2))
    (3, [['a', 'b'], ['c']])
    """

    def __init__(self) -> None:
        self._file: sqlite3.Connection | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, keys: Sequence[str]) -> None:
        """Put keys on top."""
        if not keys:
            return
        if self._file is None:
            self._file = temporary_file("CREATE TABLE pile (at INTEGER PRIMARY KEY, key TEXT)")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO pile (key) VALUES (?)", ((key,) for key in keys))
        self._file.execute("COMMIT")
        self._count += len(keys)

    def pieces(self, size: int = PIECE) -> Iterator[list[str]]:
        """All keys in their order, some at a time."""
        query = "SELECT key FROM pile WHERE at > ? ORDER BY at LIMIT ?"
        for start in range(0, self._count, size):
            assert self._file is not None
            yield [row[0] for row in self._file.execute(query, (start, size))]

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            self._file.close()


def temporary_file(tables: str) -> sqlite3.Connection:
    """A SQLite file of this process, gone when it is closed, also by kill -9; small ones never leave the memory."""
    file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    # Sorting takes as much memory again as the cache may have.
    file.executescript(f"PRAGMA journal_mode = OFF; PRAGMA cache_size = -1000; PRAGMA temp.cache_size = -500; {tables}")
    return file


def _digest(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=16).digest()
