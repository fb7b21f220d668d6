"""The outbox: notifications that have not been delivered yet.

announcing.py writes a notification as one row for each URL. A process that delivers it holds a lease on the row; when
the process dies, another one delivers the notification again, under the same id. A failed delivery is tried again over
more than a day; then the notification is dead, until somebody has it delivered again. All notifications for one
receiver share a *circuit*. After some failures in a row the circuit opens: nothing is sent to that receiver for a
while, and then one notification alone tries it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Select, case, delete, func, or_, select, update

from . import schema
from .database import Database
from .webhook_settings import Target

Kind = Literal["changes", "failure", "auth"]
State = Literal["pending", "dead"]

BACKOFF: Final = tuple(timedelta(seconds=s) for s in (10, 30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200))
"""The time from each try to the next one, give or take a tenth; after the last try the notification is dead."""
CIRCUIT_FAILURES: Final = 5
"""The number of failed tries in a row after which a receiver's circuit opens."""
CIRCUIT: Final = timedelta(minutes=1)
"""How long a circuit stays open."""

PATIENCE: Final = 3.0
"""Seconds that a claim waits for SQLite's write lock."""

_table = schema.webhooks
_of = schema.webhooks.c
_circuits = schema.webhook_circuits


@dataclass(frozen=True)
class Delivery:
    """One notification for one URL."""

    id: int
    delivery_id: str
    """A UUID, the same on every try."""
    kind: Kind
    target: Target
    """The URL of the settings that it goes to; a connection's own URL takes the place of the primary one."""
    circuit: str
    """The name of the receiver's circuit."""
    integration: str
    connection_id: str
    variant: str
    sync_name: str
    model: str
    """Empty for the kind `auth`, which is about a connection."""
    sync_type: Literal["INITIAL", "INCREMENTAL"]
    added: int
    updated: int
    deleted: int
    modified_after: datetime | None
    """The notification covers the changes after this time; None means all changes."""
    checkpoint_from: str | None
    """The checkpoint before and after, as JSON; None where no execution changed it."""
    checkpoint_to: str | None
    error: str | None
    started_at: datetime | None
    created_at: datetime
    attempts: int
    """The number of tries, including this one."""


@dataclass(frozen=True)
class Result:
    """The result of one try to deliver a notification."""

    delivery: Delivery
    error: str | None = None
    """Why it was not delivered; None when it was."""
    gone: bool = False
    """Whether the receiver answered that it will never accept a notification again."""


@dataclass(frozen=True)
class Listed:
    """A notification with its state in the outbox."""

    delivery: Delivery
    state: State
    next_try_at: datetime
    last_error: str | None


_DELIVERY = [_of[name] for name in Delivery.__dataclass_fields__]


# --- delivering -----------------------------------------------------------------------------------------------------


def claim(
    db: Database, free: int, lease: timedelta, busy: Mapping[str, int] | None = None, *, quick: bool = False
) -> list[Delivery]:
    """Claim up to `free` due notifications, the oldest first; no other process gets them until the lease ends.

    No receiver can use all places: a circuit gets another notification only while more places are free than it has
    notifications, so the first has at most half of all, the second half of the rest, and so on. `busy` is the number
    that each circuit has already. A circuit that was open gets one notification alone. A `quick` claim does not search
    for other receivers behind a circuit that has its share, because that reads everything that is due there.

    Raises Busy when SQLite's write lock is not free within PATIENCE.
    """
    shares = Counter(busy)
    with db.ask() as connection:  # usually nothing is due, and a question costs less than a transaction
        if free < 1 or connection.execute(_due(db, 1, _full(shares, free))).first() is None:
            return []
    return db.transact(lambda connection: _claim(connection, db, free, lease, shares.copy(), quick), PATIENCE)


def _full(shares: Mapping[str, int], free: int) -> set[str]:
    """The circuits that get no other notification while only `free` places are left."""
    return {circuit for circuit, number in shares.items() if number >= free}


def _due(db: Database, limit: int, excluded: Collection[str]) -> Select[Any]:
    """Select the due notifications of all circuits that are neither open nor `excluded`."""
    open_ = select(_circuits.c.circuit).where(_circuits.c.open_until > db.clock())
    failing = select(_circuits.c.circuit).where(_circuits.c.failures >= CIRCUIT_FAILURES)
    free = or_(_of.leased_until.is_(None), _of.leased_until < db.clock())
    due = select(_of.id, _of.circuit, _of.circuit.in_(failing).label("was_open"))
    due = due.where(_of.state == "pending", _of.next_try_at <= db.clock(), free, _of.circuit.not_in(open_))
    if excluded:
        due = due.where(_of.circuit.not_in(excluded))
    return due.order_by(_of.next_try_at, _of.id).limit(limit)


def _claim(
    connection: Connection, db: Database, free: int, lease: timedelta, shares: Counter[str], quick: bool
) -> list[Delivery]:
    """Claim due notifications in their order, and search again without the circuits that have their share."""
    claimed: list[Delivery] = []
    full = _full(shares, free)
    while free:
        rows = connection.execute(_due(db, free, full).with_for_update(skip_locked=True)).all()
        tried_alone = {row.circuit for row in rows if row.was_open}
        unused = {circuit for circuit in tried_alone if not shares[circuit]}
        full |= tried_alone - _reserve_open(connection, db, unused, lease)
        ids: list[int] = []
        for row in rows:
            if row.circuit not in full:
                ids.append(row.id)
                shares[row.circuit] += 1
                full |= _full(shares, free - len(ids)) | ({row.circuit} & tried_alone)
        leased = update(_table).where(_of.id.in_(ids))
        leased = leased.values(leased_until=db.clock(-lease), attempts=_of.attempts + 1)
        claimed += [Delivery(*row) for row in connection.execute(leased.returning(*_DELIVERY))]
        free = free - len(ids) if len(rows) == free and not (quick and ids) else 0
    return sorted(claimed, key=lambda delivery: delivery.id)


def _reserve_open(connection: Connection, db: Database, circuits: Collection[str], lease: timedelta) -> set[str]:
    """Reserve circuits that were open for one try; returns those that no other process has reserved.

    A reserved circuit is open for all other processes until the lease ends.
    """
    if not circuits:
        return set()
    closed = select(_circuits.c.circuit).where(_circuits.c.circuit.in_(circuits), _circuits.c.open_until <= db.clock())
    reserved = update(_circuits).where(_circuits.c.circuit.in_(closed.with_for_update(skip_locked=True)))
    reserved = reserved.values(open_until=db.clock(-lease))
    return set(connection.execute(reserved.returning(_circuits.c.circuit)).scalars())


def record(db: Database, results: Sequence[Result], *, patience: float | None = None) -> None:
    """Record the results of these tries: delivered notifications are deleted, the others are tried again later.

    With `patience` (seconds), Busy is raised when SQLite's write lock is not free in time.
    """
    if results:
        db.transact(lambda connection: _record(connection, db, results), patience)


def _record(connection: Connection, db: Database, results: Sequence[Result]) -> None:
    circuits = _circuits_of(connection, results)
    delivered = [result.delivery.id for result in results if result.error is None]
    connection.execute(delete(_table).where(_of.id.in_(delivered)))
    for result in results:
        if result.error is not None:
            _postpone(connection, db, result)
    for circuit in sorted(set(circuits.values())):
        own = [result for result in results if circuits.get(result.delivery.id) == circuit]
        failed = all(result.error is not None for result in own)
        _count_failures(connection, db, circuit, failed=failed, times=len(own))


def _circuits_of(connection: Connection, results: Sequence[Result]) -> dict[int, str]:
    ids = [result.delivery.id for result in results]
    return {row.id: row.circuit for row in connection.execute(select(_of.id, _of.circuit).where(_of.id.in_(ids)))}


def _postpone(connection: Connection, db: Database, result: Result) -> None:
    """Set the time of the next try; nothing is changed when another process has begun a later try meanwhile."""
    attempts = result.delivery.attempts
    is_dead = result.gone or attempts > len(BACKOFF)
    wait = BACKOFF[min(attempts, len(BACKOFF)) - 1] * random.uniform(0.9, 1.1)
    connection.execute(
        update(_table)
        .where(_of.id == result.delivery.id, _of.attempts == attempts)
        .values(
            state="dead" if is_dead else "pending",
            next_try_at=db.clock(-wait),
            leased_until=None,
            last_error=result.error,
        )
    )


def _count_failures(connection: Connection, db: Database, circuit: str, *, failed: bool, times: int) -> None:
    """Count a receiver's failures in a row; CIRCUIT_FAILURES of them, and each one after that, open its circuit."""
    if not failed:
        connection.execute(delete(_circuits).where(_circuits.c.circuit == circuit))
        return
    insert = db.insert(_circuits)
    failures = _circuits.c.failures + times
    until = db.clock(-CIRCUIT)
    connection.execute(
        insert.values(
            circuit=circuit, failures=times, open_until=until if times >= CIRCUIT_FAILURES else None
        ).on_conflict_do_update(
            index_elements=[_circuits.c.circuit],
            set_={
                "failures": failures,
                "open_until": case((failures >= CIRCUIT_FAILURES, until), else_=_circuits.c.open_until),
            },
        )
    )


# --- listing -------------------------------------------------------------------------------------------------------


def listed(db: Database, *, state: State | None = None, limit: int = 100) -> list[Listed]:
    """The notifications that were not delivered, in the order of their next try; dead ones last."""
    query = select(*_DELIVERY, _of.state, _of.next_try_at, _of.last_error)
    if state is not None:
        query = query.where(_of.state == state)
    with db.ask() as connection:
        rows = connection.execute(query.order_by(_of.state.desc(), _of.next_try_at, _of.id).limit(limit)).all()
    return [Listed(Delivery(*row[:-3]), *row[-3:]) for row in rows]


def redeliver(db: Database, ids: Collection[int] | None = None) -> int:
    """Deliver dead notifications again, all of them unless `ids` are given; returns how many there are."""
    pending = update(_table).where(_of.state == "dead")
    if ids is not None:
        pending = pending.where(_of.id.in_(ids))
    pending = pending.values(state="pending", attempts=0, next_try_at=db.clock())
    return db.transact(lambda connection: connection.execute(pending).rowcount)


def known(db: Database, ids: Collection[int]) -> set[int]:
    """Those of these ids that are in the outbox; a delivered notification is not."""
    with db.ask() as connection:
        return set(connection.execute(select(_of.id).where(_of.id.in_(ids))).scalars())


def depth(db: Database) -> dict[State, int]:
    """The numbers of pending and of dead notifications."""
    query = select(_of.state, func.count()).group_by(_of.state)
    with db.ask() as connection:
        counts: dict[State, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {"pending": 0, "dead": 0, **counts}
