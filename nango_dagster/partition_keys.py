"""The partition keys of Dagster: `connection`, or `connection|variant`."""

from __future__ import annotations

import re
from urllib.parse import unquote

BASE = "base"
"""The variant that every connection has."""

_SPECIAL = re.compile(r"[|%\x00-\x1f\x7f-\x9f]")


def key_of(connection_id: str, variant: str = BASE) -> str:
    """The partition key of a connection and variant; special characters are percent-encoded.

    >>> key_of("acme"), key_of("acme", "eu"), key_of("a|b%")
    ('acme', 'acme|eu', 'a%7Cb%25')
    """
    name = _escaped(connection_id)
    return name if variant == BASE else f"{name}|{_escaped(variant)}"


def names_of(key: str) -> tuple[str, str]:
    """The connection and variant of a partition key.

    >>> names_of("acme"), names_of("a%7Cb%25|eu")
    (('acme', 'base'), ('a|b%', 'eu'))
    """
    connection_id, _, variant = key.partition("|")
    return unquote(connection_id), unquote(variant) or BASE


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
