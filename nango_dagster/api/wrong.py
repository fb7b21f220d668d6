"""What pydantic finds wrong in a request: in our words, and with the codes that Nango has from zod."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import Problem

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


def problem(details: Mapping[str, Any], name: str, found: str) -> Problem:
    """What is wrong with the value of this name, in which that was found."""
    if details["type"] == "missing":
        return Problem(f"{name} is missing.", field=name, code=code(details))
    return Problem(f"{name} is {found}, but should {_should(details)}.", field=name, code=code(details))


def code(details: Mapping[str, Any]) -> str | None:
    """What Nango calls it, where it has a word for it."""
    kind: str = details["type"]
    return "invalid_type" if kind in _SHOULD else _CODES.get(kind)


def _should(details: Mapping[str, Any]) -> str:
    """pydantic's words without what only it knows: its own names for types, and how it went about it.

    >>> _should({"type": "too_short", "msg": "List should have at least 1 item after validation, not 0"})
    'have at least 1 item'
    """
    said = re.sub(r"^(Value error, |(Input|String|List) should )| after validation.*", "", details["msg"])
    return _SHOULD.get(details["type"], said)
