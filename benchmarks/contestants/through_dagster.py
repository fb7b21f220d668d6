"""This project as one uses it: a sync config in a folder, and `nango-dagster run`, a Dagster run of its job."""

from __future__ import annotations

import json
import os

from . import Task
from .engine import environment, sync


def main() -> None:
    """Pull the list of the task; Dagster's home is below that of the settings, and new at the first step."""
    task = Task.read()
    configs = task.work / "sync_configs"
    configs.mkdir(exist_ok=True)
    (configs / "issues.json").write_text(json.dumps(sync(task)))
    os.environ.update(environment(task), NANGO_SYNC_CONFIGS=str(configs))

    from nango_dagster.cli import main as nango_dagster

    nango_dagster(["run", "issues"])


if __name__ == "__main__":
    main()
