"""What an execution's end has to tell becomes a notification in the outbox.

What is announced follows the dataset, not the job: when an execution ends, well or badly, or is found dead, the same
transaction writes a notification of all that has changed since the last one. So none goes out before its data can be
read, and no change stays unannounced, whichever run made it. One that was not delivered yet is merged into the next of
its dataset: after a day away a receiver gets one for each dataset, not hundreds.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, insert, or_, select, tuple_, update

from ..errors import ConfigError
from . import schema, sealing
from .database import Database
from .datasets import Dataset
from .outbox import Kind
from .webhook_settings import Target

OVERRIDE: Final = "webhook_url_override"
"""The key of a connection's config that holds a URL of its own."""
OVERRIDE_OVER_HTTP: Final = "override_came_over_http"
"""The key that says so of it: such a URL may be a stranger's, and not lead everywhere."""

_of = schema.webhooks.c
_datasets = schema.datasets.c
_jobs = schema.jobs.c
_connections = schema.connections.c


@dataclass(frozen=True)
class Ended:
    """An execution that is over, as far as a notification tells of it."""

    job_id: int
    sync_id: int
    sync_name: str
    integration: str
    connection_id: str
    variant: str
    model: str
    succeeded: bool
    error: str | None = None
    """Why it failed; None where it did not, or was cancelled."""


@dataclass(frozen=True)
class OwnUrl:
    """The URL that a connection has notifications sent to, in place of those of the settings."""

    url: str | None = field(repr=False)
    """None where the key is lost that it was encrypted with."""
    over_http: bool = False


class _Receiver(NamedTuple):
    target: Target
    circuit: str


def announce(
    connection: Connection, db: Database, ended: Ended, dataset: Dataset | None, *, overridden: bool | None = None
) -> None:
    """Write what an execution's end has to tell, in the transaction that ends it and under the dataset's lock.

    `overridden` is whether the connection has a URL of its own, where that is known already. What nobody wants to be
    told of now stays with the dataset, and is told of once there is a URL.
    """
    receivers = _receivers(connection, db, ended.integration, ended.connection_id, overridden)
    if not receivers:
        return
    if dataset is not None:
        _announce_changes(connection, db, ended, dataset.id, receivers)
    if ended.error is not None and "failure" in db.webhooks.events:
        started_at = connection.execute(select(_jobs.started_at).where(_jobs.id == ended.job_id)).scalar()
        tells = {"error": ended.error, "started_at": started_at, **_tells_of(connection, ended)}
        for receiver in receivers:
            _take_out(connection, db, "failure", ended, receiver.target)
            _put_in(connection, db, "failure", receiver, tells)


def announce_reauthorisation(connection: Connection, db: Database, integration: str, connection_id: str) -> None:
    """Write that a connection's credentials are good no more, in the transaction that finds so."""
    if "auth" not in db.webhooks.events:
        return
    sentence = "Its credentials were refused three times in a row; its syncs wait for new ones."
    tells = {"integration": integration, "connection_id": connection_id, "error": sentence}
    for receiver in _receivers(connection, db, integration, connection_id, None):
        _put_in(connection, db, "auth", receiver, {**_NO_SYNC, **tells})


def own_urls(db: Database, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], OwnUrl]:
    """The URLs of their own that connections have, by integration and connection."""
    named = tuple_(_connections.integration, _connections.connection_id).in_(names)
    query = select(_connections.integration, _connections.connection_id, _connections.config)
    with db.ask() as connection:
        rows = connection.execute(query.where(named, _connections.config.contains(OVERRIDE, autoescape=True))).all()
    found = {(row.integration, row.connection_id): _own_url_in(row.config, db) for row in rows}
    return {name: own for name, own in found.items() if own is not None}


def _receivers(
    connection: Connection, db: Database, integration: str, connection_id: str, overridden: bool | None
) -> list[_Receiver]:
    """Where a connection's notifications go; its own URL takes the place of those of the settings."""
    if not db.webhooks.events:
        return []
    own = None if overridden is False else _own_url(connection, db, integration, connection_id)
    if own is not None:
        return [_Receiver("primary", hashlib.sha256((own.url or connection_id).encode()).hexdigest()[:32])]
    return [_Receiver(target, target) for target in db.webhooks.targets]


def _own_url(connection: Connection, db: Database, integration: str, connection_id: str) -> OwnUrl | None:
    named = (_connections.integration == integration, _connections.connection_id == connection_id)
    return _own_url_in(connection.execute(select(_connections.config).where(*named)).scalar(), db)


def _own_url_in(config: str | None, db: Database) -> OwnUrl | None:
    if config is None or OVERRIDE not in config:
        return None
    kept = json.loads(config)
    try:
        document = sealing.unseal(kept, db.vault)
    except ConfigError:
        return OwnUrl(None) if OVERRIDE in kept else None
    url = document.get(OVERRIDE)
    return OwnUrl(url, document.get(OVERRIDE_OVER_HTTP) is True) if isinstance(url, str) and url else None


# --- what has changed -----------------------------------------------------------------------------------------------


def _announce_changes(
    connection: Connection, db: Database, ended: Ended, dataset_id: int, receivers: Iterable[_Receiver]
) -> None:
    on = db.webhooks.events
    row = connection.execute(_NEWS.where(_datasets.id == dataset_id)).one()
    since, until = row.announced_until, row.last_modified_at
    is_new = until is not None and (since is None or since < until)
    if not (is_new and on & {"changes", "always"}) and not (ended.succeeded and "always" in on):
        return
    if is_new:
        announced = update(schema.datasets).where(_datasets.id == dataset_id)
        connection.execute(announced.values(announced_until=until, **dict.fromkeys(_PENDING, 0)))
    tells = _tells_of(connection, ended)
    for receiver in receivers:
        older = _take_out(connection, db, "changes", ended, receiver.target)
        _put_in(connection, db, "changes", receiver, {**tells, **_merged(row, older)})


_COUNTS: Final = ("added", "updated", "deleted")
_PENDING: Final = [f"pending_{what}" for what in _COUNTS]
_NEWS = select(_datasets.last_modified_at, _datasets.announced_until, *(_datasets[name] for name in _PENDING))


def _merged(row: Any, older: Sequence[Any]) -> dict[str, Any]:
    """A dataset's news, together with those in notifications that were never delivered; they have all tries again."""
    news = {
        what: sum((getattr(one, what) for one in older), getattr(row, pending))
        for what, pending in zip(_COUNTS, _PENDING, strict=True)
    }
    since = [row.announced_until, *(one.modified_after for one in older)]
    return {**news, "modified_after": None if None in since else min(since)}


# --- the rows -------------------------------------------------------------------------------------------------------

_NO_SYNC: Final = {"variant": "", "sync_name": "", "model": "", "sync_type": "INCREMENTAL"}


def _named(ended: Ended) -> dict[str, str]:
    names = ("integration", "connection_id", "variant", "sync_name", "model")
    return {name: getattr(ended, name) for name in names}


def _tells_of(connection: Connection, ended: Ended) -> dict[str, Any]:
    same = (
        _jobs.sync_id == ended.sync_id,
        _jobs.connection_id == ended.connection_id,
        _jobs.variant == ended.variant,
        _jobs.status == "succeeded",
        _jobs.id < ended.job_id,
    )
    before = connection.execute(select(_jobs.id).where(*same).limit(1)).first()
    return {**_named(ended), "sync_type": "INCREMENTAL" if before else "INITIAL"}


def _take_out(connection: Connection, db: Database, kind: Kind, ended: Ended, target: Target) -> Sequence[Any]:
    """Take out what the next notification replaces; one that is being delivered right now stays."""
    same = [_of[name] == value for name, value in _named(ended).items()]
    free = or_(_of.leased_until.is_(None), _of.leased_until < db.clock())
    statement = delete(schema.webhooks).where(*same, _of.kind == kind, _of.target == target, free)
    found = statement.returning(_of.modified_after, *(_of[what] for what in _COUNTS))
    return connection.execute(found).all()


def _put_in(connection: Connection, db: Database, kind: Kind, receiver: _Receiver, tells: dict[str, Any]) -> None:
    values = {**dict.fromkeys(_COUNTS, 0), **tells, "kind": kind, **receiver._asdict()}
    times = {"created_at": db.clock(), "next_try_at": db.clock()}
    connection.execute(insert(schema.webhooks).values(**values, **times, delivery_id=str(uuid.uuid4())))
