"""The models of a `nango.yaml` as JSON Schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nango_dagster.config.nango_yaml.types import Schema, TypeReader, TypeSyntaxError
from nango_dagster.config.source import Found, Place, quoted, shown
from nango_dagster.errors import Problem

_NAME = re.compile(r"[a-zA-Z0-9_]+")
_ROOT = "models"


class ModelSection:
    """The section `models`: each model's schema, the errors that it has, and warnings."""

    def __init__(self, models: Any) -> None:
        self.problems: dict[str, list[Found]] = {}
        """The errors of each model with errors."""
        self.warnings: list[Found] = []
        self.foreign: list[Found] = []
        """Errors that belong to no model."""
        self._fields: dict[str, Mapping[str, Any]] = {}
        self._schemas: dict[str, Schema] = {}
        if models is not None and not isinstance(models, Mapping):
            self.foreign.append(
                _found((_ROOT,), f"models is {shown(models)}; wanted an object with a model each.", None)
            )
            models = None
        for name, fields in (models or {}).items():
            self._add(str(name), fields)
        self.types = TypeReader(set(self._fields), self.warnings.append)
        for name, fields in self._fields.items():
            try:
                self._schemas[name] = self.types.fields(self._with_parents(name, fields, ()), (_ROOT, name))
            except TypeSyntaxError as error:
                self._refuse(name, error.place or (_ROOT, name), str(error), error.code)
        for name in self._schemas:
            self._warn_of_cycle(name)

    def __contains__(self, name: object) -> bool:
        return name in self._fields or name in self.problems

    def _add(self, name: str, fields: Any) -> None:
        place = (_ROOT, name)
        if not _NAME.fullmatch(name):
            sentence = f"the model {quoted(name)} has another name than letters, digits and _."
            self._refuse(name, place, sentence, "invalid_model_name")
        elif not isinstance(fields, Mapping):
            sentence = f"the model {name} is {shown(fields)}; wanted its fields with a type each."
            self._refuse(name, place, sentence, "failed_to_parse_object")
        else:
            self._fields[name] = fields

    def _refuse(self, name: str, place: Place, sentence: str, code: str) -> None:
        self.problems.setdefault(name, []).append(_found(place, sentence, code))

    def _with_parents(self, name: str, fields: Mapping[str, Any], open_models: tuple[str, ...]) -> dict[str, Any]:
        """The fields with those of `__extends`; own fields win, then the first parent. Raises TypeSyntaxError."""
        merged = {key: value for key, value in fields.items() if key != "__extends"}
        named = fields.get("__extends") or ""
        parents = named if isinstance(named, list) else str(named).split(",")
        for parent in [str(parent).strip() for parent in parents if str(parent).strip()]:
            if parent not in self._fields:
                sentence = f"the model {name} extends {quoted(parent)}, which is no model."
                raise TypeSyntaxError(sentence, "model_extends_not_found")
            if parent in (name, *open_models):
                raise TypeSyntaxError(f"the model {name} extends itself.", "model_extends_not_found")
            names = {key.removesuffix("?") for key in merged}
            inherited = self._with_parents(parent, self._fields[parent], (*open_models, name))
            merged.update({key: value for key, value in inherited.items() if key.removesuffix("?") not in names})
        return merged

    def _warn_of_cycle(self, name: str) -> None:
        seen, pending = set(), [*_references(self._schemas[name])]
        while pending:
            other = pending.pop()
            if other == name:
                sentence = f"the model {name} contains itself; inside itself any object fits its column."
                self.warnings.append(_found((_ROOT, name), sentence, "cyclic_model"))
                return
            if other not in seen:
                seen.add(other)
                pending += _references(self._schemas.get(other, {}))

    def schema(self, name: str) -> Schema:
        """The schema of a model without errors, with those that it refers to."""
        return self.complete(self._schemas[name])

    def complete(self, schema: Schema) -> Schema:
        """A schema with those of the models that it refers to, directly or through others."""
        used: dict[str, Schema] = {}
        pending = [*_references(schema)]
        while pending:
            name = pending.pop()
            if name not in used and name in self._schemas:
                used[name] = self._schemas[name]
                pending += _references(used[name])
        return {**schema, "$defs": dict(sorted(used.items()))} if used else schema

    def used_by(self, name: str) -> set[str]:
        """The models that a model refers to, directly or through others."""
        schema = self._schemas.get(name, {})
        others = self.complete(schema).get("$defs", {})
        return {reference for part in (schema, *others.values()) for reference in _references(part)}

    def problems_of(self, name: str) -> list[Found]:
        """The errors of a model and of those that it refers to."""
        return [problem for other in sorted({name, *self.used_by(name)}) for problem in self.problems.get(other, ())]

    def has_id(self, name: str) -> bool:
        """Whether a model has a field `id`."""
        return "id" in self._schemas.get(name, {}).get("properties", {})


def _references(schema: Any) -> Iterator[str]:
    """The names of the models that a schema refers to."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def _found(place: Place, sentence: str, code: str | None) -> Found:
    return place, Problem(sentence, field=str(place[-1]), code=code)
