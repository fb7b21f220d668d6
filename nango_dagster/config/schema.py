"""The fields as a JSON Schema for editors, and as text for errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from nango_dagster.config.sync import Sync

# Names that earlier Nango versions and their guides used; two of them are misspelled there.
ALIASES: Mapping[str, str] = {
    "paging_request_path": "paging_cursor_request_path",
    "paging_requests_path": "paging_cursor_request_path",
    "paging_respone_path": "paging_response_path",
}


@cache
def sync_schema() -> dict[str, Any]:
    """The JSON Schema of one sync, with older names."""
    schema = Sync.model_json_schema()
    properties = {name: tidied(part) for name, part in schema["properties"].items()}
    for old, name in ALIASES.items():
        properties[old] = {
            **properties[name],
            "description": f"An older name of {name}.",
            "deprecated": True,
        }
    properties = _moved_behind("models", "validate", properties)  # a base class has it, see config/sync.py
    del properties["name"]["default"]  # it stands for "not named yet"
    schema["required"] = []  # a url or a script
    schema["properties"] = properties
    schema["$defs"] = {name: tidied(part) for name, part in schema["$defs"].items()}
    return schema


def _moved_behind(first: str, second: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: part for name, part in properties.items() if name != second}
    names = [name for other in others for name in ([other, second] if other == first else [other])]
    return {name: properties[name] for name in names}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a config file: one sync, or several with defaults that they share."""
    sync = {key: part for key, part in sync_schema().items() if key not in ("$defs", "required")}
    sync["properties"] = {"$schema": {"type": "string"}, **sync["properties"]}
    reference = {"$ref": "#/$defs/Sync"}
    by_name = {"type": "object", "properties": {"defaults": reference}, "additionalProperties": reference}
    several = {
        "type": "object",
        "additionalProperties": False,
        "required": ["syncs"],
        "properties": {
            "$schema": {"type": "string"},
            "defaults": reference,
            "syncs": {"anyOf": [{"type": "array", "items": reference}, {**by_name, "properties": {}}]},
        },
    }
    has_source = {"anyOf": [{"required": ["url"]}, {"required": ["script"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Syncs of nango-dagster",
        "anyOf": [{"allOf": [reference, has_source]}, several, by_name],
        # No url is required here: it may stand in the defaults.
        "$defs": {**sync_schema()["$defs"], "Sync": sync},
    }


def schema_text() -> str:
    """The contents of `docs/reference/sync.schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"


def words(schema: Mapping[str, Any]) -> str:
    """The values that a schema accepts, as text for a sentence.

    >>> words({"type": "integer", "minimum": 1}), words({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ('a whole number of at least 1', 'text')
    """
    return " or ".join(dict.fromkeys(_alternatives(schema)))


def part_of(path: tuple[str | int, ...]) -> Mapping[str, Any]:
    """The schema at a path of a sync; empty where there is none."""
    part: Mapping[str, Any] = sync_schema()
    for step in path:
        part = _child(_resolve(part), step)
    return _resolve(part)


def _child(part: Mapping[str, Any], step: str | int) -> Mapping[str, Any]:
    if isinstance(step, int):
        child = part.get("items")
    else:
        named = part.get("patternProperties", {"": part.get("additionalProperties")})
        child = part.get("properties", {}).get(step, next(iter(named.values())))
    return child if isinstance(child, Mapping) else {}


def _resolve(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part, or the definition that it refers to."""
    part = next((option for option in part.get("anyOf", ()) if "$ref" in option), part)
    if "$ref" in part:
        definition: Mapping[str, Any] = sync_schema()["$defs"][part["$ref"].rpartition("/")[2]]
        return definition
    return part


def _alternatives(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        names = dict.fromkeys(str(name) for name in schema["enum"])
        names = dict.fromkeys(name for name in names if name.isupper() or name.upper() not in names)
        yield ("one of " if len(names) > 1 else "") + ", ".join(names)
    elif "const" in schema:
        yield json.dumps(schema["const"])
    elif "anyOf" in schema:
        for option in schema["anyOf"]:
            if not option.get("deprecated"):
                yield from _alternatives(option)
    else:
        kinds = schema.get("type", "object")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield from _kind(kind, schema)


_PLURALS = {"a path": "paths", "an object": "objects", "text or a number or true or false": "them"}


def _kind(kind: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if kind in ("integer", "number"):
        yield _number("a whole number" if kind == "integer" else "a number", schema)
    elif kind == "array":
        items = schema.get("items")
        noun = words(items) if items else "values"
        yield f"a list of {_PLURALS.get(noun, noun)}"
    elif kind != "null":
        form = {"path": "a path", "url": "a URL"}.get(schema.get("format", ""), "text")
        yield {"string": form, "boolean": "true or false", "object": "an object"}[kind]


def _number(noun: str, schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        above = f"{noun} above {schema['exclusiveMinimum']:g}"
        return above if most is None else f"{above} and at most {most:g}"
    if least is None:
        return noun
    return f"{noun} of at least {least}" if most is None else f"{noun} from {least} to {most}"


def tidied(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema without the titles that pydantic makes from names."""
    tidy = {key: value for key, value in part.items() if key != "title"}
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    if "properties" in tidy:
        tidy["properties"] = {name: tidied(inner) for name, inner in tidy["properties"].items()}
    if tidy.get("default", "") in (None, "", {}, []):
        tidy.pop("default", None)
    return tidy
