"""What the requests of one connection need: the values of placeholders, a signature, and what nobody may see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..config import Sync, is_credential, placeholders
from ..http import Request, looks_secret
from ..paths import MISSING, dig
from .kinds import secrets_in, signed, token_of


class Source(Protocol):
    """Where a connection's credentials come from."""

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        """The credentials as they are now; `fresh` where the API has just refused them."""

    def close(self) -> None:
        """Let go of whoever was asked for them."""


@dataclass(frozen=True)
class Stored:
    """Credentials that never change by themselves."""

    given: Mapping[str, Any] = field(repr=False)

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        return self.given

    def close(self) -> None:
        """Nobody was asked."""


class Access:
    """What a sync may say about a connection, and what its requests need so that the API lets them in.

    `facts` are the values of placeholders that are no credentials: `env.NAME`, `metadata`, `connection_id`...

    >>> sync = Sync(url="https://api.example.com/items")
    >>> access = Access(sync, {}, Stored({"type": "API_KEY", "apiKey": "k1", "header": "X-Key"}))
    >>> _ = access.variables()
    >>> dict(access.sign(Request("GET", sync.url)).headers)
    {'X-Key': 'k1'}
    """

    def __init__(
        self,
        sync: Sync,
        facts: Mapping[str, Any],
        source: Source | None = None,
        hash_key: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """`hash_key` gives the key of hashes that secrets go into; None where there is none."""
        names = set(placeholders(sync.templates))
        self._facts = facts
        self._hidden = tuple(_secret_facts(names, facts))
        self._source = source
        self.hash_key = hash_key
        self._held: Mapping[str, Any] = {}
        self._signs = not any(map(is_credential, names))

    def variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """The values of placeholders at this moment; with `fresh`, after the API has refused those before."""
        if self._source is None:
            return self._facts
        self._held = self._source.credentials(fresh)
        token = token_of(self._held)
        tokens = {"access_token": token, "pizzlyAccessToken": token} if token else {}
        return {**self._facts, **tokens, "credentials": self._held}

    def sign(self, request: Request) -> Request:
        """The request with the credentials that `variables` last had, unless the sync places them itself."""
        return signed(request, self._held) if self._signs else request

    def secrets(self) -> tuple[str, ...]:
        """What has to be starred wherever it comes up."""
        return (*self._hidden, *secrets_in(self._held))

    def hide(self, held: Mapping[str, Any]) -> None:
        """Star the values of these credentials, too, which nobody has asked for yet."""
        self._hidden = (*self._hidden, *secrets_in(held))

    def close(self) -> None:
        """Let go of whoever was asked for credentials."""
        if self._source is not None:
            self._source.close()


def _secret_facts(names: set[str], facts: Mapping[str, Any]) -> Iterator[str]:
    """The values of environment variables that the sync uses, and of metadata that is called a secret."""
    for name in names:
        if name.startswith("env.") or (name.startswith("metadata.") and looks_secret(name)):
            value = facts.get(name, MISSING) if name.startswith("env.") else dig(facts, name)
            if value is not MISSING:
                yield str(value)
