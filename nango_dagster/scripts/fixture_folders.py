"""Recorded answers in folders, the format of Nango's templates of 2025.

`mocks/<sync>/<Model>/batchSave.json` and `batchDelete.json` have the records of a sync, and `mocks/nango` the answers
of the API for all scripts beside it: `<method>/proxy/<endpoint>/<sync>/<hash>.json` is one answer with its request, and
`<method>/proxy/<endpoint>/<sync>.json` a body alone, which is the only page of its list. `mocks/nango/getMetadata.json`
and `getConnection.json` have the results of these calls.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError

FILE_SUFFIX: Final = ".test.json"
_FOLDER: Final = "mocks"
_SHARED: Final = "nango"
_RECORDS: Final = ("batchSave", "batchUpdate", "batchDelete")
_VALUES: Final = ("getMetadata", "getConnection", "getCheckpoint")
_HASH: Final = re.compile(r"[0-9a-f]{40}\.json", re.ASCII)
_SKIPPED: Final = frozenset({"node_modules", ".git", ".venv", "__pycache__"})
ONLY_PAGE: Final = "only_page"
"""The field of an answer that was recorded as a body alone."""


def fixtures_in(root: Path) -> list[Path]:
    """The recorded tests at or below a folder, in their order: files `*.test.json`, and the folders of syncs.

    Folders of actions have no records, and are left out.
    """
    if is_fixture_folder(root):
        return [root]
    fixtures: list[Path] = []
    for name, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if folder not in _SKIPPED]
        folder = Path(name)
        fixtures += [folder / file for file in files if file.endswith(FILE_SUFFIX)]
        fixtures += [folder / inner for inner in folders if is_fixture_folder(folder / inner)]
    return sorted(fixtures)


def is_fixture_folder(path: Path) -> bool:
    """Whether a folder has the recorded records of a sync."""
    return path.parent.name == _FOLDER and path.name != _SHARED and any(_record_files(path))


def document_of(path: Path) -> dict[str, Any]:
    """The content of a sync's folder as a `*.test.json` has it. Raises ConfigError for a file that cannot be read."""
    calls: dict[str, Any] = {"batchSave": {}}
    for file in _record_files(path):
        calls.setdefault(file.stem, {})[file.parent.name] = _read(file)
    shared = path.parent / _SHARED
    for folder in (shared, path):  # those of the sync alone replace those of all
        calls |= {name: _read(folder / f"{name}.json") for name in _VALUES if (folder / f"{name}.json").is_file()}
    api: dict[str, dict[str, list[Any]]] = {}
    for method, endpoint, answer in _answers(shared, path.name):
        api.setdefault(method, {}).setdefault(endpoint, []).append(answer)
    return {
        "sync": path.name,
        "integration": Path(os.path.abspath(path)).parent.parent.name,
        "nango": calls,
        "api": api,
    }


def _record_files(path: Path) -> Iterator[Path]:
    return (file for name in _RECORDS for file in sorted(path.glob(f"*/{name}.json")))


def _answers(shared: Path, sync: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The method, endpoint and answer of each file of a sync."""
    for method in sorted(shared.iterdir()) if shared.is_dir() else ():
        root = method / "proxy"
        for file in sorted(root.rglob("*.json")):
            endpoint = file.parent.relative_to(root)
            if file.is_file() and file.stem == sync:
                answer = {"response": _read(file), ONLY_PAGE: True}
                yield method.name.lower(), endpoint.as_posix(), answer
            elif file.is_file() and file.parent.name == sync and _HASH.fullmatch(file.name):
                answer = _answer(file)
                yield method.name.lower(), str(answer.get("endpoint") or endpoint.parent.as_posix()), answer


def _answer(file: Path) -> dict[str, Any]:
    """An answer with its request."""
    recorded = _read(file)
    if not isinstance(recorded, Mapping) or "response" not in recorded:
        raise ConfigError(f'{file}: it has no "response"; wanted a recorded answer with its request.')
    identity = recorded.get("requestIdentity")
    request = {name: identity[name] for name in ("params", "data") if name in identity} if identity else {}
    return {**recorded, "request": request}


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: it cannot be read: {error}.") from None
