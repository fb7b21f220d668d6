"""Instance settings that fit syncs, and a home for Dagster where the user has named none."""

from __future__ import annotations

import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from ..settings import Settings


def dagster_home(settings: Settings) -> Path:
    """`DAGSTER_HOME`, or `dagster` below `NANGO_HOME`, made with our `dagster.yaml` if it is new.

    So that the runs of the command line, of the demo and of the UI's daemon are seen in one place.
    """
    if named := os.environ.get("DAGSTER_HOME"):
        return Path(named).expanduser()
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    target = home / "dagster.yaml"
    if not target.exists():
        with as_file(files(__package__) / "dagster.sqlite.yaml") as template:
            shutil.copyfile(template, target)
    return home
