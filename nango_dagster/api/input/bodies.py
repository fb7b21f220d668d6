"""The body of a request: one JSON object of a size and depth that can be stored."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, Request

from ...config.source import Place, dotted, quoted
from ...errors import ConfigError, Problem
from ..errors import HttpError

MOST_BYTES = 1_000_000
MOST_SECONDS = 30.0
MOST_LEVELS = 100


async def raw_body(request: Request) -> bytes:
    """The bytes of a body that calls itself JSON."""
    kind = request.headers.get("content-type")
    if kind and not kind.lower().startswith("application/json"):
        sentence = f"Content-Type is {quoted(kind)}; wanted application/json."
        raise HttpError(415, "invalid_content_type", sentence)
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:18]) > MOST_BYTES:
        raise _too_large()
    try:
        return await asyncio.wait_for(_read(request), MOST_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):  # two classes on Python 3.10
        sentence = f"the body has not arrived within {MOST_SECONDS:g} seconds."
        raise HttpError(408, "request_timeout", sentence, headers={"Connection": "close"}) from None


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise _too_large()
    return bytes(body)


def json_object(body: Annotated[bytes, Depends(raw_body)]) -> dict[str, Any]:
    """The JSON object that the bytes are."""
    value = _decoded(body)
    if not isinstance(value, dict):
        raise ConfigError.of(Problem("the body is no JSON object; wanted an object with the fields that /docs names."))
    _check(value)
    return value


Body = Annotated[dict[str, Any], Depends(json_object)]


def _decoded(body: bytes) -> Any:
    if not body.strip():
        raise HttpError(400, "invalid_json", "the body is empty; wanted a JSON object.")
    try:
        return json.loads(body, object_pairs_hook=_distinct, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} in line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = f"it is nested deeper than {MOST_LEVELS} levels"
    except ValueError as error:
        reason = str(error).partition(";")[0]
    raise HttpError(400, "invalid_json", f"the body is no JSON that can be used: {reason}.")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One of two values would be lost without a word."""
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{quoted(twice)} stands twice in one object")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _check(value: dict[str, Any]) -> None:
    """Refuse what no database stores and what nobody writes by hand."""
    for place, plain in _plain_values(value):
        said = _unstorable(plain)
        if said is not None:
            name = dotted(place)
            raise ConfigError.of(Problem(f"{name} {said}", field=name))


def _unstorable(value: Any) -> str | None:
    if isinstance(value, float) and math.isinf(value):  # what 1e999 becomes
        return "is a number too large to be stored."
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= char <= "\udfff" for char in value)):
        return "holds a character that cannot be stored: NUL, or half of a surrogate pair."
    return None


def _plain_values(value: Any) -> Iterator[tuple[Place, Any]]:
    """Everything in a JSON value that is no object and no list, keys included, and where it stands."""
    waiting: list[tuple[Place, Any]] = [((), value)]
    while waiting:
        place, node = waiting.pop()
        if len(place) > MOST_LEVELS:
            name = str(place[0])
            raise ConfigError.of(Problem(f"{quoted(name)} is nested deeper than {MOST_LEVELS} levels.", field=name))
        if isinstance(node, dict):
            yield from (((*place, key), key) for key in node)
            waiting.extend(((*place, key), item) for key, item in node.items())
        elif isinstance(node, list):
            waiting.extend(((*place, at), item) for at, item in enumerate(node))
        else:
            yield place, node


def _too_large() -> HttpError:
    return HttpError(
        413, "request_too_large", f"the body is larger than {MOST_BYTES:,} bytes; nothing here needs so much."
    )
