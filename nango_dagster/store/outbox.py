"""The outbox: notifications that wait until their receivers have them.

A notification is a row for each URL that it goes to; announcing.py writes it. Who delivers it holds a lease; when he
dies, it is delivered again, under the same id. One that fails is tried again over more than a day, then it is dead and
waits for somebody who asks for it. All that goes to one receiver shares a *circuit*. One that fails again and again is
left alone for a while: its circuit opens, and then one notification tries it alone.
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
"""How long after each try the next one comes, give or take a tenth; after the last the notification is dead."""
CIRCUIT_FAILURES: Final = 5
"""So many tries in a row fail, and a receiver is left alone."""
CIRCUIT: Final = timedelta(minutes=1)
"""For so long."""

PATIENCE: Final = 3.0
"""So many seconds a claim waits on SQLite for who writes."""

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
    """Which URL of the settings; a connection's own takes the place of the primary."""
    circuit: str
    """What is the same for all that goes to one receiver."""
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
    """The changes are those after this time; None for all there are."""
    error: str | None
    started_at: datetime | None
    created_at: datetime
    attempts: int
    """This one included."""


@dataclass(frozen=True)
class Result:
    """What came of a try to deliver."""

    delivery: Delivery
    error: str | None = None
    """Why it was not delivered; None where it was."""
    gone: bool = False
    """Whether the receiver said that it will never take one again."""


@dataclass(frozen=True)
class Listed:
    """A notification as it stands in the outbox."""

    delivery: Delivery
    state: State
    next_try_at: datetime
    last_error: str | None


_DELIVERY = [_of[name] for name in Delivery.__dataclass_fields__]


# --- delivering -----------------------------------------------------------------------------------------------------


def claim(
    db: Database, free: int, lease: timedelta, busy: Mapping[str, int] | None = None, *, quick: bool = False
) -> list[Delivery]:
    """Up to so many notifications that are due, the longest due first; nobody else gets them while the lease lasts.

    So that no receiver takes the place of others, one more goes to a circuit only while more are free than it has:
    half of all at most, half of the rest for the second, and so on. `busy` says how many each has already. A circuit
    that was open is tried by one alone. A `quick` claim does not look for others behind a circuit that gets all it may
    have: that reads whatever else is due there.

    On SQLite it waits only for so long for who writes. Raises Busy after that.
    """
    has = Counter(busy)
    with db.ask() as connection:  # a look costs less than a transaction, and mostly there is nothing
        if free < 1 or connection.execute(_due(db, 1, _full(has, free))).first() is None:
            return []
    return db.transact(lambda connection: _claim(connection, db, free, lease, has.copy(), quick), PATIENCE)


def _full(has: Mapping[str, int], free: int) -> set[str]:
    return {circuit for circuit, number in has.items() if number >= free}


def _due(db: Database, limit: int, left_out: Collection[str]) -> Select[Any]:
    """What is due, without these circuits and those that are open, and whether its circuit was open."""
    open_ = select(_circuits.c.circuit).where(_circuits.c.open_until > db.clock())
    failing = select(_circuits.c.circuit).where(_circuits.c.failures >= CIRCUIT_FAILURES)
    free = or_(_of.leased_until.is_(None), _of.leased_until < db.clock())
    due = select(_of.id, _of.circuit, _of.circuit.in_(failing).label("was_open"))
    due = due.where(_of.state == "pending", _of.next_try_at <= db.clock(), free, _of.circuit.not_in(open_))
    if left_out:
        due = due.where(_of.circuit.not_in(left_out))
    return due.order_by(_of.next_try_at, _of.id).limit(limit)


def _claim(
    connection: Connection, db: Database, free: int, lease: timedelta, has: Counter[str], quick: bool
) -> list[Delivery]:
    """Take what is due in its order; a circuit that has its share is left out of the next look."""
    found: list[Delivery] = []
    full = _full(has, free)
    while free:
        rows = connection.execute(_due(db, free, full).with_for_update(skip_locked=True)).all()
        alone = {row.circuit for row in rows if row.was_open}
        full |= alone - _try_alone(connection, db, {circuit for circuit in alone if not has[circuit]}, lease)
        ids: list[int] = []
        for row in rows:
            if row.circuit not in full:
                ids.append(row.id)
                has[row.circuit] += 1
                full |= _full(has, free - len(ids)) | ({row.circuit} & alone)
        taken = update(_table).where(_of.id.in_(ids))
        taken = taken.values(leased_until=db.clock(-lease), attempts=_of.attempts + 1)
        found += [Delivery(*row) for row in connection.execute(taken.returning(*_DELIVERY))]
        free = free - len(ids) if len(rows) == free and not (quick and ids) else 0
    return sorted(found, key=lambda one: one.id)


def _try_alone(connection: Connection, db: Database, circuits: Collection[str], lease: timedelta) -> set[str]:
    """Those of these circuits that nobody else tries; for everybody else they are open until the lease ends."""
    if not circuits:
        return set()
    closed = select(_circuits.c.circuit).where(_circuits.c.circuit.in_(circuits), _circuits.c.open_until <= db.clock())
    mine = update(_circuits).where(_circuits.c.circuit.in_(closed.with_for_update(skip_locked=True)))
    mine = mine.values(open_until=db.clock(-lease))
    return set(connection.execute(mine.returning(_circuits.c.circuit)).scalars())


def record(db: Database, results: Sequence[Result], *, patience: float | None = None) -> None:
    """Note what came of these tries: what was delivered leaves the outbox, the rest is tried again later.

    With `patience` it waits so many seconds on SQLite for who writes, and raises Busy after that.
    """
    if results:
        db.transact(lambda connection: _record(connection, db, results), patience)


def _record(connection: Connection, db: Database, results: Sequence[Result]) -> None:
    circuits = _circuits_of(connection, results)
    delivered = [one.delivery.id for one in results if one.error is None]
    connection.execute(delete(_table).where(_of.id.in_(delivered)))
    for one in results:
        if one.error is not None:
            _put_off(connection, db, one)
    for circuit in sorted(set(circuits.values())):
        those = [one for one in results if circuits.get(one.delivery.id) == circuit]
        _count(connection, db, circuit, failed=all(one.error is not None for one in those), times=len(those))


def _circuits_of(connection: Connection, results: Sequence[Result]) -> dict[int, str]:
    ids = [one.delivery.id for one in results]
    return {row.id: row.circuit for row in connection.execute(select(_of.id, _of.circuit).where(_of.id.in_(ids)))}


def _put_off(connection: Connection, db: Database, result: Result) -> None:
    """Have it tried again after a while; a try that another one has followed meanwhile says nothing."""
    tried = result.delivery.attempts
    is_dead = result.gone or tried > len(BACKOFF)
    wait = BACKOFF[min(tried, len(BACKOFF)) - 1] * random.uniform(0.9, 1.1)
    connection.execute(
        update(_table)
        .where(_of.id == result.delivery.id, _of.attempts == tried)
        .values(
            state="dead" if is_dead else "pending",
            next_try_at=db.clock(-wait),
            leased_until=None,
            last_error=result.error,
        )
    )


def _count(connection: Connection, db: Database, circuit: str, *, failed: bool, times: int) -> None:
    """Count a receiver's failures in a row; from some on it is left alone, and one more failure does so again."""
    if not failed:
        connection.execute(delete(_circuits).where(_circuits.c.circuit == circuit))
        return
    put = db.insert(_circuits)
    failures = _circuits.c.failures + times
    until = db.clock(-CIRCUIT)
    connection.execute(
        put.values(
            circuit=circuit, failures=times, open_until=until if times >= CIRCUIT_FAILURES else None
        ).on_conflict_do_update(
            index_elements=[_circuits.c.circuit],
            set_={
                "failures": failures,
                "open_until": case((failures >= CIRCUIT_FAILURES, until), else_=_circuits.c.open_until),
            },
        )
    )


# --- looking at it --------------------------------------------------------------------------------------------------


def listed(db: Database, *, state: State | None = None, limit: int = 100) -> list[Listed]:
    """The notifications that were not delivered, those that are tried next first."""
    query = select(*_DELIVERY, _of.state, _of.next_try_at, _of.last_error)
    if state is not None:
        query = query.where(_of.state == state)
    with db.ask() as connection:
        rows = connection.execute(query.order_by(_of.state.desc(), _of.next_try_at, _of.id).limit(limit)).all()
    return [Listed(Delivery(*row[:-3]), *row[-3:]) for row in rows]


def redeliver(db: Database, ids: Collection[int] | None = None) -> int:
    """Have dead notifications, these or all, tried again from the beginning; how many those are."""
    again = update(_table).where(_of.state == "dead")
    if ids is not None:
        again = again.where(_of.id.in_(ids))
    again = again.values(state="pending", attempts=0, next_try_at=db.clock())
    return db.transact(lambda connection: connection.execute(again).rowcount)


def known(db: Database, ids: Collection[int]) -> set[int]:
    """Those of these ids that a notification has which waits or is dead; one that has arrived is gone."""
    with db.ask() as connection:
        return set(connection.execute(select(_of.id).where(_of.id.in_(ids))).scalars())


def depth(db: Database) -> dict[State, int]:
    """How many notifications wait, and how many are dead."""
    query = select(_of.state, func.count()).group_by(_of.state)
    with db.ask() as connection:
        found: dict[State, int] = {row[0]: row[1] for row in connection.execute(query)}
    return {"pending": 0, "dead": 0, **found}
