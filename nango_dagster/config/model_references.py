"""Models in config files that name Python classes: `module:Class` becomes the JSON Schema of the class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nango_dagster.config import scripts
from nango_dagster.config.source import Place, Source, shown
from nango_dagster.errors import ConfigError, Problem
from nango_dagster.models import schema_of

_SINGLE = ("metadata_model", "checkpoint_model")
_REFERENCE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def resolved(fields: Mapping[str, Any], source: Source, folder: Path) -> Mapping[str, Any]:
    """The fields of a sync with the schemas of the classes that its models name.

    A module is a file of the folder of configs, or one that Python can import. Raises ConfigError with the place of a
    model that cannot be loaded.
    """
    changed: dict[str, Any] = {
        name: _located_schema(reference, source, (name,), folder)
        for name in _SINGLE
        if isinstance(reference := fields.get(name), str)
    }
    models = fields.get("models")
    if isinstance(models, Mapping) and any(isinstance(model, str) for model in models.values()):
        changed["models"] = {
            name: _located_schema(model, source, ("models", str(name)), folder) if isinstance(model, str) else model
            for name, model in models.items()
        }
    return {**fields, **changed} if changed else fields


def _located_schema(reference: str, source: Source, place: Place, folder: Path) -> dict[str, Any]:
    try:
        return _schema(reference, folder)
    except ConfigError as error:
        field = ".".join(map(str, place))
        sentence = f"{field} is {shown(reference)}; {error}"
        raise ConfigError.of(source.locate(Problem(sentence, field=field), place)) from None


def _schema(reference: str, folder: Path) -> dict[str, Any]:
    if not re.fullmatch(_REFERENCE, reference):
        raise ConfigError("wanted an object with a JSON Schema, or module:Class.")
    module_name, _, class_name = reference.partition(":")
    path = scripts.file_of(reference, folder)
    try:
        module = scripts.load_file(path) if path is not None else scripts.import_module(module_name)
        definition = getattr(module, class_name)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"it cannot be loaded: {error}") from None
    return schema_of(definition)
