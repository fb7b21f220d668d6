"""The query plans of the statements that the store sends, and those of them that read a whole table."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa

from nango_dagster.store import Database

_EXPLAINED = re.compile(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", re.I)


@dataclass(frozen=True)
class Scan:
    """A statement that reads each row of a table, and the line of its plan that says so."""

    table: str
    statement: str
    plan: str


@contextmanager
def full_scans(db: Database, large: frozenset[str]) -> Iterator[list[Scan]]:
    """Collect the scans of these large tables in the statements of the block; the list is filled at its end."""
    scans: list[Scan] = []
    recorded = _recorded_on_postgresql if db.engine.name == "postgresql" else _recorded_on_sqlite
    with recorded(db) as found:
        yield scans
    assert found, "no statement was recorded"
    scans += [scan for scan in found if scan.table in large]


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


@contextmanager
def _recorded_on_postgresql(db: Database) -> Iterator[list[Scan]]:
    """Explain each statement on its own connection before it is executed, with its own parameters."""
    scans: list[Scan] = [Scan("", "", "")]

    class Explaining(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            if _EXPLAINED.match(str(query)) and "set_config" not in str(query):
                with psycopg.Cursor(self.connection) as cursor:
                    ((plan,),) = cursor.execute(f"EXPLAIN (FORMAT JSON) {query}", params).fetchall()
                scans.extend(_scans_of(plan[0]["Plan"], str(query)))
            return super().execute(query, params, **options)

    def taken(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.cursor_factory = Explaining

    def returned(connection: Any, _record: Any) -> None:
        if connection is not None:
            connection.cursor_factory = psycopg.Cursor

    with _listening(db, taken, returned):
        yield scans


def _scans_of(node: Mapping[str, Any], statement: str) -> Iterator[Scan]:
    kind = node["Node Type"]
    if kind == "Seq Scan" or (kind in ("Index Scan", "Index Only Scan") and "Index Cond" not in node):
        yield Scan(node["Relation Name"], statement, str({**node, "Plans": ...}))
    for child in node.get("Plans", ()):
        yield from _scans_of(child, statement)


# --- SQLite ---------------------------------------------------------------------------------------------------------


@contextmanager
def _recorded_on_sqlite(db: Database) -> Iterator[list[Scan]]:
    """Note each statement with its parameters written out, and explain them all afterwards."""
    statements: list[str] = []
    scans: list[Scan] = []

    def taken(connection: Any, _record: Any, _proxy: Any) -> None:
        connection.set_trace_callback(statements.append)

    def returned(connection: Any, _record: Any) -> None:
        if connection is not None:
            connection.set_trace_callback(None)

    with _listening(db, taken, returned):
        yield scans
    with closing(sqlite3.connect(str(db.engine.url.database))) as connection:
        for statement in filter(_EXPLAINED.match, statements):
            scans.append(Scan("", "", ""))
            lines = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            scans += [
                Scan(_table(scan[1], statement), statement, line)
                for *_, line in lines
                if (scan := re.match(r"SCAN (\w+)", line))
            ]


def _table(name: str, statement: str) -> str:
    """The table of a name in a plan, which may be an alias."""
    alias = re.search(rf'"?(_nango_\w+)"?\s+(?:AS\s+)?"?{name}"?\b', statement, re.I)
    return name if name.startswith("_nango_") or alias is None else alias[1]


@contextmanager
def _listening(db: Database, taken: Any, returned: Any) -> Iterator[None]:
    pool = db.engine.sqlalchemy
    sa.event.listen(pool, "checkout", taken)
    sa.event.listen(pool, "checkin", returned)
    try:
        yield
    finally:
        sa.event.remove(pool, "checkout", taken)
        sa.event.remove(pool, "checkin", returned)
