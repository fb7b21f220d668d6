"""The requests of a script, through the engine's client: credentials, limits, retries, address rules and redaction.

The connection's credentials and the headers of its integration go to the origin of the base URL and to
`allowed_origins`, and nowhere else. A script may send a request to any other server with headers of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..config import Sync
from ..errors import ApiError, ConfigError
from ..fetch import Access, policy_of
from ..http import Client, Reach, Request, Response, Verdict, origin, query_pairs, secrets_of
from ..sources import SourceContext
from ..templates import render, render_text, render_url
from .calls import Call, ScriptAnswer
from .retry_rules import RetryRule


@dataclass(frozen=True)
class Api:
    """The API of a script: what each of its requests begins with. Texts may hold `${...}` placeholders."""

    base_url: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    paginate: Mapping[str, Any] = field(default_factory=dict)
    """The defaults of `paginate`, under Nango's names."""
    retry: RetryRule = field(default_factory=RetryRule)
    """When a request is sent again, besides the usual reasons."""
    sign: Callable[[Request, Mapping[str, Any]], Request] | None = field(default=None, repr=False)
    """Completes and signs a request, with the values of placeholders; None for the connection's credentials alone."""

    @classmethod
    def of(cls, sync: Sync) -> Api:
        """The API as the sync and its integration describe it."""
        return cls(sync.base_url, sync.headers, sync.query_params)


class SharedAccess:
    """A connection's access that several lists of a script use one after the other, and at the same time."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()

    def variables(self, fresh: bool) -> Mapping[str, Any]:
        """The values of placeholders."""
        with self._lock:
            return self._access.variables(fresh)

    def sign(self, request: Request) -> Request:
        """The request with the connection's credentials."""
        return self._access.sign(request)

    def secrets(self) -> tuple[str, ...]:
        """The values to star."""
        return self._access.secrets()

    def identity(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The account that an answer belongs to."""
        return self._access.identity()

    def hash_key(self) -> bytes | None:
        """The key of hashes that secrets go into."""
        return self._access.hash_key()

    def close(self) -> None:
        """Nothing: the script's next request needs the access, too."""


class ScriptClient:
    """Sends the requests of one execution; for one thread at a time."""

    def __init__(self, sync: Sync, context: SourceContext, api: Api, streamed_bytes: int | None = None) -> None:
        """With `streamed_bytes`, answers of at most so many bytes are handed out while they arrive."""
        self.api = api
        self._streamed_bytes = streamed_bytes
        self.access = None if context.access is None else SharedAccess(context.access)
        self._sync = sync
        self._context = context
        self._clients: dict[Reach, Client] = {}

    @property
    def requests(self) -> int:
        """Requests sent so far, retries and redirects included."""
        return sum(client.requests for client in self._clients.values())

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return sum(client.retries for client in self._clients.values())

    def send(self, call: Call, *, home: str | None = None) -> ScriptAnswer:
        """The answer with a status of 2xx.

        `home` is the origin of the first page, where the URL comes from an answer: then nothing secret goes to
        another server. Raises ApiError with the `answer` that the API gave, AuthenticationFailed, ConfigError or
        Cancelled.
        """
        responses: list[Response] = []

        rule = self.api.retry.with_call(call.retry_on, call.retry_header)

        def judge(response: Response) -> Verdict | None:
            responses.append(response)
            return rule.verdict(response)

        request = self.build(call)
        client = self._client(self._is_home(request.url))
        client.hide(*secrets_of(request))
        try:
            response = client.send(
                request,
                home=home or origin(request.url),
                rebuild=lambda refused: self.build(call, fresh=refused),
                judge=judge,
                retries=call.retries,
            )
        except ApiError as error:
            if responses and responses[-1].status == error.status:
                error.answer = ScriptAnswer.of(responses[-1])
            raise
        return ScriptAnswer.of(response)

    def build(self, call: Call, *, fresh: bool = False) -> Request:
        """The request as it is sent, with the values of placeholders and the credentials."""
        variables = self.variables(fresh)
        url = self._url(call, variables)
        if not self._is_home(url, variables):
            return call.request(url, {})
        headers = {name: render_text(value, variables) for name, value in self.api.headers.items()}
        params = query_pairs({name: render(value, variables) for name, value in self.api.query_params.items()})
        request = call.request(url, headers, params).with_userinfo_in_header()
        if self.api.sign is not None:
            return self.api.sign(request, variables)
        return request if self.access is None else self.access.sign(request)

    def variables(self, fresh: bool = False) -> Mapping[str, Any]:
        """The values of placeholders; the secret ones are starred from now on."""
        if self.access is None:
            return self._context.facts
        values = self.access.variables(fresh)
        for client in self._clients.values():
            client.hide(*self.access.secrets())
        return values

    def base_url(self, variables: Mapping[str, Any] | None = None) -> str | None:
        """The base URL with the values of its placeholders; None where there is none."""
        if self.api.base_url is None:
            return None
        return render_url(self.api.base_url, self.variables() if variables is None else variables)

    def redact(self, text: str) -> str:
        """The text without the connection's secrets."""
        return self._client(True).redact(text)

    def close(self) -> None:
        """Release the connections."""
        for client in self._clients.values():
            client.close()
        if self._context.access is not None:
            self._context.access.close()

    def for_list(self, call: Call) -> tuple[Client, SharedAccess | None]:
        """A client of its own for a list that is read ahead in another thread, and the access that it may use."""
        variables = self.variables()
        is_home = self._is_home(self._url(call, variables), variables)
        return self._made(self._reach(is_home)), self.access if is_home else None

    def _url(self, call: Call, variables: Mapping[str, Any]) -> str:
        if call.is_absolute:
            return call.path
        base = call.base_url or self.base_url(variables)
        if base is None:
            integration = self._sync.integration_key
            ways = f"give base_url to the sync, or to the integration {integration} in integrations.yaml"
            if self._sync.script_language == "typescript":
                ways = (
                    f"give base_url to the integration {integration} in integrations.yaml, or its provider there, and "
                    "run npm install in the project, so that node_modules/@nangohq/providers has the provider"
                )
            raise ConfigError(
                f"{self._sync.display_name}: the endpoint {call.endpoint[:100]!r} has no base URL; {ways}, or write "
                "the whole URL."
            )
        path, mark, query = call.path.partition("?")
        url = f"{base.rstrip('/')}/{path.lstrip('/')}" if path.strip("/") else base
        return f"{url}{mark}{query}"

    def _is_home(self, url: str, variables: Mapping[str, Any] | None = None) -> bool:
        """Whether the connection's credentials go to this URL."""
        base = self.base_url(variables)
        homes = {*map(origin, self._sync.allowed_origins), *([] if base is None else [origin(base)])}
        return origin(url) in homes

    def _reach(self, is_home: bool) -> Reach:
        """Which addresses a URL may reach: one that the script made may come from a stranger."""
        if is_home or self._context.services is None:
            return self._context.reach
        return self._context.services.reach

    def _client(self, is_home: bool) -> Client:
        reach = self._reach(is_home)
        if reach not in self._clients:
            self._clients[reach] = self._made(reach)
        return self._clients[reach]

    def _made(self, reach: Reach) -> Client:
        context = self._context
        policy = policy_of(self._sync, reach)
        if self._streamed_bytes is not None:
            setting = "limit of /proxy, NANGO_PROXY_MAX_MB"
            policy = replace(policy, streams=True, max_bytes=self._streamed_bytes, bytes_setting=setting)
        client = Client(policy, cancelled=context.is_stopped, limiter=context.limiter, interceptor=context.interceptor)
        if self.access is not None:
            client.hide(*self.access.secrets())
        return client
