"""Values around an execution: the wishes before it, its progress, its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..mapping import Column
from ..store.checkpoints import Change
from ..store.jobs import Counts

BASE = "base"


@dataclass(frozen=True)
class Progress:
    """How much an execution has read."""

    sync: str
    pages: int
    records: int
    seconds: float

    def __str__(self) -> str:
        speed = self.records / self.seconds if self.seconds else 0
        return f"{self.sync}: {self.pages:,} pages, {self.records:,} records, {speed:,.0f} records/s"


@dataclass(frozen=True)
class ModelOutcome:
    """The result of an execution for one of several models."""

    name: str
    added: int
    updated: int
    deleted: int
    live_count: int
    table: str | None
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of one execution; `status` is succeeded, failed, cancelled or lost."""

    job_id: int
    status: str
    counts: Counts
    stop_reason: str | None
    error: str | None
    seconds: float
    live_count: int
    table: str | None = None
    columns: tuple[Column, ...] = ()
    new_columns: tuple[str, ...] = ()
    misfits: Mapping[str, int] = field(default_factory=dict)
    unfit: Mapping[str, Counter[str]] = field(default_factory=dict)
    """Why records do not fit their model, and how many, by the name of the model."""
    complete: bool = False
    """Whether records that were not read are gone from the source."""
    standing: tuple[str, ...] = ()
    """Sentences about rejected records and values that the rows lack, since this execution or one before it."""
    doubt: str | None = None
    """The warning of a list that may have more pages."""
    checkpoint: Change | None = None
    """How the checkpoint changed; None where it did not."""
    warnings: tuple[str, ...] = ()
    sample: tuple[Any, ...] = ()
    further_models: tuple[ModelOutcome, ...] = ()
    """The models of a script behind its first one; table and columns of this outcome are those of the first."""
    cause: Exception | None = None
    """The error that ended it."""
    stack: str | None = None
    """The traceback of an unexpected error, without secrets."""

    @property
    def changed(self) -> bool:
        """Whether rows were added, updated or deleted."""
        return bool(self.counts.added or self.counts.updated or self.counts.deleted)


@dataclass(frozen=True)
class Wishes:
    """Options of an execution that the caller may choose."""

    reset: bool = False
    empty_cache: bool = False
    accept_deletes: bool = False


@dataclass(frozen=True)
class Due:
    """Execute a sync only if it is due; `slot` is its latest slot, None where its schedule is stopped."""

    slot: datetime | None
