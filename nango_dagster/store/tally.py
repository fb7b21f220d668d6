"""What an execution did to its records, so far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from ..errors import RecordRejected
from ..records import decode

Guard = Callable[[Connection], object]
"""Called first in every transaction: it takes the dataset's lock and raises LeaseLost where that is not ours."""

SAMPLE = 5
_TOLD = 20  # rejected records whose reason is kept


@dataclass
class Tally:
    """The counts that a job shows, the first reasons for rejections, and a few changed records."""

    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    rejected: int = 0
    repeated: int = 0
    unreadable: int = 0  # of the rejected: those whose key nobody knows
    keyless: int = 0  # of the unreadable: those that came, but without a key
    keyless_reason: str = ""  # why, with what the first of them has instead
    reasons: list[str] = field(default_factory=list)
    sample: list[Any] = field(default_factory=list)

    def reject(self, where: str, reason: str) -> None:
        """Count a record that could not be stored."""
        self.rejected += 1
        if len(self.reasons) < _TOLD:
            self.reasons.append(f"record {where}: {reason}")

    def show(self, texts: Sequence[bytes]) -> None:
        """Keep some of the changed records, for people to look at."""
        for text in texts[: SAMPLE - len(self.sample)]:
            with contextlib.suppress(RecordRejected):  # too deep to be looked at
                self.sample.append(decode(text))


def refusal(error: Exception) -> str:
    """Why the database does not store a record, in its own words."""
    return f"the database does not store it: {str(getattr(error, 'orig', None) or error).strip().splitlines()[0]}"


class Writer(Protocol):
    """One execution's way into a dataset: upsert or overwrite."""

    tally: Tally

    def add(self, texts: Sequence[bytes]) -> None:
        """Take a page's records."""

    def settle(self, *, complete: bool) -> None:
        """Write, or make ready, whatever the execution's end needs."""

    @property
    def deletions(self) -> int:
        """How many records `finish` deletes."""

    def finish(self, connection: Connection) -> None:
        """The last changes, in the transaction that ends the execution."""

    def close(self) -> None:
        """Let go of temporary files."""
