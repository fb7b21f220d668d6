"""The calls about integrations, connections and their metadata."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .answers import (
    Connection,
    Integration,
    Json,
    ListedConnection,
)
from .connected import (
    Connected,
    connection_path,
    given,
    metadata_body,
    query_params,
    quoted,
)


@dataclass(frozen=True)
class ConnectionCalls(Connected):
    """Read and change connections."""

    def list_integrations(self) -> list[Integration]:
        """The APIs that syncs and connections belong to.

        >>> [item["unique_key"] for item in nango.list_integrations()]
        ['github']
        """
        answer: list[Integration] = self._send("GET", "/integrations", part="data")
        return answer

    def get_integration(self, unique_key: str) -> Integration:
        """An integration.

        >>> nango.get_integration("github")["provider"]
        'github'
        """
        answer: Integration = self._send("GET", f"/integrations/{quoted(unique_key)}", part="data")
        return answer

    def get_scripts_config(self, format: Literal["nango", "openai"] = "nango") -> Any:
        """The syncs of each integration with their settings; nothing for `openai`, the format of actions.

        >>> [[sync["name"] for sync in item["syncs"]] for item in nango.get_scripts_config()]
        [['issues']]
        """
        kind = list if format == "nango" else dict
        return self._send("GET", "/scripts/config", params=query_params({"format": format}), kind=kind)

    def list_connections(
        self,
        *,
        connection_id: str | None = None,
        search: str | None = None,
        integration_id: str | Collection[str] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> list[ListedConnection]:
        """The matching connections in the order of their creation, without their credentials.

        >>> [item["connection_id"] for item in nango.list_connections(integration_id="github")]
        ['acme']
        """
        several = integration_id is not None and not isinstance(integration_id, str)
        fields = {
            "connectionId": connection_id,
            "search": search,
            "integrationId": ",".join(integration_id or ()) if several else integration_id,
            "limit": limit,
            "page": page,
        }
        answer: list[ListedConnection] = self._send(
            "GET", "/connections", params=query_params(fields), part="connections"
        )
        return answer

    def get_connection(
        self,
        provider_config_key: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
    ) -> Connection:
        """A connection with its credentials; a token that expires soon is refreshed, with `force_refresh` always.

        >>> nango.get_connection("github", "acme")["metadata"]
        {'team': 'a'}
        """
        options = {"force_refresh": force_refresh or None, "refresh_token": refresh_token or None}
        params = query_params({"provider_config_key": provider_config_key, **options})
        answer: Connection = self._send("GET", connection_path(connection_id), params=params)
        return answer

    def get_token(
        self,
        provider_config_key: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
    ) -> str | Json:
        """A connection's OAuth 2 access token, refreshed as `get_connection` does it.

        For OAuth 1 it is `oauth_token` and `oauth_token_secret`, and for other types all credentials.
        """
        credentials = self.get_connection(
            provider_config_key, connection_id, force_refresh=force_refresh, refresh_token=refresh_token
        )["credentials"]
        if credentials.get("type") == "OAUTH2":
            token: str = credentials["access_token"]
            return token
        if credentials.get("type") == "OAUTH1":
            return {name: credentials[name] for name in ("oauth_token", "oauth_token_secret")}
        return credentials

    def get_raw_token_response(
        self,
        provider_config_key: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
    ) -> Json:
        """All stored fields of a connection's OAuth token; empty for other types of credentials."""
        options = {"force_refresh": force_refresh, "refresh_token": refresh_token}
        raw: Json = self.get_connection(provider_config_key, connection_id, **options)["credentials"].get("raw") or {}
        return raw

    def import_connection(
        self,
        provider_config_key: str,
        connection_id: str | None = None,
        *,
        credentials: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        connection_config: Mapping[str, Any] | None = None,
        webhook_url_override: str | None = None,
    ) -> Connection:
        """Create a connection, or change the given fields of an existing one. New ones are synced at once.

        >>> nango.import_connection("github", "initech", metadata={"team": "b"})["connection_id"]
        'initech'
        """
        fields = {
            "credentials": credentials,
            "metadata": metadata,
            "connection_config": connection_config,
            "webhook_url_override": webhook_url_override,
        }
        # Named here, so that the same call again makes no second one.
        named = {"provider_config_key": provider_config_key, "connection_id": connection_id or str(uuid.uuid4())}
        made: Connection = self._send("POST", "/connections", body={**named, **given(fields)})
        return made

    def patch_connection(
        self, provider_config_key: str, connection_id: str, *, webhook_url_override: str | None
    ) -> None:
        """Set the URL of the webhooks of a connection; None removes it.

        >>> nango.patch_connection("github", "acme", webhook_url_override="https://acme.example.com/hook")
        """
        params = query_params({"provider_config_key": provider_config_key})
        body = {"webhook_url_override": webhook_url_override}
        self._send("PATCH", connection_path(connection_id), params=params, body=body)

    def delete_connection(self, provider_config_key: str, connection_id: str) -> None:
        """Delete a connection with its records, rows and jobs.

        >>> nango.delete_connection("github", "initech")
        """
        params = query_params({"provider_config_key": provider_config_key})
        self._send("DELETE", connection_path(connection_id), params=params)

    def get_metadata(self, provider_config_key: str, connection_id: str) -> Json:
        """The metadata of a connection, which syncs read as `${metadata.NAME}`.

        >>> nango.get_metadata("github", "acme")
        {'team': 'a'}
        """
        return self.get_connection(provider_config_key, connection_id)["metadata"] or {}

    def set_metadata(
        self, provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Replace the metadata of one or several connections.

        >>> nango.set_metadata("github", "acme", {"team": "b"})
        """
        self._send("POST", "/connections/metadata", body=metadata_body(provider_config_key, connection_id, metadata))

    def update_metadata(
        self, provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Set these keys of the metadata of one or several connections; other keys stay.

        >>> nango.update_metadata("github", ["acme"], {"level": 2})
        >>> nango.get_metadata("github", "acme")
        {'team': 'b', 'level': 2}
        """
        self._send("PATCH", "/connections/metadata", body=metadata_body(provider_config_key, connection_id, metadata))
