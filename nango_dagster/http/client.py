"""One request, with time limits, redirects, address checks, retries and secrets starred."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from requests import RequestException
from urllib3.exceptions import HTTPError

from ..errors import ApiError, AuthenticationFailed, Cancelled, ConfigError
from .rates import Limiter, RateLimit, asked_wait, bucket, is_rate_limited
from .redaction import public_url, redact, secrets_of
from .values import NO_BODY, Place, Request, Response, body_bytes, joined, origin, split
from .wire import ERROR_BYTES, SLICE, Limits, Reach, TooLarge, UnknownEncoding, Watch, Wire, breakdown

MAX_REDIRECTS: Final = 10
_EXCERPT: Final = 200  # characters of a body in an error
_LONGEST_BACKOFF: Final = 60.0
# All that a stranger's server learns from us.
_HARMLESS: Final = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
_TRY_AGAIN: Final = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Policy:
    """How requests are sent: whom they may reach, how long they may take, how often they are tried.

    Credentials go where a request was meant to go and to `allowed_origins`, never where an API sends it on.
    """

    name: str = ""
    """Begins every error: the sync's name."""
    timeout: float = 30.0
    """The longest silence in seconds. A whole answer may take ten times that."""
    connect_timeout: float = 10.0
    retries: int = 3
    backoff: float = 2.0
    """Seconds before the first retry; doubled for each one after it."""
    max_wait: float = 300.0
    """An API that asks to wait longer is left alone until the next run."""
    max_bytes: int = 100_000_000
    allowed_origins: frozenset[str] = frozenset()
    reach: Reach = "anywhere"
    rate_limit: RateLimit | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values to star besides those that look secret by their names."""

    @property
    def limits(self) -> Limits:
        connect = min(self.connect_timeout, self.timeout)
        return Limits(connect, self.timeout, 10 * self.timeout, self.max_bytes)


@dataclass(frozen=True)
class _Trouble:
    """No usable answer: the rest of the sentence, and whether and when to ask again."""

    request: Request
    sentence: str
    again: bool = False
    wait: float | None = None
    status: int | None = None
    refused: bool = False
    """Whether somebody who was shown the credentials does not take them."""


class Client:
    """Sends requests over connections that it keeps alive; for one thread at a time.

    `cancelled` is asked at least five times a second during every wait, also for bytes. `close` may come from
    another thread, and ends a wait at once.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        limiter: Limiter | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self.cancelled = cancelled
        self.requests = 0
        self.retries = 0
        self._limiter = limiter or (bucket(self.policy.rate_limit) if self.policy.rate_limit else None)
        self._closed = threading.Event()
        self._asked_at = 0.0
        self._secrets = set(self.policy.secrets)
        self._wire = Wire(Watch(self.policy.reach, self.policy.timeout, self._ask))

    def send(
        self, request: Request, *, home: str | None = None, fresh: Callable[[], Request] | None = None
    ) -> Response:
        """The answer with a status of 2xx, or 304 if that was asked for.

        `home` is the origin whose credentials the request holds, if not that of its URL. Connection errors,
        time-outs, half a body, 429 and 5xx are tried again. After a 401, `fresh` gives the request with new
        credentials, once. Raises ApiError, AuthenticationFailed, ConfigError or Cancelled.
        """
        try:
            at_home = frozenset({home or origin(request.url), *self.policy.allowed_origins})
            return self._send(request, at_home, fresh)
        except ConfigError as error:
            sentence = self.redact(str(error), request)
        # Outside of the except clause, so that the traceback holds no other message.
        raise ConfigError(self._named(sentence))

    def _send(self, request: Request, home: frozenset[str], fresh: Callable[[], Request] | None) -> Response:
        tries = 1
        while True:
            outcome = self._follow(request, home)
            if isinstance(outcome, Response):
                return outcome
            renewed = fresh() if fresh is not None and outcome.refused else request
            if renewed != request:
                request, fresh = renewed, None
            elif outcome.again and tries <= self.policy.retries and (outcome.wait or 0) <= self.policy.max_wait:
                self._wait(self._pause(outcome, tries))
                tries += 1
            else:
                raise self._error(outcome, request, tries)
            self.retries += 1

    def hide(self, *secrets: str) -> None:
        """Star these values too, wherever they come up."""
        self._secrets.update(secrets)

    def redact(self, text: str, request: Request | None = None) -> str:
        """The text without any secret that this client has been told of, or that the request holds."""
        return redact(text, [*self._secrets, *(secrets_of(request) if request else ())])

    def excerpt(self, request: Request, response: Response) -> str:
        """The first part of a body in quotes, without secrets; empty for an empty one."""
        return _excerpt(response, [*self._secrets, *secrets_of(request)])

    def close(self) -> None:
        """Let go of the connections; a wait in another thread ends with Cancelled."""
        self._closed.set()
        self._wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- one try ---------------------------------------------------------------------------------------

    def _follow(self, request: Request, home: frozenset[str]) -> Response | _Trouble:
        """The answer after all redirects."""
        been: set[tuple[str, str]] = set()
        for _ in range(MAX_REDIRECTS + 1):
            outcome = self._exchange(request, home)
            location = outcome.headers.get("Location") if isinstance(outcome, Response) else None
            if not isinstance(outcome, Response) or outcome.status not in _REDIRECTS or location is None:
                return self._judge(request, outcome, home) if isinstance(outcome, Response) else outcome
            been.add((request.method, request.full_url))
            try:
                request = redirected(request, outcome.status, location)
            except ConfigError:
                return _Trouble(request, f'redirects to "{public_url(location)}", which cannot be fetched')
            if (request.method, request.full_url) in been:
                return _Trouble(request, "redirects in a circle")
        return _Trouble(request, f"redirects more than {MAX_REDIRECTS} times")

    def _exchange(self, request: Request, home: frozenset[str]) -> Response | _Trouble:
        """One request and its answer, whatever its status."""
        place = split(request.url)
        if not _is_at_home(place, home):
            if request.body and request.has_body:
                return _Trouble(request, f"was not sent: its body does not go to {place.origin}, {_ALLOW}")
            request = _for_strangers(request)
        headers = checked_headers(request.headers)
        body = None
        if request.has_body:
            body = body_bytes(request)
            if not any(name.lower() == "content-type" for name in headers):
                headers["Content-Type"] = "application/json"
        self._ask(now=True)
        if self._limiter is not None:
            self._wait(self._limiter.take())
        self.requests += 1
        limits = self.policy.limits
        try:
            return self._wire.exchange(request.method, request.full_url, place, with_defaults(headers), body, limits)
        except (RequestException, HTTPError, OSError, ValueError, TooLarge, UnknownEncoding) as error:
            broken = breakdown(error, place, limits)
        return _Trouble(request, broken.sentence, broken.again)

    def _judge(self, request: Request, response: Response, home: frozenset[str]) -> Response | _Trouble:
        """The answer, if it is one that can be used."""
        status = response.status
        if 200 <= status < 300 or (status == 304 and "If-None-Match" in request.headers):
            return response
        limited = status == 429 or (status == 403 and is_rate_limited(response.headers))
        wait = asked_wait(response.headers) if limited or status >= 500 else None
        begins = self.excerpt(request, response)
        joint = " with an HTML page: " if _is_html(response) else ": "
        sentence = f"answered {phrase(status)}{joint + begins if begins else ''}"
        place = split(request.url)
        at_home = _is_at_home(place, home)
        if status in (401, 403) and not at_home:
            sentence += f" (without the sync's credentials, which do not go to {place.origin}, {_ALLOW})"
        if wait is not None and wait > self.policy.max_wait:
            sentence += f"; it asks to wait {wait:,.0f} s"
        again = limited or status >= 500 or status in _TRY_AGAIN
        return _Trouble(request, sentence, again, wait, status, refused=status == 401 and at_home)

    # --- waiting, and giving up ------------------------------------------------------------------------

    def _pause(self, trouble: _Trouble, tries: int) -> float:
        """Seconds until the next try; never the same for two, so that they do not come back together."""
        backoff = min(self.policy.backoff * 2.0 ** (tries - 1), _LONGEST_BACKOFF)
        jitter = random.uniform(0.5, 1.0)
        return backoff * jitter if trouble.wait is None else trouble.wait + 0.1 * backoff * jitter

    def _wait(self, seconds: float) -> None:
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._closed.wait(min(left, SLICE))
            self._ask(now=True)

    def _ask(self, now: bool = False) -> None:
        """Raise Cancelled when nobody wants an answer any more; asks at most five times a second."""
        if self._closed.is_set():
            raise Cancelled
        at = monotonic()
        if now or at - self._asked_at >= SLICE:
            self._asked_at = at
            if self.cancelled():
                raise Cancelled

    def _error(self, trouble: _Trouble, first: Request, tries: int) -> ApiError:
        kind = AuthenticationFailed if trouble.refused else ApiError
        asked = f"{first} (redirected to {public_url(trouble.request.full_url)})"
        if trouble.request.full_url == first.full_url:
            asked = str(first)
        after = f" after {tries} tries" if tries > 1 else ""
        secrets = [*self._secrets, *secrets_of(first), *secrets_of(trouble.request)]
        return kind(self._named(f"{redact(f'{asked} {trouble.sentence}', secrets)}{after}."), trouble.status)

    def _named(self, sentence: str) -> str:
        return f"{self.policy.name}: {sentence}" if self.policy.name else sentence


# --- redirects, and what goes along ---------------------------------------------------------------------

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ALLOW: Final = "which is not in the sync's allowed_origins"


def redirected(request: Request, status: int, location: str) -> Request:
    """The request to send after a redirect; only a 303 turns it into a GET.

    A query that the server leaves out is kept, for it says which page was meant.

    >>> redirected(Request("GET", "http://a.example/items?page=2"), 301, "/items/")
    Request(GET http://a.example/items/?page=2)
    """
    here = request.full_url
    target = joined(here, location)
    if status == 303 and request.method not in NO_BODY:
        return replace(request, method="GET", url=target, params=(), body=None)
    query = urlsplit(here).query
    if query and "?" not in target and _same_host(split(here), split(target)):
        target = f"{target}?{query}"
    return replace(request, url=target, params=() if "?" in target else request.params)


def _same_host(here: Place, there: Place) -> bool:
    """The same origin, or the same host on https."""
    upgrade = (here.scheme, here.port, there.scheme, there.port) == ("http", 80, "https", 443)
    return here.origin == there.origin or (upgrade and here.host == there.host)


def _is_at_home(place: Place, home: frozenset[str]) -> bool:
    return place.origin in home or any(_same_host(split(known), place) for known in home)


def _for_strangers(request: Request) -> Request:
    """The request without anything that another server has no business to see."""
    harmless = {name: value for name, value in request.headers.items() if name.lower() in _HARMLESS}
    return replace(request, headers=harmless, params=())


# --- headers and bodies ---------------------------------------------------------------------------------

_LINE_BREAK = re.compile(r"[\r\n\0]")


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy of the headers. Raises ConfigError where one would break the request; its value is not told."""
    for name, value in headers.items():
        if _LINE_BREAK.search(name + value):
            raise ConfigError(f"the header {_LINE_BREAK.sub('', name)!r} holds a line break; headers are one line.")
        if not (name + value).isascii() and not _is_latin(name + value):
            raise ConfigError(f"the header {name!r} holds characters that no header can carry.")
    return dict(headers)


def _is_latin(text: str) -> bool:
    return all(ord(character) < 256 for character in text)


def with_defaults(headers: dict[str, str]) -> dict[str, str]:
    """The headers, and those that say who asks where they do not."""
    have = {name.lower() for name in headers}
    for name, value in _defaults().items():
        if name.lower() not in have:
            headers[name] = value
    return headers


@lru_cache
def _defaults() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("nango-dagster")
    except PackageNotFoundError:  # run from a checkout that is not installed
        ours = "0"
    return {
        "User-Agent": f"nango-dagster/{ours}",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
    }


def phrase(status: int) -> str:
    """A status with its name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _excerpt(response: Response, secrets: list[str]) -> str:
    text = " ".join("".join(_printable(response.content[:ERROR_BYTES].decode(errors="replace"))).split())
    if not text:
        return ""
    starred = redact(text, secrets)
    if len(response.content) >= ERROR_BYTES:
        # The end of what was read may be the beginning of a secret.
        starred = starred[: -max(map(len, secrets), default=0) or None]
    short = starred if len(starred) <= _EXCERPT else starred[:_EXCERPT] + "…"
    return f'"{short}"'


def _is_html(response: Response) -> bool:
    kind = response.headers.get("Content-Type", "").lower()
    return "html" in kind or response.content.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))


def _printable(text: str) -> Iterator[str]:
    return (character if character.isprintable() else " " for character in text)
