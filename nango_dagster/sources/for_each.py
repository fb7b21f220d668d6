"""The lists of a sync with `for_each`: one for each record of another sync whose list is due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..checkpoint import Checkpoint
from ..config import Sync
from ..config.for_each import PARENT
from ..errors import ApiError, AuthenticationFailed, ConfigError, PagingRepeats
from ..fetch import Access, policy_of
from ..http import Client, Request
from ..sentences import number_of
from .declarative import DeclarativeList
from .source import PARENTS_READ, Ending, Model, Numbers, Parent, Parents, Sink, SourceContext

MOST_FAILURES: Final = 20
"""After so many failed lists in a row the API as a whole fails, and no further list is requested."""


@dataclass(frozen=True)
class ParentAccess:
    """The access of a connection, with the values of one parent as `${parent.NAME}`."""

    access: Access
    record: Mapping[str, Any] = field(repr=False)

    def variables(self, fresh: bool) -> Mapping[str, Any]:
        """The values of placeholders."""
        return {**self.access.variables(fresh), PARENT: self.record}

    def sign(self, request: Request) -> Request:
        """The request with the connection's credentials."""
        return self.access.sign(request)

    def secrets(self) -> tuple[str, ...]:
        """The values to star."""
        return self.access.secrets()

    def identity(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The account and the parent that an answer belongs to."""
        values, secrets = self.access.identity()
        return {**values, PARENT: self.record}, secrets

    def hash_key(self) -> bytes | None:
        """The key of hashes that secrets go into."""
        return self.access.hash_key()

    def close(self) -> None:
        """Nothing: the next list needs the access, too."""


@dataclass(frozen=True)
class ForEachList:
    """The lists of a sync's parents."""

    sync: Sync
    models: tuple[Model, ...] = ()
    needs_access: bool = True

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Read the lists that are due, one after the other, then delete what is gone.

        A list that fails is due again in the next execution; the others are read. Raises ApiError at the end where
        lists failed.
        """
        if context.parents is None or context.access is None:
            raise ConfigError(f"{self.sync.display_name}: for_each reads the records of another sync from the store.")
        client = Client(policy_of(self.sync, context.reach), cancelled=context.is_stopped, limiter=context.limiter)
        try:
            return self._read_all(replace(context, client=client, etag=None), context.parents, sink)
        finally:
            client.close()
            context.access.close()

    def _read_all(self, context: SourceContext, parents: Parents, sink: Sink) -> Ending:
        reading = _Lists(self.sync, context, parents, sink)
        for parent in parents.due():
            reading.read(parent)
        gone = parents.settle(whole=not reading.errors)
        if reading.errors:
            raise reading.failure()
        return Ending(PARENTS_READ, complete=gone.is_whole, warnings=gone.warnings)


class _Lists:
    """Reads one list after the other, and counts."""

    def __init__(self, sync: Sync, context: SourceContext, parents: Parents, sink: Sink) -> None:
        self.errors: list[str] = []
        self._sync = sync
        self._context = context
        self._parents = parents
        self._sink = sink
        self._numbers = Numbers()
        self._count = 0
        self._failures = 0  # in a row

    def read(self, parent: Parent) -> None:
        """Read the list of a parent; again as often as a missing record has to be missing before it is deleted."""
        self._count += 1
        try:
            while not self._read_once(parent):
                pass
        except AuthenticationFailed:
            raise
        except (ApiError, PagingRepeats, ConfigError) as error:
            if isinstance(error, ConfigError) and self._count == 1:
                raise  # such as a variable that has no value for any parent
            self.errors.append(f"{parent.name}: {error}")
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                raise self.failure() from error
        else:
            self._failures = 0

    def failure(self) -> ApiError:
        """The error of an execution in which lists failed."""
        count = number_of(len(self.errors), "list")
        of = f"{count} of {self._count:,} could not be read and will be requested again"
        return ApiError(f"{self._sync.display_name}: {of}. The first: {self.errors[0]}")

    def _read_once(self, parent: Parent) -> bool:
        """Read the list; False where it has to be read again."""
        assert self._context.access is not None
        access = ParentAccess(self._context.access, parent.record)
        sink = _ListSink(parent, self._parents, self._sink, self._numbers)
        ending = DeclarativeList(self._sync).read(replace(self._context, access=access), sink)
        self._numbers = sink.numbers
        return self._parents.finish(parent, complete=ending.complete and not sink.is_rejecting)


class _ListSink:
    """The sink of one list: its records go to the parent's children, and its numbers are added to those before."""

    def __init__(self, parent: Parent, parents: Parents, sink: Sink, before: Numbers) -> None:
        self.numbers = before
        self.is_rejecting = False
        """Whether a record was rejected, which may be one that seems to be gone."""
        self._parent = parent
        self._parents = parents
        self._sink = sink
        self._before = before

    def save(self, records: Sequence[bytes], model: str | None = None, where: str | None = None) -> None:
        """See Sink.save."""
        self._parents.add(self._parent, records)

    def reject(self, where: str, reason: str, model: str | None = None) -> None:
        """See Sink.reject."""
        self.is_rejecting = True
        self._sink.reject(f"{where} of {self._parent.name}", reason)

    def count(self, numbers: Numbers) -> None:
        """See Sink.count; requests and retries are those of the client, which all lists share."""
        pages, records = self._before.pages + numbers.pages, self._before.records + numbers.records
        self.numbers = Numbers(pages, records, numbers.requests, numbers.retries)
        self._sink.count(self.numbers)

    def update(self, records: Sequence[bytes], model: str | None = None) -> int:
        """See Sink.update."""
        return self._sink.update(records)

    def delete(self, keys: Sequence[str], model: str | None = None) -> int:
        """See Sink.delete."""
        return self._sink.delete(keys)

    def check(self) -> None:
        """See Sink.check."""
        self._sink.check()

    def commit(self) -> None:
        """See Sink.commit."""
        self._sink.commit()

    def rejections(self) -> int:
        """See Sink.rejections."""
        return self._sink.rejections()

    def save_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """A list of a parent has no checkpoint of its own: it is read to its end, or again."""

    def open_window(self, model: str | None = None) -> bool:
        """A list of a parent has no window of its own, for the same reason."""
        return False

    def close_window(self, model: str | None = None) -> list[str]:
        """See `open_window`."""
        return []

    def drop_window(self, model: str | None = None) -> None:
        """See `open_window`."""
