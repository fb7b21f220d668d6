"""The fields of `incremental`: where a sync's cursor comes from, where it is sent, and what happens in between."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from nango_dagster.config import fields as f
from nango_dagster.config.frequency import every, interval_of, seconds
from nango_dagster.errors import ConfigError

FORMATS = ("iso", "iso_seconds", "date", "unix", "unix_ms", "http_date", "number")
_FORMAT = f"one of {', '.join(FORMATS)}, or a text with strftime codes such as %Y-%m-%d %H:%M"
_START = 'a date or time such as 2024-01-01, a number, or text such as "90 days ago"'
_IS_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?").fullmatch
_AGO = re.compile(r"(?P<duration>.+)\s+ago", re.IGNORECASE)


def _format(text: str) -> str:
    if "%s" in text:
        raise ValueError("unix instead of %s, which is in the time zone of this machine")
    if text in FORMATS or re.search(r"%[A-Za-z]", text):
        return text
    raise ValueError(_FORMAT)


def _start(value: Any) -> str | int | float:
    """A start as it is kept. Raises ValueError where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        start_at(value, datetime.now(timezone.utc))
        return value
    raise ValueError(_START)


def start_at(start: str | float, now: datetime) -> datetime | str | float:
    """The value of `start` at a moment: a time, where it is one.

    >>> now = datetime(2026, 1, 31, tzinfo=timezone.utc)
    >>> start_at("30 days ago", now).isoformat(), start_at("2024-01-01", now).isoformat(), start_at(0, now)
    ('2026-01-01T00:00:00+00:00', '2024-01-01T00:00:00+00:00', 0)
    """
    if not isinstance(start, str):
        return start
    ago = _AGO.fullmatch(start.strip())
    try:
        if ago is not None:
            return now - timedelta(seconds=seconds(ago["duration"]))
        if _IS_NUMBER(start):
            return start
        moment = datetime.fromisoformat(start.strip().replace("Z", "+00:00"))
    except (ConfigError, ValueError):
        raise ValueError(_START) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _interval(value: Any) -> str:
    try:
        return every(interval_of(value))
    except ConfigError as error:
        raise ValueError(error.problems[0].wanted) from None


def _lag(value: Any) -> float:
    if value == 0 and not isinstance(value, bool):
        return 0.0
    try:
        return seconds(value)
    except ConfigError as error:
        raise ValueError(f"0, or {error.problems[0].wanted}") from None


_NUMBER_OR_TEXT = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
Start = Annotated[str | int | float, PlainValidator(_start), _NUMBER_OR_TEXT]
Lag = Annotated[float, BeforeValidator(_lag), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})]
EveryInterval = Annotated[str, PlainValidator(_interval), _NUMBER_OR_TEXT]
Status = Annotated[int, Field(ge=400, le=599)]


class Until(f.Part):
    """The place of the upper bound in a request."""

    request_path: f.Query = Field(description="The query parameter, or the path in the body, of the upper bound.")


class Incremental(f.Part):
    """The request of an execution for the changes since the last one."""

    from_: Literal["record", "run_start", "response"] = Field(
        "record",
        alias="from",
        description="The origin of the cursor. `record`: the greatest value of `field` in the records. `run_start`: "
        "the start of the last successful execution. `response`: a token in the answers.",
    )
    field: f.FieldPath | None = Field(None, description="With `from: record`: the path of the cursor in a record.")
    token_path: f.Path | None = Field(
        None, description="With `from: response`: the path of the token in an answer; the last one counts."
    )
    token_url_path: f.Path | None = Field(
        None, description="With `from: response`: the path of the URL that the next execution reads."
    )
    request_path: f.Query | None = Field(
        None, description="The place of the cursor in the request: a query parameter, or a path in the body."
    )
    header: f.HeaderName | None = Field(
        None, description="The request header with the cursor, such as `If-Modified-Since`."
    )
    format: Annotated[str, AfterValidator(_format)] | None = Field(
        None,
        description=f"The form of the cursor in the request: {_FORMAT}. By default it is that of the records, and "
        "`iso_seconds` with `from: run_start`. `number` is for numbers that are no times, such as ids.",
    )
    start: Start | None = Field(
        None, description=f"The cursor of the first execution: {_START}. Without it everything is read."
    )
    lag: Lag | None = Field(
        None,
        description="The time before the cursor at which each execution begins, for records that appear late and for "
        "clocks that differ. One minute by default, and a day if the cursor is a date.",
    )
    order: Literal["none", "asc", "desc"] = Field(
        "none",
        description="The order of the records by `field`. `asc`: the cursor moves with each page. `desc`: an execution "
        "stops at the first page that is older than the cursor. `none`: the cursor moves when all pages are read.",
    )
    until: Until | None = Field(None, description="The upper bound of the request: the start of the execution.")
    step: f.Seconds | None = Field(
        None, description="The length of the time windows, from the cursor to now, that are read one by one."
    )
    reset_on: list[Status] | None = Field(
        None,
        description="The statuses that refuse a cursor as too old, so that everything is read again; 410 by default "
        "with `from: response`.",
    )
    full_refresh: EveryInterval | None = Field(
        None, description="The interval at which everything is read, such as `every 7 days`."
    )
    missing: Literal["keep", "skip", "fail"] = Field(
        "keep",
        description="The handling of a record without `field`: `keep` stores it, `skip` does not, `fail` ends the "
        "execution.",
    )

    model_config = ConfigDict(populate_by_name=True)


def combinations(fields: Mapping[str, Any], placeholders: frozenset[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The places and sentences of fields of a sync that do not fit its `incremental`.

    `placeholders` are the names of the placeholders in the sync's requests.
    """
    block = fields.get("incremental")
    if isinstance(block, Mapping):
        yield from _of_block(fields, block, placeholders)
    elif block is None:
        yield from _without_block(fields, placeholders)


def _without_block(fields: Mapping[str, Any], placeholders: frozenset[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    if fields.get("sync_type") == "incremental":
        yield (
            ("sync_type",),
            "sync_type: incremental needs the block incremental, which says where the cursor comes from and where it "
            "is sent; add it, such as incremental: {field: updated_at, request_path: since}.",
        )
    if fields.get("resumable") and "unique_key" not in fields:
        yield ("resumable",), "resumable keeps the pages of an execution that breaks, which takes a unique_key; add it."
    if "deleted_path" in fields and "unique_key" not in fields:
        yield ("deleted_path",), "deleted_path deletes single records, which takes a unique_key; add it."
    for name in sorted(placeholders & {"since", "until"}):
        yield ("incremental",), f"${{{name}}} is a value of the block incremental, which is missing; add it."


def _of_block(
    fields: Mapping[str, Any], block: Mapping[str, Any], placeholders: frozenset[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    if fields.get("sync_type") != "incremental":
        yield ("incremental",), "incremental goes with sync_type: incremental; add that."
    if "unique_key" not in fields:
        yield ("incremental",), "incremental adds changes to the records there are, which takes a unique_key; add it."
    for name, sentence in chain(
        _origin(block), *(check(block, placeholders) for check in (_sending, _times, _numbers))
    ):
        yield ("incremental", name), f"incremental.{name} {sentence}"
    if fields.get("track_deletes") and "full_refresh" not in block and block.get("from") != "response":
        yield (
            ("track_deletes",),
            "track_deletes compares the whole list, and an incremental execution reads only changes; add "
            "incremental.full_refresh, such as every 7 days, or leave track_deletes out.",
        )
    if fields.get("track_deletes") and _AGO.fullmatch(str(block.get("start", ""))):
        yield (
            ("incremental", "start"),
            "incremental.start moves with the time, and track_deletes would take the records before it for deleted; "
            "wanted a fixed date, or no track_deletes.",
        )


def _origin(block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Problems of the fields that say where the cursor comes from."""
    origin = block.get("from", "record")
    tokens = [name for name in ("token_path", "token_url_path") if name in block]
    if origin == "response":
        if len(tokens) != 1:
            yield "from", "is response, and a token has one place; give one of token_path and token_url_path."
        for name in ("format", "lag", "start", "until", "step"):
            if name in block:
                yield name, "is for times, and a token of the API goes back as it came; leave it out."
    else:
        for name in tokens:
            yield name, f"goes with from: response, and from is {origin}; change one of them."
    if origin == "record" and "field" not in block and not tokens:
        yield "from", "is record, and nothing says which value of the record; add field, such as updated_at."
    if origin != "record":
        for name in ("field", "missing", "order"):
            if name in block:
                yield name, f"is about values in the records, and from is {origin}; leave it out."


def _sending(block: Mapping[str, Any], placeholders: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Problems of the fields that say where the cursor is sent."""
    ways = [name for name in ("request_path", "header") if name in block]
    templates = sorted(placeholders & {"since", "last_sync_date"})
    places = [*ways, *(f"${{{name}}}" for name in templates)]
    if "token_url_path" in block:
        if places:
            yield "token_url_path", f"is the whole request, and {places[0]} sends a cursor, too; keep one of them."
    elif len(places) > 1:
        yield (ways or ["from"])[0], f"and {places[1]} both send the cursor; keep one of them."
    elif not places and block.get("order") != "desc":
        yield "from", "gives a cursor that nothing sends; add request_path, header, or ${since} in the request."
    if "last_sync_date" in templates and block.get("from", "record") != "run_start":
        yield "from", "gives the cursor, which is ${since} in a request; ${last_sync_date} goes with from: run_start."
    if "since" in templates and "start" not in block:
        yield "from", "has no value for ${since} in the first execution; add start, such as 1970-01-01."


def _times(block: Mapping[str, Any], placeholders: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Problems of upper bounds and windows."""
    sends_until = "until" in block or "until" in placeholders
    if "until" in block and "until" in placeholders:
        yield "until", "and ${until} both send the upper bound; keep one of them."
    if "step" in block and not sends_until:
        yield "step", "reads windows, whose end nothing sends; add until, or ${until} in the request."
    if "step" in block and "start" not in block:
        yield "step", "reads windows, and the first one has no beginning; add start."
    if "step" in block and "full_refresh" in block:
        yield "step", "reads windows, and full_refresh the whole list in one piece; keep one of them."
    if "step" in block and block.get("order", "none") != "none":
        yield "step", "moves the cursor with each window, and order with each page; keep one of them."


def _numbers(block: Mapping[str, Any], placeholders: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Problems of fields for times beside numbers that are none."""
    if block.get("format") != "number":
        return
    if block.get("from", "record") == "run_start" or "until" in placeholders:
        yield "format", "is number, and the request has a time; leave it out."
    for name in ("lag", "until", "step"):
        if name in block:
            yield name, "is for times, and format: number says that the cursor is none; leave it out."
    if not _IS_NUMBER(str(block.get("start", 0))):
        yield "start", "is a time, and format: number says that the cursor is none; wanted a number."
