"""Jobs: one row for each execution, with what it did and why it stopped."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from sqlalchemy import Connection, Select, and_, delete, func, insert, not_, or_, select, update

from . import schema
from .database import Database
from .queue import Claim
from .sync_row import SyncRow
from .target import Target

Status = Literal["running", "succeeded", "failed", "cancelled"]

_table = schema.jobs
_of = schema.jobs.c
_PURGED_AT_ONCE = 500  # parameters, and an old SQLite takes 999


@dataclass(frozen=True)
class Counts:
    """The numbers of an execution."""

    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: int = 0
    fetched: int = 0
    pages: int = 0
    requests: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Job:
    """One execution of a sync for one connection and variant."""

    id: int
    sync_id: int
    sync_name: str
    connection_id: str
    variant: str
    model: str
    run_id: str | None
    status: Status
    started_at: datetime
    ended_at: datetime | None
    error_message: str | None
    error_stack: str | None
    attempt: int
    updated_row_count: int | None
    added: int
    updated: int
    deleted: int
    unchanged: int
    rejected: int
    fetched: int
    pages: int
    requests: int
    retries: int
    stop_reason: str | None
    warnings: list[str]


# The names that differ between the table, which people query, and Python.
_COLUMN_OF = {
    "sync_name": "sync_friendly_name",
    "pages": "page_count",
    "requests": "request_count",
    "retries": "retry_count",
    **{name: f"{name}_count" for name in ("added", "updated", "deleted", "unchanged", "rejected", "fetched")},
}
COLUMNS = [_of[_COLUMN_OF.get(name, name)].label(name) for name in Job.__dataclass_fields__]


def start(connection: Connection, db: Database, claim: Claim, sync_row: SyncRow, run_id: str | None) -> int:
    """Record that an execution begins; returns the id of its job.

    The job's attempt is one more than the number of executions before it that failed in a row.
    """
    made = connection.execute(
        insert(_table).values(
            sync_id=claim.sync_id,
            sync_friendly_name=sync_row.sync.display_name,
            connection_id=claim.connection_id,
            variant=claim.variant,
            model=sync_row.sync.model,
            run_id=run_id,
            worker_id=claim.worker_id,
            fence=claim.fence,
            status="running",
            attempt=1 + claim.failures,
            started_at=db.clock(),
        )
    )
    assert made.inserted_primary_key is not None
    job_id: int = made.inserted_primary_key[0]
    return job_id


def progress(connection: Connection, job_id: int, counts: Counts) -> None:
    """Record the counts of a running execution, so that the job of a lost one has them."""
    connection.execute(update(_table).where(_of.id == job_id).values(_counts(counts)))


@dataclass(frozen=True)
class End:
    """The end of an execution: its status (`succeeded`, `failed` or `cancelled`), reason, warnings and error."""

    status: str
    stop_reason: str | None = None
    warnings: Sequence[str] = ()
    error: str | None = None
    stack: str | None = None


def finish(connection: Connection, db: Database, job_id: int, counts: Counts, end: End) -> None:
    """Record the end of an execution."""
    updated = counts.added + counts.updated + counts.deleted
    connection.execute(
        update(_table)
        .where(_of.id == job_id)
        .values(
            status=end.status,
            ended_at=db.clock(),
            error_message=_storable(end.error),
            error_stack=_storable(end.stack),
            stop_reason=end.stop_reason,
            warnings=json.dumps(list(end.warnings)),
            updated_row_count=updated if end.status == "succeeded" else None,
            **_counts(counts),
        )
    )


def _counts(counts: Counts) -> dict[str, int]:
    return {_COLUMN_OF[name]: getattr(counts, name) for name in Counts.__dataclass_fields__}


def _storable(text: str | None) -> str | None:
    """A text that both databases can store: an API's answer may contain NUL or half a surrogate pair."""
    return text and text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def list_jobs(
    db: Database,
    sync_id: int | None = None,
    *,
    connection_id: str | None = None,
    variant: str | None = None,
    limit: int = 100,
) -> list[Job]:
    """The last jobs, of one sync, connection or variant where they are named; the newest first."""
    query = select(*COLUMNS).order_by(_of.id.desc()).limit(limit)
    for column, name in ((_of.sync_id, sync_id), (_of.connection_id, connection_id), (_of.variant, variant)):
        if name is not None:
            query = query.where(column == name)
    return _read(db, query)


def latest(db: Database, sync_ids: Collection[int] | None = None) -> dict[Target, Job]:
    """The last job of each schedule of these syncs, or of all, that has had one."""
    of = schema.schedules.c
    query = select(*COLUMNS).select_from(schema.schedules).join(_table, _of.id == newest(schema.schedules))
    if sync_ids is not None:
        query = query.where(of.sync_id.in_(sync_ids))
    return {Target.of(job): job for job in _read(db, query)}


CUT_SHORT = ("max_total", "max_pages", "empty_pages", "more_left", "skipped", "paging_not_found")
"""Stop reasons of a list that may have more records."""


def _is_whole(of: Any) -> Any:
    """The condition that an execution read the whole list, as far as the API said."""
    return or_(of.stop_reason.is_(None), of.stop_reason.not_in(CUT_SHORT))


def newest(named: Any) -> Any:
    """The subquery for the id of a row's newest job, by its target: one index look-up for each row."""
    of = _table.alias("newest").c
    same = and_(of.sync_id == named.c.sync_id, of.connection_id == named.c.connection_id, of.variant == named.c.variant)
    return select(func.max(of.id)).where(same).correlate(named).scalar_subquery()


def _next_success() -> Any:
    """The id of the next success of a job's target that read as much of the list as the job; NULL for none.

    Each job is compared with its next success only, so that the cost is linear in the number of jobs.
    """
    of = _table.alias("next_success").c
    same = and_(of.sync_id == _of.sync_id, of.connection_id == _of.connection_id, of.variant == _of.variant)
    as_much = or_(_is_whole(of), not_(_is_whole(_of)))
    query = select(of.id).where(same, of.id > _of.id, of.status == "succeeded", as_much).order_by(of.id).limit(1)
    return query.correlate(_table).scalar_subquery()


def _read(db: Database, query: Select[Any]) -> list[Job]:
    with db.connect() as connection:
        rows = connection.execute(query).all()
    return [Job(**{**row._mapping, "warnings": json.loads(row.warnings)}) for row in rows]


def replace_warnings(connection: Connection, target: Target, before: Sequence[str], after: Sequence[str]) -> None:
    """Replace the warnings of the target's last job that ceased to be true when its rows changed after the job."""
    same = (_of.sync_id == target.sync_id, _of.connection_id == target.connection_id, _of.variant == target.variant)
    job = connection.execute(select(_of.id, _of.warnings).where(*same).order_by(_of.id.desc()).limit(1)).first()
    warnings = [] if job is None else json.loads(job.warnings)
    if job is not None and set(before) & set(warnings):
        text = json.dumps([*(one for one in warnings if one not in before), *after])
        connection.execute(update(_table).where(_of.id == job.id).values(warnings=text))


def purge(db: Database, older_than: timedelta) -> int:
    """Delete jobs that ended longer ago than this, but never the last one of a schedule; how many.

    The last success stays, too, and the last one that no limit cut short: a sync that fails for long still knows since
    when, and where to read from. Old jobs are found without a lock and deleted some hundred at a time, so that nobody
    waits for long.
    """
    replaced = or_(_of.status != "succeeded", _next_success().is_not(None))
    count, after = 0, 0
    while True:
        old = and_(_of.id > after, _of.ended_at < db.clock(older_than), _of.id < newest(_table), replaced)
        with db.connect() as connection:
            ids = connection.execute(select(_of.id).where(old).order_by(_of.id).limit(_PURGED_AT_ONCE)).scalars().all()
        if not ids:
            return count
        after = ids[-1]
        count += db.transact(partial(_delete, ids=ids))


def _delete(connection: Connection, ids: Sequence[int]) -> int:
    return connection.execute(delete(_table).where(_of.id.in_(ids))).rowcount
