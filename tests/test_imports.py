"""Who may import whom, read from the source without running it.

A module imports only from rows above its own: never sideways, never downward, also inside a function. Each
outside thing has one home. What is slow to import is imported by the function that needs it: each run is a
process of its own, and pays for it again.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "nango_dagster"

# From the top; a name stands for a module, or for a folder with all that is in it.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock"),
    ("settings", "paths", "partition_keys", "sentences"),
    ("config", "http", "vault", "dagster_yaml"),
    ("records",),
    ("paging", "mapping", "templates"),
    ("auth", "fetch", "store", "webhooks"),
    ("control",),
    ("runs", "posted"),
    ("scripts",),
    ("defs", "api"),
    ("definitions", "cli", "client"),
    ("demo", "__init__", "__main__"),
)
ROW = {unit: row for row, units in enumerate(ROWS) for unit in units}

# The only units that may import it at all.
HOMES: dict[str, frozenset[str]] = {
    "alembic": frozenset({"store"}),
    "cryptography": frozenset({"vault"}),
    "dagster": frozenset({"defs", "definitions", "cli", "demo"}),
    "fastapi": frozenset({"api"}),
    "prometheus_client": frozenset({"api"}),
    "psycopg": frozenset({"store"}),
    "requests": frozenset({"http"}),
    "sqlalchemy": frozenset({"store"}),
    "sqlite3": frozenset({"store"}),
    "starlette": frozenset({"api"}),
    "urllib3": frozenset({"http"}),
    "uvicorn": frozenset({"api", "cli"}),
}

# The only units that may import it where it costs at once; all others do so inside a function.
AT_MODULE_LEVEL: dict[str, frozenset[str]] = {
    "alembic": frozenset(),  # the folder of migrations, which only Alembic loads, is not looked at for this
    "dagster": frozenset({"defs", "definitions"}),
    "fastapi": frozenset({"api"}),
    "pandas": frozenset(),
    "starlette": frozenset({"api"}),
    "uvicorn": frozenset({"api"}),
}
LOADED_BY_ALEMBIC = PACKAGE / "store" / "migrations"

# Dagster is one thing in several distributions.
SAME = {"dagster_postgres": "dagster", "dagster_webserver": "dagster", "dagster_graphql": "dagster"}

# Where the name to import is not the name to install, or what we import comes with something we declare.
DISTRIBUTIONS = {
    "dotenv": "python-dotenv",
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "urllib3": "requests",
    "yaml": "pyyaml",
}

# `nango_dagster` itself in `import nango_dagster`, or in `from nango_dagster import Nango`.
ITSELF = "__init__"


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, the line, and whether importing the file imports it."""

    name: str
    line: int
    at_once: bool

    @property
    def top(self) -> str:
        top = self.name.split(".")[0]
        return SAME.get(top, top)

    @property
    def unit(self) -> str:
        """The row's entry that an import from our own package means."""
        return [*self.name.split("."), ITSELF][1]


def imports(source: str, file: Path) -> Iterator[Import]:
    """All imports of a file, those in functions and for type checkers only too."""
    yield from _visit(ast.parse(source), _package_of(file), at_once=True)


def _package_of(file: Path) -> list[str]:
    return list(file.relative_to(ROOT).parent.parts)


def _visit(node: ast.AST, package: list[str], *, at_once: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_once)
        elif isinstance(child, ast.ImportFrom):
            for name in _from_names(child, package):
                yield Import(name, child.lineno, at_once)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _visit(child, package, at_once=False)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _visit(child, package, at_once=at_once and not later)


def _from_names(node: ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """`from a import b` may mean the module a.b: of our own package it does, where there is such a module."""
    base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
    module = ".".join(part for part in (base, node.module) if part)
    if module != PACKAGE.name:
        yield module
        return
    for alias in node.names:
        yield f"{module}.{alias.name}" if alias.name in ROW else module


def unit_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def wrong_imports(source: str, file: Path) -> list[str]:
    """A sentence for each import that breaks a rule."""
    unit = unit_of(file)
    where = file.relative_to(ROOT)
    return [
        f"{where}:{found.line}: {sentence}"
        for found in imports(source, file)
        if (sentence := _wrong_inside(unit, found) or _wrong_outside(unit, found, file))
    ]


def _wrong_inside(unit: str, found: Import) -> str | None:
    if found.top != PACKAGE.name or found.unit == unit or found.unit == ITSELF:
        return None
    if found.unit not in ROW:
        return f"{unit} imports {found.name}, which stands in no row"
    if ROW[found.unit] >= ROW[unit]:
        direction = "beside" if ROW[found.unit] == ROW[unit] else "below"
        return f"{unit} imports {found.unit}, which stands {direction} it"
    return None


def _wrong_outside(unit: str, found: Import, file: Path) -> str | None:
    homes = HOMES.get(found.top)
    if homes is not None and unit not in homes:
        return f"{unit} imports {found.name}, whose home is {' and '.join(sorted(homes))}"
    early = AT_MODULE_LEVEL.get(found.top)
    if early is None or unit in early or not found.at_once or file.is_relative_to(LOADED_BY_ALEMBIC):
        return None
    return f"{unit} imports {found.name} at module level; import it in the function that needs it"


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_above_it_and_leaves_outside_things_to_their_home(file: Path) -> None:
    assert wrong_imports(file.read_text(), file) == []


def test_each_module_stands_in_a_row() -> None:
    assert {unit_of(file) for file in FILES} - set(ROW) == set()


def test_what_the_package_imports_is_declared_in_pyproject() -> None:
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert block is not None
    declared = set(re.findall(r'^    "([\w-]+)', block.group(1), re.M))
    imported = {found.name.split(".")[0] for file in FILES for found in imports(file.read_text(), file)}
    outside = imported - set(sys.stdlib_module_names) - {PACKAGE.name}
    assert {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in outside} - declared == set()


LIGHT = ("errors", "config", "cli", "client", ITSELF)


@pytest.mark.parametrize("unit", [unit for unit in LIGHT if unit in map(unit_of, FILES)])
def test_a_light_module_starts_without_what_is_slow_to_import(unit: str) -> None:
    name = PACKAGE.name if unit == ITSELF else f"{PACKAGE.name}.{unit}"
    slow = ("alembic", "dagster", "fastapi", "pandas", "sqlalchemy", "uvicorn")
    code = f"import sys, {name}; print(*(m for m in {slow!r} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert out.stdout.split() == []


@pytest.mark.parametrize(
    ("file", "source", "said"),
    [
        ("fetch/pages.py", "from nango_dagster.runs import drain", "which stands below it"),
        ("fetch/pages.py", "def f():\n    import nango_dagster.runs", "fetch/pages.py:2: fetch imports runs"),
        ("fetch/pages.py", "from nango_dagster import store", "which stands beside it"),
        ("fetch/pages.py", "from ..store import syncs", "which stands beside it"),
        ("auth/oauth.py", "from ..store import syncs", "which stands beside it"),
        ("fetch/pages.py", "import nango_dagster.odds", "stands in no row"),
        ("fetch/pages.py", "import requests.adapters", "whose home is http"),
        (
            "runs.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sqlalchemy",
            "home is store",
        ),
        ("cli.py", "import dagster as dg", "at module level"),
        ("defs/io_manager.py", "import pandas as pd", "at module level"),
        ("store/tables.py", "import alembic.command", "at module level"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str, said: str) -> None:
    (sentence,) = wrong_imports(source, PACKAGE / file)
    assert said in sentence


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("fetch/pages.py", "from nango_dagster.paging import style\nfrom nango_dagster import errors"),
        ("store/jobs.py", "import sqlalchemy as sa\nfrom nango_dagster.store.database import Database"),
        ("store/jobs.py", "from .database import Database\nfrom . import queue"),
        ("store/migrations/env.py", "from alembic import context"),
        ("cli.py", "def dev():\n    import dagster, uvicorn"),
        ("defs/io_manager.py", "def load():\n    import pandas as pd"),
    ],
)
def test_a_right_import_is_left_alone(file: str, source: str) -> None:
    assert wrong_imports(source, PACKAGE / file) == []
