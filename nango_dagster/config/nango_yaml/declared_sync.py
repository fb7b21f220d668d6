"""The values that a `nango.yaml` is read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nango_dagster.config.source import Place, Source
from nango_dagster.errors import Problem

SCRIPT_SUFFIXES = (".py", ".ts")


@dataclass(frozen=True)
class DeclaredSync:
    """A sync of a `nango.yaml`."""

    integration: str
    name: str
    fields: Mapping[str, Any]
    """The fields of a sync config, without `script`: integration, name, frequency, models and others."""
    source: Source
    """The places of the fields in the file."""
    place: Place
    version: str | None = None
    scopes: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()

    @property
    def models(self) -> Mapping[str, Any]:
        """The JSON Schema of each of its models by name."""
        models: Mapping[str, Any] = self.fields["models"]
        return models

    @property
    def line(self) -> int | None:
        """The line of the sync."""
        mark = self.source.mark(())
        return mark.line if mark else None

    def script(self, folder: Path, suffixes: Sequence[str] = SCRIPT_SUFFIXES) -> Path | None:
        """Its script in the folder of the `nango.yaml`, relative to it; None where there is none."""
        stems = (Path(self.integration, "syncs", self.name), Path(self.name))
        paths = [stem.with_name(f"{stem.name}{suffix}") for stem in stems for suffix in suffixes]
        return next((path for path in paths if (folder / path).is_file()), None)


@dataclass(frozen=True)
class NangoYaml:
    """The content of a `nango.yaml`."""

    version: int
    syncs: tuple[DeclaredSync, ...] = ()
    problems: tuple[Problem, ...] = ()
    """The errors, by line; a sync with an error is not among `syncs`."""
    warnings: tuple[Problem, ...] = ()
    """How deviations from the grammar were understood."""
    not_run: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of what does not run here, by kind: actions, on-events, webhook-subscriptions."""

    def not_run_sentence(self, file: str) -> str | None:
        """One sentence about what does not run here; None where there is nothing."""
        kinds = [f"{kind} ({', '.join(names)})" for kind, names in sorted(self.not_run.items()) if names]
        return f"{file}: these do not run here: {'; '.join(kinds)}." if kinds else None
