"""The addresses that a URL from the HTTP API may lead to."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...config import Sync
from ...errors import ConfigError, Problem
from ...http import Reach
from ...http.addresses import is_loopback, refuse


def check_addresses(sync: Sync, reach: Reach) -> None:
    """Raise ConfigError for a URL whose very text is an address that may not be reached.

    What a name leads to is checked when it is connected to; it may be something else by then.
    """
    _check(_urls(sync), reach)


def check_credential_urls(credentials: Mapping[str, Any], reach: Reach) -> None:
    """Raise ConfigError for the URL of a token endpoint or server that may not be reached."""
    names = [name for name in ("token_url", "host") if isinstance(credentials.get(name), str)]
    _check(((f"credentials.{name}", credentials[name]) for name in names), reach)


def check_webhook_url(url: str, reach: Reach) -> None:
    """Raise ConfigError for a connection's own URL for webhooks, when it may not be reached."""
    _check([("webhook_url_override", url)], reach)


def _check(urls: Iterable[tuple[str, str]], reach: Reach) -> None:
    problems = [problem for field, url in urls for problem in _problems(field, url, reach)]
    if problems:
        raise ConfigError.of(*problems)


def _urls(sync: Sync) -> Iterator[tuple[str, str]]:
    yield "url", sync.url
    for origin in sync.allowed_origins:
        yield "allowed_origins", origin


def _problems(field: str, url: str, reach: Reach) -> Iterator[Problem]:
    address = _address(url)
    if address is None:
        return
    try:
        refuse(address, address, reach)
    except ConfigError as refused:
        yield Problem(f"{field}: {refused}", field=field)
    except ValueError:
        return  # brackets around something else; nobody can connect to it


def _address(url: str) -> str | None:
    """The address that a URL's host is; None where it is a name.

    >>> [_address(url) for url in ("https://api.example.com", "http://[::1]:80/", "http://me@127.1/", "http://0x7f.1")]
    [None, '::1', '127.0.0.1', '127.0.0.1']
    """
    host = re.split(r"[/?#\\]", url.partition("//")[2], maxsplit=1)[0].rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0].partition("%")[0]
    name = host.partition(":")[0].rstrip(".")
    if is_loopback(name):
        return "127.0.0.1"
    try:
        # As the resolver reads it: `127.1`, `2130706433` and `0x7f.1` are addresses too.
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return None
