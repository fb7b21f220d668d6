"""The Python scripts that stand beside a `nango.yaml`: `<integration>/syncs/<name>.py`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from nango_dagster.errors import ConfigError, Problem

ENTRY = "fetch_data"


def entry_of(path: Path, file: str) -> str:
    """The function of a script that an execution calls: `fetch_data`, or the only one that `@sync` decorates.

    The file is not imported. Raises ConfigError with its line where there is no such function.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        raise ConfigError.of(Problem(f"the file is no Python: {error}.", file=file, line=line)) from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [node.name for node in functions if node.name == ENTRY] or [
        node.name for node in functions if "sync" in _decorators(node)
    ]
    if len(names) != 1:
        found = "several functions with @sync" if names else "no such function"
        sentence = f"the script has {found}; wanted def {ENTRY}(nango), or one function with @sync."
        raise ConfigError.of(Problem(sentence, file=file, line=1))
    return names[0]


def _decorators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for node in function.decorator_list:
        called = node.func if isinstance(node, ast.Call) else node
        yield called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
