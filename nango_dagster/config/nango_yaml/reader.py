"""Read a `nango.yaml`: its version, its syncs, and what else it declares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nango_dagster.config.document import Document, read_yaml
from nango_dagster.config.frequency import interval_of
from nango_dagster.config.nango_yaml.declared_sync import DeclaredSync, NangoYaml
from nango_dagster.config.nango_yaml.endpoints import Endpoints
from nango_dagster.config.nango_yaml.model_section import ModelSection
from nango_dagster.config.nango_yaml.types import Schema, TypeSyntaxError
from nango_dagster.config.source import Found, Place, Source, quoted, shown
from nango_dagster.errors import ConfigError, Problem
from nango_dagster.models import fields_of

FILE_NAMES = ("nango.yaml", "nango.yml")
EXTRA = "x-dagster"
"""The key of a sync for other fields of a sync config."""

_OWN_FIELDS = ("name", "integration", "frequency", "cron", "models", "model", "script", "url")
_SYNC_KEYS = (
    *("runs", "output", "endpoint", "sync_type", "track_deletes", "auto_start", "input", "scopes", "version"),
    *("description", "webhook-subscriptions", "type", "returns", EXTRA),
)
_INTEGRATION_KEYS = ("provider", "syncs", "actions", "on-events", "post-connection-scripts")
_LONGEST_DAYS = 31
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def read(path: Path, file: str) -> NangoYaml:
    """The syncs of a file. Raises ConfigError where it cannot be read as a whole."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of(Problem(f"the file cannot be read: {error}.", file=file)) from error
    return read_text(text, file, folder=path.resolve().parent.name)


def read_text(text: str, file: str = "nango.yaml", *, folder: str = "integration") -> NangoYaml:
    """The syncs of a text; `${PWD}` in it is the name of its `folder`. Raises ConfigError for text that is no YAML.

    >>> content = read_text('''
    ... integrations:
    ...   github:
    ...     syncs:
    ...       issues: {runs: every hour, output: Issue, endpoint: GET /issues}
    ... models:
    ...   Issue: {id: integer, title: string | null}
    ... ''')
    >>> content.syncs[0].name, content.syncs[0].fields["frequency"], list(content.syncs[0].models)
    ('issues', 'every hour', ['Issue'])
    """
    document = read_yaml(text, file, lambda place: place[-1:] == ("version",))
    return _Reader(document, file, folder).read()


class _Reader:
    """Reads one file; problems and warnings are collected on the way."""

    def __init__(self, document: Document, file: str, folder: str) -> None:
        self._document = document
        self._source = Source(file, document.marks)
        self._folder = folder
        self._problems: list[Found] = []
        self._warnings: list[Found] = []
        self._not_run: dict[str, list[str]] = {}
        root = {} if document.value is None else document.value
        if not isinstance(root, Mapping):
            problem = Problem(f"the file holds {shown(root)}; wanted integrations and models.", file=file, line=1)
            raise ConfigError.of(problem)
        self._root = root
        self._models = ModelSection(root.get("models"))
        self._used_models: set[str] = set()

    def read(self) -> NangoYaml:
        """The content of the file."""
        for key in self._root:
            if key not in ("integrations", "models"):
                self._warn((key,), f"{key} is left out; a nango.yaml has integrations and models.")
        integrations = self._root.get("integrations")
        if integrations is not None and not isinstance(integrations, Mapping):
            self._refuse(("integrations",), f"integrations is {shown(integrations)}; wanted an object of integrations.")
            integrations = None
        first = next(iter((integrations or {}).values()), None)
        version = 2 if isinstance(first, Mapping) and {"syncs", "actions", "on-events"} & set(first) else 1
        syncs = [
            sync for name, content in (integrations or {}).items() for sync in self._integration(version, name, content)
        ]
        self._report_models()
        return NangoYaml(
            version,
            tuple(syncs),
            self._located(self._problems),
            self._located(self._warnings),
            {kind: tuple(names) for kind, names in self._not_run.items()},
        )

    def _located(self, problems: Sequence[Found]) -> tuple[Problem, ...]:
        located = {self._source.locate(problem, place): None for place, problem in problems}
        return tuple(sorted(located, key=lambda problem: (problem.line or 0, problem.column or 0)))

    def _report_models(self) -> None:
        """The errors of models that a sync uses are errors; those of the others concern nothing that runs here."""
        self._problems += self._models.foreign
        self._warnings += self._models.warnings
        for name, problems in self._models.problems.items():
            self._problems += problems if name in self._used_models else ()
            self._warnings += () if name in self._used_models else problems

    # --- integrations -------------------------------------------------------------------------------------------------

    def _integration(self, version: int, name: str, content: Any) -> Iterator[DeclaredSync]:
        place: Place = ("integrations", name)
        key = str(name).replace("${PWD}", self._folder)
        if content is None:
            return
        if not isinstance(content, Mapping):
            self._refuse(place, f"{key} is {shown(content)}; wanted its syncs.")
            return
        if version == 1:
            yield from self._syncs(key, content, place, version=1)
            return
        for entry in content:
            if entry not in _INTEGRATION_KEYS:
                self._warn((*place, entry), f"{entry} of {key} is left out; wanted {', '.join(_INTEGRATION_KEYS)}.")
        self._note_events(key, content, place)
        syncs = content.get("syncs")
        if isinstance(syncs, Mapping):
            yield from self._syncs(key, syncs, (*place, "syncs"), version=2, actions=content.get("actions"))
        elif syncs is not None:
            self._refuse((*place, "syncs"), f"syncs of {key} is {shown(syncs)}; wanted an object with a sync each.")
        else:
            self._syncs_end(key, content.get("actions"), place)

    def _note_events(self, key: str, content: Mapping[str, Any], place: Place) -> None:
        if "on-events" in content and "post-connection-scripts" in content:
            sentence = f"{key} has post-connection-scripts and on-events; wanted on-events alone."
            self._refuse(
                (*place, "post-connection-scripts"), sentence, "both_post_connection_scripts_and_on_events_present"
            )
        events = content.get("on-events")
        names = [*events] if isinstance(events, Mapping) else []
        if content.get("post-connection-scripts"):
            names.append("post-connection-scripts")
        self._not_run.setdefault("on-events", []).extend(f"{key}/{name}" for name in names)

    def _syncs(
        self, key: str, syncs: Mapping[str, Any], place: Place, *, version: int, actions: Any = None
    ) -> Iterator[DeclaredSync]:
        """The valid syncs of an integration."""
        endpoints = self._syncs_end(key, actions, place[:-1])
        taken: dict[str, str] = {}
        for name, fields in syncs.items():
            here = (*place, name)
            if not isinstance(fields, Mapping):
                self._refuse(here, f"the sync {name} is {shown(fields)}; wanted its fields, such as runs and output.")
                continue
            if str(fields.get("type", "sync")).lower() == "action":
                self._not_run.setdefault("actions", []).append(f"{key}/{name}")
                continue
            count = len(self._problems)
            sync = self._sync(key, str(name), fields, here, version)
            if sync is None:
                continue
            self._check_endpoints(sync, fields, here, endpoints)
            for model in sync.models:
                if (first := taken.setdefault(model, sync.name)) != sync.name:
                    sentence = f"the model {model} is the output of {first} already; wanted another model for {name}."
                    self._refuse((*here, "output"), sentence, "duplicate_model")
            if len(self._problems) == count:
                yield sync

    def _syncs_end(self, key: str, actions: Any, place: Place) -> Endpoints:
        """Note the actions of an integration; the endpoints that they have taken."""
        endpoints = Endpoints()
        for name, fields in actions.items() if isinstance(actions, Mapping) else ():
            self._not_run.setdefault("actions", []).append(f"{key}/{name}")
            if isinstance(fields, Mapping):
                endpoints.add(fields.get("endpoint"), str(name), default_method="POST")
        return endpoints

    # --- one sync -----------------------------------------------------------------------------------------------------

    def _sync(self, key: str, name: str, fields: Mapping[str, Any], place: Place, version: int) -> DeclaredSync | None:
        for entry in fields:
            if entry not in _SYNC_KEYS:
                self._warn((*place, entry), f"{entry} of the sync {name} is left out; wanted {', '.join(_SYNC_KEYS)}.")
        output = "output" if "output" in fields else "returns"
        models = self._output(key, name, fields.get(output), (*place, output))
        if not models:
            if fields.get(output) in (None, "", []):
                self._warn(
                    place, f"the sync {name} has no output, so that it is left out; wanted the model of its records."
                )
            return None
        is_incremental = version == 1 or str(fields.get("sync_type", "")).lower() == "incremental"
        if fields.get("track_deletes") is True and is_incremental:
            why = "a sync of version 1 is always incremental" if version == 1 else "it has sync_type: incremental"
            self._refuse(
                (*place, "track_deletes"),
                f"track_deletes would delete every record that {name} does not read again, and {why}; wanted "
                "sync_type: full where the script reads everything, or nango.track_deletes() inside it.",
            )
        subscriptions = fields.get("webhook-subscriptions")
        if subscriptions:
            self._not_run.setdefault("webhook-subscriptions", []).append(f"{key}/{name}")
        declared = {
            "name": name,
            "integration": key,
            "frequency": self._frequency(fields.get("runs"), name, place),
            "models": models,
            "metadata_model": self._input(fields.get("input"), (*place, "input")),
            "description": _text(fields.get("description")),
            "auto_start": False if fields.get("auto_start") is False else None,
            "track_deletes": True if fields.get("track_deletes") is True else None,
            "tags": {"nango/version": version_} if (version_ := _tag(fields.get("version"))) else None,
            **self._extra(fields.get(EXTRA), name, (*place, EXTRA)),
        }
        return DeclaredSync(
            key,
            name,
            {field: value for field, value in declared.items() if value is not None},
            replace(self._source, prefixes=(place, (*place, EXTRA))),
            place,
            version=_text(fields.get("version")),
            scopes=self._scopes(fields.get("scopes"), (*place, "scopes")),
        )

    def _frequency(self, runs: Any, name: str, place: Place) -> str | None:
        if runs is None:
            self._refuse(place, f"the sync {name} has no runs; wanted an interval, such as every hour.", "invalid_runs")
            return None
        place = (*place, "runs")
        try:
            interval = interval_of(runs) if isinstance(runs, str) and not runs.strip().isdecimal() else None
        except ConfigError:
            interval = None
        if interval is None:
            wanted = 'an interval of at least 30 seconds, such as "every hour" or "every 5 minutes"'
            self._refuse(place, f"runs of {name} is {shown(runs)}; wanted {wanted}.", "invalid_runs")
            return None
        if interval.days > _LONGEST_DAYS:
            self._warn(place, f"{quoted(runs)} is longer than the {_LONGEST_DAYS} days that Nango accepts; it is kept.")
        return str(runs).strip()

    def _output(self, key: str, name: str, output: Any, place: Place) -> dict[str, Schema]:
        """The model of each output; none where one of them is in error."""
        models: dict[str, Schema] = {}
        count = len(self._problems)
        for item in output if isinstance(output, list) else [output]:
            text = item.strip() if isinstance(item, str) else item
            if text in (None, ""):
                continue
            if isinstance(text, str) and text.endswith("[]") and text.removesuffix("[]") in self._models:
                text = text.removesuffix("[]")
                self._warn(place, f"output {quoted(item)} is read as {text}; each record is one.")
            if isinstance(text, str) and text in self._models:
                self._check_model(name, text, place)
                if self._models.problems_of(text):
                    return {}
                models[text] = self._models.schema(text)
            elif schema := self._anonymous(name, text, place):
                models[_anonymous_name(key, name)] = schema
        return models if len(self._problems) == count else {}

    def _check_model(self, sync: str, model: str, place: Place) -> None:
        self._used_models |= {model, *self._models.used_by(model)}
        if not self._models.problems_of(model):
            if not re.fullmatch(r"[A-Z][a-zA-Z0-9_]+", model):
                sentence = f"the model {model} of {sync} begins with no capital letter; wanted a name such as Issue."
                self._refuse(place, sentence, "invalid_model_name")
            elif not self._models.has_id(model):
                sentence = f"the model {model} of {sync} has no field id, which identifies a record; add it."
                self._refuse(place, sentence, "model_missing_id")

    def _anonymous(self, sync: str, output: Any, place: Place) -> Schema | None:
        """The schema of an output that is no model's name: an object with fields."""
        try:
            schema = self._models.complete(self._models.types.schema(output, place)[0])
        except TypeSyntaxError as error:
            self._refuse(error.place or place, f"output of {sync}: {error}", error.code)
            return None
        if "id" in schema.get("properties", {}):
            return schema
        found = shown(output)
        sentence = f"output of {sync} is {found}, which is no model; wanted a model with a field id."
        self._refuse(place, sentence, "model_not_found" if isinstance(output, str) else "model_missing_id")
        return None

    def _input(self, value: Any, place: Place) -> Schema | None:
        """The schema of the connection's metadata; None where the input is missing, wrong, or has no fields."""
        schema = self._schema_of_input(value, place)
        return schema if schema is not None and fields_of(schema) else None

    def _schema_of_input(self, value: Any, place: Place) -> Schema | None:
        if value is None:
            return None
        if isinstance(value, str) and value.strip() in self._models:
            name = value.strip()
            problems = self._models.problems_of(name)
            self._used_models |= {name, *self._models.used_by(name)}
            self._problems += problems
            return None if problems else self._models.schema(name)
        try:
            return self._models.complete(self._models.types.schema(value, place)[0])
        except TypeSyntaxError as error:
            self._refuse(error.place or place, f"input: {error}", error.code)
            return None

    def _scopes(self, value: Any, place: Place) -> tuple[str, ...]:
        if isinstance(value, str):
            if "," not in value and len(value.split()) > 1:
                self._warn(place, "scopes are separated by spaces; wanted a list, or commas.")
                return tuple(value.split())
            value = value.split(",")
        return tuple(str(scope).strip() for scope in value or ()) if isinstance(value, list | None) else ()

    def _extra(self, value: Any, name: str, place: Place) -> Mapping[str, Any]:
        """The fields of a sync config that stand under `x-dagster`."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._refuse(place, f"{EXTRA} of {name} is {shown(value)}; wanted fields of a sync, such as mapped_table.")
            return {}
        for field in set(value) & set(_OWN_FIELDS):
            self._refuse(
                (*place, field), f"{field} stands under {EXTRA}, but the nango.yaml itself says it; remove it."
            )
        return value

    def _check_endpoints(
        self, sync: DeclaredSync, fields: Mapping[str, Any], place: Place, endpoints: Endpoints
    ) -> None:
        names = endpoints.add(fields.get("endpoint"), sync.name, default_method="GET")
        here = (*place, "endpoint")
        for endpoint, owner in names.doubles:
            self._refuse(here, f"the endpoint {endpoint} belongs to {owner} already.", "duplicate_endpoint")
        if names.count and names.count != len(sync.models):
            sentence = (
                f"{sync.name} has {names.count} endpoints and {len(sync.models)} models; wanted one for each model."
            )
            self._refuse(here, sentence, "endpoints_mismatch")
        for model in names.models:
            if model not in self._models:
                self._refuse(here, f"the endpoint names the model {model}, which is none.", "model_not_found")

    def _refuse(self, place: Place, sentence: str, code: str | None = None) -> None:
        self._problems.append((place, Problem(sentence, field=str(place[-1]), code=code)))

    def _warn(self, place: Place, sentence: str, code: str | None = None) -> None:
        self._warnings.append((place, Problem(sentence, field=str(place[-1]), code=code)))


def _anonymous_name(key: str, sync: str) -> str:
    return re.sub(r"\W", "_", f"Anonymous_{key}_sync_{sync}_output")


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) and str(value).strip() else None


def _tag(value: Any) -> str | None:
    text = _text(value) or ""
    return text if _TAG_VALUE.fullmatch(text) else None
