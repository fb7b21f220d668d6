"""Check the fields of a config and make the sync, or an error with a sentence for each problem."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from nango_dagster.config.combinations import MAY_BE_SECRET, combinations, foreign_placeholders
from nango_dagster.config.schema import ALIASES, part_of, words
from nango_dagster.config.source import NOWHERE, Found, Place, Source, dotted, quoted, shown
from nango_dagster.config.sync import Sync
from nango_dagster.errors import ConfigError, Problem

SchemaOf = Callable[[Place], Mapping[str, Any]]
"""The JSON Schema at a place."""

# Names of other tools and of other versions of Nango, which are not similar to the field's name.
_KNOWN_ELSEWHERE = {
    "soft_delete": "track_deletes",
    "primary_key": "unique_key",
    "unique_id": "unique_key",
    "endpoint": "url",
    "schedule": "frequency",
    "runs": "frequency",
    "interval": "frequency",
    "table": "mapped_table",
    "params": "query_params",
    "records_path": "response_path",
    "data": "body",
    "json": "body",
    "limit": "max_total",
}


def check(given: Mapping[Any, Any], source: Source = NOWHERE) -> Sync:
    """The sync that the fields describe. Raises ConfigError with all problems of the fields."""
    fields, problems = canonical(given)
    if "script" in fields:
        fields.setdefault("unique_key", "id")
    problems += foreign_fields(fields, [*Sync.model_fields], "a sync")
    known = {name: value for name, value in fields.items() if name in Sync.model_fields}
    sync: Sync | None = None
    try:
        sync = Sync.model_validate(known)
    except ValidationError as error:
        problems += invalid(error)
    problems += combinations(fields)
    problems += foreign_placeholders(fields)
    if sync is None or problems:
        located = [source.locate(problem, place) for place, problem in problems]
        raise ConfigError.of(*sorted(located, key=lambda problem: problem.line or 0))
    return sync


def canonical_name(name: str) -> str:
    """The documented name of a field, which may be given by an older one."""
    return ALIASES.get(name, name)


def canonical(given: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Found]]:
    """The fields by their documented names; null counts as not given."""
    fields: dict[str, Any] = {}
    problems: list[Found] = []
    written: dict[str, str] = {}
    for key, value in given.items():
        old, name = str(key), canonical_name(str(key))
        if value is None:
            continue
        if name in fields:
            sentence = f"{written[name]} and {old} are names of the same field; keep {name}."
            problems.append(((old,), Problem(sentence, field=name, wanted=f"only {name}")))
            continue
        written[name] = old
        fields[name] = value
    return fields, problems


def foreign_fields(fields: Mapping[str, Any], known: Collection[str], owner: str) -> list[Found]:
    """The problems of fields that `owner`, such as "a sync", does not have."""
    names = [*known, *ALIASES]
    return [((name,), _no_field(name, name, names, owner)) for name in fields if name not in known]


def _no_field(name: str, place: str, known: list[str], owner: str) -> Problem:
    suggestion = _KNOWN_ELSEWHERE.get(name) or _nearest(name, known)
    if suggestion and suggestion in known:
        field = canonical_name(suggestion)
        return Problem(f"{quoted(place)} is no field of {owner}; did you mean {field}?", field=place, wanted=field)
    listed = "one of " + ", ".join(known)
    fields = "one of the fields in docs/reference/config.md" if owner in ("a sync", "an integration") else listed
    return Problem(f"{quoted(place)} is no field of {owner}; wanted {fields}.", field=place, wanted=fields)


def _nearest(name: str, known: list[str]) -> str | None:
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_").replace(" ", "_")
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=0.7)), None)


def invalid(error: ValidationError, schema_of: SchemaOf = part_of) -> list[Found]:
    """The errors of a model's types, each as a sentence with the value found and the values allowed."""
    return [_problem(details, schema_of) for details in error.errors(include_url=False)]


def _problem(details: Mapping[str, Any], schema_of: SchemaOf) -> Found:
    place: Place = details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        known = list(schema_of(place[:-1]).get("properties", {}))
        return place, _no_field(str(place[-1]), dotted(place), known, dotted(place[:-1]))
    allowed = str(details["ctx"]["error"]) if kind == "value_error" else words(schema_of(place))
    if kind == "missing":
        allowed = ", such as ".join([allowed, *schema_of(place).get("examples", ())])
        sentence = f"{dotted(place)} is missing; wanted {allowed}."
        return place[:-1], Problem(sentence, field=dotted(place), wanted=allowed)
    value = details["input"]
    if place[-1:] == ("[key]",):
        place = place[:-1]
        clause = f"{dotted(place[:-1])}: {shown(value)} is no good name"
    elif place[0] in MAY_BE_SECRET or (kind == "value_error" and isinstance(value, dict | list)):
        value, clause = None, f"{dotted(place)} cannot be used"
    else:
        clause = f"{dotted(place)} is {shown(value)}"
    return place, Problem(f"{clause}; wanted {allowed}.", field=dotted(place), found=value, wanted=allowed)
