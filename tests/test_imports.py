"""The order of imports, read from the source without running it.

Four rules hold for every import, also for one inside a function or for type checkers only:

- A package or top-level module imports only from rows above its own (`ROWS`, `APART`).
- Inside a package a module imports only from rows above its own (`INSIDE`).
- No circle: modules never import each other, directly or through others.
- Each outside thing has one home (`HOMES`), and what is slow to import is imported by the function that needs it
  (`AT_MODULE_LEVEL`): each run is a process of its own, and pays for its imports again.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "nango_dagster"

# From the top; a name stands for a module, or for a folder with all that is in it.
ROWS: tuple[tuple[str, ...], ...] = (
    ("errors", "clock", "timestamps"),
    ("checkpoint", "settings", "paths", "partition_keys", "sentences", "models"),
    ("config", "http", "vault", "dagster_yaml", "sample_api"),
    ("bodies",),
    ("records",),
    ("paging", "mapping", "templates"),
    ("auth", "fetch", "webhooks"),
    ("incremental",),
    ("sources", "store"),
    ("scripts",),
    ("node",),
    ("control",),
    ("runs", "posted"),
    ("defs", "api"),
    ("definitions", "cli", "client"),
    ("testing",),
    ("demo", "__init__", "__main__"),
)
ROW = {unit: row for row, units in enumerate(ROWS) for unit in units}

# Units that a unit must not import although it is above them: the store knows neither APIs nor how they are read.
APART: Mapping[str, frozenset[str]] = {
    "store": frozenset({"auth", "fetch", "paging", "webhooks"}),
    "scripts": frozenset({"store"}),
}

# The order inside a package, from the top; a package that is not listed is held to "no circle" alone.
INSIDE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "api": (
        ("errors", "answers"),
        ("gate",),
        ("input", "background", "reload", "store"),
        ("service",),
        ("docs",),
        ("routes",),
        ("app",),
        ("serving",),
    ),
    "control": (("report", "selection"), ("checkpoints", "connections", "syncs", "variants")),
    "models": (("fields", "validation"), ("definitions",), ("record_model",)),
    "auth": (("oauth1",), ("kinds",), ("access", "oauth2"), ("servers",)),
    "bodies": (("charsets", "formats", "gzip_files", "members"), ("tables",), ("json_text",)),
    "http": (
        ("addresses", "headers", "links", "rates", "redaction"),
        ("urls",),
        ("failures", "request"),
        ("redirects", "sockets"),
        ("transport",),
        ("verdicts",),
        ("client", "post"),
    ),
    "mapping": (
        ("names", "types"),
        ("plan", "values"),
        ("places", "widths"),
        ("layout",),
        ("fast_rows", "preview"),
    ),
    "runs": (
        ("access", "connection_answer", "functions", "lease", "limits", "values"),
        ("delivering", "opening"),
        ("children", "services"),
        ("reading",),
        ("ending",),
        ("execution", "proxy"),
        ("claiming", "retrying", "trying"),
        ("draining",),
    ),
    "sources": (
        ("source",),
        ("bounds", "change_token", "saving", "user_value"),
        ("incremental_list",),
        ("declarative",),
        ("for_each",),
    ),
    "incremental": (("time_texts",), ("state", "values"), ("cursor", "definition", "tracking"), ("manual",)),
    "cli": (
        ("connection_input", "formatting", "ports", "processes"),
        ("command",),
        ("example_parent", "instance", "sample", "script_dry_run", "script_tests", "steer", "syncs"),
        ("sync_states", "table_differences"),
        ("status_tables",),
        ("config_watch", "dry_run", "project", "records", "rejected", "status", "tables", "webhooks"),
        ("connections", "run", "serve"),
        ("__main__", "reference"),
    ),
    "client": (
        ("answers", "calls"),
        ("connected", "reading"),
        ("connection_calls", "record_calls", "sync_calls"),
        ("nango",),
    ),
    "records": (("decoding", "raw_json"), ("document", "hashes"), ("keys", "refusals"), ("envelope",)),
    "paging": (("answer",), ("counted", "cursors", "ending"), ("urls",), ("styles",)),
    "fetch": (("ahead", "evidence", "unpaged", "guard", "progress", "requests", "responses"), ("sending",), ("pages",)),
    "store": (
        (
            "key_sets",
            "merging",
            "sealing",
            "sync_row",
            "system_columns",
            "tally",
            "target",
            "types",
            "webhook_settings",
        ),
        ("schema", "validation"),
        ("changes", "checkpoints", "problems"),
        ("rows",),
        ("differences", "engine", "rows_postgresql", "rows_sqlite"),
        ("database", "engine_postgresql", "locks"),
        ("engine_sqlite",),
        (
            "budgets",
            "datasets",
            "integrations",
            "listing",
            "outbox",
            "ownership",
            "parents",
            "reach",
            "rejected",
            "scheduling",
            "script_locks",
        ),
        ("upgrade",),
        ("announcing", "deletions", "migrations", "tables"),
        ("overwrite", "windows"),
        ("catalog", "queue", "vanished"),
        ("key_forms",),
        ("batches",),
        ("upsert",),
        ("credential_state", "erasure", "jobs", "opening", "pruning", "syncs"),
        ("connections", "figures", "models", "retention", "status"),
    ),
}

# The only units that may import it at all.
HOMES: dict[str, frozenset[str]] = {
    "alembic": frozenset({"store"}),
    "cryptography": frozenset({"vault"}),
    "dagster": frozenset({"defs", "definitions", "cli", "demo"}),
    "fastapi": frozenset({"api"}),
    "prometheus_client": frozenset({"api"}),
    "jsonschema_rs": frozenset({"models"}),
    "jsonpath": frozenset({"paths"}),
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
SAME = {
    "dagster_postgres": "dagster",
    "dagster_shared": "dagster",
    "dagster_webserver": "dagster",
    "dagster_graphql": "dagster",
}

# Packages whose name to import is not the name to install, or that a declared dependency brings.
DISTRIBUTIONS = {
    "dagster_shared": "dagster",
    "jsonpath": "python-jsonpath",
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
        """The entry of `ROWS` that an import from our own package refers to."""
        return [*self.name.split("."), ITSELF][1]


def imports(source: str, file: Path) -> Iterator[Import]:
    """All imports of a file, including those in functions and for type checkers only."""
    yield from _visit(ast.parse(source), list(file.relative_to(ROOT).parent.parts), at_once=True)


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
    """The modules of `from a import b, c`: a.b where our own package has such a module, else a."""
    base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
    module = ".".join(part for part in (base, node.module) if part)
    names = [f"{module}.{alias.name}" for alias in node.names]
    is_module = [name in MODULES or (module == PACKAGE.name and name.split(".")[1] in ROW) for name in names]
    yield from (name for name, known in zip(names, is_module, strict=True) if known)
    if not all(is_module):
        yield module


def module_of(file: Path) -> str:
    """The dotted name of a file's module; a package's is that of its folder."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(f".{ITSELF}")


def unit_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def wrong_imports(source: str, file: Path) -> list[str]:
    """A sentence for each import that breaks a rule."""
    where = file.relative_to(ROOT)
    rules = (_against_rows, _against_inner_rows, _against_homes)
    return [
        f"{where}:{imported.line}: {sentence}"
        for imported in imports(source, file)
        for rule in rules
        if (sentence := rule(imported, file))
    ]


def _against_rows(imported: Import, file: Path) -> str | None:
    unit = unit_of(file)
    if imported.top != PACKAGE.name or imported.unit in (unit, ITSELF):
        return None
    if imported.unit not in ROW:
        return f"{unit} imports {imported.name}, which stands in no row"
    if imported.unit in APART.get(unit, ()):
        return f"{unit} imports {imported.unit}, which it is kept apart from"
    return _direction(unit, imported.unit, ROW)


def _against_inner_rows(imported: Import, file: Path) -> str | None:
    """The rule for two modules of one package; its `__init__` imports all of them, and the last row imports that."""
    unit = unit_of(file)
    parts = imported.name.split(".")
    if unit not in INSIDE or imported.unit != unit or file == PACKAGE / unit / "__init__.py":
        return None
    own = file.relative_to(PACKAGE / unit).parts[0].removesuffix(".py")
    if len(parts) < 3:
        from_package = f"{own} imports the package {unit}; import the module that defines the name"
        return None if own in INSIDE[unit][-1] else from_package
    other = parts[2]
    return None if own == other else _direction(own, other, _inner_row(unit))


def _inner_row(unit: str) -> dict[str, int]:
    return {name: row for row, names in enumerate(INSIDE[unit]) for name in names}


def _direction(unit: str, other: str, row: Mapping[str, int]) -> str | None:
    if row.get(other, -1) < row.get(unit, len(row)):
        return None
    return f"{unit} imports {other}, which stands {'beside' if row[other] == row[unit] else 'below'} it"


def _against_homes(imported: Import, file: Path) -> str | None:
    unit = unit_of(file)
    homes = HOMES.get(imported.top)
    if homes is not None and unit not in homes:
        return f"{unit} imports {imported.name}, whose home is {' and '.join(sorted(homes))}"
    early = AT_MODULE_LEVEL.get(imported.top)
    if early is None or unit in early or not imported.at_once or file.is_relative_to(LOADED_BY_ALEMBIC):
        return None
    return f"{unit} imports {imported.name} at module level; import it in the function that needs it"


def circle(modules: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle, each importing the next and the last importing the first; empty without one."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        members: list[str] = list(reversed(error.args[1]))[:-1]
        first = members.index(min(members))
        return members[first:] + members[:first]
    return []


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = frozenset(map(module_of, FILES))


def test_a_module_imports_only_from_rows_above_it_and_leaves_outside_things_to_their_home() -> None:
    assert [sentence for file in FILES for sentence in wrong_imports(file.read_text(), file)] == []


def test_each_module_stands_in_a_row() -> None:
    assert {unit_of(file) for file in FILES} - set(ROW) == set()


@pytest.mark.parametrize("unit", INSIDE)
def test_each_module_of_an_ordered_package_stands_in_a_row_of_it(unit: str) -> None:
    names = {file.relative_to(PACKAGE / unit).parts[0].removesuffix(".py") for file in FILES if unit_of(file) == unit}
    assert names - {ITSELF} == set(_inner_row(unit))


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_of(file): _imported_modules(file) for file in FILES}
    assert circle(modules) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == ["a", "b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def _imported_modules(file: Path) -> set[str]:
    """The modules of our package that a file imports."""
    return ({imported.name for imported in imports(file.read_text(), file)} & MODULES) - {module_of(file)}


def test_what_the_package_imports_is_declared_in_pyproject() -> None:
    block = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert block is not None
    declared = set(re.findall(r'^    "([\w-]+)', block.group(1), re.M))
    imported = {name.name.split(".")[0] for file in FILES for name in imports(file.read_text(), file)}
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
        ("fetch/pages.py", "from nango_dagster import auth", "which stands beside it"),
        ("fetch/pages.py", "from ..store import syncs", "which stands below it"),
        ("auth/oauth.py", "from ..store import syncs", "which stands below it"),
        ("cli/formatting.py", "from .command import Session", "formatting imports command, which stands below it"),
        ("cli/run.py", "from .connections import add", "run imports connections, which stands beside it"),
        ("cli/run.py", "from . import main", "run imports the package cli"),
        ("store/jobs.py", "from ..fetch import Fetch", "store imports fetch, which it is kept apart from"),
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
