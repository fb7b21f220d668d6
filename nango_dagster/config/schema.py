"""The fields as a JSON Schema for editors, as a reference table, and as the words of an error."""

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

# What a later release brings to life, and what to do without it.
NOT_YET: Mapping[str, str] = {
    "integration": "leave it out, and the sync reads one account",
    "pizzly_connection_id": "put the token into headers, for example with ${env.NAME}",
    "pizzly_provider_config_key": "put the token into headers, for example with ${env.NAME}",
    "incremental": "leave it out, and each execution reads the full list",
    "script": "describe the request with url and the paging fields",
    "models": "name one model with model",
    "daily_quota": "slow the sync down with rate_limit or frequency",
}
NOT_YET_VALUES: Mapping[str, tuple[Any, str]] = {
    "sync_type": ("incremental", "leave it out, and each execution reads the full list"),
    "auto_start": (False, "leave it out, or switch the sync off with enabled: false"),
}


@cache
def sync_schema() -> dict[str, Any]:
    """The JSON Schema of one sync, with older names and without the fields that are not available yet."""
    schema = Sync.model_json_schema()
    properties = {name: _tidy(part) for name, part in schema["properties"].items() if name not in NOT_YET}
    for old, name in ALIASES.items():
        properties[old] = {
            **properties[name],
            "description": f"An older name of {name}.",
            "deprecated": True,
        }
    properties["sync_type"]["enum"] = ["full"]
    properties["auto_start"]["const"] = True
    schema["properties"] = properties
    schema["$defs"] = {name: _tidy(part) for name, part in schema["$defs"].items()}
    return schema


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a config file: one sync, or several with defaults that they share."""
    one = {key: part for key, part in sync_schema().items() if key != "$defs"}
    one["properties"] = {"$schema": {"type": "string"}, **one["properties"]}
    part = {**one, "required": [], "description": "Fields that every sync of this file shares."}
    name = {"$ref": "#/$defs/Sync"}
    several = {
        "type": "object",
        "additionalProperties": False,
        "required": ["syncs"],
        "properties": {
            "$schema": {"type": "string"},
            "defaults": {"$ref": "#/$defs/Defaults"},
            "syncs": {
                "description": "The syncs: a list, or an object from their names to their fields.",
                "anyOf": [
                    {"type": "array", "items": name},
                    {"type": "object", "additionalProperties": name},
                ],
            },
        },
    }
    by_name = {
        "type": "object",
        "properties": {"defaults": {"$ref": "#/$defs/Defaults"}},
        "additionalProperties": name,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Syncs of nango-dagster",
        "anyOf": [{"$ref": "#/$defs/OneSync"}, several, by_name],
        "$defs": {
            **sync_schema()["$defs"],
            "OneSync": one,
            # Where the file has defaults, a sync need not give everything itself.
            "Sync": {**one, "required": []},
            "Defaults": part,
        },
    }


def schema_text() -> str:
    """The contents of `docs/sync.schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"


def reference() -> str:
    """The contents of `docs/config.md`: every field with its type, its default and a sentence."""
    properties = sync_schema()["properties"]
    rows = "\n".join(
        f"| `{name}` | {words(part)} | {_default(name, part)} | {_cell(part.get('description', ''))} |"
        for name, part in properties.items()
        if name not in ALIASES
    )
    parts = "\n".join(_part_rows(name) for name in ("mapping", "rate_limit", "track_deletes"))
    older = "\n".join(f"| `{old}` | `{name}` |" for old, name in ALIASES.items())
    later = "\n".join(f"- `{name}`: {instead}." for name, instead in NOT_YET.items())
    values = "\n".join(
        f"- `{name}: {json.dumps(value).strip(chr(34))}`: {instead}."
        for name, (value, instead) in NOT_YET_VALUES.items()
    )
    return _REFERENCE.format(rows=rows, parts=parts, older=older, later=later, values=values)


def words(schema: Mapping[str, Any]) -> str:
    """What a schema accepts, in words.

    >>> words({"type": "integer", "minimum": 1}), words({"anyOf": [{"type": "string"}, {"type": "null"}]})
    ('a whole number of at least 1', 'text')
    """
    return " or ".join(dict.fromkeys(_alternatives(schema)))


def part_of(path: tuple[str | int, ...]) -> Mapping[str, Any]:
    """The schema of the place in a sync that a path leads to; empty where there is none."""
    part: Mapping[str, Any] = sync_schema()
    for step in path:
        part = _child(_resolve(part), step)
    return _resolve(part)


def _child(part: Mapping[str, Any], step: str | int) -> Mapping[str, Any]:
    if isinstance(step, int):
        found = part.get("items")
    else:
        found = part.get("properties", {}).get(step, part.get("additionalProperties"))
    return found if isinstance(found, Mapping) else {}


def _resolve(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part itself: references followed, `or null` left away."""
    options = [option for option in part.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        part = options[0]
    if "$ref" in part:
        found: Mapping[str, Any] = sync_schema()["$defs"][part["$ref"].rpartition("/")[2]]
        return found
    return part


def _alternatives(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        names = dict.fromkeys(str(name) for name in schema["enum"])
        yield "one of " + ", ".join(name for name in names if name.upper() not in names or name.isupper())
    elif "const" in schema:
        yield json.dumps(schema["const"])
    elif "anyOf" in schema:
        for option in schema["anyOf"]:
            yield from _alternatives(option)
    else:
        kinds = schema.get("type", "object")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            yield from _kind(kind, schema)


def _kind(kind: str, schema: Mapping[str, Any]) -> Iterator[str]:
    if kind in ("integer", "number"):
        yield _number("a whole number" if kind == "integer" else "a number", schema)
    elif kind == "array":
        items = schema.get("items")
        yield f"a list of {words(items)}" if items else "a list"
    elif kind != "null":
        yield {"string": "text", "boolean": "true or false", "object": "an object"}[kind]


def _number(noun: str, schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        above = f"{noun} above {schema['exclusiveMinimum']:g}"
        return above if most is None else f"{above} and at most {most:g}"
    if least is None:
        return noun
    return f"{noun} of at least {least}" if most is None else f"{noun} from {least} to {most}"


def _tidy(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema without the titles that pydantic makes from names."""
    tidy = {key: value for key, value in part.items() if key != "title"}
    if "properties" in tidy:
        tidy["properties"] = {name: _tidy(inner) for name, inner in tidy["properties"].items()}
    if tidy.get("default", "") in (None, "", {}, []):
        tidy.pop("default", None)
    return tidy


def _default(name: str, part: Mapping[str, Any]) -> str:
    if name == "url":
        return "required"
    return f"`{json.dumps(part['default']).strip(chr(34))}`" if "default" in part and name != "name" else ""


def _part_rows(name: str) -> str:
    properties = part_of((name,)).get("properties", {})
    return "\n".join(
        f"| `{name}.{inner}` | {words(part)} | {_default(inner, part)} | {_cell(part['description'])} |"
        for inner, part in properties.items()
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_REFERENCE = """\
# Sync config

<!-- Made from the code by `nango_dagster.config.schema`; a test holds it current. -->

One file in `sync_configs` (`.yaml`, `.yml` or `.json`) holds one sync, whose name is the file's:

```yaml
# sync_configs/pokemon.yaml
url: https://pokeapi.co/api/v2/pokemon
response_path: results
unique_key: name
paging_url_path: next
```

or several, with fields that they share. Headers, query parameters, tags and metadata of a sync are added to
the shared ones; everything else replaces them:

```yaml
defaults:
  headers: {{Authorization: "Bearer ${{env.TOKEN}}"}}
  frequency: every 15 minutes
syncs:
  contacts: {{url: "https://api.example.com/contacts", unique_key: id}}
  companies: {{url: "https://api.example.com/companies", unique_key: id}}
```

`${{env.NAME}}` in the URL, headers, query parameters and body is the environment variable `NANGO_ENV_NAME`;
`$${{` is a plain `${{`. Paths are keys joined by dots, with indexes in brackets: `data.items[0].id`; a key
with a dot in it is written `["a.b"]`. YAML is read as YAML 1.2 does: `on`, `no` and dates are text.

For completion and checks in an editor, begin a file with
`# yaml-language-server: $schema=https://raw.githubusercontent.com/nango-dagster/nango-dagster/main/docs/sync.schema.json`
or the path of `docs/sync.schema.json` in a checkout.

| field | value | default | what it is |
| --- | --- | --- | --- |
{rows}

Fields with parts:

| field | value | default | what it is |
| --- | --- | --- | --- |
{parts}

## Older names

| older name | field |
| --- | --- |
{older}

## Not available yet

These are refused rather than ignored:

{later}
{values}
"""
