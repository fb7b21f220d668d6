"""Locks that scripts take: one owner at a time, over all syncs and connections, until they expire."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, delete, insert, or_, select, update

from . import schema
from .database import Database

_of = schema.script_locks.c
_table = schema.script_locks


def acquire(database: Database, name: str, owner: str, seconds: float) -> bool:
    """Take a lock that is free, or extend an own one; False where another owner has it."""

    def work(connection: Connection) -> bool:
        database.lock(connection, "script_locks")
        now = database.now(connection)
        values = {"owner": owner, "expires_at": now + timedelta(seconds=seconds)}
        mine = update(_table).where(_of.name == name, or_(_of.owner == owner, _of.expires_at <= now))
        if connection.execute(mine.values(values)).rowcount:
            return True
        if connection.execute(select(_of.name).where(_of.name == name)).first() is not None:
            return False
        connection.execute(insert(_table).values(name=name, **values))
        return True

    return database.transact(work)


def release(database: Database, name: str | None, owner: str) -> bool:
    """Release an owner's lock, or with None all of them; False where it has none."""
    mine = delete(_table).where(_of.owner == owner, *([] if name is None else [_of.name == name]))
    return database.transact(lambda connection: connection.execute(mine).rowcount > 0)
