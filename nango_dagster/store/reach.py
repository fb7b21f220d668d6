"""Where URLs may lead that came over HTTP: an API with a key says it, and every process of its database follows."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import Connection, select

from ..http import Reach
from . import schema
from .database import Database

_NAME = "reach_of_urls_over_http"

_of = schema.settings.c


def keep(db: Database, reach: Reach) -> None:
    """Have every process follow this from now on; where they do already, nothing is written."""
    if kept(db) != reach:
        db.transact(lambda connection: _put(connection, db, reach))


def kept(db: Database) -> Reach | None:
    """What the last API with a key has said; None where there never was one."""
    with db.ask() as connection:
        found = connection.execute(select(_of.value).where(_of.name == _NAME)).scalar()
    return next((reach for reach in get_args(Reach) if reach == found), None)


def _put(connection: Connection, db: Database, reach: Reach) -> None:
    put = db.insert(schema.settings).values(name=_NAME, value=reach)
    connection.execute(put.on_conflict_do_update(index_elements=[_of.name], set_={"value": reach}))
