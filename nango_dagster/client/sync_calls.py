"""The calls about syncs: by integration and name, and by id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import (
    Json,
    MadeVariant,
    NamedSync,
    SyncStatus,
    Variable,
)
from .connected import (
    Connected,
    Names,
    full_name,
    listed,
    query_params,
    selection,
    variant_path,
)


@dataclass(frozen=True)
class SyncCalls(Connected):
    """Steer, add, change and delete syncs."""

    def trigger_sync(
        self,
        provider_config_key: str,
        syncs: Names = (),
        connection_id: str | None = None,
        *,
        reset: bool = False,
        empty_cache: bool = False,
    ) -> None:
        """Run syncs now, also paused ones: all syncs without names, all connections without a connection.

        `reset` begins with the first record; `empty_cache` also deletes the stored records first.

        >>> nango.trigger_sync("github", ["issues"], "acme")
        """
        opts = {"opts": {"reset": reset, "emptyCache": empty_cache}} if reset or empty_cache else {}
        self._send(
            "POST", "/sync/trigger", body={**selection(provider_config_key, syncs, connection_id), **opts}, once=True
        )

    def start_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Resume the schedules of syncs; a paused sync also runs at once.

        >>> nango.start_sync("github", ["issues"], "acme")
        """
        self._send("POST", "/sync/start", body=selection(provider_config_key, syncs, connection_id))

    def pause_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Stop the schedules of syncs; a running execution continues to its end.

        >>> nango.pause_sync("github", "issues::eu", "acme")
        """
        self._send("POST", "/sync/pause", body=selection(provider_config_key, syncs, connection_id))

    def cancel_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Stop running executions before their next page, and withdraw requested ones.

        >>> nango.cancel_sync("github", ["issues"])
        """
        self._send("POST", "/sync/cancel", body=selection(provider_config_key, syncs, connection_id))

    def sync_status(
        self, provider_config_key: str, syncs: Names = "*", connection_id: str | None = None
    ) -> list[SyncStatus]:
        """The status of syncs by connection and variant; `*` selects all syncs, an empty list none.

        >>> (status,) = nango.sync_status("github", ["issues"], "acme")
        >>> status["name"], status["frequency"], status["recordCount"]
        ('issues', 'every hour', {'GithubIssue': 3})
        """
        names = ",".join(map(full_name, listed(syncs)))
        fields = {"provider_config_key": provider_config_key, "syncs": names, "connection_id": connection_id}
        answer: list[SyncStatus] = self._send("GET", "/sync/status", params=query_params(fields), part="syncs")
        return answer

    def update_sync_connection_frequency(
        self, provider_config_key: str, sync: str | NamedSync, connection_id: str, frequency: str | None
    ) -> str:
        """Set the frequency of a sync for one connection; None restores the config's. Returns the new frequency.

        >>> nango.update_sync_connection_frequency("github", "issues", "acme", "every 30 minutes")
        'every 30 minutes'
        >>> nango.update_sync_connection_frequency("github", "issues", "acme", None)
        'every hour'
        """
        name, _, variant = full_name(sync).partition("::")
        whom = {"provider_config_key": provider_config_key, "connection_id": connection_id, "sync_name": name}
        body = {**whom, **({"sync_variant": variant} if variant else {}), "frequency": frequency}
        now: str = self._send("PUT", "/sync/update-connection-frequency", body=body, part="frequency")
        return now

    def create_sync_variant(self, provider_config_key: str, connection_id: str, name: str, variant: str) -> MadeVariant:
        """Create a variant of a sync for a connection, with a schedule and records of its own.

        >>> nango.create_sync_variant("github", "acme", "issues", "us")["variant"]
        'us'
        """
        body = {"provider_config_key": provider_config_key, "connection_id": connection_id}
        made: MadeVariant = self._send("POST", variant_path(name, variant), body=body, once=True)
        return made

    def delete_sync_variant(self, provider_config_key: str, connection_id: str, name: str, variant: str) -> None:
        """Delete a variant of a sync with all its records.

        >>> nango.delete_sync_variant("github", "acme", "issues", "us")
        """
        body = {"provider_config_key": provider_config_key, "connection_id": connection_id}
        self._send("DELETE", variant_path(name, variant), body=body)

    def get_environment_variables(self) -> list[Variable]:
        """The values of `${env.NAME}` in syncs.

        >>> nango.get_environment_variables()
        [{'name': 'TEAM', 'value': 'a'}]
        """
        answer: list[Variable] = self._send("GET", "/environment-variables", kind=list)
        return answer

    def sync(self, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Add a sync of a URL and run it at once. Returns its id.

        A `name` in the config identifies the sync: the same name with another config changes it. Without a name, an
        equal URL and config are the same sync, and every other one is a new sync.

        >>> sync_id = nango.sync("https://api.example.com/people", {"name": "people", "unique_key": "id"})
        """
        body = {**(config or {}), "url": url}
        sync_id: int = self._send("POST", "/v1/syncs", body=body, part="sync_id")
        return sync_id

    def syncs(
        self,
        *,
        name: str | None = None,
        url: str | None = None,
        friendly_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Json]:
        """The matching syncs, or all: the name, the next run and the last job of each.

        >>> [sync["name"] for sync in nango.syncs()]
        ['issues', 'people']
        """
        fields = {"name": name, "url": url, "friendly_name": friendly_name}
        as_json = {"metadata": None if metadata is None else json.dumps(dict(metadata))}
        answer: list[Json] = self._send("GET", "/v1/syncs", params=query_params({**fields, **as_json}), part="syncs")
        return answer

    def get_sync(self, sync_id: int) -> Json:
        """A sync with its config, which shows secrets as `***`, and its last job.

        >>> nango.get_sync(nango.syncs(name="people")[0]["id"])["config"]["unique_key"]
        'id'
        """
        answer: Json = self._send("GET", f"/v1/syncs/{int(sync_id)}")
        return answer

    def update_sync(self, sync_id: int, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Replace the config of a sync and run it at once. Returns its id. `***` keeps the stored secret."""
        body = {**(config or {}), "url": url}
        same: int = self._send("PUT", f"/v1/syncs/{int(sync_id)}", body=body, part="sync_id")
        return same

    def delete_sync(self, sync_id: int) -> None:
        """Delete a sync with its records, rows and jobs."""
        self._send("DELETE", f"/v1/syncs/{int(sync_id)}")
