"""The fields as a JSON Schema for editors, as a reference table, and as text for errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from nango_dagster.config.list_guide import LISTS
from nango_dagster.config.sync import Sync

# Names that earlier Nango versions and their guides used; two of them are misspelled there.
ALIASES: Mapping[str, str] = {
    "paging_request_path": "paging_cursor_request_path",
    "paging_requests_path": "paging_cursor_request_path",
    "paging_respone_path": "paging_response_path",
}

# Fields of a later release, and what to do without them.
NOT_YET: Mapping[str, str] = {
    "script": "describe the request with url and the paging fields",
    "models": "name one model with model",
}
NOT_YET_VALUES: Mapping[str, tuple[Any, str, str]] = {}


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
    del properties["name"]["default"]  # it stands for "not named yet"
    schema["properties"] = properties
    schema["$defs"] = {name: _tidy(part) for name, part in schema["$defs"].items()}
    return schema


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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Syncs of nango-dagster",
        "anyOf": [{"allOf": [reference, {"required": ["url"]}]}, several, by_name],
        # No url is required here: it may stand in the defaults.
        "$defs": {**sync_schema()["$defs"], "Sync": sync},
    }


def schema_text() -> str:
    """The contents of `docs/reference/sync.schema.json`."""
    return json.dumps(json_schema(), indent=2) + "\n"


def reference() -> str:
    """The contents of `docs/reference/config.md`: every field with its type, its default and a sentence."""
    properties = sync_schema()["properties"]
    rows = "\n".join(
        _row(name, part, required=name == "url") for name, part in properties.items() if name not in ALIASES
    )
    parts = "\n".join(
        _part_rows(name)
        for name in ("mapping", "rate_limit", "track_deletes", "incremental", "next_request", "responses")
    )
    older = "\n".join(f"| `{old}` | `{name}` |" for old, name in ALIASES.items())
    later = "\n".join(f"- `{name}`: {instead}." for name, instead in NOT_YET.items())
    values = "\n".join(f"- `{what}`: {instead}." for _, what, instead in NOT_YET_VALUES.values())
    return _REFERENCE.format(rows=rows, parts=parts, older=older, later=later, values=values, lists=LISTS)


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


def _tidy(part: dict[str, Any]) -> dict[str, Any]:
    """A part of the schema without the titles that pydantic makes from names."""
    tidy = {key: value for key, value in part.items() if key != "title"}
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    if "properties" in tidy:
        tidy["properties"] = {name: _tidy(inner) for name, inner in tidy["properties"].items()}
    if tidy.get("default", "") in (None, "", {}, []):
        tidy.pop("default", None)
    return tidy


def _default(part: Mapping[str, Any]) -> str:
    if "default" not in part:
        return ""
    default = part["default"]
    return f"`{default:g}`" if isinstance(default, float) else f"`{json.dumps(default)}`".replace('"', "")


def _part_rows(name: str) -> str:
    whole = part_of((name,))
    if whole.get("type") == "array":
        name, whole = f"{name}[]", part_of((name, 0))
    required = whole.get("required", ())
    return "\n".join(
        _row(f"{name}.{inner}", part, required=inner in required) for inner, part in whole["properties"].items()
    )


def _row(name: str, part: Mapping[str, Any], *, required: bool) -> str:
    default = "required" if required else _default(part)
    description = part["description"].replace("|", "\\|")
    return f"| `{name}` | {words(part)} | {default} | {description} |"


_REFERENCE = """\
# Sync config

<!-- Made from the code by `nango_dagster.config.schema`; a test holds it current. -->

A file in `sync_configs` (`.yaml`, `.yml` or `.json`) declares one sync; the name of the file is the name of the sync:

```yaml
# sync_configs/pokemon.yaml
url: https://pokeapi.co/api/v2/pokemon
response_path: results
unique_key: name
paging_url_path: next
```

A file may also declare several syncs with common `defaults`. Headers, query parameters, tags and metadata of a sync
are added to the common ones; every other field replaces the common one:

```yaml
defaults:
  headers: {{Authorization: "Bearer ${{env.TOKEN}}"}}
  frequency: every 15 minutes
syncs:
  contacts: {{url: "https://api.example.com/contacts", unique_key: id}}
  companies: {{url: "https://api.example.com/companies", unique_key: id}}
```

`${{env.NAME}}` in the URL, headers, query parameters and body is the environment variable `NANGO_ENV_NAME`; `$${{` is
an escaped `${{`. With [connections](connections.md#where-they-go) there are more placeholders.

A path consists of keys joined by dots, with indexes in brackets: `data.items[0].id`. A key that contains a dot is
written `["a.b"]`. A path in an answer may also be a JSONPath query, which begins with `$.` or `$[`: see
[Queries](#queries). YAML follows version 1.2: `on`, `no` and dates are text.

With [sync.schema.json](sync.schema.json) an editor completes and checks fields: begin a file with
`# yaml-language-server: $schema=PATH`, where PATH is the path of that file.

| field | value | default | meaning |
| --- | --- | --- | --- |
{rows}

{lists}

### Answers that are not JSON

| the answer | recognised by | records |
| --- | --- | --- |
| JSON lines | `application/x-ndjson`, `application/jsonl` and others, or `format: jsonl` | each line |
| CSV with a line of names | `text/csv`, or `format: csv` | each row |
| values separated by tabs | `text/tab-separated-values`, or `format: tsv` | each row |
| a gzip file of any of these | its first bytes | those in the file |
| another charset | `charset` in the Content-Type, or a byte order mark | as in UTF-8 |
| JSON behind `)]}}'`, `while(1);` or `for(;;);` | the prefix itself | as without it |

Every value of CSV is text, and an empty cell is null. Cells are separated by `,`, `;`, tabs or vertical bars. The name
of a gzip file determines its format, as in `events.jsonl.gz`, unless `format` is set.

An answer in another format is an error that names the format and the field. `max_page_bytes` limits the size of an
answer after decompression, `max_page_records` the number of its records. An incomplete line, a last CSV row
that lacks cells, and a single line of text in place of CSV are errors, so that they never count as a short or an empty
list:

```yaml
url: "https://data.example.com/api/2.0/export?from_date=2024-01-01"
format: jsonl
unique_key: event_id
max_page_records: 1000000
```

`rate_limit` and `daily_quota` apply to all syncs, connections, threads and runs of an integration together, or of one
connection with `scope: connection`. Syncs without an integration share them with other syncs of the same host. Requests
are spread evenly over the time; retries count, too. When the quota of a day is used up, the execution ends and keeps
its pages (without `unique_key`, the rows stay as they were). Other executions wait until midnight UTC:

```yaml
rate_limit: {{requests: 100, per: minute, scope: connection}}
daily_quota: 15000
```

Fields of fields:

| field | value | default | meaning |
| --- | --- | --- | --- |
{parts}

## Older names

| older name | field |
| --- | --- |
{older}

## Not available yet

A config with one of these fields is an error:

{later}
{values}
"""
