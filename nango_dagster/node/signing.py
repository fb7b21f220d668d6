"""The headers, parameters and body that a provider computes for each request, and the connection's credentials in it.

A template of a provider is a text with `${NAME}` and `${FUNCTION(TEXT)}`, which may stand in each other. `||` separates
alternatives: the first one is used whose names all have values.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from .. import clock
from ..auth import signed
from ..errors import ConfigError
from ..http import Request, secrets_of
from ..paths import MISSING, dig
from .aws_signature import AwsKey, authorization
from .providers import value_name

_WITHOUT_CREDENTIALS: Final = (None, "NONE")
_CALL: Final = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
_NOW: Final = re.compile(r"now(?:\+(\d+):(seconds|minutes|hours|days))?(?::(.*))?", re.DOTALL)
_TOKENS: Final = re.compile(r"\[([^\]]*)\]|YYYY|MMM|MM|DD|ddd|HH|mm|ss|SSS|ZZ|X")
_WITH_BODY: Final = ("POST", "PUT", "PATCH")


@dataclass(frozen=True)
class Signer:
    """Completes the requests of a script as its provider describes them."""

    sync_name: str
    provider: Mapping[str, Any] = field(repr=False)
    """The settings that `providers.Source` gives."""
    places_key: bool = False
    """Whether plain headers or parameters hold the connection's credentials."""

    def __call__(self, request: Request, variables: Mapping[str, Any]) -> Request:
        """The request with all that the provider adds. `variables` are the values of placeholders.

        Raises ConfigError where a connection has credentials and the request would be sent without any.
        """
        held = variables.get("credentials") or {}
        values = Values(request, variables)
        computed = self.provider.get("computed") or {}
        headers = dict(values.texts(computed.get("headers") or {}))
        own = {name.lower() for name in request.headers}
        headers = {name: text for name, text in headers.items() if name.lower() not in own}
        params = tuple(values.texts(computed.get("query_params") or {}))
        completed = replace(
            request,
            headers={**request.headers, **headers},
            params=(*request.params, *params),
            body=_with_fields(request, values, self.provider.get("body") or {}),
        )
        if not held:
            return completed
        is_key = "API_KEY" in (held.get("type"), self.provider.get("auth_mode"))
        is_placed = self.places_key or values.has_credential
        if is_key and is_placed and not (held.get("header") or held.get("query")):
            return completed
        result = signed(completed, held)
        if result is completed and not (is_placed or any(secrets_of(completed))):
            self._refuse_without_credentials(held)
        return result

    def _refuse_without_credentials(self, held: Mapping[str, Any]) -> None:
        mode = self.provider.get("auth_mode")
        if mode in _WITHOUT_CREDENTIALS:
            return
        fields = ", ".join(sorted(name for name in held if name != "type"))
        raise ConfigError(
            f"{self.sync_name}: the provider authenticates with {mode}, and the connection's credentials have no type "
            f"that signs requests; they have {fields}. Give them a type, such as "
            '{"type": "BEARER", "token": "..."}, or place them in headers of integrations.yaml.'
        )


class _NoValue(Exception):
    """A name of a template has no value."""


class Values:
    """The values of a provider's templates for one request; the time and `random` are the same in all of them."""

    def __init__(self, request: Request, variables: Mapping[str, Any]) -> None:
        self.has_credential = False
        """Whether a text so far has held a credential."""
        self._request = request
        self._variables = variables
        self._moment = clock.now().astimezone(timezone.utc)
        parts = urlsplit(request.full_url)
        self._of_request = {
            "method": request.method.upper(),
            "host": parts.netloc.lower(),
            "path": parts.path,
            "endpoint": parts.path,
            "params": "&".join(sorted(parts.query.split("&"))),
            "random": secrets.token_hex(16),
        }

    def texts(self, templates: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The texts by name; a template without its values is left out. Raises ConfigError."""
        for name, template in templates.items():
            text = self.text(template)
            if text is not None:
                yield name, text

    def text(self, template: str) -> str | None:
        """The text of a template; None where its names have no values.

        Raises ConfigError for a name or function that is not known here.

        >>> values = Values(Request("GET", "https://a.example/x"), {"credentials": {"apiKey": "k"}})
        >>> values.text("Basic ${base64(${apiKey}:)}"), values.text("${connectionConfig.version} || 2025-05-05")
        ('Basic azo=', '2025-05-05')
        """
        for alternative in _parts(template, "||"):
            try:
                return self._filled(alternative.strip())
            except _NoValue:
                continue
        return None

    def _filled(self, text: str) -> str:
        pieces, at = [], 0
        while (start := text.find("${", at)) >= 0:
            end = _end(text, start + 2)
            pieces += [text[at:start], self._value(text[start + 2 : end])]
            at = end + 1
        return "".join([*pieces, text[at:]])

    def _value(self, expression: str) -> str:
        if call := _CALL.fullmatch(expression):
            return self._result(call[1], [self._filled(part.strip()) for part in _parts(call[2], ",")])
        if (now := _NOW.fullmatch(expression)) and not expression.startswith("now."):
            shift = timedelta(**{now[2]: int(now[1])}) if now[1] else timedelta(0)
            return _formatted(self._moment + shift, now[3] or "X")
        name = expression.strip()
        if name in self._of_request:
            return self._of_request[name]
        place = value_name(name)
        if place is None:
            raise ConfigError(f"the provider uses the value {name}, which is not known here.")
        value = self._variables.get(place, MISSING)
        value = dig(self._variables, place) if value is MISSING else value
        if value in (MISSING, None, ""):
            raise _NoValue
        self.has_credential |= place.startswith(("credentials.", "access_token"))
        return str(value)

    def _result(self, name: str, texts: list[str]) -> str:
        if name == "awsSigV4":
            return authorization(self._request, AwsKey(*texts[:4]), self._moment, *texts[4:])
        if name not in _FUNCTIONS:
            raise ConfigError(
                f"the provider computes a value with {name}(), which is not done here; set the header in "
                "integrations.yaml, or send the request with headers of the script."
            )
        return _FUNCTIONS[name](*texts)


def _with_fields(request: Request, values: Values, fields: Mapping[str, Any]) -> Any:
    """The body of a request with the provider's fields, where it is a JSON object or there is none."""
    body = request.body
    if not fields or request.method.upper() not in _WITH_BODY:
        return body
    if isinstance(body, bytes):
        try:
            decoded = msgspec.json.decode(body)
        except msgspec.MsgspecError:
            return body
        if not isinstance(decoded, dict):
            return body
        body = decoded
    if body is not None and not isinstance(body, Mapping):
        return body
    return {**_filled_in(values, fields), **(body or {})}


def _filled_in(values: Values, fields: Mapping[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, value in fields.items():
        item = _filled_in(values, value) if isinstance(value, Mapping) else values.text(str(value))
        if item is not None:
            filled[name] = item
    return filled


# --- the grammar ------------------------------------------------------------------------------------------------------


def _end(text: str, at: int) -> int:
    """The position of the brace that closes the one before `at`. Raises ConfigError where there is none."""
    depth = 1
    for position in range(at, len(text)):
        if text.startswith("${", position):
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return position
    raise ConfigError("a template of the provider has a ${ without its }.")


def _parts(text: str, separator: str) -> Iterator[str]:
    """The parts of a text between separators that are outside of all braces.

    >>> list(_parts("a ${f(x, y)}, b", ","))
    ['a ${f(x, y)}', ' b']
    """
    start = depth = 0
    for position in range(len(text)):
        depth += text.startswith("${", position) - (text[position] == "}" and depth > 0)
        if depth == 0 and position >= start and text.startswith(separator, position):
            yield text[start:position]
            start = position + len(separator)
    yield text[start:]


def _formatted(moment: datetime, form: str) -> str:
    """A moment in the notation of moment.js.

    >>> _formatted(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "YYYYMMDDTHHmmss[Z]")
    '20260102T030405Z'
    """
    english = format_datetime(moment)  # such as `Fri, 02 Jan 2026 03:04:05 +0000`, whatever the locale
    texts = {
        **{"YYYY": f"{moment:%Y}", "MM": f"{moment:%m}", "DD": f"{moment:%d}", "HH": f"{moment:%H}"},
        **{"mm": f"{moment:%M}", "ss": f"{moment:%S}", "SSS": f"{moment.microsecond // 1000:03}"},
        **{"ddd": english[:3], "MMM": english[8:11], "ZZ": "+0000", "X": str(int(moment.timestamp()))},
    }
    return _TOKENS.sub(lambda token: texts[token[0]] if token[1] is None else token[1], form)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


_FUNCTIONS: Final[Mapping[str, Callable[..., str]]] = {
    "base64": lambda *texts: b64encode(",".join(texts).encode()).decode(),
    "sha256Hex": lambda text: _digest(text).hex(),
    "sha256Base64": lambda text: b64encode(_digest(text)).decode(),
    "hmacSha1Hex": lambda text, key: hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest(),
}
