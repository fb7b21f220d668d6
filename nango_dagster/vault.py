"""Encryption of credentials in the database, with keys that can be changed. The only home of `cryptography`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .settings import Settings

log = logging.getLogger(__name__)

KEY_FILE = "encryption.key"
HASH_KEY_FILE = "hash.key"


class Vault:
    """Encrypts with the first key, and decrypts with every one of them.

    To change the key, put the new one in front: `NANGO_ENCRYPTION_KEY=new,old`.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self._fernet = MultiFernet([Fernet(key) for key in keys])

    @classmethod
    def open(cls, settings: Settings) -> Vault:
        """The vault of these settings; on SQLite without a key, one is created in a file of NANGO_HOME.

        Raises ConfigError on PostgreSQL without a key: other users of that database must not read the credentials.
        """
        if settings.encryption_keys:
            return cls(settings.encryption_keys)
        if not settings.db_url.startswith("sqlite"):
            raise ConfigError(
                "credentials are encrypted in PostgreSQL, and NANGO_ENCRYPTION_KEY is not set; wanted 32 bytes as "
                "Base64, the same for every process: openssl rand -base64 32"
            )
        return cls((_encryption_key(settings.home),))

    def encrypt(self, credentials: Mapping[str, Any]) -> str:
        """The credentials as encrypted text."""
        return self._fernet.encrypt(json.dumps(credentials).encode()).decode()

    def decrypt(self, text: str) -> dict[str, Any]:
        """The credentials of an encrypted text. Raises ConfigError when none of the keys fits."""
        from cryptography.fernet import InvalidToken

        try:
            credentials: dict[str, Any] = json.loads(self._fernet.decrypt(str(text).encode()))
        except InvalidToken:
            raise ConfigError(
                "the stored credentials were encrypted with another key; add it to NANGO_ENCRYPTION_KEY, after the "
                "present one and a comma."
            ) from None
        return credentials


def vault_of(settings: Settings) -> Vault:
    """The vault of these settings, opened once per process."""
    return _opened(settings.encryption_keys, settings.db_url, settings.home)


def hash_key(settings: Settings) -> bytes | None:
    """The key of hashes that secrets go into; None on PostgreSQL without NANGO_ENCRYPTION_KEY.

    On SQLite without an encryption key it has a file of its own: nothing is lost with it but hashes.
    """
    if not settings.encryption_keys and not settings.db_url.startswith("sqlite"):
        return None
    key = settings.encryption_keys[0] if settings.encryption_keys else _key_of(settings.home / HASH_KEY_FILE)
    return hashlib.blake2b(key.encode(), digest_size=32, person=b"nango hashes").digest()


@lru_cache(maxsize=8)
def _opened(keys: tuple[str, ...], db_url: str, home: Path) -> Vault:
    return Vault.open(Settings(db_url=db_url, home=home, encryption_keys=keys))


def _encryption_key(home: Path) -> str:
    file = home / KEY_FILE
    is_new = not file.exists()
    key = _key_of(file)
    if is_new:
        log.warning("created the key %s; without it stored credentials cannot be read: keep a copy elsewhere.", file)
    return key


def _key_of(file: Path) -> str:
    """The key in a file of NANGO_HOME, which is created the first time, readable by its owner alone.

    The file appears with its whole content or not at all: another process never reads half a key, and a crash leaves
    none behind.
    """
    home = file.parent
    if file.exists():
        return _read(file)
    from cryptography.fernet import Fernet

    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f"{file.name}.", dir=home)  # its mode is 0600
        try:
            with os.fdopen(descriptor, "w") as writer:
                writer.write(Fernet.generate_key().decode())
                writer.flush()
                os.fsync(writer.fileno())
            os.link(name, file)  # fails where another process was first
        finally:
            os.unlink(name)
    except FileExistsError:
        return _read(file)
    except OSError as error:
        raise ConfigError(f"cannot write the key to {file}: {error.strerror}.") from None
    return _read(file)


def _read(file: Path) -> str:
    from cryptography.fernet import Fernet

    try:
        key = file.read_text().strip()
        Fernet(key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no key of 32 bytes as Base64"
        raise ConfigError(f"cannot read the encryption key of {file}: {reason}.") from None
    return key
