"""`models` of a config file that name Python classes: `module:Class` becomes the JSON Schema of the class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nango_dagster.config import scripts
from nango_dagster.config.source import Source, shown
from nango_dagster.errors import ConfigError, Problem
from nango_dagster.models import schema_of

_REFERENCE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def resolved(fields: Mapping[str, Any], source: Source, folder: Path) -> Mapping[str, Any]:
    """The fields of a sync with the schemas of the classes that its `models` name.

    A module is a file of the folder of configs, or one that Python can import. Raises ConfigError with the place of a
    model that cannot be loaded.
    """
    models = fields.get("models")
    if not isinstance(models, Mapping) or not any(isinstance(model, str) for model in models.values()):
        return fields
    schemas = dict(models)
    for name, model in models.items():
        if isinstance(model, str):
            try:
                schemas[name] = _schema(model, folder)
            except ConfigError as error:
                sentence = f"models.{name} is {shown(model)}; {error}"
                place = ("models", str(name))
                raise ConfigError.of(source.locate(Problem(sentence, field=".".join(place)), place)) from None
    return {**fields, "models": schemas}


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
