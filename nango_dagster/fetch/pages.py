"""A sync becomes an iterator of pages: one guard loop for all paging styles, one page ahead of its reader."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from types import TracebackType
from typing import Any, Final

from ..bodies import BodyLimits, json_text
from ..config import Sync
from ..errors import ApiError, ConfigError, NangoError, PagingRepeats, RecordRejected
from ..http import Client, Limiter, Policy, Reach, Request, Response, public_url
from ..paging import Answer, Ending, PageNumber, SinglePage, style
from ..records import Document, Envelope, Rejected, Shape, read
from .ahead import Ahead
from .evidence import PagingEvidence
from .guard import Guard, remedies
from .progress import MORE_LEFT, Progress, Stop
from .requests import next_request, opening_request, policy_of
from .responses import Meaning, Position
from .sending import Access, Sender
from .unpaged import more_pages

Record = bytes

LONGEST: Final = 1000  # characters of a sentence about an answer


@dataclass(frozen=True)
class Page:
    """One page of records, as the API sent them."""

    number: int
    records: list[Record]
    rejected: list[Rejected]
    bytes: int
    """The size of the answer, decompressed."""
    next: Request | None = field(default=None, repr=False)
    """The request that paging sends after this page."""
    seen: int = 0
    """Records that the API sent so far, this page's included."""
    note: Any = None
    """The value that `Fetch.note` returned for the answer."""


@dataclass(frozen=True)
class Place:
    """A place in a list to begin at: the request of a page, its number, and the records of the pages before."""

    request: Request
    number: int = 1
    seen: int = 0


class Fetch:
    """The pages of one sync for one connection, read once, each fetched while the one before is used.

    `access` and `cancelled` are called from another thread than the caller's.

    Iterating raises what went wrong after the pages before it; they were good. Afterwards `stop` says why it
    ended, `paging_doubt` whether that end is doubtful, and `rules` which rules decided on answers.
    """

    def __init__(
        self,
        sync: Sync,
        *,
        access: Access | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        start: Place | None = None,
        note: Callable[[Answer], Any] = lambda answer: None,
        etag: str | None = None,
        max_pages: int | None = None,
        reach: Reach = "anywhere",
        limiter: Limiter | None = None,
        policy: Policy | None = None,
        client: Client | None = None,
    ) -> None:
        """`client` is one that several lists share; the Fetch does not close it."""
        self.sync = sync
        self.stop: Stop | None = None
        self.pages = 0
        self.records = 0
        self.etag_to_keep: str | None = None
        """The list's ETag, if it is one page, and what was asked: the `etag` of the next Fetch, whatever that asks."""
        self._paging = style(sync)
        self._ending = Ending.of(sync)
        self._shape = Shape(
            sync.response_path, sync.records, sync.record_key_field, sync.missing_is_empty, sync.max_page_records
        )
        self._body_limits = BodyLimits(sync.max_page_bytes, sync.max_page_records)
        self._evidence = PagingEvidence(sync)
        self._more_pages: str | None = None
        self._start = start or Place(opening_request(sync))
        self._first = self._start.request
        self._note = note
        self._next: Request | None = self._first
        self._max_pages = max_pages or sync.max_pages
        self._access = access
        self._cancelled = cancelled
        self._is_shared = client is not None
        self._client = client or Client(policy or policy_of(sync, reach), cancelled=cancelled, limiter=limiter)
        self._sender = Sender(sync, self._client, access, etag)
        self._ahead: Ahead[Page | Stop] | None = None

    def __iter__(self) -> Iterator[Page]:
        if self._ahead is not None:
            raise RuntimeError("A Fetch is read once; make a new one.")
        self._ahead = Ahead(self._pages(), lambda item: getattr(item, "bytes", 0), self._cancelled)
        try:
            for item in self._ahead:
                if isinstance(item, Stop):
                    self.stop = item
                    return
                self.pages += 1
                self.records += len(item.records)
                self._next = item.next
                yield item
        finally:
            self.close()

    @property
    def requests(self) -> int:
        """Requests sent so far by the client, retries and redirects included."""
        return self._client.requests

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return self._client.retries

    @property
    def rules(self) -> list[str]:
        """The rules and defaults that decided on answers, such as "page 2: 202 is retried"."""
        return self._sender.rules

    @property
    def not_modified(self) -> bool:
        """Whether the API said that nothing changed since the `etag`."""
        return self.stop is not None and self.stop.reason == "not_modified"

    @property
    def paging_doubt(self) -> str | None:
        """Why the end of the list is doubtful: no answer had anything at the paging path. None where it is not."""
        doubt = None if self.stop is None else self._evidence.doubt(self.stop.reason)
        return None if doubt is None else self._client.redact(doubt)

    @property
    def warnings(self) -> list[str]:
        """Sentences about answers that may not be what the sync is meant to read."""
        return [] if self._more_pages is None else [self._client.redact(self._more_pages)]

    @property
    def next_request(self) -> str | None:
        """The next request after the pages read so far, without secrets."""
        return None if self._next is None else self._client.redact(str(self._next), self._next)

    def close(self) -> None:
        """Stop fetching; a request on its way is given up within a moment."""
        if not self._is_shared:
            self._client.close()
        if self._access is not None:
            self._access.close()
        if self._ahead is not None:
            self._ahead.close()

    def __enter__(self) -> Fetch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the guard loop, in a thread of its own ------------------------------------------------------------

    def _pages(self) -> Iterator[Page | Stop]:
        """The pages and, at the end, the reason for it.

        A page that equals the one before is held back until it is known whether it is the last one again.
        """
        guard = Guard(self.sync, self._paging)
        progress = Progress(self._start.number - 1, self._paging.counts, seen=self._start.seen)
        held: list[Page] = []
        request = self._first
        for number in count(self._start.number):
            guard.before(request)
            response, meaning = self._send(request, number, progress)
            if response.status == 304 or meaning.action == "end":
                self.etag_to_keep = self._sender.etag_of(response) if response.status == 304 else None
                yield from held
                yield progress.final(Stop("not_modified" if response.status == 304 else "end_rule"))
                return
            answer = self._answer(request, response, meaning, progress)
            guard.see(answer)
            if isinstance(self._paging, SinglePage) and self.sync.max_pages is None:
                self._more_pages = more_pages(answer)
            following, stop = self._decide(replace(answer, step=guard.largest), guard, progress)
            repetition = guard.repetition(answer) if stop is None else "none"
            error = self._repetition(answer, following, guard, repetition) if stop is None and following else None
            page, is_cut = self._page(answer, following, progress)
            if is_cut:
                stop = Stop("max_total", complete=False)
            elif number == 1 and following is None:
                self.etag_to_keep = self._sender.etag_of(response)
            # While this page waits for its reader, its body need not.
            del response, answer
            if repetition == "end":
                yield progress.final(Stop("last_page_again"))
                return
            held.append(page)
            if repetition != "held" or stop is not None or error is not None:
                yield from held
                held.clear()
            if stop is not None:
                yield progress.final(stop)
                return
            if error is not None:
                raise error
            assert following is not None
            request = following

    def _answer(self, request: Request, response: Response, meaning: Meaning, progress: Progress) -> Answer:
        """The answer as paging sees it."""
        envelope = self._read(request, response, meaning)
        progress.add(envelope, is_skipped=meaning.action == "skip", is_inclusive=self.sync.paging_inclusive)
        base = next_request(self.sync, request) if progress.number == 1 and self.sync.next_request else None
        answer = Answer(
            request,
            response,
            envelope,
            progress.number,
            progress.total,
            base,
            seen=progress.seen,
            highest_total=progress.highest_total,
        )
        if self._ending.by_number:
            progress.is_last = bytes(envelope.document.fields.get("next", b"")) == b"null"
        return answer

    def _decide(self, page: Answer, guard: Guard, progress: Progress) -> tuple[Request | None, Stop | None]:
        """The next request, and why it is not sent if it is not.

        An empty page is not yet the end: an API may filter what it has counted, and still say where to go on.
        """
        try:
            said = self._ending.said(page)
            progress.highest_total = max(progress.highest_total, said.total or 0)
            self._evidence.see(page)
            if said.more is False or said.is_total_reached:
                self._evidence.settle()
            more = True if progress.is_skipped and said.more is None else said.more
            following = None if more is False else self._paging.after(replace(page, more=more))
            if following is None and more is None and not said.is_total_reached:
                self._evidence.check_links(page)
        except (ApiError, ConfigError, RecordRejected) as error:
            sentence = str(error)
        else:
            if page.size == 0 and (following is None or guard.was_sent(following)):
                return None, Stop("empty_page") if more is not True else MORE_LEFT
            if more is False:
                return None, Stop(said.reason)
            if following is None:
                return None, Stop(self._paging.ends) if more is not True else MORE_LEFT
            if self.sync.paging_inclusive and guard.was_sent(following) and page.size < guard.largest:
                return None, Stop("cursor_stays")
            return following, self._limit(page, guard)
        raise self._error(ApiError, page.request, sentence)

    def _limit(self, page: Answer, guard: Guard) -> Stop | None:
        if guard.is_all_empty:
            return Stop("empty_pages", complete=False)
        if self.sync.max_total is not None and page.total >= self.sync.max_total:
            return Stop("max_total", complete=False)
        if self._max_pages is not None and page.number - self._start.number + 1 >= self._max_pages:
            return Stop("max_pages", complete=False)
        return None

    def _repetition(self, page: Answer, following: Request, guard: Guard, repetition: str) -> NangoError | None:
        """The error of a next request that was sent before, or makes no difference to the API."""
        if guard.was_sent(following) and not self.sync.paging_cursor_repeats:
            sentence = f"paging repeats: page {page.number} leads back to {following}."
        elif repetition == "stuck":
            pages = f"pages {page.number - guard.times + 1} to {page.number} hold the same records"
            if guard.begins_again:
                pages = f"the first page came again {'once' if guard.rounds == 1 else f'{guard.rounds:,} times'}"
            sentence = f"paging repeats: {pages}; does the API know the paging parameter?"
        else:
            return None
        return self._error(PagingRepeats, page.request, f"{sentence} {remedies(self.sync, self._paging)}")

    def _page(self, answer: Answer, following: Request | None, progress: Progress) -> tuple[Page, bool]:
        """The page's new records up to `max_total`, and whether some are left out for that."""
        records = answer.envelope.records[progress.overlap :]
        excess = answer.total - (self.sync.max_total or answer.total)
        kept = records[: len(records) - excess] if excess > 0 else records
        size = len(answer.response.content)
        page = Page(progress.number, kept, answer.envelope.rejected, size, following, progress.seen, self._note(answer))
        return page, excess > 0

    # --- one page ------------------------------------------------------------------------------------------

    def _send(self, request: Request, number: int, progress: Progress) -> tuple[Response, Meaning]:
        is_range = (self.sync.paging_cursor_request_header or "").lower() == "range"
        is_numbered = isinstance(self._paging, PageNumber)
        position = Position(number, is_numbered, self._paging.counts, progress.is_last, is_range)
        with_etag = number == 1 and request.method == "GET" and self._paging.in_body
        return self._sender.send(request, position, with_etag=with_etag)

    def _read(self, request: Request, response: Response, meaning: Meaning) -> Envelope:
        if meaning.action in ("empty", "skip"):
            return Envelope([], [], Document(response.content.strip()))
        try:
            text = json_text(response, self.sync.format, self._body_limits)
            return read(text, self._shape, trusted=bool(meaning.rule))
        except NangoError as error:
            # It may quote the API at any length; redacted first, for half a secret is not known as one.
            sentence = textwrap.shorten(self._client.redact(str(error), request), LONGEST, placeholder=" …")
        sent = self._sender.sent or request
        if response.url.partition("?")[0] != sent.full_url.partition("?")[0].partition("#")[0]:
            sentence += f" It is the answer of {public_url(response.url)}, to which the request was redirected."
        if not response.content:
            sentence += (
                ' If that is an empty list, add to responses: {header: Content-Length, equals: "0", action: empty}.'
            )
        elif response.content.lstrip()[:1] not in (b"{", b"["):
            begins = self._client.excerpt(request, response)
            sentence += f" It begins {begins}." if begins else ""
        raise self._error(ApiError, request, sentence)

    def _error(self, kind: type[NangoError], request: Request, sentence: str) -> NangoError:
        """An error about an answer: whose, to what, and without secrets."""
        sent = self._sender.sent or request
        return kind(self._client.redact(f"{self.sync.display_name}: {sent}: {sentence}", sent))
