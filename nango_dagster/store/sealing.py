"""JSON with secrets in it, as it is kept: stars where they stood, and they themselves encrypted beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ..errors import ConfigError
from ..vault import Vault

log = logging.getLogger(__name__)

SEALED = "$sealed"
"""The name that the encrypted values stand under."""
OpenVault = Callable[[], Vault]


def seal(document: Mapping[str, Any], shown: Mapping[str, Any], vault: OpenVault) -> dict[str, Any]:
    """The document to keep, of which only `shown`, a copy with stars, may be read.

    Without a key for PostgreSQL it is kept as it is, with a warning.
    """
    hidden = {name: value for name, value in document.items() if shown[name] != value}
    if not hidden:
        return dict(document)
    try:
        return {**shown, SEALED: vault().encrypt(hidden)}
    except ConfigError:
        _warn()
        return dict(document)


@lru_cache(maxsize=1)
def _warn() -> None:
    log.warning(
        "secrets in sync configs and in metadata are stored as they are, for NANGO_ENCRYPTION_KEY is not set; "
        "wanted 32 bytes as Base64, the same for every process: openssl rand -base64 32"
    )


def unseal(kept: Mapping[str, Any], vault: OpenVault) -> dict[str, Any]:
    """The document that was sealed. Raises ConfigError when that was with a key that is not there."""
    if SEALED not in kept:
        return dict(kept)
    return {**with_stars(kept), **vault().decrypt(kept[SEALED])}


def with_stars(kept: Mapping[str, Any]) -> dict[str, Any]:
    """What of a sealed document may be read without its key."""
    return {name: value for name, value in kept.items() if name != SEALED}


def is_same(one: Mapping[str, Any], other: Mapping[str, Any], vault: OpenVault) -> bool:
    """Whether two are the same document, kept in the same way; what is encrypted twice never looks the same."""
    if SEALED not in one or SEALED not in other:
        return one == other
    try:
        return unseal(one, vault) == unseal(other, vault)
    except ConfigError:
        return False
