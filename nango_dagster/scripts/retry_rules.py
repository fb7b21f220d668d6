"""When an API wants a request again, beyond what its status says: the rules of a provider and of a call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from ..errors import ConfigError
from ..http import Response, Verdict, asked_wait, wait_of
from ..paths import MISSING, dig

_USUAL: Final = ("429", "5xx")
_ANY_OF: Final = re.compile("[1-5]xx")


@dataclass(frozen=True)
class RetryRule:
    """The statuses that are retried, and where an answer tells how long to wait.

    >>> rule = RetryRule.of({"at": ["x-reset"], "remaining": "x-left", "error_code": ["403", "5xx"]})
    >>> rule.verdict(Response(403, {"x-left": "3"}, b"", "")) is None
    True
    >>> rule.verdict(Response(403, {"x-left": "0", "x-reset": "1000000000"}, b"", "")).wait
    0.0
    """

    after: tuple[str, ...] = ()
    """Headers with the seconds to wait."""
    at: tuple[str, ...] = ()
    """Headers with the time from which requests are accepted again."""
    remaining: str | None = None
    """The header with the number of requests that are left; other statuses than 429 and 5xx are retried if it is 0."""
    statuses: tuple[str, ...] = _USUAL
    """Statuses that are retried, such as `403` or `5xx`."""
    always: tuple[int, ...] = ()
    """Statuses that are retried whatever the headers say."""
    in_body: Mapping[str, Any] = field(default_factory=dict)
    """`path` of a text in the body, and `value`: an expression whose first group is the wait or the time."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> RetryRule:
        """The rule of a provider, in Nango's notation."""
        return cls(
            _names(settings.get("after")),
            _names(settings.get("at")),
            settings.get("remaining"),
            tuple(map(str, settings.get("error_code") or _USUAL)),
            in_body=settings.get("in_body") or {},
        )

    def with_call(self, statuses: Sequence[int], headers: Mapping[str, Any]) -> RetryRule:
        """This rule with the statuses and headers that a call names besides."""
        if not (statuses or headers):
            return self
        own = RetryRule(_names(headers.get("after")), _names(headers.get("at")))
        return replace(self, after=own.after or self.after, at=own.at or self.at, always=tuple(statuses))

    def verdict(self, response: Response) -> Verdict | None:
        """A retry with its wait; None where the status alone decides."""
        status = response.status
        if status in self.always:
            return Verdict("retry", wait=self._wait(response) or asked_wait(response.headers))
        if status < 400 or not any(_matches(pattern, status) for pattern in self.statuses):
            return None
        wait = self._wait(response)
        is_usual = any(_matches(pattern, status) for pattern in _USUAL)
        if self.remaining is not None and not is_usual and response.headers.get(self.remaining, "").strip() != "0":
            return None
        if (is_usual and wait is None) or (status == 401 and self.remaining is None):
            return None  # its status says the same, and a refused token is refreshed
        return Verdict("retry", wait=wait)

    def _wait(self, response: Response) -> float | None:
        """The seconds that the answer asks to wait, the longest of those that it names."""
        texts = [response.headers[name] for name in self.after if name in response.headers]
        moments = [response.headers[name] for name in self.at if name in response.headers]
        texts += [text for text in moments if not _is_small_number(text)]
        if self.in_body and (found := re.search(_expression(self.in_body.get("value")), self._text(response))):
            texts.append(found[1] if found.groups() else found[0])
        waits = [wait for wait in map(wait_of, texts) if wait is not None]
        return max(waits, default=None)

    def _text(self, response: Response) -> str:
        try:
            value = dig(msgspec.json.decode(response.content), str(self.in_body.get("path")))
        except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError):
            return ""
        return "" if value is MISSING else str(value)


def _names(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(map(str, names or ()))


def _matches(pattern: str, status: int) -> bool:
    return pattern == str(status) or (_ANY_OF.fullmatch(pattern) is not None and pattern[0] == str(status)[0])


def _is_small_number(text: str) -> bool:
    """Whether a text is a number of requests or seconds, which is no time."""
    try:
        return float(text) < 1e9
    except ValueError:
        return False


def _expression(written: Any) -> str:
    """A regular expression as it stands between slashes in JavaScript."""
    text = str(written or "")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "/" else text
