"""Check the combination of a sync's fields: one paging style, one schedule, and fields that need others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nango_dagster import paths
from nango_dagster.config import for_each, incremental
from nango_dagster.config.field_values import PLACEHOLDER
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
_DESTINATIONS = ("paging_cursor_request_path", "paging_cursor_request_header")
# Fields that say where a list ends, or how it goes on; they mean nothing without a way to find the next page.
_WITH_PAGING = (
    "paging_has_more_response_path",
    "paging_end_response_path",
    "paging_total_response_path",
    "paging_header_total",
    "paging_total_pages_response_path",
    "paging_header_total_pages",
    "paging_cursor_repeats",
    "paging_inclusive",
    "next_request",
)
# Fields of which a sync has at most one.
_ONE_OF = (
    _DESTINATIONS,
    ("paging_total_response_path", "paging_header_total"),
    ("paging_total_pages_response_path", "paging_header_total_pages"),
)
# Fields that need another field.
_NEEDS = {
    "paging_page_start": "paging_page_request_path",
    "paging_offset_start": "paging_offset_request_path",
    "paging_limit": "paging_limit_request_path",
    "paging_limit_request_path": "paging_limit",
    "timezone": "cron",
    "pizzly_connection_id": "pizzly_provider_config_key",
    "pizzly_provider_config_key": "pizzly_connection_id",
    "missing_is_empty": "response_path",
    "metadata_model": "script",
    "checkpoint_model": "script",
}
_REQUEST_PATHS = (
    "paging_cursor_request_path",
    "paging_page_request_path",
    "paging_offset_request_path",
    "paging_limit_request_path",
)
# Fields that may hold secrets: an error about them does not show what it found. Also those with placeholders.
# Fields that describe one request or the reading of its list; a script does both itself.
_NOT_BESIDE_SCRIPT = (
    *("url", "method", "body", "next_request", "for_each", "records", "record_key_field", "missing_is_empty"),
    *("deleted_path", "incremental", "resumable", "max_total", "max_pages"),
)
MAY_BE_SECRET = ("base_url", "url", "headers", "query_params", "body", "next_request")


def combinations(fields: Mapping[str, Any]) -> list[Found]:
    """How fields fit together."""
    if "script" in fields:
        return list(_script(fields))
    checks = (
        *(
            _base,
            _paging,
            _endings,
            _needs,
            _records,
            _timing,
            _body_paths,
            _format,
            _table,
            _columns,
            _models,
            _accounts,
            _since,
        ),
        _for_each,
    )
    return [problem for check in checks for problem in check(fields)] + list(_incremental(fields))


def _script(fields: Mapping[str, Any]) -> Iterator[Found]:
    """The fields beside a script; those of its integration describe what its requests begin with."""
    for name in _NOT_BESIDE_SCRIPT:
        if name in fields and fields[name] not in ("", False, [], {}):
            instead = "base_url is the URL that its endpoints are added to" if name == "url" else f"leave {name} out"
            yield _misfit(name, f"{name} describes a list, and the script reads its lists itself; {instead}.")
    yield from _timing(fields)
    yield from _table(fields)
    yield from _columns(fields)
    yield from _models(fields)
    yield from _accounts(fields)
    if "metadata_model" in fields and "integration" not in fields:
        sentence = "metadata_model is the model of a connection's metadata; add integration or leave it out."
        yield _misfit("metadata_model", sentence)
    if "timezone" in fields and "cron" not in fields:
        yield _misfit("timezone", "timezone goes with cron; add cron or leave timezone out.")
    if fields.get("sync_type") == "incremental" and fields.get("track_deletes"):
        yield _misfit(
            "track_deletes",
            "a script that reads only changes would have the rest deleted; leave track_deletes out, or sync_type.",
        )


def _base(fields: Mapping[str, Any]) -> Iterator[Found]:
    if "base_url" in fields:
        yield _misfit("base_url", "base_url is for the requests of a script; write the whole URL into url.")


def _paging(fields: Mapping[str, Any]) -> Iterator[Found]:
    ways = [way for way in WAYS if way in fields]
    destination = next((name for name in _DESTINATIONS if name in fields), None)
    if len(ways) > 1:
        both = "both" if len(ways) == 2 else "all"
        yield _misfit(
            ways[-1],
            f"{_listed(ways)} {both} say how to find the next page; keep one of them.",
        )
    elif ways and ways[0] in _CURSORS and destination is None:
        yield _misfit(
            ways[0],
            f"{ways[0]} finds a cursor, but nothing says where to send it; "
            f"add {_DESTINATIONS[0]}, the name that the API has for it (such as after).",
        )
    elif ways and ways[0] in _COUNTED and destination is not None:
        yield _misfit(destination, f"{destination} is not used with {ways[0]}; leave one of them out.")
    elif destination is not None and not ways:
        yield _misfit(
            destination,
            f"{destination} says where to send a cursor, but nothing says where to find it; "
            f"add one of {', '.join(_CURSORS)}.",
        )


def _endings(fields: Mapping[str, Any]) -> Iterator[Found]:
    ways = [way for way in WAYS if way in fields]
    for name in _WITH_PAGING:
        if name in fields and fields[name] is not False and not ways:
            what = "describes further pages" if name == "next_request" else "says when to stop"
            yield _misfit(name, f"{name} {what}, but nothing says how to go on; add one of {', '.join(WAYS)}.")
    for names in _ONE_OF:
        if all(name in fields for name in names):
            yield _misfit(names[1], f"{_listed(list(names))} both say the same; keep one of them.")
    if fields.get("paging_cursor_repeats") and ways and ways[0] in _COUNTED:
        yield _misfit("paging_cursor_repeats", f"{ways[0]} counts, so no cursor repeats; leave one of them out.")
    if fields.get("paging_inclusive") and ways and ways[0] in _COUNTED:
        yield _misfit("paging_inclusive", f"{ways[0]} counts, so its pages share no record; leave one of them out.")


def _needs(fields: Mapping[str, Any]) -> Iterator[Found]:
    for name, other in _NEEDS.items():
        if name in fields and other not in fields:
            yield _misfit(name, f"{name} goes with {other}; add {other} or leave {name} out.")


def _records(fields: Mapping[str, Any]) -> Iterator[Found]:
    shape = fields.get("records", "list")
    if "record_key_field" in fields and shape != "values":
        yield _misfit("record_key_field", "record_key_field goes with records: values, whose keys it names; add that.")


def _timing(fields: Mapping[str, Any]) -> Iterator[Found]:
    if "frequency" in fields and "cron" in fields:
        yield _misfit("cron", "frequency and cron both say when the sync runs; keep one of them.")
    if "renamed_from" in fields and fields["renamed_from"] == fields.get("name"):
        yield _misfit("renamed_from", "renamed_from is the name the sync has; wanted the name it had before.")


def _body_paths(fields: Mapping[str, Any]) -> Iterator[Found]:
    """A name in a query is literal (`filter[id]`); in a JSON body it is a path, whose syntax is checked."""
    if str(fields.get("method", "GET")).upper() not in ("POST", "PUT", "PATCH", "SEARCH", "QUERY"):
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
            syntax = error.problems[0].wanted
            sentence = f"{name} is {shown(path)}; wanted {syntax}."
            yield (name,), Problem(sentence, field=name, found=path, wanted=syntax)


def _format(fields: Mapping[str, Any]) -> Iterator[Found]:
    if fields.get("format") in ("jsonl", "csv", "tsv") and "response_path" in fields:
        name = fields["format"]
        yield _misfit("response_path", f"response_path is for JSON; with format: {name} each line is a record.")


def _table(fields: Mapping[str, Any]) -> Iterator[Found]:
    if fields.get("auto_mapping") is False:
        for name in ("mapping", "transform"):
            if name in fields:
                yield _misfit(name, f"{name} shapes the mapped table, but auto_mapping: false makes none; keep one.")


def _columns(fields: Mapping[str, Any]) -> Iterator[Found]:
    mapping = fields.get("mapping")
    if isinstance(mapping, Mapping) and not mapping.get("columns") and "models" not in fields:
        sentence = "mapping.columns is missing; wanted column names with the path and type of each."
        yield ("mapping",), Problem(sentence, field="mapping.columns")


def _models(fields: Mapping[str, Any]) -> Iterator[Found]:
    models = fields.get("models") or {}
    if "validate" in fields and not models:
        yield _misfit("validate", "validate compares records with their model; add models, or leave validate out.")
    if not isinstance(models, Mapping):
        return
    if models and "model" in fields and fields["model"] not in models:
        yield _misfit("model", f"models has no {shown(fields['model'])}; wanted one of {', '.join(map(str, models))}.")
    if fields.get("validate") == "reject" and models and "unique_key" not in fields and "script" not in fields:
        yield _misfit(
            "validate",
            "validate: reject keeps the stored row of a record that does not fit, which takes a unique_key; add one, "
            "or set validate to warn or fail.",
        )


def _accounts(fields: Mapping[str, Any]) -> Iterator[Found]:
    if "integration" in fields and "pizzly_connection_id" in fields:
        yield _misfit(
            "pizzly_connection_id",
            "integration reads all connections of an integration and pizzly_connection_id one; keep one of them. "
            "A connection with credentials of type PIZZLY has its token from Pizzly.",
        )


def _since(fields: Mapping[str, Any]) -> Iterator[Found]:
    """A list of changes since the last time is no whole list: records that it lacks are not deleted."""
    for name in MAY_BE_SECRET:
        if "last_sync_date" not in placeholders(fields.get(name)):
            continue
        if "unique_key" not in fields:
            yield _misfit(
                name,
                f"${{last_sync_date}} in {name} asks for what is new, and without a unique_key that would replace all "
                "rows; add unique_key.",
            )
        elif fields.get("track_deletes") and "incremental" not in fields:
            yield _misfit(
                "track_deletes",
                f"${{last_sync_date}} in {name} asks for what is new, and track_deletes would take the rest for "
                "deleted; keep one of them.",
            )


def _incremental(fields: Mapping[str, Any]) -> Iterator[Found]:
    names = frozenset(placeholders([fields.get(name) for name in MAY_BE_SECRET]))
    for place, sentence in incremental.combinations(fields, names):
        yield place, Problem(sentence, field=".".join(place))


def _for_each(fields: Mapping[str, Any]) -> Iterator[Found]:
    names = frozenset(placeholders([fields.get(name) for name in MAY_BE_SECRET]))
    for name, sentence in for_each.misfits(fields, names):
        yield _misfit(name, sentence)


# The names of placeholders. The first ones always have a value; the others need a connection, or one in Pizzly.
_ALWAYS = ("connection_id", "variant", "last_sync_date", "since", "until")
_TOKENS = ("access_token", "pizzlyAccessToken")
_NAMED = (
    "${access_token}, ${credentials.NAME}, ${metadata.NAME}, ${connection_config.NAME}, ${connection_id}, ${variant}, "
    "${last_sync_date}"
)


def foreign_placeholders(fields: Mapping[str, Any]) -> list[Found]:
    """The problems of placeholders that can never have a value."""
    problems: list[Found] = []
    for name in MAY_BE_SECRET:
        for placeholder in sorted(set(placeholders(fields.get(name)))):
            if problem := _wrong_placeholder(placeholder, fields):
                reason, allowed = problem
                sentence = f"${{{placeholder[:80]}}} in {name} {reason}; wanted {allowed}."
                problems.append(((name,), Problem(sentence, field=name, wanted=allowed)))
    return problems


def _wrong_placeholder(name: str, fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """The problem of a placeholder, and the names that are allowed; None where there is none."""
    env = "${env.NAME} for the environment variable NANGO_ENV_NAME"
    if name in _ALWAYS or re.fullmatch(r"env\.[A-Za-z0-9_]+", name):
        return None
    of_metadata = _is_path_in("metadata", name) or _is_path_in("connection_config", name)
    if _is_path_in(for_each.PARENT, name):
        return None if "for_each" in fields else ("belongs to a parent, and this sync has no for_each", "for_each")
    if not (of_metadata or is_credential(name)):
        return "names nothing", f"one of {_NAMED}, {env}, or $${{ for a plain ${{"
    if "integration" in fields or ("pizzly_connection_id" in fields and not of_metadata):
        return None
    pizzly = "" if of_metadata else ", or pizzly_connection_id and pizzly_provider_config_key"
    return "belongs to a connection, and this sync has none", f"integration{pizzly}, or {env}"


def is_credential(name: str) -> bool:
    """Whether a placeholder of this name stands for a credential.

    >>> is_credential("credentials.apiKey"), is_credential("metadata.region")
    (True, False)
    """
    return name in _TOKENS or _is_path_in("credentials", name)


def _is_path_in(root: str, name: str) -> bool:
    try:
        steps = paths.parse(name)
    except ConfigError:
        return False
    return len(steps) > 1 and steps[0] == root


def placeholders(value: Any) -> Iterator[str]:
    """The names in the `${...}` of a text, or of all texts in an object or list.

    >>> list(placeholders({"Authorization": "Bearer ${env.TOKEN}", "X": "$${plain}"}))
    ['env.TOKEN']
    """
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield from (match["name"] for match in PLACEHOLDER.finditer(item) if match["name"] is not None)
        elif isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)


def _misfit(name: str, sentence: str) -> Found:
    return (name,), Problem(sentence, field=name)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
