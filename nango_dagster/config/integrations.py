"""Integrations as declared: the base URL of an API, and the fields that its syncs inherit.

They are declared by name in `integrations.yaml` of the config folder, or one in each file of its folder `integrations`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nango_dagster.config import fields as f
from nango_dagster.config.check import canonical, foreign_fields, invalid
from nango_dagster.config.combinations import WAYS, foreign_placeholders
from nango_dagster.config.document import Document
from nango_dagster.config.schema import ALIASES, part_of, sync_schema, tidied
from nango_dagster.config.shapes import filled
from nango_dagster.config.source import Place, Source, quoted
from nango_dagster.config.sync import Sync
from nango_dagster.errors import ConfigError, Problem
from nango_dagster.sentences import suggestion

STEM = "integrations"
"""The name of the file, without its suffix, and of the folder."""

PAGING = tuple(name for name in Sync.model_fields if name.startswith("paging_"))
_ANY_URL = "https://api.example.com"
_ANY_PAGING = ("paging_limit", "paging_limit_request_path")
INHERITED = (
    *("headers", "query_params", "format", "response_path", "responses", "unique_key"),
    *PAGING,
    *("timeout", "retries", "rate_limit", "daily_quota", "max_page_bytes", "max_page_records", "allowed_origins"),
    *("concurrency", "owners", "tags", "group"),
)
"""The fields of a sync that an integration may set for all of its syncs."""


class Integration(BaseModel):
    """An API: its names and its base URL; it also has the fields that its syncs inherit.

    >>> Integration(name="github", base_url="https://api.github.com").url_of("/user/repos")
    'https://api.github.com/user/repos'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: f.Integration = Field("integration", description="The key of the integration; by default that of the file.")
    display_name: f.Text | None = Field(None, description="A name for people, shown by `GET /integrations` and `list`.")
    provider: f.Text | None = Field(
        None, description="The API that the integration is an account of, such as `github`; the key by default."
    )
    base_url: f.Url | None = Field(
        None,
        repr=False,
        description="The URL that a sync's `url` is added to if it begins with `/`.",
        examples=["https://api.example.com/v1"],
    )

    def url_of(self, path: str) -> str:
        """The URL of a path of the API: the path after the base URL, whose own path and query are kept.

        >>> Integration(name="crm", base_url="https://${metadata.region}.example.com/v1/").url_of("/items?a=1")
        'https://${metadata.region}.example.com/v1/items?a=1'
        """
        assert self.base_url is not None
        return f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"


@dataclass(frozen=True)
class Declared:
    """A valid integration: its value, and its fields as they are written."""

    integration: Integration
    fields: Mapping[str, Any] = field(repr=False)
    source: Source


@dataclass(frozen=True)
class Integrations:
    """The integrations of a config folder."""

    valid: Mapping[str, Declared] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    """The place, file and line, of each integration that is not valid."""
    unreadable: str | None = None
    """A file whose integrations cannot be read."""
    is_declared: bool = False
    """Whether the folder declares integrations; then a sync may name no other one."""

    def merged(self, other: Integrations) -> Integrations:
        """The integrations of both."""
        return Integrations(
            {**self.valid, **other.valid},
            {**self.broken, **other.broken},
            self.unreadable or other.unreadable,
            self.is_declared or other.is_declared,
        )

    def inherit(self, fields: Mapping[str, Any], source: Source) -> tuple[Mapping[str, Any], Source]:
        """The fields of a sync with those of its integration, and their places.

        Raises ConfigError where the sync names an integration that is not declared, or one that is not valid.
        """
        named = next((name for name in ("integration", "pizzly_provider_config_key") if fields.get(name)), None)
        if named is None or not self.is_declared or not isinstance(fields[named], str):
            return fields, source
        key = fields[named]
        declared = self.valid.get(key)
        if declared is None:
            raise ConfigError.of(source.locate(self._unknown(named, key), (named,)))
        return _with_urls(_inherited(fields, declared.fields), declared.integration), replace(
            source, inherited=declared.source
        )

    def _unknown(self, named: str, key: str) -> Problem:
        if place := self.broken.get(key) or self.unreadable:
            return Problem(f"{named} is {quoted(key)}, which is not valid: see {place}.", field=named, found=key)
        hint = suggestion(key, sorted(self.valid))
        sentence = f"{named} is {quoted(key)}, which no file declares; {hint} Declare it in {STEM}.yaml."
        return Problem(sentence, field=named, found=key, wanted="a declared integration")


def is_declaration(path: Path, folder: Path) -> bool:
    """Whether a file of a config folder declares integrations instead of syncs.

    >>> is_declaration(Path("c/integrations/crm.yaml"), Path("c")), is_declaration(Path("c/crm.yaml"), Path("c"))
    (True, False)
    """
    first, *rest = path.relative_to(folder).parts
    return first == STEM if rest else path.stem == STEM


def is_written(place: tuple[str | int, ...]) -> bool:
    """Whether a place of a file holds values that are sent as text: `1.10` stays `1.10`, and `on` stays `on`."""
    return len(place) <= 2 and place[-1:] in (("headers",), ("query_params",))


def declared(document: Document, file: str, *, name: str | None) -> tuple[Integrations, list[Problem]]:
    """The integrations of a file and the problems of the others; `name` is that of a file for one integration."""
    if not isinstance(document.value, dict):
        raise ConfigError.of(Problem("the file holds no object; wanted integrations by their names.", file=file))
    root = {key: item for key, item in document.value.items() if key != "$schema"}
    entries = [((), root, name)] if name is not None else [((key,), item, key) for key, item in root.items()]
    read = Integrations(is_declared=True)
    problems: list[Problem] = []
    for place, item, key in entries:
        source = Source(file, document.marks, (place,))
        try:
            integration = _check(item, source, str(key))
            read = read.merged(Integrations({integration.integration.name: integration}))
        except ConfigError as error:
            problems += error.problems
            line = error.problems[0].line
            read = read.merged(Integrations(broken={str(key): f"{file}:{line}" if line else file}))
    return read, problems


def _check(given: Any, source: Source, name: str) -> Declared:
    """The integration that the fields describe. Raises ConfigError with all of its problems."""
    if not isinstance(given, Mapping):
        sentence = f"the integration {quoted(name)} is no object; wanted its fields, such as base_url."
        raise ConfigError.of(source.locate(Problem(sentence, field=name)))
    fields, problems = canonical(given)
    own = {"name": name, **{key: item for key, item in fields.items() if key in Integration.model_fields}}
    inherited = {key: item for key, item in fields.items() if key in INHERITED}
    problems += foreign_fields(fields, [*Integration.model_fields, *INHERITED], "an integration")
    for model, part, schema_of in ((Integration, own, _part_of), (Sync, {**inherited, "url": _ANY_URL}, part_of)):
        try:
            model.model_validate(part)
        except ValidationError as error:
            problems += invalid(error, schema_of)
    problems += foreign_placeholders({**fields, "integration": name})
    if problems:
        located = [source.locate(problem, place) for place, problem in problems]
        raise ConfigError.of(*sorted(located, key=lambda problem: problem.line or 0))
    return Declared(Integration.model_validate(own), inherited, source)


def _inherited(fields: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A sync's fields over those of its integration.

    A sync that says how to find its next page, be it with null, has no other field of paging from the integration than
    the page size.
    """
    own = {ALIASES.get(name, name) for name in fields}
    if own.intersection(WAYS):
        shared = {name: item for name, item in shared.items() if name not in PAGING or name in _ANY_PAGING}
    return filled(fields, shared)


def _with_urls(fields: dict[str, Any], integration: Integration) -> dict[str, Any]:
    """The fields with the base URL before those URLs that begin with `/`."""
    if integration.base_url is None:
        return fields
    if fields.get("script") is not None:
        fields.setdefault("base_url", integration.base_url)
        return fields
    following = fields.get("next_request")
    if isinstance(following, Mapping) and _is_relative(following.get("url")):
        fields["next_request"] = {**following, "url": integration.url_of(following["url"])}
    if _is_relative(fields.get("url")):
        fields["url"] = integration.url_of(fields["url"])
    return fields


def _is_relative(url: Any) -> bool:
    return isinstance(url, str) and url.startswith("/") and not url.startswith("//")


def _part_of(place: Place) -> Mapping[str, Any]:
    """The schema at a place of an integration's own fields."""
    return dict(own_fields()).get(str(place[0]), {})


def own_fields() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The fields that only integrations have, with their schema."""
    yield from ((name, tidied(part)) for name, part in Integration.model_json_schema()["properties"].items())


def integrations_schema() -> dict[str, Any]:
    """The JSON Schema of `integrations.yaml`, and of a file for one integration."""
    own, of_syncs = {name: dict(part) for name, part in own_fields()}, sync_schema()
    del own["name"]["default"]
    names = [*INHERITED, *(old for old, name in ALIASES.items() if name in INHERITED)]
    properties = {**own, **{name: of_syncs["properties"][name] for name in names}}
    integration = {"type": "object", "additionalProperties": False, "properties": properties}
    reference = {"$ref": "#/$defs/Integration"}
    by_name = {"type": "object", "properties": {"$schema": {"type": "string"}}, "additionalProperties": reference}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Integrations of nango-dagster",
        "anyOf": [by_name, reference],
        "$defs": {**of_syncs["$defs"], "Integration": integration},
    }


def integrations_schema_text() -> str:
    """The contents of `docs/integrations.schema.json`."""
    return json.dumps(integrations_schema(), indent=2) + "\n"
