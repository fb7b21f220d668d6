"""Database connections that call a function before each statement, through whatever layer it is sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Dialect

Before = Callable[[Any, str], None]
"""Is given the driver's connection and the statement; COMMIT and ROLLBACK are statements, too."""


def connect(dialect: Dialect, record: Any, args: Any, kwargs: Any, *, before: Before) -> Any:
    """A listener for SQLAlchemy's event `do_connect`."""
    connection: Any
    if dialect.name == "sqlite":
        connection = sqlite3.connect(*args, factory=_SqliteConnection, **kwargs)
    else:
        connection = _PostgresqlConnection.connect(*args, cursor_factory=_PostgresqlCursor, **kwargs)
    connection.before = before
    return connection


class _SqliteCursor(sqlite3.Cursor):
    connection: _SqliteConnection

    def execute(self, statement: str, *args: Any) -> Any:
        self.connection.before(self.connection, statement)
        return super().execute(statement, *args)

    def executemany(self, statement: str, *args: Any) -> Any:
        self.connection.before(self.connection, statement)
        return super().executemany(statement, *args)


class _SqliteConnection(sqlite3.Connection):
    before: Before

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return super().cursor(_SqliteCursor)

    def commit(self) -> None:
        self.before(self, "COMMIT")
        super().commit()

    def rollback(self) -> None:
        self.before(self, "ROLLBACK")
        super().rollback()


class _PostgresqlCursor(psycopg.Cursor[Any]):
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._before(args[0])
        return super().execute(*args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> None:
        self._before(args[0])
        super().executemany(*args, **kwargs)

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        self._before(args[0])
        return super().copy(*args, **kwargs)

    def _before(self, statement: Any) -> None:
        connection: Any = self.connection
        if connection.before is not None:
            connection.before(connection, str(statement))


class _PostgresqlConnection(psycopg.Connection[Any]):
    before: Before | None = None

    def commit(self) -> None:
        if self.before is not None:
            self.before(self, "COMMIT")
        super().commit()

    def rollback(self) -> None:
        if self.before is not None:
            self.before(self, "ROLLBACK")
        super().rollback()
