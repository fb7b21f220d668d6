"""Several commands that start at once in a fresh folder create one sound storage for Dagster."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from nango_dagster.dagster_yaml import dagster_home
from nango_dagster.settings import Settings
from tests.commands import Cli, write_sync

pytestmark = pytest.mark.acceptance

STARTS = 4
OPEN = """\
import sys
from nango_dagster.cli.instance import open_instance
from nango_dagster.settings import Settings
import dagster
print("ready", flush=True)
sys.stdin.readline()
with open_instance(Settings.from_env()) as instance:
    instance.get_runs_count()
    instance.get_dynamic_partitions("none")
"""


def start_at_once(**env: str) -> list[str]:
    """Open Dagster's instance in several processes at the same moment; what each wrote to stderr if it failed."""
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}
        )
        for _ in range(STARTS)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    return [stderr for stderr, status in ends if status != 0]


def version_rows(folder: Path) -> dict[str, int]:
    """How many version rows each of Dagster's SQLite files has."""
    counts = {}
    for file in folder.rglob("*.db"):
        connection = sqlite3.connect(file)
        try:
            counts[file.name] = connection.execute("SELECT count(*) FROM alembic_version").fetchone()[0]
        finally:
            connection.close()
    return counts


def test_parallel_first_starts_create_one_sqlite_storage(tmp_path: Path) -> None:
    assert start_at_once(NANGO_HOME=str(tmp_path)) == []
    counts = version_rows(tmp_path / "dagster")
    assert set(counts) >= {"runs.db", "schedules.db", "index.db"} and set(counts.values()) == {1}, counts


@pytest.mark.postgresql
def test_parallel_first_starts_create_one_postgresql_storage(dagster_database: str, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage:\n  postgres:\n    postgres_url: { env: DAGSTER_POSTGRES_URL }\n")
    env = {"DAGSTER_HOME": str(tmp_path), "DAGSTER_POSTGRES_URL": dagster_database}
    assert start_at_once(**env) == []
    with psycopg.connect(dagster_database) as connection:
        rows = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
    assert rows == (1,)


def test_a_storage_with_two_version_rows_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    write_sync("items", url="https://api.example.com/items")
    env = {"NANGO_HOME": str(tmp_path)}
    home = dagster_home(Settings.from_env(env, dotenv=None))
    assert start_at_once(**env) == []
    connection = sqlite3.connect(home / "history" / "runs.db")
    connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    connection.commit()
    connection.close()
    answer = Cli(env).process("run", "items")
    assert answer.status == 1 and answer.stderr.count("\n") == 1, answer
    assert "two version rows" in answer.stderr and f"delete the folders {home / 'history'}" in answer.stderr
    assert "Traceback" not in answer.stderr
