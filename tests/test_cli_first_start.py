"""Several commands that start at once in a fresh folder create one sound storage for Dagster."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest

from nango_dagster.dagster_yaml import dagster_home
from nango_dagster.settings import Settings
from tests.commands import Cli, write_sync
from tests.conftest import ROOT

pytestmark = pytest.mark.acceptance

STARTS = 50
# Forked after the imports and after a storage of its own, so that these are paid for once, and not by each child; each
# child waits until all of them exist.
OPEN = """\
import os, sys, tempfile, traceback
from nango_dagster.cli.instance import open_instance
from nango_dagster.settings import Settings
from tests import dagster_storage
import dagster_postgres

def open_storage(settings):
    with open_instance(settings) as instance:
        instance.get_runs_count()
        instance.get_dynamic_partitions("none")

dagster_storage.keep()
with tempfile.TemporaryDirectory() as folder:
    open_storage(Settings.from_env({"NANGO_HOME": folder}, dotenv=None))
begin, start = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child:
        children.append(child)
        continue
    status = 1
    try:
        os.close(start)
        os.read(begin, 1)
        open_storage(Settings.from_env())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
os.close(start)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def start_at_once(env: Mapping[str, str], starts: int = STARTS) -> str:
    """Open Dagster's instance in several processes at the same moment; what those wrote to stderr that failed."""
    program = [sys.executable, "-c", OPEN, str(starts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    result = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=300)
    return result.stderr if result.returncode else ""


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
    assert start_at_once({"NANGO_HOME": str(tmp_path)}) == ""
    counts = version_rows(tmp_path / "dagster")
    assert set(counts) >= {"runs.db", "schedules.db", "index.db"} and set(counts.values()) == {1}, counts


@pytest.mark.postgresql
def test_parallel_first_starts_create_one_postgresql_storage(dagster_database: str, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage:\n  postgres:\n    postgres_url: { env: DAGSTER_POSTGRES_URL }\n")
    env = {"DAGSTER_HOME": str(tmp_path), "DAGSTER_POSTGRES_URL": dagster_database}
    assert start_at_once(env) == ""
    with psycopg.connect(dagster_database) as connection:
        rows = connection.execute("SELECT count(*) FROM alembic_version").fetchone()
    assert rows == (1,)


def test_a_storage_with_two_version_rows_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    write_sync("items", url="https://api.example.com/items")
    env = {"NANGO_HOME": str(tmp_path)}
    home = dagster_home(Settings.from_env(env, dotenv=None))
    assert start_at_once(env, 1) == ""
    connection = sqlite3.connect(home / "history" / "runs.db")
    connection.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
    connection.commit()
    connection.close()
    answer = Cli(env).process("run", "items")
    assert answer.status == 1 and answer.stderr.count("\n") == 1, answer
    assert "two version rows" in answer.stderr and f"delete the folders {home / 'history'}" in answer.stderr
    assert "Traceback" not in answer.stderr
