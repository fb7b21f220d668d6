"""Rules for the meaning of an API's answers, and the requests of the pages after the first."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema, model_validator

from nango_dagster.config import fields as f
from nango_dagster.config.source import quoted

Action = Literal["list", "empty", "end", "skip", "retry", "refresh_credentials", "fail"]
ACTIONS: tuple[Action, ...] = ("list", "empty", "end", "skip", "retry", "refresh_credentials", "fail")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise ValueError("a regular expression, such as rate.?limit") from None
    return text


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _statuses(value: Any) -> list[int]:
    statuses = _list(value)
    if not statuses or not all(type(status) is int and 100 <= status <= 599 for status in statuses):
        raise ValueError("a status from 100 to 599, or a list of them")
    return list(statuses)


def _scalars(values: list[Any]) -> list[Any]:
    if not values or not all(isinstance(value, str | int | float | bool) for value in values):
        raise ValueError("text, a number, true or false, or a list of them")
    return values


_STATUS: dict[str, Any] = {"type": "integer", "minimum": 100, "maximum": 599}
Statuses = Annotated[
    list[int],
    PlainValidator(_statuses),
    WithJsonSchema({"anyOf": [_STATUS, {"type": "array", "items": _STATUS}]}),
]
_SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean"]}
Scalars = Annotated[
    list[Any],
    BeforeValidator(_list),
    AfterValidator(_scalars),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]}),
]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]


class ResponseRule(f.Part):
    """A rule of `responses`: an answer that fits all of its conditions means what `action` says."""

    status: Statuses | None = Field(None, description="The answer's status, or a list of them.")
    header: f.Text | None = Field(None, description="A header of the answer; the conditions below are about its value.")
    path: f.Path | None = Field(
        None, description="A path in the answer's body; the conditions below are about its value."
    )
    equals: Scalars | None = Field(
        None, description='The value is this one, or one of a list; `602` and `"602"` are equal.'
    )
    matches: Pattern | None = Field(None, description="The value contains a match of this regular expression.")
    exists: Literal[True] | None = Field(None, description="The value exists and is not null.")
    missing: Literal[True] | None = Field(None, description="The value does not exist or is null.")
    action: Action = Field(
        description="`list`: the answer is a page of the list. `empty`: a page without records. `end`: the list ended "
        "before this answer. `skip`: continue with the next page, and delete nothing. `retry`: send the request again. "
        "`refresh_credentials`: send it once more with new credentials. `fail`: the execution fails."
    )
    wait: f.Seconds | None = Field(None, description="The time before `retry`; by default it grows with each retry.")
    wait_header: f.Text | None = Field(
        None, description="The header with the time before `retry`: seconds, or a moment as a date or Unix time."
    )
    wait_path: f.Path | None = Field(None, description="The path in the body with the time before `retry`.")
    message_path: f.Path | None = Field(None, description="The path of the message in the body; the error quotes it.")

    @model_validator(mode="after")
    def _complete(self) -> ResponseRule:
        conditions = [self.equals, self.matches, self.exists, self.missing]
        if self.header is not None and self.path is not None:
            raise ValueError("a header or a path in one rule, not both")
        if self.header is None and self.path is None:
            if self.status is None:
                raise ValueError("a status, a header or a path that the rule looks at")
            if any(condition is not None for condition in conditions):
                raise ValueError("a header or a path that the condition looks at")
        elif sum(condition is not None for condition in conditions) != 1:
            raise ValueError("one condition for the header or path: equals, matches, exists or missing")
        waits = [self.wait, self.wait_header, self.wait_path]
        if sum(wait is not None for wait in waits) > (1 if self.action == "retry" else 0):
            raise ValueError("one of wait, wait_header and wait_path, and only with action: retry")
        return self

    def __str__(self) -> str:
        """The rule in a line, as an error and `dry-run` name it.

        >>> print(ResponseRule(path="error.code", equals=["602"], action="refresh_credentials"))
        path error.code equals "602": refresh_credentials
        """
        parts = [] if self.status is None else ["status " + " or ".join(map(str, self.status))]
        place = f"header {self.header}" if self.header else f"path {self.path}"
        if self.equals is not None:
            parts.append(f"{place} equals " + " or ".join(map(quoted, self.equals)))
        elif self.matches is not None:
            parts.append(f"{place} matches {quoted(self.matches)}")
        elif self.exists or self.missing:
            parts.append(f"{place} {'exists' if self.exists else 'is missing'}")
        return f"{', '.join(parts)}: {self.action}"


class NextRequest(f.Part):
    """Changes to the requests for the pages after the first; fields left out stay as they are."""

    url: f.Url | None = Field(None, repr=False, description="Another URL.")
    method: f.Method | None = Field(None, description="Another method.")
    headers: f.Headers | None = Field(None, repr=False, description="Other headers, in place of `headers`.")
    query_params: f.QueryParams | None = Field(
        None, repr=False, description="Other query parameters, in place of `query_params`; `{}` for none."
    )
    body: f.Body | None = Field(None, repr=False, description="Another body, in place of `body`; `{}` for none.")

    @model_validator(mode="after")
    def _differs(self) -> NextRequest:
        if not self.model_fields_set:
            raise ValueError("one of url, method, headers, query_params and body")
        return self
