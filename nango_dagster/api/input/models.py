"""Bodies and queries that hold what a route knows and nothing else: nothing that somebody wrote is ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from ...config.source import Place, dotted, quoted
from ...errors import ConfigError, Problem
from ..errors import KINDS, HttpError, code_of, problem_of
from .bodies import Body, raw_body


class Strict(BaseModel):
    """A body whose fields are all known, and of the type that is written."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


Wanted = TypeVar("Wanted", bound=Strict)

_ONCE = ("Connection-Id", "Provider-Config-Key")


def _digits(value: Any) -> Any:
    if isinstance(value, str) and "_" in value:
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


Digits = BeforeValidator(_digits)
"""On a whole number in a path or query: Python, and so pydantic, reads `1_0` as 10."""


def body_of(model: type[Wanted]) -> Callable[[dict[str, Any]], Wanted]:
    """What reads the body that a model describes. It raises ConfigError with all that is wrong, and shows no value."""

    def read(body: Body) -> Wanted:
        try:
            return model.model_validate(body)
        except ValidationError as error:
            raise ConfigError.of(*(_problem(details, model) for details in error.errors())) from None

    return read


def described(model: type[Strict]) -> dict[str, Any]:
    """How the reference shows a route with such a body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _problem(details: ErrorDetails, model: type[Strict]) -> Problem:
    if details["type"] == "extra_forbidden":
        return _no_field(details, model)
    return problem_of(details, dotted(_fields(details["loc"])), _found(details))


def _no_field(details: ErrorDetails, model: type[Strict]) -> Problem:
    *outer, last = details["loc"]
    name = dotted((*_fields(outer), last))
    wanted = "" if outer else f"; wanted {', '.join(model.model_fields)}"
    return Problem(f"{quoted(name)} is no field of this body{wanted}.", field=name, code=code_of(details))


def _found(details: ErrorDetails) -> str:
    """What stands there: its kind, and the value only where it should have been one of a few words."""
    value = details["input"]
    if details["type"] == "literal_error" and isinstance(value, str):
        return quoted(value)
    return KINDS.get(type(value), "a number")


def _fields(place: Iterable[int | str]) -> Place:
    """A place without the tags of a union, which are written in parentheses."""
    return tuple(step for step in place if not str(step).startswith("("))


def only(*names: str, also: str = "", often: str = "") -> Any:
    """A check that a query has no other parameters, and none twice: a filter is never ignored.

    Nor may the headers that name a connection be there twice: whose records they ask for would be a guess.

    Other names that begin with `also` are taken, too, and `often` may be given often.
    """

    async def check(request: Request) -> None:  # not async, each would wait for a thread
        given = [name for name, _ in request.query_params.multi_items()]
        for name in given:
            known = name in names or (also and name.startswith(also))
            if not known or (given.count(name) > 1 and name != often):
                wanted = f"each of {', '.join(names)} at most once" if names else "none"
                said = f"the query parameter {quoted(name)} is not expected here; wanted {wanted}."
                problem = Problem(said, field=name, code=None if known else "unrecognized_keys")
                raise HttpError(400, "invalid_query_params", problem.sentence, [problem])
        for name in _ONCE:
            if len(request.headers.getlist(name)) > 1:
                problem = Problem(f"the header {name} is there more than once; wanted one.", field=name)
                raise HttpError(400, "invalid_headers", problem.sentence, [problem])

    return Depends(check)


def no_body(body: Annotated[bytes, Depends(raw_body)]) -> None:
    """A check that there is no body."""
    if body.strip() not in (b"", b"{}"):
        raise HttpError(400, "invalid_body", "there is a body, and nothing would read it; send none.")
