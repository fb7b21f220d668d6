"""Clients that only npm has, for tests that need Node.js."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def installed(folder: str, package: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a folder below tests/ with what its lock file names; on CI nothing of this may be missing."""
    return copied(ROOT / "tests" / folder, ["npm", "ci"], tmp_path_factory, package)


def copied(
    source: Path, command: list[str], tmp_path_factory: pytest.TempPathFactory, package: str = "packages"
) -> Path:
    """A copy of a folder in which a command of npm has installed its packages."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed; .ci/run installs them")
    copy = tmp_path_factory.mktemp("npm") / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("node_modules"))
    command = [*command, "--no-audit", "--no-fund"]
    ran = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)
    if ran.returncode:
        pytest.skip(f"npm cannot install {package}: {ran.stderr[-300:]}")
    return copy
