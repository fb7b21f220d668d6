"""Documents with secrets: each secret is stored as stars, and encrypted beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ..errors import ConfigError
from ..vault import Vault

log = logging.getLogger(__name__)

SEALED = "$sealed"
"""The key of the encrypted values in a sealed document."""
OpenVault = Callable[[], Vault]


def seal(document: Mapping[str, Any], shown: Mapping[str, Any], vault: OpenVault) -> dict[str, Any]:
    """The document to store: `shown`, a copy with stars in place of secrets, and the secrets encrypted.

    Without a key on PostgreSQL the document is stored as it is, with a warning.
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
        "secrets in sync configs and in metadata are stored unencrypted, because NANGO_ENCRYPTION_KEY is not set; "
        "wanted 32 bytes as Base64, the same for every process: openssl rand -base64 32"
    )


def unseal(stored: Mapping[str, Any], vault: OpenVault) -> dict[str, Any]:
    """The document that was sealed. Raises ConfigError when its key is missing."""
    if SEALED not in stored:
        return dict(stored)
    return {**with_stars(stored), **vault().decrypt(stored[SEALED])}


def with_stars(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a sealed document that can be read without its key."""
    return {name: value for name, value in stored.items() if name != SEALED}


def is_same(one: Mapping[str, Any], other: Mapping[str, Any], vault: OpenVault) -> bool:
    """Whether two stored documents have the same content, both sealed or both not.

    They have to be decrypted for that: encrypting the same text twice gives two different texts.
    """
    if SEALED not in one or SEALED not in other:
        return one == other
    try:
        return unseal(one, vault) == unseal(other, vault)
    except ConfigError:
        return False
