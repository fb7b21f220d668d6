"""A `nango.yaml` with the Python scripts beside it, as fields of sync configs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nango_dagster.config.nango_yaml.declared_sync import DeclaredSync, NangoYaml
from nango_dagster.config.nango_yaml.python_scripts import entry_of
from nango_dagster.config.nango_yaml.reader import read
from nango_dagster.config.source import Source
from nango_dagster.errors import ConfigError, Problem


@dataclass
class NangoProject:
    """The syncs of a `nango.yaml` that Python scripts belong to, and its problems."""

    entries: list[tuple[Mapping[str, Any], Source]] = field(default_factory=list)
    """The fields of each sync, and their places."""
    scripts: list[Path] = field(default_factory=list)
    """The files of these syncs."""
    problems: list[Problem] = field(default_factory=list)
    """Those of the `nango.yaml`."""
    script_problems: list[Problem] = field(default_factory=list)
    """Those of Python scripts."""
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, folder: Path) -> NangoProject:
        """Read a file; `folder` is that of the configs, which the paths of scripts are relative to.

        A sync with a TypeScript script is left to `nango_dagster.node`.
        """
        file = os.path.relpath(path)
        project = cls()
        try:
            content = read(path, file)
        except ConfigError as error:
            project.problems += error.problems
            return project
        project.problems += content.problems
        project.warnings += _warnings(content, file)
        for sync in content.syncs:
            script = sync.script(path.parent)
            if script is None:
                project.problems.append(_no_script(sync))
            elif script.suffix == ".py":
                project._add(sync, path.parent / script, folder)
            else:
                project.warnings.append(
                    f"{file}:{sync.line}: the sync {sync.name} has a TypeScript script, which runs only where "
                    "NANGO_SCRIPTS is the folder of this file."
                )
        return project

    def _add(self, sync: DeclaredSync, script: Path, folder: Path) -> None:
        self.scripts.append(script)
        try:
            entry = entry_of(script, os.path.relpath(script))
        except ConfigError as error:
            self.script_problems += error.problems
            return
        path = Path(os.path.relpath(script, folder) if folder.is_dir() else script.resolve()).as_posix()
        self.entries.append(({**sync.fields, "script": f"{path}:{entry}"}, sync.source))


def _warnings(content: NangoYaml, file: str) -> Iterator[str]:
    yield from map(str, content.warnings)
    if sentence := content.not_run_sentence(file):
        yield sentence


def _no_script(sync: DeclaredSync) -> Problem:
    path = f"{sync.integration}/syncs/{sync.name}"
    sentence = f"the sync {sync.name} has no script; wanted {path}.py, or {path}.ts, beside this file."
    return sync.source.locate(Problem(sentence, field="name"))
