"""The contract between an execution and what it reads: a list of an API, a script, or the value of an asset.

`Source.read` is one call that lasts as long as the execution reads. The source sends its own requests and hands records
to a `Sink`; the engine on the other side of the sink stores them. A source knows nothing of the database.

The engine guarantees, for each model of the source:

- Saved records are committed in batches, in the order of the calls; unchanged records write nothing. A model without a
  `unique_key` is replaced as a whole at the end of a complete execution, or not at all.
- Records that the execution did not save are deleted only where the model tracks deletions, the `Ending` says that the
  reading was complete, and no record was rejected unread. Deletions stay below the limit of `track_deletes`.
- Each transaction proves first that the execution still owns its claim. The last changes, the end of the job, the
  notifications and the release of the claim are one transaction.
- What was committed before an error, a cancellation or the end of the process stays committed.

A source keeps this contract:

- It returns an `Ending`, or raises what kept it from reading on. Both keep what was saved before.
- Every method of the sink may raise: `Cancelled` when the execution has to stop, `Incomplete` after `max_duration`,
  `LeaseLost`, or an error of the database. The source lets it pass. A source that catches it anyway (a script may) gets
  the same error from every later call, and the execution ends with it.
- It asks `SourceContext.is_stopped` where it waits for long between two calls.
- It calls the sink from one thread at a time.
- Secrets that the source adds to requests are starred in the errors that it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from ..checkpoint import Checkpoint
from ..config import TrackDeletes
from ..fetch import Access
from ..http import Client, Interceptor, Limiter, Reach

PAGING_NOT_FOUND: Final = "paging_not_found"
"""The ending of a list that may have more pages: no answer had anything at the path of the next one."""


@dataclass(frozen=True)
class Model:
    """One kind of record that a source saves, with a dataset and a mapped table of its own."""

    name: str
    unique_key: str | list[str] | None = "id"
    mapped_table: str | None = None
    """None for a table that is named after the sync and the model."""
    track_deletes: TrackDeletes | None = None


PARENTS_READ: Final = "parents_read"
"""The ending of a sync with `for_each`: the lists of all parents that were due were read."""


@dataclass(frozen=True)
class Parent:
    """A record of another sync whose list is due."""

    id: str
    """Its key in the store."""
    name: str
    """For errors: the sync and the key."""
    record: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Settled:
    """The result of `Parents.settle`."""

    is_whole: bool
    """Whether the lists of all parents were read in this execution."""
    warnings: Sequence[str] = ()


class Parents(Protocol):
    """The parents of a sync with `for_each`, and the records of their lists."""

    def due(self) -> Iterator[Parent]:
        """The parents whose lists have to be read; those that could not be read to their end are among the next."""

    def add(self, parent: Parent, records: Sequence[bytes]) -> None:
        """Save records of a parent's list; each gets the parent's value."""

    def finish(self, parent: Parent, *, complete: bool) -> bool:
        """End a list; False where it has to be read once more, because records are missing that may have moved."""

    def settle(self, *, whole: bool) -> Settled:
        """Delete the records that lists do not contain any more, and those of deleted parents.

        `whole` is whether all lists that were due were read. Raises Refused where too many records are gone.
        """


class Services(Protocol):
    """The store and the connection as a sync script sees them; every method acts at once.

    The caller commits what it has saved before it calls a method.
    """

    @property
    def last_sync_date(self) -> datetime | None:
        """When the last successful execution began; None before the first and after a reset."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables `NANGO_ENV_NAME` of the server, as NAME."""

    @property
    def reach(self) -> Reach:
        """Which addresses URLs may reach that the config does not name itself."""

    def metadata(self) -> dict[str, Any] | None:
        """The connection's metadata; None for a sync without connections."""

    def change_metadata(self, metadata: Mapping[str, Any], *, replace: bool) -> None:
        """Set these keys of the metadata, or with `replace` all of it. Raises ConfigError without a connection."""

    def connection(self, *, force_refresh: bool = False, refresh_token: bool = False) -> dict[str, Any]:
        """The connection with its credentials, as Nango's API shows it. Raises ConfigError without a connection."""

    def records(self, model: str | None = None, ids: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The stored records with `_nango_metadata`, deleted ones included, in the order of their changes."""

    def modified_after(self, moment: datetime, keys: Sequence[str], model: str | None = None) -> set[str]:
        """Those of the keys whose records changed after a moment."""

    def last_change(self, model: str | None = None) -> datetime | None:
        """When the model's records changed last; None for never."""

    def acquire_lock(self, key: str, seconds: float) -> bool:
        """Take or extend a lock that all executions share; False where another execution has it."""

    def release_lock(self, key: str) -> bool:
        """Release a lock; False where this execution does not have it."""

    def release_locks(self) -> None:
        """Release all locks of this execution."""


@dataclass(frozen=True)
class SourceContext:
    """The arguments of a source: its connection, its variant, and the state of the last execution."""

    connection_id: str = "default"
    variant: str = "base"
    access: Access | None = None
    """The connection's credentials and the values of placeholders; None where `Source.needs_access` is False."""
    limiter: Limiter | None = None
    reach: Reach = "anywhere"
    etag: str | None = None
    """The `Ending.etag` of the execution before, while the stored records are still that version of the list."""
    checkpoint: Checkpoint | None = None
    """The one that was saved last; None before the first and after a reset."""
    started_at: datetime | None = None
    """When the execution began, by the database's clock."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The values of placeholders that are no credentials, such as `metadata`."""
    needs_all: bool = False
    """Whether the dataset lacks records, or has some under another key, until the whole list was read."""
    is_stopped: Callable[[], bool] = lambda: False
    parents: Parents | None = None
    """The parents of a sync with `for_each`."""
    interceptor: Interceptor | None = None
    """Records a script's requests, or answers them; None where they go to the network."""
    services: Services | None = None
    """The store and the connection, for a sync script."""
    client: Client | None = None
    """A client that several lists share; None where the source makes its own."""


@dataclass(frozen=True)
class Numbers:
    """How much a source has read so far."""

    pages: int = 0
    records: int = 0
    requests: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Ending:
    """Why a source has nothing more to give."""

    reason: str
    """The code that the job stores, such as `no_cursor`."""
    complete: bool = True
    """Whether the source has no other records than the saved ones."""
    not_modified: bool = False
    """Whether nothing has changed since `SourceContext.etag`; then no record was saved."""
    etag: str | None = None
    """The version of the list, for the `SourceContext` of the next execution."""
    doubt: str | None = None
    """A sentence that says why there may be more although nothing says so; then no record is deleted."""
    warnings: Sequence[str] = ()
    """Sentences for the job."""
    saves_checkpoint: bool = False
    """Whether `checkpoint` is stored in the transaction that ends the execution.

    That is so only where it succeeds and no record was rejected.
    """
    checkpoint: Checkpoint | None = None


class Sink(Protocol):
    """Receives the records of a source. `model` is one of `Source.models`; None is the first."""

    def save(self, records: Sequence[bytes], model: str | None = None, where: str | None = None) -> None:
        """Add or replace records, each one JSON object in UTF-8; of equal keys the last one wins.

        `where` is the place in a script that saves them, for sentences about records that do not fit the model.
        They are committed with later ones, at the latest by `commit`, `save_checkpoint` or the end.
        """

    def update(self, records: Sequence[bytes], model: str | None = None) -> int:
        """Merge objects into the live records with their keys; the number of keys that no live record has.

        Objects are merged field by field, lists and plain values are replaced. Raises ConfigError for a model without
        `unique_key`.
        """

    def delete(self, keys: Sequence[str], model: str | None = None) -> int:
        """Delete live records; how many there were. Their last content stays readable.

        Raises ConfigError for a model without `unique_key`.
        """

    def reject(self, where: str, reason: str, model: str | None = None) -> None:
        """Count a record that cannot be saved and has no known key; the execution then deletes nothing."""

    def commit(self) -> None:
        """Commit everything that was saved before; returns when that is done."""

    def save_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """Save the progress of the source in the transaction of the records before it; None removes it.

        On return both are committed; the records of other models are committed first. Raises ConfigError where the
        checkpoint is not flat, or a model has no `unique_key`: its records are stored only at the end.
        """

    def open_window(self, model: str | None = None) -> bool:
        """Open a deletion window, which this or a later execution closes; whether one was open already.

        From now on the key of each saved record is kept, those that this execution saved before included, and those
        of executions in between. An open window goes on. Raises ConfigError for a model without `unique_key`.
        """

    def close_window(self, model: str | None = None) -> list[str]:
        """Delete the live records that nobody saved since the window was opened, and close it; their keys.

        Nothing is deleted where a record was rejected whose key is not known. Raises ConfigError where no window is
        open, and Refused where more are gone than `track_deletes`, or its defaults, allow: then it stays open.
        """

    def drop_window(self, model: str | None = None) -> None:
        """Close the window, if one is open, and delete nothing."""

    def rejections(self) -> int:
        """How many records the execution could not store so far, as far as they are committed."""

    def check(self) -> None:
        """Raise what any other method would raise now, such as Cancelled."""

    def count(self, numbers: Numbers) -> None:
        """Tell how much was read so far; for progress and the job."""


class Source(Protocol):
    """The input of an execution. It is made before the execution begins and opens its resources in `read`."""

    @property
    def models(self) -> Sequence[Model]:
        """The models that it may save; none where that is the one model of its sync's config."""

    @property
    def needs_access(self) -> bool:
        """Whether it sends requests with the connection's credentials."""

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Read all there is to read, and hand it to the sink."""
