"""Each sync's records in the reference: a schema with the fields that its config declares, or that were seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from ...mapping import Type
from ...store.models import Model, Steps

MOST_MODELS = 200
MOST_FIELDS = 400
MOST_LEVELS = 20

_TYPES = {Type.BOOLEAN: "boolean", Type.NUMBER: "number", Type.STRING: "string", Type.TIMESTAMP: "string"}
_METADATA = {"$ref": "#/components/schemas/Metadata"}


def with_models(reference: Mapping[str, Any], models: Sequence[Model], others: int = 0) -> dict[str, Any]:
    """The reference with a schema for each model; `others` are left out."""
    schemas = dict(reference["components"]["schemas"])
    names = []
    for model in models:
        names.append(_name(model, schemas))
        schemas[names[-1]] = (
            _schema(model) if model.json_schema is None else _declared(model, model.json_schema, names[-1])
        )
    schemas["RecordList"] = _list(schemas["RecordList"], names, others)
    paths = dict(reference["paths"])
    paths["/records"] = _with_examples(paths["/records"], dict(zip(names, models, strict=True)))
    return {**reference, "paths": paths, "components": {**reference["components"], "schemas": schemas}}


def _name(model: Model, taken: Iterable[str]) -> str:
    """A unique name for the schema, with the characters that OpenAPI allows."""
    whole = f"records.{model.row.integration}.{model.name}"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", whole)
    if name != whole or name in taken:
        name = f"{name}.{blake2b(whole.encode(), digest_size=4).hexdigest()}"
    return name


def _list(schema: dict[str, Any], names: Sequence[str], others: int) -> dict[str, Any]:
    records = schema["properties"]["records"]
    known = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    shown = {**records, "items": {"anyOf": [*known, records["items"]]}}
    if others:
        shown["description"] = f"The models of {others:,} more syncs are not shown here."
    return {**schema, "properties": {**schema["properties"], "records": shown}}


def _with_examples(path: dict[str, Any], models: Mapping[str, Model]) -> dict[str, Any]:
    get = dict(path["get"])
    examples = {name: {"value": model.name, "summary": _summary(model)} for name, model in models.items()}
    get["parameters"] = [
        {**parameter, "examples": examples} if examples and parameter["name"] == "model" else parameter
        for parameter in get["parameters"]
    ]
    return {**path, "get": get}


def _summary(model: Model) -> str:
    return f"{model.name}: sync {model.row.name} of {model.row.integration}"


def _schema(model: Model) -> dict[str, Any]:
    sync = model.row.sync
    root = _Node()
    for steps, type_ in model.fields[:MOST_FIELDS]:
        root.add(steps, type_)
    root.inside.pop("_nango_metadata", None)
    known = {name: node.schema() for name, node in root.inside.items()}
    id_ = known.pop("id", None)
    own = id_ if id_ is not None and sync.unique_key == "id" else {"type": "string"}
    note = "The fields are those of the records so far; any may be missing or null, and others may appear."
    return {
        "type": "object",
        "title": model.name,
        "description": f"A record of the sync {model.row.name} of the integration {model.row.integration}. {note}",
        "properties": {"id": own, **known, "_nango_metadata": _METADATA},
        "required": ["id", "_nango_metadata"],
    }


def _declared(model: Model, schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The schema of a record model, with the field `_nango_metadata` that the API adds to each record.

    References into the model lead to its place in the document.
    """
    own = _moved(schema, f"#/components/schemas/{name}/")
    properties = {**own.pop("properties", {}), "_nango_metadata": _METADATA}
    properties = {"id": {"type": "string"}, **properties}
    note = f"A record of the sync {model.row.name} of the integration {model.row.integration}."
    for keyword in ("additionalProperties", "$schema", "$id"):
        own.pop(keyword, None)
    return {
        **own,
        "type": "object",
        "title": model.name,
        "description": " ".join(filter(None, [note, own.get("description")])),
        "properties": properties,
        "required": list(dict.fromkeys(["id", *own.get("required", ()), "_nango_metadata"])),
    }


def _moved(part: Any, root: str) -> Any:
    """A part of a schema whose references begin at another root."""
    if isinstance(part, Mapping):
        moved = {key: _moved(value, root) for key, value in part.items()}
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            moved["$ref"] = root + reference[2:]
        return moved
    return [_moved(item, root) for item in part] if isinstance(part, list) else part


@dataclass
class _Node:
    """The types of the values at one place of the records."""

    types: set[str] = field(default_factory=set)
    inside: dict[str, _Node] = field(default_factory=dict)
    items: _Node | None = None

    def add(self, steps: Steps, type_: Type) -> None:
        """Add the type of the value at this path."""
        node = self
        for step in steps[:MOST_LEVELS]:
            if isinstance(step, int):
                node.types.add("array")
                node.items = node.items or _Node()
                node = node.items
            else:
                node.types.add("object")
                node = node.inside.setdefault(step, _Node())
        if len(steps) <= MOST_LEVELS:
            node.types.add(_TYPES[type_])

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of this place; below MOST_LEVELS it allows any value."""
        schema: dict[str, Any] = {"type": [*sorted(self.types), "null"]} if self.types else {}
        if self.inside:
            schema["properties"] = {name: node.schema() for name, node in self.inside.items()}
        if self.items is not None:
            schema["items"] = self.items.schema()
        return schema
