"""The ground the other tests stand on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg

import nango_dagster
from nango_dagster.store import Database
from tests.one_connection import Watch


def test_the_postgresql_server_answers(pg_server: str) -> None:
    with psycopg.connect(pg_server.replace("+psycopg", "")) as connection:
        (version,) = connection.execute("SHOW server_version_num").fetchone() or ("0",)
    assert int(version) >= 120000


def test_the_developers_own_settings_do_not_reach_a_test() -> None:
    assert "DAGSTER_HOME" not in os.environ
    assert not [name for name in os.environ if name.startswith(("NANGO_", "PIZZLY_"))]


def test_a_test_runs_in_a_directory_of_its_own() -> None:
    assert os.listdir() == []


def test_who_asks_for_a_second_connection_to_the_store_is_found_out(db: Database, _pools: Watch) -> None:
    package = Path(nango_dagster.__file__).parent
    code = """def twice(db):
    with db.connect(), db.connect():
        pass"""
    found: dict[str, Any] = {}
    exec(compile(code, str(package / "made_up.py"), "exec"), found)
    found["twice"](db)
    nested, _pools.nested[:] = list(_pools.nested), []
    assert nested == ["made_up.py:2, while made_up.py:2 held one"]
