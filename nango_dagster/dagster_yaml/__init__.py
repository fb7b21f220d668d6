"""Instance settings of Dagster for syncs, and the default of DAGSTER_HOME."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path

from ..settings import Settings


def dagster_home(settings: Settings) -> Path:
    """`DAGSTER_HOME` if it is set, else `$NANGO_HOME/dagster`, created with our `dagster.yaml`.

    The command line, the demo and the daemon use the same folder, so their runs are listed together.
    """
    if named := os.environ.get("DAGSTER_HOME"):
        return Path(named).expanduser()
    home = settings.home / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    target = home / "dagster.yaml"
    if not target.exists():
        _write_whole(target, (files(__package__) / "dagster.sqlite.yaml").read_bytes())
    return home


def _write_whole(target: Path, content: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.chmod(name, 0o644)
    os.replace(name, target)
