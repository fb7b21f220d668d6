"""One request of a sync is sent, and its answer gets its meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from ..config import Sync
from ..errors import ApiError, ConfigError
from ..http import Client, Request, Response, Verdict, origin, secrets_of
from .requests import digest, filled, first_request, next_request
from .responses import Meaning, Position, meaning_of

_LISTED_RULES: Final = 100


class Access(Protocol):
    """The credentials and variables of a connection; called from another thread than the Fetch's caller's."""

    def variables(self, fresh: bool) -> Mapping[str, Any]:
        """The values of the sync's `${...}`, before each request, and with `fresh=True` after a 401."""

    def sign(self, request: Request) -> Request:
        """A request, whose placeholders have been filled, with the credentials that the API expects."""

    def secrets(self) -> tuple[str, ...]:
        """The values to star wherever they occur."""

    def identity(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The values of placeholders and the secrets that stay the same when an access token is refreshed."""

    def hash_key(self) -> bytes | None:
        """The key of hashes that secrets go into; None where there is none."""

    def close(self) -> None:
        """End the waits of other threads."""


class Sender:
    """Sends the requests of one sync: with the connection's credentials, and the list's ETag.

    `rules` names each page at which a rule or a default other than "200 carries the list" decided.
    """

    def __init__(self, sync: Sync, client: Client, access: Access | None, etag: str | None) -> None:
        self.rules: list[str] = []
        self.sent: Request | None = None
        """The last request as it was sent, with the values of its placeholders."""
        self._sync = sync
        self._client = client
        self._access = access
        self._kept_etag = etag
        self._first: Request | None = None
        """The first request, with its placeholders."""
        self._home: str | None = None
        self._is_answered = False
        first = first_request(sync)
        client.hide(*secrets_of(first), *secrets_of(next_request(sync, first)))

    def send(self, request: Request, position: Position, *, with_etag: bool) -> tuple[Response, Meaning]:
        """The answer that can be used, and its meaning: `list`, `empty`, `end` or `skip`.

        `with_etag` asks for the list only if it has changed. Raises ApiError, AuthenticationFailed, ConfigError or
        Cancelled.
        """
        variables = self._variables()
        meanings: list[Meaning | None] = []

        def judge(response: Response) -> Verdict | None:
            self._is_answered = True
            meaning = meaning_of(self._sync, response, position)
            meanings.append(meaning)
            if meaning is not None and meaning.rule and len(self.rules) < _LISTED_RULES:
                self.rules.append(f"page {position.number}: {meaning.rule}")
            return None if meaning is None else meaning.verdict

        try:
            if with_etag:
                request = self._if_changed(request)
            ready = self._filled(request, variables)
            self._home = self._home or origin(filled(first_request(self._sync), variables).url)
        except ConfigError as error:
            sentence = self._client.redact(f"{self._sync.display_name}: {error}")
        else:
            self._is_answered = False
            rebuild = self._rebuild(request, position)
            response = self._client.send(ready, home=self._home, rebuild=rebuild, judge=judge)
            return response, meanings[-1] or Meaning("list")
        raise ConfigError(sentence)

    def etag_of(self, response: Response) -> str | None:
        """The list's ETag with what was asked: the `etag` of the next Fetch, whatever that asks."""
        if response.status == 304:
            return self._kept_etag
        etag = response.headers.get("ETag")
        if not etag or self._first is None:
            return None
        belongs_to = self._digest(self._first)
        return f"{belongs_to} {etag}" if belongs_to else None

    def _rebuild(self, request: Request, position: Position) -> Callable[[bool], Request]:
        """Makes the request for another try.

        A cursor that stands for all pages moves with every answer, also with one that was lost on its way: asking again
        would skip a page.
        """

        def rebuild(refused: bool) -> Request:
            if self._sync.paging_cursor_repeats and position.number > 1 and not self._is_answered:
                sentence = (
                    f"{self._sync.display_name}: {request}: the answer was lost on its way, and with "
                    "paging_cursor_repeats no page can be asked for again; the next execution reads the list anew."
                )
                raise ApiError(self._client.redact(sentence, request))
            self._is_answered = False
            return self._filled(request, self._variables(fresh=refused))

        return rebuild

    def _if_changed(self, request: Request) -> Request:
        """The first request, with the kept ETag if that was the answer to an equal one."""
        self._first = request
        kept, _, etag = (self._kept_etag or "").partition(" ")
        if etag and kept == self._digest(self._first):
            return replace(request, headers={**request.headers, "If-None-Match": etag})
        return request

    def _digest(self, request: Request) -> str | None:
        """A hash of what an ETag belongs to: the request and the account, which outlives a refreshed token."""
        if self._access is None:
            return digest(self._sync, filled(request, {}), (), lambda: None)
        variables, secrets = self._access.identity()
        return digest(self._sync, filled(request, variables), secrets, self._access.hash_key)

    def _variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """The present values of the sync's placeholders; the secret ones are starred in all errors."""
        if self._access is None:
            return {}
        variables = self._access.variables(fresh)
        self._client.hide(*self._access.secrets())
        return variables

    def _filled(self, request: Request, variables: Mapping[str, Any]) -> Request:
        """The request with values and credentials; `Client.send` removes them for other servers."""
        ready = filled(request, variables)
        self.sent = ready if self._access is None else self._access.sign(ready)
        return self.sent
