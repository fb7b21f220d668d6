"""One notification: its body, its signatures, and one try to deliver it.

Body and signatures are those of Nango, so that what verifies and reads its webhooks takes ours.
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
"""Seconds for a try, from the connection to the end of the answer."""
GONE: Final = 410
"""The status by which a receiver says that it will never take one again."""
ENVIRONMENT: Final = "prod"
"""What notifications of the type `auth` call the environment, of which there is one."""
AUTH_MODES: Final = frozenset({"OAUTH1", "OAUTH2", "OAUTH2_CC", "BASIC", "API_KEY", "JWT", "NONE", "CUSTOM"})
"""What Nango's types let `authMode` be, of the kinds of credentials that there are here."""
_SINCE_EVER: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


# --- the body -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """Whose records a notification is about."""

    integration: str
    connection_id: str
    variant: str
    sync_name: str
    model: str
    sync_type: Literal["INITIAL", "INCREMENTAL"]

    @property
    def fields(self) -> dict[str, Any]:
        """What the body says of it."""
        return {
            "type": "sync",
            "providerConfigKey": self.integration,
            "connectionId": self.connection_id,
            "syncVariant": self.variant,
            "syncName": self.sync_name,
            "model": self.model,
            "syncType": self.sync_type,
        }


def changed(about: About, added: int, updated: int, deleted: int, modified_after: datetime | None) -> bytes:
    """That records have changed, all of them later than a time; None for all there are.

    >>> about = About("github", "acme", "base", "issues", "Issue", "INITIAL")
    >>> changed(about, 2, 0, 0, None)[:61]
    b'{"connectionId":"acme","from":"nango","model":"Issue","modifi'
    """
    since = _next(modified_after) if modified_after else stamp(_SINCE_EVER)
    counts = {"added": added, "updated": updated, "deleted": deleted}
    return _body({**about.fields, "responseResults": counts, "modifiedAfter": since, "queryTimeStamp": since}, True)


def failed(about: About, error: str, started_at: datetime, failed_at: datetime) -> bytes:
    """That an execution has failed."""
    times = {"startedAt": stamp(started_at), "failedAt": stamp(failed_at)}
    return _body({**about.fields, **times, "error": {"type": "script_error", "description": error}}, False)


def refused(integration: str, connection_id: str, error: str, auth_mode: str = "CUSTOM") -> bytes:
    """That a connection's credentials are good no more; `auth_mode` is their type."""
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
    """JSON as Nango writes it: the keys in order, no blanks, and nothing escaped that need not be."""
    whole = {**fields, "from": "nango", "success": success}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="backslashreplace")  # half a surrogate pair, which JSON can only say escaped


def _next(moment: datetime) -> str:
    """The moment after this one, from which on `GET /records` gives what came later and nothing that is known already.

    >>> _next(datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc))
    '2026-01-02T03:04:05.679000Z'
    """
    later = moment.astimezone(timezone.utc) + timedelta(microseconds=1)
    return later.isoformat(timespec="microseconds").replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """A time in milliseconds, cut off rather than rounded: nothing that came after it lies before what this says.

    >>> stamp(datetime(2026, 1, 2, 3, 4, 5, 678999, tzinfo=timezone.utc))
    '2026-01-02T03:04:05.678Z'
    """
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- what proves where it comes from --------------------------------------------------------------------------------


def headers(body: bytes, delivery_id: str, key: str | None) -> dict[str, str]:
    """What goes along with a body; the signatures only where there is a key.

    >>> sorted(headers(b"{}", "d1", "k1"))
    ['Content-Type', 'X-Nango-Delivery-Id', 'X-Nango-Hmac-Sha256', 'X-Nango-Signature', 'webhook-id']
    """
    plain = {"Content-Type": "application/json", "X-Nango-Delivery-Id": delivery_id, "webhook-id": delivery_id}
    return plain if key is None else {**plain, **signatures(body, key)}


def signatures(body: bytes, key: str) -> dict[str, str]:
    """Both signatures that Nango's clients know: the HMAC, and the older hash of key and body."""
    secret = key.encode()
    return {
        "X-Nango-Signature": hashlib.sha256(secret + body).hexdigest(),
        "X-Nango-Hmac-Sha256": hmac.new(secret, body, hashlib.sha256).hexdigest(),
    }


# --- one try --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What came of a try: why it was not delivered, or None; and whether the receiver is gone for good."""

    error: str | None = None
    gone: bool = False


class Sender:
    """Delivers notifications to receivers that may be reached so far; for one thread at a time."""

    def __init__(self, key: str | None, reach: Reach = "anywhere", timeout: float = TIMEOUT) -> None:
        self._key = key
        self._poster = Poster(timeout=timeout, reach=reach)

    def send(self, url: str, delivery_id: str, body: bytes) -> Tried:
        """One try. A status of 2xx says that it was delivered; of the URL an error shows the origin alone."""
        posted = self._poster.post(url, headers(body, delivery_id, self._key), body)
        if posted.error is None:
            return Tried()
        return Tried(f"{shown(url)} {posted.error}.", gone=posted.status == GONE)

    def close(self) -> None:
        """Leave the connections to others."""
        self._poster.close()


def shown(url: str) -> str:
    """What may be shown of a receiver's URL, in which each other part may be a secret.

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
