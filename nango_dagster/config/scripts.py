"""Python files of the folder of configs: their modules, and the syncs that their functions declare."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from nango_dagster.config.source import Mark, Place, Source
from nango_dagster.errors import ConfigError, Problem

MARK = "__nango_sync__"
"""The attribute of a function that `@sync` has decorated: the fields of its sync."""
_IMPORT = "nango_dagster"
_lock = threading.RLock()
_modules: dict[Path, tuple[str, ModuleType]] = {}


def declared(path: Path, folder: Path) -> Iterator[tuple[Mapping[str, Any], Source]]:
    """The fields of each sync that a Python file declares, and their place.

    A file that does not import this package is a helper of others, and is not loaded. Raises ConfigError with the
    line where the file cannot be imported.
    """
    text = path.read_text("utf-8-sig", errors="replace")
    if _IMPORT not in text:
        return
    module = load_file(path)
    name = ".".join(path.relative_to(folder).with_suffix("").parts)
    for attribute, function in list(vars(module).items()):
        fields = getattr(function, MARK, None)
        if not isinstance(fields, Mapping) or getattr(function, "__module__", None) != module.__name__:
            continue
        line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
        marks: dict[Place, Mark] = {(): Mark(line, 1)} if line else {}
        yield {**fields, "script": f"{name}:{attribute}"}, Source(os.path.relpath(path), marks)


def load_function(script: str, folder: Path) -> Callable[..., Any]:
    """The function of a script: `module:function` or `file.py:function`.

    The module is a file of the folder, or one that Python can import; the path of a file is relative to the folder, or
    to the working directory. Raises ConfigError where it cannot be loaded.
    """
    module_name, _, function_name = script.rpartition(":")
    path = file_of(script, folder)
    if path is not None:
        module = load_file(path)
    elif module_name.endswith(".py"):
        raise ConfigError(f"script: there is no file {module_name} in {folder}.")
    else:
        try:
            module = import_module(module_name)
        except Exception as error:  # whatever the user's module raises
            raise ConfigError(f"script: {script!r} cannot be loaded: {_sentence(error)}") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"script: {module_name} has no function {function_name}.")
    loaded: Callable[..., Any] = function
    return loaded


def import_module(name: str) -> ModuleType:
    """Import a module of the user, also from the working directory. Raises what the module raises."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    return importlib.import_module(name)


def load_file(path: Path) -> ModuleType:
    """The module of a file, imported once for each version of its text; modules beside it can be imported."""
    path = path.resolve()
    text = path.read_bytes()
    version = hashlib.sha256(text).hexdigest()
    with _lock:
        if path in _modules and _modules[path][0] == version:
            return _modules[path][1]
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
        name = f"nango_scripts.{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None, "a .py file has a loader"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pydantic look their module up
        try:
            # Compiled here: the loader of the file keeps bytecode by its time of change, which may stay the same.
            exec(compile(text, str(path), "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ConfigError.of(_problem(path, error)) from None
        _modules[path] = version, module
        return module


def file_of(script: str, folder: Path) -> Path | None:
    """The file of a script; None for a module that Python has to import."""
    name = script.rpartition(":")[0]
    if name.endswith(".py"):
        paths = [folder / name, Path(name)]
    else:
        paths = [folder.joinpath(*name.split(".")).with_suffix(".py")]
    return next((path for path in paths if path.is_file()), None)


def code_version(script: str, folder: Path) -> str:
    """A hash of the file of a script; the name alone where it is a module that Python has to import."""
    path = file_of(script, folder)
    return script if path is None else hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _problem(path: Path, error: BaseException) -> Problem:
    """The error of a file that cannot be imported, with the line of this file that led to it."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if line is None and frames:
        line = frames[-1].lineno
    if isinstance(error, ConfigError):
        return Problem(str(error), file=os.path.relpath(path), line=line)
    return Problem(f"the file cannot be imported: {_sentence(error)}", file=os.path.relpath(path), line=line)


def _sentence(error: BaseException) -> str:
    message = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}."
