"""The ground the other tests stand on."""

from __future__ import annotations

import os

import psycopg


def test_the_postgresql_server_answers(pg_server: str) -> None:
    with psycopg.connect(pg_server.replace("+psycopg", "")) as connection:
        (version,) = connection.execute("SHOW server_version_num").fetchone() or ("0",)
    assert int(version) >= 120000


def test_the_developers_own_settings_do_not_reach_a_test() -> None:
    assert "DAGSTER_HOME" not in os.environ
    assert not [name for name in os.environ if name.startswith(("NANGO_", "PIZZLY_"))]


def test_a_test_runs_in_a_directory_of_its_own() -> None:
    assert os.listdir() == []
