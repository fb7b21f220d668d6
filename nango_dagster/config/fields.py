"""The types of sync fields: the accepted values, and how they are converted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from nango_dagster import paths
from nango_dagster.config.failure_limit import failure_limit
from nango_dagster.config.frequency import normalised, seconds
from nango_dagster.config.schedule import check_cron
from nango_dagster.errors import ConfigError
from nango_dagster.models import schema_of

# `${env.NAME}`; `$${` is an escaped `${`.
PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}")


@dataclass(frozen=True)
class Matches:
    """Text of one grammar, with a description for errors."""

    pattern: str
    wanted: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(self.wanted)
        return text


def _path(text: str) -> str:
    try:
        paths.compiled(text) if paths.is_query(text) else paths.parse(text)
    except ConfigError as error:
        raise ValueError(error.problems[0].wanted) from None
    return text


def _field_path(text: str) -> str:
    if paths.is_query(text):
        raise ValueError("keys joined by dots, such as owner.id; a query is only used on a whole answer")
    return _path(text)


def _unique_key(value: Any) -> str | list[str]:
    """One path, or several; a list of one is that one."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(path, str) for path in several) or len(set(several)) < len(several):
        raise ValueError("a path, or a list of different paths")
    checked = [_field_path(path) for path in several]
    return checked[0] if len(checked) == 1 else checked


def _url(text: str) -> str:
    if text.startswith("/") and not text.startswith("//"):
        raise ValueError("a URL such as https://api.example.com/items, or base_url in the sync's integration")
    if PLACEHOLDER.match(text):  # the scheme and the host come from a variable
        return text
    try:
        url = urlsplit(PLACEHOLDER.sub("1", text))
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    # Some readers of URLs take a backslash for a slash, so that two may disagree on the host.
    if not good or re.search(r"[\s\x00-\x1f]", text) or "\\" in text.partition("?")[0]:
        raise ValueError("a URL such as https://api.example.com/items")
    return text


def _origin(text: str) -> str:
    url = urlsplit(_url(text))
    if url.path.strip("/") or url.query or url.fragment or "@" in url.netloc or "$" in text:
        raise ValueError("a scheme and a host, such as https://files.example.com")
    return f"{url.scheme}://{url.netloc.lower()}"


FORBIDDEN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that frame a request or belong to one connection (RFC 9110, section 7.6.1); only the client sets them."""


def _headers(value: Any) -> Any:
    """Header values as text; a number is sent as it is written."""
    if not isinstance(value, Mapping):
        return value
    return {name: _header(name, item) for name, item in value.items()}


_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def _header(name: Any, value: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch(_HEADER_NAME, name):
        raise ValueError(f"names of letters, digits and - such as X-Api-Key, not {name!r:.80}")
    if name.lower() in FORBIDDEN_HEADERS:
        raise ValueError(f"headers without {name}, which the HTTP client sets itself")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a finite number for {name}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError(f"a value of one line for {name}")
    return value


def _query_params(value: dict[str, Any]) -> Any:
    for name, item in value.items():
        for one in item if isinstance(item, list) else [item]:
            if not isinstance(one, str | int | float | bool):
                raise ValueError(f"text, a number, true or false, or a list of them for {name!r:.80}")
    return _json(value)


def _json(value: Any, depth: int = 0) -> Any:
    """A copy of a value that JSON can hold, so that a change of the original does not change the sync."""
    if depth > 64:
        raise ValueError("at most 64 levels of objects and lists")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("text as the keys of objects")
        return {key: _json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError("values that JSON can hold")


def _object_or_list(value: Any) -> Any:
    if not isinstance(value, dict | list):
        raise ValueError("an object or a list")
    return _json(value)


def _metadata(value: dict[str, Any]) -> Any:
    if any(not key or key.lower().startswith("_nango_") for key in value):
        raise ValueError("names that do not begin with _nango_")
    return _json(value)


def _table(text: str) -> str:
    if "." in text:
        raise ValueError("a table name without its schema; the schema is set by NANGO_DB_SCHEMA")
    return _column(text)


def _column(text: str) -> str:
    if not 1 <= len(text.encode(errors="replace")) <= 63 or not text.isprintable():
        raise ValueError("a name of 1 to 63 bytes")
    if text.lower().startswith("_nango_"):
        raise ValueError("a name that does not begin with _nango_, as our own tables and columns do")
    return text


def _size(value: Any) -> Any:
    """Bytes, from a number or from text such as `100 MB`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError("a number of bytes, or text such as 100 MB")
    unit = (match[2] or "b").lower()
    return int(float(match[1]) * (1024 if "i" in unit else 1000) ** "bkmg".index(unit[0]))


def _digits(value: Any) -> Any:
    """The first syncs' reference calls `max_total` a string, so digits are read as a number."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value) else value


def _sentence(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A parser whose ConfigError becomes the text of a validation error."""

    def parsed(value: Any) -> Any:
        try:
            return parse(value)
        except ConfigError as error:
            raise ValueError(error.problems[0].wanted) from None

    return parsed


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone such as Europe/Berlin") from None
    return name


class Part(BaseModel):
    """A field of a sync that has fields of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrackDeletes(Part):
    """How many vanished records one execution may mark as deleted."""

    max_fraction: float = Field(
        0.5, gt=0, le=1, description="The largest share of the records that may be deleted within 24 hours."
    )
    min_rows: int = Field(20, ge=0, description="With fewer records the share is not checked.")
    after: int | None = Field(
        None,
        ge=1,
        le=10,
        description="The number of complete executions in a row without a record after which it is deleted; by default "
        "2 with page numbers or offsets, where a deletion at the source moves records between pages, else 1.",
    )


class _OrBoolean:
    """Adds a boolean to the accepted types in the JSON Schema."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, *handler(schema)["anyOf"]]}


def _model_schema(value: Any) -> dict[str, Any]:
    try:
        return schema_of(value)
    except ConfigError as error:
        raise ValueError(f"a JSON Schema, or module:Class: {str(error).rstrip('.')}") from None


def _track_deletes(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, Mapping | TrackDeletes):
        raise ValueError("true, false, or an object with max_fraction, min_rows and after")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(_sentence(seconds)),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]


class RateLimit(Part):
    """How many requests a sync may send in how much time."""

    requests: int = Field(ge=1, description="The number of requests.")
    per: Seconds = Field(description='The time for these requests: seconds, or text such as "minute".')
    scope: Literal["integration", "connection"] = Field(
        "integration",
        description="The limit and `daily_quota` apply to all syncs and runs of the integration, or of one connection.",
    )


_PATH = Field(json_schema_extra={"format": "path"})
Path = Annotated[str, AfterValidator(_path), _PATH]
"""A path in an answer, which may be a JSONPath query."""
FieldPath = Annotated[str, AfterValidator(_field_path), _PATH]
"""A path in a record."""
_PATH_SCHEMA: dict[str, Any] = {"type": "string", "format": "path"}
UniqueKey = Annotated[
    str | list[str],
    PlainValidator(_unique_key),
    WithJsonSchema({"anyOf": [_PATH_SCHEMA, {"type": "array", "items": _PATH_SCHEMA, "minItems": 1}]}),
]


class Column(Part):
    """One column of a custom mapping."""

    path: FieldPath = Field(description="The path to the value inside the record.")
    type: Literal["boolean", "number", "string", "timestamp"] = Field(description="The column's type.")


class CustomMapping(Part):
    """The columns of a mapped table, chosen by hand."""

    columns: dict[Annotated[str, AfterValidator(_column)], Column] = Field(
        {}, description="Column names with the path and type of each; at least one without `models`."
    )
    extra: Literal["ignore", "evolve", "fail"] = Field(
        "ignore",
        description="All other fields of a record, those of its model excepted, are left out, become columns, or fail "
        "the execution.",
    )


Url = Annotated[str, AfterValidator(_url), Field(json_schema_extra={"format": "url"})]
Origin = Annotated[str, AfterValidator(_origin)]
Table = Annotated[str, AfterValidator(_table)]
Name = Annotated[str, Matches("[a-zA-Z0-9_-]{1,255}", "letters, digits, _ and - (at most 255)")]
Model = Annotated[
    str,
    Matches("[A-Z][a-zA-Z0-9_-]{1,254}", "a capital letter, then letters, digits, _ and - (2 to 255 in all)"),
]
Models = Annotated[
    dict[Model, Annotated[dict[str, Any], PlainValidator(_model_schema)]],
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["object", "string"]}}),
]
JsonSchema = Annotated[
    dict[str, Any],
    PlainValidator(_model_schema),
    WithJsonSchema({"type": ["object", "string"]}),
]
Integration = Annotated[str, Matches("[a-zA-Z0-9~:.@ _-]{1,255}", "letters, digits, blanks and ~:.@_-")]
Connection = Annotated[
    str,
    Matches(r"""[a-zA-Z0-9,.;:=+~\[\]|@${}"'\\/_ -]{1,255}""", "letters, digits, blanks and common signs"),
]
# Owners, tags and groups are checked here as Dagster does, so that an error names the file and the line.
_OWNER = r"team:[A-Za-z0-9_]+|[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}"
Owner = Annotated[str, Matches(_OWNER, "an email address or team:name")]
TagKey = Annotated[
    str, Matches(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}", "letters, digits, _ . and - (at most 63)")
]
TagValue = Annotated[str, Matches(r"[A-Za-z0-9_.-]{0,63}", "letters, digits, _ . and - (at most 63)")]
Group = Annotated[str, Matches(r"[A-Za-z0-9_]+", "letters, digits and _")]
Function = Annotated[
    str,
    Matches(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "module:function, such as my_transforms:clean"),
]
Script = Annotated[
    str,
    Matches(
        r"([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[\w./~ -]+\.py):[A-Za-z_]\w*|[\w./ -]+\.[cm]?[jt]s@[0-9a-f]{16}",
        "module:function or file.py:function, such as github_issues:github_issues",
    ),
]
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "SEARCH", "QUERY"]
Method = Annotated[
    Literal["GET", "POST", "PUT", "PATCH", "DELETE", "SEARCH", "QUERY"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) and value.upper() in _METHODS else value),
    WithJsonSchema({"enum": _METHODS + [method.lower() for method in _METHODS]}),
]
_TEXT_OR_NUMBER: dict[str, Any] = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
Headers = Annotated[dict[str, str], BeforeValidator(_headers), WithJsonSchema(_TEXT_OR_NUMBER)]
_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
QueryParams = Annotated[
    dict[str, Any],
    AfterValidator(_query_params),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
        }
    ),
]
Body = Annotated[Any, AfterValidator(_object_or_list), WithJsonSchema({"type": ["object", "array"]})]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Text = Annotated[str, Field(min_length=1)]
HeaderName = Annotated[str, Matches(_HEADER_NAME, "the name of a header, such as x-ms-continuation")]
Query = Annotated[str, Field(min_length=1)]
Cron = Annotated[str, AfterValidator(_sentence(check_cron))]
Timezone = Annotated[str, AfterValidator(_timezone)]
Frequency = Annotated[
    int | str,
    BeforeValidator(_sentence(normalised)),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0.5}, {"type": "string"}]}),
]
FailureLimit = Annotated[
    int | str,
    BeforeValidator(_sentence(failure_limit)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
_DIGITS = {"type": "string", "pattern": "^[0-9]+$", "deprecated": True}
Total = Annotated[
    int,
    BeforeValidator(_digits),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _DIGITS]}),
]
DeleteTracking = Annotated[TrackDeletes | None, BeforeValidator(_track_deletes), _OrBoolean()]
