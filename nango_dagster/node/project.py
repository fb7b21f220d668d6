"""A Nango project: its sync scripts, and the files that each of them is made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ..config import nango_yaml
from ..errors import ConfigError, Problem

INDEX: Final = "index.ts"
DECLARATIONS: Final = "nango.yaml"
_LISTED: Final = re.compile(r"""^\s*(?:import|export\s+\*\s+from)\s+['"]\./([^'"]+)['"]""", re.MULTILINE)
_IMPORTED: Final = re.compile(r"""(?:from|import|import\(|require\()\s*['"](\.[^'"\n]+)['"]""")
_TYPES: Final = re.compile(r"import\s+type\b[^;]*?from\s*['\"][^'\"\n]+['\"]")
_ENDINGS: Final = ("", ".ts", ".mts", ".js", ".mjs", ".cjs", ".json", "/index.ts", "/index.js")
_COMMENTS: Final = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)


@dataclass(frozen=True)
class Script:
    """A sync script of a project, before it was read."""

    root: Path
    integration: str
    name: str
    path: Path
    """The file of the script in the project."""
    built: Path | None = None
    """The newer output of the project's own compiler, if there is one."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The fields of its config, where a `nango.yaml` declares it."""

    @property
    def where(self) -> str:
        """The path in the project."""
        return self.path.relative_to(self.root).as_posix()

    @property
    def entry(self) -> Path:
        """The file to run."""
        return self.built or self.path

    @cached_property
    def files(self) -> Mapping[str, str]:
        """The text of the script and of the files of the project that it imports, by path. Raises ConfigError."""
        return dict(_closure(self.entry))

    @cached_property
    def digest(self) -> str:
        """A hash of all these files."""
        parts = [part for path, text in sorted(self.files.items()) for part in (path, text)]
        parts.append(json.dumps(dict(self.fields), sort_keys=True, default=str))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def is_project(root: Path) -> bool:
    """Whether a folder is a Nango project."""
    return (root / INDEX).is_file() or (root / DECLARATIONS).is_file()


def scripts_of(root: Path) -> tuple[list[Script], list[Problem]]:
    """The TypeScript syncs of a project: those that its `index.ts` lists, or that its `nango.yaml` declares.

    The problems are those of the `nango.yaml`. Raises ConfigError where a file cannot be read.
    """
    if (root / INDEX).is_file():
        return _listed(root), []
    if (root / DECLARATIONS).is_file():
        return _declared(root)
    return [], []


def _listed(root: Path) -> list[Script]:
    scripts: dict[Path, Script] = {}
    for imported in _LISTED.findall(_COMMENTS.sub("", _text(root / INDEX))):
        parts = imported.split("/")
        if len(parts) < 3 or parts[-2] != "syncs":
            continue
        path = root / re.sub(r"\.[cm]?js$", ".ts", imported)
        path = path if path.suffix == ".ts" else path.with_name(path.name + ".ts")
        scripts.setdefault(path, Script(root, parts[0], path.stem, path, _built(root, parts[0], path)))
    return list(scripts.values())


def _declared(root: Path) -> tuple[list[Script], list[Problem]]:
    content = nango_yaml.read(root / DECLARATIONS, os.path.relpath(root / DECLARATIONS))
    scripts, problems = [], list(content.problems)
    for sync in content.syncs:
        relative = sync.script(root)
        if relative is None:
            where = f"{sync.integration}/syncs/{sync.name}.ts"
            problems.append(Problem(f"{DECLARATIONS}: {sync.name} has no script; wanted {where}.", line=sync.line))
        elif relative.suffix == ".ts":
            path = root / relative
            built = _built(root, sync.integration, path)
            scripts.append(Script(root, sync.integration, sync.name, path, built, sync.fields))
    return scripts, problems


def _built(root: Path, integration: str, path: Path) -> Path | None:
    """The output of `nango compile` for a script, where it is newer than the script."""
    candidates = (
        root / "build" / f"{integration}_syncs_{path.stem}.cjs",
        root / "dist" / f"{path.stem}-{integration}.js",
    )
    if not path.is_file():
        return None
    return next((it for it in candidates if it.is_file() and it.stat().st_mtime > path.stat().st_mtime), None)


def _closure(entry: Path) -> Iterator[tuple[str, str]]:
    """A file and the files of the project that it imports, each once."""
    taken: set[Path] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in taken:
            continue
        taken.add(path)
        text = _text(path)
        yield str(path), text
        if path.suffix != ".json":
            targets = (_resolved(path, name) for name in _IMPORTED.findall(_TYPES.sub("", text)))
            waiting += [target for target in targets if target is not None]


def _resolved(path: Path, name: str) -> Path | None:
    """The file of a relative import; None where there is none, as for a file of types."""
    whole = os.path.normpath(path.parent / name)
    stem = re.sub(r"\.[cm]?js$", "", whole)
    candidates = (*(whole + end for end in _ENDINGS), *(stem + end for end in _ENDINGS))
    return next((Path(candidate) for candidate in candidates if os.path.isfile(candidate)), None)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
