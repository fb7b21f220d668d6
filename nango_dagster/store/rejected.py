"""Rejected records: kept with their text and reason until they can be stored, at most MOST_REJECTIONS of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from . import schema
from .database import Database
from .tally import MOST_REJECTIONS, Rejection

_of = schema.rejected.c


@dataclass(frozen=True)
class RejectedRecord:
    """One record that could not be stored; `text` is None where it was not kept."""

    dataset_id: int
    identity: str
    place: str
    external_id: str | None
    text: bytes | None
    reason: str
    first_seen_at: datetime
    last_seen_at: datetime


def of_datasets(database: Database, dataset_ids: Sequence[int]) -> list[RejectedRecord]:
    """The rejected records of these datasets, the latest first."""
    query = select(*(_of[name] for name in RejectedRecord.__dataclass_fields__)).where(_of.dataset_id.in_(dataset_ids))
    with database.ask() as connection:
        rows = connection.execute(query.order_by(_of.last_seen_at.desc(), _of.identity)).all()
    return [RejectedRecord(*row) for row in rows]


def count(connection: Connection, dataset_id: int) -> int:
    """How many rejected records of a dataset are kept."""
    query = select(func.count()).select_from(schema.rejected).where(_of.dataset_id == dataset_id)
    return int(connection.execute(query).scalar_one())


def store(
    connection: Connection,
    dataset_id: int,
    rejections: Sequence[Rejection],
    now: datetime,
    read: Callable[[Sequence[str]], Sequence[str]] | None,
) -> None:
    """Note the rejected records of an execution, and remove those of before that were read without being rejected.

    `read` gives those of some keys that the execution has read; None when it has read the whole list.
    """
    again = {_identity(rejection): rejection for rejection in rejections}
    query = select(_of.identity, _of.external_id).where(_of.dataset_id == dataset_id)
    kept = {identity: key for identity, key in connection.execute(query)}
    _remove(connection, dataset_id, [identity for identity in _passed(kept, read) if identity not in again])
    if not again:
        return
    for identity in again.keys() & kept.keys():
        here = update(schema.rejected).where(_of.dataset_id == dataset_id, _of.identity == identity)
        connection.execute(here.values(reason=again[identity].reason, last_seen_at=now, text=again[identity].text))
    room = MOST_REJECTIONS - count(connection, dataset_id)
    new = [
        {
            "dataset_id": dataset_id,
            "identity": identity,
            "place": rejection.place,
            "external_id": rejection.key,
            "text": rejection.text,
            "reason": rejection.reason,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for identity, rejection in again.items()
        if identity not in kept
    ][: max(0, room)]
    if new:
        connection.execute(insert(schema.rejected), new)


def renew(connection: Connection, record: RejectedRecord, again: Rejection | None, now: datetime) -> None:
    """Remove a record that was stored at last, or note why it was rejected again."""
    here = (_of.dataset_id == record.dataset_id, _of.identity == record.identity)
    if again is None:
        connection.execute(delete(schema.rejected).where(*here))
    else:
        connection.execute(update(schema.rejected).where(*here).values(reason=again.reason, last_seen_at=now))


def _passed(kept: dict[str, str | None], read: Callable[[Sequence[str]], Sequence[str]] | None) -> list[str]:
    """The identities of kept records that the execution has read, or that are not in the list any more."""
    if read is None:
        return list(kept)
    were_read = set(read([key for key in kept.values() if key is not None]))
    return [identity for identity, key in kept.items() if key in were_read]


def _remove(connection: Connection, dataset_id: int, identities: Sequence[str]) -> None:
    if identities:
        connection.execute(delete(schema.rejected).where(_of.dataset_id == dataset_id, _of.identity.in_(identities)))


def _identity(rejection: Rejection) -> str:
    """The identity of a rejected record in its dataset: its key, else its text, else its place."""
    if rejection.key is not None:
        return json.dumps(rejection.key)
    if rejection.text is not None:
        return hashlib.blake2b(rejection.text, digest_size=16).hexdigest()
    return rejection.place
