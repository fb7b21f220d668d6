"""Bodies and queries that hold what a route knows and nothing else: nothing that somebody wrote is ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from ..config.source import dotted, quoted
from ..errors import ConfigError, Problem
from .bodies import Body, raw_body
from .errors import HttpError


class Strict(BaseModel):
    """A body whose fields are all known, and of the type that is written."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


Wanted = TypeVar("Wanted", bound=Strict)

_ONCE = ("Connection-Id", "Provider-Config-Key")
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
_WANTED = {
    "list_type": "be a list",
    "dict_type": "be an object",
    "model_type": "be an object",
    "string_type": "be text",
    "bool_type": "be true or false",
    "int_type": "be a whole number",
}


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
    place = tuple(step for step in details["loc"] if not _is_branch(step))
    name = dotted(place)
    if details["type"] == "extra_forbidden":
        wanted = f"; wanted {', '.join(model.model_fields)}" if len(place) == 1 else ""
        return Problem(f"{quoted(name)} is no field of this body{wanted}.", field=name)
    if details["type"] == "missing":
        return Problem(f"{name} is missing.", field=name)
    wanted = _WANTED.get(details["type"]) or details["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    return Problem(f"{name} is {_found(details)}, but should {wanted}.", field=name)


def _found(details: ErrorDetails) -> str:
    """What stands there: its kind, and the value only where it should have been one of a few words."""
    value = details["input"]
    if details["type"] == "literal_error" and isinstance(value, str):
        return quoted(value)
    return _KINDS.get(type(value), "a number")


def _is_branch(step: int | str) -> bool:
    """Whether a step is how pydantic names a branch of a union, such as `str` or `list[str]`, rather than a field."""
    return isinstance(step, str) and (step in ("str", "dict") or "[" in step or step[:1].isupper())


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
                problem = Problem(
                    f"the query parameter {quoted(name)} is not expected here; wanted {wanted}.", field=name
                )
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
