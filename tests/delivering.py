"""Helpers of the tests of webhooks: waiting events, and a clock that moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from nango_dagster.store import Database, schema
from tests.fake_api import Received


def put(db: Database, *connection_ids: str, **fields: Any) -> None:
    """Have a notification wait for each connection; its delivery id is `d-` and the connection's."""
    now = datetime.now(timezone.utc)
    row = {
        **{"kind": "changes", "target": "primary", "circuit": fields.get("target", "primary")},
        **{"integration": "github", "variant": "base", "sync_name": "issues", "model": "Issue"},
        **{"sync_type": "INITIAL", "added": 1, "updated": 0, "deleted": 0, "created_at": now, "next_try_at": now},
        **fields,
    }
    rows = [{**row, "connection_id": name, "delivery_id": f"d-{name}"} for name in connection_ids or ["acme"]]
    with db.begin() as connection:
        connection.execute(sa.insert(schema.webhooks), rows)


def pass_time(db: Database, *, circuits: bool = True) -> None:
    """Have hours pass: each notification is due again, each lease has ended, and each circuit is closed."""
    ago = datetime.now(timezone.utc) - timedelta(hours=1)
    with db.begin() as connection:
        connection.execute(sa.update(schema.webhooks).values(next_try_at=ago, leased_until=None))
        if circuits:
            connection.execute(sa.update(schema.webhook_circuits).values(open_until=ago))


def delivery_ids(requests: Iterable[Received]) -> list[str]:
    """The ids under which they came."""
    return [request.headers["X-Nango-Delivery-Id"] for request in requests]
