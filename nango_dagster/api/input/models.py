"""Bodies and queries without unknown fields: nothing that somebody wrote is ignored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from ...config.source import Place, dotted, quoted
from ...errors import ConfigError, Problem
from ..errors import KINDS, HttpError, code_of, problem_of
from .bodies import Body, raw_body


class Strict(BaseModel):
    """A body without unknown fields, each of the declared type."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


BodyModel = TypeVar("BodyModel", bound=Strict)

CONNECTION_HEADERS = ("Connection-Id", "Provider-Config-Key")
_CONNECTION_HEADERS = {name.lower().encode(): name for name in CONNECTION_HEADERS}


def _digits(value: Any) -> Any:
    if isinstance(value, str) and "_" in value:
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


Digits = BeforeValidator(_digits)
"""For a whole number in a path or query: Python, and so pydantic, reads `1_0` as 10."""


def body_of(model: type[BodyModel]) -> Callable[[dict[str, Any]], BodyModel]:
    """A dependency that reads a body of this model. It raises ConfigError with all problems, and shows no value."""

    def read(body: Body) -> BodyModel:
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise ConfigError.of(*(_problem(details, model) for details in error.errors())) from None

    return read


def described(model: type[Strict]) -> dict[str, Any]:
    """The body of a route in the reference."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _problem(details: ErrorDetails, model: type[Strict]) -> Problem:
    if details["type"] == "extra_forbidden":
        return _no_field(details, model)
    return problem_of(details, dotted(_fields(details["loc"])), _found(details))


def _no_field(details: ErrorDetails, model: type[Strict]) -> Problem:
    *outer, last = details["loc"]
    name = dotted((*_fields(outer), last))
    expected = "" if outer else f"; wanted {', '.join(model.model_fields)}"
    return Problem(f"{quoted(name)} is no field of this body{expected}.", field=name, code=code_of(details))


def _found(details: ErrorDetails) -> str:
    """The kind of the value, and the value itself only where one of a few words is expected."""
    value = details["input"]
    if details["type"] == "literal_error" and isinstance(value, str):
        return quoted(value)
    return KINDS.get(type(value), "a number")


def _fields(place: Iterable[int | str]) -> Place:
    """The place without the tags of a union, which are in parentheses."""
    return tuple(step for step in place if not str(step).startswith("("))


def only(*names: str, prefix: str = "", repeatable: str = "") -> Any:
    """A dependency that refuses other query parameters, as `check_query` does."""

    async def check(request: Request) -> None:  # not async, each would wait for a thread
        check_query(request, names, prefix=prefix, repeatable=repeatable)

    return Depends(check)


def check_query(request: Request, names: Collection[str], *, prefix: str = "", repeatable: str = "") -> None:
    """Raise HttpError for a query parameter that the route does not know, and for one that is there twice.

    A filter is never ignored. Nor may the headers that name a connection be there twice: whose records are meant would
    be a guess. Parameters that begin with `prefix` are accepted, too; `repeatable` may be there several times.
    """
    items = request.query_params.multi_items()
    given = dict(items)
    if len(given) < len(items) or not given.keys() <= frozenset(names):
        _check_each([name for name, _ in items], names, prefix, repeatable)
    connection_headers(request)


def _check_each(given: list[str], names: Collection[str], prefix: str, repeatable: str) -> None:
    for name in given:
        is_known = name in names or (prefix and name.startswith(prefix))
        if not is_known or (given.count(name) > 1 and name != repeatable):
            expected = f"each of {', '.join(names)} at most once" if names else "none"
            sentence = f"the query parameter {quoted(name)} is not expected here; wanted {expected}."
            problem = Problem(sentence, field=name, code=None if is_known else "unrecognized_keys")
            raise HttpError(400, "invalid_query_params", problem.sentence, [problem])


def connection_headers(request: Request) -> dict[str, str]:
    """Return the headers that name a connection. Raises HttpError for one that is there twice."""
    values: dict[str, str] = {}
    for raw_name, value in request.scope["headers"]:
        name = _CONNECTION_HEADERS.get(raw_name)
        if name in values:
            problem = Problem(f"the header {name} is there more than once; wanted one.", field=name)
            raise HttpError(400, "invalid_headers", problem.sentence, [problem])
        if name is not None:
            values[name] = value.decode("latin-1")
    return values


def no_body(body: Annotated[bytes, Depends(raw_body)]) -> None:
    """A dependency that refuses a body."""
    if body.strip() not in (b"", b"{}"):
        raise HttpError(400, "invalid_body", "there is a body, and nothing would read it; send none.")
