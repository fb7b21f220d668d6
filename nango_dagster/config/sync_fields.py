"""The fields of a sync's config, each with its default and a sentence for its reader."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from nango_dagster.config import fields as f
from nango_dagster.config.failure_limit import DEFAULT as DEFAULT_FAILURE_LIMIT
from nango_dagster.config.for_each import ForEach
from nango_dagster.config.incremental import Incremental
from nango_dagster.config.responses import NextRequest, ResponseRule

DEFAULT_FREQUENCY = 60  # minutes


with warnings.catch_warnings():
    # The field has the name of a method that pydantic has deprecated, and that nobody calls.
    warnings.filterwarnings("ignore", message='Field name "validate"')

    class _Validated(BaseModel):
        """The field `validate`."""

        validate: Literal["warn", "reject", "fail"] = Field(  # type: ignore[assignment]
            "warn",
            description="The effect of a record that does not fit its model: it is counted and stored (`warn`), or "
            "counted and listed by `nango-dagster rejected` (`reject`, which needs a `unique_key`), or the execution "
            "fails (`fail`).",
        )


class SyncFields(_Validated):
    """The fields of a sync as they are written; :class:`nango_dagster.config.Sync` adds what follows from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # The name of the sync
    name: f.Name = Field("sync", description="The name of the sync; by default that of the file.")
    friendly_name: str | None = Field(None, description="A name for people, shown in logs and lists.")
    description: str | None = Field(None, description="The purpose of the sync; shown in the Dagster UI.")
    owners: list[f.Owner] = Field([], description="The owners of the asset in Dagster: email addresses, or team:name.")
    tags: dict[f.TagKey, f.TagValue] = Field({}, description="Tags of the asset in Dagster.")
    group: f.Group | None = Field(None, description="The group of the asset in Dagster.")
    enabled: bool = Field(True, description="Whether the sync is loaded.")
    renamed_from: f.Name | None = Field(None, description="The former name of the sync; its rows are kept.")

    # The script that reads the records, instead of one request
    script: f.Script | None = Field(
        None,
        description="A Python function, module:function, that reads the records instead of the request at `url`; a "
        "module in the folder of the configs, or one that Python can import.",
    )
    base_url: f.Url | None = Field(
        None,
        repr=False,
        description="With `script`: the URL that the endpoints of its requests are added to; that of the integration "
        "by default.",
        examples=["https://api.example.com/v1"],
    )

    metadata_model: f.JsonSchema | None = Field(
        None,
        description="With `script`: the model of the connection's metadata, in a form of `models`. An execution fails "
        "before its first request if the metadata does not fit.",
    )
    checkpoint_model: f.JsonSchema | None = Field(
        None,
        description="With `script`: the model of the checkpoint, in a form of `models`. Saving a checkpoint that "
        "does not fit is an error. A stored checkpoint that does not fit any more is ignored.",
    )

    # The request to the external API; it may hold secrets, which no repr shows
    url: f.Url = Field(
        repr=False,
        description="The endpoint's URL; a query in it is kept. A path that begins with `/` is added to the `base_url` "
        "of the integration.",
        examples=["https://api.example.com/items"],
    )
    method: f.Method = Field("GET", description="The HTTP method, in capitals or not.")
    headers: f.Headers = Field({}, repr=False, description="Headers that are sent with every request.")
    query_params: f.QueryParams = Field(
        {}, repr=False, description="Query parameters that are sent with every request."
    )
    body: f.Body | None = Field(None, repr=False, description="A JSON body that is sent with every request.")

    next_request: NextRequest | None = Field(
        None, repr=False, description="The differences of the requests for the pages after the first."
    )

    for_each: ForEach | None = Field(
        None,
        description="Read a list for each record of another sync, with the record's values as `${parent.NAME}` in the "
        "request.",
    )

    # The records in the answer
    format: Literal["json", "jsonl", "csv", "tsv"] | None = Field(
        None,
        description="The format of the answers: JSON, one JSON value on each line, or CSV with a line of names. By "
        "default it is that of the Content-Type or of the name of a compressed file, else JSON.",
    )
    response_path: f.Path | None = Field(
        None, description="The path of the records in the answer; a list at the root or `results` by default."
    )
    records: Literal["list", "object", "values", "plain"] = Field(
        "list",
        description="The records at that path. `list`: each object of a list. `object`: the object is the only "
        "record; a list there holds several. `values`: each value of an object, or of a list that has null holes. "
        "`plain`: each value of a list of texts or numbers, as a record with the field `value`.",
    )
    record_key_field: f.Text | None = Field(
        None, description="With `records: values`: the field of each record that gets its key in the object."
    )
    missing_is_empty: bool = Field(False, description="The key of the list is missing or null if the list is empty.")
    responses: list[ResponseRule] = Field(
        [], description="Rules for the meaning of an answer, by its status, a header or its body; the first that fits."
    )
    unique_key: f.UniqueKey | None = Field(
        None,
        description="The field, or the fields together, that identify a record; without it each execution replaces all "
        "rows.",
    )
    model: f.Model = Field(
        "", description="The records' model; the first one of `models`, or the name in PascalCase by default."
    )
    models: f.Models = Field(
        {},
        description="The models of the sync by their names: a JSON Schema, or `module:Class` for a pydantic model, a "
        "dataclass, a msgspec Struct or a TypedDict. Records are compared with them.",
    )
    deleted_path: f.FieldPath | None = Field(
        None,
        description="The field of a record that marks it as deleted, such as `is_deleted` or `@removed`: the record is "
        "deleted, and not stored.",
    )
    ignore_fields: list[f.FieldPath] = Field([], description="Volatile fields whose changes do not count as changes.")

    # The next page
    paging_cursor_request_path: f.Query | None = Field(
        None,
        description="The place of the cursor in the request: a query parameter, or a path in the body if there is one.",
    )
    paging_cursor_request_header: f.HeaderName | None = Field(
        None, description="The request's header for the cursor, such as `Range` or `x-ms-continuation`."
    )
    paging_cursor_metadata_response_path: f.Path | None = Field(
        None, description="The path of the next page's cursor in the answer."
    )
    paging_cursor_object_response_path: f.Path | None = Field(
        None, description="The path of the next page's cursor in the last record of the answer."
    )
    paging_url_path: f.Path | None = Field(None, description="The path of the next page's URL in the answer.")
    paging_response_path: f.Path | None = Field(
        None, description="The path of the next page's URL or cursor in the answer (an older field)."
    )
    paging_header_link_rel: f.Text | None = Field(
        None, description="The relation of the next page in the Link header, usually `next`."
    )
    paging_header_cursor: f.Text | None = Field(None, description="The answer's header with the next page's cursor.")
    paging_header_url: f.Text | None = Field(None, description="The answer's header with the next page's URL.")
    paging_page_request_path: f.Query | None = Field(None, description="The place of the page number in the request.")
    paging_page_start: int | None = Field(None, ge=0, description="The number of the first page; 1 by default.")
    paging_offset_request_path: f.Query | None = Field(
        None, description="The place of the offset in the request: the number of records of all pages before."
    )
    paging_offset_start: int | None = Field(None, ge=0, description="The first page's offset; 0 by default.")
    paging_limit_request_path: f.Query | None = Field(None, description="The place of the page size in the request.")
    paging_limit: int | None = Field(None, ge=1, description="The number of records in a page.")
    paging_has_more_response_path: f.Path | None = Field(
        None, description="The path of a flag for more pages in the answer; false ends the list."
    )
    paging_end_response_path: f.Path | None = Field(
        None, description="The path of a flag for the last page in the answer; true ends the list."
    )
    paging_total_response_path: f.Path | None = Field(
        None, description="The path of the number of records of the whole list; the list ends with as many records."
    )
    paging_header_total: f.Text | None = Field(
        None, description="The answer's header with the number of records in the whole list."
    )
    paging_total_pages_response_path: f.Path | None = Field(
        None, description="The path of the number of pages of the list; the list ends with as many pages."
    )
    paging_header_total_pages: f.Text | None = Field(
        None, description="The answer's header with the number of pages in the list."
    )
    paging_cursor_repeats: bool = Field(
        False,
        description="One cursor is valid for all pages, as with a scroll, and the API advances it; an empty page ends "
        "the list.",
    )
    paging_inclusive: bool = Field(
        False,
        description="A page begins with the record of its cursor, the last one of the page before; the list ends when "
        "the cursor stays the same.",
    )
    max_total: f.Total | None = Field(
        None,
        description="Stop after this many records, to try a sync out. With `unique_key` such an execution deletes "
        "nothing. Without, these records are all the rows.",
    )
    max_pages: int | None = Field(
        None,
        ge=1,
        description="Stop after this many pages. Such an execution deletes nothing. Without `unique_key` it "
        "fails, and the rows stay as they are.",
    )

    # How the API is treated
    timeout: f.Seconds = Field(30.0, description="The longest time to wait for an answer, in seconds.")
    retries: int = Field(3, ge=0, le=100, description="The number of retries of a failed request.")
    rate_limit: f.RateLimit | None = Field(None, description="The largest number of requests in a time.")
    daily_quota: int | None = Field(
        None,
        ge=1,
        description="The largest number of requests in a day, which begins at midnight UTC; the others wait.",
    )
    max_page_bytes: f.Bytes = Field(
        100_000_000, description='The largest size of an answer after decompression, such as "100 MB".'
    )
    max_page_records: int = Field(100_000, ge=1, description="The largest number of records in one answer.")
    max_duration: f.Seconds | None = Field(
        None, description='The longest time one execution may take: seconds, or text such as "2 hours".'
    )
    allowed_origins: list[f.Origin] = Field(
        [], description="Other hosts that next pages may be at, and that receive the credentials."
    )
    concurrency: int = Field(8, ge=1, le=256, description="The number of connections that a run reads in parallel.")
    connections_per_run: int = Field(2000, ge=1, description="The largest number of connections of a run.")
    max_runs: int = Field(1, ge=1, description="The largest number of runs of the sync at the same time.")
    fail_run_when: f.FailureLimit = Field(
        DEFAULT_FAILURE_LIMIT,
        description="The number of failed connections at which a run fails: any, a number, a share such as 5%, or "
        "never. Below it the check warns, and only the failed partitions are red.",
    )

    # When it runs
    frequency: f.Frequency | None = Field(
        None,
        description='The interval between executions: minutes, or text such as "every 30 seconds"; hourly by default.',
    )
    cron: f.Cron | None = Field(None, description="The schedule as a cron expression of five fields.")
    timezone: f.Timezone | None = Field(None, description="The time zone of `cron`; UTC by default.")
    sync_type: Literal["full", "incremental"] = Field(
        "full", description="The content of an execution: the whole list (`full`), or the changes (`incremental`)."
    )
    incremental: Incremental | None = Field(
        None, description="With `sync_type: incremental`: the cursor, its origin and its place in the request."
    )
    resumable: bool = Field(
        False,
        description="Whether the position in the whole list is stored, so that the next execution continues an "
        "interrupted one.",
    )
    auto_start: bool = Field(True, description="Whether a new sync or connection starts without a command.")
    events: Literal["changed", "all"] = Field(
        "changed", description="The executions that become events in Dagster: those that changed rows, or all."
    )

    # The table
    auto_mapping: bool = Field(True, description="Whether records become rows of a table with a column for each field.")
    mapped_table: f.Table | None = Field(None, description="The table; _nango_sync_[syncId] by default.")
    mapping: f.CustomMapping | None = Field(None, description="Columns that are chosen by hand.")
    transform: f.Function | None = Field(
        None, description="A Python function, module:function, that changes each record before it is mapped."
    )
    metadata: f.Metadata = Field({}, description="Values that are columns of every row.")
    track_deletes: f.DeleteTracking = Field(
        None,
        description="Whether records that are no longer in the list are marked as deleted (with `unique_key`).",
    )

    # Which accounts it reads
    integration: f.Integration | None = Field(None, description="The integration whose connections are synced.")
    pizzly_provider_config_key: f.Integration | None = Field(None, description="The integration in Pizzly.")
    pizzly_connection_id: f.Connection | None = Field(None, description="The connection in Pizzly.")

    @model_validator(mode="before")
    @classmethod
    def _script_needs_no_url(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and fields.get("script") is not None:
            return {"url": "", **fields}
        return fields

    @field_validator("url", mode="wrap")
    @classmethod
    def _url_or_script(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """The URL; empty text beside a script."""
        return value if value == "" and info.data.get("script") is not None else validate(value)
