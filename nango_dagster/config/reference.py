"""The reference of configs, `docs/reference/config.md`, made from the fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nango_dagster.config.integrations import INHERITED, PAGING, own_fields
from nango_dagster.config.list_guide import LISTS
from nango_dagster.config.schema import ALIASES, part_of, sync_schema, words


def reference() -> str:
    """The contents of `docs/reference/config.md`: every field with its type, its default and a sentence."""
    properties = sync_schema()["properties"]
    rows = "\n".join(
        _row(name, part, required=name == "url") for name, part in properties.items() if name not in ALIASES
    )
    parts = "\n".join(
        _part_rows(name)
        for name in ("mapping", "rate_limit", "track_deletes", "incremental", "for_each", "next_request", "responses")
    )
    older = "\n".join(f"| `{old}` | `{name}` |" for old, name in ALIASES.items())
    own = "\n".join(_row(name, part, required=False) for name, part in own_fields())
    inherited = ", ".join(f"`{name}`" for name in INHERITED if name not in PAGING)
    names = {"parts": parts, "older": older, "own": own, "inherited": inherited}
    return _REFERENCE.format(rows=rows, lists=LISTS, **names)


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

<!-- Made from the code by `nango_dagster.config.reference`; a test holds it current. -->

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

## Integrations

`integrations.yaml` in `sync_configs` declares APIs by their keys; a file `integrations/KEY.yaml` declares one. The
syncs with `integration: KEY` inherit the fields:

```yaml title="sync_configs/integrations.yaml"
github:
  base_url: https://api.github.com
  headers: {{Authorization: "token ${{access_token}}", Accept: application/vnd.github+json}}
  paging_header_link_rel: next
  rate_limit: {{requests: 5000, per: hour, scope: connection}}
```

```yaml title="sync_configs/repos.yaml"
integration: github
url: /user/repos
unique_key: id
```

| field | value | default | meaning |
| --- | --- | --- | --- |
{own}

Besides these, an integration may have these fields of a sync:
{inherited}, and all fields that begin with `paging_`.

- A field of the sync, also of its file's `defaults`, replaces that of the integration; headers, query parameters and
  tags are added. `null` in a sync removes an inherited field.
- A sync with a way of its own to find the next page inherits only the page size.
- The credentials of a connection go where the integration places them with `${{access_token}}` or
  `${{credentials.NAME}}`, else where their type says.
- `${{metadata.NAME}}` and `${{connection_config.NAME}}` are values of the connection, also in `base_url`.
- If a file declares integrations, a sync that names another one is an error.
- A change of an integration is a change of its syncs; it applies after a reload. Posted syncs inherit nothing.

[integrations.schema.json](integrations.schema.json) is the JSON Schema of these files.

Fields of fields:

| field | value | default | meaning |
| --- | --- | --- | --- |
{parts}

## Older names

| older name | field |
| --- | --- |
{older}
"""
