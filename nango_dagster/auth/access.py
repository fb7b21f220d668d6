"""The access of one connection to an API: values of placeholders, a signature, and the secrets to star."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..config import Sync, is_credential, placeholders
from ..http import Request, is_url, looks_secret, url_secrets
from ..paths import MISSING, dig
from .kinds import can_refresh, lasting, secrets_in, signed, token_of


class CredentialSource(Protocol):
    """The source of a connection's credentials."""

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        """The credentials as they are now; `fresh` where the API has just refused them."""

    def close(self) -> None:
        """Release the connections that this source opened."""


@dataclass(frozen=True)
class StaticCredentials:
    """Credentials that never change by themselves."""

    given: Mapping[str, Any] = field(repr=False)

    def credentials(self, fresh: bool) -> Mapping[str, Any]:
        return self.given

    def close(self) -> None:
        """Nothing was opened."""


class Identity(NamedTuple):
    """The values of placeholders and the secrets that stand for an account, without those that a refresh replaces."""

    variables: Mapping[str, Any]
    secrets: tuple[str, ...]


class Access:
    """The values that a sync may use of a connection, and the credentials that its requests carry.

    `facts` are the values of placeholders that are no credentials, such as `env.NAME`, `metadata`, `connection_id`.

    >>> sync = Sync(url="https://api.example.com/items")
    >>> access = Access(sync, {}, StaticCredentials({"type": "API_KEY", "apiKey": "k1", "header": "X-Key"}))
    >>> _ = access.variables()
    >>> dict(access.sign(Request("GET", sync.url)).headers)
    {'X-Key': 'k1'}
    """

    def __init__(
        self,
        sync: Sync,
        facts: Mapping[str, Any],
        source: CredentialSource | None = None,
        hash_key: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        """`hash_key` gives the key of hashes that secrets go into; None where there is none."""
        names = set(placeholders(sync.templates))
        self._names = names
        self.facts = facts
        self._hidden = tuple(_secret_facts(names, facts))
        self._source = source
        self.hash_key = hash_key
        self._stored: Mapping[str, Any] = {}
        self._held: Mapping[str, Any] = {}
        self._signs = not any(map(is_credential, names))

    def variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """The values of placeholders at this moment; with `fresh`, after the API has refused those before."""
        if self._source is None:
            return self.facts
        self._held = self._source.credentials(fresh)
        return self._with(self._held, token_of(self._held))

    def _with(self, held: Mapping[str, Any], token: str | None) -> Mapping[str, Any]:
        tokens = {} if token is None else {"access_token": token, "pizzlyAccessToken": token}
        return {**self.facts, **tokens, "credentials": held}

    def sign(self, request: Request) -> Request:
        """The request with the credentials that `variables` last had, unless the sync places them itself."""
        return signed(request, self._held) if self._signs else request

    def constants(self) -> Mapping[str, Any]:
        """The values of those placeholders that belong to the connection and are no credentials."""
        own = ("metadata.", "connection_config.", "connection_id", "variant")
        values = {name: dig(self.facts, name) for name in self._names if name.startswith(own)}
        return {name: None if value is MISSING else value for name, value in values.items()}

    def secrets(self) -> tuple[str, ...]:
        """The values to star wherever they occur."""
        return (*self._hidden, *secrets_in(self._stored), *secrets_in(self._held))

    def identity(self) -> Identity:
        """The account that an answer belongs to. It stays the same when the access token is refreshed.

        An ETag is bound to it: other credentials may see another list, and a refreshed token sees the same one.
        """
        held = lasting(self._held)
        secrets = (*self._hidden, *secrets_in(lasting(self._stored)), *secrets_in(held))
        token = "" if can_refresh(held) else token_of(held)
        variables = self.facts if self._source is None else self._with(held, token)
        return Identity(variables, tuple(filter(None, secrets)))

    def hide(self, held: Mapping[str, Any]) -> None:
        """Star the values of these credentials too, before they are first used."""
        self._stored = held

    def close(self) -> None:
        """Release the connections of the source."""
        if self._source is not None:
            self._source.close()


def _secret_facts(names: set[str], facts: Mapping[str, Any]) -> Iterator[str]:
    """The environment variables that the sync uses, and values of metadata and config with the name of a secret."""
    for name in names:
        if name.startswith("env.") or (name.startswith(("metadata.", "connection_config.")) and looks_secret(name)):
            value = facts.get(name, MISSING) if name.startswith("env.") else dig(facts, name)
            if value is not MISSING:
                yield from _secret_parts(name, str(value))


def _secret_parts(name: str, value: str) -> Iterator[str]:
    """The value, or all but the origin of a base URL: errors have to show which server did not answer."""
    if looks_secret(name) or not is_url(value):
        yield value
        return
    yield from url_secrets(value)
    path = value.partition("//")[2].partition("/")[2]
    if path:
        yield path
