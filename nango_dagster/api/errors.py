"""Errors as answers: one table from classes to statuses, one envelope, and the findings of pydantic in our words."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..config.source import quoted
from ..errors import ConfigError, NangoError, Problem, Refused, StoreUnavailable, StoreUnreachable

log = logging.getLogger(__name__)

# In words that anybody may read: where the database is, and what it says, stand in the log.
UNREACHABLE = "the database cannot be used now; the server's log says why."
# The first line whose class fits.
TABLE: tuple[tuple[type[NangoError], int, str], ...] = (
    (ConfigError, 400, "invalid_body"),
    (Refused, 409, "conflict"),
    (StoreUnavailable, 503, "store_unavailable"),
)
_INVALID = {"path": "invalid_uri_params", "header": "invalid_headers"}
_METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
_HTTP = {404: "not_found", 405: "method_not_allowed"}
KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
_SHOULD = {
    "list_type": "be a list",
    "dict_type": "be an object",
    "model_type": "be an object",
    "string_type": "be text",
    "bool_type": "be true or false",
    "bool_parsing": "be true or false",
    "int_type": "be a whole number",
    "int_parsing": "be a whole number",
    "int_parsing_size": "be a whole number that is smaller",
    "int_from_float": "be a whole number",
}
_CODES = {
    "missing": "invalid_type",
    "ids_type": "invalid_type",
    "extra_forbidden": "unrecognized_keys",
    "literal_error": "invalid_value",
    "string_pattern_mismatch": "invalid_format",
    "string_too_short": "too_small",
    "too_short": "too_small",
    "greater_than_equal": "too_small",
    "string_too_long": "too_big",
    "too_long": "too_big",
    "less_than_equal": "too_big",
}


class HttpError(NangoError):
    """A request that is answered with an error of its own."""

    status: int
    code: str

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        problems: Sequence[Problem] = (),
        headers: dict[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """`fields` are further fields of `Failure`: `payload`, `method`, `path`."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.problems = tuple(problems)
        self.headers = headers or {}
        self.fields = fields or {}


class Detail(BaseModel):
    """One problem of a request."""

    code: str
    message: str
    path: list[str]


class Failure(BaseModel):
    """An error: a code for programs, a sentence for people, and each problem of a body or query."""

    code: str
    message: str
    errors: list[Detail] | None = None
    payload: dict[str, str] | None = None
    method: str | None = Field(None, description="With `path`: the request that exceeded the limit.")
    path: str | None = None


class Envelope(BaseModel):
    """The body of every error."""

    error: Failure


def answer(error: NangoError) -> JSONResponse:
    """The response for this error."""
    known = error if isinstance(error, HttpError) else _known(error)
    details = [_detail(problem) for problem in known.problems]
    failure = Failure(code=known.code, message=str(known), errors=details or None, **known.fields)
    content = Envelope(error=failure).model_dump(exclude_none=True)
    return JSONResponse(content, known.status, known.headers)


def server_error() -> JSONResponse:
    """The response for a programming error."""
    return answer(HttpError(500, "server_error", "an internal error occurred; the log of the server has the details."))


def handle(app: FastAPI) -> None:
    """Make the app answer every error with `Envelope`."""
    app.add_exception_handler(NangoError, _on_ours)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_parameters)


def _known(error: NangoError) -> HttpError:
    if isinstance(error, StoreUnreachable):
        log.warning("%s", error)
        error = StoreUnavailable(UNREACHABLE)
    for kind, status, code in TABLE:
        if isinstance(error, kind):
            problems = error.problems if isinstance(error, ConfigError) else ()
            return HttpError(status, code, " ".join(str(error).splitlines()), problems)
    raise error  # the guard logs it, and answers with server_error


def _detail(problem: Problem) -> Detail:
    path = re.sub(r"\[(\d+)\]", r".\1", problem.field).split(".") if problem.field else []
    return Detail(code=problem.code or "invalid_field", message=str(problem), path=path)


async def _on_ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NangoError)
    return answer(error)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    """Errors of the router: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    code = _HTTP.get(error.status_code, "invalid_request")
    message = f"there is no {request.method} {quoted(request.url.path)[1:-1]}; /docs lists the endpoints."
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else {}
    return answer(HttpError(error.status_code, code, message, headers=headers))


def _methods(request: Request) -> list[str]:
    """The methods of a path. Each is a route of its own, and the router names only one of them."""
    return [method for method in _METHODS if _is_routed(request, method)]


def _is_routed(request: Request, method: str) -> bool:
    scope = {**request.scope, "method": method}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


async def _on_parameters(request: Request, error: Exception) -> JSONResponse:
    """Errors of FastAPI about the parameters in a path, a query or a header."""
    assert isinstance(error, RequestValidationError)
    problems = [_parameter(details) for details in error.errors()]
    where = error.errors()[0]["loc"][0]
    code = _INVALID.get(where, "invalid_query_params")
    return answer(HttpError(400, code, " ".join(problem.sentence for problem in problems), problems))


def _parameter(details: Mapping[str, Any]) -> Problem:
    value = details["input"]
    found = quoted(value) if isinstance(value, str) else KINDS.get(type(value), "no value")
    return problem_of(details, str(details["loc"][-1]), found)


# --- errors of pydantic, with the codes that Nango has from zod ---------------------------------------------------


def problem_of(details: Mapping[str, Any], name: str, found: str) -> Problem:
    """The problem of the field `name`, whose value is `found`."""
    if details["type"] == "missing":
        return Problem(f"{name} is missing.", field=name, code=code_of(details))
    return Problem(f"{name} is {found}, but should {_should(details)}.", field=name, code=code_of(details))


def code_of(details: Mapping[str, Any]) -> str | None:
    """Nango's code for this error of pydantic; None where it has none."""
    kind: str = details["type"]
    return "invalid_type" if kind in _SHOULD else _CODES.get(kind)


def _should(details: Mapping[str, Any]) -> str:
    """The condition in pydantic's message, without its names of types and its own steps.

    >>> _should({"type": "too_short", "msg": "List should have at least 1 item after validation, not 0"})
    'have at least 1 item'
    """
    condition = re.sub(r"^(Value error, |(Input|String|List) should )| after validation.*", "", details["msg"])
    return _SHOULD.get(details["type"], condition)
