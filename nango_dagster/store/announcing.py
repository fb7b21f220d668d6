"""Write notifications into the outbox when an execution ends or a connection's credentials are refused.

A notification tells of a dataset's changes, not of a job's: the transaction that ends an execution, successful, failed
or lost, writes a notification of all changes since the last one. So no notification is sent before its data can be
read, and no change stays unannounced, whichever run made it. A notification that was not delivered yet is merged into
the next one of its dataset: after a day offline a receiver gets one for each dataset, not hundreds.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, delete, insert, or_, select, tuple_, update

from ..errors import ConfigError
from . import schema, sealing
from .checkpoints import Change
from .database import Database
from .datasets import Dataset
from .outbox import Kind
from .webhook_settings import Target

OVERRIDE: Final = "webhook_url_override"
"""The key of a connection's config that holds its own webhook URL."""
WebhookUrlSource = Literal["http", "operator"]
"""The source of a connection's own webhook URL: the HTTP API, whose caller may be a stranger, or the operator.

A URL from the HTTP API must not reach every host.
"""

_of = schema.webhooks.c
_datasets = schema.datasets.c
_jobs = schema.jobs.c
_connections = schema.connections.c
_URL_COLUMNS: Final = (_connections.config, _connections.webhook_url_source)
_HAS_URL: Final = _connections.webhook_url_source.is_not(None)


@dataclass(frozen=True)
class Ended:
    """An execution that has ended, with the fields that a notification needs."""

    job_id: int
    sync_id: int
    sync_name: str
    integration: str
    connection_id: str
    variant: str
    model: str
    succeeded: bool
    error: str | None = None
    """Why it failed; None when it succeeded or was cancelled."""
    checkpoint: Change | None = None
    """How the checkpoint changed; None where it did not."""


@dataclass(frozen=True)
class OwnUrl:
    """A connection's own webhook URL, which takes the place of those of the settings."""

    url: str | None = field(repr=False)
    """None when it cannot be decrypted because the key is missing."""
    source: WebhookUrlSource


class _Receiver(NamedTuple):
    target: Target
    circuit: str


def announce(
    connection: Connection, db: Database, ended: Ended, dataset: Dataset | None, *, overridden: bool | None = None
) -> None:
    """Write the notifications of an execution's end, in the transaction that ends it and under the dataset's lock.

    `overridden` is whether the connection has its own URL, where the caller knows that. Without any URL the changes
    stay counted on the dataset, and are announced once there is one.
    """
    receivers = _receivers(connection, db, ended.integration, ended.connection_id, overridden)
    if not receivers:
        return
    if dataset is not None:
        _announce_changes(connection, db, ended, dataset.id, receivers)
    if ended.error is not None and "failure" in db.webhooks.events:
        started_at = connection.execute(select(_jobs.started_at).where(_jobs.id == ended.job_id)).scalar()
        content = {"error": ended.error, "started_at": started_at, **_content_of(connection, ended)}
        for receiver in receivers:
            _delete_older(connection, db, "failure", ended, receiver.target)
            _insert(connection, db, "failure", receiver, content)


def announce_reauthorisation(connection: Connection, db: Database, integration: str, connection_id: str) -> None:
    """Write that a connection needs new credentials, in the transaction that finds out."""
    if "auth" not in db.webhooks.events:
        return
    sentence = "Its credentials were refused three times in a row; its syncs wait for new ones."
    content = {**_NO_SYNC, "integration": integration, "connection_id": connection_id, "error": sentence}
    for receiver in _receivers(connection, db, integration, connection_id, None):
        _insert(connection, db, "auth", receiver, content)


def own_urls(db: Database, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], OwnUrl]:
    """The own webhook URLs of these connections, by integration and connection; those without one are left out."""
    named = tuple_(_connections.integration, _connections.connection_id).in_(names)
    columns = (_connections.integration, _connections.connection_id, *_URL_COLUMNS)
    with db.ask() as connection:
        rows = connection.execute(select(*columns).where(named, _HAS_URL)).all()
    return {(row.integration, row.connection_id): _decrypted(row, db) for row in rows}


def _receivers(
    connection: Connection, db: Database, integration: str, connection_id: str, overridden: bool | None
) -> list[_Receiver]:
    """The receivers of a connection's notifications; its own URL takes the place of those of the settings."""
    if not db.webhooks.events:
        return []
    own = None if overridden is False else _own_url(connection, db, integration, connection_id)
    if own is not None:
        return [_Receiver("primary", hashlib.sha256((own.url or connection_id).encode()).hexdigest()[:32])]
    return [_Receiver(target, target) for target in db.webhooks.targets]


def _own_url(connection: Connection, db: Database, integration: str, connection_id: str) -> OwnUrl | None:
    named = (_connections.integration == integration, _connections.connection_id == connection_id)
    row = connection.execute(select(*_URL_COLUMNS).where(*named, _HAS_URL)).one_or_none()
    return None if row is None else _decrypted(row, db)


def _decrypted(row: Any, db: Database) -> OwnUrl:
    """The URL of a row with `_URL_COLUMNS`."""
    try:
        return OwnUrl(sealing.unseal(json.loads(row.config), db.vault)[OVERRIDE], row.webhook_url_source)
    except ConfigError:
        return OwnUrl(None, row.webhook_url_source)


# --- changes --------------------------------------------------------------------------------------------------------


def _announce_changes(
    connection: Connection, db: Database, ended: Ended, dataset_id: int, receivers: Iterable[_Receiver]
) -> None:
    on = db.webhooks.events
    row = connection.execute(_CHANGES.where(_datasets.id == dataset_id)).one()
    since, until = row.announced_until, row.last_modified_at
    is_new = until is not None and (since is None or since < until)
    if not (is_new and on & {"changes", "always"}) and not (ended.succeeded and "always" in on):
        return
    if is_new:
        announced = update(schema.datasets).where(_datasets.id == dataset_id)
        connection.execute(announced.values(announced_until=until, **dict.fromkeys(_PENDING, 0)))
    content = _content_of(connection, ended)
    for receiver in receivers:
        older = _delete_older(connection, db, "changes", ended, receiver.target)
        _insert(connection, db, "changes", receiver, {**content, **_merged(row, older, content)})


_COUNTS: Final = ("added", "updated", "deleted")
_PENDING: Final = [f"pending_{count}" for count in _COUNTS]
_CHANGES = select(_datasets.last_modified_at, _datasets.announced_until, *(_datasets[name] for name in _PENDING))


def _merged(row: Any, older: Sequence[Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A dataset's new changes together with those of notifications that were not delivered."""
    counts = {
        count: sum((getattr(notification, count) for notification in older), getattr(row, pending))
        for count, pending in zip(_COUNTS, _PENDING, strict=True)
    }
    since = [row.announced_until, *(notification.modified_after for notification in older)]
    changes = {**counts, "modified_after": None if None in since else min(since)}
    with_checkpoint = [notification for notification in older if notification.checkpoint_from is not None]
    if with_checkpoint:
        changes["checkpoint_from"] = min(with_checkpoint, key=lambda notification: notification.id).checkpoint_from
        last = max(with_checkpoint, key=lambda notification: notification.id)
        changes["checkpoint_to"] = content.get("checkpoint_to") or last.checkpoint_to
    return changes


# --- the rows -------------------------------------------------------------------------------------------------------

_NO_SYNC: Final = {"variant": "", "sync_name": "", "model": "", "sync_type": "INCREMENTAL"}


def _names(ended: Ended) -> dict[str, str]:
    names = ("integration", "connection_id", "variant", "sync_name", "model")
    return {name: getattr(ended, name) for name in names}


def _content_of(connection: Connection, ended: Ended) -> dict[str, Any]:
    """The columns that name the sync, and whether this is its first successful execution."""
    successes = (
        _jobs.sync_id == ended.sync_id,
        _jobs.connection_id == ended.connection_id,
        _jobs.variant == ended.variant,
        _jobs.status == "succeeded",
        _jobs.id < ended.job_id,
    )
    earlier = connection.execute(select(_jobs.id).where(*successes).limit(1)).first()
    content = {**_names(ended), "sync_type": "INCREMENTAL" if earlier else "INITIAL"}
    if ended.checkpoint is not None:
        content["checkpoint_from"] = json.dumps(ended.checkpoint.before)
        content["checkpoint_to"] = json.dumps(ended.checkpoint.after)
    return content


def _delete_older(connection: Connection, db: Database, kind: Kind, ended: Ended, target: Target) -> Sequence[Any]:
    """Delete the notifications that the next one replaces, and return them; one that is being delivered stays."""
    same = [_of[name] == value for name, value in _names(ended).items()]
    free = or_(_of.leased_until.is_(None), _of.leased_until < db.clock())
    statement = delete(schema.webhooks).where(*same, _of.kind == kind, _of.target == target, free)
    columns = (_of.id, _of.modified_after, _of.checkpoint_from, _of.checkpoint_to, *(_of[count] for count in _COUNTS))
    deleted = statement.returning(*columns)
    return connection.execute(deleted).all()


def _insert(connection: Connection, db: Database, kind: Kind, receiver: _Receiver, content: dict[str, Any]) -> None:
    values = {**dict.fromkeys(_COUNTS, 0), **content, "kind": kind, **receiver._asdict()}
    times = {"created_at": db.clock(), "next_try_at": db.clock()}
    connection.execute(insert(schema.webhooks).values(**values, **times, delivery_id=str(uuid.uuid4())))
