"""The providers of Nango: base URL, headers and paging of an API, from the project's own `node_modules`.

`npm install` of a Nango project brings `@nangohq/providers/providers.yaml`. Reading it takes a tenth of a second, so
only `manifest.refresh` reads it, and the manifest keeps what the project's integrations need.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FILE: Final = Path("node_modules") / "@nangohq" / "providers" / "providers.yaml"
_ENTRY: Final = re.compile(r"^(['\"]?)([^\s#'\":]+)\1:.*\n(?:(?:[ \t#].*)?\n)*", re.MULTILINE)
_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_NAMES: Final = {"accessToken": "access_token", "apiKey": "credentials.apiKey"}
_NAMES_OF_CREDENTIALS: Final = ("username", "password", "clientId", "clientSecret")


@dataclass(frozen=True)
class Source:
    """The file of providers that a project uses."""

    path: Path

    @classmethod
    def of(cls, root: Path) -> Source | None:
        """The file in the project or above it; None where `npm install` brought none."""
        paths = (folder / FILE for folder in (root, *root.parents))
        return next((cls(path) for path in paths if path.is_file()), None)

    @property
    def stamp(self) -> str:
        """Changes when the file does."""
        state = self.path.stat()
        return f"{self.path} {state.st_mtime_ns} {state.st_size}"

    def settings(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The settings of those of the providers that the file has."""
        chosen = tuple(names)
        try:
            documents = _documents(self.path.read_bytes().decode(), chosen)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return {name: _settings(documents, name) for name in chosen if name in documents}


def _documents(text: str, names: Iterable[str]) -> dict[str, Any]:
    """The entries of providers, and of those that they are an alias of.

    Only their lines are parsed: all 1,000 entries of the file take half a second. A file whose entries refer to each
    other by anchors is parsed whole.
    """
    entries = {match[2]: match[0] for match in _ENTRY.finditer(text if text.endswith("\n") else f"{text}\n")}
    try:
        documents = _parsed("".join(entries.get(name, "") for name in names))
        aliases = {own["alias"] for own in documents.values() if own.get("alias")} - set(documents)
        return {**documents, **_parsed("".join(entries.get(name, "") for name in aliases))}
    except yaml.YAMLError:
        return _parsed(text)


def _parsed(text: str) -> dict[str, Any]:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _settings(documents: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of a provider, with placeholders as configs have them.

    `base_urls` are alternatives: the first one is used whose placeholders have values. `computed` has the headers and
    parameters whose values differ from request to request, as they are written; see `signing`.
    """
    own = documents[name]
    provider = {**documents.get(own["alias"], {}), **own} if own.get("alias") else own
    proxy = provider.get("proxy") or {}
    base = proxy.get("base_url")
    alternatives = base if isinstance(base, list) else str(base or "").split("||")
    urls = [converted(str(url).strip()) for url in alternatives if str(url).strip()]
    parts = {"headers": _texts(proxy.get("headers")), "query_params": _texts(proxy.get("query"))}
    plain = {part: {name: converted(text) for name, text in texts.items()} for part, texts in parts.items()}
    return {
        "auth_mode": provider.get("auth_mode"),
        "base_urls": [url for url in urls if url is not None],
        **{part: {name: text for name, text in texts.items() if text is not None} for part, texts in plain.items()},
        "computed": {
            part: {name: text for name, text in texts.items() if plain[part][name] is None}
            for part, texts in parts.items()
        },
        "body": proxy.get("body") or {},
        "paginate": proxy.get("paginate") or {},
        "retry": proxy.get("retry") or {},
    }


def _texts(texts: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in texts.items()} if isinstance(texts, Mapping) else {}


def converted(text: str) -> str | None:
    """A template of a provider with the placeholders of configs; None where its value has to be computed.

    >>> converted("https://${connectionConfig.subdomain}.example.com"), converted("Bearer ${apiKey}")
    ('https://${connection_config.subdomain}.example.com', 'Bearer ${credentials.apiKey}')
    """
    if ("(" in text and "${" in text) or "||" in text:
        return None
    names = [value_name(name.strip()) for name in _PLACEHOLDER.findall(text)]
    if None in names:
        return None
    following = iter(names)
    return _PLACEHOLDER.sub(lambda _: f"${{{next(following)}}}", text)


def value_name(name: str) -> str | None:
    """The name that configs have for a value of a template; None for a value that only Nango has."""
    if name in _NAMES:
        return _NAMES[name]
    if name in _NAMES_OF_CREDENTIALS:
        return f"credentials.{name}"
    first, dot, rest = name.partition(".")
    if first == "connectionConfig" and dot:
        return f"connection_config.{rest}"
    return name if first in ("credentials", "metadata") and dot else None
