"""The JSON Schema of a model that is defined in Python or in a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .fields import MOST_FIELDS, fields_of
from .validation import check_schema

WANTED = "a JSON Schema, a pydantic model, a dataclass, a msgspec Struct or a TypedDict"


def schema_of(definition: Any) -> dict[str, Any]:
    """The JSON Schema of a pydantic model, dataclass, msgspec Struct or TypedDict, or the schema that is given.

    >>> schema_of({"type": "object", "properties": {"id": {"type": "integer"}}})["type"]
    'object'

    Raises ConfigError where it is none of these, or no schema of an object with fields.
    """
    schema = _schema(definition)
    check_schema(schema)
    fields = fields_of(schema)
    if not fields:
        raise ConfigError("the model has no fields; wanted the schema of an object with properties.")
    if len(fields) > MOST_FIELDS:
        raise ConfigError(
            f"the model has more than {MOST_FIELDS:,} fields; wanted at most as many as a table has columns."
        )
    return schema


def _schema(definition: Any) -> dict[str, Any]:
    if isinstance(definition, Mapping):
        return dict(definition)
    if not isinstance(definition, type):
        raise ConfigError(f"the model is a {type(definition).__name__}; wanted {WANTED}.")
    try:
        if _is_struct(definition):
            import msgspec

            return msgspec.json.schema(definition)
        is_typed_dict = issubclass(definition, dict) and hasattr(definition, "__total__")
        if hasattr(definition, "model_json_schema") or dataclasses.is_dataclass(definition) or is_typed_dict:
            from pydantic import PydanticUserError, TypeAdapter

            try:
                return TypeAdapter(definition).json_schema()
            except PydanticUserError:
                if not is_typed_dict:
                    raise
                import msgspec  # pydantic takes typing.TypedDict from Python 3.12 on

                return msgspec.json.schema(definition)
    except Exception as error:  # pydantic and msgspec raise many kinds for a class that they cannot describe
        raise ConfigError(f"the model {definition.__name__} has no JSON Schema: {error}.") from error
    raise ConfigError(f"the model is the class {definition.__name__}; wanted {WANTED}.")


def _is_struct(definition: type) -> bool:
    return any(base.__module__ == "msgspec" and base.__name__ == "Struct" for base in definition.__mro__)
