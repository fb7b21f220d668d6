"""The syncs of a project's manifest, as configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Configs, Integrations, Sync, filled, from_document, read_dir
from ..errors import ConfigError, Problem
from ..models import fields_of
from ..settings import Settings
from . import manifest
from .manifest import Entry, Manifest
from .project import DECLARATIONS, is_project


def read_configs(settings: Settings, folder: Path | None = None, *, refresh: bool = False) -> Configs:
    """The syncs of a folder, by default that of the settings, and the scripts of the Nango project.

    `refresh` describes changed scripts first. Without a project the folder has to exist; beside one it need not.
    """
    folder = settings.configs if folder is None else folder
    has_project = is_project(settings.scripts) or manifest.read(settings.home, settings.scripts) is not None
    projects = [path] if (path := settings.scripts / DECLARATIONS).is_file() else []
    configs = Configs((), ()) if has_project and not folder.is_dir() and not projects else read_dir(folder, projects)
    if not has_project:
        return configs
    return with_scripts(configs, settings.home, settings.scripts, refresh=refresh)


def with_scripts(configs: Configs, home: Path, root: Path, *, refresh: bool = False) -> Configs:
    """The configs of a folder with the sync scripts of a Nango project.

    The scripts are those of the manifest; `refresh` brings it up to date first. A sync of a file replaces a script of
    the same integration and name. A script that cannot be run is among the errors.
    """
    errors = list(configs.errors)
    current = manifest.read(home, root)
    if refresh:
        declared = {name: it.integration.provider for name, it in configs.declared.valid.items()}
        providers = {name: provider for name, provider in declared.items() if provider is not None}
        try:
            current = manifest.refresh(home, root, providers).manifest
        except ConfigError as error:
            errors.append(error)
    if current is None:
        return replace(configs, errors=tuple(errors))
    taken = {(sync.integration_key, sync.name) for sync in configs.syncs}
    syncs, places = list(configs.syncs), dict(configs.places)
    for entry in current.entries:
        key = (entry.integration, entry.name)
        if key in taken:
            continue
        file = str(Path(current.root) / entry.path)
        try:
            sync = _sync(entry, current, configs.declared)
        except ConfigError as error:
            errors.append(ConfigError.of(*(replace(problem, file=file) for problem in error.problems)))
            continue
        syncs.append(sync)
        places[key] = (file, None)
    return replace(configs, syncs=tuple(syncs), errors=tuple(errors), places=places)


def _sync(entry: Entry, current: Manifest, declared: Integrations) -> Sync:
    """The config of a script: its own fields over those of its integration, and these over those of its provider.

    Raises ConfigError for one that cannot be run.
    """
    if entry.error is not None:
        raise ConfigError.of(Problem(entry.error))
    integration = declared.valid.get(entry.integration)
    provider_name = entry.integration
    inherited: dict[str, Any] = {}
    if integration is not None:
        provider_name = integration.integration.provider or entry.integration
        inherited = {name: value for name, value in integration.fields.items() if name in _INHERITED}
        if integration.integration.base_url is not None:
            inherited["base_url"] = integration.integration.base_url
    return from_document(filled(dict(_fields(entry)), filled(inherited, _provided(current.providers, provider_name))))


_INHERITED = (
    *("headers", "query_params", "timeout", "rate_limit", "daily_quota", "max_page_bytes", "allowed_origins"),
    *("concurrency", "owners", "tags", "group"),
)
"""The fields of an integration that scripts inherit: a script describes its lists itself."""


def _provided(providers: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The fields of a config that a provider gives."""
    provider = providers.get(name, {})
    fields = {name: provider[name] for name in ("headers", "query_params") if provider.get(name)}
    base_urls = provider.get("base_urls") or ()
    return {**fields, "base_url": base_urls[0]} if base_urls else fields


def _fields(entry: Entry) -> Iterator[tuple[str, Any]]:
    """The fields of a config that a script gives."""
    described = entry.description
    yield "name", entry.name
    yield "integration", entry.integration
    yield "script", f"{entry.path}@{entry.digest}"
    yield "unique_key", "id"
    if described.get("fields"):
        yield from described["fields"].items()
    else:
        yield from _created(described)


def _created(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a config that `createSync` gives."""
    models = {name: model_of(schema) for name, schema in (described.get("models") or {}).items()}
    if models:
        yield "models", models
        yield "model", next(iter(models))
    for name in ("metadata", "checkpoint"):
        if (schema := described.get(name)) and fields_of(schema):
            yield f"{name}_model", schema
    if text := str(described.get("description") or "").strip():
        yield "description", text
    yield "frequency", described.get("frequency") or "every hour"
    yield "auto_start", described.get("autoStart") is True
    if described.get("trackDeletes"):
        yield "track_deletes", True


def model_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a model as configs accept it: an object with properties.

    A union or intersection of objects has the properties of all its parts, none of them required.

    >>> model_of({"anyOf": [{"type": "object", "properties": {"id": {}, "a": {}}}, {"type": "object"}]})
    {'type': 'object', 'properties': {'id': {}, 'a': {}}}
    """
    if schema.get("properties"):
        return dict(schema)
    parts = [part for name in ("allOf", "anyOf", "oneOf") for part in schema.get(name) or ()]
    properties = {key: value for part in parts for key, value in model_of(part)["properties"].items()}
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": properties or {"id": {}}, **definitions}
