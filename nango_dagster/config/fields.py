"""The types of sync fields, made of the rules for their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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

from nango_dagster.config import field_values as values
from nango_dagster.config.failure_limit import failure_limit
from nango_dagster.config.frequency import normalised, seconds
from nango_dagster.config.schedule import check_cron


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


def _track_deletes(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, Mapping | TrackDeletes):
        raise ValueError("true, false, or an object with max_fraction, min_rows and after")
    return value


Seconds = Annotated[
    float,
    BeforeValidator(values.with_sentence(seconds)),
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
Path = Annotated[str, AfterValidator(values.path), _PATH]
"""A path in an answer, which may be a JSONPath query."""
FieldPath = Annotated[str, AfterValidator(values.field_path), _PATH]
"""A path in a record."""
_PATH_SCHEMA: dict[str, Any] = {"type": "string", "format": "path"}
UniqueKey = Annotated[
    str | list[str],
    PlainValidator(values.unique_key),
    WithJsonSchema({"anyOf": [_PATH_SCHEMA, {"type": "array", "items": _PATH_SCHEMA, "minItems": 1}]}),
]


class Column(Part):
    """One column of a custom mapping."""

    path: FieldPath = Field(description="The path to the value inside the record.")
    type: Literal["boolean", "number", "string", "timestamp"] = Field(description="The column's type.")


class CustomMapping(Part):
    """The columns of a mapped table, chosen by hand."""

    columns: dict[Annotated[str, AfterValidator(values.column)], Column] = Field(
        {}, description="Column names with the path and type of each; at least one without `models`."
    )
    extra: Literal["ignore", "evolve", "fail"] = Field(
        "ignore",
        description="All other fields of a record, those of its model excepted, are left out, become columns, or fail "
        "the execution.",
    )


Url = Annotated[str, AfterValidator(values.url), Field(json_schema_extra={"format": "url"})]
Origin = Annotated[str, AfterValidator(values.origin)]
Table = Annotated[str, AfterValidator(values.table)]
Name = Annotated[str, Matches("[a-zA-Z0-9_-]{1,255}", "letters, digits, _ and - (at most 255)")]
Model = Annotated[
    str,
    Matches("[A-Z][a-zA-Z0-9_-]{1,254}", "a capital letter, then letters, digits, _ and - (2 to 255 in all)"),
]
Models = Annotated[
    dict[Model, Annotated[dict[str, Any], PlainValidator(values.model_schema)]],
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["object", "string"]}}),
]
JsonSchema = Annotated[
    dict[str, Any],
    PlainValidator(values.model_schema),
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
Headers = Annotated[dict[str, str], BeforeValidator(values.headers), WithJsonSchema(_TEXT_OR_NUMBER)]
_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
QueryParams = Annotated[
    dict[str, Any],
    AfterValidator(values.query_params),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
        }
    ),
]
Body = Annotated[Any, AfterValidator(values.object_or_list), WithJsonSchema({"type": ["object", "array"]})]
Metadata = Annotated[dict[str, Any], AfterValidator(values.metadata)]
Text = Annotated[str, Field(min_length=1)]
HeaderName = Annotated[str, Matches(values.HEADER_NAME, "the name of a header, such as x-ms-continuation")]
Query = Annotated[str, Field(min_length=1)]
Cron = Annotated[str, AfterValidator(values.with_sentence(check_cron))]
Timezone = Annotated[str, AfterValidator(values.timezone)]
Frequency = Annotated[
    int | str,
    BeforeValidator(values.with_sentence(normalised)),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0.5}, {"type": "string"}]}),
]
FailureLimit = Annotated[
    int | str,
    BeforeValidator(values.with_sentence(failure_limit)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(values.size),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]
_DIGITS = {"type": "string", "pattern": "^[0-9]+$", "deprecated": True}
Total = Annotated[
    int,
    BeforeValidator(values.digits),
    Field(ge=1),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, _DIGITS]}),
]
DeleteTracking = Annotated[TrackDeletes | None, BeforeValidator(_track_deletes), _OrBoolean()]
