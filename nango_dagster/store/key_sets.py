"""Sets and lists of keys in a bounded amount of memory: few keys stay in memory, many are in temporary files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

IN_MEMORY = 20_000  # keys; a Python string takes several times its length
IN_MEMORY_BYTES = 1_000_000
BATCH = 5000


class KeySet:
    """A set of keys that takes a bounded amount of memory.

    >>> seen = KeySet()
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
        """Add the keys; the number of them that were in the set before."""
        before = self._count
        if self._file is None:
            self._keys.update(keys)
            self._bytes += sum(map(len, keys))
            self._count = len(self._keys)
            if self._count > self._in_memory or self._bytes > IN_MEMORY_BYTES:
                self._move_to_file()
        else:
            self._count += self._insert(self._file, map(digest_of, keys))
        return len(keys) - (self._count - before)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that are not in the set."""
        if self._file is None:
            return [key for key in keys if key not in self._keys]
        find = "SELECT 1 FROM seen WHERE digest = ?"
        return [key for key in keys if self._file.execute(find, (digest_of(key),)).fetchone() is None]

    def digests(self) -> Iterator[bytes]:
        """The digest of each key."""
        if self._file is None:
            yield from map(digest_of, self._keys)
        else:
            yield from (row[0] for row in self._file.execute("SELECT digest FROM seen"))

    def close(self) -> None:
        """Delete the temporary file."""
        if self._file is not None:
            self._file.close()

    def _move_to_file(self) -> None:
        self._file = temporary_file("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._insert(self._file, sorted(map(digest_of, self._keys)))
        self._keys = set()

    @staticmethod
    def _insert(file: sqlite3.Connection, digests: Iterable[bytes]) -> int:
        file.execute("BEGIN")
        inserted = file.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((digest,) for digest in digests)).rowcount
        file.execute("COMMIT")
        return inserted


class KeyList:
    """A list of keys that takes a bounded amount of memory, and is read in batches as often as needed.

    >>> keys = KeyList()
    >>> keys.add(["a", "b", "c"])
    >>> len(keys), list(keys.batches(2))
    (3, [['a', 'b'], ['c']])
    """

    def __init__(self) -> None:
        self._file: sqlite3.Connection | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, keys: Sequence[str]) -> None:
        """Append keys."""
        if not keys:
            return
        if self._file is None:
            self._file = temporary_file("CREATE TABLE keys (at INTEGER PRIMARY KEY, key TEXT)")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO keys (key) VALUES (?)", ((key,) for key in keys))
        self._file.execute("COMMIT")
        self._count += len(keys)

    def batches(self, size: int = BATCH) -> Iterator[list[str]]:
        """All keys in their order, `size` at a time."""
        query = "SELECT key FROM keys WHERE at > ? ORDER BY at LIMIT ?"
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


def digest_of(key: str) -> bytes:
    """The 16 bytes that stand for a key where many keys are kept."""
    return blake2b(key.encode(), digest_size=16).digest()
