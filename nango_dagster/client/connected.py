"""The address and keys of an API, and helpers that build its requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ..errors import ConfigError
from ..http import Params
from .answers import Json, NamedSync
from .calls import Call, answer

Names = str | NamedSync | Sequence[str | NamedSync]
"""Syncs by name, as `name::variant` or as `{"name": ..., "variant": ...}`; one of them or several."""


@dataclass(frozen=True)
class Connected:
    """The address of an API, and its keys."""

    host: str = "http://localhost:3003"
    secret_key: str | None = field(default=None, repr=False)
    webhook_signing_key: str | None = field(default=None, repr=False)
    """The key of webhooks' signatures; None means the secret key."""

    def _send(
        self, method: str, path: str, *, of: tuple[str, str] | None = None, params: Params = (), **more: Any
    ) -> Any:
        """The decoded answer; `of` is the integration and the connection for routes that read them from headers."""
        names = {} if of is None else {"Provider-Config-Key": of[0], "Connection-Id": of[1]}
        headers = {name: _in_header(value) for name, value in names.items()}
        return answer(self.host, self.secret_key, Call(method, path, params, headers, **more))


def query_params(fields: Mapping[str, Any]) -> Params:
    """Query parameters, without those that are None."""
    return tuple((name, "true" if value is True else str(value)) for name, value in given(fields).items())


def given(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def listed(syncs: Names) -> Sequence[str | NamedSync]:
    return [syncs] if isinstance(syncs, str | Mapping) else syncs


def full_name(sync: str | NamedSync) -> str:
    return sync if isinstance(sync, str) else f"{sync['name']}::{sync['variant']}"


def selection(provider_config_key: str, syncs: Names, connection_id: str | None) -> Json:
    named = {"provider_config_key": provider_config_key, "syncs": list(listed(syncs))}
    return {**named, **given({"connection_id": connection_id})}


def metadata_body(provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]) -> Json:
    connection_ids = connection_id if isinstance(connection_id, str) else list(connection_id)
    return {"provider_config_key": provider_config_key, "connection_id": connection_ids, "metadata": dict(metadata)}


def variant_path(name: str, variant: str) -> str:
    return f"/sync/{quoted(name)}/variant/{quoted(variant)}"


def connection_path(connection_id: str) -> str:
    return f"/connections/{quoted(connection_id)}"


def quoted(name: str) -> str:
    """A name as a segment of a path. Raises ConfigError for `.`, `..` and an empty name."""
    if name in ("", ".", ".."):
        raise ConfigError(f"{name!r} is no name that can be asked for.")
    return quote(name, safe="")


def _in_header(name: str) -> str:
    """A name as header text; headers hold Latin-1, so its UTF-8 bytes are written as such characters."""
    return name.encode(errors="replace").decode("latin-1")
