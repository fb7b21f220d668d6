"""Whether a record fits its model, by jsonschema-rs; the only home of that library.

The standard formats of JSON Schema are asserted, such as `date`, `email`, `uri`, `uuid` and `ipv4`; other formats fit
every text. `date-time` and `time` also fit what a timestamp column takes: RFC 3339 requires a zone, and many APIs send
none. A reference to a schema outside the model is refused: nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigError
from ..timestamps import parse_timestamp

if TYPE_CHECKING:
    import jsonschema_rs
    from jsonschema_rs import ValidationError

Schema = Mapping[str, Any]
_SOME_DAY: Final = "2000-01-01T"


@dataclass(frozen=True)
class Validator:
    """A compiled schema, which several threads may use."""

    exact: jsonschema_rs.Validator
    tolerant: jsonschema_rs.Validator
    """The schema with the times that timestamp columns take; slower, as it calls Python."""


def check_schema(schema: Schema) -> None:
    """Raise ConfigError where it is no JSON Schema that values can be validated with."""
    validator(schema)


def validator(schema: Schema) -> Validator:
    """The compiled schema; it is kept. Raises ConfigError for a bad schema."""
    try:
        return _validator(json.dumps(schema, sort_keys=True))
    except (TypeError, ValueError, RecursionError) as error:
        reason = _sentence(error) if hasattr(error, "instance_path") else str(error)
        raise ConfigError(f"the model is no JSON Schema: {reason.splitlines()[0]}.") from None


@lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    import jsonschema_rs

    # The mask keeps values, which may be personal data, out of the reasons, and makes equal reasons equal.
    exact = jsonschema_rs.validator_for(json.loads(schema), mask="the value", offline=True, validate_formats=True)
    if not any(f'"{name}"' in schema for name in _TIMES):
        return Validator(exact, exact)
    tolerant = jsonschema_rs.validator_for(
        json.loads(schema), mask="the value", offline=True, validate_formats=True, formats=_TIMES
    )
    return Validator(exact, tolerant)


def _is_date_time(text: str) -> bool:
    return parse_timestamp(text) is not None


def _is_time(text: str) -> bool:
    return parse_timestamp(f"{_SOME_DAY}{text}") is not None


_TIMES: Final = {"date-time": _is_date_time, "time": _is_time}


def misfit(schema: Validator, value: Any) -> str | None:
    """Why a value does not fit: the place and the first reason, without the value. None where it fits.

    >>> email = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    >>> contact = validator({"properties": {"id": {"type": "integer"}, "email": email}, "required": ["id"]})
    >>> misfit(contact, {"id": 7, "email": 5}), misfit(contact, {"email": None}), misfit(contact, {"id": 7})
    ('email is a number; wanted string or null', 'id is missing', None)
    """
    if schema.exact.is_valid(value):
        return None
    error = next(schema.tolerant.iter_errors(value), None)
    return None if error is None else _sentence(error)


def _sentence(error: Any) -> str:
    kind: Any = error.kind
    place = _path(error.instance_path)
    if kind.name in ("anyOf", "oneOf") and getattr(kind, "context", None):
        return _sentence_of_alternatives(error, [errors[0] for errors in kind.context if errors])
    if kind.name == "type":
        return _wrong_type(error, kind.types)
    if kind.name == "format":
        return f"{place or 'the record'} is a string; wanted one in the format {kind.format}"
    if kind.name == "required":
        return f"{_path([*error.instance_path, kind.property])} is missing"
    return f"{place}: {error.message}" if place else error.message


def _sentence_of_alternatives(error: ValidationError, firsts: list[ValidationError]) -> str:
    """The reason of the alternative that fits best; all types where none fits at all."""
    deeper = [first for first in firsts if first.kind.name != "type" or first.instance_path != error.instance_path]
    if deeper:
        return _sentence(max(deeper, key=lambda first: len(first.instance_path)))
    if not firsts:
        return f"{_path(error.instance_path) or 'the record'} fits several alternatives of its model; wanted one"
    kinds: list[Any] = [first.kind for first in firsts]
    return _wrong_type(error, [type_ for kind in kinds for type_ in kind.types])


def _wrong_type(error: ValidationError, types: list[str]) -> str:
    wanted = " or ".join(dict.fromkeys(types))
    return f"{_path(error.instance_path) or 'the record'} is {_type_of(error.instance)}; wanted {wanted}"


def _type_of(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", dict: "an object", list: "an array", type(None): "null"}
    return names.get(type(value), "a number")


def _path(steps: Sequence[str | int]) -> str:
    """A path without indexes, so that all items of a list have the same reasons."""
    text = ""
    for step in steps:
        text += "[]" if isinstance(step, int) else f".{step}" if text else step
    return text
