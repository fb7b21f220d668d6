"""Configs and syncs that are not loaded: an error where definitions are validated, otherwise an asset that says why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dagster import AssetKey, AssetsDefinition, AssetSpec

from ..config.names import plain
from ..errors import ConfigError

GROUP = "not_loaded"
VALIDATION = "DAGSTER_IS_DEFS_VALIDATION_CLI"
"""The environment variable that `dagster definitions validate` and `dg check defs` set to 1."""


@dataclass(frozen=True)
class NotLoaded:
    """A config file or a sync, and why it is not loaded."""

    name: str
    error: str

    @classmethod
    def of(cls, error: ConfigError) -> NotLoaded:
        """The error of a config file, named after the file."""
        file = error.problems[0].file
        return cls(Path(file).stem if file else "sync_configs", str(error))


def refuse(problems: Sequence[NotLoaded]) -> None:
    """Raise ConfigError with all problems where the definitions are being validated."""
    if problems and os.environ.get(VALIDATION) == "1":
        raise ConfigError("\n".join(problem.error for problem in problems))


def merged(problems: Sequence[NotLoaded]) -> list[NotLoaded]:
    """The problems with those of one name as one."""
    errors: dict[str, list[str]] = {}
    for problem in problems:
        errors.setdefault(plain(problem.name)[:200], []).append(problem.error)
    return [NotLoaded(name, "\n\n".join(sentences)) for name, sentences in errors.items()]


def build_notice(problem: NotLoaded, number: int) -> AssetsDefinition:
    """An asset that says in the UI what is missing and why; `number` distinguishes problems with the same name."""
    spec = AssetSpec(
        AssetKey([GROUP, problem.name if number == 1 else f"{problem.name}_{number}"]),
        description=f"{problem.name} is not loaded:\n\n{problem.error}",
        group_name=GROUP,
        kinds={"error"},
    )
    return AssetsDefinition(specs=[spec])
