"""The changes of an execution to its records, counted so far."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection

from ..errors import RecordRejected
from ..records import decode, fields_of

Guard = Callable[[Connection], object]
"""Called first in every transaction: it takes the dataset's lock and raises LeaseLost where that is not ours."""

SAMPLE = 5
MOST_REJECTIONS = 1000  # rejected records that are kept, of one execution and of one dataset
MOST_TEXT_BYTES = 100_000  # of a rejected record that is kept
_TOLD = 20  # rejected records whose reason is kept


class Rejection(NamedTuple):
    """A record that could not be stored: its place in the list, why, and its key and text where they are known."""

    place: str
    reason: str
    key: str | None
    text: bytes | None


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
    misfits: Counter[str] = field(default_factory=Counter)  # why records do not fit their model, stored or not
    reasons: list[str] = field(default_factory=list)
    sample: list[Any] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    standing: list[str] = field(default_factory=list)  # warnings of executions before that are still true

    def reject(self, where: str, reason: str, *, key: str | None = None, text: bytes | None = None) -> None:
        """Count a record that could not be stored, and keep the first of them."""
        self.rejected += 1
        if len(self.reasons) < _TOLD:
            self.reasons.append(f"record {where}: {reason}")
        if len(self.rejections) < MOST_REJECTIONS:
            kept = text if text is not None and len(text) <= MOST_TEXT_BYTES else None
            self.rejections.append(Rejection(where, reason, key, kept))

    def count_keyless(self, reason: RecordRejected, text: bytes) -> None:
        """Count a record without a key, and keep the reason of the first one."""
        if not self.keyless:
            self.keyless_reason = f"{reason}; the first record has {fields_of(text)}"
        self.keyless += 1

    def show(self, texts: Sequence[bytes]) -> None:
        """Keep some of the changed records, for people to look at."""
        for text in texts[: SAMPLE - len(self.sample)]:
            with contextlib.suppress(RecordRejected):  # too deep to be looked at
                self.sample.append(decode(text))


def refusal(error: Exception) -> str:
    """Why the database does not store a record, in its own words."""
    return f"the database does not store it: {str(getattr(error, 'orig', None) or error).strip().splitlines()[0]}"


class Writer(Protocol):
    """Writes the records of one execution into a dataset: upsert or overwrite."""

    tally: Tally

    def add(self, texts: Sequence[bytes], where: str | None = None) -> None:
        """Take a page's records; `where` is the place in a script that saves them."""

    def settle(self, *, complete: bool) -> None:
        """Write what waits, and prepare the last changes."""

    @property
    def deletions(self) -> int:
        """How many records `finish` deletes."""

    def finish(self, connection: Connection) -> None:
        """The last changes, in the transaction that ends the execution."""

    def read(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys that the execution has read."""

    def close(self) -> None:
        """Close temporary files."""
