"""The values that a dataset's mapped rows lack: those that did not fit their column, and those without a column.

The counts stay on the dataset until all rows are written again, or the mapping changes: rows that do not change are
not mapped again, so an execution alone does not see them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, func, select, update

from . import schema

_of = schema.datasets.c
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

    def merged(self, newer: Problems) -> Problems:
        """These and newer counts; of each name the larger one."""
        return Problems(_larger(self.misfits, newer.misfits), _larger(self.without_column, newer.without_column))

    def sentences(self) -> list[str]:
        """One sentence for each name, at most MOST_NAMED of each kind, and a total where there are more.

        >>> Problems({"age": 3}, {"tags[9]": 1}).sentences()
        ['3 values did not fit column age.', '1 values of tags[9] have no column.']
        """
        return [
            *_sentences(self.misfits, "{count:,} values did not fit column {name}."),
            *_sentences(self.without_column, "{count:,} values of {name} have no column."),
        ]


class Standing(NamedTuple):
    """The numbers of live and rejected records of a dataset, and its problems, stored by earlier executions."""

    live_count: int
    problems: Problems
    rejected: int


def read(connection: Connection, dataset_id: int) -> Standing:
    """The problems that are noted on a dataset, in one query."""
    rejected = select(func.count()).where(schema.rejected.c.dataset_id == dataset_id).scalar_subquery()
    query = select(_of.live_count, _of.problems, rejected).where(_of.id == dataset_id)
    live_count, problems, count = connection.execute(query).one()
    return Standing(live_count, Problems(**json.loads(problems)), count)


def note(connection: Connection, dataset_id: int, problems: Problems) -> None:
    """Note the problems of a dataset in place of those before."""
    kinds = {"misfits": problems.misfits, "without_column": problems.without_column}
    text = json.dumps({kind: dict(Counter(counts).most_common(1000)) for kind, counts in kinds.items() if counts})
    connection.execute(update(schema.datasets).where(_of.id == dataset_id).values(problems=text))


def _larger(some: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(some) | Counter(others))


def _sentences(counts: Mapping[str, int], form: str) -> list[str]:
    named = [form.format(count=count, name=name) for name, count in Counter(counts).most_common(MOST_NAMED)]
    if len(counts) > MOST_NAMED:
        named.append(f"{sum(counts.values()):,} such values are in {len(counts):,} places; {MOST_NAMED} are named.")
    return named
