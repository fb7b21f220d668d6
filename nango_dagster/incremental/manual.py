"""The checkpoint that a person sets for a sync that a config describes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..checkpoint import Checkpoint, check_flat
from ..config import Sync
from ..errors import ConfigError
from ..sentences import suggestion
from .definition import block_of
from .state import ANY, State, moment_of
from .values import cursor_of

_TIMES = ("started_at", "refreshed_at")


def manual_checkpoint(sync: Sync, given: Checkpoint) -> Checkpoint:
    """The checkpoint to store. Without the hash of a definition it belongs to the list that the config has then.

    Raises ConfigError where the sync has no checkpoint, or where it would ignore or refuse a field.

    >>> feed = Sync(url="https://api.example.com", resumable=True, unique_key="id")
    >>> manual_checkpoint(feed, {"page": 3})
    {'definition': 'any', 'page': 3}
    >>> manual_checkpoint(feed, {"pages": 3})
    Traceback (most recent call last):
    nango_dagster.errors.ConfigError: a checkpoint has no field "pages"; did you mean page?
    """
    check_flat(given)
    if sync.for_each is not None:
        raise ConfigError(f"{sync.display_name}: for_each keeps a position for each parent; only --clear changes it.")
    block = block_of(sync)
    if block is None and not sync.resumable:
        raise ConfigError(
            f"{sync.display_name} reads the whole list each time and has no checkpoint; that takes incremental or "
            "resumable: true in the config."
        )
    types = {field.name: type(field.default) for field in fields(State)}
    for name, value in given.items():
        if name not in types:
            raise ConfigError(f'a checkpoint has no field "{name}"; {suggestion(name, list(types))}')
        _check(name, value, types[name])
    form = None if block is None or block.from_ == "response" else block.format
    if form is not None and "cursor" in given and cursor_of(given["cursor"], form) is None:
        raise ConfigError(f"the checkpoint's cursor is {given['cursor']!r}; wanted a value for format: {form}.")
    return {"definition": ANY, **given}


def _check(name: str, value: Any, type_: type) -> None:
    """Raise ConfigError where a field has a value that no execution saves."""
    wanted = {bool: "true or false", int: "a whole number"}.get(type_, "a text or a number")
    is_right = type(value) is type_ if type_ in (bool, int) else not isinstance(value, bool)
    if name in _TIMES:
        wanted, is_right = "a time such as 2026-01-31T10:00:00+00:00", _is_moment(value)
    if not is_right:
        raise ConfigError(f"the checkpoint's field {name!r} is {value!r}; wanted {wanted}.")


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and moment_of(value).tzinfo is not None
    except ValueError:
        return False
