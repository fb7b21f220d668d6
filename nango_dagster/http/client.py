"""A client for one API: redirects, rate limit, retries, refreshed credentials, and errors without secrets."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Protocol

from .. import clock
from ..errors import ApiError, AuthenticationFailed, Cancelled, ConfigError
from .addresses import Reach
from .failures import TRANSPORT_ERRORS, Limits, breakdown
from .headers import checked_headers, with_defaults
from .links import utf8_text
from .rates import Limiter, RateLimit, bucket
from .redaction import public_url, redact
from .redirects import MAX_REDIRECTS, REDIRECTS, is_at_home, redirected, without_credentials
from .request import FileBody, Request, Response, body_bytes, secrets_of
from .sockets import SLICE, ReadGuard
from .transport import Message, Transport
from .urls import Server, origin, server_of
from .verdicts import Failure, Judge, answered, excerpt, failure_by_rule, failure_by_status, is_success

log = logging.getLogger(__name__)

_MAX_BACKOFF: Final = 60.0
_ALLOW: Final = "which is not in the sync's allowed_origins"


@dataclass(frozen=True)
class Policy:
    """How requests are sent: which addresses they may reach, how long they may take, how often they are tried.

    Credentials go to the server that a request was made for and to `allowed_origins`, never to another server that an
    API redirects to.
    """

    name: str = ""
    """Begins every error: the sync's name."""
    timeout: float = 30.0
    """The longest silence in seconds. A whole answer may take ten times as long."""
    connect_timeout: float = 10.0
    retries: int = 3
    backoff: float = 2.0
    """Seconds before the first retry; doubled for each further one."""
    max_wait: float = 300.0
    """Seconds; an API that asks to wait longer is not asked again until the next run."""
    max_bytes: int = 100_000_000
    bytes_setting: str = "max_page_bytes of this sync"
    streams: bool = False
    """Whether the body of an answer is handed out while it arrives: `Response.rest` follows its first piece."""
    allowed_origins: frozenset[str] = frozenset()
    reach: Reach = "anywhere"
    rate_limit: RateLimit | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values to star besides those that look secret by their names."""

    @property
    def limits(self) -> Limits:
        connect = min(self.connect_timeout, self.timeout)
        total = 10 * self.timeout
        return Limits(connect, self.timeout, total, self.max_bytes, self.bytes_setting, streams=self.streams)


class Interceptor(Protocol):
    """Stands between a client and the network: records requests and answers, or answers in the network's place."""

    @property
    def waits(self) -> bool:
        """Whether the client waits before it tries again."""

    def answer(self, request: Request, send: Callable[[], Response | Failure]) -> Response | Failure:
        """The answer to a request; `send` asks the network."""


class Client:
    """Sends requests over connections that it keeps alive; for one thread at a time.

    `cancelled` is called at least five times a second during every wait, also for bytes. `close` may be called from
    another thread, and ends a wait at once.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        limiter: Limiter | None = None,
        interceptor: Interceptor | None = None,
    ) -> None:
        self.policy = policy or Policy()
        self._interceptor = interceptor
        self.cancelled = cancelled
        self.requests = 0
        self.retries = 0
        self._limiter = limiter or (bucket(self.policy.rate_limit) if self.policy.rate_limit else None)
        self._closed = threading.Event()
        self._checked_at = 0.0
        self._secrets = set(self.policy.secrets)
        self._transport = Transport(ReadGuard(self.policy.reach, self.policy.timeout, self._check))

    def send(
        self,
        request: Request,
        *,
        home: str | None = None,
        rebuild: Callable[[bool], Request] | None = None,
        judge: Judge | None = None,
        retries: int | None = None,
    ) -> Response:
        """The answer with a status of 2xx, with 304 if the request allows it, or one that `judge` accepts.

        `home` is the origin whose credentials the request holds, if not that of its URL. `retries` replaces those of
        the policy. Connection errors, time-outs,
        half a body, 429 and 5xx are tried again. `rebuild` makes the request for each further try, since a signature
        or token is good once or for a while: with True after the API refused the credentials, which is tried once.

        Raises ApiError, AuthenticationFailed, ConfigError or Cancelled.
        """
        try:
            origins = frozenset({home or origin(request.url), *self.policy.allowed_origins})
            return self._send(request, origins, rebuild, judge, self.policy.retries if retries is None else retries)
        except ConfigError as error:
            sentence = self.redact(str(error), request)
        # Outside of the except clause, so that the traceback holds no other message.
        raise ConfigError(self._named(sentence))

    def _send(
        self,
        request: Request,
        home: frozenset[str],
        rebuild: Callable[[bool], Request] | None,
        judge: Judge | None,
        retries: int,
    ) -> Response:
        tries, is_refreshed = 1, False
        while True:
            outcome = self._follow(request, home, judge)
            if isinstance(outcome, Response):
                return outcome
            if outcome.refused and rebuild is not None and not is_refreshed:
                is_refreshed = True
                rebuilt = rebuild(True)
                if rebuilt == request:
                    raise self._error(outcome, request, tries)
                request = rebuilt
            elif outcome.again and tries <= retries and (outcome.wait or 0) <= self.policy.max_wait:
                self._wait(self._pause(outcome, tries))
                tries += 1
                request = request if rebuild is None else rebuild(False)
            else:
                raise self._error(outcome, request, tries)
            self.retries += 1

    def hide(self, *secrets: str) -> None:
        """Star these values too, wherever they occur."""
        self._secrets.update(secrets)

    def redact(self, text: str, request: Request | None = None) -> str:
        """The text without the secrets of this client and of the request."""
        return redact(text, [*self._secrets, *(secrets_of(request) if request else ())])

    def excerpt(self, request: Request, response: Response) -> str:
        """The beginning of a body in quotes, without secrets; empty for an empty body."""
        return excerpt(response, [*self._secrets, *secrets_of(request)])

    def close(self) -> None:
        """Release the connections; a wait in another thread ends with Cancelled."""
        self._closed.set()
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- one try ------------------------------------------------------------------------------------------------------

    def _follow(self, request: Request, home: frozenset[str], judge: Judge | None) -> Response | Failure:
        """The answer after all redirects."""
        visited: set[tuple[str, str]] = set()
        for _ in range(MAX_REDIRECTS + 1):
            outcome = self._exchange(request, home)
            if isinstance(outcome, Failure):
                return outcome
            location = outcome.headers.get("Location")
            if outcome.status not in REDIRECTS or location is None:
                return self._judged(request, outcome, home, judge)
            visited.add((request.method, request.full_url))
            try:
                request = redirected(request, outcome.status, utf8_text(location))
            except ConfigError:
                return Failure(request, f'redirects to "{public_url(location)}", which cannot be fetched')
            if (request.method, request.full_url) in visited:
                return Failure(request, "redirects in a circle")
        return Failure(request, f"redirects more than {MAX_REDIRECTS} times")

    def _exchange(self, request: Request, home: frozenset[str]) -> Response | Failure:
        """One request and its answer, whatever its status."""
        server = server_of(request.url)
        if not is_at_home(server, home):
            if request.body and request.has_body:
                return Failure(request, f"was not sent: its body does not go to {server.origin}, {_ALLOW}")
            request = without_credentials(request)
        message = _message(request, server)
        self._check(now=True)
        if self._limiter is not None:
            self._wait(self._limiter.take())
        self.requests += 1
        limits = self.policy.limits
        began = clock.monotonic()

        def send() -> Response | Failure:
            try:
                return self._transport.exchange(message, limits)
            except TRANSPORT_ERRORS as error:
                reason = breakdown(error, server, limits)
                return Failure(request, reason.sentence, reason.again)

        outcome = send() if self._interceptor is None else self._interceptor.answer(request, send)
        if log.isEnabledFor(logging.DEBUG):
            self._log(request, outcome, clock.monotonic() - began)
        return outcome

    def _judged(
        self, request: Request, response: Response, home: frozenset[str], judge: Judge | None
    ) -> Response | Failure:
        """The answer, if it is one that can be used."""
        verdict = judge(response) if judge is not None else None
        if verdict.action == "accept" if verdict is not None else is_success(request, response):
            return response
        sentence = answered(response, self.excerpt(request, response))
        if verdict is not None:
            return failure_by_rule(request, response, verdict, sentence)
        failure = failure_by_status(request, response, sentence)
        server = server_of(request.url)
        if response.status in (401, 403) and not is_at_home(server, home):
            # A refresh would not help: this server has not seen the credentials.
            note = f" (without the sync's credentials, which do not go to {server.origin}, {_ALLOW})"
            return replace(failure, sentence=sentence + note, refused=False)
        return failure

    def _log(self, request: Request, outcome: Response | Failure, seconds: float) -> None:
        """One line for each request at the level DEBUG, without secrets."""
        size = f"{len(outcome.content):,} bytes" if isinstance(outcome, Response) else outcome.sentence
        status = f"{outcome.status}, " if isinstance(outcome, Response) else ""
        log.debug("%s", self._named(f"{self.redact(str(request), request)}: {status}{size} in {seconds:.3f} s"))

    # --- waiting, and giving up ---------------------------------------------------------------------------------------

    def _pause(self, failure: Failure, tries: int) -> float:
        """Seconds until the next try; random in part, so that clients do not come back together."""
        backoff = min(self.policy.backoff * 2.0 ** (tries - 1), _MAX_BACKOFF)
        jitter = random.uniform(0.5, 1.0)
        return backoff * jitter if failure.wait is None else failure.wait + 0.1 * backoff * jitter

    def _wait(self, seconds: float) -> None:
        if self._interceptor is not None and not self._interceptor.waits:
            return
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            self._closed.wait(min(left, SLICE))
            self._check(now=True)

    def _check(self, now: bool = False) -> None:
        """Raise Cancelled when nobody needs the answer any more; calls `cancelled` at most five times a second."""
        if self._closed.is_set():
            raise Cancelled
        at = clock.monotonic()
        if now or at - self._checked_at >= SLICE:
            self._checked_at = at
            if self.cancelled():
                raise Cancelled

    def _error(self, failure: Failure, first: Request, tries: int) -> ApiError:
        kind = AuthenticationFailed if failure.refused else ApiError
        request = f"{first} (redirected to {public_url(failure.request.full_url)})"
        if failure.request.full_url == first.full_url:
            request = str(first)
        wait = ""
        if failure.wait is not None and failure.wait > self.policy.max_wait:
            wait = f"; it asks to wait {failure.wait:,.0f} s"
        after = f" after {tries} tries" if tries > 1 else ""
        secrets = [*self._secrets, *secrets_of(first), *secrets_of(failure.request)]
        sentence = redact(f"{request} {failure.sentence}{wait}", secrets)
        return kind(self._named(f"{sentence}{after}."), failure.status)

    def _named(self, sentence: str) -> str:
        return f"{self.policy.name}: {sentence}" if self.policy.name else sentence


def _message(request: Request, server: Server) -> Message:
    """The request as it is sent."""
    headers = checked_headers(request.headers)
    body: bytes | FileBody | None = None
    if request.has_body:
        body = request.body if isinstance(request.body, FileBody) else body_bytes(request)
        if request.header("Content-Type") is None:
            headers["Content-Type"] = "application/json"
    return Message(request.method, request.full_url, server, with_defaults(headers), body)
