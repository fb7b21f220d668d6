"""The client of the API; its methods have the names of Nango's own client, in snake case."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .connection_calls import ConnectionCalls
from .record_calls import RecordCalls
from .sync_calls import SyncCalls

_SIGNATURE = "x-nango-hmac-sha256"


@dataclass(frozen=True)
class Nango(RecordCalls, SyncCalls, ConnectionCalls):
    """The client of a nango-dagster API; threads may share it, and it keeps its connections open.

    Every error is a NangoError with the server's sentence, its `code` and its `status`: NotFound,
    AuthenticationFailed, ConfigError for an invalid call, Refused for a conflict with stored data, TooManyRequests,
    StoreUnavailable while the server's database is down. A request is sent again after a broken connection, if a
    repetition does no harm, and after a refusal by the API's rate limit.

    >>> Nango("http://localhost:3003", secret_key="s3cret")
    Nango(host='http://localhost:3003')
    """

    def verify_incoming_webhook_request(self, body: str | bytes, headers: Mapping[str, Any]) -> bool:
        """Whether the body of a webhook, as it was received, has a valid signature of the server.

        >>> nango = Nango(webhook_signing_key="s3cret")
        >>> signature = "655f1c656ea95d2720de85c16c8ca4654a9898f7bb0a8b1a25d6e9502e8dabac"
        >>> nango.verify_incoming_webhook_request('{"type":"sync"}', {"X-Nango-Hmac-Sha256": signature})
        True
        >>> nango.verify_incoming_webhook_request('{"type":"auth"}', {"X-Nango-Hmac-Sha256": signature})
        False
        """
        key = self.webhook_signing_key or self.secret_key
        signature = next((value for name, value in headers.items() if name.lower() == _SIGNATURE), None)
        if not key or not isinstance(signature, str):
            return False
        text = body.encode() if isinstance(body, str) else body
        expected = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.encode(errors="replace"))
