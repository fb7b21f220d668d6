"""How the fields of a sync fit together: one way to page, one way to run, and what needs what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nango_dagster import paths
from nango_dagster.config.fields import PLACEHOLDER
from nango_dagster.config.source import Found, shown
from nango_dagster.errors import ConfigError, Problem

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
# Fields that may hold secrets: an error about them does not show what it found. Also those with placeholders.
MAY_BE_SECRET = ("url", "headers", "query_params", "body")


def combinations(fields: Mapping[str, Any]) -> list[Found]:
    """How fields fit together."""
    return [*_paging(fields), *_needs(fields), *_timing(fields), *_body_paths(fields), *_table(fields)]


def _paging(fields: Mapping[str, Any]) -> Iterator[Found]:
    ways = [way for way in WAYS if way in fields]
    cursor = "paging_cursor_request_path"
    if len(ways) > 1:
        both = "both" if len(ways) == 2 else "all"
        yield _misfit(
            ways[-1],
            f"{_listed(ways)} {both} say how to find the next page; keep one of them.",
        )
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


def _needs(fields: Mapping[str, Any]) -> Iterator[Found]:
    for name, other in _NEEDS.items():
        if name in fields and other not in fields:
            yield _misfit(name, f"{name} goes with {other}; add {other} or leave {name} out.")


def _timing(fields: Mapping[str, Any]) -> Iterator[Found]:
    if "frequency" in fields and "cron" in fields:
        yield _misfit("cron", "frequency and cron both say when the sync runs; keep one of them.")
    if "renamed_from" in fields and fields["renamed_from"] == fields.get("name"):
        yield _misfit("renamed_from", "renamed_from is the name the sync has; wanted the name it had before.")


def _body_paths(fields: Mapping[str, Any]) -> Iterator[Found]:
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
            sentence = f"{name} is {shown(path)}; wanted {wanted}."
            yield (name,), Problem(sentence, field=name, found=path, wanted=wanted)


def _table(fields: Mapping[str, Any]) -> Iterator[Found]:
    if fields.get("auto_mapping") is False:
        for name in ("mapping", "transform"):
            if name in fields:
                yield _misfit(name, f"{name} shapes the mapped table, but auto_mapping: false makes none; keep one.")


def foreign_placeholders(fields: Mapping[str, Any]) -> list[Found]:
    problems: list[Found] = []
    for name in MAY_BE_SECRET:
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


def _misfit(name: str, sentence: str) -> Found:
    return (name,), Problem(sentence, field=name)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
