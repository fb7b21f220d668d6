"""The order of a dataset's changes: records, the places between them, and the SQL that reads from a place onwards."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, NamedTuple, get_args

from ..config.source import quoted
from ..errors import ConfigError, Problem
from .schema import CHANGES

Action = Literal["added", "updated", "deleted"]
ACTIONS: tuple[Action, ...] = get_args(Action)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
ORDER = "ORDER BY last_modified_at, external_id"
NEWEST_FIRST = "ORDER BY last_modified_at DESC, external_id DESC"
TIMES = "first_seen_at, last_modified_at, deleted_at, pruned_at"
COLUMNS = f"external_id, {TIMES}, id_is_number, data"


@dataclass(frozen=True)
class Cursor:
    """A place in the order of changes: behind the record that changed then.

    >>> at = Cursor(datetime(2024, 1, 15, 10, 31, tzinfo=timezone.utc), "1234567", dataset_id=17)
    >>> Cursor.read(str(at)) == at
    True
    """

    moment: datetime
    external_id: str
    dataset_id: int | None = None
    """The dataset whose record it is; None where that is not known."""

    def __str__(self) -> str:
        # No "+" and no "/": people put cursors into URLs as they are.
        return base64.urlsafe_b64encode(f"{self.prefix}{self.external_id}".encode()).decode()

    @property
    def prefix(self) -> str:
        """The text in front of the record's id."""
        return f"{self.time}|{'' if self.dataset_id is None else self.dataset_id}|"

    def check_dataset(self, dataset_id: int) -> None:
        """Raise ConfigError when it is a cursor of another dataset: what changed there says nothing of this one."""
        if self.dataset_id not in (None, dataset_id):
            sentence = (
                f"the cursor {quoted(str(self))} belongs to another connection, model or variant, or to records that "
                "were removed with their sync; wanted a cursor of these records, or none to read all of them."
            )
            raise ConfigError.of(Problem(sentence, field="cursor"))

    @property
    def time(self) -> str:
        """The moment as it stands in the text."""
        return self.moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The place that a cursor's text stands for. Raises ConfigError when it is no cursor."""
        try:
            decoded = base64.b64decode(text.encode().replace(b"-", b"+").replace(b"_", b"/"), validate=True).decode()
            moment, dataset_id, external_id = decoded.split("|", 2)
            at = datetime.fromisoformat(moment.replace("Z", "+00:00"))
            if "\0" in external_id or at.tzinfo is None or not re.fullmatch("[0-9]{0,18}", dataset_id, re.ASCII):
                raise ValueError
            return cls(in_utc(at), external_id, int(dataset_id) if dataset_id else None)
        except (binascii.Error, ValueError):
            sentence = f"the cursor {quoted(text)} is none of ours; wanted next_cursor of an answer, or a record's."
            raise ConfigError.of(Problem(sentence, field="cursor")) from None


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC, as the store compares it; no record is older than 1970."""
    try:
        return max(EPOCH, moment.astimezone(timezone.utc))
    except OverflowError:
        raise ValueError("this is no time in our calendar") from None


class Record(NamedTuple):
    """A stored record: its own text, None once that is gone, and the times of what was done to it."""

    external_id: str
    first_seen_at: datetime
    last_modified_at: datetime
    deleted_at: datetime | None
    pruned_at: datetime | None
    id_is_number: bool | None
    """Without its text: whether its own `id`, which is its key, was a number."""
    text: str | None

    @property
    def action(self) -> Action:
        """The last change of it."""
        if self.deleted_at is not None:
            return "deleted"
        return "added" if self.first_seen_at == self.last_modified_at else "updated"

    def cursor(self, dataset_id: int | None = None) -> Cursor:
        """The place directly behind it."""
        return Cursor(self.last_modified_at, self.external_id, dataset_id)


class DatasetKey(NamedTuple):
    """SQL expressions: the id of the dataset to read, and whether its records' ids are their field `id`."""

    dataset_id: str
    is_own_id: str


def dataset_key(how: Literal["id", "names"], parameter: str) -> DatasetKey:
    """The expressions for a dataset given by its id, or by its four names; `parameter` formats a parameter's name.

    >>> dataset_key("id", ":{}")
    DatasetKey(dataset_id=':dataset', is_own_id='NULL')
    """
    if how == "id":
        return DatasetKey(parameter.format("dataset"), "NULL")
    names = ("integration", "connection_id", "variant", "model")
    where = " AND ".join(f"{name} = {parameter.format(name)}" for name in names)
    return DatasetKey(
        f"(SELECT id FROM _nango_datasets WHERE {where})",
        f"(SELECT unique_key = 'id' FROM _nango_datasets WHERE {where})",
    )


def is_behind(moment: str, external_id: str) -> str:
    """The condition that a row changed after a place."""
    return f"(last_modified_at, external_id) > ({moment}, {external_id})"


def is_up_to(moment: str, external_id: str) -> str:
    """The condition that a row changed before a place, or is the one in front of it."""
    return f"(last_modified_at, external_id) <= ({moment}, {external_id})"


def has_action(actions: Collection[Action]) -> str:
    """The condition that one of these was last done to a row."""
    return " OR ".join(f"({CHANGES[action]})" for action in actions)


def select_each(columns: str, dataset_id: str, actions: Collection[Action], conditions: str) -> list[str]:
    """One query for each kind of change, so that each is answered from its own index."""
    return [
        f"SELECT {columns} FROM _nango_raw WHERE dataset_id = {dataset_id} AND {conditions} AND {CHANGES[action]}"
        for action in actions
    ]
