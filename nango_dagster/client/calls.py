"""Send one call to the API, repeat it where that is safe, and raise its error as an exception."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ..errors import (
    ApiError,
    AuthenticationFailed,
    ConfigError,
    NangoError,
    Problem,
    Refused,
    StoreUnavailable,
    TryLater,
)
from ..http import Client, Params, Policy, Request, Response, Verdict, asked_wait, json_bytes

TRIES: Final = 3
LONGEST_WAIT: Final = 60.0  # seconds; a rate limit counts by the minute


class NotFound(NangoError):
    """The sync, connection, record or other object does not exist."""


class TooManyRequests(TryLater):
    """The API's rate limit is reached, also after the client has waited and tried again."""


@dataclass(frozen=True)
class Call:
    """A request to the API, and the part of its answer to return (all of it without `part`).

    A call with `once` is not sent again where it may have been carried out.
    """

    method: str
    path: str
    params: Params = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)
    once: bool = False
    kind: type[Any] = dict
    part: str | None = None


def answer(host: str, secret_key: str | None, call: Call) -> Any:
    """The decoded answer; None for an empty body. Raises a NangoError with the server's sentence."""
    key = {"Authorization": f"Bearer {secret_key}"} if secret_key else {}
    url = host.rstrip("/") + call.path
    request = Request(call.method, url, {**key, **call.headers}, call.params, _checked(call.body))
    response, again = _response(request, call.once)
    if response.status < 300:
        return _part(response, call) if response.content or call.part else None
    error = _error(response)
    if again and call.method == "DELETE" and isinstance(error, NotFound):
        return None  # the first request was carried out, and its answer was lost
    raise error


def _part(response: Response, call: Call) -> Any:
    """The part of the answer that the call names. Raises ApiError where the answer has another form."""
    document = _decoded(response)
    if isinstance(document, call.kind) and (call.part is None or call.part in document):
        return document if call.part is None else document[call.part]
    raise _no_api(response)


def _response(request: Request, once: bool) -> tuple[Response, bool]:
    """The response, after waiting for a rate limit, and whether an earlier response was lost."""
    policy = Policy(name="Nango", retries=0 if once else TRIES - 1, backoff=0.5)
    with Client(policy) as client:
        for tries in range(1, TRIES + 1):
            response = client.send(request, judge=lambda response: Verdict("accept"))  # errors are answers too
            wait = asked_wait(response.headers)
            if response.status != 429 or tries == TRIES or wait is None or wait > LONGEST_WAIT:
                break
            time.sleep(wait)
        return response, client.retries > 0


def _checked(body: Any) -> Any:
    """Return the body. Raises ConfigError where JSON cannot hold it."""
    try:
        json_bytes(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"what was given cannot be sent as JSON: {error}.") from None
    return body


_BY_CODE: Final[Mapping[str, type[NangoError]]] = dict.fromkeys(
    ("not_found", "unknown_connection", "unknown_provider_config", "unknown_sync", "no_syncs_found"), NotFound
)
_BY_STATUS: Final[Mapping[int, type[NangoError]]] = {
    400: ConfigError,
    401: AuthenticationFailed,
    403: AuthenticationFailed,
    404: NotFound,
    409: Refused,
    413: ConfigError,
    429: TooManyRequests,
    503: StoreUnavailable,
}


def _error(response: Response) -> NangoError:
    """The error with the server's sentence and code."""
    try:
        document = _decoded(response)["error"]
        sentence, code = str(document["message"]), document.get("code")
    except (ApiError, LookupError, TypeError, AttributeError):
        return ApiError(f"Nango: {response.url.partition('?')[0]} answered {response.status}.", response.status)
    kind = _BY_CODE.get(str(code)) or _BY_STATUS.get(response.status, ApiError)
    error = ConfigError(sentence, _problems(document)) if kind is ConfigError else kind(sentence)
    error.status, error.code = response.status, None if code is None else str(code)
    return error


def _problems(document: Mapping[str, Any]) -> tuple[Problem, ...]:
    """The problems in the server's error."""
    return tuple(
        Problem(str(item.get("message")), field=".".join(map(str, item.get("path") or ())) or None)
        for item in document.get("errors") or ()
        if isinstance(item, dict)
    )


def _decoded(response: Response) -> Any:
    """The answer's JSON."""
    try:
        return _parsed(response.content)
    except (ValueError, ArithmeticError, RecursionError):
        pass
    raise _no_api(response)


def _parsed(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # Records may hold half surrogate pairs and numbers of any length, which msgspec refuses.
        return json.loads(content.decode(), parse_int=_number)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INT else float(digits)


_LONGEST_INT: Final = 4000  # int() refuses texts of more than 4300 digits


def _no_api(response: Response) -> ApiError:
    where = response.url.partition("?")[0]
    return ApiError(f"Nango: {where} did not answer as a nango-dagster API does.", response.status)
