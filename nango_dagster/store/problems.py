"""The values that a dataset's mapped rows lack: those that did not fit their column, and those without a column.

The counts stay on the dataset, because rows that do not change are not mapped again, so that an execution alone does
not see their values. The transaction that writes rows adds the counts of the new rows and subtracts those of the rows
that they replace. The old counts come from the stored JSON of these records; it is mapped again only while the dataset
has problems. A record whose payload was pruned keeps its counts until the table is rebuilt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, func, select, update

from ..sentences import number_of
from . import schema

_of = schema.datasets.c
_mine: BindParameter[int] = bindparam("id_of_dataset")
_REJECTED = select(func.count()).where(schema.rejected.c.dataset_id == _mine).scalar_subquery()
_READ = select(_of.problems, _REJECTED).where(_of.id == _mine)
MOST_NAMED = 50


@dataclass(frozen=True)
class Problems:
    """Counts of values by the name of their column, or by their path where there is no column."""

    misfits: Mapping[str, int] = field(default_factory=dict)
    without_column: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, misfits: Mapping[str, int], without_column: frozenset[str] | set[str]) -> Problems:
        """The counts of a mapped table, parted in the two kinds."""
        return cls(
            {name: count for name, count in misfits.items() if name not in without_column},
            {name: count for name, count in misfits.items() if name in without_column},
        )

    def __bool__(self) -> bool:
        return bool(self.misfits or self.without_column)

    def __add__(self, other: Problems) -> Problems:
        return Problems(
            Counter(self.misfits) + Counter(other.misfits), Counter(self.without_column) + Counter(other.without_column)
        )

    def __sub__(self, other: Problems) -> Problems:
        return Problems(
            Counter(self.misfits) - Counter(other.misfits), Counter(self.without_column) - Counter(other.without_column)
        )

    def __or__(self, other: Problems) -> Problems:
        """The larger count of each name."""
        return Problems(
            Counter(self.misfits) | Counter(other.misfits), Counter(self.without_column) | Counter(other.without_column)
        )

    def sentences(self) -> list[str]:
        """One sentence for each name, at most MOST_NAMED of each kind, and a total where there are more.

        >>> Problems({"age": 3}, {"tags[9]": 1}).sentences()
        ['3 values did not fit column age.', '1 value of tags[9] has no column.']
        """
        return [
            *_sentences(self.misfits, "{values} did not fit column {name}."),
            *_sentences(self.without_column, "{values} of {name} {have} no column."),
        ]


class Standing(NamedTuple):
    """The problems of a dataset's mapped rows, and the number of its rejected records."""

    problems: Problems
    rejected: int


def read(connection: Connection, dataset_id: int) -> Standing:
    """The problems that are noted on a dataset, in one query."""
    problems, count = connection.execute(_READ, {"id_of_dataset": dataset_id}).one()
    return Standing(Problems(**json.loads(problems)), count)


def has_any(connection: Connection, dataset_id: int) -> bool:
    """Whether problems are noted on a dataset."""
    return bool(connection.execute(select(_of.problems).where(_of.id == dataset_id)).scalar_one() != "{}")


def change(
    connection: Connection, dataset_id: int, added: Problems, removed: Problems, restored: Problems = Problems()
) -> None:
    """Count the problems of rows that this transaction writes, and those of rows that it replaces or deletes.

    `restored` are the problems of rows that are written as they were, and so are counted already.
    """
    if added or removed or restored:
        before = read(connection, dataset_id).problems
        note(connection, dataset_id, (before - removed | restored) + added)


def note(connection: Connection, dataset_id: int, problems: Problems) -> None:
    """Note the problems of a dataset in place of those before."""
    kinds = {"misfits": problems.misfits, "without_column": problems.without_column}
    text = json.dumps({kind: dict(Counter(counts).most_common(1000)) for kind, counts in kinds.items() if counts})
    connection.execute(update(schema.datasets).where(_of.id == dataset_id).values(problems=text))


def _sentences(counts: Mapping[str, int], form: str) -> list[str]:
    named = [
        form.format(values=number_of(count, "value"), have="has" if count == 1 else "have", name=name)
        for name, count in Counter(counts).most_common(MOST_NAMED)
    ]
    if len(counts) > MOST_NAMED:
        named.append(f"{sum(counts.values()):,} such values are in {len(counts):,} places; {MOST_NAMED} are named.")
    return named
