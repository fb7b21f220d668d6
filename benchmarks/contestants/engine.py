"""This project's engine: one execution in one process, without Dagster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import open_database, syncs

from . import Task


def main() -> None:
    """Pull the list of the task."""
    task = Task.read()
    settings = Settings.from_env(environment(task), dotenv=None)
    database = open_database(settings)
    row = syncs.register(database, [Sync(**sync(task))])["issues"]
    with runs.claimed(database, settings, row) as execution:
        outcome = execution.run()
    database.close()
    if outcome.status != "succeeded":
        sys.exit(outcome.error)
    print(json.dumps({"seconds": round(outcome.seconds, 3), **asdict(outcome.counts)}))


def environment(task: Task) -> dict[str, str]:
    """The settings of the task's database."""
    return {"NANGO_DB_URL": task.database_url, "NANGO_HOME": str(task.work)}


def sync(task: Task) -> dict[str, Any]:
    """The sync config of the task's list."""
    return {
        "name": "issues",
        "url": task.list_url,
        "unique_key": "id",
        "response_path": "results",
        "paging_cursor_request_path": "after",
        "paging_cursor_metadata_response_path": "paging.next.after",
        "mapped_table": "issues",
        "track_deletes": True,
    }


if __name__ == "__main__":
    main()
