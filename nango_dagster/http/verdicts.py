"""The meaning of an answer: usable, to be asked for again, or an error, with the sentence for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from .rates import asked_wait, asks_to_wait, is_rate_limited
from .redaction import redact
from .request import Request, Response
from .transport import ERROR_BYTES

_EXCERPT: Final = 200  # characters of a body in an error
_RETRIED: Final = frozenset({408, 420, 425, 429, 430})  # 420 and 430 are Twitter's and Shopify's 429


@dataclass(frozen=True)
class Verdict:
    """The meaning of an answer, decided by a rule of the sync instead of by its status.

    `accept` hands out the answer; `retry` asks again, as after a 503; `refresh_credentials` asks once more with new
    credentials, and is AuthenticationFailed after that, as a 401; `fail` is an ApiError.
    """

    action: Literal["accept", "retry", "refresh_credentials", "fail"]
    sentence: str = ""
    """The end of the error's sentence, after the method and the URL; empty for "answered 200 OK: ..."."""
    wait: float | None = None
    """Seconds until the next try; None for the usual pause."""
    hint: str = ""
    """A sentence about the field that gives the answer another meaning."""


Judge = Callable[[Response], "Verdict | None"]
"""Looks at each final answer; None leaves its meaning to its status."""


@dataclass(frozen=True)
class Failure:
    """A try without a usable answer: the end of its sentence, and whether and when to try again."""

    request: Request
    sentence: str
    again: bool = False
    wait: float | None = None
    status: int | None = None
    refused: bool = False
    """Whether the server that was shown the credentials does not accept them."""


def is_success(request: Request, response: Response) -> bool:
    """Whether the status is 2xx, or 304 to a request that asked for changes only."""
    return 200 <= response.status < 300 or (response.status == 304 and request.header("If-None-Match") is not None)


def failure_by_status(request: Request, response: Response, sentence: str) -> Failure:
    """The meaning of any other status. A rate limit may also be told by a 403, as GitHub does, or by a Retry-After."""
    status = response.status
    limited = status in _RETRIED or (status == 403 and is_rate_limited(response.headers))
    limited |= 400 <= status < 500 and status != 401 and asks_to_wait(response.headers)
    wait = asked_wait(response.headers) if limited or status >= 500 else None
    again = limited or status >= 500
    return Failure(request, sentence, again, wait, status, refused=status == 401)


def failure_by_rule(request: Request, response: Response, verdict: Verdict, sentence: str) -> Failure:
    """The meaning that a rule of the sync gives to an answer."""
    return Failure(
        request,
        f"{verdict.sentence or sentence}{verdict.hint}",
        again=verdict.action == "retry",
        wait=verdict.wait,
        status=response.status,
        refused=verdict.action == "refresh_credentials",
    )


def answered(response: Response, excerpt: str) -> str:
    """The end of a sentence about an answer: its status and the beginning of its body."""
    joint = " with an HTML page: " if _is_html(response) else ": "
    return f"answered {phrase(response.status)}{joint + excerpt if excerpt else ''}"


def phrase(status: int) -> str:
    """A status with its name.

    >>> phrase(404), phrase(799)
    ('404 Not Found', '799')
    """
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def excerpt(response: Response, secrets: Iterable[str]) -> str:
    """The beginning of a body in quotes, without secrets; empty for an empty body."""
    secrets = list(secrets)
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
