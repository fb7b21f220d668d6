"""The query and headers of `GET /records`, read in one step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ... import records
from ...config.source import quoted
from ...errors import ConfigError, Problem
from ...partition_keys import BASE
from ...store.changes import ACTIONS, Action, Cursor, in_utc
from ...store.listing import Names, RecordSelection
from ..errors import KINDS, HttpError, problem_of
from .models import CONNECTION_HEADERS, Digits, check_query, connection_headers
from .selection import header_text

MOST_RECORDS = 500
MOST_IDS = 100
MOST_CURSOR = 2000  # characters; an id has up to 1,024 bytes
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?(?:[.,](\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)

ModelName = Annotated[str, Field(pattern=r"^[A-Z][a-zA-Z0-9_-]*$", max_length=255, examples=["GithubIssue"])]
VariantName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$", max_length=255)]


class RecordsQuery(BaseModel):
    """All parameters of `GET /records`.

    The framework's own reading of ten parameters takes longer than the database needs for a page, so the model reads
    them at once, and the reference shows the same model (`parameters`).
    """

    model_config = ConfigDict(frozen=True)

    connection_id: Annotated[str, AfterValidator(header_text)] = Field(
        alias="Connection-Id", min_length=1, max_length=255, description="`default` for a sync of one account."
    )
    provider_config_key: Annotated[str, AfterValidator(header_text)] = Field(
        alias="Provider-Config-Key",
        min_length=1,
        max_length=255,
        description="The integration; `default` for a sync without one.",
    )
    model: ModelName
    variant: VariantName = BASE
    modified_after: str | None = Field(None, description="An ISO 8601 time; that very time is included.")
    # Not `deprecated=True`, with which pydantic warns whenever the field is read.
    delta: str | None = Field(
        None, json_schema_extra={"deprecated": True}, description="The older name of `modified_after`."
    )
    filter: str | None = Field(
        None, description="`added`, `updated` and `deleted`, separated by commas: those with any of them."
    )
    cursor: str | None = Field(None, min_length=1, max_length=MOST_CURSOR)
    limit: Annotated[int, Digits] = Field(100, ge=1, le=MOST_RECORDS)
    ids: list[str] | None = Field(None, max_length=MOST_IDS)

    @classmethod
    def read(cls, request: Request) -> RecordsQuery:
        """Read a request. Raises HttpError with everything that is wrong in it."""
        items = request.query_params.multi_items()
        check_query(request, _PARAMETERS, repeatable="ids")
        values: dict[str, Any] = dict(items)
        if "ids" in values:
            values["ids"] = [value for name, value in items if name == "ids"]
        values.update(connection_headers(request))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _invalid(error) from None

    @property
    def dataset(self) -> Names:
        """The names of the dataset."""
        return Names(self.provider_config_key, self.connection_id, self.variant, self.model)

    def selection(self) -> RecordSelection:
        """The requested records of the dataset. Raises HttpError for a value that cannot be read."""
        modified_after = self.modified_after if self.delta is None else self.delta
        try:
            return RecordSelection(
                after=None if self.cursor is None else Cursor.read(self.cursor),
                modified_after=None if modified_after is None else _moment(modified_after),
                actions=ACTIONS if self.filter is None else _actions(self.filter),
                ids=None if self.ids is None else [_id(text) for text in self.ids],
            )
        except ConfigError as error:
            raise HttpError(400, "invalid_query_params", str(error), error.problems) from None


_PARAMETERS = tuple(field for field in RecordsQuery.model_fields if RecordsQuery.model_fields[field].alias is None)


def parameters() -> list[dict[str, Any]]:
    """The parameters as the reference shows them."""
    schema = RecordsQuery.model_json_schema()
    return [
        {
            "name": name,
            "in": "header" if name in CONNECTION_HEADERS else "query",
            "required": name in schema["required"],
            **{key: field.pop(key) for key in ("description", "deprecated") if key in field},
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _invalid(error: ValidationError) -> HttpError:
    details = error.errors(include_url=False)
    problems = [_problem(detail) for detail in details]
    code = "invalid_headers" if details[0]["loc"][0] in CONNECTION_HEADERS else "invalid_query_params"
    return HttpError(400, code, " ".join(problem.sentence for problem in problems), problems)


def _problem(details: Mapping[str, Any]) -> Problem:
    value = details["input"]
    found = quoted(value) if isinstance(value, str) else KINDS.get(type(value), "no value")
    return problem_of(details, str(details["loc"][0]), found)


def _moment(text: str) -> datetime:
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        day, minutes, seconds, fraction, zone = match.groups(default="")
        moment = f"{day}T{minutes or '00:00'}{seconds or ':00'}.{fraction:0<6.6}"
        offset = zone.upper().replace("Z", "+00:00") or "+00:00"
        return in_utc(datetime.fromisoformat(moment + offset))
    except ValueError:
        sentence = f"modified_after is {quoted(text)}; wanted a time such as 2024-01-15T10:31:00.000Z."
        raise ConfigError.of(Problem(sentence, field="modified_after")) from None


def _actions(text: str) -> Sequence[Action]:
    names = [name.lower() if name.isupper() else name for name in text.split(",")]
    for name in names:
        if name not in ACTIONS:
            sentence = f"filter holds {quoted(name)}; wanted {', '.join(ACTIONS)}, separated by commas."
            raise ConfigError.of(Problem(sentence, field="filter"))
    return [action for action in ACTIONS if action in names]


def _id(text: str) -> str:
    if text and len(text.encode()) <= records.MAX_KEY_BYTES and "\0" not in text:
        return text
    sentence = f"ids holds {quoted(text)}; wanted an id of 1 to {records.MAX_KEY_BYTES:,} bytes."
    raise ConfigError.of(Problem(sentence, field="ids"))
