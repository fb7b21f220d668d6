"""A sync becomes an iterator of pages: one guard loop for all paging styles, one page ahead of its reader."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from types import TracebackType
from typing import Any, Final, Protocol

from ..bodies import BodyLimits, json_text
from ..config import Sync
from ..errors import ApiError, ConfigError, NangoError, RecordRejected
from ..http import (
    Client,
    Limiter,
    Policy,
    Reach,
    Request,
    Response,
    origin,
    secrets_of,
)
from ..paging import Answer, says_no_more, style
from ..records import Envelope, Rejected, read
from .ahead import Ahead
from .guard import Guard
from .requests import digest, filled, first_request, policy_of

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


@dataclass(frozen=True)
class Stop:
    """Why a pull is over, and whether the whole list was seen.

    The reasons: `single_page`, `no_cursor`, `no_next_url`, `empty_page`, `has_more_false` and `not_modified`;
    never complete are `max_total`, `max_pages`, `empty_pages`, and `more_left`, where the API says that there is more
    and not how to get it.
    """

    reason: str
    complete: bool = True


_MORE_LEFT = Stop("more_left", complete=False)


class Access(Protocol):
    """What a connection gives to the requests of a sync; asked from another thread than the Fetch's caller's."""

    def variables(self, fresh: bool) -> Mapping[str, Any]:
        """The values of the sync's `${...}`, before each request, and with `fresh=True` after a 401."""

    def sign(self, request: Request) -> Request:
        """A request, whose placeholders have been filled, with what the API wants to see besides."""

    def secrets(self) -> tuple[str, ...]:
        """What has to be starred wherever it comes up."""

    def hash_key(self) -> bytes | None:
        """The key of hashes that secrets go into; None where there is none."""

    def close(self) -> None:
        """End whatever another thread may be waiting for."""


class Fetch:
    """The pages of one sync for one connection, read once, each fetched while the one before is used.

    `access` and `cancelled` are asked from another thread than the caller's.

    Iterating raises what went wrong after the pages before it; they were good. Afterwards `stop` says why it
    ended.
    """

    def __init__(
        self,
        sync: Sync,
        *,
        access: Access | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        start: Request | None = None,
        etag: str | None = None,
        max_pages: int | None = None,
        reach: Reach = "anywhere",
        limiter: Limiter | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.sync = sync
        self.stop: Stop | None = None
        self.pages = 0
        self.records = 0
        self.etag_to_keep: str | None = None
        """The list's ETag, if it is one page, and what was asked: the `etag` of the next Fetch, whatever that asks."""
        self._paging = style(sync)
        self._first = start or self._paging.first(first_request(sync))
        self._next: Request | None = self._first
        self._kept_etag = etag
        self._asked: str | None = None
        self._max_pages = max_pages or sync.max_pages
        self._access = access
        self._home: str | None = None
        self._body_limits = BodyLimits(sync.max_page_bytes, sync.max_page_records)
        self._cancelled = cancelled
        self._client = Client(policy or policy_of(sync, reach), cancelled=cancelled, limiter=limiter)
        self._client.hide(*secrets_of(first_request(sync)))
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
        """Requests sent so far, retries and redirects included."""
        return self._client.requests

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return self._client.retries

    @property
    def not_modified(self) -> bool:
        """Whether the API said that nothing changed since the `etag`."""
        return self.stop is not None and self.stop.reason == "not_modified"

    @property
    def next_request(self) -> str | None:
        """What paging would send after the pages read so far, without secrets."""
        return None if self._next is None else self._client.redact(str(self._next), self._next)

    def close(self) -> None:
        """Stop fetching; a request on its way is given up within a moment."""
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
        """The pages and, at the end, the reason for it."""
        guard = Guard(self._error)
        request = self._first
        total = 0
        for number in count(1):
            guard.before(request)
            response = self._send(request, number)
            if response.status == 304:
                self.etag_to_keep = self._kept_etag
                yield Stop("not_modified")
                return
            envelope = self._read(request, response)
            total += len(envelope.records)
            answer = Answer(request, response, envelope, number, total)
            following, stop = self._decide(answer, guard)
            kept, dropped = self._within_total(answer)
            if dropped:
                stop = Stop("max_total", complete=False)
            elif number == 1 and following is None:
                self.etag_to_keep = self._with_asked(response.headers.get("ETag"))
            repetition = guard.after(answer, following) if stop is None and following else None
            page = Page(number, kept, envelope.rejected, len(response.content), following)
            # While this page waits for its reader, its body need not.
            del response, envelope, answer
            yield page
            if stop is not None:
                yield stop
                return
            if repetition is not None:
                raise repetition
            assert following is not None
            request = following

    def _decide(self, page: Answer, guard: Guard) -> tuple[Request | None, Stop | None]:
        """The next request, and why it is not sent if it is not.

        An empty page is not yet the end: an API may filter what it has counted, and still say where to go on.
        """
        more = self._has_more(page)
        following = None if more is False else self._following(page)
        if page.size == 0 and (following is None or guard.was_sent(following)):
            return None, Stop("empty_page") if more is not True else _MORE_LEFT
        if more is False:
            return None, Stop("has_more_false")
        if guard.is_all_empty(page):
            return following, Stop("empty_pages", complete=False)
        return following, self._limit(page, following, more)

    def _following(self, page: Answer) -> Request | None:
        try:
            return self._paging.after(page)
        except (ApiError, ConfigError, RecordRejected) as error:
            sentence = str(error)
        raise self._error(ApiError, page.request, sentence)

    def _limit(self, page: Answer, following: Request | None, more: bool | None) -> Stop | None:
        if following is None:
            return Stop(self._paging.ends) if more is not True else _MORE_LEFT
        if self.sync.max_total is not None and page.total >= self.sync.max_total:
            return Stop("max_total", complete=False)
        if self._max_pages is not None and page.number >= self._max_pages:
            return Stop("max_pages", complete=False)
        return None

    def _has_more(self, page: Answer) -> bool | None:
        """What the API says itself; None where it says nothing."""
        path = self.sync.paging_has_more_response_path
        if path is None:
            return None
        found = page.envelope.dig(path)
        return False if says_no_more(found) else True if found else None

    def _within_total(self, page: Answer) -> tuple[list[Record], bool]:
        """The records up to `max_total`, and whether some were left out."""
        found = page.envelope.records
        excess = page.total - (self.sync.max_total or page.total)
        return (found[: len(found) - excess], True) if excess > 0 else (found, False)

    # --- one page ------------------------------------------------------------------------------------------

    def _send(self, request: Request, number: int) -> Response:
        variables = self._variables()
        try:
            if number == 1:
                request = self._if_changed(request, variables)
            ready = self._filled(request, variables)
            self._home = self._home or origin(filled(first_request(self.sync), variables).url)
        except ConfigError as error:
            sentence = self._client.redact(f"{self.sync.display_name}: {error}")
        else:
            return self._client.send(
                ready, home=self._home, rebuild=lambda refused: self._filled(request, self._variables(fresh=refused))
            )
        raise ConfigError(sentence)

    def _if_changed(self, request: Request, variables: Mapping[str, Any]) -> Request:
        """The first request, with the kept ETag if that was the answer to the same one."""
        if request.method == "GET" and self._paging.in_body:
            secrets = () if self._access is None else self._access.secrets()
            key = (lambda: None) if self._access is None else self._access.hash_key
            self._asked = digest(self.sync, filled(request, variables), secrets, key)
            asked, _, etag = (self._kept_etag or "").partition(" ")
            if etag and asked == self._asked:
                return replace(request, headers={**request.headers, "If-None-Match": etag})
        return request

    def _with_asked(self, etag: str | None) -> str | None:
        return f"{self._asked} {etag}" if etag and self._asked else None

    def _variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """What the sync's placeholders stand for at this moment; what of it is secret is told in no error."""
        if self._access is None:
            return {}
        variables = self._access.variables(fresh)
        self._client.hide(*self._access.secrets())
        return variables

    def _filled(self, request: Request, variables: Mapping[str, Any]) -> Request:
        """The request as it is sent. To whom it is sent decides what of it stays: see `Client.send`."""
        filled_request = filled(request, variables)
        return filled_request if self._access is None else self._access.sign(filled_request)

    def _read(self, request: Request, response: Response) -> Envelope:
        if response.status in (204, 205):  # No Content
            return Envelope([])
        try:
            text = json_text(response, self.sync.format, self._body_limits)
            return read(text, self.sync.response_path, self._body_limits.max_records)
        except NangoError as error:
            # It may quote the API at any length; redacted first, for half a secret is not known as one.
            sentence = textwrap.shorten(self._client.redact(str(error), request), LONGEST, placeholder=" …")
        if response.content.lstrip()[:1] not in (b"{", b"["):
            begins = self._client.excerpt(request, response)
            sentence += f" It begins {begins}." if begins else ""
        raise self._error(ApiError, request, sentence)

    def _error(self, kind: type[NangoError], request: Request, sentence: str) -> NangoError:
        """An error about an answer: whose, to what, and without secrets."""
        return kind(self._client.redact(f"{self.sync.display_name}: {request}: {sentence}", request))
