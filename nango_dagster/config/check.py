"""From fields as somebody wrote them to a sync, or to all that is wrong with them, in sentences."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from nango_dagster import paths
from nango_dagster.config.fields import PLACEHOLDER
from nango_dagster.config.schema import ALIASES, NOT_YET, NOT_YET_VALUES, part_of, words
from nango_dagster.config.sync import Sync
from nango_dagster.errors import ConfigError, Problem

Place = tuple[str | int, ...]

# The ways to find the next page; a sync has at most one of them.
WAYS = (
    "paging_cursor_metadata_response_path",
    "paging_cursor_object_response_path",
    "paging_header_cursor",
    "paging_response_path",
    "paging_url_path",
    "paging_header_link_rel",
    "paging_header_url",
    "paging_page_request_path",
    "paging_offset_request_path",
)
_CURSORS = WAYS[:3]
_COUNTED = WAYS[-2:]
# A field that means nothing without another.
_NEEDS = {
    "paging_page_start": "paging_page_request_path",
    "paging_offset_start": "paging_offset_request_path",
    "paging_limit": "paging_limit_request_path",
    "paging_limit_request_path": "paging_limit",
    "timezone": "cron",
}
_REQUEST_PATHS = (
    "paging_cursor_request_path",
    "paging_page_request_path",
    "paging_offset_request_path",
    "paging_limit_request_path",
)
# Fields that may hold secrets: an error about them does not show what it found.
_SECRET = ("url", "headers", "query_params", "body")
# Names from other tools and other versions of Nango that spelling does not lead to a field.
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
    "depends_on": "tags",
}


@dataclass(frozen=True)
class Source:
    """Where fields were read: a file, and the lines of the places in it."""

    file: str | None = None
    lines: Mapping[Place, int] = field(default_factory=dict)
    # The sync's own place in the file, and that of the defaults it shares.
    prefixes: tuple[Place, ...] = ((),)

    def line(self, place: Place) -> int | None:
        """The line of a place, or of the nearest one around it."""
        for length in range(len(place), -1, -1):
            for prefix in self.prefixes:
                found = self.lines.get((*prefix, *place[:length]))
                if found is not None:
                    return found
        return None

    def locate(self, problem: Problem, place: Place = ()) -> Problem:
        """The problem with its file and line."""
        return replace(problem, file=self.file, line=self.line(place))


NOWHERE = Source()


def check(given: Mapping[Any, Any], source: Source = NOWHERE) -> Sync:
    """The sync that fields describe, or a ConfigError with everything that is wrong with them."""
    fields, problems = _canonical(given)
    problems += _unknown(fields)
    problems += _not_yet(fields)
    known = {name: value for name, value in fields.items() if name in Sync.model_fields}
    sync: Sync | None = None
    try:
        sync = Sync.model_validate(known)
    except ValidationError as error:
        problems += _invalid(error)
    problems += _combinations(fields)
    problems += _placeholders(fields)
    if sync is None or problems:
        raise ConfigError.of(*(source.locate(problem, place) for place, problem in problems))
    return sync


Found = list[tuple[Place, Problem]]


def canonical_name(name: str) -> str:
    """The documented name of a field, which may be given by an older one."""
    return ALIASES.get(name, name)


def _canonical(given: Mapping[Any, Any]) -> tuple[dict[str, Any], Found]:
    """The fields by their documented names; null counts as not given."""
    fields: dict[str, Any] = {}
    problems: Found = []
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


def _unknown(fields: Mapping[str, Any]) -> Found:
    known = [*Sync.model_fields, *ALIASES]
    return [
        ((name,), _no_field(name, name, known, "a sync"))
        for name in fields
        if name not in Sync.model_fields and name not in NOT_YET
    ]


def _no_field(name: str, place: str, known: list[str], what: str) -> Problem:
    suggestion = _KNOWN_ELSEWHERE.get(name) or _nearest(name, known)
    if suggestion and suggestion in known:
        wanted = canonical_name(suggestion)
        return Problem(
            f"{_quoted(place)} is no field of {what}; did you mean {wanted}?", field=place, wanted=wanted
        )
    wanted = "one of the fields in docs/config.md" if what == "a sync" else "one of " + ", ".join(known)
    return Problem(f"{_quoted(place)} is no field of {what}; wanted {wanted}.", field=place, wanted=wanted)


def _nearest(name: str, known: list[str]) -> str | None:
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_").replace(" ", "_")
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=0.7)), None)


def _not_yet(fields: Mapping[str, Any]) -> Found:
    problems: Found = []
    for name, instead in NOT_YET.items():
        if name in fields:
            problems.append(
                ((name,), Problem(f"{name} is not available yet; {instead}.", field=name, wanted=instead))
            )
    for name, (value, instead) in NOT_YET_VALUES.items():
        if name in fields and fields[name] == value and type(fields[name]) is type(value):
            shown = json.dumps(value).strip('"')
            sentence = f"{name}: {shown} is not available yet; {instead}."
            problems.append(((name,), Problem(sentence, field=name, found=value, wanted=instead)))
    return problems


def _invalid(error: ValidationError) -> Found:
    """What the model's types refuse, each as a sentence with the value found and the values allowed."""
    return [_problem(details) for details in error.errors(include_url=False)]


def _problem(details: Mapping[str, Any]) -> tuple[Place, Problem]:
    place: Place = details["loc"]
    kind = details["type"]
    if kind == "extra_forbidden":
        parent = place[:-1]
        known = list(part_of(parent).get("properties", {}))
        return place, _no_field(str(place[-1]), _dotted(place), known, _dotted(parent))
    wanted = str(details["ctx"]["error"]) if kind == "value_error" else words(part_of(place))
    is_key = place[-1:] == ("[key]",)
    if is_key:
        place = place[:-1]
        wanted = wanted if kind == "value_error" else "text"
    name = _dotted(place)
    if kind == "missing":
        return place[:-1], Problem(f"{name} is missing; wanted {wanted}.", field=name, wanted=wanted)
    if place[0] in _SECRET:
        return place, Problem(f"{name} cannot be used; wanted {wanted}.", field=name, wanted=wanted)
    found = details["input"]
    is_what = "is no good name" if is_key else f"is {_shown(found)}"
    return place, Problem(f"{name} {is_what}; wanted {wanted}.", field=name, found=found, wanted=wanted)


def _combinations(fields: Mapping[str, Any]) -> Found:
    """How fields fit together."""
    return [*_paging(fields), *_needs(fields), *_timing(fields), *_body_paths(fields), *_table(fields)]


def _paging(fields: Mapping[str, Any]) -> Iterator[tuple[Place, Problem]]:
    ways = [way for way in WAYS if way in fields]
    cursor = "paging_cursor_request_path"
    if len(ways) > 1:
        yield _misfit(ways[-1], f"{_listed(ways)} all say how to find the next page; keep one of them.")
    elif ways and ways[0] in _CURSORS and cursor not in fields:
        yield _misfit(
            ways[0],
            f"{ways[0]} finds a cursor, but nothing says where to send it; "
            f"add {cursor}, the name that the API has for it (such as after).",
        )
    elif ways and ways[0] in _COUNTED and cursor in fields:
        yield _misfit(cursor, f"{cursor} is not used with {ways[0]}; leave one of them out.")
    elif cursor in fields and not ways:
        yield _misfit(
            cursor,
            f"{cursor} says where to send a cursor, but nothing says where to find it; "
            f"add one of {', '.join(_CURSORS)}.",
        )
    if "paging_has_more_response_path" in fields and not ways:
        yield _misfit(
            "paging_has_more_response_path",
            f"paging_has_more_response_path says when to stop, but nothing says how to go on; "
            f"add one of {', '.join(WAYS)}.",
        )


def _needs(fields: Mapping[str, Any]) -> Iterator[tuple[Place, Problem]]:
    for name, other in _NEEDS.items():
        if name in fields and other not in fields:
            yield _misfit(name, f"{name} goes with {other}; add {other} or leave {name} out.")


def _timing(fields: Mapping[str, Any]) -> Iterator[tuple[Place, Problem]]:
    if "frequency" in fields and "cron" in fields:
        yield _misfit("cron", "frequency and cron both say when the sync runs; keep one of them.")
    if "renamed_from" in fields and fields["renamed_from"] == fields.get("name"):
        yield _misfit("renamed_from", "renamed_from is the name the sync has; wanted the name it had before.")


def _body_paths(fields: Mapping[str, Any]) -> Iterator[tuple[Place, Problem]]:
    """In a query a name is literal (`filter[id]`); in a JSON body it is a path, which has to be one."""
    if str(fields.get("method", "GET")).upper() not in ("POST", "PUT", "PATCH"):
        return
    for name in _REQUEST_PATHS:
        path = fields.get(name)
        if not isinstance(path, str):
            continue
        if isinstance(fields.get("body"), list):
            yield _misfit(name, f"{name} is set in the body, but the body is a list; wanted an object.")
        try:
            paths.parse(path)
        except ConfigError as error:
            wanted = error.problems[0].wanted
            sentence = f"{name} is {_shown(path)}; wanted {wanted}."
            yield (name,), Problem(sentence, field=name, found=path, wanted=wanted)


def _table(fields: Mapping[str, Any]) -> Iterator[tuple[Place, Problem]]:
    if fields.get("auto_mapping") is False:
        for name in ("mapping", "transform"):
            if name in fields:
                yield _misfit(
                    name, f"{name} shapes the mapped table, but auto_mapping: false makes none; keep one."
                )


def _placeholders(fields: Mapping[str, Any]) -> Found:
    problems: Found = []
    for name in _SECRET:
        for placeholder in sorted(set(placeholders(fields.get(name)))):
            if not re.fullmatch(r"env\.[A-Za-z0-9_]+", placeholder):
                wanted = "${env.NAME} for the environment variable NANGO_ENV_NAME, or $${ for a plain ${"
                said = f"${{{placeholder[:80]}}} in {name} is not available yet; wanted {wanted}."
                problems.append(((name,), Problem(said, field=name, wanted=wanted)))
    return problems


def placeholders(value: Any) -> Iterator[str]:
    """What stands in the `${...}` of a text, or of the texts in an object or list.

    >>> list(placeholders({"Authorization": "Bearer ${env.TOKEN}", "X": "$${plain}"}))
    ['env.TOKEN']
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield from (match["name"] for match in PLACEHOLDER.finditer(one) if match["name"] is not None)
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)


def _misfit(name: str, sentence: str) -> tuple[Place, Problem]:
    return (name,), Problem(sentence, field=name)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _dotted(place: Place) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return _printable(text)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, str | int | float):
        return _quoted(value)
    return f"a {type(value).__name__}"


def _quoted(value: str | float | None) -> str:
    text = _printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _printable(text: str) -> str:
    """Text that any terminal and log can take."""
    return text.encode("utf-8", "backslashreplace").decode()
