"""The package as a user installs it: a wheel in an environment of its own, without the repository and the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

# Runs at the start of every Python of the environment: a connection to anything but this machine is an error.
NO_NETWORK = """\
import sys

def refuse(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise OSError(f"no network in this test: {arguments[1]}")

sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_every_file_of_the_package(distributions: tuple[Path, Path]) -> None:
    tracked = subprocess.run(["git", "ls-files", "nango_dagster"], cwd=ROOT, capture_output=True, text=True)
    files = tracked.stdout.split() or [str(path.relative_to(ROOT)) for path in (ROOT / "nango_dagster").rglob("*.*")]
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    missing = {name for name in files if (ROOT / name).is_file() and "__pycache__" not in name} - names
    assert missing == set()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_sdist_holds_what_its_tests_need(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"} <= names
    assert {"tests/conftest.py", "docs/reference/config.md", "sync_configs/pokemon.yaml"} <= names
    assert {"examples/pokemon.yaml"} <= names


@pytest.fixture
def environment(distributions: tuple[Path, Path], tmp_path: Path) -> Path:
    """The `bin` of a virtual environment with the wheel and the dependencies that are installed here."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", distributions[1]]
    subprocess.run(install, check=True, cwd=tmp_path, env=clean_environment())
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    (site_packages / "no_network.py").write_text(NO_NETWORK)
    # A folder that a .pth file names is searched, but its own .pth files, such as that of the checkout, are not read.
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport no_network\n")
    return folder / "bin"


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that leads to the checkout or to settings."""
    prefixes = ("PYTHON", "NANGO_", "DAGSTER_", "PIP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | {"COLUMNS": "160"}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Run a command in a folder; its standard output. It has to succeed."""
    result = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_makes_a_project_and_runs_its_first_sync_without_network(environment: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    home = run([environment / "python", "-c", "import nango_dagster; print(nango_dagster.__file__)"], project)
    assert Path(home.strip()).is_relative_to(environment.parent)
    command = environment / "nango-dagster"
    assert run([command, "--version"], project).split() == ["nango-dagster", "0.1.0"]
    run([command, "init"], project)
    report = json.loads(run([command, "validate", "--json"], project))
    assert (report["valid"], report["syncs"], report["problems"]) == (True, ["pokemon"], [])
    job = json.loads(run([command, "run", "pokemon", "--json"], project))["job"]
    assert (job["added"], job["pages"]) == (251, 3)
    assert "251 records" in run([command, "records", "pokemon", "--limit", "1"], project)
