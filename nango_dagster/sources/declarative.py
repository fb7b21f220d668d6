"""A list that a sync's config describes: requests, paging and records, read by `Fetch`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Sync
from ..fetch import Fetch
from ..incremental import block_of
from .incremental_list import IncrementalList
from .saving import PageSaver
from .source import PAGING_NOT_FOUND, Ending, Model, Sink, Source, SourceContext


def source_of(sync: Sync) -> Source:
    """The source that a sync's config describes."""
    if block_of(sync) is not None or sync.resumable:
        return IncrementalList(sync)
    return DeclarativeList(sync)


@dataclass(frozen=True)
class DeclarativeList:
    """The list of a sync's config."""

    sync: Sync
    models: tuple[Model, ...] = ()
    needs_access: bool = True

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Fetch page after page, the next one while the last one is stored."""
        fetch = Fetch(
            self.sync,
            access=context.access,
            cancelled=context.is_stopped,
            reach=context.reach,
            etag=context.etag,
            limiter=context.limiter,
            client=context.client,
        )
        return read_pages(fetch, sink)


@dataclass(frozen=True)
class FetchedList:
    """The list of a `Fetch` that was made elsewhere, such as by a user's asset."""

    fetch: Fetch
    models: tuple[Model, ...] = ()
    needs_access: bool = False

    def read(self, context: SourceContext, sink: Sink) -> Ending:
        """Read it as it is; it has its own access and its own idea of when to stop."""
        return read_pages(self.fetch, sink)


def read_pages(fetch: Fetch, sink: Sink) -> Ending:
    """Hand every page to the sink, and close the fetch."""
    saver = PageSaver(fetch.sync, sink)
    try:
        with fetch:
            for page in fetch:
                saver.save(fetch, page)
    finally:
        saver.end(fetch)
    assert fetch.stop is not None, "a fetch that ends without an error says why"
    if doubt := fetch.paging_doubt:
        return Ending(PAGING_NOT_FOUND, complete=False, doubt=doubt)
    return Ending(
        fetch.stop.reason,
        fetch.stop.complete,
        not_modified=fetch.not_modified,
        etag=fetch.etag_to_keep,
        warnings=fetch.warnings,
    )
