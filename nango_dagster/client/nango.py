"""The API's methods, named as those of Nango's own client are, in snake case."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from ..errors import ConfigError
from ..http import Params
from .answers import (
    Connection,
    Integration,
    Json,
    ListedConnection,
    MadeVariant,
    NamedSync,
    Pruned,
    RecordPage,
    SyncStatus,
    Variable,
)
from .calls import Call, answer
from .reading import Records

Names = str | NamedSync | Sequence[str | NamedSync]
"""Syncs by name, as `name::variant` or as `{"name": ..., "variant": ...}`; one of them or several."""

_SIGNATURE = "x-nango-hmac-sha256"


@dataclass(frozen=True)
class Nango:
    """A nango-dagster API, and what can be asked of it; may be shared by threads, and keeps its connections open.

    Every error is a NangoError with the server's own sentence, and with its `code` and `status`: NotFound,
    AuthenticationFailed, ConfigError for what is wrong in a call, Refused for what clashes with what there is,
    TooManyRequests, StoreUnavailable while its database is down. Broken connections are tried again where that does no
    harm, and so is what the API's rate limit refuses.

    >>> Nango("http://localhost:3003", secret_key="s3cret")
    Nango(host='http://localhost:3003')
    """

    host: str = "http://localhost:3003"
    secret_key: str | None = field(default=None, repr=False)
    webhook_signing_key: str | None = field(default=None, repr=False)
    """What webhooks are signed with; the secret key, where it is not given."""

    # --- records ----------------------------------------------------------------------------------------------------

    def list_records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        *,
        variant: str | None = None,
        modified_after: datetime | str | None = None,
        filter: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        ids: Collection[str | int] | None = None,
    ) -> RecordPage:
        """One page of the records of a connection and model, in the order they changed.

        `filter` is `added`, `updated`, `deleted` or several with commas. `modified_after` is UTC unless it says else.
        With `ids`, only the records of these are given; of none, no records.

        >>> page = nango.list_records("github", "acme", "GithubIssue", limit=2)
        >>> [record["id"] for record in page["records"]]
        [1, 2]
        >>> page = nango.list_records("github", "acme", "GithubIssue", cursor=page["next_cursor"])
        >>> [record["id"] for record in page["records"]], page["next_cursor"]
        ([3], None)
        """
        if ids is not None and not ids:
            return {"records": [], "next_cursor": None}  # without the parameter the API would give all
        wanted = {
            "model": model,
            "variant": variant,
            "modified_after": modified_after.isoformat() if isinstance(modified_after, datetime) else modified_after,
            "filter": filter,
            "cursor": cursor,
            "limit": limit,
        }
        params = (*_params(wanted), *(("ids", str(id)) for id in ids or ()))
        page: RecordPage = self._send("GET", "/records", params=params, of=(provider_config_key, connection_id))
        return page

    def records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        *,
        variant: str | None = None,
        modified_after: datetime | str | None = None,
        filter: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        ids: Collection[str | int] | None = None,
    ) -> Records:
        """The same records on all pages from `cursor` on; what they are iterated by keeps the cursor.

        >>> records = nango.records("github", "acme", "GithubIssue")
        >>> [record["title"] for record in records]
        ['Fix login', 'Add search', 'Update docs']
        >>> list(nango.records("github", "acme", "GithubIssue", cursor=records.cursor))
        []
        """

        def read(cursor: str | None) -> RecordPage:
            return self.list_records(
                provider_config_key,
                connection_id,
                model,
                variant=variant,
                modified_after=modified_after,
                filter=filter,
                cursor=cursor,
                limit=limit,
                ids=ids,
            )

        return Records(read, cursor)

    def prune_records(
        self,
        provider_config_key: str,
        connection_id: str,
        model: str,
        until_cursor: str,
        *,
        variant: str | None = None,
        limit: int | None = None,
    ) -> Pruned:
        """Empty the payload of records up to a cursor and including it; that they are there, and since when, stays.

        >>> first = nango.list_records("github", "acme", "GithubIssue", limit=1)["next_cursor"]
        >>> nango.prune_records("github", "acme", "GithubIssue", until_cursor=first)
        {'count': 1, 'has_more': False}
        """
        given = {"model": model, "until_cursor": until_cursor, "variant": variant, "limit": limit}
        pruned: Pruned = self._send(
            "PATCH", "/records/prune", body=_given(given), of=(provider_config_key, connection_id)
        )
        return pruned

    # --- syncs, as Nango's client steers them -----------------------------------------------------------------------

    def trigger_sync(
        self,
        provider_config_key: str,
        syncs: Names = (),
        connection_id: str | None = None,
        *,
        reset: bool = False,
        empty_cache: bool = False,
    ) -> None:
        """Run syncs now, also paused ones; without names all of them, without a connection for all.

        `reset` begins with the first record, and with `empty_cache` after deleting what there is.

        >>> nango.trigger_sync("github", ["issues"], "acme")
        """
        opts = {"opts": {"reset": reset, "emptyCache": empty_cache}} if reset or empty_cache else {}
        self._send(
            "POST", "/sync/trigger", body={**_whom(provider_config_key, syncs, connection_id), **opts}, once=True
        )

    def start_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Let syncs run at their times; what was paused runs at once.

        >>> nango.start_sync("github", ["issues"], "acme")
        """
        self._send("POST", "/sync/start", body=_whom(provider_config_key, syncs, connection_id))

    def pause_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Let syncs run no more; what is being executed goes on to its end.

        >>> nango.pause_sync("github", "issues::eu", "acme")
        """
        self._send("POST", "/sync/pause", body=_whom(provider_config_key, syncs, connection_id))

    def cancel_sync(self, provider_config_key: str, syncs: Names, connection_id: str | None = None) -> None:
        """Stop what is being executed at its next page, and drop what was asked for.

        >>> nango.cancel_sync("github", ["issues"])
        """
        self._send("POST", "/sync/cancel", body=_whom(provider_config_key, syncs, connection_id))

    def sync_status(
        self, provider_config_key: str, syncs: Names = "*", connection_id: str | None = None
    ) -> list[SyncStatus]:
        """How syncs are doing, by connection and variant; `*` is all of them, and an empty list none.

        >>> (status,) = nango.sync_status("github", ["issues"], "acme")
        >>> status["name"], status["frequency"], status["recordCount"]
        ('issues', 'every hour', {'GithubIssue': 3})
        """
        names = ",".join(map(_full_name, _listed(syncs)))
        wanted = {"provider_config_key": provider_config_key, "syncs": names, "connection_id": connection_id}
        found: list[SyncStatus] = self._send("GET", "/sync/status", params=_params(wanted), part="syncs")
        return found

    def update_sync_connection_frequency(
        self, provider_config_key: str, sync: str | NamedSync, connection_id: str, frequency: str | None
    ) -> str:
        """Give a sync another frequency for one connection, None for its own again; the frequency from now on.

        >>> nango.update_sync_connection_frequency("github", "issues", "acme", "every 30 minutes")
        'every 30 minutes'
        >>> nango.update_sync_connection_frequency("github", "issues", "acme", None)
        'every hour'
        """
        name, _, variant = _full_name(sync).partition("::")
        whom = {"provider_config_key": provider_config_key, "connection_id": connection_id, "sync_name": name}
        body = {**whom, **({"sync_variant": variant} if variant else {}), "frequency": frequency}
        now: str = self._send("PUT", "/sync/update-connection-frequency", body=body, part="frequency")
        return now

    def create_sync_variant(self, provider_config_key: str, connection_id: str, name: str, variant: str) -> MadeVariant:
        """Have a sync run once more for a connection, with a schedule and records of its own.

        >>> nango.create_sync_variant("github", "acme", "issues", "us")["variant"]
        'us'
        """
        body = {"provider_config_key": provider_config_key, "connection_id": connection_id}
        made: MadeVariant = self._send("POST", _variant_path(name, variant), body=body, once=True)
        return made

    def delete_sync_variant(self, provider_config_key: str, connection_id: str, name: str, variant: str) -> None:
        """Delete a variant of a sync with all its records.

        >>> nango.delete_sync_variant("github", "acme", "issues", "us")
        """
        body = {"provider_config_key": provider_config_key, "connection_id": connection_id}
        self._send("DELETE", _variant_path(name, variant), body=body)

    def get_environment_variables(self) -> list[Variable]:
        """What `${env.NAME}` stands for in syncs.

        >>> nango.get_environment_variables()
        [{'name': 'TEAM', 'value': 'a'}]
        """
        found: list[Variable] = self._send("GET", "/environment-variables", kind=list)
        return found

    # --- integrations and connections -------------------------------------------------------------------------------

    def list_integrations(self) -> list[Integration]:
        """The APIs that syncs and connections belong to.

        >>> [one["unique_key"] for one in nango.list_integrations()]
        ['github']
        """
        found: list[Integration] = self._send("GET", "/integrations", part="data")
        return found

    def get_integration(self, unique_key: str) -> Integration:
        """One of them.

        >>> nango.get_integration("github")["provider"]
        'github'
        """
        found: Integration = self._send("GET", f"/integrations/{_quoted(unique_key)}", part="data")
        return found

    def get_scripts_config(self, format: Literal["nango", "openai"] = "nango") -> Any:
        """Which syncs each integration has, and how they are set; for `openai` actions, of which there are none.

        >>> [[sync["name"] for sync in one["syncs"]] for one in nango.get_scripts_config()]
        [['issues']]
        """
        kind = list if format == "nango" else dict
        return self._send("GET", "/scripts/config", params=_params({"format": format}), kind=kind)

    def list_connections(
        self,
        *,
        connection_id: str | None = None,
        search: str | None = None,
        integration_id: str | Collection[str] | None = None,
        limit: int | None = None,
        page: int | None = None,
    ) -> list[ListedConnection]:
        """The connections that fit, in the order they were made, without their credentials.

        >>> [one["connection_id"] for one in nango.list_connections(integration_id="github")]
        ['acme']
        """
        several = integration_id is not None and not isinstance(integration_id, str)
        wanted = {
            "connectionId": connection_id,
            "search": search,
            "integrationId": ",".join(integration_id or ()) if several else integration_id,
            "limit": limit,
            "page": page,
        }
        found: list[ListedConnection] = self._send("GET", "/connections", params=_params(wanted), part="connections")
        return found

    def get_connection(
        self,
        provider_config_key: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
    ) -> Connection:
        """A connection with its credentials, whose token is refreshed where that is due or `force_refresh` asks for it.

        >>> nango.get_connection("github", "acme")["metadata"]
        {'team': 'a'}
        """
        asked = {"force_refresh": force_refresh or None, "refresh_token": refresh_token or None}
        params = _params({"provider_config_key": provider_config_key, **asked})
        found: Connection = self._send("GET", _connection_path(connection_id), params=params)
        return found

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
        found = self.get_connection(
            provider_config_key, connection_id, force_refresh=force_refresh, refresh_token=refresh_token
        )["credentials"]
        if found.get("type") == "OAUTH2":
            token: str = found["access_token"]
            return token
        if found.get("type") == "OAUTH1":
            return {name: found[name] for name in ("oauth_token", "oauth_token_secret")}
        return found

    def get_raw_token_response(
        self,
        provider_config_key: str,
        connection_id: str,
        *,
        force_refresh: bool = False,
        refresh_token: bool = False,
    ) -> Json:
        """All that is known of a connection's OAuth token; of other types nothing."""
        asked = {"force_refresh": force_refresh, "refresh_token": refresh_token}
        raw: Json = self.get_connection(provider_config_key, connection_id, **asked)["credentials"].get("raw") or {}
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
        """Make a connection, for which each sync of its integration runs at once; one that is there gets what is given.

        >>> nango.import_connection("github", "initech", metadata={"team": "b"})["connection_id"]
        'initech'
        """
        given = {
            "credentials": credentials,
            "metadata": metadata,
            "connection_config": connection_config,
            "webhook_url_override": webhook_url_override,
        }
        # Named here, so that the same call again makes no second one.
        named = {"provider_config_key": provider_config_key, "connection_id": connection_id or str(uuid.uuid4())}
        made: Connection = self._send("POST", "/connections", body={**named, **_given(given)})
        return made

    def patch_connection(
        self, provider_config_key: str, connection_id: str, *, webhook_url_override: str | None
    ) -> None:
        """Have a connection's webhooks go to a URL of their own; None takes it back.

        >>> nango.patch_connection("github", "acme", webhook_url_override="https://acme.example.com/hook")
        """
        params = _params({"provider_config_key": provider_config_key})
        body = {"webhook_url_override": webhook_url_override}
        self._send("PATCH", _connection_path(connection_id), params=params, body=body)

    def delete_connection(self, provider_config_key: str, connection_id: str) -> None:
        """Delete a connection with all that was stored for it.

        >>> nango.delete_connection("github", "initech")
        """
        params = _params({"provider_config_key": provider_config_key})
        self._send("DELETE", _connection_path(connection_id), params=params)

    def get_metadata(self, provider_config_key: str, connection_id: str) -> Json:
        """What syncs know of a connection as `${metadata.NAME}`.

        >>> nango.get_metadata("github", "acme")
        {'team': 'a'}
        """
        return self.get_connection(provider_config_key, connection_id)["metadata"] or {}

    def set_metadata(
        self, provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Replace the whole metadata of a connection, or of each of several.

        >>> nango.set_metadata("github", "acme", {"team": "b"})
        """
        self._send("POST", "/connections/metadata", body=_metadata(provider_config_key, connection_id, metadata))

    def update_metadata(
        self, provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Set these keys of the metadata of a connection, or of each of several, and leave the others.

        >>> nango.update_metadata("github", ["acme"], {"level": 2})
        >>> nango.get_metadata("github", "acme")
        {'team': 'b', 'level': 2}
        """
        self._send("PATCH", "/connections/metadata", body=_metadata(provider_config_key, connection_id, metadata))

    # --- syncs by their ids -----------------------------------------------------------------------------------------

    def sync(self, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Add a sync of a URL and run it at once; its id.

        A config with a `name` is known by it: the same name again changes that sync. Without a name, the same URL
        and config again are the same sync, and any others are a new one.

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
        """The syncs that fit, or all of them: how each is called, when it runs next, how its last job ended.

        >>> [sync["name"] for sync in nango.syncs()]
        ['issues', 'people']
        """
        wanted = {"name": name, "url": url, "friendly_name": friendly_name}
        as_json = {"metadata": None if metadata is None else json.dumps(dict(metadata))}
        found: list[Json] = self._send("GET", "/v1/syncs", params=_params({**wanted, **as_json}), part="syncs")
        return found

    def get_sync(self, sync_id: int) -> Json:
        """A sync with its config, in which secrets read `***`, and its last job.

        >>> nango.get_sync(nango.syncs(name="people")[0]["id"])["config"]["unique_key"]
        'id'
        """
        found: Json = self._send("GET", f"/v1/syncs/{int(sync_id)}")
        return found

    def update_sync(self, sync_id: int, url: str, config: Mapping[str, Any] | None = None) -> int:
        """Give a sync another config and run it at once; its id. A `***` keeps the secret that is stored."""
        body = {**(config or {}), "url": url}
        same: int = self._send("PUT", f"/v1/syncs/{int(sync_id)}", body=body, part="sync_id")
        return same

    def delete_sync(self, sync_id: int) -> None:
        """Delete a sync with all that it stored."""
        self._send("DELETE", f"/v1/syncs/{int(sync_id)}")

    # --- webhooks ---------------------------------------------------------------------------------------------------

    def verify_incoming_webhook_request(self, body: str | bytes, headers: Mapping[str, Any]) -> bool:
        """Whether a webhook comes from the server: its body, as it was received, is signed with the key.

        >>> nango = Nango(webhook_signing_key="s3cret")
        >>> signature = "655f1c656ea95d2720de85c16c8ca4654a9898f7bb0a8b1a25d6e9502e8dabac"
        >>> nango.verify_incoming_webhook_request('{"type":"sync"}', {"X-Nango-Hmac-Sha256": signature})
        True
        >>> nango.verify_incoming_webhook_request('{"type":"auth"}', {"X-Nango-Hmac-Sha256": signature})
        False
        """
        key = self.webhook_signing_key or self.secret_key
        found = next((value for name, value in headers.items() if name.lower() == _SIGNATURE), None)
        if not key or not isinstance(found, str):
            return False
        text = body.encode() if isinstance(body, str) else body
        expected = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), found.encode(errors="replace"))

    def _send(
        self, method: str, path: str, *, of: tuple[str, str] | None = None, params: Params = (), **more: Any
    ) -> Any:
        """The decoded answer; `of` is the integration and the connection for routes that read them from headers."""
        names = {} if of is None else {"Provider-Config-Key": of[0], "Connection-Id": of[1]}
        headers = {name: _in_header(value) for name, value in names.items()}
        return answer(self.host, self.secret_key, Call(method, path, params, headers, **more))


def _params(wanted: Mapping[str, Any]) -> Params:
    """Query parameters, without those that are None."""
    return tuple((name, "true" if value is True else str(value)) for name, value in _given(wanted).items())


def _given(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _listed(syncs: Names) -> Sequence[str | NamedSync]:
    return [syncs] if isinstance(syncs, str | Mapping) else syncs


def _full_name(sync: str | NamedSync) -> str:
    return sync if isinstance(sync, str) else f"{sync['name']}::{sync['variant']}"


def _whom(provider_config_key: str, syncs: Names, connection_id: str | None) -> Json:
    named = {"provider_config_key": provider_config_key, "syncs": list(_listed(syncs))}
    return {**named, **_given({"connection_id": connection_id})}


def _metadata(provider_config_key: str, connection_id: str | Sequence[str], metadata: Mapping[str, Any]) -> Json:
    those = connection_id if isinstance(connection_id, str) else list(connection_id)
    return {"provider_config_key": provider_config_key, "connection_id": those, "metadata": dict(metadata)}


def _variant_path(name: str, variant: str) -> str:
    return f"/sync/{_quoted(name)}/variant/{_quoted(variant)}"


def _connection_path(connection_id: str) -> str:
    return f"/connections/{_quoted(connection_id)}"


def _quoted(name: str) -> str:
    """A name as a part of a path. Raises ConfigError for one that would make it another path."""
    if name in ("", ".", ".."):
        raise ConfigError(f"{name!r} is no name that can be asked for.")
    return quote(name, safe="")


def _in_header(name: str) -> str:
    """A name whose bytes in a header, which holds Latin-1 alone, are UTF-8."""
    return name.encode(errors="replace").decode("latin-1")
