"""A model of records by its name, and the values that follow from its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from .definitions import schema_of
from .fields import ModelField, fields_of
from .validation import misfit, validator


@dataclass(frozen=True)
class RecordModel:
    """The declared fields of the records of one kind."""

    name: str
    json_schema: Mapping[str, Any]

    @cached_property
    def fields(self) -> tuple[ModelField, ...]:
        """The fields that a mapped table has columns for."""
        return fields_of(self.json_schema)

    def misfit(self, record: bytes) -> str | None:
        """Why a record, as JSON text, does not fit the model; None where it fits."""
        return misfit(validator(self.json_schema), msgspec.json.decode(record))


def record_model(definition: Any, name: str | None = None) -> RecordModel:
    """The model of a pydantic model, dataclass, msgspec Struct, TypedDict or JSON Schema.

    The name of a class, or the `title` of a schema, is the name of the model where none is given. Raises ConfigError
    where the definition is no model.
    """
    schema = schema_of(definition)
    name = name or getattr(definition, "__name__", None) or schema.get("title") or "Record"
    return RecordModel(str(name), schema)
