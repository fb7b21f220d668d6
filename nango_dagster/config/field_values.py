"""The rules of the values of sync fields: what is accepted, and how it is converted.

Each raises ValueError with the accepted values, such as "a URL such as https://api.example.com/items".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nango_dagster import paths
from nango_dagster.errors import ConfigError
from nango_dagster.models import schema_of

# `${env.NAME}`; `$${` is an escaped `${`.
PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}")


def path(text: str) -> str:
    try:
        paths.compiled(text) if paths.is_query(text) else paths.parse(text)
    except ConfigError as error:
        raise ValueError(error.problems[0].wanted) from None
    return text


def field_path(text: str) -> str:
    if paths.is_query(text):
        raise ValueError("keys joined by dots, such as owner.id; a query is only used on a whole answer")
    return path(text)


def unique_key(value: Any) -> str | list[str]:
    """One path, or several; a list of one is that one."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(path, str) for path in several) or len(set(several)) < len(several):
        raise ValueError("a path, or a list of different paths")
    checked = [field_path(path) for path in several]
    return checked[0] if len(checked) == 1 else checked


def url(text: str) -> str:
    if text.startswith("/") and not text.startswith("//"):
        raise ValueError("a URL such as https://api.example.com/items, or base_url in the sync's integration")
    if PLACEHOLDER.match(text):  # the scheme and the host come from a variable
        return text
    try:
        parts = urlsplit(PLACEHOLDER.sub("1", text))
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    # Some readers of URLs take a backslash for a slash, so that two may disagree on the host.
    if not good or re.search(r"[\s\x00-\x1f]", text) or "\\" in text.partition("?")[0]:
        raise ValueError("a URL such as https://api.example.com/items")
    return text


def origin(text: str) -> str:
    parts = urlsplit(url(text))
    if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc or "$" in text:
        raise ValueError("a scheme and a host, such as https://files.example.com")
    return f"{parts.scheme}://{parts.netloc.lower()}"


FORBIDDEN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that frame a request or belong to one connection (RFC 9110, section 7.6.1); only the client sets them."""


def headers(value: Any) -> Any:
    """Header values as text; a number is sent as it is written."""
    if not isinstance(value, Mapping):
        return value
    return {name: _header(name, item) for name, item in value.items()}


HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def _header(name: Any, value: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch(HEADER_NAME, name):
        raise ValueError(f"names of letters, digits and - such as X-Api-Key, not {name!r:.80}")
    if name.lower() in FORBIDDEN_HEADERS:
        raise ValueError(f"headers without {name}, which the HTTP client sets itself")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a finite number for {name}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError(f"a value of one line for {name}")
    return value


def query_params(value: dict[str, Any]) -> Any:
    for name, item in value.items():
        for one in item if isinstance(item, list) else [item]:
            if not isinstance(one, str | int | float | bool):
                raise ValueError(f"text, a number, true or false, or a list of them for {name!r:.80}")
    return _json(value)


def _json(value: Any, depth: int = 0) -> Any:
    """A copy of a value that JSON can hold, so that a change of the original does not change the sync."""
    if depth > 64:
        raise ValueError("at most 64 levels of objects and lists")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("text as the keys of objects")
        return {key: _json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError("values that JSON can hold")


def object_or_list(value: Any) -> Any:
    if not isinstance(value, dict | list):
        raise ValueError("an object or a list")
    return _json(value)


def metadata(value: dict[str, Any]) -> Any:
    if any(not key or key.lower().startswith("_nango_") for key in value):
        raise ValueError("names that do not begin with _nango_")
    return _json(value)


def table(text: str) -> str:
    if "." in text:
        raise ValueError("a table name without its schema; the schema is set by NANGO_DB_SCHEMA")
    return column(text)


def column(text: str) -> str:
    if not 1 <= len(text.encode(errors="replace")) <= 63 or not text.isprintable():
        raise ValueError("a name of 1 to 63 bytes")
    if text.lower().startswith("_nango_"):
        raise ValueError("a name that does not begin with _nango_, as our own tables and columns do")
    return text


def size(value: Any) -> Any:
    """Bytes, from a number or from text such as `100 MB`."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?\s*", value, re.IGNORECASE)
    if match is None:
        raise ValueError("a number of bytes, or text such as 100 MB")
    unit = (match[2] or "b").lower()
    return int(float(match[1]) * (1024 if "i" in unit else 1000) ** "bkmg".index(unit[0]))


def digits(value: Any) -> Any:
    """The first syncs' reference calls `max_total` a string, so digits are read as a number."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value) else value


def with_sentence(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A parser whose ConfigError becomes the text of a validation error."""

    def parsed(value: Any) -> Any:
        try:
            return parse(value)
        except ConfigError as error:
            raise ValueError(error.problems[0].wanted) from None

    return parsed


def timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone such as Europe/Berlin") from None
    return name


def model_schema(value: Any) -> dict[str, Any]:
    try:
        return schema_of(value)
    except ConfigError as error:
        raise ValueError(f"a JSON Schema, or module:Class: {str(error).rstrip('.')}") from None
