"""A checkpoint: a flat JSON object that says how far a source has read, within Nango's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from .errors import ConfigError

Checkpoint = Mapping[str, str | int | float | bool]

MAX_FIELDS: Final = 16
MAX_NAME: Final = 255
MAX_TEXT: Final = 4000
"""Nango's limits of a checkpoint: fields, and characters of a name and of a text."""


def check_flat(checkpoint: Checkpoint) -> None:
    """Raise ConfigError where a checkpoint is not a flat object within Nango's limits.

    >>> check_flat({"updated_after": "2026-01-01T00:00:00Z", "page": 3})
    >>> check_flat({"page": [3]})
    Traceback (most recent call last):
    nango_dagster.errors.ConfigError: the checkpoint's field 'page' is [3]; wanted a text, a finite number or a boolean.
    """
    if len(checkpoint) > MAX_FIELDS:
        raise ConfigError(f"the checkpoint has {len(checkpoint)} fields; wanted at most {MAX_FIELDS}.")
    for name, value in checkpoint.items():
        if reason := _defect(name, value):
            raise ConfigError(f"the checkpoint's field {name[:50]!r} {reason}.")


def _defect(name: str, value: object) -> str | None:
    if len(name) > MAX_NAME:
        return f"has a name of {len(name):,} characters; wanted at most {MAX_NAME}"
    if isinstance(value, str):
        return f"has {len(value):,} characters; wanted at most {MAX_TEXT:,}" if len(value) > MAX_TEXT else None
    if not isinstance(value, int | float) or not math.isfinite(value):
        return f"is {value!r:.50}; wanted a text, a finite number or a boolean"
    return None
