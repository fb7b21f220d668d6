"""A list that a sync's config describes: requests, paging and records, read by `Fetch`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Sync
from ..fetch import Fetch
from .source import Ending, Model, Numbers, Sink, SourceContext

PAGING_NOT_FOUND = "paging_not_found"
"""The ending of a list that may have more pages: no answer had anything at the path of the next one."""


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
    try:
        with fetch:
            for page in fetch:
                for rejected in page.rejected:
                    sink.reject(f"{rejected.position} of page {page.number}", rejected.reason)
                sink.count(_numbers(fetch))
                sink.save(page.records)
    finally:
        sink.count(_numbers(fetch))
    assert fetch.stop is not None, "a fetch that ends without an error says why"
    if doubt := fetch.paging_doubt:
        return Ending(PAGING_NOT_FOUND, complete=False, doubt=doubt)
    return Ending(fetch.stop.reason, fetch.stop.complete, not_modified=fetch.not_modified, etag=fetch.etag_to_keep)


def _numbers(fetch: Fetch) -> Numbers:
    return Numbers(fetch.pages, fetch.records, fetch.requests, fetch.retries)
