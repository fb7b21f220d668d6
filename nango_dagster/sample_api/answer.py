"""An answer of the sample API, and the numbers in a request to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response: JSON body, status and headers."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def number_in(params: Mapping[str, str], name: str, default: int) -> int:
    """The whole number of a parameter; the default if the parameter is missing or not a number."""
    return int(value) if (value := params.get(name, "")).isascii() and value.isdigit() else default
