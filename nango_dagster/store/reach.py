"""Which hosts URLs that came over HTTP may reach: an API with a key decides, every process of its database follows."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import select

from ..http import Reach
from . import schema
from .database import Database

_NAME = "reach_of_urls_over_http"

_of = schema.settings.c


def keep(db: Database, reach: Reach) -> None:
    """Store the reach for every process of this database; nothing is written when it is stored already."""
    if kept(db) == reach:
        return
    insert = db.insert(schema.settings).values(name=_NAME, value=reach)
    upsert = insert.on_conflict_do_update(index_elements=[_of.name], set_={"value": reach})
    db.transact(lambda connection: connection.execute(upsert))


def kept(db: Database) -> Reach | None:
    """The reach that the last API with a key has stored; None when there was none."""
    with db.ask() as connection:
        stored = connection.execute(select(_of.value).where(_of.name == _NAME)).scalar()
    return next((reach for reach in get_args(Reach) if reach == stored), None)
