"""`${...}` placeholders: the values of a sync's variables, put where its config names them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from nango_dagster.config import PLACEHOLDER, placeholders
from nango_dagster.errors import ConfigError, Problem
from nango_dagster.paths import MISSING, dig

# All characters that a browser or a library may take for the end of the host.
_UP_TO_PATH: Final = re.compile(r"(?:[^/?#\\]*//)?[^/?#\\]*")


def render(value: Any, variables: Mapping[str, Any]) -> Any:
    """A value with the placeholders in all its texts replaced.

    A text that is nothing but one placeholder becomes the variable's value, of whatever type;
    `$${` is a plain `${`.

    >>> render({"since": "${since}", "q": "id > ${last.id}, $${x}"}, {"since": 5, "last": {"id": 7}})
    {'since': 5, 'q': 'id > 7, ${x}'}
    """
    if isinstance(value, str):
        whole = PLACEHOLDER.fullmatch(value)
        if whole and whole["name"] is not None:
            return _variable(whole["name"], variables)
        return render_text(value, variables)
    if isinstance(value, Mapping):
        return {key: render(item, variables) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, variables) for item in value]
    return value


def render_text(text: str, variables: Mapping[str, Any]) -> str:
    """A text with its placeholders replaced by the variables' texts, as headers need them.

    >>> render_text("Bearer ${env.TOKEN}", {"env.TOKEN": "t1"})
    'Bearer t1'
    """
    return _replace(text, variables, lambda value, before: value)


def render_url(url: str, variables: Mapping[str, Any]) -> str:
    """A URL with its placeholders replaced; values are encoded, so that each stays in its part of the path or query.

    The value of a placeholder that begins the URL is a base URL and is not encoded. Raises ConfigError where values
    make a segment `.` or `..` of the path, which encoding cannot prevent.

    >>> render_url("${env.API}/users/${user}", {"env.API": "http://localhost:80/v1", "user": "a/b"})
    'http://localhost:80/v1/users/a%2Fb'
    """
    filled = _replace(url, variables, _quoted)
    if _steps(filled) > _steps(PLACEHOLDER.sub("x", url)):
        named = ", ".join(f"${{{name}}}" for name in placeholders(url))
        raise ConfigError(
            f"the values of {named} make . or .. a part of the URL's path, which leads to another address."
        )
    return filled


def _steps(url: str) -> int:
    """How many segments of a URL's path are `.` or `..`."""
    return sum(part in (".", "..") for part in re.split(r"[?#]", url, maxsplit=1)[0].split("/"))


def host_variables(url: str) -> list[str]:
    """The variables that a URL's host depends on, its user and its port included.

    >>> host_variables("https://${metadata.region}.example.com:${env.PORT}/users/${connection_id}?v=${variant}")
    ['metadata.region', 'env.PORT']
    >>> host_variables("${env.API}/users"), host_variables("https://api.example.com${metadata.path}")
    (['env.API'], ['metadata.path'])
    """
    return [name for part in _UP_TO_PATH.findall(url)[:1] for name in placeholders(part)]


def env_variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that `${env.NAME}` reads, from the settings' `env`.

    >>> env_variables({"TOKEN": "t1"})
    {'env.TOKEN': 't1'}
    """
    return {f"env.{name}": value for name, value in env.items()}


def _replace(text: str, variables: Mapping[str, Any], place: Callable[[str, str], str]) -> str:
    """The text with each placeholder replaced; `place` fits a value to the text before it."""
    return PLACEHOLDER.sub(
        lambda match: (
            "${" if match["name"] is None else place(_text(_variable(match["name"], variables)), text[: match.start()])
        ),
        text,
    )


def _quoted(value: str, before: str) -> str:
    if not before:
        return value
    in_host = "://" in before and "/" not in before.partition("://")[2]
    return quote(value, safe=":[]" if in_host else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _variable(name: str, variables: Mapping[str, Any]) -> Any:
    try:
        value = dig(variables, name)
    except ConfigError:  # no path, so no name either
        value = MISSING
    if value is MISSING or value is None:
        raise _unknown(name, variables)
    return value


def _unknown(name: str, variables: Mapping[str, Any]) -> ConfigError:
    """An error that names the known variables, the most similar ones first, and no values.

    For a name that begins with `env.` it lists only other variables of the environment.
    """
    is_setting = name.startswith("env.")
    known = sorted(known for known in _names(variables) if not is_setting or known.startswith("env."))
    near = difflib.get_close_matches(name, known, n=10, cutoff=0.6)
    listed = list(dict.fromkeys([*near, *known]))[:10]
    has = f"there are {', '.join(listed)}" if listed else "" if is_setting else "there are none"
    setting = f"set NANGO_ENV_{name[4:]}" if is_setting else ""
    sentence = f"${{{name}}} has no value; {'; '.join(filter(None, [setting, has]))}."
    return ConfigError.of(Problem(sentence, field=name, wanted=f"one of {', '.join(listed)}"))


def _names(variables: Mapping[str, Any], before: str = "") -> Iterable[str]:
    for name, value in variables.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}"
