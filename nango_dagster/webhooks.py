"""One notification: its body, its signatures, and one try to deliver it.

Body and signatures have Nango's format, so that receivers of Nango's webhooks accept them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal

from .errors import ConfigError
from .http import Poster, Reach, origin

TIMEOUT: Final = 20.0
"""The time limit of a try in seconds, from the connection to the end of the answer."""
GONE: Final = 410
"""The status with which a receiver refuses all later notifications."""
ENVIRONMENT: Final = "prod"
"""The environment in notifications of the type `auth`; there is only one."""
AUTH_MODES: Final = frozenset({"OAUTH1", "OAUTH2", "OAUTH2_CC", "BASIC", "API_KEY", "JWT", "NONE", "CUSTOM"})
"""The values of `authMode` in Nango's types that fit the kinds of credentials here."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


# --- the body -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """The sync and dataset that a notification is about."""

    integration: str
    connection_id: str
    variant: str
    sync_name: str
    model: str
    sync_type: Literal["INITIAL", "INCREMENTAL"]
    checkpoints: Mapping[str, Any] | None = None
    """The checkpoint before and after, under `from` and `to`; None where it did not change."""

    @property
    def fields(self) -> dict[str, Any]:
        """The body's fields about the sync."""
        checkpoints = {} if self.checkpoints is None else {"checkpoints": self.checkpoints}
        return {
            **checkpoints,
            "type": "sync",
            "providerConfigKey": self.integration,
            "connectionId": self.connection_id,
            "syncVariant": self.variant,
            "syncName": self.sync_name,
            "model": self.model,
            "syncType": self.sync_type,
        }


def changed(about: About, added: int, updated: int, deleted: int, modified_after: datetime | None) -> bytes:
    """The body for changed records: all changes after `modified_after`; None means all changes.

    >>> about = About("github", "acme", "base", "issues", "Issue", "INITIAL")
    >>> changed(about, 2, 0, 0, None)[:61]
    b'{"connectionId":"acme","from":"nango","model":"Issue","modifi'
    """
    since = _next(modified_after) if modified_after else stamp(_EPOCH)
    counts = {"added": added, "updated": updated, "deleted": deleted}
    return _body({**about.fields, "responseResults": counts, "modifiedAfter": since, "queryTimeStamp": since}, True)


def failed(about: About, error: str, started_at: datetime, failed_at: datetime) -> bytes:
    """The body for a failed execution."""
    times = {"startedAt": stamp(started_at), "failedAt": stamp(failed_at)}
    return _body({**about.fields, **times, "error": {"type": "script_error", "description": error}}, False)


def refused(integration: str, connection_id: str, error: str, auth_mode: str = "CUSTOM") -> bytes:
    """The body for a connection that needs new credentials; `auth_mode` is their type."""
    fields = {
        "type": "auth",
        "operation": "refresh",
        "providerConfigKey": integration,
        "provider": integration,
        "connectionId": connection_id,
        "authMode": auth_mode if auth_mode in AUTH_MODES else "CUSTOM",
        "environment": ENVIRONMENT,
        "error": {"type": "refresh_token_external_error", "description": error},
    }
    return _body(fields, False)


def _body(fields: Mapping[str, Any], success: bool) -> bytes:
    """JSON as Nango writes it: sorted keys, no blanks, and only the necessary escapes."""
    whole = {**fields, "from": "nango", "success": success}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace")  # a lone surrogate, which UTF-8 cannot encode


def _next(moment: datetime) -> str:
    """The next microsecond: `GET /records` from there returns later changes, and none that the receiver has already.

    >>> _next(datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc))
    '2026-01-02T03:04:05.679000Z'
    """
    later = moment.astimezone(timezone.utc) + timedelta(microseconds=1)
    return later.isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """A time in milliseconds, truncated and not rounded, so that it is never later than the time itself.

    >>> stamp(datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc))
    '2026-01-02T03:04:05.678Z'
    """
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- signatures -----------------------------------------------------------------------------------------------------


def headers(body: bytes, delivery_id: str, key: str | None) -> dict[str, str]:
    """The HTTP headers of a notification; the signatures only where there is a key.

    >>> sorted(headers(b"{}", "d1", "k1"))
    ['Content-Type', 'X-Nango-Delivery-Id', 'X-Nango-Hmac-Sha256', 'X-Nango-Signature', 'webhook-id']
    """
    plain = {"Content-Type": "application/json", "X-Nango-Delivery-Id": delivery_id, "webhook-id": delivery_id}
    return plain if key is None else {**plain, **signatures(body, key)}


def signatures(body: bytes, key: str) -> dict[str, str]:
    """Both signatures that Nango's clients verify: the HMAC, and the older hash of key and body."""
    secret = key.encode()
    return {
        "X-Nango-Signature": hashlib.sha256(secret + body).hexdigest(),
        "X-Nango-Hmac-Sha256": hmac.new(secret, body, hashlib.sha256).hexdigest(),
    }


# --- one try --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """The result of a try: the error, None when it was delivered; and whether the receiver refused all later ones."""

    error: str | None = None
    gone: bool = False


class Sender:
    """Sends notifications to receivers on hosts that `reach` allows; for one thread at a time."""

    def __init__(self, key: str | None, reach: Reach = "anywhere", timeout: float = TIMEOUT) -> None:
        self._key = key
        self._poster = Poster(timeout=timeout, reach=reach)

    def send(self, url: str, delivery_id: str, body: bytes) -> Tried:
        """Send one notification; a status of 2xx means delivered. The error shows only the origin of the URL."""
        posted = self._poster.post(url, headers(body, delivery_id, self._key), body)
        if posted.error is None:
            return Tried()
        return Tried(f"{shown(url)} {posted.error}.", gone=posted.status == GONE)

    def close(self) -> None:
        """Close the connections."""
        self._poster.close()


def shown(url: str) -> str:
    """The origin of a receiver's URL; every other part may contain a secret.

    >>> shown("https://me:pw@hooks.example.com/services/T0/s3cret?token=k")
    'https://hooks.example.com'
    """
    try:
        scheme, _, rest = origin(url).partition("://")
    except ConfigError:
        return "the receiver"
    host, _, port = rest.rpartition(":")
    usual = (scheme, port) in (("http", "80"), ("https", "443"))
    return f"{scheme}://{host if usual else rest}"
