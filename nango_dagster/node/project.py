"""A Nango project: its sync scripts, and the files that each of them is made of."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ..errors import ConfigError

_LISTED: Final = re.compile(r"""^\s*(?:import|export\s+\*\s+from)\s+['"]\./([^'"]+)['"]""", re.MULTILINE)
_IMPORTED: Final = re.compile(r"""(?<![\w$.])(?:from|import|require\()\s*['"](\.[^'"\n]+)['"]""")
_TYPES: Final = re.compile(r"(?<![\w$.])import\s+type\b[^;]*?from\s*['\"][^'\"\n]+['\"]")
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
    """What the project's own compiler made of it, where that is newer."""

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
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def scripts_of(root: Path) -> list[Script]:
    """The sync scripts that the `index.ts` of a project lists, in its order; none where there is no such file.

    Raises ConfigError where the file cannot be read.
    """
    index = root / "index.ts"
    if not index.is_file():
        return []
    found: dict[Path, Script] = {}
    for imported in _LISTED.findall(_COMMENTS.sub("", _text(index))):
        parts = imported.split("/")
        if len(parts) < 3 or parts[-2] != "syncs":
            continue
        path = root / re.sub(r"\.[cm]?js$", ".ts", imported)
        path = path if path.suffix == ".ts" else path.with_name(path.name + ".ts")
        script = Script(root, parts[0], path.stem, path, _built(root, parts[0], path))
        found.setdefault(path, script)
    return list(found.values())


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
