"""The headers of a request: checked, and with those that every request has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from ..errors import ConfigError

_LINE_BREAK: Final = re.compile(r"[\r\n\0]")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy of the headers. Raises ConfigError for one that would break the request, without its value."""
    for name, value in headers.items():
        if _LINE_BREAK.search(name + value):
            raise ConfigError(f"the header {_LINE_BREAK.sub('', name)!r} holds a line break; headers are one line.")
        if any(ord(character) > 255 for character in name + value):
            raise ConfigError(f"the header {name!r} holds characters that no header can carry.")
    return dict(headers)


def with_defaults(headers: dict[str, str]) -> dict[str, str]:
    """The headers, with User-Agent, Accept and Accept-Encoding where they are missing."""
    names = {name.lower() for name in headers}
    for name, value in _defaults().items():
        if name.lower() not in names:
            headers[name] = value
    return headers


@lru_cache
def _defaults() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        release = version("nango-dagster")
    except PackageNotFoundError:  # run from a checkout that is not installed
        release = "0"
    return {
        "User-Agent": f"nango-dagster/{release}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
    }
