"""The parents of a dataset whose sync has `for_each`: which of their lists are due, and what their lists contained.

A row of `_nango_parents` is one parent: its `version` is the time of the parent's last change when its list was read
to the end, or NULL where it has to be read. A row of `_nango_children` is one record of the list of a parent, written
before the record itself. So an execution that dies at any moment leaves no record that belongs to no parent, and reads
again the lists that it had not finished.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, delete, exists, insert, or_, select, text, update

from . import schema
from .database import Database
from .rows import BATCH_KEYS, DATA_TEXT, in_batches

_parents = schema.parents.c
_children = schema.children.c
_raw = schema.raw.c

_ADD_PARENT = text(
    "INSERT INTO _nango_parents (dataset_id, parent_id) VALUES (:dataset_id, :parent_id) ON CONFLICT DO NOTHING"
)
_ADD_CHILD = text(
    "INSERT INTO _nango_children (dataset_id, parent_id, external_id) VALUES (:dataset_id, :parent_id, :external_id) "
    "ON CONFLICT DO NOTHING"
)

PAGE = 200
"""Parents that are read from the database at a time."""


@dataclass(frozen=True)
class DueParent:
    """A live record whose list has to be read."""

    id: str
    version: datetime
    text: str | None
    """The record; None where its payload was pruned."""
    id_is_number: bool | None


@dataclass(frozen=True)
class Family:
    """The datasets of a sync with `for_each`: its own records, and those of its parents."""

    children: int
    parents: int

    def due(self, database: Database) -> Iterator[DueParent]:
        """The parents whose lists have to be read, in the order of their keys; each is returned once."""
        after = ""
        while True:
            with database.ask() as connection:
                rows = connection.execute(self._due(after)).all()
            yield from (DueParent(*row) for row in rows)
            if len(rows) < PAGE:
                return
            after = rows[-1].external_id

    def _due(self, after: str) -> Select[tuple[str, datetime, str, bool]]:
        """The query of a page of due parents."""
        is_read = (_parents.dataset_id == self.children) & (_parents.parent_id == _raw.external_id)
        return (
            select(_raw.external_id, _raw.last_modified_at, DATA_TEXT, _raw.id_is_number)
            .select_from(schema.raw.outerjoin(schema.parents, is_read))
            .where(
                _raw.dataset_id == self.parents,
                _raw.external_id > after,
                _raw.deleted_at.is_(None),
                or_(_parents.version.is_(None), _parents.version != _raw.last_modified_at),
            )
            .order_by(_raw.external_id)
            .limit(PAGE)
        )

    def gone(self, connection: Connection) -> list[str]:
        """The first parents that were deleted and are not forgotten yet."""
        live = exists().where(
            _raw.dataset_id == self.parents, _raw.external_id == _parents.parent_id, _raw.deleted_at.is_(None)
        )
        query = select(_parents.parent_id).where(_parents.dataset_id == self.children, ~live)
        return list(connection.execute(query.order_by(_parents.parent_id).limit(PAGE)).scalars())


def start_over(connection: Connection, dataset_id: int) -> None:
    """Have the lists of all parents read again."""
    connection.execute(update(schema.parents).where(_parents.dataset_id == dataset_id).values(version=None))


def link(connection: Connection, dataset_id: int, keys_of: Mapping[str, Collection[str]]) -> None:
    """Note that the lists of parents contain these keys, before the records are stored; known ones stay."""
    links = [
        {"dataset_id": dataset_id, "parent_id": parent, "external_id": key}
        for parent, keys in keys_of.items()
        for key in keys
    ]
    connection.execute(_ADD_PARENT, [{"dataset_id": dataset_id, "parent_id": parent} for parent in keys_of])
    for batch in in_batches(links):
        connection.execute(_ADD_CHILD, batch)


def note_read(connection: Connection, dataset_id: int, versions: Mapping[str, datetime]) -> None:
    """Note that the lists of parents were read to their end when the parents had these versions."""
    if versions:
        rows = [
            {"dataset_id": dataset_id, "parent_id": parent, "version": version} for parent, version in versions.items()
        ]
        connection.execute(
            delete(schema.parents).where(_parents.dataset_id == dataset_id, _parents.parent_id.in_(list(versions)))
        )
        connection.execute(insert(schema.parents), rows)


def keys_of(connection: Connection, dataset_id: int, parent_id: str) -> Iterator[list[str]]:
    """The keys that the list of a parent contained, a page at a time."""
    query = select(_children.external_id).where(_children.dataset_id == dataset_id, _children.parent_id == parent_id)
    after = ""
    page = query.order_by(_children.external_id).limit(5000)
    while keys := list(connection.execute(page.where(_children.external_id > after)).scalars()):
        yield keys
        after = keys[-1]


def alone(connection: Connection, dataset_id: int, keys_of: Mapping[str, Collection[str]]) -> list[str]:
    """Those of the keys that no list contains but the lists of these parents."""
    lists: dict[str, set[str]] = defaultdict(set)
    for parent, keys in keys_of.items():
        for key in keys:
            lists[key].add(parent)
    for batch in in_batches(list(lists), BATCH_KEYS):
        query = select(_children.external_id, _children.parent_id)
        rows = connection.execute(
            query.where(_children.dataset_id == dataset_id, _children.external_id.in_(batch))
        ).all()
        kept = {key for key, parent in rows if parent not in lists[key]}
        for key in kept:
            del lists[key]
    return list(lists)


def unlink(connection: Connection, dataset_id: int, keys_of: Mapping[str, Collection[str]]) -> None:
    """Note that the lists of parents do not contain these keys any more."""
    for parent, keys in keys_of.items():
        for batch in in_batches(list(keys), BATCH_KEYS):
            connection.execute(
                delete(schema.children).where(
                    _children.dataset_id == dataset_id,
                    _children.parent_id == parent,
                    _children.external_id.in_(batch),
                )
            )


def forget(connection: Connection, dataset_id: int, parent_ids: Sequence[str]) -> None:
    """Forget parents that were deleted."""
    of = (_parents.dataset_id == dataset_id, _parents.parent_id.in_(parent_ids))
    connection.execute(delete(schema.parents).where(*of))
